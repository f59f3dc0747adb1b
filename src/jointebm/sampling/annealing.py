"""The log normalizer by importance sampling from a reference, directly or along a path of rungs, from both ends.

Legend: N draws, R rungs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from jointebm.kernels import MALA, Chain, Cycle, Gibbs, Jump, Kernel, LogDensity
from jointebm.kernels.tempering import Endpoints, Tempered, check_rungs, evaluate_endpoints, of_space
from jointebm.randomness.draws import Generator, uniform
from jointebm.references.reference import Reference
from jointebm.sampling.weighted_draws import effective_size, log_mean_weights
from jointebm.spaces.space import Position

__all__ = [
    "LogNormalizer",
    "both_ends",
    "log_mean_weight",
    "log_normalizer",
    "systematic_rows",
    "taken_rows",
]

Method = Literal["importance sampling", "annealed importance sampling", "noise-level path"]
ENOUGH = 0.5  # share of effective draws above which no annealing is needed
PILOT_VARIANCE = 0.05  # of the log-weights, per rung of the pilot
TOTAL_VARIANCE = 0.5  # of the log-weights, that the rungs of the run are laid out for
MAX_RUNGS = 1000
DOUBLINGS = 3  # of the rungs, at most, while the ess of pilot chains is below `ENOUGH`
TUNING_STEPS = 4  # of MALA at each rung of the pilot
MALA_RATE = 0.6  # acceptance that step sizes are tuned to


class LogNormalizer(NamedTuple):
    """log Z = log of the integral of exp(f), estimated.

    Args:
        value: the estimate, nats, from q to exp(f). Its expectation is at most log Z.
        standard_error: of the value, by the jackknife over draws; infinite if one draw holds all weight.
        upper: estimate from exp(f) to q; its expectation is at least log Z if it starts from draws of exp(f). With the
            value, a bracket that holds log Z in expectation.
        upper_error: standard error of `upper`, as that of the value.
        ess: effective number of forward draws, (sum w)^2 / sum w^2.
        ess_back: the same of the draws that went back; `upper` is noise if it is below ten or so.
        num_draws: number of forward draws N.
        num_rungs: rungs R, both ends included; 2 is plain importance sampling.
        method: how it was found.

    Example:
        >>> from jointebm import Continuous, Space
        >>> from jointebm.references import Mixture
        >>> q = Mixture(Space(x=Continuous()))  # N(0, 1)
        >>> def log_density(position): return -0.5 * position["x"].square()
        >>> found = log_normalizer(log_density, q, generator=torch.Generator().manual_seed(0))
        >>> round(found.value, 3), found.method  # log sqrt(2 pi)
        (0.919, 'importance sampling')
    """

    value: float
    standard_error: float
    upper: float
    upper_error: float
    ess: float
    ess_back: float
    num_draws: int
    num_rungs: int
    method: Method


def log_normalizer(
    log_density: LogDensity,
    reference: Reference,
    *,
    num_draws: int = 1000,
    rungs: Sequence[float] | None = None,
    kernel: Kernel | None = None,
    draws: Position | None = None,
    generator: Generator,
) -> LogNormalizer:
    """Estimates log Z of a log-density by annealed importance sampling from a reference q and back.

    Z = E over the path of the product over rungs of exp[(b_k - b_(k-1)) (f - log q)(x_(k-1))],    x_0 ~ q,
    x_k from x_(k-1) by a kernel that leaves q^(1 - b_k) exp(b_k f) invariant

    Draws from q are weighted by exp(f) / q first. If their ess is above half of them, that is the answer ("importance
    sampling"). If not, a pilot of a quarter as many chains lays out the rungs and tunes the step sizes, and fresh draws go
    along them, so that the mean weight is Z exactly. Then chains go the other way, from `draws`, or from end states of the
    forward direction resampled by their weights.

    Not guaranteed: the standard error knows only of what the draws have met. A mode of exp(f) that q hardly ever draws and
    no chain reaches is missing from `value`, with a small standard error and a large ess; from `upper` too, unless `draws`
    are given from elsewhere, such as the rows that a model was trained on. A wide bracket or an ess of a few
    draws means that the value is too low, by more than its standard error says. Choosing between the two methods by the
    same draws has a bias far below the standard error. Densities are with respect to positions: values behind a transform
    have another density, but the same Z.

    Args:
        log_density: f, shape (N,).
        reference: q, whose `log_prob` is differentiable if the kernel reads the score.
        num_draws: N >= 2, all of them one batch.
        rungs: b_k, strictly increasing from 0 to 1, always used if given; (0, 1) is plain importance sampling. None
            chooses them.
        kernel: an adjusted kernel used at all rungs; None is `Jump`, `Gibbs` over all labels and `MALA` with step sizes
            tuned at each rung, as far as the space has such blocks.
        draws: draws of exp(f), for the way back, which gives `upper`; per block (M, *position_shape).
        generator: source of all draws.

    Returns:
        `LogNormalizer`.

    Raises:
        ValueError: fewer than two draws, rungs out of order, a kernel that is not adjusted or does not fit the space.
        FloatingPointError: f is not a number at a draw, or minus infinity at all of them.

    References:
        Neal 2001; Grosse, Ghahramani & Adams 2015 (both directions).

    Example:
        >>> from jointebm import Continuous, Space
        >>> from jointebm.references import Mixture
        >>> q = Mixture(Space(x=Continuous()))  # N(0, 1)
        >>> def log_density(position): return -2 * (position["x"] - 4).square()  # Z = sqrt(pi / 2), log Z = .226
        >>> estimate = log_normalizer(log_density, q, generator=torch.Generator().manual_seed(0))
        >>> estimate.method, abs(estimate.value - 0.226) < 4 * estimate.standard_error < 0.3
        ('annealed importance sampling', True)
    """
    if num_draws < 2:
        raise ValueError(f"log_normalizer: num_draws is a whole number >= 2, got {num_draws}")
    if kernel is not None:
        kernel.require(reference.space)
        if not kernel.adjusted:
            raise ValueError(
                f"log_normalizer: {type(kernel).__name__} is not adjusted, which biases the weights; use MALA for Langevin"
            )
    given = None if rungs is None else check_rungs("log_normalizer", rungs)
    annealing = Annealing(log_density, reference, generator)
    forward, ladder = None, Ladder((0.0, 1.0), (kernel or Jump(reference),) * 2)
    if given is None:
        forward = annealing.run(ladder, reference.draw(num_draws, generator))
    if forward is None or float(effective_size(forward.log_weights)) < ENOUGH * num_draws:
        if given is None or (kernel is None and len(given) > 2):
            ladder = annealing.pilot(max(50, num_draws // 4), kernel, given)
        elif len(given) > 2:
            ladder = Ladder(given, (kernel or Jump(reference),) * len(given))
        forward = annealing.run(ladder, reference.draw(num_draws, generator))
    if draws is None:
        start = taken_rows(forward.position, systematic_rows(forward.log_weights, num_draws, generator))
    else:
        start = {name: draws[name] for name in reference.space}
    backward = annealing.run(ladder.reversed(), start)
    method: Method = "importance sampling" if len(ladder.rungs) == 2 else "annealed importance sampling"
    return both_ends(forward.log_weights, backward.log_weights, len(ladder.rungs), method)


class Ladder(NamedTuple):
    """Rungs from one end to the other, and the kernel that moves chains at each of them."""

    rungs: tuple[float, ...]
    kernels: tuple[Kernel, ...]

    def reversed(self) -> "Ladder":
        """The path from its other end."""
        return Ladder(self.rungs[::-1], self.kernels[::-1])

    def divided(self, pieces: int) -> "Ladder":
        """The path with each interval in that many equal pieces, moved by the kernel of its upper end."""
        rungs, kernels = [self.rungs[0]], [self.kernels[0]]
        for low, high, kernel in zip(self.rungs, self.rungs[1:], self.kernels[1:], strict=False):
            rungs += [low + (high - low) * piece / pieces for piece in range(1, pieces)] + [high]
            kernels += [kernel] * pieces
        return Ladder(tuple(rungs), tuple(kernels))


class Annealed(NamedTuple):
    """Draws that went along a path: their log-weights, float64 (N,), and where they are at its end."""

    log_weights: Tensor
    position: Position


class Annealing(NamedTuple):
    """A log-density, a reference and the source of draws: what all runs along a path share."""

    log_density: LogDensity
    reference: Reference
    generator: Generator

    def run(self, ladder: Ladder, position: Position) -> Annealed:
        """Moves positions along a path, in either direction, and weights them."""
        log_weights: Tensor | float = 0.0
        for low, high, kernel in zip(ladder.rungs, ladder.rungs[1:], ladder.kernels[1:], strict=False):
            ends = evaluate_endpoints(self.log_density, self.reference, position, with_score=kernel.uses_score)
            log_weights = log_weights + (high - low) * _slope(ends)
            if high > 0:  # at q itself nothing is weighted any more
                chain, _ = self.step(kernel, ends.chain(torch.full_like(ends.target.f, high)))
                position = of_space(self.reference, chain.position)
        assert isinstance(log_weights, Tensor)
        return Annealed(log_weights, position)

    def step(self, kernel: Kernel, chain: Chain) -> tuple[Chain, Any]:
        """Moves all blocks of a chain once, at its rung."""
        free = {
            name: torch.ones(len(chain.f), *block.variable_shape, dtype=torch.bool, device=chain.f.device)
            for name, block in self.reference.space.items()
        }
        target = Tempered(self.log_density, self.reference)
        return kernel.step(target, chain, free=free, generator=self.generator)

    def pilot(self, num_draws: int, kernel: Kernel | None, given: tuple[float, ...] | None) -> Ladder:
        """Lays out rungs, unless they are given, and tunes kernels, unless one is, by chains resampled at each rung."""
        position = self.reference.draw(num_draws, self.generator)
        step_sizes = {name: float(position[name].std()) or 1.0 for name in self.reference.space.continuous}
        rungs, kernels = [0.0], [kernel or _default_kernel(self.reference, step_sizes)]
        while rungs[-1] < 1:
            ends = evaluate_endpoints(self.log_density, self.reference, position, with_score=kernels[-1].uses_score)
            log_ratio = _slope(ends)
            rungs.append(given[len(rungs)] if given is not None else _next_rung(log_ratio, rungs[-1], len(rungs)))
            rows = systematic_rows((rungs[-1] - rungs[-2]) * log_ratio, num_draws, self.generator)
            chain = ends.take(rows).chain(torch.full_like(ends.target.f, rungs[-1]))
            for _ in range(1 if kernel or not step_sizes else TUNING_STEPS):
                mover = kernel or _default_kernel(self.reference, step_sizes)
                chain, info = self.step(mover, chain)
                if kernel is None:
                    rates = [float(part.accept_prob.mean()) for part in info[len(info) - len(step_sizes) :]]
                    step_sizes = {
                        name: size * math.exp(2 * (rate - MALA_RATE))
                        for (name, size), rate in zip(step_sizes.items(), rates, strict=True)
                    }
            kernels.append(kernel or _default_kernel(self.reference, step_sizes))
            position = of_space(self.reference, chain.position)
        ladder = Ladder(tuple(rungs), tuple(kernels))
        if given is not None:
            return ladder
        pieces = math.ceil((len(rungs) - 1) * PILOT_VARIANCE / TOTAL_VARIANCE)  # the variance falls as 1 / pieces
        ladder = ladder.divided(max(1, min(pieces, MAX_RUNGS // len(rungs))))
        for _ in range(DOUBLINGS):  # chains that lag behind the rungs need more of them
            trial = self.run(ladder, self.reference.draw(num_draws, self.generator))
            if float(effective_size(trial.log_weights)) > ENOUGH * num_draws or 2 * len(ladder.rungs) > MAX_RUNGS:
                break
            ladder = ladder.divided(2)
        return ladder


def _default_kernel(reference: Reference, step_sizes: Mapping[str, float]) -> Cycle:
    """A jump, a draw of every label and a Langevin move of every continuous block, as far as there are such blocks."""
    labels = (Gibbs(reference.space, scan="systematic"),) if reference.space.discrete else ()
    return Cycle((Jump(reference), *labels, *(MALA(name, size) for name, size in step_sizes.items())))


def _slope(ends: Endpoints) -> Tensor:
    """f - log q in float64, shape (N,); raises FloatingPointError where it is not a number."""
    log_ratio = ends.target.f.double() - ends.reference.f.double()
    if bool(log_ratio.isnan().any()):
        row = int(log_ratio.isnan().nonzero()[0])
        raise FloatingPointError(
            f"log_normalizer: f - log q is not a number at draw {row}, where f is {float(ends.target.f[row])} and log q is "
            f"{float(ends.reference.f[row])}; check the log-density at draws of the reference"
        )
    return log_ratio


def _next_rung(log_ratio: Tensor, rung: float, num_rungs: int) -> float:
    """The rung at which weights of equally weighted draws get a relative variance of `PILOT_VARIANCE`, at most 1.

    So far apart that the path ends within `MAX_RUNGS`.
    """
    finite = log_ratio[log_ratio.isfinite()]
    if not len(finite):
        raise FloatingPointError(
            "log_normalizer: f is infinite at all draws of the reference; check that their spaces agree"
        )
    low, high = 0.0, 1 - rung
    for _ in range(40):
        middle = (low + high) / 2
        share = float(effective_size(middle * finite)) / len(finite)
        low, high = (middle, high) if share > 1 / (1 + PILOT_VARIANCE) else (low, middle)
    if high > 0.999 * (1 - rung):
        return 1.0
    return rung + max(low, (1 - rung) / max(1, MAX_RUNGS - num_rungs))


def systematic_rows(log_weights: Tensor, num: int, generator: Generator) -> Tensor:
    """Numbers of rows drawn in proportion to their weights, by systematic resampling, shape (num,)."""
    cumulative = log_weights.softmax(dim=0).cumsum(dim=0)
    points = (torch.arange(num, device=cumulative.device) + uniform(cumulative[:1], generator)) / num
    return torch.searchsorted(cumulative, points * cumulative[-1], right=True).clamp(max=len(cumulative) - 1)


def both_ends(forward: Tensor, backward: Tensor, num_rungs: int, method: Method) -> LogNormalizer:
    """The estimate from log-weights of both directions.

    Args:
        forward: log-weights of draws of q that went to exp F, shape (N,).
        backward: of draws of exp F that went to q, shape (M,).
        num_rungs: on the way, both ends included.
        method: how the draws went.
    """
    value, standard_error = log_mean_weight(forward)
    upper, upper_error = log_mean_weight(backward)
    return LogNormalizer(
        value=value,
        standard_error=standard_error,
        upper=-upper,
        upper_error=upper_error,
        ess=float(effective_size(forward)),
        ess_back=float(effective_size(backward)),
        num_draws=len(forward),
        num_rungs=num_rungs,
        method=method,
    )


def log_mean_weight(log_weights: Tensor) -> tuple[float, float]:
    """log of the mean weight of log-weights (N,), and its standard error by the jackknife."""
    peak = log_weights.amax()
    if not bool(peak.isfinite()):
        raise FloatingPointError(f"log_normalizer: the largest log-weight is {float(peak)}; f and q share no draw")
    value, error = log_mean_weights(log_weights)
    return float(value), float(error)


def taken_rows(position: Position, rows: Tensor) -> dict[str, Tensor]:
    """Some rows of a position, by their numbers."""
    return {name: value[rows.to(value.device)] for name, value in position.items()}
