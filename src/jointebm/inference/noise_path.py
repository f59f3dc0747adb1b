"""Paths over noise levels of a `LevelEnergy`: draws given any part of a row, and log Z from both ends.

Legend: N rows, D reals of a row, K levels s_0 > ... > s_K, from the highest to the lowest.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.energies.level_energy import LevelEnergy
from jointebm.kernels import MALA, Chain, evaluate
from jointebm.randomness.draws import Generator, normal
from jointebm.sampling.annealing import LogNormalizer, both_ends
from jointebm.spaces.space import Position

__all__ = ["NoisePath", "PathDraws", "noise_path_normalizer"]

REALS = "reals"  # the one block of the chains of a path: all reals side by side
STEP_OF_LEVEL = 0.5  # of MALA, relative to the noise level
TUNED_RATE = 0.6  # that steps are tuned to


class PathDraws(NamedTuple):
    """Ends of N paths at the lowest level.

    Args:
        reals: shape (N, D); known entries are as given.
        log_weights: shape (N,), float64, nats: the mean of exp estimates the integral of exp F over the free reals, with
            labels that are not known summed out; log Z if nothing is known.
        accept_rate: mean acceptance of the Metropolis steps.
    """

    reals: Tensor
    log_weights: Tensor
    accept_rate: float


class _AtLevel:
    """f of the free reals at one noise level, with known reals at the lowest and unknown labels summed out."""

    def __init__(self, path: "NoisePath", level: float) -> None:
        self._path, self.level = path, level
        self._noise = torch.where(path.free, level, path.energy.min_noise).to(path.known)

    def __call__(self, position: Position) -> Tensor:
        return self._path.energy.density(position[REALS], self._noise, self._path.labels).known


@dataclass(frozen=True)
class NoisePath:
    """Paths of N rows from the highest noise level to the lowest, or back, with the known part clamped at every level.

    One step from level s to s' < s denoises, x' ~ N(x + (s^2 - s'^2) df/dx, (s^2 - s'^2) (v + s'^2) / (v + s^2)), the
    reverse of adding noise to normal data of variance v, and then takes one step of MALA that leaves exp f at level s'
    invariant. The log-weight of a path grows by

        f(x'; s') - f(x; s) + log N(x; x', s^2 - s'^2) - log q(x' | x),    q the density of the first move

    so that the mean weight estimates the integral of exp F without bias, for any f (annealed importance sampling with the
    reverse of diffusion). Steps of MALA are tuned along the way by the acceptance of all rows, which is a bias far below
    the standard error.

    Not guaranteed: the ends are draws of exp F only as far as the levels are close and f is right between modes.

    Args:
        energy: f.
        known: reals, (N, D), NaN where they are free.
        labels: position of the discrete blocks, NaN where they are not known.
        num_levels: K.

    References:
        Song et al. 2021 (reverse diffusion with corrections). Neal 2001; Doucet et al. 2022 (annealed importance sampling
        with reverse kernels from scores).
    """

    energy: LevelEnergy
    known: Tensor
    labels: Position
    num_levels: int

    @property
    def free(self) -> Tensor:
        """Which reals move, (N, D)."""
        return self.known.isnan()

    @property
    def levels(self) -> list[float]:
        """s_0 to s_K, with equal ratios."""
        low, high = math.log(self.energy.min_noise), math.log(self.energy.max_noise)
        return [math.exp(high + (low - high) * k / self.num_levels) for k in range(self.num_levels)] + [
            self.energy.min_noise
        ]

    def draw(self, generator: Generator) -> PathDraws:
        """Goes from the highest level to the lowest.

        Raises:
            FloatingPointError: f is not finite on the way.
        """
        (ends,) = deque(self.walk(generator), maxlen=1)
        return ends

    @torch.no_grad()
    def walk(self, generator: Generator) -> Iterator[PathDraws]:
        """Yields where the paths are after every level; the last are those of `draw`, and raises as it does."""
        levels, free = self.levels, self.free
        spread = (self.energy.variance + levels[0] ** 2).sqrt()
        noise = normal(self.known, generator)
        x = torch.where(free, self.energy.mean + spread * noise, self.known)
        chain = self._chain(x, levels[0])
        log_weights = chain.f.double() - _log_normal(noise * spread, spread, free)
        step, rates = STEP_OF_LEVEL, []
        for high, low in pairwise(levels):
            mean, sd = self._reverse(chain, high, low)
            noise = normal(mean, generator)
            moved = torch.where(free, mean + sd * noise, self.known)
            there = self._chain(moved, low)
            log_weights = log_weights + (there.f.double() - chain.f.double() + self._log_ratio(chain, there, high, low))
            chain, rate = self._corrected(there, low, step * low, generator)
            step = _tuned(step, rate)
            rates.append(rate)
            if low == levels[-1]:
                _require_finite(chain.f, log_weights)
            yield PathDraws(chain.position[REALS], log_weights, sum(rates) / len(rates))

    @torch.no_grad()
    def back(self, reals: Tensor, generator: Generator) -> Tensor:
        """Log-weights (N,) of paths from reals (N, D) at the lowest level to the highest.

        The mean of exp estimates 1 / Z without bias if the reals are draws of exp F.
        """
        levels, free = self.levels, self.free
        chain = self._chain(torch.where(free, reals, self.known), levels[-1])
        log_weights, step = torch.zeros_like(chain.f, dtype=torch.float64), STEP_OF_LEVEL
        for high, low in zip(levels[-2::-1], levels[:0:-1], strict=True):
            chain, rate = self._corrected(chain, low, step * low, generator)
            step = _tuned(step, rate)
            x = chain.position[REALS]
            moved = torch.where(free, x + math.sqrt(high**2 - low**2) * normal(x, generator), self.known)
            there = self._chain(moved, high)
            log_weights += there.f.double() - chain.f.double() - self._log_ratio(there, chain, high, low)
            chain = there
        spread = (self.energy.variance + levels[0] ** 2).sqrt()
        log_weights += _log_normal(chain.position[REALS] - self.energy.mean, spread, free) - chain.f.double()
        _require_finite(chain.f, log_weights)
        return log_weights

    def _chain(self, reals: Tensor, level: float) -> Chain:
        return evaluate(_AtLevel(self, level), {REALS: reals})

    def _reverse(self, chain: Chain, high: float, low: float) -> tuple[Tensor, Tensor]:
        """Mean (N, D) and standard deviation (D,) of the move from level `high` to `low`."""
        assert chain.score is not None
        v, removed = self.energy.variance, high**2 - low**2
        return chain.position[REALS] + removed * chain.score[REALS], (removed * (v + low**2) / (v + high**2)).sqrt()

    def _log_ratio(self, noisier: Chain, cleaner: Chain, high: float, low: float) -> Tensor:
        """log of the density of adding noise over that of denoising, between these two ends of a move, (N,)."""
        mean, sd = self._reverse(noisier, high, low)
        there, here = noisier.position[REALS], cleaner.position[REALS]
        added = torch.full_like(sd, math.sqrt(high**2 - low**2))
        return _log_normal(there - here, added, self.free) - _log_normal(here - mean, sd, self.free)

    def _corrected(self, chain: Chain, level: float, step_size: float, generator: Generator) -> tuple[Chain, float]:
        """One step of MALA at a level, and its mean acceptance."""
        free = self.free
        if not bool(free.any()):
            return chain, 1.0
        chain, info = MALA(block=REALS, step_size=step_size).step(
            _AtLevel(self, level), chain, free={REALS: free}, generator=generator
        )
        return chain, float(info.accept_prob[free.any(dim=1)].mean())


@torch.no_grad()
def noise_path_normalizer(
    energy: LevelEnergy, rows: Position, *, num_levels: int, generator: Generator
) -> LogNormalizer:
    """Estimates log Z of F by paths over noise levels, from both ends.

    Args:
        energy: f.
        rows: rows of data at the lowest noise level, from which paths go back; as many go the other way.
        num_levels: K.
        generator: source of all draws.

    Returns:
        The estimate. `upper` is one from above in expectation only if the data are draws of exp F.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> from jointebm.energies import AnySubsetSpec, LevelMLPSpec
        >>> space = Space(x=Continuous(2), y=Categorical(3))
        >>> energy = AnySubsetSpec(net=LevelMLPSpec(hidden=(16,)), min_noise=0.1, max_noise=10.0).build(space)
        >>> rows = {"x": torch.randn(200, 2, generator=torch.Generator().manual_seed(0)), "y": torch.eye(3)[[0] * 200]}
        >>> found = noise_path_normalizer(energy, rows, num_levels=40, generator=torch.Generator().manual_seed(0))
        >>> abs(found.value) < 0.1  # untrained, f is normal: Z is 1
        True
    """
    reals = energy.reals(rows)
    nothing = torch.full_like(reals, torch.nan)
    labels = {name: torch.full_like(rows[name], torch.nan) for name in energy.space.discrete}
    path = NoisePath(energy, nothing, labels, num_levels)
    forward = path.draw(generator).log_weights
    backward = path.back(reals, generator)
    return both_ends(forward, backward, num_levels + 1, "noise-level path")


def _log_normal(deviation: Tensor, sd: Tensor, free: Tensor) -> Tensor:
    """Sum over free reals of log N(deviation; 0, sd^2), shape (N,), float64."""
    terms = -0.5 * (deviation / sd).square() - (sd * math.sqrt(2 * math.pi)).log()
    return torch.where(free, terms, 0).double().sum(dim=1)


def _tuned(step: float, rate: float) -> float:
    """The next relative step of MALA, after one with this acceptance."""
    return min(2.0, max(1e-3, step * math.exp(0.5 * (rate - TUNED_RATE))))


def _require_finite(f: Tensor, log_weights: Tensor) -> None:
    lost = ~(f.isfinite() & log_weights.isfinite())
    if bool(lost.any()):
        raise FloatingPointError(
            f"noise path: f or its score is not finite in {int(lost.sum())} of {len(lost)} rows; train with a smaller "
            "learning_rate"
        )
