"""Pictures of tables: pairs of columns, a conditional distribution next to that of the data, and the report of a fit.

Every function draws into the axes it is given, or makes a figure, and returns axes; `axes.figure` is the figure.

Legend: N rows, V columns drawn.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from textwrap import wrap
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jointebm.plots.style import DATA, GUIDE, MODEL, STYLE, Axes, Figure, rc_context

__all__ = ["plot_conditional", "plot_pairs", "plot_report"]

COLOURS = (MODEL, "#c64600", "#2e8b57", "#813d9c", DATA)
NUM_CELLS = 27  # of a histogram
MAX_LEVELS = 30  # of a category that is drawn
Vector = npt.NDArray[Any]


class Sampler(Protocol):
    """A fitted `JointEBM`, of which `plot_conditional` needs the samples."""

    def sample(self, n: int = 1, *, given: Any = None, seed: int | None = None) -> Any:
        """Draws rows."""


class Reported(Protocol):
    """A fitted `JointEBM`, of which `plot_report` needs the report."""

    report_: Any


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
    half the smallest step, so that equal ones do not hide one another.

    Args:
        frame: of pandas, polars or pyarrow; rows with a missing entry in a pair are left out of it.
        columns: that are drawn, numbers or categories, or their labels by name; None is all but `by`.
        by: a category that colours the points: 5 levels at most.
        like: frame whose range, levels and steps are used; None is `frame`.
        ax: axes to draw into, shape (V, V); None makes a figure.

    Returns:
        Axes, shape (V, V); those above the diagonal are empty.

    Raises:
        ValueError: an unknown column, too many levels, or axes of another shape.

    Example:
        >>> plot_pairs({"a": [1.0, 2.0, 2.5], "b": ["x", "y", "x"]}).shape
        (2, 2)
    """
    like = frame if like is None else like
    names = [name for name in _names(like) if name != by] if columns is None else list(columns)
    labels = dict(columns) if isinstance(columns, Mapping) else {name: name for name in names}
    scales = [_Scale.of(like, name) for name in names]
    groups = [("", np.ones(len(_column(frame, names[0])), dtype=bool))]
    if by is not None:
        levels = _Scale.of(like, by, most=len(COLOURS)).levels or ()
        groups = [(level, np.array([str(each) == level for each in _column(frame, by)])) for level in levels]
    size = len(names)
    with rc_context(STYLE):
        if ax is None:
            ax = Figure(figsize=(1.3 * size + 0.4, 1.2 * size + 0.3), layout="constrained").subplots(
                size, size, squeeze=False
            )
        if ax.shape != (size, size):
            raise ValueError(f"ax: got axes of shape {ax.shape}, expected ({size}, {size}) for {size} columns")
        columns_drawn = enumerate(zip(names, scales, strict=True))
        places = [scale.places(_column(frame, name), seed) for seed, (name, scale) in columns_drawn]
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
                ax[i, j].set_xlabel(labels[names[j]] if i == size - 1 else "")
                ax[i, j].set_ylabel(labels[names[i]] if j == 0 and i > 0 else "")
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
    """
    drawn = model.sample(num, given=given, seed=seed)
    scale = _Scale.of(drawn if data is None else data, target)
    with rc_context(STYLE):
        ax = Figure(figsize=(3.2, 2.2), layout="constrained").subplots() if ax is None else ax
        if data is not None:
            agrees = np.all([_agree(_column(data, name), known) for name, known in given.items()], axis=0)
            seen = scale.shares(_column(data, target)[agrees])
            ax.stairs(seen, scale.edges, fill=True, color=DATA, alpha=0.35, label=f"data, {int(agrees.sum())} rows")
        ax.stairs(
            scale.shares(_column(drawn, target)), scale.edges, color=MODEL, linewidth=1.2, label=f"model, {num} draws"
        )
        scale.mark(ax.xaxis, ax.set_xlim)
        evidence = ", ".join(f"{name}={known}" for name, known in given.items())
        ax.set(xlabel=target, ylabel="share", title=f"p({target} | {evidence})")
        ax.set_ylim(0, 1.4 * ax.get_ylim()[1])  # room for the legend
        ax.legend(frameon=False)
    return ax


def plot_report(model: Reported, *, ax: Axes | None = None) -> Axes:
    """Draws the held-out log-likelihood of the density and of its reference, with two standard errors, and what is wrong.

    Args:
        model: a fitted `JointEBM`.
        ax: axes to draw into; None makes a figure.

    Raises:
        ValueError: the fit held no rows out.
    """
    report = model.report_
    if report.log_likelihood is None:
        raise ValueError(
            "plot_report: the fit held no rows out, so there is nothing to draw; fit 50 rows or more, with num_visits "
            "above 0"
        )
    with rc_context(STYLE):
        ax = Figure(figsize=(4.2, 1.7), layout="constrained").subplots() if ax is None else ax
        found = (
            ("reference", report.reference_log_likelihood, report.reference_log_likelihood_error, GUIDE),
            ("model", report.log_likelihood, report.log_likelihood_error, MODEL),
        )
        for place, (_, value, error, colour) in enumerate(found):
            ax.errorbar(value, place, xerr=2 * error, fmt="o", color=colour, ecolor=DATA, capsize=3)
        ax.set_yticks([0, 1], [name for name, *_ in found])
        ax.set(ylim=(-0.6, 1.6), xlabel=f"log-likelihood of {report.num_held_out} held-out rows, nats per row")
        findings = report.findings or ("nothing found wrong",)
        title = f"gain {report.gain:.3f} +- {report.gain_error:.3f} nats per row"
        wrapped = [line for finding in findings for line in wrap(finding, 45)]
        ax.set_title("\n".join((title, *wrapped)), loc="left")
    return ax


class _Scale:
    """Where the values of a column are drawn: numbers at themselves, levels of a category at 0, 1, ..."""

    def __init__(self, levels: tuple[str, ...] | None, numbers: Vector) -> None:
        self.levels = levels
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
        column = _column(frame, name)
        numbers = _numbers(column)
        if numbers is not None and most == MAX_LEVELS:
            return cls(None, numbers[~np.isnan(numbers)])
        levels = tuple(sorted({str(each) for each in column if not _is_missing(each)}))
        if len(levels) > most:
            raise ValueError(f"column {name!r}: got {len(levels)} levels, expected at most {most}; leave it out")
        return cls(levels, np.arange(len(levels)))

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
        else:
            axis.get_major_locator().set_params(nbins=3)


def _column(frame: Any, name: str) -> Vector:
    """A column as Python objects, shape (N,)."""
    names = [str(each) for each in _names(frame)]
    if name not in names:
        raise ValueError(f"unknown column {name!r}; columns: {', '.join(map(repr, names))}")
    column = frame[name]
    entries = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
    vector = np.empty(len(entries), dtype=object)
    vector[:] = entries
    return vector


def _names(frame: Any) -> list[str]:
    """Names of the columns of a frame, or of a mapping of columns."""
    names = getattr(frame, "column_names", None)  # pyarrow, whose `columns` are arrays
    names = getattr(frame, "columns", None) if names is None else names
    return list(frame.keys() if names is None else names)


def _numbers(column: Vector) -> Vector | None:
    """Reals with NaN where missing; None if a value is no number."""
    if any(isinstance(each, bool | np.bool_ | str) for each in column):
        return None
    try:
        return np.array([np.nan if _is_missing(each) else float(each) for each in column])
    except (TypeError, ValueError):
        return None


def _is_missing(each: object) -> bool:
    return each is None or type(each).__name__ in ("NAType", "NaTType") or bool(each != each)


def _agree(column: Vector, known: Any) -> Vector:
    """Which entries agree with evidence; missing ones do not."""
    if isinstance(known, tuple):
        low, high = known
        return np.array(
            [
                not _is_missing(each) and (low is None or each >= low) and (high is None or each <= high)
                for each in column
            ]
        )
    values = known if isinstance(known, AbstractSet | list) else [known]
    return np.array([not _is_missing(each) and each in values for each in column])
