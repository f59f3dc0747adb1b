"""Tables of pairs of columns: how much more often two codes occur together than they would in independent columns.

    T_ij[a, b] = log p_ij(a, b) - log p_i(a) p_j(b),   p_ij(a, b) = (n_ab + s p_i(a) p_j(b)) / (n + s)

with n_ab of n rows, both codes observed, and the strength s, in rows, under which each row is best predicted by the others.
The pairs are the edges of the forest of largest weight, the gain of that prediction over independent columns. So the
marginals with all tables are a normalised density, the tree of Chow and Liu.

Where a tree fits the table, a network has less to learn from there; where many columns share one cause, it must unlearn it.
So all edges have tables where they predict held-out rows nearly as well as the reference does, and else only those of
columns that nearly determine one another.

Legend: N rows, V columns, K_j classes of column j, F classes of all columns, R rows of all tables.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, combinations
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["pair_counts", "pair_tables"]

MAX_TABLE_ROWS = 16  # of the smaller column of a pair: so many numbers are added to the first layer, twice
TABLE_STRENGTHS = tuple(4.0**power for power in range(-1, 8))  # rows
NEAR_REFERENCE = 0.9  # share of the reference's gain over the marginals, that a tree must have
LEAST_TOLD = 0.75  # else: share of the entropy of the one with less, that a column must tell of the other
LEAST_TABLE_GAIN = 2.0  # nats, in all rows, for each row and column of the table


class _Pair(NamedTuple):
    """Columns i and j, i of at most as many classes, the gain in nats, and the strength in rows."""

    first: int
    second: int
    gain: float
    strength: float


@torch.no_grad()
def pair_tables(codes: Tensor, num_classes: Sequence[int], held_out: Tensor, reference_gain: float) -> Tensor:
    """The tables as `Residual.tables`: one-hot vectors of c_i on the left, columns of T on the right.

    Not guaranteed: entries must be missing independently of what they would be.

    Args:
        codes: training rows, shape (N, V), -1 is missing.
        num_classes: K_j of each column.
        held_out: rows that a tree is compared with the reference on, shape (n, V).
        reference_gain: mean log q - log b of their observed codes, nats per row, b the marginals.

    Returns:
        Shape (F, 2 R), float32, of values that bfloat16 has; R is 0 where no pair gains.

    References:
        Chow & Liu 1968.

    Example:
        >>> codes = torch.tensor([[0, 0], [1, 1]]).repeat(500, 1)
        >>> left, right = pair_tables(codes, (2, 2), codes[:9], 0.69).chunk(2, dim=1)
        >>> left[:2] @ right[2:].T
        tensor([[ 0.6914, -8.3125],
                [-8.3125,  0.6914]])
    """
    edges = _tables(codes, num_classes, least_told=0.0)
    if _gain_of(edges, held_out) < NEAR_REFERENCE * reference_gain:
        edges = _tables(codes, num_classes, least_told=LEAST_TOLD)
    offsets = (0, *accumulate(num_classes))
    left, right = torch.zeros(2, offsets[-1], sum(len(table) for *_, table in edges))
    start = 0
    for first, second, table in edges:
        rows = slice(start, start + len(table))
        left[offsets[first] : offsets[first + 1], rows] = torch.eye(len(table))
        right[offsets[second] : offsets[second + 1], rows] = table.T
        start = rows.stop
    return torch.cat([left, right], dim=1).to(codes.device)


def _tables(codes: Tensor, num_classes: Sequence[int], *, least_told: float) -> list[tuple[int, int, Tensor]]:
    """Columns i and j and T of each edge, float32, of values that bfloat16 has."""
    columns = combinations(range(len(num_classes)), 2)
    pairs = [pair for i, j in columns if (pair := _pair(codes, i, j, num_classes, least_told))]
    return [
        (first, second, _table(pair_counts(codes, first, second, num_classes), strength).bfloat16().float())
        for first, second, _, strength in _forest(pairs)
    ]


def _gain_of(edges: Sequence[tuple[int, int, Tensor]], codes: Tensor) -> float:
    """Mean sum of the tables in which both codes are observed, nats per row; 0 without rows."""
    codes, gains = codes.cpu(), torch.zeros(len(codes), dtype=torch.float64)
    for first, second, table in edges:
        i, j = codes[:, first], codes[:, second]
        gains += torch.where((i >= 0) & (j >= 0), table[i.clamp(min=0), j.clamp(min=0)], 0.0)
    return float(gains.mean()) if len(codes) else 0.0


def _pair(codes: Tensor, i: int, j: int, num_classes: Sequence[int], least_told: float) -> _Pair | None:
    """The pair with its best strength; None if its columns have too many classes or tell too little of one another."""
    first, second = sorted((i, j), key=lambda column: num_classes[column])
    if not 1 < num_classes[first] <= MAX_TABLE_ROWS:
        return None
    counts = pair_counts(codes, first, second, num_classes)
    gains = {strength: _gain(counts, strength) for strength in TABLE_STRENGTHS}
    strength = max(gains, key=gains.__getitem__)
    entropy = min(_entropy(counts.sum(dim=dim)) for dim in (0, 1))
    least = max(LEAST_TABLE_GAIN * sum(counts.shape), least_told * entropy * float(counts.sum()))
    return _Pair(first, second, gains[strength], strength) if gains[strength] > least else None


def pair_counts(codes: Tensor, first: int, second: int, num_classes: Sequence[int]) -> Tensor:
    """Rows of each two codes of columns i and j, where both are observed, shape (K_i, K_j), float64, on the CPU.

    Example:
        >>> pair_counts(torch.tensor([[0, 1], [0, 1], [1, -1]]), 0, 1, (2, 2)).tolist()
        [[0.0, 2.0], [0.0, 0.0]]
    """
    sizes = num_classes[first], num_classes[second]
    both = codes[(codes[:, [first, second]] >= 0).all(dim=1)].long()
    numbers = both[:, first] * sizes[1] + both[:, second]
    return torch.bincount(numbers, minlength=math.prod(sizes)).view(sizes).cpu().double()


def _entropy(counts: Tensor) -> float:
    """Of a code with these counts, nats."""
    return float(torch.special.entr(counts / counts.sum().clamp(min=1)).sum())


def _independent(counts: Tensor) -> Tensor:
    """p_i p_j, shape (K_i, K_j)."""
    num = counts.sum().clamp(min=1)
    return counts.sum(dim=1, keepdim=True) * counts.sum(dim=0) / num.square()


def _gain(counts: Tensor, strength: float) -> float:
    """Sum over rows of log p_ij - log p_i p_j, each row predicted by p_ij of the others, nats."""
    num, independent = counts.sum(), _independent(counts)
    of_others = (counts - 1 + strength * independent) / (num - 1 + strength)
    seen = counts > 0
    return float((counts * (of_others / independent).log())[seen].sum())


def _table(counts: Tensor, strength: float) -> Tensor:
    """T, shape (K_i, K_j); 0 where a code does not occur."""
    num, independent = counts.sum(), _independent(counts)
    joint = (counts + strength * independent) / (num + strength)
    return torch.where(independent > 0, (joint / independent).log(), 0.0)


def _forest(pairs: Sequence[_Pair]) -> list[_Pair]:
    """The pairs of largest gain that close no cycle."""
    of_tree: dict[int, int] = {}

    def root(column: int) -> int:
        while column in of_tree:
            column = of_tree[column]
        return column

    chosen = []
    for pair in sorted(pairs, key=lambda each: -each.gain):
        roots = root(pair.first), root(pair.second)
        if roots[0] != roots[1]:
            of_tree[roots[0]] = roots[1]
            chosen.append(pair)
    return chosen
