"""Scores of energies in the course of a fit: log Z by weights, and the log-likelihood of held-out rows.

Legend: N rows.
"""

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.energies.referenced import Referenced
from jointebm.inference.importance import mass_of_known
from jointebm.inference.reports import Estimate, NormalizerRecord
from jointebm.references.reference import Reference
from jointebm.sampling.annealing import log_mean_weight, log_normalizer, taken_rows
from jointebm.sampling.enumeration import log_partition
from jointebm.sampling.weighted_draws import effective_size
from jointebm.spaces.space import Position
from jointebm.training.trainer import Trainer

__all__ = ["NORMALIZER_DRAWS", "BestEnergy", "held_out_score", "normalizer_of", "reference_score"]

MAX_LISTED = 1 << 16  # configurations of a space without reals, of which log Z is a sum
NORMALIZER_DRAWS = 8_000  # of the reference, for log Z
ANNEALED_PATHS = 500  # from the reference to the energy, and back
UNWEIGHTED_PATHS = 50  # where chains have no weights: over hundreds of reals paths are expensive,
UNWEIGHTED_RUNGS = tuple(step / 100 for step in range(101))  # and no number of rungs makes them even
DRAWS_OF_ROW = 32  # of a held-out row with missing reals, at a check


class LogZ(NamedTuple):
    """An estimate of log Z by draws with weights."""

    value: float
    standard_error: float
    ess: float
    method: str


class BestEnergy:
    """The energy with the best held-out log-likelihood so far; the reference is the first."""

    def __init__(
        self,
        energy: Referenced,
        held_out: Position,
        generator: torch.Generator,
        *,
        say: Callable[[str], object] | None,
    ) -> None:
        self._held_out, self._generator, self._say = held_out, generator, say
        self.at_start, self.iteration, self._since = copy.deepcopy(energy), 0, 0
        self.energy = self.at_start
        self.of_reference = reference_score(energy.reference, held_out)
        self._value = self.of_reference.value

    def look(self, trainer: Trainer) -> int:
        """Scores the averaged parameters; returns the number of looks since the best."""
        energy = trainer.average
        assert isinstance(energy, Referenced)
        log_z = _estimate(energy, trainer, self._generator)
        score = self.score(energy, log_z.value)
        self._since += 1
        sound = math.isfinite(log_z.standard_error) and log_z.standard_error < 0.2
        if sound and score.value > self._value:
            self.energy, self.iteration, self._value = copy.deepcopy(energy), trainer.iteration, score.value
            self._since = 0
        if self._say is not None:
            self._say(
                f"iteration {trainer.iteration}: held-out log-likelihood {score}, reference {self.of_reference}, log Z "
                f"{log_z.value:.3f} +- {log_z.standard_error:.3f} ({log_z.method}, ess {log_z.ess:.0f})"
            )
        return self._since

    def score(self, energy: Referenced, log_z: float) -> Estimate:
        """Mean log-likelihood of the held-out rows, nats."""
        return held_out_score(energy, self._held_out, log_z)


def held_out_score(energy: Referenced, held_out: Position, log_z: float) -> Estimate:
    """Mean log-likelihood of held-out rows under exp(F - log Z), nats; missing entries are marginalised, seeded."""
    mass = mass_of_known(
        energy,
        energy.space,
        energy.reference,
        held_out,
        num_draws=DRAWS_OF_ROW,
        generator=torch.Generator(next(iter(held_out.values())).device).manual_seed(0),
        with_marginals=False,
    )
    return _mean(mass.log_mass.double() - log_z)


@torch.no_grad()
def reference_score(reference: Reference, held_out: Position) -> Estimate:
    """Mean log q of held-out rows, nats; missing entries are marginalised exactly."""
    return _mean(reference.log_prob(held_out).double())


def _mean(log_p: Tensor) -> Estimate:
    error = float(log_p.std()) / math.sqrt(len(log_p)) if len(log_p) > 1 else 0.0
    return Estimate(value=float(log_p.mean()), standard_error=error)


@torch.no_grad()
def _estimate(energy: Referenced, trainer: Trainer, generator: torch.Generator) -> LogZ:
    """log Z by enumeration, fresh draws of the reference, or the weighted chains, whichever knows it best."""
    space = energy.space
    if not space.continuous and space.num_configurations <= MAX_LISTED:
        return LogZ(float(log_partition(energy, space)), 0.0, float(space.num_configurations), "enumeration")
    position = energy.reference.draw(NORMALIZER_DRAWS, generator)
    found = _of_weights((energy(position) - energy.reference.log_prob(position)).double(), "draws of the reference")
    weights = trainer.buffer.weights
    if found.ess > NORMALIZER_DRAWS / 2 or weights is None:
        return found
    f = torch.cat([energy(taken_rows(trainer.buffer.position, rows)) for rows in _pieces(trainer.buffer.size)])
    of_chains = _of_weights(weights.updated(f), "weighted chains")
    return of_chains if of_chains.standard_error < found.standard_error else found


def _of_weights(log_weights: Tensor, method: str) -> LogZ:
    value, error = log_mean_weight(log_weights)
    return LogZ(value, error, float(effective_size(log_weights)), method)


def normalizer_of(
    energy: Referenced, trainer: Trainer, rows: Position | None, generator: torch.Generator
) -> NormalizerRecord:
    """log Z of the kept energy: exact, by draws of the reference, or by annealing from both ends.

    Weighted chains have seen later parameters; annealing sees the kept ones. Where chains have no weights, and draws of the
    reference are poor, annealing is all there is, however uncertain: its two ends bracket log Z.
    """
    found = _estimate(energy, trainer, generator)
    by_draws = found.method == "enumeration" or found.ess > NORMALIZER_DRAWS / 2
    alone = trainer.buffer.weights is None and not by_draws
    if found.method == "weighted chains" or alone:
        size = UNWEIGHTED_PATHS if alone else ANNEALED_PATHS
        some = None if rows is None else {name: value[:size] for name, value in rows.items()}
        num = size if some is None else len(next(iter(some.values())))
        rungs = UNWEIGHTED_RUNGS if alone else None
        annealed = log_normalizer(energy, energy.reference, num_draws=num, rungs=rungs, draws=some, generator=generator)
        if annealed.standard_error < 0.5 or alone:
            return NormalizerRecord(
                value=annealed.value,
                standard_error=annealed.standard_error if math.isfinite(annealed.standard_error) else None,
                upper=annealed.upper,
                ess=annealed.ess,
                method=annealed.method,
            )
    error = found.standard_error if math.isfinite(found.standard_error) else None
    return NormalizerRecord(value=found.value, standard_error=error, ess=found.ess, method=found.method)


def _pieces(num: int) -> tuple[Tensor, ...]:
    return torch.arange(num).split(4096)
