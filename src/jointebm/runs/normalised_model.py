"""A recipe's model with a reference: F = log q + residual before training, and its log Z and report afterwards."""

import torch

from jointebm.data.validation_split import TrainingSplit
from jointebm.energies.referenced import Referenced, start_at_zero
from jointebm.energies.specs import ReferencedSpec
from jointebm.inference.fit_report import FitSummary, warn_of_wrong_modes, with_report
from jointebm.inference.fit_scores import held_out_score, normalizer_of, reference_score
from jointebm.inference.model import Model
from jointebm.references import ReferenceFit
from jointebm.references.reference_specs import spec_of
from jointebm.training.trainer import Trainer

__all__ = ["normalised", "with_reference"]


def with_reference(
    model: Model, how: ReferenceFit, split: TrainingSplit, *, seed: int, with_labels: bool = True
) -> Model:
    """The model with its energy as the residual of a reference, zero everywhere.

    Args:
        model: an untrained model, whose energy becomes the residual in place.
        how: the fit of the reference.
        split: rows that it is fitted to, and those on which its size is chosen.
        seed: of its draws.
        with_labels: whether log q(y | x) is part of the energy (see `Referenced`).
    """
    place = model.device
    rows, held_out = ({name: value.to(place) for name, value in part.items()} for part in (split.rows, split.held_out))
    reference = how.fit(model.space, rows, held_out, torch.Generator(place).manual_seed(seed))
    spec = ReferencedSpec(
        reference=spec_of(reference),
        residual=model.config.energy,  # type: ignore[arg-type]
        with_labels=with_labels,
    )
    config = model.config.model_copy(update={"energy": spec})
    energy = Referenced(reference, start_at_zero(model.energy), with_labels=with_labels)
    return Model(config, energy=energy, noise=model.noise)


def normalised(model: Model, trainer: Trainer, split: TrainingSplit, *, seed: int) -> Model:
    """The trained model with log Z, diagnostics of its chains and a report, as `jointebm.fit` makes them.

    Args:
        model: the model with averaged parameters.
        trainer: what trained it; its chains and their weights estimate log Z too.
        split: training rows, and held-out rows for log-likelihood and calibration.
        seed: of all draws.
    """
    energy, generator = model.energy, torch.Generator(model.device).manual_seed(seed)
    rows, held_out = (
        {name: value.to(model.device) for name, value in part.items()} for part in (split.rows, split.held_out)
    )
    assert isinstance(energy, Referenced) and model.reference is not None and trainer.metrics is not None
    normalizer = normalizer_of(energy, trainer, rows, generator)
    summary = FitSummary(
        held_out=held_out_score(energy, held_out, normalizer.value),
        held_out_reference=reference_score(model.reference, held_out),
        iterations=trainer.iteration,
        best_iteration=trainer.iteration,
        negatives=trainer.metrics.negatives or "chains",
    )
    config = model.config.model_copy(update={"log_normalizer": normalizer})
    found = Model(config, energy=energy, noise=model.noise).eval()
    found = with_report(found, rows, held_out, summary, generator)
    warn_of_wrong_modes(found)
    return found
