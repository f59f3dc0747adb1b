"""The two ends of a run with a reference: the reference is fitted before training, and log Z is estimated after it."""

import copy

import torch
from torch import nn

from jointebm.data import Dataset
from jointebm.energies import ReferencedSpec
from jointebm.energies.referenced import Referenced, start_at_zero
from jointebm.inference.fit_report import FitSummary, with_report
from jointebm.inference.fit_scores import log_likelihood, normalizer_of
from jointebm.inference.model import Model
from jointebm.training.trainer import Trainer

__all__ = ["normalised", "with_fitted_reference"]

REFERENCE_ROWS = 10_000  # training rows that a reference is fitted to, drawn with replacement
REPORT_ROWS = 2_000  # of the training data and of the test data


def with_fitted_reference(energy: nn.Module, spec: ReferencedSpec, dataset: Dataset, *, seed: int) -> Referenced:
    """The energy with a reference fitted to `REFERENCE_ROWS` training rows.

    Args:
        energy: a `Referenced` whose reference is not fitted; its residual is kept.
        spec: its description.
        dataset: draws the rows; entries may be missing.
        seed: of the rows and of the fit.
    """
    assert isinstance(energy, Referenced)
    generator = torch.Generator().manual_seed(seed)
    rows = dict(dataset.rows(REFERENCE_ROWS, generator=generator).position)
    return Referenced(spec.reference.fit(dataset.space, rows, generator), energy.residual)


def normalised(model: Model, trainer: Trainer, dataset: Dataset, *, seed: int) -> Model:
    """The trained model with log Z, diagnostics of chains, and a report on test rows, on which nothing was chosen.

    Args:
        model: with a reference; its configuration changes in place.
        trainer: that trained it; its weighted chains are one estimate of log Z.
        dataset: its training and test rows.
        seed: of all draws.
    """
    energy = model.energy
    assert isinstance(energy, Referenced) and trainer.metrics is not None
    generator = torch.Generator().manual_seed(seed)
    rows = dict(dataset.rows(REPORT_ROWS, generator=generator).position)
    test, _ = dataset.space.encode({name: value[:REPORT_ROWS] for name, value in dataset.test().items()})
    whole = rows if all(bool(value.isfinite().all()) for value in rows.values()) else None
    normalizer = normalizer_of(energy, trainer, whole, generator)
    model.config = model.config.model_copy(update={"log_normalizer": normalizer})
    at_start = copy.deepcopy(energy)
    start_at_zero(at_start.residual)
    summary = FitSummary(
        held_out=log_likelihood(energy, test, normalizer.value),
        held_out_reference=log_likelihood(at_start, test, 0.0),
        iterations=trainer.iteration,
        best_iteration=trainer.iteration,
        negatives=trainer.metrics.negatives or "draws",
    )
    return with_report(model, rows, test, summary, generator)
