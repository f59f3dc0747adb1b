"""One function for every subset: the log-density of what is visible of a row, at any noise level of each real.

Legend: N rows, D reals of a row, S configurations of all labels, K numbers that sum a row's noise levels up.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from jointebm.energies.level_energy import LevelEnergy, SubsetDensity
from jointebm.randomness.draws import Generator, choose
from jointebm.spaces.blocks import Binary, Categorical
from jointebm.spaces.space import Position, Space

__all__ = ["AnySubsetEnergy"]


class AnySubsetEnergy(LevelEnergy):
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
        >>> from jointebm.energies.level_energy import NUM_LEVELS
        >>> space = Space(x=Continuous(2), y=Categorical(3))
        >>> energy = AnySubsetEnergy(space, LevelMLP(2, NUM_LEVELS, (16,), 3), min_noise=0.1, max_noise=10.0)
        >>> x, noise = torch.zeros(1, 2), torch.tensor([[0.1, torch.inf]])  # the second real is missing
        >>> energy.table(x, noise).exp().sum().detach()  # before training: N(0; 0, 1 + .1^2)
        tensor(0.3970)
    """

    log_prior: Tensor

    def __init__(
        self, space: Space, net: nn.Module, *, min_noise: float, max_noise: float, num_levels: int = 200
    ) -> None:
        super().__init__(space, min_noise=min_noise, max_noise=max_noise, num_levels=num_levels)
        self.net = net
        num = space.num_configurations
        self.register_buffer("log_prior", torch.full((num,), -math.log(num)))

    def fit_base(self, position: Position) -> None:
        """Sets the normal base and the class frequencies from rows of data, in place; NaN is missing.

        A configuration of labels that the rows lack counts as half a row.
        """
        self.fit_moments(position)
        table = self.label_table(position)
        shares = table / table.sum(dim=1, keepdim=True)  # a missing label is each of its classes in part
        counts = shares.double().sum(dim=0).clamp(min=0.5)
        self.log_prior.copy_((counts / counts.sum()).log())

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
        base, inputs, levels = self.network_inputs(reals, noise)
        nothing = torch.zeros_like(inputs[:1]), torch.zeros_like(levels[:1])
        outputs = self.net(torch.cat([inputs, nothing[0]]), torch.cat([levels, nothing[1]]))
        of_nothing = (self.log_prior + outputs[-1]).logsumexp(dim=0)  # so that f of no real and no label is 0
        return base[:, None] + self.log_prior + outputs[:-1] - of_nothing

    def density(self, reals: Tensor, noise: Tensor, labels: Position) -> SubsetDensity:
        """f of the visible part of N rows, missing labels summed out; see `LevelEnergy`."""
        table = self.table(reals, noise)
        return SubsetDensity((table + self.label_table(labels).log()).logsumexp(dim=1), table.logsumexp(dim=1))

    def draw_labels(self, position: Position, generator: Generator) -> dict[str, Tensor]:
        """Draws the missing labels of rows with all reals, exactly from F given the known ones."""
        table = self.encode(position) + self.label_table(position).log()
        configurations = self.space.configurations(dtype=table.dtype, device=table.device)
        index = choose(table, generator)
        drawn = {
            name: torch.where(position[name].isnan(), of[index], position[name]) for name, of in configurations.items()
        }
        return {**position, **drawn}

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


def _one_hot(space: Space, name: str, position: Tensor) -> list[Tensor]:
    """Each variable of a discrete block, (N, K)."""
    block, flat = space[name], position.reshape(len(position), -1)
    if isinstance(block, Binary):
        return [torch.stack([1 - of, of], dim=1) for of in flat.T]
    return list(flat.split(list(cast(Categorical, block).num_classes_per_variable), dim=1))
