"""Pictures of tables: pairs of columns, and a conditional distribution next to that of the data.

Every function draws into the axes it is given, or makes a figure, and returns axes; `axes.figure` is the figure.

Legend: N rows, V columns drawn.
"""

import datetime
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from textwrap import wrap
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jointebm.plots.frame_columns import column_of, entry_is_missing, names_of
from jointebm.plots.style import (
    COLOURS,
    DATA,
    MODEL,
    STYLE,
    AutoDateLocator,
    Axes,
    Figure,
    date2num,
    num2date,
    rc_context,
)

__all__ = ["plot_conditional", "plot_pairs"]

NUM_CELLS = 27  # of a histogram
MAX_LINE = 42  # characters in a line of a title
MAX_LEVELS = 30  # of a category that is drawn
Vector = npt.NDArray[Any]
_DATES = (datetime.date, np.datetime64)  # pandas' times and datetime.datetime are dates too
_LENGTHS = (datetime.timedelta, np.timedelta64)


class Sampler(Protocol):
    """A fitted `JointEBM`, of which `plot_conditional` needs the samples."""

    def sample(self, n: int = 1, *, given: Any = None, seed: int | None = None) -> Any:
        """Draws rows."""


def plot_pairs(
    frame: Any,
    columns: Sequence[str] | Mapping[str, str] | None = None,
    *,
    by: str | None = None,
    like: Any = None,
    ax: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """Draws each pair of columns of a frame as points, and each column as a histogram, below the diagonal.

    Draw the data and `model.sample(len(data))` next to each other, both with `like=data`. Points are jittered by less than
    half the smallest step, so that equal ones do not hide one another. Lengths of time are drawn in days.

    Args:
        frame: of pandas, polars or pyarrow; rows with a missing entry in a pair are left out of it.
        columns: that are drawn, numbers, dates or categories, or their labels by name; None is all but `by`.
        by: a category that colours the points, with a legend above the diagonal: 5 levels at most.
        like: frame whose range, levels and steps are used; None is `frame`.
        ax: axes to draw into, shape (V, V); None makes a figure.

    Returns:
        Axes, shape (V, V); those above the diagonal are empty, but for the legend.

    Raises:
        ValueError: an unknown column, too many levels, or axes of another shape.

    Example:
        >>> plot_pairs({"a": [1.0, 2.0, 2.5], "b": ["x", "y", "x"]}).shape
        (2, 2)
    """
    like = frame if like is None else like
    names = [name for name in names_of(like) if name != by] if columns is None else list(columns)
    labels = dict(columns) if isinstance(columns, Mapping) else {name: name for name in names}
    scales = [_Scale.of(like, name) for name in names]
    groups = [("", np.ones(len(column_of(frame, names[0])), dtype=bool))]
    if by is not None:
        levels = _Scale.of(like, by, most=len(COLOURS)).levels or ()
        groups = [(level, np.array([str(each) == level for each in column_of(frame, by)])) for level in levels]
    size = len(names)
    with rc_context(STYLE):
        if ax is None:
            ax = Figure(figsize=(1.3 * size + 0.4, 1.2 * size + 0.3), layout="constrained").subplots(
                size, size, squeeze=False
            )
        if np.shape(ax) != (size, size):
            raise ValueError(f"ax: got axes of shape {np.shape(ax)}, expected ({size}, {size}) for {size} columns")
        columns_drawn = enumerate(zip(names, scales, strict=True))
        places = [scale.places(column_of(frame, name), seed) for seed, (name, scale) in columns_drawn]
        for i in range(size):
            for j in range(size):
                if j > i:
                    ax[i, j].set_axis_off()
                    continue
                for colour, (level, chosen) in zip(COLOURS, groups, strict=False):
                    style = {"color": colour, "alpha": 0.5, "label": level or None}
                    if i == j:
                        seen = places[i][0][chosen]
                        ax[i, i].hist(seen[~np.isnan(seen)], scales[i].edges, histtype="stepfilled", **style)
                    else:
                        ax[i, j].scatter(places[j][1][chosen], places[i][1][chosen], s=4, linewidths=0, **style)
                scales[j].mark(ax[i, j].xaxis, ax[i, j].set_xlim)
                if i == j:
                    ax[i, j].set_yticks([])
                else:
                    scales[i].mark(ax[i, j].yaxis, ax[i, j].set_ylim)
                ax[i, j].tick_params(labelbottom=i == size - 1, labelleft=j == 0 and i > 0, left=i != j)
                ax[i, j].set_xlabel(scales[j].label(labels[names[j]]) if i == size - 1 else "")
                ax[i, j].set_ylabel(scales[i].label(labels[names[i]]) if j == 0 and i > 0 else "")
        if by is not None:
            handles, shown = ax[0, 0].get_legend_handles_labels()
            ax[0, -1].legend(handles, shown, title=by, loc="upper right", frameon=False)
            if size == 1:
                ax[0, 0].set_ylim(0, 1.8 * ax[0, 0].get_ylim()[1])  # room for the legend
    return ax


def plot_conditional(
    model: Sampler,
    target: str,
    given: Mapping[str, Any],
    *,
    data: Any = None,
    num: int = 1000,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draws p(target | given): a line for the model, filled for the rows of the data that agree.

    The heights are shares of `num` draws and of the rows that agree, so they have sampling error.

    Args:
        model: a fitted `JointEBM`.
        target: the column, of numbers or categories.
        given: as in `JointEBM.sample`.
        data: frame to compare with; None draws the model alone.
        num: draws of the model.
        seed: of the draws.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: an unknown column, too many levels, or as `JointEBM.sample`.

    Example:
        >>> class Coin:  # as a fitted JointEBM
        ...     def sample(self, n=1, *, given=None, seed=None): return {"side": ["up", "down"] * (n // 2)}
        >>> plot_conditional(Coin(), "side", {}).get_ylabel()
        'share'
    """
    drawn = model.sample(num, given=given, seed=seed)
    scale = _Scale.of(drawn if data is None else data, target)
    with rc_context(STYLE):
        ax = Figure(figsize=(3.2, 2.2), layout="constrained").subplots() if ax is None else ax
        if data is not None:
            agrees = np.all([_agree(column_of(data, name), known) for name, known in given.items()], axis=0)
            seen = scale.shares(column_of(data, target)[agrees])
            ax.stairs(seen, scale.edges, fill=True, color=DATA, alpha=0.35, label=f"data, {int(agrees.sum())} rows")
        ax.stairs(
            scale.shares(column_of(drawn, target)), scale.edges, color=MODEL, linewidth=1.2, label=f"model, {num} draws"
        )
        scale.mark(ax.xaxis, ax.set_xlim)
        title = f"p({target} | {', '.join(_said(name, known) for name, known in given.items())})"
        ax.set(xlabel=scale.label(target), ylabel="share", title="\n".join(wrap(title, MAX_LINE)))
        ax.set_ylim(0, 1.4 * ax.get_ylim()[1])  # room for the legend
        ax.legend(frameon=False)
    return ax


class _Scale:
    """Where the values of a column are drawn: numbers at themselves, times in days, levels of a category at 0, 1, ..."""

    def __init__(self, levels: tuple[str, ...] | None, numbers: Vector, *, column: Vector | None = None) -> None:
        values = [] if column is None else [each for each in column if not entry_is_missing(each)]  # NaT is a date too
        self.levels, self.are_dates = levels, any(isinstance(each, _DATES) for each in values)
        self.are_lengths = any(isinstance(each, _LENGTHS) for each in values)
        low, high = (float(numbers.min()), float(numbers.max())) if len(numbers) else (0.0, 1.0)
        margin = 0.05 * (high - low) or 0.5
        self.limits = (-0.7, len(levels) - 0.3) if levels is not None else (low - margin, high + margin)
        self.edges = (
            np.arange(len(levels) + 1) - 0.5 if levels is not None else np.linspace(*self.limits, NUM_CELLS + 1)
        )
        steps = np.diff(np.unique(numbers))
        self.step = 1.0 if levels is not None else float(steps.min()) if len(steps) else 0.0

    @classmethod
    def of(cls, frame: Any, name: str, *, most: int = MAX_LEVELS) -> "_Scale":
        column = column_of(frame, name)
        numbers = _numbers(column)
        if numbers is not None and most == MAX_LEVELS:
            return cls(None, numbers[~np.isnan(numbers)], column=column)
        levels = tuple(sorted({str(each) for each in column if not entry_is_missing(each)}))
        if len(levels) > most:
            raise ValueError(f"column {name!r}: got {len(levels)} levels, expected at most {most}; leave it out")
        return cls(levels, np.arange(len(levels)))

    def label(self, name: str) -> str:
        """The name of an axis, with the unit of lengths of time."""
        return f"{name}, days" if self.are_lengths else name

    def places(self, column: Vector, seed: int = 0) -> tuple[Vector, Vector]:
        """Places of the values, NaN where missing, and jittered, shape (N,) each."""
        numbers = _numbers(column) if self.levels is None else None
        if numbers is None:
            known = {level: float(place) for place, level in enumerate(self.levels or ())}
            numbers = np.array([known.get(str(each), np.nan) for each in column])
        jitter = np.random.default_rng(seed).uniform(-0.4, 0.4, len(numbers)) * self.step
        return numbers, numbers + jitter

    def shares(self, column: Vector) -> Vector:
        """Share of the values in each cell."""
        places = self.places(column)[0]
        places = places[~np.isnan(places)]
        shares: Vector = np.histogram(places, self.edges)[0] / max(1, len(places))
        return shares

    def mark(self, axis: Any, set_limits: Any) -> None:
        """Ticks and limits of an axis."""
        set_limits(*self.limits)
        if self.levels is not None:
            axis.set_ticks(range(len(self.levels)), self.levels)
        elif self.are_dates:
            axis.set_ticks(*_date_ticks(*self.limits))
        else:
            axis.get_major_locator().set_params(nbins=3)


def _said(name: str, known: Any) -> str:
    """Evidence about a column as short text."""
    if isinstance(known, tuple) and len(known) == 2:
        low, high = known
        return f"{name} <= {high}" if low is None else f"{name} >= {low}" if high is None else f"{name} {low} to {high}"
    if isinstance(known, AbstractSet | list):
        return f"{name} in {{{', '.join(sorted(map(str, known)))}}}"
    return f"{name} = {known}"


def _date_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """A few round dates between two days and their texts, as short as tells them; two if the texts are long."""
    found = AutoDateLocator(minticks=2, maxticks=4).tick_values(num2date(low), num2date(high))
    places = [float(each) for each in found if low <= each <= high]
    if len(places) < 2:
        places = [low + share * (high - low) for share in (0.2, 0.8)]
    texts = [num2date(each).strftime("%Y-%m-%d %H:%M").removesuffix(" 00:00") for each in places]
    for ending in ("-01", "-01"):  # of days, then of months
        if all(text.endswith(ending) for text in texts):
            texts = [text.removesuffix(ending) for text in texts]
    if len(texts[0]) > len("2020-01"):
        return places[:: len(places) - 1], texts[:: len(places) - 1]
    return places, texts


def _numbers(column: Vector) -> Vector | None:
    """Reals with NaN where missing, days of dates and of lengths of time; None if a value is no number."""
    if any(isinstance(each, bool | np.bool_ | str) for each in column):
        return None
    try:
        return np.array([np.nan if entry_is_missing(each) else _number(each) for each in column])
    except (TypeError, ValueError):
        return None


def _number(each: Any) -> float:
    """A number, or the days of a date since 1970, or of a length of time."""
    if isinstance(each, _DATES):
        return float(date2num(each))
    if isinstance(each, datetime.timedelta):
        return each / datetime.timedelta(days=1)
    return float(each / np.timedelta64(1, "D") if isinstance(each, np.timedelta64) else each)


def _agree(column: Vector, known: Any) -> Vector:
    """Which entries agree with evidence; missing ones do not. Texts about a column of dates are dates."""
    if any(isinstance(each, _DATES) for each in column):
        days = [np.nan if entry_is_missing(each) else _number(each) for each in column]
        column, known = np.array(days), _in_days(known)
    if isinstance(known, tuple):
        low, high = known
        return np.array(
            [
                not entry_is_missing(each) and (low is None or each >= low) and (high is None or each <= high)
                for each in column
            ]
        )
    values = known if isinstance(known, AbstractSet | list) else [known]
    return np.array([not entry_is_missing(each) and each in values for each in column])


def _in_days(known: Any) -> Any:
    """Evidence about dates as days, with its shape."""
    if isinstance(known, tuple | list | AbstractSet):
        return type(known)(None if each is None else _in_days(each) for each in known)  # type: ignore[call-arg]
    return _number(np.datetime64(known) if isinstance(known, str) else known)
