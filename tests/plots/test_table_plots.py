"""Pictures of tables: points, shares and bars are those of the frames."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.figure import Figure

from jointebm import JointEBM
from jointebm.plots import plot_conditional, plot_pairs, plot_report

TABLE = pd.DataFrame(
    {
        "size": [1.0, 2.0, 3.0, 4.0, np.nan, 2.0],
        "kind": ["cat", "dog", "cat", None, "dog", "dog"],
        "home": [True, False, True, True, False, True],
    }
)


class Model:
    """Samples of a known table."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows, self.asked = rows, {}

    def sample(self, n: int = 1, *, given: Any = None, seed: int | None = None) -> pd.DataFrame:
        self.asked = {"n": n, "given": given, "seed": seed}
        return self.rows


@pytest.mark.parametrize("frame", [TABLE, pl.from_pandas(TABLE), pl.from_pandas(TABLE).to_arrow()])
def test_pairs_are_the_rows_jittered_by_less_than_half_a_step(frame: Any) -> None:
    axes = plot_pairs(frame, by="home")
    assert axes.shape == (2, 2) and not axes[0, 1].axison
    homeless, housed = (np.asarray(each.get_offsets()) for each in axes[1, 0].collections)
    for points, chosen in ((homeless, ~TABLE["home"]), (housed, TABLE["home"])):
        sizes = TABLE["size"][chosen].to_numpy()
        kinds = TABLE["kind"][chosen].map({"cat": 0.0, "dog": 1.0}).to_numpy(dtype=float)
        assert np.array_equal(np.round(points[:, 0]), sizes, equal_nan=True)
        assert np.array_equal(np.round(points[:, 1]), kinds, equal_nan=True)
    assert [each.get_text() for each in axes[1, 0].get_yticklabels()] == ["cat", "dog"]
    assert (axes[1, 0].get_xlabel(), axes[1, 0].get_ylabel()) == ("size", "kind")


WHEN = pd.DataFrame(
    {
        "born": pd.to_datetime(["2020-01-01", "2021-06-01", None, "2023-01-01"]),
        "took": pd.to_timedelta(["1D", "36h", "3D", None]),
        "size": [1.0, 2.0, 3.0, 4.0],
        "kind": ["cat", "dog", "cat", "dog"],
    }
)


@pytest.mark.parametrize("frame", [WHEN, pl.from_pandas(WHEN), pl.from_pandas(WHEN).to_arrow()])
def test_dates_and_lengths_of_time_are_drawn_in_days(frame: Any) -> None:
    axes = plot_pairs(frame, ["born", "took", "size"])
    (points,) = (np.asarray(each.get_offsets()) for each in axes[2, 0].collections)
    days = (WHEN["born"] - pd.Timestamp("1970-01-01")).dt.days.to_numpy(dtype=float)
    smallest = np.diff(np.sort(days[~np.isnan(days)])).min()
    assert np.nanmax(np.abs(points[:, 0] - days)) <= 0.4 * smallest and np.isnan(points[2, 0])
    (lengths,) = (np.asarray(each.get_offsets()) for each in axes[2, 1].collections)
    assert np.nanmax(np.abs(lengths[:, 0] - [1.0, 1.5, 3.0, np.nan])) <= 0.2
    assert [each.get_text() for each in axes[2, 0].get_xticklabels()] == ["2020", "2021", "2022", "2023"]
    assert [axes[2, place].get_xlabel() for place in range(3)] == ["born", "took, days", "size"]
    assert axes[1, 0].get_ylabel() == "took, days"
    assert not any("-" in each.get_text() for each in axes[2, 1].get_xticklabels())  # numbers, not dates
    assert plot_conditional(Model(WHEN), "took", {}).get_xlabel() == "took, days"
    dates = plot_pairs({"day": [each.date() for each in WHEN["born"].dropna()]})
    assert dates[0, 0].get_xlim()[0] < days[0] < days[3] < dates[0, 0].get_xlim()[1]
    near = plot_pairs({"at": [pd.Timestamp("2020-02-27"), pd.Timestamp("2020-03-05")]})
    first, last = (each.get_text() for each in near[0, 0].get_xticklabels())
    assert "2020-02-27" <= first < last <= "2020-03-05"
    same = plot_pairs({"at": [pd.Timestamp("2020-02-27 12:00")] * 3})
    assert len({each.get_text() for each in same[0, 0].get_xticklabels()}) == 2


@pytest.mark.parametrize("known", ["2021-06-01", ("2021-01-01", "2022-01-01"), {pd.Timestamp("2021-06-01")}])
def test_rows_that_agree_with_a_date_are_found(known: object) -> None:
    ax = plot_conditional(Model(WHEN), "size", {"born": known}, data=WHEN)
    assert ax.get_legend_handles_labels()[1][0] == "data, 1 rows"


