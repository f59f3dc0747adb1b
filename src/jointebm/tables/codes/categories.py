"""Categories to codes and back: one code per level, and a shared code for the rarest levels if there are too many.

Legend: N entries, K codes, L levels.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from jointebm.storage.config import Config
from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.evidence import Choice, Evidence

__all__ = ["MAX_CODED_LEVELS", "RARE_ROWS", "CategoryCodec", "Label", "fit_categories", "rare_share"]

Label = bool | int | float | str
UNSEEN = -1
MAX_CODED_LEVELS = 4096  # codes of a column, unless the user says otherwise
RARE_ROWS = 10  # a level of fewer rows is rare


class CategoryCodec(Config):
    """Levels <-> codes, and log p(level | code), as stored in `config.json`.

    Example:
        >>> codec = fit_categories({"b": 1, "a": 2}, max_codes=64)
        >>> codec.encode(np.array(["a", "b", "c"], dtype=object))
        array([ 0,  1, -1])
        >>> codec.decode(np.array([1]), np.array([0.5]))
        array(['b'], dtype=object)
    """

    kind: Literal["category"] = "category"
    levels: tuple[Label, ...] = Field(min_length=1, description="in the order of their codes")
    code: tuple[int, ...] = Field(min_length=1, description="code of each level, ascending")
    weight: tuple[float, ...] = Field(min_length=1, description="probability of each level within its code")
    ordered: bool = Field(description="whether the order of the levels has a meaning")
    rare_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the training entries in levels of fewer than 10 rows, or that share a code",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.levels) == len(self.code) == len(self.weight) == len(set(self.levels)):
            raise ValueError("levels, code and weight differ in length, or a level is duplicate")
        steps = {after - before for before, after in zip((-1, *self.code), self.code, strict=False)}
        if not steps <= {0, 1} or self.code[0] != 0 or min(self.weight) <= 0:
            raise ValueError("code must ascend from 0 in steps of 1, and weights must be positive")
        return self

    @property
    def num_codes(self) -> int:
        """Number of codes."""
        return self.code[-1] + 1

    @property
    def bins(self) -> tuple[int, ...] | None:
        """The bin of each code, its own; None if the order of the levels has no meaning."""
        return tuple(range(self.num_codes)) if self.ordered else None

    @property
    def spread(self) -> None:
        """Every row counts for its own level."""
        return

    def encode(self, values: np.ndarray) -> np.ndarray:
        """The code of each level, shape (N,); -1 for one not seen in training."""
        return np.append(self.code, UNSEEN)[self._numbers(values)]

    def decode(self, codes: np.ndarray, uniforms: np.ndarray, *, evidence: Evidence | None = None) -> np.ndarray:
        """Draws a level of each code given the evidence, shape (N,); every code must agree with the evidence."""
        weight = self._given(evidence)
        mass = np.bincount(self.code, weight)
        before = np.cumsum(weight) - weight
        first = np.searchsorted(self.code, np.arange(self.num_codes))
        # Invert the distribution function over all levels, from the start of each code.
        target = (before[first] + np.zeros_like(mass))[codes] + uniforms * mass[codes]
        chosen = np.searchsorted(np.cumsum(weight), target, "right")
        possible = np.flatnonzero(weight)
        low = possible[np.searchsorted(np.array(self.code)[possible], codes, "left")]
        high = possible[np.searchsorted(np.array(self.code)[possible], codes, "right") - 1]
        return self.values[chosen.clip(low, high)]

    def log_prob(self, values: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """log p(level | code), shape (N,), nats; -inf for a level that is not of the code."""
        numbers = self._numbers(values)
        with np.errstate(divide="ignore"):
            return np.where(
                np.append(self.code, UNSEEN)[numbers] == codes, np.log(np.append(self.weight, 0))[numbers], -np.inf
            )

    def log_weights(self, evidence: Evidence) -> np.ndarray:
        """log p(evidence | code), shape (K,); -inf for codes that contradict it."""
        with np.errstate(divide="ignore"):
            return np.minimum(np.log(np.bincount(self.code, self._given(evidence))), 0.0)

    def allows(self, values: np.ndarray, evidence: Evidence) -> np.ndarray:
        """Whether levels agree with the evidence, bool (N,); one that was not seen in training does not."""
        return np.append(self._given(evidence) > 0, False)[self._numbers(values)]

    @cached_property
    def values(self) -> np.ndarray:
        """The levels as an array, shape (L,), of their own type if all share one of bool, int and float."""
        types = {type(level) for level in self.levels}
        return np.array(self.levels, dtype=types.pop() if len(types) == 1 and str not in types else object)

    @cached_property
    def _places(self) -> dict[Label, int]:
        return {level: number for number, level in enumerate(self.levels)}

    def _numbers(self, values: np.ndarray) -> np.ndarray:
        """The number of each level, -1 for an unseen one."""
        places = self._places
        return np.array([places.get(value, UNSEEN) for value in values.tolist()], dtype=np.int64)

    def _given(self, evidence: Evidence | None) -> np.ndarray:
        """Weight of each level, zero if it contradicts the evidence."""
        weight = np.array(self.weight)
        if evidence is None:
            return weight
        if isinstance(evidence, Choice):
            return np.where(
                np.isin(np.arange(len(weight)), [self._place(level) for level in evidence.values]), weight, 0.0
            )
        if not self.ordered:
            raise ValueError("categories without an order have no intervals; give a set of categories")
        low = 0 if evidence.low is None else self._place(evidence.low)
        high = len(weight) - 1 if evidence.high is None else self._place(evidence.high)
        return np.where((np.arange(len(weight)) >= low) & (np.arange(len(weight)) <= high), weight, 0.0)

    def _place(self, level: object) -> int:
        place = self._places.get(level, UNSEEN) if isinstance(level, Label) else UNSEEN
        if place == UNSEEN:
            known = ", ".join(map(repr, self.levels[:8])) + (", ..." if len(self.levels) > 8 else "")
            raise ValueError(f"category {quoted(repr(level))} was not seen in training; known: {known}")
        return int(place)


def fit_categories(
    counts: Mapping[Label, int], *, max_codes: int, declared: Sequence[Label] | None = None, ordered: bool = False
) -> CategoryCodec:
    """Gives each level that occurs a code; if there are too many, all but the `max_codes` - 1 most frequent share one.

    Codes have the order of `declared`, else of the sorted levels. Ordered levels never share a code. `counts` holds the rows
    of each level.
    """
    if declared is None:
        order = sorted(counts, key=lambda level: (isinstance(level, str), level))
    else:
        order = [level for level in declared if level in counts]
    if len(order) > max_codes and not ordered:
        frequent = set(sorted(order, key=lambda level: -counts[level])[: max_codes - 1])
        order = [level for level in order if level in frequent] + [level for level in order if level not in frequent]
    last_code = len(order) - 1 if ordered else max_codes - 1
    code = np.minimum(np.arange(len(order)), last_code)
    rows = np.array([counts[level] for level in order], dtype=np.float64)
    return CategoryCodec(
        levels=tuple(order),
        code=tuple(code.tolist()),
        weight=tuple((rows / np.bincount(code, rows)[code]).tolist()),
        ordered=ordered,
        rare_share=rare_share(rows, code),
    )


def rare_share(rows: np.ndarray, code: np.ndarray) -> float:
    """Share of the rows (L,) of all levels that are in levels of fewer than 10 rows, or in those that share a code (L,)."""
    is_rare = (rows < RARE_ROWS) | (np.bincount(code)[code] > 1)
    return float(rows[is_rare].sum() / rows.sum())
