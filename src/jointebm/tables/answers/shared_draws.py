"""Draws of the missing entries of rows from the proposal, column by column; what equal draws share is computed once.

The first missing column of a row has the same distribution for all its draws, the second one distribution for each class
drawn before it, and so on: the proposal is asked once for each different beginning. Draws of the first missing column are
systematic: one in each of D equal shares of its distribution.

Legend: N rows, V columns, K_j classes of column j, D draws, U different rows.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from jointebm.randomness.row_streams import RowStream, row_keys, splitmix64
from jointebm.references.layout import Constraints, MixedRows
from jointebm.tables.density.energy import TableEnergy

__all__ = ["SharedDraws", "in_batches", "of_different", "shared_draws"]

PROPOSED_AT_ONCE = 256  # rows that a network evaluates at once
BELOW_ONE = 1 - 2.0**-53
FULL_VECTORS = 16  # rows; of so many, or twice as many and so on, no operation ends with a part of a vector


class SharedDraws(NamedTuple):
    """D draws of the missing entries of each of N rows.

    Args:
        codes: completed, shape (N, D, V).
        log_prob: with which they are drawn, less the log-weights of evidence, shape (N, D), nats, float64.
        names: of what each draw holds, shape (N, D), int64: equal for equal draws of equal rows.
        names_before: the same without the last column.
        probs_of_last: of the classes of the last column given the others, by `index_of_last`, shape (U, K), float64.
        index_of_last: place in `probs_of_last` of each draw, shape (N, D).
    """

    codes: Tensor
    log_prob: Tensor
    names: Tensor
    names_before: Tensor
    probs_of_last: Tensor
    index_of_last: Tensor


@torch.no_grad()
def shared_draws(
    energy: TableEnergy,
    codes: Tensor,
    stream: RowStream,
    num: int,
    *,
    last: int | None = None,
    log_weights: Sequence[Tensor | None] | None = None,
) -> SharedDraws:
    """Draws the missing entries of each row from the proposal of an energy.

    Args:
        energy: F, with its proposal.
        codes: shape (N, V), -1 is missing.
        stream: of the rows; V counters from its own on are used.
        num: D.
        last: a column that is missing in all rows and drawn after all others; None: the order is that of the table.
        log_weights: evidence, per column, of its classes where it is missing, shape (K_j,), or None.

    Example:
        >>> from jointebm.references import ProductMixture
        >>> from jointebm.tables.density.energy import Residual
        >>> energy = TableEnergy(ProductMixture((2, 4)), Residual((2, 4), width=4, num_layers=1))
        >>> drawn = shared_draws(energy, torch.tensor([[1, -1]]), RowStream(torch.tensor([5]), seed=0), 8)
        >>> drawn.codes[0, :, 1].tolist(), drawn.log_prob.exp().mean()
        ([0, 0, 1, 1, 2, 2, 3, 3], tensor(0.2500, dtype=torch.float64))
    """
    num_rows, num_columns = codes.shape
    missing = codes < 0
    order = missing.any(dim=0).nonzero().flatten().tolist()
    if last is not None:
        order = [*(column for column in order if column != last), last]
    drawn = codes[:, None].repeat(1, num, 1)
    total = torch.zeros(num_rows, num, dtype=torch.float64)
    names = row_keys(codes)[:, None].repeat(1, num)
    before, of_last, index = names, total.new_zeros(1, 1), torch.zeros_like(names)
    is_first = torch.ones(num_rows, 1, dtype=torch.bool)
    steps = torch.arange(num)
    for column in order:
        rows = missing[:, column].nonzero().flatten()
        uniforms = stream.select(rows).at(stream.counter + column).uniform(total[rows])
        uniforms = torch.where(is_first[rows], (steps + uniforms) / num, uniforms).clamp_(max=BELOW_ONE)
        is_first[rows] = False
        if column == last:
            before = names.clone()
        prefixes, inverse = of_different(names[rows], drawn[rows])
        table = in_batches(partial(_conditional, energy, column, log_weights), prefixes)
        chosen = _inverted(table[:, 2], inverse, uniforms)
        total[rows] += table[inverse, 0, chosen]
        drawn[rows, :, column] = chosen
        names[rows] = splitmix64(names[rows] + (num_columns * (chosen + 1) + column))
        if column == last:
            of_last, index = table[:, 1], inverse
    return SharedDraws(drawn, total, names, before, of_last, index)


def of_different(names: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (..., V) with different names (...): each once, (U, V), and the place of every row among them, (...)."""
    different, inverse = names.unique(return_inverse=True)
    place = torch.empty(len(different), dtype=torch.int64)
    place[inverse.flatten()] = torch.arange(inverse.numel())
    return rows.reshape(-1, rows.shape[-1])[place], inverse


def in_batches(evaluate: Callable[[Tensor], Tensor], rows: Tensor, size: int = PROPOSED_AT_ONCE) -> Tensor:
    """Evaluates rows (N, V) in batches of at most `size`, each filled up with zeros to whole vectors."""
    # An empty batch is one batch, so that its answer has the right shape and dtype.
    parts = [
        evaluate(pad(some, (0, 0, 0, max(FULL_VECTORS, -len(some) % FULL_VECTORS + len(some)) - len(some))))[
            : len(some)
        ]
        for some in rows.split(size)
    ]
    return torch.cat(parts)


def _conditional(
    energy: TableEnergy, column: int, log_weights: Sequence[Tensor | None] | None, codes: Tensor
) -> Tensor:
    """Of a column given visible ones: log-probabilities less evidence, probabilities, and distribution function.

    Shape (N, 3, K_j), float64.
    """
    weights = None if log_weights is None else log_weights[column]
    if energy.network is not None:
        log_probs = energy.network.conditional(codes, column)
    else:
        evidence = [None if place == column else each for place, each in enumerate(log_weights or [])]
        constraints = Constraints(tuple(evidence or [None] * codes.shape[1]), None)
        # A column that has been drawn is visible, so the evidence about it counts no more.
        known = energy.reference.given(MixedRows(codes, codes.new_empty(len(codes), 0)), constraints)
        log_probs = energy.reference.of_classes(known, column)
    log_probs = (log_probs.double() if weights is None else log_probs.double() + weights).log_softmax(dim=1)
    probs = log_probs.exp()
    cumulative = probs.cumsum(dim=1)
    without = log_probs if weights is None else log_probs - weights.clamp(min=torch.finfo(weights.dtype).min)
    return torch.stack([without, probs, cumulative / cumulative[:, -1:]], dim=1)


def _inverted(cumulative: Tensor, index: Tensor, uniforms: Tensor) -> Tensor:
    """The first class at which a distribution function (U, K), one of them for each uniform by its index, exceeds it."""
    low, high = torch.zeros_like(index), torch.full_like(index, cumulative.shape[1] - 1)
    for _ in range((cumulative.shape[1] - 1).bit_length()):
        middle = (low + high) // 2
        is_below = cumulative[index, middle] <= uniforms
        low, high = torch.where(is_below, middle + 1, low), torch.where(is_below, high, middle)
        low = torch.minimum(low, high)
    return low
