"""Specification of the figures: each panel shows what its title says, next to the truth."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Model, Noise, Space, plots
from jointebm.data import Sets, Toy
from jointebm.data.toy import attributes_of, centers, nearest_mode
from jointebm.inference.conditions import Condition, configurations, single_values
from jointebm.plots import figures_of, inpainting_figures, plot_samples, save_figures
from jointebm.plots.image_grids import image_figures
from jointebm.plots.plane import square_grid, toy_figures
from jointebm.plots.tiles import grey_range, mosaic
from support.block_models import small_config
from support.generators import seeded
from support.stripes import Stripes, real_stripes, stripes, stripes_model
from support.true_toy import TrueEnergy, toy_model

NUM_CELLS = 160
VARIANCE = 0.125  # (.5 / sqrt 2)^2


def closed_form(points: Tensor, condition: Condition) -> Tensor:
    """p(x | condition): the even mixture of the Gaussians whose attributes the condition allows, by hand."""
    attributes = attributes_of(torch.arange(8))
    modes = [k for k in range(8) if all(int(attributes[n][k]) == int(v) for n, v in condition.given.items())]
    squares = [(points - centers()[k].double()).square().sum(dim=1) for k in modes]
    return sum((-square / (2 * VARIANCE)).exp() for square in squares) / (2 * math.pi * VARIANCE * len(modes))  # type: ignore[return-value]


def image_of(ax: object) -> np.ndarray:
    (image,) = ax.get_images()  # type: ignore[attr-defined]
    return np.asarray(np.ma.filled(image.get_array().astype(float), np.nan))


def points_of(ax: object) -> Tensor:
    (points,) = ax.collections  # type: ignore[attr-defined]
    return torch.as_tensor(np.asarray(points.get_offsets()), dtype=torch.float32)


def titles(figure: Figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes]


@pytest.fixture(scope="module")
def true_figures() -> dict[str, Figure]:
    return toy_figures(toy_model(TrueEnergy()).double(), seeded(), num_points=60, num_cells=NUM_CELLS)


def test_density_panels_draw_the_closed_form_named_by_their_titles(true_figures: dict[str, Figure]) -> None:
    grid = square_grid(NUM_CELLS, like=torch.empty(0, dtype=torch.float64))
    for name, conditions in (
        ("density-attributes", single_values(Toy().space)),
        ("density-configurations", configurations(Toy().space)),
    ):
        axes = true_figures[name].axes
        assert len(axes) == 2 * len(conditions) and [axes[0].get_ylabel(), axes[len(conditions)].get_ylabel()] == [
            "truth",
            "model",
        ]
        for index, condition in enumerate(conditions):
            assert axes[index].get_title().replace("\n", ", ") == condition.text
            expected = closed_form(grid.points, condition).reshape(NUM_CELLS, NUM_CELLS).numpy()
            for ax in (axes[index], axes[index + len(conditions)]):
                np.testing.assert_allclose(image_of(ax), expected, rtol=1e-6)
                assert ax.get_images()[0].get_extent() == [-4.6, 4.6, -4.6, 4.6]
                assert ax.get_images()[0].origin == "lower"
            assert axes[index + len(conditions)].texts[0].get_text() == "TV 0.000"


def test_density_panels_have_x_to_the_right_and_y_upwards(true_figures: dict[str, Figure]) -> None:
    axes = {ax.get_title(): ax for ax in true_figures["density-configurations"].axes[:8]}
    # Mode 1, at 45 degrees, is (bottom, left, diagonal) = 001; mode 2, at 90 degrees, is 011.
    for title, center in (
        ("bottom = 0\nleft = 0\ndiagonal = 1", (2, 2)),
        ("bottom = 0\nleft = 1\ndiagonal = 1", (0, 8**0.5)),
    ):
        row, column = np.unravel_index(image_of(axes[title]).argmax(), (NUM_CELLS, NUM_CELLS))
        place = [(index + 0.5) / NUM_CELLS * 9.2 - 4.6 for index in (column, row)]
        assert place == pytest.approx(center, abs=9.2 / NUM_CELLS)


def test_the_distance_of_a_wrong_model_is_written_in_its_panel() -> None:
    # Given a configuration, a model that ignores y has all eight modes: 7/8 of its mass is where the truth has none.
    model = toy_model(TrueEnergy(ignores_labels=True), num_steps=1)
    figures = toy_figures(model, seeded(), num_points=2, num_cells=60)
    noted = [float(ax.texts[0].get_text().removeprefix("TV ")) for ax in figures["density-configurations"].axes[8:]]
    assert noted == pytest.approx([7 / 8] * 8, abs=0.002)
    assert figures["unconditional"].axes[3].texts[0].get_text() == "TV 0.000"


def test_sample_panels_hold_points_that_meet_their_titles(true_figures: dict[str, Figure]) -> None:
    axes = true_figures["conditional-samples"].axes
    conditions = single_values(Toy().space)
    assert titles(true_figures["conditional-samples"]) == [c.text for c in conditions] + [""] * 6
    assert [axes[0].get_ylabel(), axes[6].get_ylabel()] == ["data", "model"]
    for index, ax in enumerate(axes):
        points = points_of(ax)
        agrees = conditions[index % 6].holds(attributes_of(nearest_mode(points)))
        assert len(points) == 60 and agrees.float().mean() > 0.95  # each is wrong with probability .001 to .002
        assert len(ax.lines) == 4  # a ring around each mode that the condition allows


def test_the_unconditional_figure_shows_data_samples_and_both_densities(true_figures: dict[str, Figure]) -> None:
    figure = true_figures["unconditional"]
    assert titles(figure) == ["data", "samples", "true density p(x)", "model density p(x)"]
    data, samples, truth, ours = figure.axes
    assert len(points_of(data)) == len(points_of(samples)) == 60
    grid = square_grid(NUM_CELLS, like=torch.empty(0, dtype=torch.float64))
    expected = closed_form(grid.points, Condition("", {})).reshape(NUM_CELLS, NUM_CELLS).numpy()
    for ax in (truth, ours):
        np.testing.assert_allclose(image_of(ax), expected, rtol=1e-6)


def tiles_of(ax: object, num_columns: int, num_rows: int) -> np.ndarray:
    """Colour in the middle of the four rows of pixels of each tile, (rows, columns, 4)."""
    picture = image_of(ax)
    height, width = picture.shape[0] / num_rows, picture.shape[1] / num_columns
    assert height == int(height) and width == int(width)
    tiles = picture.reshape(num_rows, int(height), num_columns, int(width)).transpose(0, 2, 1, 3)
    ink = tiles[:, :, :, int(width) // 2]
    margin = round(0.08 * height)
    inner = ink[:, :, margin : int(height) - margin]
    return np.stack([inner[:, :, round((k + 0.5) / 4 * inner.shape[2])] for k in range(4)], axis=2)


def test_image_figures_have_a_row_of_tiles_per_class() -> None:
    figures = image_figures(stripes_model(), real_stripes(), seeded(), num_columns=4, num_rows=2)
    assert set(figures) == {
        *("conditional-row", "conditional-sign", "classes-row", "classes-sign", "fixed", "unconditional")
    }
    figure = figures["conditional-row"]
    assert titles(figure) == ["data given row", "samples given row"]
    data, samples = figure.axes
    assert [label.get_text() for label in data.get_yticklabels()] == ["0", "1", "2", "3"]
    assert data.get_yticks().tolist() == [0.5, 1.5, 2.5, 3.5]
    expected = np.repeat(0.1 + 0.8 * np.eye(4)[:, None], 4, axis=1)  # row k of the figure shows stripe k
    # Samples have a standard deviation of 1 / sqrt 2000.
    np.testing.assert_allclose(tiles_of(samples, 4, 4), expected, atol=5 / 2000**0.5)
    expected[3, 2:] = np.nan  # there are only two real rows of the last class
    np.testing.assert_allclose(tiles_of(data, 4, 4), expected, rtol=1e-6)


def test_images_fixed_on_one_variable_are_in_its_row_or_its_column() -> None:
    model, real = stripes_model(), real_stripes()
    left, right = image_figures(model, real, seeded(), num_columns=3, num_rows=2)["fixed"].axes
    assert [ax.get_title() for ax in (left, right)] == ["samples, each row one row", "samples, each column one sign"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["0", "1", "2", "3"]
    assert [label.get_text() for label in right.get_xticklabels()] == ["0", "1"]
    np.testing.assert_allclose(
        tiles_of(left, 3, 4), np.repeat(0.1 + 0.8 * np.eye(4)[:, None], 3, axis=1), atol=5 / 2000**0.5
    )
    swapped = Space(image=Continuous((4, 6)), sign=Binary(), row=Categorical(4))
    config = model.config.model_copy(update={"space": swapped.config})
    turned = Model(config, energy=Stripes(), noise=Noise(swapped, dict(model.noise.parameters))).eval()
    right = image_figures(turned, real, seeded(), num_columns=3, num_rows=2)["fixed"].axes[1]
    np.testing.assert_allclose(
        tiles_of(right, 4, 3), np.repeat(0.1 + 0.8 * np.eye(4)[None], 3, axis=0), atol=5 / 2000**0.5
    )


def test_each_class_has_a_grid_or_six_of_many_classes() -> None:
    model, real = stripes_model(), real_stripes()
    grids = image_figures(model, real, seeded(), num_columns=2, num_rows=1, num_per_class=4)["classes-row"].axes
    assert [ax.get_title() for ax in grids if ax.axison] == [f"row = {k}" for k in range(4)]
    for k, ax in enumerate(grids[:4]):
        np.testing.assert_allclose(
            tiles_of(ax, 2, 2), np.broadcast_to(0.1 + 0.8 * np.eye(4)[k], (2, 2, 4)), atol=5 / 2000**0.5
        )
    many = Space(image=Continuous((4, 6)), row=Categorical(16))
    config = model.config.model_copy(update={"space": many.config})
    noise = Noise(many, {**Noise.uniform(many).parameters, "image": model.noise.parameters["image"]})
    blank = Model(config, noise=noise).eval()
    values = {"image": real["image"][:16], "row": torch.arange(16)}
    figures = image_figures(blank, values, seeded(), num_columns=2, num_rows=1, num_per_class=4)
    assert [ax.get_title() for ax in figures["classes-row"].axes if ax.axison] == [
        f"row = {k}" for k in (0, 3, 6, 9, 12, 15)
    ]


def test_unconditional_images_carry_predicted_labels() -> None:
    figures = image_figures(stripes_model(), real_stripes(), seeded(), num_columns=4, num_rows=2)
    data, samples = figures["unconditional"].axes
    assert titles(figures["unconditional"]) == ["data, true labels", "samples, predicted labels"]
    assert [text.get_text() for text in data.texts] == ["0,0", "0,0", "0,0", "1,0", "1,1", "2,1", "2,1", "3,0"]
    assert len(samples.texts) == 8
    places = [text.get_position() for text in data.texts]
    assert [(int(x), int(y)) for x, y in places] == [(column, row) for row in range(2) for column in range(4)]


def test_figures_of_other_data_than_toy_and_images_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one block of images"):
        image_figures(toy_model(TrueEnergy()), {}, seeded())
    with pytest.raises(ValueError, match=r"data 'sets' name none; got Space.*expected one block of images"):
        figures_of(toy_model(TrueEnergy()), Sets(), seeded())


def test_the_figures_are_those_that_the_data_set_names() -> None:
    model, other = toy_model(TrueEnergy(), num_steps=1), SimpleNamespace(name="another name", figures="toy")
    assert set(figures_of(model, other, seeded())) == {  # type: ignore[arg-type]
        *("conditional-samples", "unconditional", "density-attributes", "density-configurations"),
    }


def test_mosaic_fills_rows_first_and_pads_with_blanks() -> None:
    images = torch.arange(5.0)[:, None, None].expand(5, 2, 3)
    picture = mosaic(images, 3)
    assert picture.shape == (2 * 3, 3 * 4)
    for k in range(6):
        tile = picture[3 * (k // 3) : 3 * (k // 3) + 3, 4 * (k % 3) : 4 * (k % 3) + 4]
        assert tile[0].isnan().all() and tile[:, 0].isnan().all()
        assert tile[1:, 1:].isnan().all() if k == 5 else (tile[1:, 1:] == k).all()


def test_samples_are_a_grid_of_images_or_a_scatter_of_points() -> None:
    images = plot_samples(stripes_model(), {"image": stripes(9, 2)}, title="row = 2")
    assert images.get_title() == "row = 2"
    np.testing.assert_allclose(tiles_of(images, 3, 3), np.tile(0.1 + 0.8 * np.eye(4)[2], (3, 3, 1)), rtol=1e-6)
    points = torch.tensor([[0.0, 1.0], [9.0, 2.0]])
    scatter = plot_samples(toy_model(TrueEnergy()), {"point": points}, title="$x")
    assert torch.equal(points_of(scatter), points)
    low, high = scatter.get_xlim()
    assert low < -3 and high > 9  # the noise of the model, and a point beyond it
    space = Space(x=Continuous(3), y=Binary())
    config = stripes_model().config.model_copy(update={"space": space.config})
    with pytest.raises(ValueError, match="no block is an image"):
        plot_samples(Model(config), {"x": torch.zeros(2, 3)})


def public_plots() -> list[str]:
    return [name for name in plots.__all__ if name.startswith("plot_")]


class FixedRows:
    """Draws these rows, as a fitted `JointEBM` draws some."""

    def sample(self, n: int = 1, *, given: Any = None, seed: int | None = None) -> Any:  # noqa: ARG002
        return FRAME


FRAME = {"a": [1.0, 2.0, None, 4.0], "b": ["x", "y", "x", None]}
CALLS: dict[str, Callable[[Any], Any]] = {
    "plot_accuracies": lambda ax: plots.plot_accuracies({"top half": {"digit": 0.5}}, num_rows=9, ax=ax),
    "plot_calibration": lambda ax: plots.plot_calibration(torch.eye(2), torch.tensor([0, 1]), min_rows=1, ax=ax),
    "plot_cells": lambda ax: plots.plot_cells(FRAME, np.zeros((4, 2)), ax=ax),
    "plot_conditional": lambda ax: plots.plot_conditional(FixedRows(), "b", {}, ax=ax),
    "plot_density": lambda ax: plots.plot_density(torch.ones(4, 4), extent=(0, 1, 0, 1), ax=ax),
    "plot_images": lambda ax: plots.plot_images(torch.zeros(4, 3, 3), ax=ax),
    "plot_measurements": lambda ax: plots.plot_measurements(
        torch.arange(3.0), torch.eye(3), curve=([0.0, 2.0], [0.3, 0.3]), ax=ax
    ),
    "plot_missing": lambda ax: plots.plot_missing(FRAME, ax=ax),
    "plot_pairs": lambda ax: plots.plot_pairs(FRAME, ["a"], ax=np.array([[ax]]))[0, 0],
    "plot_points": lambda ax: plots.plot_points(torch.zeros(4, 2), ax=ax),
    "plot_report": lambda ax: plots.plot_report(
        SimpleNamespace(
            report_=SimpleNamespace(
                log_likelihood=-1.0,
                log_likelihood_error=0.1,
                reference_log_likelihood=-1.2,
                reference_log_likelihood_error=0.1,
                gain=0.2,
                gain_error=0.05,
                num_held_out=9,
                findings=(),
            )
        ),
        ax=ax,
    ),
    "plot_samples": lambda ax: plots.plot_samples(stripes_model(), {"image": stripes(4, 1)}, ax=ax),
    "plot_strip": lambda ax: plots.plot_strip(torch.zeros(4, 3, 3), ax=ax),
}


@pytest.mark.parametrize("name", public_plots())
def test_a_plot_draws_into_the_axes_that_it_is_given_and_returns_them(name: str) -> None:
    axes = plots.subplots(1, 2)[0]
    assert CALLS[name](axes[1]) is axes[1]
    assert axes[1].has_data() and not axes[0].has_data() and len(axes[0].figure.axes) == 2


class Drawn:
    """Notes which axes public plots drew into."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.axes: set[Any] = set()
        for name in ("plane", "image_grids", "inpainting_figures"):
            module = sys.modules[f"jointebm.plots.{name}"]  # the package exports a function of the last name
            for plot in vars(module).keys() & {*public_plots()}:
                monkeypatch.setattr(module, plot, self._noting(getattr(module, plot)))

    def _noting(self, plot: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: Any, **options: Any) -> Any:
            ax = plot(*arguments, **options)
            self.axes.add(ax)
            return ax

        return noting


