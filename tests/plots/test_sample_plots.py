"""Pictures of samples: tiles, points and calibration are those of the tensors."""

import numpy as np
import pytest
import torch
from matplotlib.image import AxesImage

from jointebm.evaluation.calibration import calibration, reliability
from jointebm.plots import plot_calibration, plot_images, plot_points, save_figure, subplots
from jointebm.spaces import Categorical, Space


def picture(ax: object) -> np.ndarray:
    (image,) = (each for each in ax.get_children() if isinstance(each, AxesImage))  # type: ignore[attr-defined]
    return np.ma.filled(np.ma.masked_invalid(image.get_array()), np.nan)


def test_each_image_fills_its_tile_and_unknown_pixels_are_blank() -> None:
    images = torch.stack([torch.zeros(36, 36), torch.full((36, 36), 0.5), torch.full((36, 36), torch.nan)])
    given = subplots()[0, 0]
    ax = plot_images(images, num_columns=2, rows=["first", "second"], ax=given)
    assert ax is given and [each.get_text() for each in ax.get_yticklabels()] == ["first", "second"]
    drawn, side = picture(ax), 36 + 2 * 3 + 1  # a margin of a twelfth on both sides, and the gap
    middles = drawn[side // 2 :: side, side // 2 :: side]
    np.testing.assert_array_equal(middles, [[0, 0.5], [np.nan, np.nan]])
    assert drawn[side + 4, 2] == 0.0  # the margin of an image is paper, even if its pixels are unknown


def test_captions_stand_above_their_images() -> None:
    ax = plot_images(torch.rand(3, 8, 8), num_columns=2, captions=["a", "b", "c"])
    placed = {each.get_text(): tuple(int(at) for at in each.get_position()) for each in ax.texts}
    assert placed == {"a": (0, 0), "b": (1, 0), "c": (0, 1)}


@pytest.mark.parametrize(
    ("images", "texts", "message"),
    [
        (torch.zeros(2, 64), {}, r"images of shape \(2, 64\), expected \(N, height, width\)"),
        (torch.zeros(3, 8, 8), {"rows": ["only"]}, "got 1 rows, expected 2"),
        (torch.zeros(3, 8, 8), {"captions": ["a", "b"]}, "got 2 captions, expected 3"),
    ],
)
def test_wrong_images_and_texts_are_named(images: torch.Tensor, texts: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_images(images, num_columns=2, **texts)


def test_points_of_a_group_have_its_colour_and_the_frame_is_that_of_like() -> None:
    points, frame = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), torch.tensor([[-10.0, -10.0], [10.0, 10.0]])
    ax = plot_points(points, by=["b", "a", "b"], like=frame)
    first, second = (np.asarray(each.get_offsets()) for each in ax.collections)
    np.testing.assert_array_equal(first, points[1:2])
    np.testing.assert_array_equal(second, points[[0, 2]])
    assert [each.get_text() for each in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.get_xlim() == ax.get_ylim() == pytest.approx((-11.2, 11.2))
    assert plot_points(points).get_legend() is None
    with pytest.raises(ValueError, match="got 6 groups, expected at most 5"):
        plot_points(torch.zeros(6, 2), by=list("abcdef"))
    with pytest.raises(ValueError, match=r"points of shape \(2, 3\)"):
        plot_points(torch.zeros(2, 3))


def test_calibration_draws_each_bin_with_enough_rows_and_its_error() -> None:
    sure, torn = torch.tensor([0.9, 0.1]).repeat(100, 1), torch.tensor([0.55, 0.45]).repeat(20, 1)
    true = torch.cat([torch.arange(100) < 20, torch.arange(20) < 10]).long()  # right in 80 of 100, and in 10 of 20
    probs = torch.cat([sure, torn])
    ax = plot_calibration(probs, true, label="one")
    line, _, (bars,) = ax.containers[0]
    np.testing.assert_allclose(line.get_xydata(), [[0.55, 0.5], [0.9, 0.8]], atol=1e-6)
    lengths = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(lengths, [4 * (0.25 / 20) ** 0.5, 4 * (0.16 / 100) ** 0.5], rtol=1e-4)
    found = calibration(Space(y=Categorical(2)), {"y": probs}, {"y": true})
    assert [each.get_text() for each in ax.get_legend().get_texts()] == [f"one, ECE {found.ece:.3f}"]
    again = plot_calibration(probs, true, label="two", min_rows=50, ax=ax)
    assert again is ax and len(ax.containers) == 2 and len(ax.containers[1][0].get_xdata()) == 1
    assert len({each[0].get_color() for each in ax.containers}) == 2
    with pytest.raises(ValueError, match="min_rows must be >= 1, got 0"):
        plot_calibration(probs, true, min_rows=0)


def test_reliability_is_that_of_a_loop_over_bins() -> None:
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(500, 3, generator=generator, dtype=torch.float64).pow(3)
    probs = probs / probs.sum(dim=1, keepdim=True)
    true = torch.randint(3, (500,), generator=generator)
    confidence, right = probs.max(dim=1).values, probs.argmax(dim=1) == true
    found, gap = reliability(probs, true), 0.0
    for place in range(15):
        rows = (confidence * 15).long().clamp(max=14) == place
        assert found.num_rows[place] == rows.sum()
        if rows.any():
            assert found.accuracy[place] == pytest.approx(float(right[rows].double().mean()))
            gap += abs(float(confidence[rows].sum() - right[rows].sum())) / 500
    assert found.ece == pytest.approx(gap)


def test_a_figure_is_shown_by_a_notebook_and_replaces_a_file(tmp_path: object) -> None:
    axes = subplots(1, 2, titles=["left", "right"])
    assert axes[0, 0].figure._repr_png_().startswith(b"\x89PNG")
    path = tmp_path / "figure.png"  # type: ignore[operator]
    path.write_bytes(b"old")
    save_figure(axes[0, 0].figure, path, dpi=50)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="got 3 titles, expected at most 2"):
        subplots(1, 2, titles=["a", "b", "c"])
