"""The log-density of rows of codes: a simple base plus a network.

    f(c) = log p_base(c) + g(c),   g(c) = net(sum_j W_j[c_j])

The first layer is a sum of one vector per column, so f of all classes of one column shares it: the sum over the other
columns is computed once and the vector of each class added. The last layer starts at zero, so f starts at the base.

Legend: N rows, V columns, K_j classes of column j, F = sum of K_j, H hidden units, M components of the base.
"""

import math
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, linear, silu

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator
from jointebm.tables.density.mixture import Mixture, aligned, features

__all__ = ["Residual", "TableEnergy"]


class Residual(nn.Module):
    """g(c): a network over the sum of one learned vector per code, with skip connections; zero when fresh.

    Args:
        num_classes: K_j of each column.
        width: H.
        num_layers: hidden layers of H units.

    Example:
        >>> residual = Residual((2, 3), width=8, num_layers=2)
        >>> residual(torch.tensor([[0, 2]]))
        tensor([0.], grad_fn=<SumBackward1>)
    """

    def __init__(self, num_classes: Sequence[int], *, width: int, num_layers: int) -> None:
        super().__init__()
        self.offsets = Mixture(num_classes).offsets
        self.embedding = nn.Parameter(torch.zeros(self.offsets[-1], width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.weights = nn.ParameterList([torch.zeros(width, width) for _ in range(num_layers - 1)])
        self.biases = nn.ParameterList([torch.zeros(width) for _ in range(num_layers - 1)])
        self.readout = nn.Parameter(torch.zeros(width))

    @torch.no_grad()
    def initialise(self, generator: Generator) -> None:
        """Draws all weights but the last layer's, which stay zero."""
        num_columns, width = len(self.offsets) - 1, len(self.bias)
        self.embedding.copy_(draws.normal(self.embedding, generator) / math.sqrt(num_columns))
        self.bias.copy_(draws.normal(self.bias, generator) / 2)
        for weight in self.weights:
            weight.copy_(draws.normal(weight, generator) * math.sqrt(2 / width))

    def forward(self, codes: Tensor) -> Tensor:
        """g of complete rows, shape (N,), nats."""
        return self.head(self.summed(codes))

    def summed(self, codes: Tensor) -> Tensor:
        """The first layer before its activation, shape (N, H); a missing code (-1) adds nothing."""
        padded = torch.cat([self.embedding, self.embedding.new_zeros(1, len(self.bias))])
        return embedding_bag(features(codes, self.offsets), padded, mode="sum") + self.bias

    def of_column(self, column: int) -> Tensor:
        """The vectors of the classes of one column in the first layer, shape (K_j, H)."""
        return self.embedding[self.offsets[column] : self.offsets[column + 1]]

    def head(self, summed: Tensor) -> Tensor:
        """g from the first layer, shape (..., H) to (...); hidden layers have its dtype, the last one the parameters'."""
        hidden = silu(summed)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = hidden + silu(linear(*aligned(hidden, weight.to(hidden.dtype)), bias.to(hidden.dtype)))
        return (hidden.to(self.readout.dtype) * self.readout).sum(dim=-1)


class TableEnergy(nn.Module):
    """f(c) = log p_base(c) + g(c) over rows of V codes.

    The reference is no part of f: chains start and propose from it. It may fit the training rows more closely than the base
    should; a base that fits them too closely leaves the network nothing to learn.

    Args:
        base: start of f; not trained further.
        residual: the network.
        reference: a normalised density near exp f; None is a copy of the base.

    Example:
        >>> energy = TableEnergy(Mixture((2, 3)), Residual((2, 3), width=8, num_layers=2))
        >>> energy(torch.tensor([[0, 2]])).exp()
        tensor([0.1667], grad_fn=<ExpBackward0>)
        >>> energy.of_classes(torch.tensor([[0, 2]]), 1).exp()
        tensor([[0.1667, 0.1667, 0.1667]], grad_fn=<ExpBackward0>)
    """

    def __init__(self, base: Mixture, residual: Residual, reference: Mixture | None = None) -> None:
        super().__init__()
        self.base, self.residual = base, residual
        # A copy: safetensors refuses a state that holds a tensor twice.
        self.reference = deepcopy(base) if reference is None or reference is base else reference

    @property
    def num_classes(self) -> tuple[int, ...]:
        """K_j of each column."""
        return self.base.num_classes

    def forward(self, codes: Tensor) -> Tensor:
        """f of complete rows, shape (N,), nats."""
        return self.base(codes) + self.residual(codes)

    def of_classes(self, codes: Tensor, column: int) -> Tensor:
        """f with each class in turn in one column, shape (N, K_j); the column's own code is ignored."""
        others = codes.clone()
        others[:, column] = -1
        summed = self.residual.summed(others)[:, None] + self.residual.of_column(column)  # (N, K_j, H)
        return self.base.of_classes(self.base.components(others), column) + self.residual.head(summed)