def test_every_panel_of_a_figure_is_drawn_by_a_public_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Drawn(monkeypatch)
    made = [
        *toy_figures(toy_model(TrueEnergy(), num_steps=1), seeded(), num_points=9, num_cells=20).values(),
        *image_figures(stripes_model(), real_stripes(), seeded(), num_columns=2, num_rows=1).values(),
        *inpainting_figures(stripes_model(), real_stripes(), "image", seeded(), num_images=2, num_rows=4).values(),
    ]
    assert len(made) == 4 + 6 + 3
    assert {ax for figure in made for ax in figure.axes if ax.axison} == drawn.axes


def test_save_figures_writes_every_figure_into_a_new_folder(tmp_path: Path) -> None:
    figures = {"one": Figure(), "two": Figure()}
    paths = save_figures(figures, tmp_path / "a" / "figures")
    assert paths == [tmp_path / "a" / "figures" / "one.png", tmp_path / "a" / "figures" / "two.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    with pytest.raises(FileExistsError, match="choose another folder"):
        save_figures(figures, tmp_path / "a" / "figures")


@pytest.mark.slow
def test_importing_plots_changes_neither_pyplot_nor_settings() -> None:
    script = (
        "import sys, jointebm.plots, matplotlib\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert all(matplotlib.rcParams[key] == matplotlib.rcParamsDefault[key] for key in jointebm.plots.style.STYLE)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for module in [name for name in sys.modules if name.startswith("jointebm.plots")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ImportError, match=r"pip install 'jointebm\[plots\]'"):
        import jointebm.plots  # noqa: F401


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((-0.4, 1.4), (0.0, 1.0)),
        ((0.0, 1.0), (0.0, 1.0)),
        ((-0.53, 0.92), (0.0, 1.0)),
        ((-3.0, 3.0), (-3.0, 3.0)),
        ((0.2, 1.1), (0.2, 1.1)),
    ],
)
def test_grey_levels_are_drawn_from_0_to_1_whatever_their_noise(
    bounds: tuple[float, float], expected: tuple[float, float]
) -> None:
    model = Model(small_config(Space(image=Continuous((4, 4)), label=Binary())))
    model.noise.parameters["image"][0], model.noise.parameters["image"][1] = bounds
    assert grey_range(model, "image") == pytest.approx(expected)
