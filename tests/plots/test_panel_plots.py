"""Panels: each title has its own axes, strips join images without gaps, and measurements have their errors."""

import numpy as np
import pytest
import torch

from jointebm.plots import panels, plot_accuracies, plot_density, plot_measurements, plot_points, plot_strip


def test_each_title_has_axes_of_its_own_and_the_rest_are_hidden() -> None:
    seen = []
    axes = panels({"a": 1, "b": 2, "c": 3}, lambda content, ax: seen.append((content, ax)), num_columns=2)
    assert axes.shape == (2, 2) and seen == list(zip((1, 2, 3), axes.flat, strict=False))
    assert [ax.get_title(loc="left") for ax in axes.flat] == ["a", "b", "c", ""]
    assert [ax.axison for ax in axes.flat] == [True, True, True, False]
    with pytest.raises(ValueError, match="nothing to draw"):
        panels({}, lambda _, __: None)


def test_a_strip_joins_images_and_large_values_are_light_or_dark() -> None:
    images = torch.arange(24.0).reshape(2, 3, 4)
    for ink, cmap in (("light", "gray"), ("dark", "gray_r")):
        (image,) = plot_strip(images, ink=ink).images  # type: ignore[arg-type]
        np.testing.assert_array_equal(image.get_array(), torch.cat([images[0], images[1]], dim=1))
        assert image.get_cmap().name == cmap
    with pytest.raises(ValueError, match=r"images of shape \(3, 4\), expected \(N, height, width\)"):
        plot_strip(images[0])
    with pytest.raises(ValueError, match="ink: got 'red'"):
        plot_strip(images, ink="red")  # type: ignore[arg-type]


def test_measurements_are_means_with_two_standard_errors() -> None:
    samples = torch.tensor([[1.0, 3.0, 5.0, 7.0], [2.0, 2.0, 2.0, 2.0]])
    ax = plot_measurements(torch.tensor([0.0, 1.0]), samples, curve=([0.0, 1.0], [4.0, 2.0]), label="x")
    line, _, (bars,) = ax.containers[0]
    np.testing.assert_array_equal(line.get_xydata(), [[0.0, 4.0], [1.0, 2.0]])
    lengths = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(lengths, [4 * (20 / 3) ** 0.5 / 2, 0.0], rtol=1e-6)
    assert ax.lines[0].get_xydata().tolist() == [[0.0, 4.0], [1.0, 2.0]] and ax.get_xlabel() == "x"
    with pytest.raises(ValueError, match=r"samples of shape \(2, 1\), expected \(2, 2 or more\)"):
        plot_measurements(torch.zeros(2), samples[:, :1], curve=([], []))


def test_points_that_are_not_marked_are_hollow() -> None:
    points, marked = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), torch.tensor([True, False, True])
    filled, hollow = plot_points(points, marked=marked, size=9.0).collections
    np.testing.assert_array_equal(filled.get_offsets(), points[marked])
    np.testing.assert_array_equal(hollow.get_offsets(), points[~marked])
    assert len(hollow.get_facecolors()) == 0 and filled.get_sizes().tolist() == [9.0] == hollow.get_sizes().tolist()
    with pytest.raises(ValueError, match=r"marked of shape \(2,\), expected \(3,\)"):
        plot_points(points, marked=marked[:2])
    with pytest.raises(ValueError, match="got 2 groups, expected at most 1"):
        plot_points(points, by=["a", "b", "a"], colours=("red",))


def test_a_density_is_drawn_upwards_on_the_scale_it_is_given() -> None:
    (image,) = plot_density(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), extent=(-1, 1, 0, 4), top=6.0).get_images()
    assert image.origin == "lower" and image.get_extent() == [-1, 1, 0, 4] and image.get_clim() == (0, 6.0)
    np.testing.assert_array_equal(image.get_array(), [[0.0, 1.0], [2.0, 3.0]])
    with pytest.raises(ValueError, match=r"density of shape \(4,\)"):
        plot_density(torch.zeros(4), extent=(0, 1, 0, 1))
    with pytest.raises(ValueError, match="top: got 0"):
        plot_density(torch.zeros(2, 2), extent=(0, 1, 0, 1), top=0)


def test_accuracies_have_a_bar_for_each_part_and_block() -> None:
    found = {"top half": {"row": 0.5, "sign": 1.0}, "whole image": {"row": 0.75, "sign": 0.25}}
    ax = plot_accuracies(found, num_rows=8)
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in ax.containers}
    assert widths == {"row": [50.0, 75.0], "sign": [100.0, 25.0]} and "8 test rows" in ax.get_xlabel()
    for wrong in ({}, {"a": {"row": 0.5}, "b": {"sign": 0.5}}):
        with pytest.raises(ValueError, match="expected the same blocks"):
            plot_accuracies(wrong, num_rows=8)
