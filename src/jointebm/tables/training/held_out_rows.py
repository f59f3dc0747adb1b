"""The choice of the rows that are held out.

Legend: N rows, V columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["held_out_split"]


def held_out_split(
    codes: Tensor, order: Tensor, num: int, bins: Sequence[Sequence[int] | None]
) -> tuple[Tensor, Tensor]:
    """The first rows of an order, but for the last one of each level of a category, and all others.

    A level that occurred in held-out rows alone would be learned from none. So training has a row of every level, and
    held-out rows of a rare level are those that have others beside them.

    Args:
        codes: shape (N, V), -1 is missing.
        order: numbers of the rows, shape (N,).
        num: rows to hold out; fewer if there are not so many.
        bins: per column, the bin of each code; None if the column is a category.

    Returns:
        (held out, training): numbers of rows; both in the given order, but for training rows that others were preferred to,
        which come last.

    Example:
        >>> held_out_split(torch.tensor([[0], [1], [0], [0]]), torch.tensor([1, 0, 3, 2]), 1, (None,))
        (tensor([0]), tensor([3, 2, 1]))
    """
    is_last, places = torch.zeros_like(order, dtype=torch.bool), torch.arange(len(order), device=order.device)
    for column, of_column in enumerate(bins):
        if of_column is None:
            of_rows = codes[order, column].to(torch.int64) + 1  # 0 is missing
            last = of_rows.new_full((int(of_rows.max()) + 1,), -1).scatter_reduce(0, of_rows, places, "amax")[1:]
            is_last[last[last >= 0]] = True
    chosen = (~is_last).nonzero().flatten()[:num]
    reach = int(chosen[-1]) + 1 if len(chosen) else 0
    return order[chosen], torch.cat([order[reach:], order[:reach][is_last[:reach]]])
