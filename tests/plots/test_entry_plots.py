"""Pictures of the entries of a table: patterns of missing entries, and scores of entries."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.image import AxesImage

from jointebm.plots import plot_cells, plot_missing

TABLE = pd.DataFrame(
    {"a": [1.0, None, None, 4.0, None, 6.0], "b": ["x", None, "y", "z", None, None], "c": [1, 2, 3, 4, 5, 6]}
)


def picture(ax: Any) -> np.ndarray:
    (image,) = (each for each in ax.get_children() if isinstance(each, AxesImage))
    return np.ma.filled(np.ma.masked_invalid(image.get_array()), np.nan)


def shares(ax: Any) -> list[str]:
    return [each.get_text() for each in ax.get_yticklabels()]


@pytest.mark.parametrize("frame", [TABLE, pl.from_pandas(TABLE), pl.from_pandas(TABLE).to_arrow()])
def test_patterns_are_sorted_by_their_share_and_complete_columns_are_left_out(frame: Any) -> None:
    ax = plot_missing(frame)
    assert [each.get_text() for each in ax.get_xticklabels()] == ["a", "b"]
    np.testing.assert_array_equal(picture(ax), [[0, 0], [1, 1], [0, 1], [1, 0]])
    assert shares(ax) == ["33.3%", "33.3%", "16.7%", "16.7%"]


def test_another_frame_is_drawn_with_the_patterns_of_the_first() -> None:
    other = pd.DataFrame({"c": [None, 2, 3, 4], "b": [None, "x", None, "x"], "a": [None, 1.0, 1.0, None]})
    ax = plot_missing(other, like=TABLE, num_patterns=3)
    np.testing.assert_array_equal(picture(ax), [[0, 0], [1, 1], [0, 1]])
    assert shares(ax) == ["25.0%", "25.0%", "25.0%"]  # one row has a pattern that is not drawn
    with pytest.raises(ValueError, match="no entry is missing"):
        plot_missing({"a": [1.0, 2.0]})


def test_cells_are_written_and_as_dark_as_their_score_is_low() -> None:
    scores = np.array([[0.5, -1.0, -9.0], [np.nan, -2.0, -3.0]])
    ax = plot_cells(TABLE.head(2), scores, lowest=-4, rows=["first", "second"])
    np.testing.assert_array_equal(picture(ax), scores)
    assert {each.get_text(): each.get_position() for each in ax.texts if each.get_text()} == {
        "1": (2, 0),
        "x": (1, 0),
        "2": (2, 1),
    }
    assert shares(ax) == ["first", "second"]
    image = next(each for each in ax.get_children() if isinstance(each, AxesImage))
    darkness = [1 - float(np.mean(image.to_rgba(np.array([[score]]))[..., :3])) for score in (0.5, -1.0, -3.0, -4.0)]
    assert darkness[0] == pytest.approx(0) and darkness == sorted(darkness) and image.get_clim() == (-4, 0)


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores: got shape \(1, 3\), expected \(6, 3\)"):
        plot_cells(TABLE, [[0.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match=r"lowest: got 1.0, expected a score below 0"):
        plot_cells(TABLE, np.zeros((6, 3)), lowest=1.0)
