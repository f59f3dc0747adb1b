"""Draws of the missing entries of rows from the proposal, column by column; what equal draws share is computed once.

The first missing column of a row has the same distribution for all its draws, the second one distribution for each class
drawn before it, and so on: the proposal is asked once for each different beginning.

Draws number s = 0 .. D-1 of a row lie evenly: those of its first missing columns invert the points of a shifted lattice,

    u_1 = (s + U_1) / D,   u_2 = s a_1 + U_2 modulo 1,   u_3 = s a_2 + U_3 modulo 1,   U uniform, one for all draws

with a of the sequence of Roberts; each of them is uniform, so means of weights have no bias, and their error is smaller than
that of independent draws. Neighbouring draws have nearly the same first column. Further columns are drawn independently.

Legend: N rows, V columns, K_j classes of column j, D draws, U different rows.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from jointebm.randomness.row_streams import RowStream, row_keys, splitmix64
from jointebm.references.layout import Constraints, MixedRows
from jointebm.tables.density.rough_energy import KnownRows, RoughEnergy

__all__ = ["SharedDraws", "in_batches", "of_different", "shared_draws"]

PROPOSED_AT_ONCE = 512  # rows that a network evaluates at once
BELOW_ONE = 1 - 2.0**-53
LATTICE_COLUMNS = 4  # that are drawn evenly, at most
FULL_VECTORS = 16  # rows; of so many, or twice as many and so on, no operation ends with a part of a vector

OfBatch = TypeVar("OfBatch", Tensor, tuple[Tensor, ...])


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
    energy: RoughEnergy,
    codes: Tensor,
    stream: RowStream,
    num: int,
    *,
    last: int | None = None,
    log_weights: Sequence[Tensor | None] | None = None,
) -> SharedDraws:
    """Draws the missing entries of each row from the rough proposal of an energy.

    Args:
        energy: F, with its proposal.
        codes: shape (N, V), -1 is missing.
        stream: of the rows; V counters from its own on are used.
        num: D.
        last: a column that is missing in all rows and drawn after all others; None: the order is that of the table.
        log_weights: evidence, per column, of its classes where it is missing, shape (K_j,), or None.

    Example:
        >>> from jointebm.references import ProductMixture
        >>> from jointebm.tables.density.energy import Residual, TableEnergy
        >>> energy = RoughEnergy(TableEnergy(ProductMixture((2, 4)), Residual((2, 4), width=4, num_layers=1)))
        >>> drawn = shared_draws(energy, torch.tensor([[1, -1]]), RowStream(torch.tensor([5]), seed=0), 8)
        >>> drawn.codes[0, :, 1].tolist(), drawn.log_prob.exp().mean()
        ([0, 0, 1, 1, 2, 2, 3, 3], tensor(0.2500, dtype=torch.float64))
    """
    num_rows, num_columns = codes.shape
    missing, known = codes < 0, energy.known(codes)
    order = missing.any(dim=0).nonzero().flatten().tolist()
    if last is not None:
        order = [*(column for column in order if column != last), last]
    drawn = codes[:, None].repeat(1, num, 1)
    total = torch.zeros(num_rows, num, dtype=torch.float64, device=codes.device)
    names = row_keys(codes)[:, None].repeat(1, num)
    before, of_last, index = names, total.new_zeros(1, 1), torch.zeros_like(names)
    num_missing, number = missing.sum(dim=1), torch.zeros_like(codes[:, 0])  # number: of the row's next column
    for column in order:
        rows = missing[:, column].nonzero().flatten()
        of_rows = stream.select(rows).at(stream.counter + column)
        uniforms = _uniforms(of_rows, num_missing[rows], number[rows], total[rows])
        number[rows] += 1
        if column == last:
            before = names.clone()
        prefixes, inverse, origin = of_different(names[rows], drawn[rows])
        conditional = partial(_conditional, energy, column, log_weights, known)
        log_probs, probs, cumulative = in_batches(conditional, prefixes, rows[origin])
        chosen = _inverted(cumulative, inverse, uniforms)
        total[rows] += log_probs[inverse, chosen].double()
        drawn[rows, :, column] = chosen
        names[rows] = splitmix64(names[rows] + (num_columns * (chosen + 1) + column))
        if column == last:
            of_last, index = probs, inverse
    return SharedDraws(drawn, total, names, before, of_last, index)


def _uniforms(stream: RowStream, num_missing: Tensor, number: Tensor, like: Tensor) -> Tensor:
    """The lattice of the missing column with that number, or independent uniforms, shape (N, D)."""
    num = like.shape[1]
    steps = torch.arange(num, dtype=like.dtype, device=like.device)
    table = torch.tensor([_generators(count) for count in range(LATTICE_COLUMNS)], dtype=like.dtype, device=like.device)
    counter = stream.counter
    shift = stream.uniform(like[:, :1])
    step = table[(num_missing - 1).clamp(max=LATTICE_COLUMNS - 1), number.clamp(max=LATTICE_COLUMNS - 1)][:, None]
    is_first = (number == 0)[:, None]
    even = torch.where(is_first, (steps + shift) / num, (steps * step + shift).frac())
    if bool((number >= LATTICE_COLUMNS).any()):
        even = torch.where((number < LATTICE_COLUMNS)[:, None], even, stream.at(counter).uniform(like))
    return even.clamp_(max=BELOW_ONE)


@cache
def _generators(num: int) -> list[float]:
    """0 for the first column, then phi^-1 .. phi^-num with phi^(num + 1) = phi + 1 (Roberts 2018), and zeros."""
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (num + 1))
    return [0.0, *(root**-power for power in range(1, num + 1)), *[0.0] * (LATTICE_COLUMNS - 1 - num)]


def of_different(names: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (N, D, V) with different names (N, D): each once, (U, V), the place of every row among them, (N, D), and which of
    the N each is from, (U,)."""
    different, inverse = names.unique(return_inverse=True)
    place = torch.empty_like(different)
    place[inverse.flatten()] = torch.arange(inverse.numel(), device=names.device)
    return rows.reshape(-1, rows.shape[-1])[place], inverse, place // max(1, names.shape[1])


