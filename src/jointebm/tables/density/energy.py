"""The log-density of rows of codes: that of a reference plus a network.

    F(c) = log q(c) + g(c),   g(c) = net(sum_j W_j[c_j]) + sum_(i, j) T_ij[c_i, c_j]

q is a normalised mixture that can be drawn from given any columns. The first layer is a sum of one vector per column, so
F of all classes of one column shares it: the sum over the other columns is computed once and the vector of each class
added. The last layer starts at zero. Some pairs of columns have a table of their own, which is not trained (see
`training.pair_tables`): a column that another one determines needs steep values, that a network learns slowly where rows
are few. A table is part of the same sum: c_i adds its one-hot vector, c_j its column of T, and T is their inner product.

Training and answers want different references. A mixture of many components is near the data, but it has learned the
training rows themselves, and a network trained on the same rows finds little left to learn. So the network is trained over
a base b, the marginals of the columns, and then F = log b + net is read as log q + g: `Rebased` is that g.

Legend: N rows, V columns, K_j classes of column j, H hidden units, R rows of tables, S = H + 2 R, M components of a mixture.
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
    """g(c): a network over the sum of one learned vector per code, with skip connections, and tables; zero when fresh.

    Args:
        num_classes: K_j of each column.
        width: H.
        num_layers: hidden layers of H units.
        num_table_rows: rows of all tables T, R.

    Attributes:
        tables: what each code adds to the one-hot vectors and to the columns of T, shape (sum K_j, 2 R).

    Example:
        >>> residual = Residual((2, 3), width=8, num_layers=2)
        >>> residual(torch.tensor([[0, 2]]))
        tensor([0.], grad_fn=<AddBackward0>)
    """

    tables: Tensor

    def __init__(self, num_classes: Sequence[int], *, width: int, num_layers: int, num_table_rows: int = 0) -> None:
        super().__init__()
        self.offsets = (0, *accumulate(num_classes))
        self.embedding = nn.Parameter(torch.zeros(self.offsets[-1], width))
        self.register_buffer("tables", torch.zeros(self.offsets[-1], 2 * num_table_rows))
        self.bias = nn.Parameter(torch.zeros(width))
        self.weights = nn.ParameterList([torch.zeros(width, width) for _ in range(num_layers - 1)])
        self.biases = nn.ParameterList([torch.zeros(width) for _ in range(num_layers - 1)])
        self.readout = nn.Parameter(torch.zeros(width))

    @property
    def num_summed(self) -> int:
        """S."""
        return len(self.bias) + self.tables.shape[1]

    @property
    def num_table_rows(self) -> int:
        """R."""
        return self.tables.shape[1] // 2

    def initialise(self, generator: Generator) -> None:
        """Draws all weights but the last layer's, which stay zero."""
        draw_weights(self, len(self.offsets) - 1, generator)

    def forward(self, codes: Tensor) -> Tensor:
        """g of complete rows, shape (N,), nats."""
        return self.head(self.summed(codes))

    def summed(self, codes: Tensor) -> Tensor:
        """The first layer before its activation, and sides of tables, shape (N, S); a missing code (-1) adds nothing."""
        vectors = torch.cat([self.embedding, self.tables], dim=1)
        return self._sum_of(vectors, codes) + torch.cat([self.bias, self.tables.new_zeros(self.tables.shape[1])])

    def of_column(self, column: int) -> Tensor:
        """What each class of one column adds to `summed`, shape (K_j, S)."""
        classes = slice(self.offsets[column], self.offsets[column + 1])
        return torch.cat([self.embedding[classes], self.tables[classes]], dim=1)

    def head(self, summed: Tensor) -> Tensor:
        """g from `summed`, shape (..., S) to (...); hidden layers have its dtype, the last one the parameters'."""
        first, of_tables = summed.split([len(self.bias), self.tables.shape[1]], dim=-1)
        hidden = silu(first)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = hidden + silu(linear_by_row(hidden, weight.to(hidden.dtype), bias.to(hidden.dtype)))
        return (hidden.to(self.readout.dtype) * self.readout).sum(dim=-1) + self._products(of_tables)

    def of_tables(self, codes: Tensor) -> Tensor:
        """The sum of the tables alone, shape (N,)."""
        if not self.num_table_rows:
            return self.readout.new_zeros(len(codes))
        return self._products(self._sum_of(self.tables, codes))

    def scaled(self, factor: float) -> "Residual":
        """factor * g, a copy."""
        scaled = deepcopy(self)
        scaled.readout.data.mul_(factor)
        scaled.tables.chunk(2, dim=1)[1].mul_(factor)
        return scaled

    def _sum_of(self, vectors: Tensor, codes: Tensor) -> Tensor:
        padded = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])
        return embedding_bag(features(codes, self.offsets), padded, mode="sum")

    def _products(self, of_tables: Tensor) -> Tensor:
        left, right = of_tables.to(self.readout.dtype).chunk(2, dim=-1)
        return (left * right).sum(dim=-1)


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
        """First layer of the network and components of b and q side by side, shape (N, S + M_b + M_q)."""
        return torch.cat(
            [self.net.summed(codes), self.base.components(codes), self._reference[0].components(codes)], dim=1
        )

    def of_column(self, column: int) -> Tensor:
        """What each class of a column adds to `summed`, shape (K_j, S + M_b + M_q)."""
        parts = [part.of_column(column) for part in (self.net, self.base, self._reference[0])]
        return torch.cat(parts, dim=1)

    def head(self, summed: Tensor) -> Tensor:
        """g from `summed`, shape (...)."""
        sizes = [self.net.num_summed, len(self.base.log_weights), len(self._reference[0].log_weights)]
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

    def unknown_rows(self, num: int) -> Tensor:
        """Rows of which nothing is known, for what draws, shape (num, V)."""
        return torch.full((num, len(self.num_classes)), -1, device=self.reference.log_weights.device)

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
        if isinstance(self.residual, Rebased) and self.residual.factor == 1:  # log q would be added and taken away
            return self.residual.base(codes) + self.residual.net(codes)
        return self.reference(codes) + self.residual(codes)

    def of_classes(self, codes: Tensor, column: int) -> Tensor:
        """F with each class in turn in one column, shape (N, K_j); the column's own code is ignored."""
        others = codes.clone()
        others[:, column] = -1
        summed = self.residual.summed(others)[:, None] + self.residual.of_column(column)  # (N, K_j, H)
        return self.reference.of_classes(self.reference.components(others), column) + self.residual.head(summed)