def test_colours_have_a_legend_with_the_name_of_their_column() -> None:
    for columns in (["size", "born"], ["size"]):
        legend = plot_pairs(WHEN, columns, by="kind")[0, -1].get_legend()
        assert legend.get_title().get_text() == "kind"
        assert [each.get_text() for each in legend.get_texts()] == ["cat", "dog"]
    assert plot_pairs(WHEN, ["size"])[0, 0].get_legend() is None


def test_a_model_without_a_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="this JointEBM is not fitted; call fit first"):
        plot_report(JointEBM())


def test_pairs_of_samples_have_the_range_of_the_data() -> None:
    figure = Figure()
    ax = figure.subplots(2, 2)
    drawn = plot_pairs(TABLE.head(2), {"size": "size, cm", "kind": "kind"}, like=TABLE, ax=ax)
    assert drawn is ax and ax[1, 0].get_xlim() == pytest.approx((0.85, 4.15)) and ax[1, 0].get_xlabel() == "size, cm"
    with pytest.raises(ValueError, match=r"ax: got axes of shape \(2, 2\), expected \(3, 3\)"):
        plot_pairs(TABLE, ax=ax)
    with pytest.raises(ValueError, match=r"ax: got axes of shape \(\), expected \(3, 3\)"):
        plot_pairs(TABLE, ax=ax[0, 0])
    with pytest.raises(ValueError, match="unknown column 'age'; columns: 'size', 'kind', 'home'"):
        plot_pairs(TABLE, ["age"])
    with pytest.raises(ValueError, match="column 'k': got 40 levels, expected at most 30"):
        plot_pairs({"k": [f"level {number}" for number in range(40)]})


@pytest.mark.parametrize("given", [{"home": True}, {"size": (1, 4), "home": {True}}])
def test_a_conditional_shows_shares_of_the_rows_that_agree(given: dict[str, Any]) -> None:
    model = Model(pd.DataFrame({"kind": ["cat"] * 3 + ["dog"]}))
    ax = plot_conditional(model, "kind", given, data=TABLE, num=4, seed=7)
    assert model.asked == {"n": 4, "given": given, "seed": 7}
    of_data, of_model = (patch.get_data().values for patch in ax.patches)
    assert of_data == pytest.approx([2 / 3, 1 / 3]) and of_model == pytest.approx([0.75, 0.25])
    labels = [each.get_text() for each in ax.get_legend().get_texts()]
    assert labels == ["data, 4 rows", "model, 4 draws"] and ax.get_title().startswith("p(kind | ")


def test_the_title_of_a_conditional_says_what_is_given_in_short_lines() -> None:
    given = {"size": (None, 4), "kind": {"dog", "cat"}, "home": True}
    ax = plot_conditional(Model(TABLE), "kind", given)
    assert ax.get_title() == "p(kind | size <= 4, kind in {cat, dog},\nhome = True)"
    assert plot_conditional(Model(TABLE), "kind", {"size": (1, 4)}).get_title() == "p(kind | size 1 to 4)"
    assert plot_conditional(Model(TABLE), "kind", {"size": (1, None)}).get_title() == "p(kind | size >= 1)"


def test_a_conditional_of_numbers_fills_cells_of_one_scale() -> None:
    figure = Figure()
    ax = figure.subplots()
    drawn = plot_conditional(Model(TABLE), "size", {"kind": "dog"}, data=TABLE, ax=ax)
    assert drawn is ax
    of_data, of_model = (patch.get_data() for patch in ax.patches)
    assert np.array_equal(of_data.edges, of_model.edges) and of_data.values.sum() == pytest.approx(1)
    assert of_data.values.max() == 1 and of_model.values.max() == pytest.approx(0.4)
    alone = plot_conditional(Model(TABLE), "size", {"kind": "dog"})
    assert len(alone.patches) == 1


def reporting(report: object) -> Any:
    model: Any = JointEBM()
    model.report_ = report
    return model


def test_the_report_shows_both_densities_with_their_errors() -> None:
    report = SimpleNamespace(
        num_held_out=40, log_likelihood=-3.0, log_likelihood_error=0.1, reference_log_likelihood=-3.5,
        reference_log_likelihood_error=0.2, gain=0.5, gain_error=0.05, findings=("log Z is uncertain",),
    )  # fmt: skip
    ax = plot_report(reporting(report))
    ends = [bar.get_segments()[0][:, 0] for bar in ax.collections]
    assert ends[0] == pytest.approx([-3.9, -3.1]) and ends[1] == pytest.approx([-3.2, -2.8])
    assert "gain 0.500 +- 0.050" in ax.get_title("left") and "log Z is uncertain" in ax.get_title("left")
    with pytest.raises(ValueError, match=r"the fit held no rows out.*50 rows or more, with num_visits above 0"):
        plot_report(reporting(SimpleNamespace(log_likelihood=None)))
