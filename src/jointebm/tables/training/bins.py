"""Bins of codes: over one, the reference of a table is constant but for the frequencies of the codes.

    q(c) = sum_m pi_m prod_j theta_jm(bin of c_j) share(c_j in its bin)

A component needs some rows for each of its parameters, so it holds bins; the network tells codes within a bin apart.

Legend: N rows, V columns, K_j codes of column j, B_j bins of it, F = sum of K_j, M components.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jointebm.references import ProductMixture
from jointebm.tables.training.smoothing import rare_levels

__all__ = ["Bins", "ColumnBins", "ColumnSpread", "checked_bins", "checked_spreads"]

ColumnBins = Sequence[int] | None
ColumnSpread = Tensor | np.ndarray | None
HALF_ROW = 0.5  # that each code counts as seen more often


def checked_bins(bins: Sequence[ColumnBins] | None, num_classes: Sequence[int]) -> tuple[tuple[int, ...] | None, ...]:
    """Bins of each column as tuples; without any, no column has an order.

    Raises:
        ValueError: not one entry per column, or a column's bins are not one for each code that ascend from 0 by at most 1.

    Example:
        >>> checked_bins(None, (2, 3))
        (None, None)
    """
    bins = _one_each("bins", bins, num_classes)
    for column, (of_column, count) in enumerate(zip(bins, num_classes, strict=True)):
        if of_column is not None:
            steps = {after - before for before, after in zip((-1, *of_column), of_column, strict=False)}
            if len(of_column) != count or of_column[0] != 0 or not steps <= {0, 1}:
                raise ValueError(
                    f"bins: those of column {column} are {list(of_column)}; expected one for each of its {count} codes, "
                    "from 0 on, each that of the code before or the next one"
                )
    return tuple(None if of_column is None else tuple(of_column) for of_column in bins)


def checked_spreads(spreads: Sequence[ColumnSpread] | None, num_classes: Sequence[int]) -> tuple[Tensor | None, ...]:
    """Spreads of each column as tensors, float64; without any, every row counts for its own code.

    Raises:
        ValueError: not one entry per column, or one that is not a square of shares whose columns sum to one.

    Example:
        >>> checked_spreads(None, (2, 3))
        (None, None)
    """
    checked = [
        None if each is None else torch.as_tensor(each, dtype=torch.float64)
        for each in _one_each("spreads", spreads, num_classes)
    ]
    for column, (each, count) in enumerate(zip(checked, num_classes, strict=True)):
        if each is not None and not (
            each.shape == (count, count)
            and bool((each >= 0).all())
            and bool(((each.sum(dim=0) - 1).abs() < 1e-6).all())
        ):
            raise ValueError(
                f"spreads: that of column {column} is of shape {tuple(each.shape)}; expected shares from 0 to 1 of shape "
                f"({count}, {count}), whose columns sum to one"
            )
    return tuple(checked)


class Bins:
    """What is known of codes along their columns: from codes to bins, mixtures over bins to mixtures over codes, marginals.

    Args:
        bins: per column, the bin of each code, ascending from 0; None: each code is a bin.
        num_classes: K_j of each column.
        spreads: per column, the share of a row of each code (columns) that counts for each code (rows), shape (K_j, K_j);
            None: every row counts for its own code.
        device: of codes and mixtures; None is the CPU.

    Example:
        >>> bins = Bins(((0, 0, 1),), (3,))
        >>> bins.num_bins
        (2,)
        >>> bins.of_codes(torch.tensor([[2], [0], [-1]])).tolist()
        [[1], [0], [-1]]
        >>> bins.expanded(ProductMixture((2,)), torch.tensor([[0], [0], [1], [2]])).log_probs.exp().flatten()
        tensor([0.3125, 0.1875, 0.5000])
        >>> bins.marginals(torch.tensor([[0], [0], [1], [2]])).log_probs.exp().flatten()
        tensor([0.4545, 0.2727, 0.2727])
    """

    def __init__(
        self,
        bins: Sequence[ColumnBins],
        num_classes: Sequence[int],
        spreads: Sequence[ColumnSpread] | None = None,
        *,
        device: torch.device | None = None,
    ) -> None:
        self.num_classes, self._device = tuple(num_classes), device
        checked = checked_spreads(spreads, num_classes)
        self._spreads = tuple(None if spread is None else spread.to(device) for spread in checked)
        self._are_ordered = [of_column is not None for of_column in bins]
        each = [
            torch.arange(count, device=device) if of_column is None else torch.tensor(of_column, device=device)
            for of_column, count in zip(bins, num_classes, strict=True)
        ]
        self.num_bins = tuple(int(of_column[-1]) + 1 for of_column in each)
        starts = (0, *accumulate(self.num_bins))
        self._of_feature = torch.cat(
            [of_column + start for of_column, start in zip(each, starts, strict=False)]
        )  # (F,)
        self._each = each

    def marginals(self, codes: Tensor) -> ProductMixture:
        """The frequencies of the codes of each column on its own in these rows (N, V), as a mixture of one component.

        Each code counts as seen half a time more. In a column of many rare levels, that would double the mass of these:
        there, only levels that were not seen count so.
        """
        marginals = ProductMixture(self.num_classes).to(self._device)
        for column, (count, spread) in enumerate(zip(self.num_classes, self._spreads, strict=True)):
            seen = codes[:, column]
            rows = _spread_rows(seen, count, spread)
            is_long_tailed = not self._are_ordered[column] and rare_levels(seen, count) is not None
            counts = torch.where(rows == 0, HALF_ROW, rows) if is_long_tailed else rows + HALF_ROW
            marginals.of_column(column).copy_((counts / counts.sum()).log()[:, None])
        return marginals

    def of_codes(self, codes: Tensor) -> Tensor:
        """The bin of each code, shape (N, V); -1 stays -1."""
        columns = [
            torch.where(codes[:, column] < 0, -1, of_column[codes[:, column].clamp(min=0)])
            for column, of_column in enumerate(self._each)
        ]
        return torch.stack(columns, dim=1)

    def expanded(self, mixture: ProductMixture, codes: Tensor) -> ProductMixture:
        """The mixture over codes, with the frequencies of codes in their bins as in these rows (N, V)."""
        counts = torch.cat(
            [
                _spread_rows(codes[:, column], count, spread) + HALF_ROW
                for column, (count, spread) in enumerate(zip(self.num_classes, self._spreads, strict=True))
            ]
        )
        log_shares = (counts / self._summed(counts)[self._of_feature]).log()
        wide = ProductMixture(self.num_classes, len(mixture.log_weights)).to(self._device)
        wide.log_weights.copy_(mixture.log_weights)
        wide.log_probs.copy_(mixture.log_probs[self._of_feature] + log_shares[:, None])
        return wide

    def merged(self, mixture: ProductMixture) -> ProductMixture:
        """The mixture over bins that a mixture over codes implies."""
        narrow = ProductMixture(self.num_bins, len(mixture.log_weights)).to(self._device)
        narrow.log_weights.copy_(mixture.log_weights)
        narrow.log_probs.copy_(self._summed(mixture.log_probs.exp()).log())
        return narrow

    def _summed(self, of_codes: Tensor) -> Tensor:
        """Sums over each bin, shape (F, ...) to (sum of B_j, ...)."""
        total = of_codes.new_zeros(sum(self.num_bins), *of_codes.shape[1:])
        return total.index_add(0, self._of_feature, of_codes)


def _spread_rows(codes: Tensor, num_classes: int, spread: Tensor | None) -> Tensor:
    """Rows of each code of a column (N,), shape (K,); -1 is missing."""
    rows = torch.bincount(codes[codes >= 0].to(torch.int64), minlength=num_classes)
    return rows.float() if spread is None else (spread @ rows.double()).float()


def _one_each(name: str, given: Sequence[Any] | None, num_classes: Sequence[int]) -> Sequence[Any]:
    """One entry per column, None in each if nothing was given."""
    if given is None:
        return (None,) * len(num_classes)
    if len(given) != len(num_classes):
        raise ValueError(f"{name}: got {len(given)} entries for {len(num_classes)} columns; give one each")
    return given