def in_batches(evaluate: Callable[..., OfBatch], *rows: Tensor, size: int = PROPOSED_AT_ONCE) -> OfBatch:
    """Evaluates rows (N, ...) in batches of at most `size`, each filled up with zeros to whole vectors.

    Args:
        evaluate: of a batch, one tensor or several, whose first axis is that of the rows.
        rows: its arguments.
        size: of a batch.
    """
    # An empty batch is one batch, so that its answer has the right shape and dtype.
    parts = []
    for some in zip(*(each.split(size) for each in rows), strict=True):
        num = len(some[0])
        below = max(FULL_VECTORS, -num % FULL_VECTORS + num) - num
        found = evaluate(*(pad(each, (0, 0) * (each.ndim - 1) + (0, below)) for each in some))
        parts.append(tuple(each[:num] for each in ((found,) if isinstance(found, Tensor) else found)))
    joined = tuple(torch.cat(each) for each in zip(*parts, strict=True))
    return joined[0] if isinstance(found, Tensor) else joined


def _conditional(
    energy: RoughEnergy,
    column: int,
    log_weights: Sequence[Tensor | None] | None,
    known: KnownRows,
    codes: Tensor,
    origin: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of a column given visible ones: log-probabilities less evidence, probabilities, and distribution function.

    Each has shape (N, K_j), the latter two float64.
    """
    weights = None if log_weights is None else log_weights[column]
    log_probs = energy.conditional(codes, column, known.at(origin))
    if log_probs is None:
        evidence = [None if place == column else each for place, each in enumerate(log_weights or [])]
        constraints = Constraints(tuple(evidence or [None] * codes.shape[1]), None)
        # A column that has been drawn is visible, so the evidence about it counts no more.
        seen = energy.reference.given(MixedRows(codes, codes.new_empty(len(codes), 0)), constraints)
        log_probs = energy.reference.of_classes(seen, column).log_softmax(dim=1)
    without = log_probs
    if weights is not None:
        log_probs = (log_probs.double() + weights).log_softmax(dim=1)
        without = log_probs - weights.clamp(min=torch.finfo(weights.dtype).min)
    probs = log_probs.exp().double()
    cumulative = probs.cumsum(dim=1)
    return without, probs, cumulative / cumulative[:, -1:]


def _inverted(cumulative: Tensor, index: Tensor, uniforms: Tensor) -> Tensor:
    """The first class at which a distribution function (U, K), one of them for each uniform by its index, exceeds it."""
    low, high = torch.zeros_like(index), torch.full_like(index, cumulative.shape[1] - 1)
    for _ in range((cumulative.shape[1] - 1).bit_length()):
        middle = (low + high) // 2
        is_below = cumulative[index, middle] <= uniforms
        low, high = torch.where(is_below, middle + 1, low), torch.where(is_below, high, middle)
        low = torch.minimum(low, high)
    return low
