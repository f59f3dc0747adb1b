"""A recipe's model of any subset: rows without the noise of the lowest level, and a base fitted to them."""

from dataclasses import replace

import torch

from jointebm.data import Dataset
from jointebm.energies.any_subset import AnySubsetEnergy
from jointebm.recipes import Recipe

__all__ = ["fit_base_of", "noise_free"]

BASE_SEED = 2  # of the rows that the base is fitted to
BASE_ROWS = 10_000  # drawn where rows are not stored


def noise_free(dataset: Dataset, recipe: Recipe) -> Dataset:
    """The data as `Denoising` takes them: without the normal noise that its lowest level adds.

    Raises:
        ValueError: the data have normal noise of another standard deviation than that level.
    """
    min_noise = recipe.energy.min_noise if recipe.energy.kind == "any-subset" else None
    stored = dataset.stored
    if min_noise is None or stored is None or not stored.noise_sd:
        return dataset
    if stored.noise_sd != min_noise:
        raise ValueError(
            f"recipe {recipe.name!r}: energy.min_noise is {min_noise:g}, but rows of data {dataset.name!r} have normal noise "
            f"of standard deviation {stored.noise_sd:g}; set min_noise={stored.noise_sd:g}, so that F is the density of these "
            "rows"
        )
    return replace(stored, noise_sd=0.0)


def fit_base_of(energy: AnySubsetEnergy, dataset: Dataset) -> None:
    """Fits the normal base and the class frequencies of an energy to training rows, in place."""
    generator = torch.Generator().manual_seed(BASE_SEED)
    stored = dataset.stored
    drawn = stored.all_rows(generator=generator) if stored else dataset.batch(BASE_ROWS, generator=generator)
    energy.fit_base(drawn)
