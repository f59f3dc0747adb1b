"""Rows of a table model that a page watches: every step draws the next rows given what is clamped.

The draws of a table model need no chain that a page would have to keep: row number i is decided by the seed and i. So the
rows of step t are those that `JointEBM.sample(16, first=16 t)` returns.

Legend: N rows, V columns.
"""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jointebm.estimators import JointEBM
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import CodedColumn, Name
from jointebm.tables.codes.column import Column, IgnoredCodec
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.watch.copied_tables import TableHistory, table_python, table_shell
from jointebm.watch.json_tables import given_columns, lists_of_columns
from jointebm.watch.packed_frames import finite_or_none, pack_frame
from jointebm.watch.row_answers import CellsQuestion
from jointebm.watch.table_bars import ColumnBars

__all__ = ["TableChains"]

NUM_DRAWN = 16
MAX_CHOICES = 2000  # levels of a category that the page offers
RECENT_STEPS = 100  # steps that the acceptance and the ess are averaged over


class TableChains:
    """Rows of a table model, from number 0 on.

    Args:
        model: the fitted model.
        source: its name, as `jointebm.load` takes it.
        rows: rows of a table, which may fill the fields of the page; None without one.
    """

    def __init__(self, model: JointEBM, *, source: str, rows: Mapping[Name, Column] | None) -> None:
        self.model, self._source, self._rows = model, source, rows
        self._bars = {
            each.name: ColumnBars(each) for each in model.codec_.columns if not isinstance(each.codec, IgnoredCodec)
        }
        self._given: dict[Name, Any] = {}
        self.seed = 0
        self._restart()

    def view(self) -> dict[str, Any]:
        """The model as plain data, for the page."""
        num_rows = 0 if self._rows is None else len(next(iter(self._rows.values())).values)
        missing = bool(self.model.indicators)
        return {
            "kind": "table",
            "name": next(part for part in reversed(Path(self._source).parts) if part != "model"),
            "source": self._source,
            "columns": [_column(each, self._bars.get(each.name)) for each in self.model.codec_.columns],
            "starts": [],
            "num_rows": num_rows,
            "num_chains": NUM_DRAWN,
            "seed": self.seed,
            "missing_can_be_given": missing,
            "log_normalizer": None,
        }

    def clamp(self, given: Mapping[str, Any]) -> None:
        """Gives these values, sets and intervals, and nothing else; the rows are those of the first step again.

        Raises:
            ValueError: they do not fit the columns, or nothing agrees with them.
        """
        before = self._given
        self._given = given_columns(self.model, given)
        try:
            self._restart()
        except (ValueError, TypeError):
            self._given = before
            raise

    def restart(self, *, start: str, seed: int, row: int) -> None:  # noqa: ARG002  # draws start nowhere else
        """Begins again with row 0 of a seed."""
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed: got {seed}, expected a whole number from 0 to 2^63 - 1")
        self.seed = seed
        self._restart()

    def step(self) -> None:
        """Draws the next rows."""
        self.num_steps += 1
        self._draw()

    def frame(self, *, with_probs: bool) -> bytes:  # noqa: ARG002  # conditionals are those of `question`
        """The present rows, packed."""
        header: dict[str, Any] = {
            "kind": "frame",
            "step": self.num_steps,
            "change": self._num_changes,
            "rows": lists_of_columns(self._drawn),
            "visits": {str(name): counts.tolist() for name, counts in self._counts.items()},
        }
        names = dict.fromkeys(name for rates in self._rates for name in rates)
        if names:
            header["kernels"] = list(names)
            header["accept"] = [float(np.mean([rates.get(name, 0.0) for rates in self._rates])) for name in names]
        if self._ess:
            header["convergence"] = {
                "ess": finite_or_none(float(np.mean(self._ess))),
                "r_hat": None,
                "states": NUM_DRAWN,
            }
        return pack_frame(header, {"f": self._log_prob})

    @property
    def has_probs(self) -> bool:
        """Frames of rows hold no live probabilities."""
        return False

    def values(self) -> Mapping[Name, Column]:
        """The present rows."""
        return self._drawn

    def question(self) -> CellsQuestion:
        """The row of what is given, for another thread to answer."""
        return CellsQuestion(self.model, dict(self._given), self._bars)

    def row_values(self, number: int) -> dict[str, Any]:
        """The values of a row of the table, null where they are missing."""
        num = self.view()["num_rows"]
        if self._rows is None or not 0 <= number < num:
            raise ValueError(f"row: got {number}, and there are {num} rows, counted from 0")
        row = {name: column.take(slice(number, number + 1)) for name, column in self._rows.items()}
        return {name: values[0] for name, values in lists_of_columns(row).items()}

    def copied(self) -> dict[str, str]:
        """The view as Python and as a shell command."""
        history = TableHistory(self._source, NUM_DRAWN, self.seed, self.num_steps * NUM_DRAWN, self._given)
        return {"python": table_python(history), "shell": table_shell(history)}

    def _restart(self) -> None:
        self.num_steps = 0
        self._num_changes = getattr(self, "_num_changes", 0) + 1
        self._rates: deque[Mapping[str, float]] = deque(maxlen=RECENT_STEPS)
        self._ess: deque[float] = deque(maxlen=RECENT_STEPS)
        self._counts = {name: np.zeros(bars.shares_of_codes.shape[1], int) for name, bars in self._bars.items()}
        self._draw()

    def _draw(self) -> None:
        first = self.num_steps * NUM_DRAWN
        answer = self.model.draw(NUM_DRAWN, given=self._given, seed=self.seed, first=first)
        self._drawn, found = answer.value, answer.diagnostics
        fitted = self.model.fitted
        self._log_prob = fitted.log_density(fitted.rows(self._drawn, NUM_DRAWN)).value
        if found.accept_rate:
            self._rates.append(found.accept_rate)
        self._ess.append(float(found.ess.min()))
        for name, bars in self._bars.items():
            self._counts[name] += bars.counts(self._drawn[name])


def _column(coded: CodedColumn, bars: ColumnBars | None) -> dict[str, Any]:
    """A column as plain data."""
    found: dict[str, Any] = {"name": str(coded.name), "role": coded.role}
    codec = coded.codec
    if bars is None or isinstance(codec, IgnoredCodec):
        return {**found, "kind": "ignored"}
    if isinstance(codec, CategoryCodec):
        return {**found, "kind": "category", "levels": list(codec.levels[:MAX_CHOICES]), "bars": len(bars.levels)}
    assert isinstance(codec, NumberCodec)
    assert bars.edges is not None
    return {
        **found,
        "kind": "time" if coded.role == "time" else "number",
        "whole": codec.whole,
        "unit": coded.unit,
        "edges": bars.edges.tolist(),
        "histogram": bars.of_training,
    }
