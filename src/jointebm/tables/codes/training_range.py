"""Numbers and dates outside the training range of their column, of which the training data tell nothing.

Legend: N rows.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.evidence import Choice, Evidence
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["RangeTally", "given_outside"]

CHANCE = 1e-4  # of what lies outside among new rows like those of training, below which that is no chance
FAR = 0.1  # tail, below which one entry is far outside: ten times as far as the outermost code is long
MAX_SHOWN = 3  # values of a set
MEANING = "the training data tell nothing of such values"


class _Outside(NamedTuple):
    """Entries of a column so far."""

    coded: CodedColumn
    num: int = 0  # that are not missing
    num_outside: int = 0
    first: str = ""  # value and place of the first outside
    tail: float = 1.0  # of the one furthest outside


class RangeTally:
    """Counts entries outside the training range, part by part.

    A few new rows like those of training lie outside. So a column is a finding where chance hardly explains how many do,
    or how far one does. Of m new rows, at least k lie outside the range of n training rows with a probability of at most
    (k + 1) prod_{i < k} (m - i) / (n + m - i); that counts from two rows on. One of them is as far outside as the tail
    t = s / (s + x) of the codec says (`NumberCodec.tail`) with a probability of at most 2 m t / n, where the density falls
    as fast as that tail or faster.

    Not guaranteed: a gap inside the range is not noticed, nor are few rows a little outside. Columns with heavier tails
    than t may be a finding by chance.

    Example:
        >>> age = Column("whole", np.arange(20, 60), np.zeros(40, dtype=bool))
        >>> (coded,), tally = TableCodec.fit({"age": age}).columns, RangeTally()
        >>> tally.add([(coded, age._replace(values=age.values + 30))])
        >>> tally.findings()[0].split(";")[0]
        "column 'age': entries outside the training values, 20 to 59: 30 of 40, the first 60 in row 10"
    """

    def __init__(self) -> None:
        self._found: dict[Name, _Outside] = {}

    def add(
        self,
        known: Iterable[tuple[CodedColumn, Column]],
        *,
        ignored: Collection[Name] = (),
        place: Callable[[int], str] = "row {}".format,
    ) -> None:
        """Counts the entries of some rows.

        Args:
            known: columns of the model with the entries that answers condition on, in the units of the model.
            ignored: columns whose entries are not counted, such as targets.
            place: the place of a row, for the finding.
        """
        for coded, column in known:
            if coded.name in ignored or not isinstance(coded.codec, NumberCodec):
                continue
            rows = np.flatnonzero(~column.is_missing)
            tail = coded.codec.tail(column.values[rows])
            outside = rows[tail < 1]
            before = self._found.get(coded.name, _Outside(coded))
            first = before.first
            if len(outside) and not first:
                first = f"{coded.shown(column.values[outside[0]])} in {place(int(outside[0]))}"
            self._found[coded.name] = _Outside(
                coded,
                before.num + len(rows),
                before.num_outside + len(outside),
                first,
                min(before.tail, float(tail.min(initial=1.0))),
            )

    def findings(self) -> list[str]:
        """One line for each column of which so much lies outside."""
        return [
            f"column {name!r}: entries outside the training values, {found.coded.range}: {found.num_outside} of "
            f"{found.num}, the first {found.first}; {MEANING}. Remedy: fit with such rows, or make these entries missing"
            for name, found in self._found.items()
            if _is_no_chance(found)
        ]


def given_outside(evidence: Mapping[Name, Evidence], codec: TableCodec) -> list[str]:
    """One line for each column of which a given value lies outside the training range.

    Example:
        >>> codec = TableCodec.fit({"age": Column("whole", np.array([31, 45, 38]), np.zeros(3, dtype=bool))})
        >>> given_outside({"age": Choice((40, 450))}, codec)[0].split(";")[0]
        "column 'age': outside the training values, 31 to 45: 450"
    """
    lines = []
    for coded in codec.columns:
        known = evidence.get(coded.name)
        if not isinstance(known, Choice) or not isinstance(coded.codec, NumberCodec):
            continue
        values = np.array(known.values, dtype=np.int64 if coded.codec.whole else np.float64)
        outside = [coded.shown(each) for each in values[coded.codec.tail(values) < 1]]
        if outside:
            shown = ", ".join(outside[:MAX_SHOWN]) + (", ..." if len(outside) > MAX_SHOWN else "")
            lines.append(
                f"column {coded.name!r}: outside the training values, {coded.range}: {shown}; {MEANING}. Remedy: fit with "
                "rows that hold them, or leave them out of given"
            )
    return lines


def _is_no_chance(found: _Outside) -> bool:
    """Whether chance hardly explains the entries outside, among rows like those of training."""
    assert isinstance(found.coded.codec, NumberCodec)
    num_training = sum(found.coded.codec.counts)
    is_far = found.tail < FAR and 2 * found.num * found.tail < CHANCE * num_training
    return is_far or (found.num_outside > 1 and _chance(found.num_outside, found.num, num_training) < CHANCE)


def _chance(num_outside: int, num: int, num_training: int) -> float:
    """A bound on the probability that so many of `num` new rows lie outside the range of exchangeable training rows.

    Some j of them are the largest of all rows, and the others the smallest.
    """
    log_all_new = (
        math.lgamma(num + 1)
        - math.lgamma(num - num_outside + 1)
        + math.lgamma(num_training + num - num_outside + 1)
        - math.lgamma(num_training + num + 1)
    )
    return (num_outside + 1) * math.exp(log_all_new)
