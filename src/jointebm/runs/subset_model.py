"""A recipe's model of any subset: rows without the noise of the lowest level, a base fitted to them, and its log Z."""

from dataclasses import replace

import torch

from jointebm.data import Dataset
from jointebm.energies.any_subset import AnySubsetEnergy
from jointebm.inference.model import Model
from jointebm.inference.noise_path import noise_path_normalizer
from jointebm.inference.reports import NormalizerRecord
from jointebm.randomness.draws import normal
from jointebm.recipes import Recipe

__all__ = ["fit_base_of", "noise_free", "path_normalised"]

BASE_SEED = 2  # of the rows that the base is fitted to
BASE_ROWS = 10_000  # drawn where rows are not stored
PATHS = (100, 2_000)  # for log Z, from either end: at least, at most
MAX_PATH_REALS = 20_000  # of all paths together, beyond the least number


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
            f"recipe {recipe.name!r}: energy.min_noise is {min_noise:g}, but rows of data {dataset.name!r} have normal "
            f"noise of standard deviation {stored.noise_sd:g}; set min_noise={stored.noise_sd:g}, so that F is the density "
            "of these rows"
        )
    return replace(stored, noise_sd=0.0)


def fit_base_of(energy: AnySubsetEnergy, dataset: Dataset) -> None:
    """Fits the normal base and the class frequencies of an energy to training rows, in place."""
    generator = torch.Generator().manual_seed(BASE_SEED)
    stored = dataset.stored
    drawn = stored.all_rows(generator=generator) if stored else dataset.batch(BASE_ROWS, generator=generator)
    energy.fit_base(drawn)


def path_normalised(model: Model, dataset: Dataset, *, seed: int) -> Model:
    """The trained model with log Z of F, by paths over its noise levels from both ends.

    Args:
        model: the model with averaged parameters.
        dataset: the data without the noise of the lowest level; paths go back from its rows.
        seed: of all draws.
    """
    energy = model.energy
    assert isinstance(energy, AnySubsetEnergy)
    generator = torch.Generator().manual_seed(seed)
    num = min(PATHS[1], max(PATHS[0], MAX_PATH_REALS // len(energy.mean)))
    rows = {name: value.nan_to_num() for name, value in dataset.batch(num, generator=generator).items()}
    noisy = {name: rows[name] + energy.min_noise * normal(rows[name], generator) for name in model.space.continuous}
    found = noise_path_normalizer(energy, {**rows, **noisy}, num_levels=energy.num_levels, generator=generator)
    record = NormalizerRecord(
        value=found.value,
        standard_error=found.standard_error if found.ess > 1 + 1e-9 else None,
        upper=found.upper,
        ess=found.ess,
        method=found.method,
    )
    config = model.config.model_copy(update={"log_normalizer": record})
    return Model(config, energy=energy, noise=model.noise).eval()
