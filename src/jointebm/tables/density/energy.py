"""The log-density of rows of codes: that of a reference plus a network.

    F(c) = log q(c) + g(c),   g(c) = net(sum_j W_j[c_j])

q is a normalised mixture that can be drawn from given any columns. The first layer is a sum of one vector per column, so
F of all classes of one column shares it: the sum over the other columns is computed once and the vector of each class
added. The last layer starts at zero, so F starts at log q, where log Z is 0.

Training and answers want different references. A mixture of many components is near the data, but it has learned the
training rows themselves, and a network trained on the same rows finds little left to learn. So the network is trained over
a base b, the marginals of the columns, and then F = log b + net is read as log q + g: `Rebased` is that g.

Legend: N rows, V columns, K_j classes of column j, H hidden units, M components of the reference.
"""

from collections.abc import Sequence
from copy import deepcopy
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, silu

from jointebm.randomness.draws import Generator
from jointebm.references.masked_network import MaskedNetwork
from jointebm.references.network_prior import draw_weights
from jointebm.references.product_mixture import ProductMixture, features, linear_by_row

__all__ = ["Rebased", "Residual", "TableEnergy"]


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
        self.offsets = (0, *accumulate(num_classes))
        self.embedding = nn.Parameter(torch.zeros(self.offsets[-1], width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.weights = nn.ParameterList([torch.zeros(width, width) for _ in range(num_layers - 1)])
        self.biases = nn.ParameterList([torch.zeros(width) for _ in range(num_layers - 1)])
        self.readout = nn.Parameter(torch.zeros(width))

    def initialise(self, generator: Generator) -> None:
        """Draws all weights but the last layer's, which stay zero."""
        draw_weights(self, len(self.offsets) - 1, generator)

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
            hidden = hidden + silu(linear_by_row(hidden, weight.to(hidden.dtype), bias.to(hidden.dtype)))
        return (hidden.to(self.readout.dtype) * self.readout).sum(dim=-1)

    def scaled(self, factor: float) -> "Residual":
        """factor * g, a copy."""
        scaled = deepcopy(self)
        scaled.readout.data.mul_(factor)
        return scaled


class Rebased(nn.Module):
    """g(c) = factor * (log b(c) + net(c) - log q(c)): the density log b + net, as a residual of another reference q.

    It has the form of a `Residual`: its first layer holds that of the network, and the components of both mixtures.

    Args:
        net: that was trained over b.
        base: b.
        reference: q.
        factor: 1 for F; less on the way from q to F.

    Example:
        >>> from jointebm.references import ProductMixture
        >>> base, q = ProductMixture((2, 3)), ProductMixture((2, 3), num_components=4)
        >>> rebased = Rebased(Residual((2, 3), width=8, num_layers=2), base, q)
        >>> bool(rebased(torch.tensor([[0, 2]])).abs() < 1e-6)  # both are uniform
        True
    """

    def __init__(self, net: Residual, base: ProductMixture, reference: ProductMixture, *, factor: float = 1.0) -> None:
        super().__init__()
        self.net, self.base, self.factor = net, base, factor
        self._reference = [reference]  # in a list: it belongs to the energy

    def forward(self, codes: Tensor) -> Tensor:
        """g of complete rows, shape (N,), nats."""
        return self.head(self.summed(codes))

    def summed(self, codes: Tensor) -> Tensor:
        """First layer of the network and components of b and q side by side, shape (N, H + M_b + M_q)."""
        return torch.cat(
            [self.net.summed(codes), self.base.components(codes), self._reference[0].components(codes)], dim=1
        )

    def of_column(self, column: int) -> Tensor:
        """What each class of a column adds to `summed`, shape (K_j, H + M_b + M_q)."""
        parts = [part.of_column(column) for part in (self.net, self.base, self._reference[0])]
        return torch.cat(parts, dim=1)

    def head(self, summed: Tensor) -> Tensor:
        """g from `summed`, shape (...)."""
        sizes = [len(self.net.bias), len(self.base.log_weights), len(self._reference[0].log_weights)]
        net, base, reference = summed.split(sizes, dim=-1)
        return self.factor * (self.net.head(net) + base.logsumexp(dim=-1) - reference.logsumexp(dim=-1))

    def scaled(self, factor: float) -> "Rebased":
        """factor * g, with the same parameters."""
        return Rebased(self.net, self.base, self._reference[0], factor=factor * self.factor)


class TableEnergy(nn.Module):
    """F(c) = log q(c) + g(c) over rows of V codes.

    Args:
        reference: q, which starts chains and proposes moves; not trained further.
        residual: g.
        network: draws whole rows, and the missing entries of rows, in place of the reference; no part of F. None: the
            reference draws them.

    Example:
        >>> energy = TableEnergy(ProductMixture((2, 3)), Residual((2, 3), width=8, num_layers=2))
        >>> energy(torch.tensor([[0, 2]])).exp()
        tensor([0.1667], grad_fn=<ExpBackward0>)
        >>> energy.of_classes(torch.tensor([[0, 2]]), 1).exp()
        tensor([[0.1667, 0.1667, 0.1667]], grad_fn=<ExpBackward0>)
    """

    def __init__(
        self, reference: ProductMixture, residual: Residual | Rebased, network: MaskedNetwork | None = None
    ) -> None:
        super().__init__()
        self.reference, self.residual, self.network = reference, residual, network

    @property
    def proposal(self) -> ProductMixture | MaskedNetwork:
        """What draws rows: the network, or the reference where F has no network."""
        return self.reference if self.network is None else self.network

    @property
    def num_classes(self) -> tuple[int, ...]:
        """K_j of each column."""
        return self.reference.num_classes

    def proposed_classes(self, codes: Tensor, components: Tensor, column: int) -> Tensor:
        """log r(c_j = k | all other columns), up to a constant of the row, r the proposal, shape (N, K_j).

        Args:
            codes: shape (N, V); the column's own code is ignored.
            components: of the reference and the other columns, shape (N, M).
            column: j.
        """
        if self.network is None:
            return self.reference.of_classes(components, column)
        others = codes.clone()
        others[:, column] = -1
        return self.network.conditional(others, column)

    def forward(self, codes: Tensor) -> Tensor:
        """F of complete rows, shape (N,), nats."""
        return self.reference(codes) + self.residual(codes)

    def of_classes(self, codes: Tensor, column: int) -> Tensor:
        """F with each class in turn in one column, shape (N, K_j); the column's own code is ignored."""
        others = codes.clone()
        others[:, column] = -1
        summed = self.residual.summed(others)[:, None] + self.residual.of_column(column)  # (N, K_j, H)
        return self.reference.of_classes(self.reference.components(others), column) + self.residual.head(summed)
