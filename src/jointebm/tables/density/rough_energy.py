"""F and the proposal with products of matrices in bfloat16: what draws, and what most draws are weighed with.

Such a product costs about a quarter of one in float32, and errs by about .03 nats. So `rough` F is a density of its own near
exp F, that answers start from; what they say about exp F is corrected by F itself at some draws. The first layer, skip
connections and the last layer stay in float32. Energies in float64 stay what they are.

The first layer is a sum over columns. What the known entries of a row add to it is computed once (`KnownRows`); a completed
row then costs one vector for each entry that was missing, however many columns there are.

Legend: N rows, V columns, K_j classes of column j, H hidden units, U completed rows, C missing entries of a row at most.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, linear, silu

from jointebm.references.masked_network import MaskedNetwork
from jointebm.references.product_mixture import ProductMixture
from jointebm.tables.density.energy import Rebased, Residual, TableEnergy

__all__ = ["KnownRows", "RoughEnergy", "rough_precision"]


def rough_precision(parameters: Tensor) -> torch.dtype:
    """bfloat16 for parameters in float32 where products of bfloat16 are quick, else the dtype of the parameters."""
    is_quick = parameters.is_cuda or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.bfloat16 if parameters.dtype == torch.float32 and is_quick else parameters.dtype


class KnownRows(NamedTuple):
    """What the known entries of N rows add to first layers.

    Args:
        columns: that are missing, shape (N, C); rows that lack fewer have known ones at the end, which count no more.
        is_missing: which of these are missing, bool (N, C).
        net: sums of the network of F, shape (N, H).
        base: sums of the components of its base, shape (N, M).
        tables: sums of the vectors of its tables of pairs, shape (N, T).
        network: sums of the network of the proposal, shape (N, H'), or None.
        origin: the row that each of U completed rows comes from, shape (U,), or None where these are the rows themselves.
    """

    columns: Tensor
    is_missing: Tensor
    net: Tensor
    base: Tensor
    tables: Tensor
    network: Tensor | None
    origin: Tensor | None = None

    def at(self, origin: Tensor) -> "KnownRows":
        """For completed rows that come from these."""
        return self._replace(origin=origin)

    def completed(self, of_known: Tensor, codes: Tensor, sums: "_Sums") -> Tensor:
        """Sums over all entries of completed rows (U, V), shape (U, H): `of_known` is one of the fields."""
        columns, is_missing = self.columns, self.is_missing
        if self.origin is not None:
            columns, is_missing, of_known = columns[self.origin], is_missing[self.origin], of_known[self.origin]
        asked = codes.gather(1, columns)
        places = torch.where(is_missing & (asked >= 0), asked + sums.first[columns], sums.nothing)
        return of_known + sums.of_places(places)


class _Sums:
    """Sums over columns of one vector per code, and a constant; a missing code adds nothing.

    Args:
        vectors: of the classes of all columns, shape (F, H).
        constant: shape (H,).
        offsets: first class of each column, and F.
    """

    def __init__(self, vectors: Tensor, constant: Tensor, offsets: Sequence[int]) -> None:
        self.vectors, self.constant = torch.cat([vectors, vectors.new_zeros(1, len(constant))]), constant
        self.first, self.nothing = torch.tensor(offsets[:-1], device=vectors.device), offsets[-1]

    def __call__(self, codes: Tensor) -> Tensor:
        """Of rows (N, V), shape (N, H)."""
        places = torch.where(codes < 0, self.nothing, codes + self.first)
        return self.of_places(places) + self.constant

    def of_places(self, places: Tensor) -> Tensor:
        """Sums of vectors by their numbers (N, C), shape (N, H); the last one is zero."""
        if not len(self.constant):  # `embedding_bag` fails on several threads
            return self.vectors.new_zeros(len(places), 0)
        return embedding_bag(places, self.vectors, mode="sum")


class _Layers:
    """The layers of a network over sums of vectors, as both kinds of networks have them.

    Args:
        network: whose parameters these are.
        offsets: first class of each column, and their number.
        precision: dtype of the products.
    """

    def __init__(self, network: Residual | MaskedNetwork, offsets: tuple[int, ...], precision: torch.dtype) -> None:
        self.sums = _Sums(network.embedding.detach(), network.bias.detach(), offsets)
        self._layers = [
            (weight.to(precision), bias.to(precision))
            for weight, bias in zip(network.weights, network.biases, strict=True)
        ]
        self.precision = precision

    def hidden(self, summed: Tensor) -> Tensor:
        """The last hidden layer from the first one before its activation, shape (N, H), N a multiple of 16."""
        hidden = silu(summed)
        for weight, bias in self._layers:
            hidden = hidden + silu(linear(hidden.to(self.precision), weight, bias)).to(hidden.dtype)
        return hidden


class RoughEnergy:
    """Rough F and the rough proposal of an energy. A row has the same bits in every batch of a multiple of 16 rows.

    Args:
        energy: F, whose parameters are copied.

    Attributes:
        reference: q, as of the energy.
        num_classes: K_j of each column.

    Example:
        >>> energy = TableEnergy(ProductMixture((2, 3)), Residual((2, 3), width=32, num_layers=2))
        >>> rough = RoughEnergy(energy)
        >>> rough.log_density(torch.zeros(16, 2, dtype=torch.int64))[0].exp()
        tensor(0.1667)
    """

    @torch.no_grad()
    def __init__(self, energy: TableEnergy) -> None:
        self.reference, self.num_classes = energy.reference, energy.num_classes
        residual, self._base = energy.residual, energy.reference
        if isinstance(residual, Rebased):
            if residual.factor != 1:
                raise ValueError(f"RoughEnergy: got {residual.factor} F, on the way from q to F; it is for F itself")
            self._base, residual = residual.base, residual.net
        precision = rough_precision(energy.reference.log_weights)
        self._readout, tables = residual.readout, residual.tables.detach()
        self._of_tables = _Sums(tables, tables.new_zeros(tables.shape[1]), residual.offsets)
        self._net = _Layers(residual, residual.offsets, precision)
        self._of_base = _Sums(self._base.log_probs, self._base.log_weights, self._base.offsets)
        self._is_base = not bool(residual.readout.any() or tables.any())
        self._network, self._of_network = energy.network, None
        if energy.network is not None:
            self._of_network = _Layers(energy.network, energy.network.mixture.offsets, precision)

    @torch.no_grad()
    def known(self, codes: Tensor) -> KnownRows:
        """What the known entries of rows (N, V) add to first layers; -1 is missing."""
        missing = codes < 0
        most = max(1, int(missing.sum(dim=1).max())) if len(codes) else 1
        columns = missing.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        network = None if self._of_network is None else self._of_network.sums(codes)
        sums = self._net.sums(codes), self._of_base(codes), self._of_tables(codes)
        return KnownRows(columns, missing.gather(1, columns), *sums, network)

    @torch.no_grad()
    def log_density(self, codes: Tensor, known: KnownRows | None = None) -> Tensor:
        """Rough F of complete rows, shape (N,), nats; `known` of the rows that they complete, or None."""
        if known is None:
            net, base, tables = self._net.sums(codes), self._of_base(codes), self._of_tables(codes)
        else:
            net = known.completed(known.net, codes, self._net.sums)
            base = known.completed(known.base, codes, self._of_base)
            tables = known.completed(known.tables, codes, self._of_tables)
        of_base = base.logsumexp(dim=1) if base.shape[1] > 1 else base[:, 0]
        if self._is_base:
            return of_base
        left, right = tables.chunk(2, dim=1)
        return of_base + (self._net.hidden(net) * self._readout).sum(dim=1) + (left * right).sum(dim=1)

    @torch.no_grad()
    def conditional(self, codes: Tensor, column: int, known: KnownRows | None = None) -> Tensor | None:
        """log r(c_j = k | visible) of the rough network of the proposal, shape (N, K_j), nats; None without a network."""
        if self._network is None or self._of_network is None:
            return None
        mixture, layers = self._network.mixture, self._of_network
        if known is None or known.network is None:
            summed = layers.sums(codes)
        else:
            summed = known.completed(known.network, codes, layers.sums)
        classes = slice(mixture.offsets[column], mixture.offsets[column + 1])
        readout, bias = (
            each[classes].to(layers.precision) for each in (self._network.readout, self._network.readout_bias)
        )
        of_net = linear(layers.hidden(summed).to(layers.precision), readout, bias).to(self._readout.dtype)
        return (_known(mixture, codes, column) + of_net).log_softmax(dim=1)


def _known(mixture: ProductMixture, codes: Tensor, column: int) -> Tensor:
    """log p(c_j = k | visible) of the mixture, up to a constant of the row, shape (N or 1, K_j)."""
    if len(mixture.log_weights) == 1:  # independent columns
        return mixture.of_column(column).T
    return mixture.of_classes(mixture.components(codes), column)
