"""Whether the order of a column's codes tells anything: whether the neighbours of a code say what its own rows say.

Vectors of neighbouring codes are learned together (see `smoothing`). That helps where what goes with a number changes slowly
along the column, as with an age. It harms where each value is a thing of its own, as amounts of which each belongs to one
kind of row: there a value of five rows would be taken for its neighbour of three hundred.

    own(j, i)        = sum over rows of log p(c_i | c_j by the other rows of this code) - log p(c_i)
    neighbours(j, i) = the same by the rows of the two codes on each side

each with the prior p(c_i), of the number of rows under which it predicts best. The order is left out if the neighbours tell
less than a quarter of what a code's own rows tell of the columns of few classes.

Legend: N rows, V columns, K_j classes of column j.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from jointebm.tables.training.pair_tables import LEAST_TABLE_GAIN, MAX_TABLE_ROWS, pair_counts

__all__ = ["telling_orders"]

NEIGHBOURING = 2  # codes on each side
ORDER_STRENGTHS = tuple(4.0**power for power in range(6))  # rows of p(c_i) in each code
LEAST_SHARE = 0.25  # of what a code's own rows tell


@torch.no_grad()
def telling_orders(
    codes: Tensor, num_classes: Sequence[int], bins: Sequence[Sequence[int] | None]
) -> tuple[Sequence[int] | None, ...]:
    """The bins, None for a column whose order tells too little; unchanged where other columns have many classes each.

    Args:
        codes: shape (N, V), -1 is missing.
        num_classes: K_j of each column.
        bins: per column, the bin of each code; None if the order of its codes has no meaning.

    Example:
        >>> number = torch.arange(40).repeat(50)
        >>> rising, erratic = number // 20, number * 7 % 5 // 3
        >>> bins = tuple(range(40)), None
        >>> [telling_orders(torch.stack([number, level], dim=1), (40, 2), bins)[0] is None for level in (rising, erratic)]
        [False, True]
    """
    kept = (
        of_column if of_column is None or _tells(codes, column, num_classes) else None
        for column, of_column in enumerate(bins)
    )
    return tuple(kept)


def _tells(codes: Tensor, column: int, num_classes: Sequence[int]) -> bool:
    """Whether the neighbours of its codes tell enough of the columns of few classes."""
    place = torch.arange(num_classes[column], dtype=torch.float64)
    distance = (place[:, None] - place).abs()
    are_near = ((distance > 0) & (distance <= NEIGHBOURING)).double()
    own = near = 0.0
    for other, classes in enumerate(num_classes):
        if other == column or not 1 < classes <= MAX_TABLE_ROWS:
            continue
        counts = pair_counts(codes, column, other, num_classes)
        gain = _gain(counts, counts, is_own=True)
        if gain > LEAST_TABLE_GAIN * sum(counts.shape):
            own, near = own + gain, near + _gain(counts, are_near @ counts, is_own=False)
    return near >= LEAST_SHARE * own


def _gain(counts: Tensor, seen: Tensor, *, is_own: bool) -> float:
    """Sum over rows, counted in `counts` (K_j, K_i), of log p(c_i | rows seen with c_j) - log p(c_i), nats, at least 0."""
    prior = counts.sum(dim=0) / counts.sum().clamp(min=1)
    own = 1.0 if is_own else 0.0  # a row is not predicted by itself
    gains = [0.0]
    for strength in ORDER_STRENGTHS:
        probs = (seen - own + strength * prior) / (seen.sum(dim=1, keepdim=True) - own + strength)
        gains.append(float((counts * (probs / prior).log())[counts > 0].sum()))
    return max(gains)
