"""Pictures of the entries of a table: which are missing together, and which do not fit the rest of their row.

Both functions draw into the axes they are given, or make a figure, and return axes; `ax.figure` is the figure.

Legend: N rows, V columns.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jointebm.plots.frame_columns import column_of, entry_is_missing, names_of
from jointebm.plots.style import DATA, GUIDE, MODEL, STYLE, Axes, LinearSegmentedColormap, rc_context, subplots

__all__ = ["plot_cells", "plot_missing"]

BLAME = LinearSegmentedColormap.from_list("blame", ["#e06c1f", "#f8d9c2", "white"]).with_extremes(bad="#e8e8e8")
MISSING = LinearSegmentedColormap.from_list("missing", ["#f2f2f2", MODEL])


def plot_missing(frame: Any, *, like: Any = None, num_patterns: int = 8, ax: Axes | None = None) -> Axes:
    """Draws which entries are missing together: a line for each pattern, with the share of the rows that have it.

    Draw the data and `model.sample(len(data), missingness="model")` next to each other, both with `like=data`.

    Args:
        frame: of pandas, polars or pyarrow.
        like: frame whose most frequent patterns, and columns with a missing entry, are drawn; None is `frame`.
        num_patterns: lines at most; further patterns are left out.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: no entry of `like` is missing.

    Example:
        >>> ax = plot_missing({"a": [1.0, None, 2.0, 3.0], "b": [1.0, None, None, 4.0]})
        >>> [text.get_text() for text in ax.get_yticklabels()]
        ['50.0%', '25.0%', '25.0%']
    """
    patterns, names = _patterns(frame if like is None else like, None)
    if not names:
        raise ValueError("plot_missing: no entry is missing, so there is nothing to draw")
    found, _ = _patterns(frame, names)
    total = sum(found.values())
    shown = [pattern for pattern, _ in sorted(patterns.items(), key=lambda each: (-each[1], each[0]))][:num_patterns]
    with rc_context(STYLE):
        if ax is None:
            ax = subplots(size=(0.45 * len(names) + 1.2, 0.22 * len(shown) + 1.1))[0, 0]
        ax.imshow(np.array(shown, dtype=float), cmap=MISSING, vmin=0, vmax=1, aspect="auto")
        ax.set_yticks(range(len(shown)), [f"{found[pattern] / total:.1%}" for pattern in shown])
        _name_columns(ax, names)
        _separate(ax, len(shown), len(names))
    return ax


def plot_cells(
    frame: Any,
    scores: npt.ArrayLike,
    *,
    lowest: float = -6.0,
    rows: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draws the entries of some rows as a table, the darker the lower the score of the entry.

    Scores such as `model.conditional_log_score(frame)` are in the units of each column. Subtract what is usual for the
    column, such as its median over the data, to compare columns.

    Args:
        frame: of pandas, polars or pyarrow; every entry is written, so a few rows.
        scores: shape (N, V), nats; 0 and above is white, NaN grey.
        lowest: score that is drawn darkest, below 0.
        rows: name of each row; None is no names.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: `scores` has another shape, or `lowest` is not below 0.

    Example:
        >>> ax = plot_cells({"a": [1.0, None], "b": ["x", "y"]}, [[0.0, -3.0], [np.nan, 0.0]])
        >>> [text.get_text() for text in ax.texts]
        ['1', '', 'x', 'y']
    """
    names = names_of(frame)
    columns = [column_of(frame, name) for name in names]
    values, expected = np.asarray(scores, dtype=float), (len(columns[0]), len(names))
    if values.shape != expected:
        raise ValueError(f"scores: got shape {values.shape}, expected {expected}, one for each entry")
    if lowest >= 0:
        raise ValueError(f"lowest: got {lowest}, expected a score below 0")
    with rc_context(STYLE):
        if ax is None:
            ax = subplots(size=(0.85 * len(names) + 0.6, 0.24 * len(values) + 0.8))[0, 0]
        ax.imshow(np.ma.masked_invalid(values), cmap=BLAME, vmin=lowest, vmax=0, aspect="auto")
        for place, column in enumerate(columns):
            for row, entry in enumerate(column):
                ax.text(place, row, _written(entry), ha="center", va="center", fontsize=7)
        ax.set_yticks(range(len(values)), ["" for _ in values] if rows is None else rows)
        _name_columns(ax, names)
        _separate(ax, len(values), len(names))
    return ax


def _patterns(frame: Any, names: Sequence[str] | None) -> tuple[Counter[tuple[bool, ...]], list[str]]:
    """Rows by which of these columns are missing, and the columns; None is those with a missing entry."""
    every = names_of(frame) if names is None else list(names)
    missing = {name: [entry_is_missing(each) for each in column_of(frame, name)] for name in every}
    kept = [name for name in every if names is not None or any(missing[name])]
    return Counter(zip(*(missing[name] for name in kept), strict=True)), kept


def _written(entry: object) -> str:
    """An entry as short text."""
    if entry_is_missing(entry):
        return ""
    return f"{entry:.6g}" if isinstance(entry, float | np.floating) else str(entry)


def _name_columns(ax: Axes, names: Sequence[str]) -> None:
    """Names of the columns above them."""
    ax.xaxis.tick_top()
    ax.set_xticks(range(len(names)), names, rotation=30, ha="left", rotation_mode="anchor")
    ax.tick_params(length=0)


def _separate(ax: Axes, num_rows: int, num_columns: int) -> None:
    """Thin lines between cells."""
    ax.hlines(np.arange(1, num_rows) - 0.5, -0.5, num_columns - 0.5, color="white", linewidth=1.0)
    ax.vlines(np.arange(1, num_columns) - 0.5, -0.5, num_rows - 0.5, color="white", linewidth=1.0)
    ax.set(xlim=(-0.5, num_columns - 0.5), ylim=(num_rows - 0.5, -0.5))
    ax.spines[:].set(color=GUIDE)
    ax.tick_params(axis="y", labelcolor=DATA)
