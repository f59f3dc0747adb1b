"""The common part of energies whose reals have noise levels: their normal base, and the inputs of a network.

Legend: N rows, D reals of a row, K numbers that sum a row's noise levels up.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Position, Space

__all__ = ["NUM_LEVELS", "LevelEnergy", "LevelInputs", "SubsetDensity"]

NUM_LEVELS = 3  # K: shares of reals that are below so many noise levels, from the lowest to the highest
FADED = 4.0  # the highest level over the one at which a real has half of its weight in the network
ADDED_VARIANCE = 1e-3  # of a real, relative to the mean variance, so that constant reals have a base


class LevelInputs(NamedTuple):
    """What a network is given of N rows.

    Args:
        base: log-density of the visible reals under the normal base, (N,), nats.
        inputs: (N, `INPUTS_PER_REAL`, D); they fade to 0, those of a missing real, as its noise grows.
        levels: share of the reals below each of K levels, (N, K).
    """

    base: Tensor
    inputs: Tensor
    levels: Tensor


class SubsetDensity(NamedTuple):
    """Log-densities of the visible part of N rows, (N,), nats.

    Args:
        known: of the visible reals and the known labels.
        reals: of the visible reals alone.
    """

    known: Tensor
    reals: Tensor


class LevelEnergy(nn.Module, ABC):
    """f(x, y; noise), the log-density of the visible reals, real i under normal noise s_i, and of the known labels.

    A missing real is at infinite noise. F, the density of the model, is f with every real visible at `min_noise`.

    Args:
        space: at least one continuous and one discrete block.
        min_noise: s of the data themselves, position units, > 0.
        max_noise: the largest finite s, so large that the data look normal under it.
        num_levels: steps of a path from the highest level to the lowest, when sampling.

    Raises:
        ValueError: the space lacks continuous or discrete blocks, or the levels are not in order.
    """

    mean: Tensor
    variance: Tensor
    thresholds: Tensor

    def __init__(self, space: Space, *, min_noise: float, max_noise: float, num_levels: int) -> None:
        super().__init__()
        name = type(self).__name__
        if not space.continuous or not space.discrete:
            raise ValueError(f"{name}: needs continuous and discrete blocks, got {space}")
        if not 0 < min_noise < max_noise < math.inf:
            raise ValueError(
                f"{name}: needs 0 < min_noise < max_noise, got min_noise {min_noise} and max_noise {max_noise}"
            )
        self.space, self.min_noise, self.max_noise = space, min_noise, max_noise
        self.num_levels, self.encoded_blocks = num_levels, space.continuous
        num_reals = sum(space[name].num_variables for name in space.continuous)
        self.register_buffer("mean", torch.zeros(num_reals))
        self.register_buffer("variance", torch.ones(num_reals))
        self.register_buffer("thresholds", _between(min_noise, max_noise / FADED, NUM_LEVELS))

    @abstractmethod
    def density(self, reals: Tensor, noise: Tensor, labels: Position) -> SubsetDensity:
        """f of the visible part of N rows.

        Args:
            reals: shape (N, D); of a missing real any finite number.
            noise: s of each real, shape (N, D), infinite where it is missing; differentiable where finite.
            labels: position of the discrete blocks; NaN is missing.
        """

    @abstractmethod
    def draw_labels(self, position: Position, generator: Generator) -> dict[str, Tensor]:
        """Draws the missing labels of rows with all reals from F, given what is known; the position with all labels."""

    @abstractmethod
    def fit_base(self, position: Position) -> None:
        """Sets the base from rows of data, in place; NaN is missing."""

    def fit_moments(self, position: Position) -> None:
        """Sets the mean and the variance of the normal base from rows of data, in place; NaN is missing."""
        reals = self.reals(position).double()
        self.mean.copy_(reals.nanmean(dim=0).nan_to_num())
        variance = (reals - self.mean).square().nanmean(dim=0).nan_to_num()
        self.variance.copy_(variance + ADDED_VARIANCE * variance.mean())

    def reals(self, position: Position) -> Tensor:
        """All reals side by side, (N, D)."""
        parts = [position[name].reshape(len(position[name]), -1) for name in self.space.continuous]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def blocks(self, reals: Tensor) -> dict[str, Tensor]:
        """The continuous blocks of reals side by side; the inverse of `reals`."""
        sizes = [self.space[name].num_variables for name in self.space.continuous]
        parts = zip(self.space.continuous, reals.split(sizes, dim=1), strict=True)
        return {name: part.reshape(len(part), *self.space[name].variable_shape) for name, part in parts}

    def known_noise(self, reals: Tensor) -> Tensor:
        """Noise levels of data, (N, D): the lowest, or infinite where a real is NaN."""
        return torch.where(reals.isnan(), torch.inf, self.min_noise).to(reals)

    def network_inputs(self, reals: Tensor, noise: Tensor) -> LevelInputs:
        """The normal base, and what the network is given; the arguments are those of `density`."""
        visible = noise.isfinite()
        shown = visible.to(reals.dtype)
        variance = torch.where(visible, noise, 1.0).square()
        centred = (reals - self.mean) * shown
        total = self.variance + variance
        base = -0.5 * ((centred.square() / total + (2 * math.pi * total).log()) * shown).sum(dim=1)
        below = shown[:, :, None] / (1 + variance[:, :, None] / self.thresholds.square())  # (N, D, K), 0 where missing
        weight, of_data = below[:, :, -1], self.variance.mean()
        signal = of_data / (variance + of_data)  # 1: no noise
        scaled = centred * signal.sqrt() / of_data.sqrt()
        inputs = torch.stack([scaled * weight, scaled * signal.sqrt(), signal * weight, weight], dim=1)
        return LevelInputs(base, inputs, below.mean(dim=1))


def _between(low: float, high: float, num: int) -> Tensor:
    """Numbers from low to high with equal ratios, shape (num,)."""
    return torch.linspace(math.log(low), math.log(high), num).exp()
