"""Answers about one row of a table: bars of each missing cell, and the dependence of each known one.

Legend: K codes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jointebm.estimators import JointEBM
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column
from jointebm.tables.frames.reading import Frame
from jointebm.watch.packed_frames import finite_or_none
from jointebm.watch.table_bars import ColumnBars

__all__ = ["CellsQuestion"]


class CellsQuestion(NamedTuple):
    """A question of the page: what the model says about a row of which some cells are given.

    Args:
        model: the fitted model.
        given: per column a value, a list of values, an interval, or None, that the entry is missing.
        bars: of every column that the model has.
    """

    model: JointEBM
    given: Mapping[Name, Any]
    bars: Mapping[Name, ColumnBars]

    def answer(self) -> dict[str, Any]:
        """Bars of p(cell | what is given) for each cell without a value, and log p(cell | other values) - log p(cell)."""
        known = {name: said for name, said in self.given.items() if not isinstance(said, list | tuple | None)}
        found: dict[str, list[float]] = {}
        exact = True
        for name in self.bars:
            if name not in known:
                probs, is_exact = self._probs(name)
                found[str(name)] = self.bars[name].of_codes(probs)
                exact &= is_exact
        values = self._values(known)
        return {
            "bars": found,
            "dependence": {str(name): finite_or_none(each) for name, each in self._dependence(values).items()},
            "log_prob": finite_or_none(self._log_prob(values)),
            "method": "exact sum" if exact else "weighted draws",
        }

    def _probs(self, name: Name) -> tuple[np.ndarray, bool]:
        """p(code of a column | what is given of the others), shape (K,), and whether it is exact."""
        fitted = self.model.fitted
        others = {other: said for other, said in self.given.items() if other != name}
        rows = self.model.encoded(Frame(self.model.frame_schema_, {}, 1, None, None), others)
        answer = fitted.predictive_answer(rows, name)
        return np.exp(answer.value[0]), bool(answer.diagnostics.exact.all())

    def _values(self, known: Mapping[Name, Any]) -> dict[Name, Column]:
        """The given values as columns of one row."""
        row = self.model.draw(1, given=known).value if known else {}
        return {name: row[name] for name in known}

    def _dependence(self, values: Mapping[Name, Column]) -> dict[Name, float]:
        """log p(value | other values) - log p(value) of each value, nats; positive where the others speak for it."""
        if len(values) < 2:
            return {}
        fitted, names = self.model.fitted, list(values)
        together = fitted.conditional_log_score(fitted.rows(values, 1), names)[0]
        alone = [fitted.log_density(fitted.rows({name: values[name]}, 1)).value[0] for name in names]
        return {name: float(both - one) for name, both, one in zip(names, together, alone, strict=True)}

    def _log_prob(self, values: Mapping[Name, Column]) -> float:
        if not values:
            return 0.0
        fitted = self.model.fitted
        return float(fitted.log_density(fitted.rows(values, 1)).value[0])
