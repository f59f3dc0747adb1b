"""Pictures of tables: points, shares and bars are those of the frames."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.figure import Figure

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


def test_pairs_of_samples_have_the_range_of_the_data() -> None:
    figure = Figure()
    ax = figure.subplots(2, 2)
    drawn = plot_pairs(TABLE.head(2), {"size": "size, cm", "kind": "kind"}, like=TABLE, ax=ax)
    assert drawn is ax and ax[1, 0].get_xlim() == pytest.approx((0.85, 4.15)) and ax[1, 0].get_xlabel() == "size, cm"
    with pytest.raises(ValueError, match=r"ax: got axes of shape \(2, 2\), expected \(3, 3\)"):
        plot_pairs(TABLE, ax=ax)
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


def test_the_report_shows_both_densities_with_their_errors() -> None:
    report = SimpleNamespace(
        num_held_out=40, log_likelihood=-3.0, log_likelihood_error=0.1, reference_log_likelihood=-3.5,
        reference_log_likelihood_error=0.2, gain=0.5, gain_error=0.05, findings=("log Z is uncertain",),
    )  # fmt: skip
    ax = plot_report(SimpleNamespace(report_=report))
    ends = [bar.get_segments()[0][:, 0] for bar in ax.collections]
    assert ends[0] == pytest.approx([-3.9, -3.1]) and ends[1] == pytest.approx([-3.2, -2.8])
    assert "gain 0.500 +- 0.050" in ax.get_title("left") and "log Z is uncertain" in ax.get_title("left")
    with pytest.raises(ValueError, match=r"the fit held no rows out.*50 rows or more, with num_visits above 0"):
        plot_report(SimpleNamespace(report_=SimpleNamespace(log_likelihood=None)))
