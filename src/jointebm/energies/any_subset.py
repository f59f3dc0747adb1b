"""One function for every subset: the log-density of what is visible of a row, at any noise level of each real.

Legend: N rows, D reals of a row, S configurations of all labels, K numbers that sum a row's noise levels up.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from jointebm.spaces.blocks import Binary, Categorical
from jointebm.spaces.space import Position, Space

__all__ = ["NUM_LEVELS", "AnySubsetEnergy"]

NUM_LEVELS = 3  # K: shares of reals that are below so many noise levels, from the lowest to the highest
FADED = 4.0  # the highest level over the one at which a real has half of its weight in the network
ADDED_VARIANCE = 1e-3  # of a real, relative to the mean variance, so that constant reals have a base


class AnySubsetEnergy(nn.Module):
    """f(x, y; noise) = sum over visible i of log N(x_i; m_i, v_i + s_i^2) + log p(y) + net_y(x, s).

    f is trained to be the log-density of the visible reals, real i under normal noise of standard deviation s_i on top of
    the data, and of the labels y. A missing real is at infinite noise: it neither enters the sum nor the network, whose
    input tends to that of a missing real as s_i grows. So all marginals of one joint density, and all its noisy
    versions, are one function. The last layer gives f for every configuration of the labels at once, so one pass answers
    any question about labels; missing labels are summed out.

    F, the density of the model, is f with every real visible at `min_noise`. Called on a position, the module is F.

    Not guaranteed: nothing forces the marginals of F to equal f of its parts, or f to be normalised; training on
    `Denoising` brings both about as far as the network allows. `inference.noise_path` measures the second.

    Args:
        space: at least one continuous and one discrete block.
        net: module from inputs (N, `INPUTS_PER_REAL`, D) and levels (N, `NUM_LEVELS`) to (N, S).
        min_noise: s of the data themselves, position units, > 0.
        max_noise: the largest finite s, so large that the data look normal under it.
        num_levels: steps of a path from the highest level to the lowest, when sampling.

    Raises:
        ValueError: the space lacks continuous or discrete blocks, or the levels are not in order.

    References:
        Guth, Kadkhodaie & Simoncelli 2025, arXiv 2506.05310 (the noise level as an argument of a normalised
        log-density). Kelly & Grathwohl 2021, Sec. 3 (one joint density of all blocks).

    Example:
        >>> from jointebm import Categorical, Continuous
        >>> from jointebm.energies import LevelMLP
        >>> space = Space(x=Continuous(2), y=Categorical(3))
        >>> energy = AnySubsetEnergy(space, LevelMLP(2, NUM_LEVELS, (16,), 3), min_noise=0.1, max_noise=10.0)
        >>> x, noise = torch.zeros(1, 2), torch.tensor([[0.1, torch.inf]])  # the second real is missing
        >>> energy.table(x, noise).exp().sum().detach()  # before training: N(0; 0, 1 + .1^2)
        tensor(0.3970)
    """

    mean: Tensor
    variance: Tensor
    log_prior: Tensor
    thresholds: Tensor

    def __init__(
        self, space: Space, net: nn.Module, *, min_noise: float, max_noise: float, num_levels: int = 200
    ) -> None:
        super().__init__()
        if not space.continuous or not space.discrete:
            raise ValueError(f"AnySubsetEnergy: needs continuous and discrete blocks, got {space}")
        if not 0 < min_noise < max_noise < math.inf:
            raise ValueError(
                f"AnySubsetEnergy: needs 0 < min_noise < max_noise, got min_noise {min_noise} and max_noise {max_noise}"
            )
        self.space, self.net, self.min_noise, self.max_noise = space, net, min_noise, max_noise
        self.num_levels, self.encoded_blocks = num_levels, space.continuous
        num_reals = sum(space[name].num_variables for name in space.continuous)
        self.register_buffer("mean", torch.zeros(num_reals))
        self.register_buffer("variance", torch.ones(num_reals))
        num = space.num_configurations
        self.register_buffer("log_prior", torch.full((num,), -math.log(num)))
        self.register_buffer("thresholds", _between(min_noise, max_noise / FADED, NUM_LEVELS))

    def fit_base(self, position: Position) -> None:
        """Sets the normal base and the class frequencies from rows of data, in place; NaN is missing.

        A configuration of labels that the rows lack counts as half a row.
        """
        reals = self.reals(position).double()
        self.mean.copy_(reals.nanmean(dim=0).nan_to_num())
        variance = (reals - self.mean).square().nanmean(dim=0).nan_to_num()
        self.variance.copy_(variance + ADDED_VARIANCE * variance.mean())
        table = self.label_table(position)
        shares = table / table.sum(dim=1, keepdim=True)  # a missing label is each of its classes in part
        counts = shares.double().sum(dim=0).clamp(min=0.5)
        self.log_prior.copy_((counts / counts.sum()).log())

    def reals(self, position: Position) -> Tensor:
        """All reals side by side, (N, D)."""
        parts = [position[name].reshape(len(position[name]), -1) for name in self.space.continuous]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def blocks(self, reals: Tensor) -> dict[str, Tensor]:
        """The continuous blocks of reals side by side; the inverse of `reals`."""
        sizes = [self.space[name].num_variables for name in self.space.continuous]
        parts = zip(self.space.continuous, reals.split(sizes, dim=1), strict=True)
        return {name: part.reshape(len(part), *self.space[name].variable_shape) for name, part in parts}

    def label_table(self, position: Position) -> Tensor:
        """Which configurations agree with the labels, (N, S): 1 or 0, a product over labels; a missing one agrees with all.

        It is differentiable: between labels it is the multilinear interpolation.
        """
        table: Tensor | None = None
        for name in self.space.discrete:
            for one_hot in _one_hot(self.space, name, position[name]):  # (N, K)
                weights = torch.where(one_hot.isnan(), 1.0, one_hot)
                table = weights if table is None else (table[:, :, None] * weights[:, None, :]).flatten(1)
        assert table is not None
        return table

    def table(self, reals: Tensor, noise: Tensor) -> Tensor:
        """f at every configuration of the labels, shape (N, S), nats.

        Args:
            reals: shape (N, D); of a missing real any finite number.
            noise: s of each real, shape (N, D), infinite where it is missing; differentiable where finite.
        """
        visible = noise.isfinite()
        shown = visible.to(reals.dtype)
        variance = torch.where(visible, noise, 1.0).square()
        centred = (reals - self.mean) * shown
        total = self.variance + variance
        base = -0.5 * ((centred.square() / total + (2 * math.pi * total).log()) * shown).sum(dim=1)
        below = shown[:, :, None] / (1 + variance[:, :, None] / self.thresholds.square())  # (N, D, K), 0 where missing
        inputs, levels = self._inputs(centred, variance, below[:, :, -1]), below.mean(dim=1)
        nothing = torch.zeros_like(inputs[:1]), torch.zeros_like(levels[:1])
        outputs = self.net(torch.cat([inputs, nothing[0]]), torch.cat([levels, nothing[1]]))
        of_nothing = (self.log_prior + outputs[-1]).logsumexp(dim=0)  # so that f of no real and no label is 0
        return base[:, None] + self.log_prior + outputs[:-1] - of_nothing

    def _inputs(self, centred: Tensor, variance: Tensor, weight: Tensor) -> Tensor:
        """Inputs of the network, (N, `INPUTS_PER_REAL`, D): they fade to 0 as the noise of a real grows."""
        of_data = self.variance.mean()
        signal = of_data / (variance + of_data)  # 1: no noise
        scaled = centred * signal.sqrt() / of_data.sqrt()
        return torch.stack([scaled * weight, scaled * signal.sqrt(), signal * weight, weight], dim=1)

    def encode(self, position: Position) -> Tensor:
        """F at every configuration of the labels, (N, S)."""
        reals = self.reals(position)
        return self.table(reals, torch.full_like(reals, self.min_noise))

    def head(self, features: Tensor, position: Position) -> Tensor:
        """F at the labels of a position, shape (N,), nats."""
        return (features * self.label_table(position)).sum(dim=1)

    def forward(self, position: Position) -> Tensor:
        """F at each row of a position, shape (N,), nats."""
        return self.head(self.encode(position), position)


def _between(low: float, high: float, num: int) -> Tensor:
    """Numbers from low to high with equal ratios, shape (num,)."""
    return torch.linspace(math.log(low), math.log(high), num).exp()


def _one_hot(space: Space, name: str, position: Tensor) -> list[Tensor]:
    """Each variable of a discrete block, (N, K)."""
    block, flat = space[name], position.reshape(len(position), -1)
    if isinstance(block, Binary):
        return [torch.stack([1 - of, of], dim=1) for of in flat.T]
    return list(flat.split(list(cast(Categorical, block).num_classes_per_variable), dim=1))
