"""Adaptation: a warm-up that tunes kernels, ends, and returns kernels that never change again.

Legend: N chains.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, scored
from jointebm.kernels.kernel import Kernel, flat_infos, parts_of, settle, with_parts
from jointebm.kernels.lazy import Lazy
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Mask, Position

__all__ = ["Adapted", "DualAveraging", "Learner", "Tunable", "adapt"]

LEARN_AT = (0.1, 0.25, 0.5, 0.8)  # shares of the warm-up; metrics and shifts are learned from the steps since the last
MAX_SNAPSHOTS = 32  # positions of all chains kept between two of these
MIN_STEPS = 20
GAIN = 0.15  # .05 suits the noise of one chain; averages over chains have less, and step sizes would oscillate


@runtime_checkable
class Learner(Protocol):
    """A kernel that learns from positions: a metric, or shifts."""

    def learned(self, position: Position, score: Position | None, /) -> Any:
        """This kernel with what rows and their scores, if there are any, say; NaN is left out."""


@runtime_checkable
class Tunable(Protocol):
    """A kernel whose step size is tuned to an acceptance probability."""

    @property
    def target_accept(self) -> float:
        """The mean acceptance probability that suits the kernel."""

    def rescaled(self, factor: float, /) -> Any:
        """This kernel with its step size multiplied by a number."""


@runtime_checkable
class Metric(Learner, Tunable, Protocol):
    """A kernel that learns a step size per entry of the block that it moves."""

    @property
    def block(self) -> str:
        """The block."""


@runtime_checkable
class Stacked(Protocol):
    """A kernel whose parts move several rows per chain, as `ReplicaExchange` does."""

    def rows(self, chains: Position, /) -> Position:
        """The rows that the parts move, per block (rows, *position_shape)."""


class Adapted(NamedTuple):
    """What a warm-up leaves.

    Args:
        kernel: tuned; a kernel like any other, with fixed numbers.
        chain: the chains after the warm-up.
        accept_rate: mean acceptance probability of each part of the kernel over the last fifth of the warm-up.

    Example:
        >>> from jointebm import kernels
        >>> chain = kernels.evaluate(lambda position: -0.5 * position["x"].square(), {"x": torch.zeros(50)})
        >>> found = adapt(
        ...     kernels.MALA("x", 1e-3), lambda position: -0.5 * position["x"].square(), chain, num_steps=100,
        ...     generator=torch.Generator().manual_seed(0),
        ... )
        >>> len(found.accept_rate), type(found.kernel).__name__
        (1, 'MALA')
    """

    kernel: Kernel
    chain: Chain
    accept_rate: tuple[float, ...]


@dataclass(frozen=True)
class DualAveraging:
    """Seeks the logarithm of a step size at which a mean acceptance probability is met.

    h_t = (1 - 1 / (t + 10)) h_(t-1) + (target - accepted_t) / (t + 10),    log_size_t = -sqrt(t) / .15 h_t,
    log_average_t = t^-.75 log_size_t + (1 - t^-.75) log_average_(t-1)

    Args:
        target: the acceptance probability.
        num_updates: t.
        shortfall: h_t.
        log_size: of the next step, relative to the step size at the start.
        log_average: what to use after the last update.

    References:
        Hoffman & Gelman 2014, Sec. 3.2 (Nesterov 2009), with mu = the present step size; gamma is .15
        instead of .05, since acceptance is averaged over chains.

    Example:
        >>> tuner = DualAveraging(target=0.5)
        >>> for _ in range(200):  # the acceptance probability falls with the step size, and is .5 at a size of 4
        ...     tuner = tuner.updated(1 / (1 + math.exp(tuner.log_size) / 4))
        >>> abs(math.exp(tuner.log_average) - 4) < 0.2
        True
    """

    target: float
    num_updates: int = 0
    shortfall: float = 0.0
    log_size: float = 0.0
    log_average: float = 0.0

    def updated(self, accepted: float) -> Self:
        """After one step with the size `log_size`, whose mean acceptance probability was `accepted`."""
        t = self.num_updates + 1
        shortfall = (1 - 1 / (t + 10)) * self.shortfall + (self.target - accepted) / (t + 10)
        log_size = -math.sqrt(t) / GAIN * shortfall
        weight = t**-0.75
        log_average = weight * log_size + (1 - weight) * self.log_average
        return type(self)(self.target, t, shortfall, log_size, log_average)


def adapt(
    kernel: Kernel,
    log_density: LogDensity,
    chain: Chain,
    *,
    num_steps: int,
    free: Mask | None = None,
    target_accept: float | None = None,
    generator: Generator,
) -> Adapted:
    """Runs a warm-up of a fixed number of steps and returns the kernel that it found, frozen.

    Each part of the kernel that has a step size (`MALA`, `HMC`, `MixedHMC`, `DMALA`) gets it by dual averaging of the
    acceptance probability, averaged over chains. Its metric, one step size per entry, comes from the variances of the
    positions and scores of all chains pooled. `ShiftedGibbs` gets its shifts from the same positions. Metric and shifts
    are learned at a tenth, a quarter, half and four fifths of the warm-up, each time from the steps since;
    the last fifth tunes step sizes alone. Parts inside `Lazy` and `Cycle` are adapted where they are.

    The kernel that is returned is as exact as the one given. The warm-up itself is *not* a Markov chain with the right
    target, since its kernel depends on the past: use its chains as a start and discard its steps. Chains that have not
    left their starts teach the metric where they started.

    Args:
        kernel: with any step sizes to begin with.
        log_density: f, shape (N,).
        chain: N chains, such as `evaluate` makes from positions.
        num_steps: of the warm-up, >= 20; some hundreds are usual.
        free: what may move; None is everything. In every chain, something of each block with a step size. `Lazy` parts
            need masks with an axis of chains.
        target_accept: for all parts with a step size, in (0, 1); None is .574 for `MALA` and `DMALA`, and .8 for
            the others.
        generator: source of all draws.

    Returns:
        `Adapted`.

    Raises:
        ValueError: there is nothing to adapt, too few steps, or chains in which a whole block with a step size is clamped.
        FloatingPointError: f is not finite at the end.

    References:
        Hoffman & Gelman 2014 (step size). Stan Development Team, Reference Manual (windows of a warm-up).

    Example:
        >>> from jointebm import kernels
        >>> scales = torch.tensor([0.1, 10.0])
        >>> def log_density(position): return -0.5 * (position["x"] / scales).square().sum(dim=1)
        >>> chain, generator = kernels.evaluate(log_density, {"x": torch.ones(50, 2)}), torch.Generator().manual_seed(0)
        >>> kernel, chain, _ = adapt(kernels.MALA("x", 1e-3), log_density, chain, num_steps=300, generator=generator)
        >>> bool(50 < kernel.step_size[1] / kernel.step_size[0] < 200)
        True
    """
    parts = [_inner(part) for part in parts_of(kernel)]
    if num_steps < MIN_STEPS:
        raise ValueError(f"adapt: num_steps must be >= {MIN_STEPS}, got {num_steps}")
    if target_accept is not None and not 0 < target_accept < 1:
        raise ValueError(f"adapt: target_accept must lie in (0, 1), got {target_accept}")
    if not any(isinstance(part, Learner | Tunable) for part in parts):
        names = ", ".join(type(part).__name__ for part in parts)
        raise ValueError(
            f"adapt: nothing to adapt in {names}; what can be adapted is MALA, HMC, MixedHMC, DMALA and ShiftedGibbs"
        )
    everything = {name: torch.tensor(True, device=chain.f.device) for name in chain.position}
    free = settle(everything if free is None else free)
    _check_free(parts, chain, free)
    warm_up = _WarmUp.of(kernel, target_accept)
    learn_at = {math.ceil(share * num_steps) for share in LEARN_AT}
    snapshots: list[tuple[Position, Position | None]] = []
    keeps_score = kernel.uses_score
    rates: list[list[float]] = []
    every = max(1, num_steps // (3 * MAX_SNAPSHOTS))
    for number in range(1, num_steps + 1):
        chain, info = warm_up.current().step(log_density, chain, free=free, generator=generator)
        rates.append([float(each.accept_prob.nan_to_num().mean()) for each in flat_infos(info)])
        warm_up = warm_up.tuned(rates[-1])
        if number % every == 0:
            chain = scored(log_density, chain, kernel) if keeps_score else chain
            score: Position | None = None
            if chain.score is not None:
                score = {name: chain.score[name] for name in chain.position}
            snapshots.append((_with_clamped_missing(parts, chain.position, free), score))
        if number in learn_at and snapshots:
            positions, scores = zip(*snapshots, strict=True)
            rows: Position = _stacked(positions)
            rows = kernel.rows(rows) if isinstance(kernel, Stacked) else rows
            warm_up, snapshots = warm_up.learned(rows, _stacked(scores) if keeps_score else None), []
    if not bool(chain.f.isfinite().all()):
        raise FloatingPointError(f"adapt: f is not finite after {num_steps} steps; begin with a smaller step size")
    last = torch.tensor(rates[-max(1, num_steps // 5) :], dtype=torch.float64)
    return Adapted(warm_up.finished(), chain, tuple(last.mean(dim=0).tolist()))


class _WarmUp(NamedTuple):
    """A kernel in adaptation: its parts as last learned, and a tuner for each that has a step size."""

    kernel: Kernel
    parts: tuple[Kernel, ...]
    tuners: tuple[DualAveraging | None, ...]

    @staticmethod
    def of(kernel: Kernel, target_accept: float | None) -> "_WarmUp":
        parts = parts_of(kernel)
        return _WarmUp(kernel, parts, tuple(_tuner(part, target_accept) for part in parts))

    def current(self) -> Kernel:
        """The kernel of the next step."""
        return self._rescaled([0.0 if tuner is None else tuner.log_size for tuner in self.tuners])

    def finished(self) -> Kernel:
        """The kernel with averaged step sizes."""
        return self._rescaled([0.0 if tuner is None else tuner.log_average for tuner in self.tuners])

    def tuned(self, rates: list[float]) -> "_WarmUp":
        """After a step with these acceptance rates of the parts."""
        pairs = zip(self.tuners, rates, strict=True)
        return self._replace(tuners=tuple(tuner and tuner.updated(rate) for tuner, rate in pairs))

    def learned(self, rows: Position, score: Position | None) -> "_WarmUp":
        """With what the parts learn from rows, and tuners that begin at the averaged step sizes."""
        parts = (_changed(part, lambda inner: _learned(inner, rows, score)) for part in parts_of(self.finished()))
        return self._replace(
            parts=tuple(parts), tuners=tuple(tuner and DualAveraging(tuner.target) for tuner in self.tuners)
        )

    def _rescaled(self, log_sizes: list[float]) -> Kernel:
        pairs = zip(self.parts, log_sizes, strict=True)
        return with_parts(self.kernel, tuple(_resized(part, log_size) for part, log_size in pairs))


def _tuner(part: Kernel, target_accept: float | None) -> DualAveraging | None:
    """The tuner of a part; skipped chains of a lazy kernel report an acceptance of 0."""
    inner = _inner(part)
    if not isinstance(inner, Tunable):
        return None
    return DualAveraging((part.rate if isinstance(part, Lazy) else 1.0) * (target_accept or inner.target_accept))


def _inner(part: Kernel) -> Kernel:
    return part.kernel if isinstance(part, Lazy) else part


def _changed(part: Kernel, change: Callable[[Any], Kernel]) -> Kernel:
    return Lazy(change(part.kernel), part.rate) if isinstance(part, Lazy) else change(part)


def _learned(kernel: Kernel, rows: Position, score: Position | None) -> Kernel:
    return kernel.learned(rows, score) if isinstance(kernel, Learner) else kernel


def _resized(part: Kernel, log_size: float) -> Kernel:
    return part if log_size == 0 else _changed(part, lambda inner: inner.rescaled(math.exp(log_size)))


def _check_free(parts: list[Kernel], chain: Chain, free: Mask) -> None:
    for block in [part.block for part in parts if isinstance(part, Metric)]:
        mask = free.get(block, torch.tensor(False, device=chain.f.device)).expand(chain.position[block].shape)
        stuck = ~mask.reshape(len(chain.f), -1).any(dim=1)
        if bool(stuck.any()):
            raise ValueError(
                f"adapt: block {block!r} is clamped entirely in {int(stuck.sum())} of {len(stuck)} chains, whose "
                "acceptance says nothing; pass chains in which some of it is free"
            )


def _stacked(positions: Sequence[Position]) -> dict[str, Tensor]:
    return {name: torch.cat([each[name] for each in positions]) for name in positions[0]}


def _with_clamped_missing(parts: list[Kernel], position: Position, free: Mask) -> dict[str, Tensor]:
    """The position with NaN at clamped entries of the blocks whose metric is learned."""
    blocks = {part.block: free[part.block] for part in parts if isinstance(part, Metric)}
    return {
        name: torch.where(blocks[name], value, torch.nan) if name in blocks else value
        for name, value in position.items()
    }
