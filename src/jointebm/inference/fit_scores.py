"""Scores of energies in the course of a fit: log Z by weights, and the log-likelihood of held-out rows.

Legend: N rows.
"""

import copy
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.energies.referenced import Referenced
from jointebm.inference.importance import mass_of_known
from jointebm.inference.reports import Estimate, NormalizerRecord
from jointebm.kernels import Kernel, evaluate
from jointebm.references.reference import Reference
from jointebm.sampling.annealing import log_mean_weight, log_normalizer, taken_rows
from jointebm.sampling.enumeration import log_partition
from jointebm.sampling.sample import run_chain
from jointebm.sampling.weighted_draws import effective_size
from jointebm.spaces.space import Position
from jointebm.training.trainer import Trainer

__all__ = ["NORMALIZER_DRAWS", "BestEnergy", "held_out_score", "normalizer_of", "reference_score"]

MAX_LISTED = 1 << 16  # configurations of a space without reals, of which log Z is a sum
NORMALIZER_DRAWS = 8_000  # of the reference, for log Z
ENOUGH_DRAWS = 0.5  # share of effective draws above which no annealing is needed
ANNEALED_PATHS = 500  # from the reference to the energy, and back
ROWS_BACK, MIN_ROWS_BACK = 2_000, 50  # training rows that log Z is estimated from at the other end
STEPS_OF_ROWS = 20  # of the kernel under F, before that
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
    if found.ess > ENOUGH_DRAWS * NORMALIZER_DRAWS or weights is None:
        return found
    f = torch.cat([energy(taken_rows(trainer.buffer.position, rows)) for rows in _pieces(trainer.buffer.size)])
    of_chains = _of_weights(weights.updated(f), "weighted chains")
    return of_chains if of_chains.standard_error < found.standard_error else found


def _of_weights(log_weights: Tensor, method: str) -> LogZ:
    value, error = log_mean_weight(log_weights)
    return LogZ(value, error, float(effective_size(log_weights)), method)


def normalizer_of(energy: Referenced, trainer: Trainer, rows: Position, generator: torch.Generator) -> NormalizerRecord:
    """log Z of the kept energy: exact, or from both ends, by draws of the reference or by annealing.

    The other end is that of the training rows without a missing entry, moved by the kernel with jumps, which takes them to
    exp F around them; if there are too few such rows, it is that of the draws. Where chains have no weights, and draws of
    the reference are poor, annealing is all there is, however uncertain.

    Args:
        energy: F.
        trainer: what trained it; its chains and their weights estimate log Z too.
        rows: training rows, NaN is missing.
        generator: source of all draws.
    """
    found = _estimate(energy, trainer, generator)
    error = found.standard_error if math.isfinite(found.standard_error) else None
    record = NormalizerRecord(value=found.value, standard_error=error, ess=found.ess, method=found.method)
    if found.method == "enumeration":
        return record
    alone = trainer.buffer.weights is None and found.ess <= ENOUGH_DRAWS * NORMALIZER_DRAWS
    num_paths, rungs = (UNWEIGHTED_PATHS, UNWEIGHTED_RUNGS) if alone else (ANNEALED_PATHS, None)
    some = _draws_from(energy, trainer.kernel, rows, num_paths if alone else ROWS_BACK, generator)
    if found.method == "draws of the reference" and found.ess > ENOUGH_DRAWS * NORMALIZER_DRAWS:
        if some is None:
            return record
        with torch.no_grad():
            back = (energy.reference.log_prob(some) - energy(some)).double()
        upper, upper_error = log_mean_weight(back)
        return record.model_copy(
            update={"upper": -upper, "upper_error": upper_error if math.isfinite(upper_error) else None}
        )
    annealed = log_normalizer(
        energy, energy.reference, num_draws=num_paths, rungs=rungs, draws=some, generator=generator
    )
    if annealed.standard_error < 0.5 or alone:
        return NormalizerRecord(
            value=annealed.value,
            standard_error=annealed.standard_error if math.isfinite(annealed.standard_error) else None,
            upper=annealed.upper,
            upper_error=annealed.upper_error if math.isfinite(annealed.upper_error) else None,
            ess=annealed.ess,
            method=annealed.method,
        )
    return record


@torch.no_grad()
def _draws_from(
    energy: Referenced, kernel: Kernel, rows: Position, most: int, generator: torch.Generator
) -> dict[str, Tensor] | None:
    """Complete rows after some steps under F, so many at most, or None if they are few."""
    missing = torch.stack([value.isnan().reshape(len(value), -1).any(dim=1) for value in rows.values()]).any(dim=0)
    numbers = (~missing).nonzero().flatten()[:most]
    if len(numbers) < MIN_ROWS_BACK:
        return None
    chain = evaluate(energy, taken_rows(rows, numbers), with_score=kernel.uses_score)
    free = {
        name: torch.ones(len(numbers), *block.variable_shape, dtype=torch.bool, device=numbers.device)
        for name, block in energy.space.items()
    }
    steps = run_chain(energy, kernel, chain, free=free, generator=generator)
    for chain, _ in itertools.islice(steps, STEPS_OF_ROWS):
        pass
    return {name: chain.position[name] for name in energy.space}


def _pieces(num: int) -> tuple[Tensor, ...]:
    return torch.arange(num).split(4096)
