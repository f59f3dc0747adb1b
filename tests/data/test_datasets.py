"""Specification of the data sets: the toy density integrates to one, and the bundled digits are the published ones."""

import hashlib
import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.data import ArrayDataset, GeneratedDataset, Toy, digits
from jointebm.data.registry import DATASETS, open_dataset
from jointebm.data.toy import attributes_of, centers, modes_of, nearest_mode
from support.generators import Fixed, seeded
from support.oracles import chi_square_p_value

TOY = Toy()
MODES = torch.arange(8)


# The toy data.


def grid(half_width: float = 6.0, num: int = 600) -> tuple[Tensor, float]:
    """Midpoints of square cells, and the area of one."""
    axis = (torch.arange(num, dtype=torch.float64) + 0.5) / num * 2 * half_width - half_width
    return torch.cartesian_prod(axis, axis), (2 * half_width / num) ** 2


def densities() -> tuple[Tensor, Tensor, float]:
    """Grid points, the density at every point and mode (points, 8), and the area of a cell."""
    points, area = grid()
    columns = []
    for mode in MODES:
        labels = {name: value.expand(len(points)) for name, value in attributes_of(mode).items()}
        position, _ = TOY.space.encode({"point": points, **labels}, dtype=torch.float64)
        columns.append(TOY.log_density(position).exp())
    return points, torch.stack(columns, dim=1), area


def test_each_mode_is_a_gaussian_of_mass_one_eighth_around_its_centre() -> None:
    """The midpoint rule on a smooth density that vanishes at the border is exact to rounding."""
    points, density, area = densities()
    torch.testing.assert_close(density.sum(dim=0) * area, torch.full((8,), 1 / 8).double(), rtol=0, atol=1e-9)
    weights = density * area * 8  # (points, 8)
    means = weights.T @ points
    torch.testing.assert_close(means, centers().double(), rtol=0, atol=1e-6)
    variances = weights.T @ points.square() - means.square()
    torch.testing.assert_close(variances, torch.full((8, 2), 0.125, dtype=torch.float64), rtol=0, atol=1e-6)  # .5^2 / 2


def test_the_modes_lie_every_45_degrees_at_radius_four_over_root_two() -> None:
    torch.testing.assert_close(centers().norm(dim=1), torch.full((8,), 4 / math.sqrt(2)))
    angles = torch.atan2(centers()[:, 1], centers()[:, 0]) % (2 * math.pi)
    torch.testing.assert_close(angles, MODES * (math.pi / 4), rtol=0, atol=1e-5)


def test_each_attribute_splits_the_modes_evenly_and_all_three_identify_the_mode() -> None:
    attributes = attributes_of(MODES)
    assert list(attributes) == list(TOY.space.discrete) and len(attributes) == 3
    assert all(labels.bincount().tolist() == [4, 4] for labels in attributes.values())
    assert len(set(zip(*(labels.tolist() for labels in attributes.values()), strict=True))) == 8
    assert torch.equal(modes_of(attributes), MODES)
    labels = torch.stack(list(attributes.values()), dim=1)
    assert (labels != labels.roll(-1, dims=0)).sum(dim=1).tolist() == [1] * 8  # neighbours differ in one


def test_the_nearest_mode_is_the_bayes_classifier() -> None:
    points, density, area = densities()
    nearest = nearest_mode(points)
    best = density.argmax(dim=1)
    clear = density.sum(dim=1) > 1e-12
    ties = (density.topk(2, dim=1).values * torch.tensor([1.0, -1.0])).sum(dim=1) < 1e-9 * density.amax(dim=1)
    assert torch.equal(nearest[clear & ~ties], best[clear & ~ties])
    predicted, true = attributes_of(nearest), attributes_of(MODES)
    for name, labels in predicted.items():
        right = labels[:, None] == true[name]  # (points, 8)
        accuracy = float((density * right).sum() * area)
        assert 0.9975 <= accuracy <= 0.9999, name  # the Bayes accuracy is about 99.8 to 99.95%


def test_toy_draws_follow_the_true_density() -> None:
    """20,000 draws: modes by chi-square at 1e-6; means and variances around the centre within 6 standard errors."""
    num = 20_000
    values = TOY.draw(num, generator=seeded())
    modes = modes_of(values)
    counts = modes.bincount(minlength=8).double()
    assert chi_square_p_value(float(((counts - num / 8).square() / (num / 8)).sum()), 7) > 1e-6
    residual = (values["point"] - centers()[modes]) / math.sqrt(0.125)
    assert float(residual.mean(dim=0).abs().max()) < 6 / math.sqrt(num)
    assert float((residual.square().mean(dim=0) - 1).abs().max()) < 6 * math.sqrt(2 / num)
    assert abs(float((residual[:, 0] * residual[:, 1]).mean())) < 6 / math.sqrt(num)


# The digits.


def published() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    data = load_digits()
    return data.images.astype(np.uint8), data.target.astype(np.uint8)


