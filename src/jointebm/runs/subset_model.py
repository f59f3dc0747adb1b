"""A recipe's model of any subset: rows without the noise of the lowest level, a base fitted to them, and its log Z."""

import torch

from jointebm.data import Dataset
from jointebm.energies import AnySubsetSpec, CaptionSpec, PictureSpec
from jointebm.energies.level_energy import LevelEnergy
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
    """The data without the normal noise that the energy itself adds: that of its lowest level, or of its pictures.

    Raises:
        ValueError: the data have normal noise of another standard deviation.
    """
    energy = recipe.energy
    if not isinstance(energy, AnySubsetSpec | CaptionSpec | PictureSpec) or not dataset.noise_sd:
        return dataset
    if isinstance(energy, PictureSpec):
        field, noise_sd = "noise_sd", energy.noise_sd
    else:
        field, noise_sd = "min_noise", energy.min_noise
    if dataset.noise_sd != noise_sd:
        raise ValueError(
            f"recipe {recipe.name!r}: energy.{field} is {noise_sd:g}, but rows of data {dataset.name!r} have normal "
            f"noise of standard deviation {dataset.noise_sd:g}; set {field}={dataset.noise_sd:g}, so that F is the density "
            "of these rows"
        )
    return dataset.without_noise()


def fit_base_of(energy: LevelEnergy, dataset: Dataset) -> None:
    """Fits the normal base and the class frequencies of an energy to training rows, in place."""
    generator = torch.Generator().manual_seed(BASE_SEED)
    stored = dataset.stored
    drawn = stored.all_rows(generator=generator) if stored else dataset.batch(BASE_ROWS, generator=generator)
    energy.fit_base({name: value.to(energy.mean.device) for name, value in drawn.items()})


def path_normalised(model: Model, dataset: Dataset, *, seed: int) -> Model:
    """The trained model with log Z of F, by paths over its noise levels from both ends.

    Args:
        model: the model with averaged parameters.
        dataset: the data without the noise of the lowest level; paths go back from its rows.
        seed: of all draws.
    """
    energy = model.energy
    assert isinstance(energy, LevelEnergy)
    generator = torch.Generator().manual_seed(seed)
    num = min(PATHS[1], max(PATHS[0], MAX_PATH_REALS // len(energy.mean)))
    drawn = dataset.batch(num, generator=generator)
    rows = {name: value.to(model.device).nan_to_num() for name, value in drawn.items()}
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