def sha256(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_the_bundled_digits_equal_those_of_scikit_learn() -> None:
    images, labels = published()
    assert np.array_equal(images, load_digits().images)  # whole numbers lose nothing
    with files("jointebm.data").joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as bundled:
        assert "CC BY 4.0" in str(bundled["source"])
        assert bundled["images"].shape == (1797, 8, 8) and bundled["images"].dtype == np.uint8
        assert sha256(bundled["images"]) == sha256(images)
        assert sha256(bundled["labels"].astype(np.uint8)) == sha256(labels)


def rows_of(part: Any) -> list[bytes]:
    """Image and label of every row, as bytes."""
    return [image.tobytes() + bytes([label]) for image, label in zip(part["image"], part["digit"], strict=True)]


def test_the_split_covers_all_rows_disjointly_and_reproducibly() -> None:
    data, again = digits(), digits()
    images, labels = published()
    everything = sorted(rows_of({"image": images, "digit": labels}))
    assert len(set(everything)) == 1797  # all rows differ, so content identifies them
    train, held_out = rows_of(data.train), rows_of(data.held_out)
    assert sorted(train + held_out) == everything and not set(train) & set(held_out)
    assert rows_of(again.train) == train and rows_of(again.held_out) == held_out


def test_the_split_is_stratified() -> None:
    data, (_, labels) = digits(), published()
    held_out, total = np.bincount(data.held_out["digit"], minlength=10), np.bincount(labels)
    assert len(data.held_out["digit"]) == round(1797 * 0.2)
    assert np.abs(held_out - total * 0.2).max() < 1  # every class gives its share, to within one row


# Dequantisation.


def one_row(levels: list[int], *, white: int, noise_width: float) -> ArrayDataset:
    rows = {"image": np.array([levels], dtype=np.uint8), "digit": np.array([1], dtype=np.uint8)}
    space = Space(image=Continuous(len(levels)), digit=Categorical(2))
    return ArrayDataset("row", space, rows, rows, white=white, noise_width=noise_width)


@pytest.mark.parametrize("u", [0.0, 0.25, 0.75])
def test_dequantisation_is_that_of_the_paper(u: float) -> None:
    mnist = one_row([0, 1, 128, 255], white=255, noise_width=1 / 256).batch(1, generator=Fixed(u))["image"]
    torch.testing.assert_close(mnist, (torch.tensor([[0.0, 1, 128, 255]]) + u) / 256)  # App. B.2.1: (255 x + u) / 256
    sprites = one_row([0, 1], white=1, noise_width=1 / 8).batch(1, generator=Fixed(u))["image"]
    torch.testing.assert_close(sprites, (torch.tensor([[0.0, 7.0]]) + u) / 8)  # App. B.3.1: (7 x + u) / 8


@pytest.mark.parametrize("data", [TOY, digits()], ids=["toy", "digits"])
def test_batches_are_fresh_and_test_rows_are_fixed(data: Toy | ArrayDataset) -> None:
    generator = seeded()
    one, two, again = (data.batch(16, generator=each) for each in (generator, generator, seeded()))
    test, same = data.test(), data.test()
    name = data.space.continuous[0]
    assert not torch.equal(one[name], two[name]) and data.space.encode(test)[1][name].all()
    assert all(torch.equal(one[each], again[each]) and torch.equal(test[each], same[each]) for each in data.space)
    assert len(test[name]) == (TOY.num_test if data is TOY else len(digits().held_out["digit"]))


def test_batches_draw_all_training_rows_equally_often() -> None:
    """Labels of 20,000 draws by chi-square against their share of the training rows, at 1e-6."""
    data = digits()
    labels = data.batch(20_000, generator=seeded())["digit"].argmax(dim=1)
    expected = torch.tensor(np.bincount(data.train["digit"])) / len(data.train["digit"]) * 20_000
    counts = labels.bincount(minlength=10)
    assert chi_square_p_value(float(((counts - expected).square() / expected).sum()), 9) > 1e-6


# By name.


def test_an_unknown_name_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"unknown data 'cifar'; available: {', '.join(DATASETS)}"):
        open_dataset("cifar")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder; expected the folder of data files"):
        open_dataset("dsprites", tmp_path / "nowhere")


def test_a_data_set_needs_nothing_but_its_definition_and_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generated rows have no numbers and all their labels."""

    class Coins(GeneratedDataset):
        name, num_test = "coins", 7
        space = Space(x=Continuous(2), y=Binary())

        def draw(self, num: int, *, generator: torch.Generator) -> dict[str, Tensor]:
            return {"x": torch.zeros(num, 2), "y": torch.randint(2, (num,), generator=generator)}

    monkeypatch.setitem(DATASETS, "coins", lambda data_dir: Coins())  # noqa: ARG005
    data = open_dataset("coins")
    assert data.stored is data.judge is data.figures is None and len(data.test()["y"]) == 7
    for rows in (data.rows(3, generator=seeded()), data.labelled(3, generator=seeded())):
        assert rows.numbers is None and torch.equal(rows.position["y"], data.batch(3, generator=seeded())["y"])


def test_normal_noise_is_added_to_the_clean_signal() -> None:
    data = replace(digits(), noise_width=0.0, noise_sd=0.1)
    batches = [data.batch(1438, generator=seeded(seed))["image"] for seed in (0, 1)]
    assert not torch.equal(*batches)
    noise = data.test()["image"] - torch.tensor(data.held_out["image"]) / data.white  # 22,976 numbers
    # Five standard errors: false alarms in one of a million.
    assert abs(float(noise.mean())) < 5 * 0.1 / math.sqrt(noise.numel())
    assert abs(float(noise.std()) - 0.1) < 5 * 0.1 / math.sqrt(2 * noise.numel())
    assert float(data.test()["image"].min()) < -0.2
    assert torch.equal(data.test()["image"], data.test()["image"])
