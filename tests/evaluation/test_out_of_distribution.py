"""Specification of out-of-distribution detection: three kinds of outliers, scores by enumeration, areas by rank."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jointebm import Categorical, Continuous, Model, Space
from jointebm.data import ArrayDataset, Toy, digits
from jointebm.evaluation.out_of_distribution import SCORES, auroc, outlier_images, outlier_scores, separation
from jointebm.spaces.space import Position
from support.block_models import small_config
from support.generators import seeded

SPACE = Space(image=Continuous((28, 28)), digit=Categorical(3))


def strokes(num: int = 20) -> ArrayDataset:
    """Black images with one white row; its place is the label."""
    labels = np.arange(num, dtype=np.uint8) % 3
    images = np.zeros((num, 28, 28), dtype=np.uint8)
    images[np.arange(num), 9 * labels] = 255
    rows = {"image": images, "digit": labels}
    return ArrayDataset("strokes", SPACE, train=rows, held_out=rows, white=255, noise_width=0.0, noise_sd=0.01)


@pytest.fixture
def fashion(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Replaces the file; its reader is tested elsewhere."""
    images = np.full((20, 28, 28), 51, dtype=np.uint8)
    monkeypatch.setattr("jointebm.evaluation.out_of_distribution.fashion_images", lambda data_dir: images)  # noqa: ARG005
    return images


def test_each_kind_of_outlier_is_as_named_and_has_the_noise_of_the_data(fashion: np.ndarray) -> None:
    data = strokes()
    outliers = outlier_images(data, None, generator=seeded())
    assert list(outliers) == ["fashion", "uniform", "shuffled"]
    assert {tuple(images.shape) for images in outliers.values()} == {(20, 28, 28)}
    noise = outliers["fashion"] - torch.from_numpy(fashion) / 255
    # 15,680 normals of standard deviation .01: its standard error is .01 / sqrt(2 * 15,680) = 5.6e-5.
    assert abs(float(noise.std()) - 0.01) < 5 * 5.6e-5 and float(noise.abs().max()) < 0.06
    # Uniform on [0, 1], variance 1/12: the mean's standard error is .0023, and a histogram of ten bins has no gap.
    assert abs(float(outliers["uniform"].mean()) - 0.5) < 5 * 0.0023
    share = outliers["uniform"].histc(10, 0, 1) / outliers["uniform"].numel()
    assert float((share - 0.1).abs().max()) < 5 * math.sqrt(0.09 / 15_680) + 0.002  # and noise across the edges
    white = (outliers["shuffled"] > 0.5).flatten(1)
    assert white.sum(dim=1).tolist() == [28] * 20  # as in the data
    assert len(white.unique(dim=0)) == 20  # each in its own order, though only three images differ
    assert float(white.double().mean(dim=0).std()) < 0.1  # and spread over the image


@pytest.mark.parametrize("dataset", [Toy(), digits()], ids=["points", "small images"])
def test_data_other_than_images_of_28_x_28_pixels_are_refused(dataset: ArrayDataset | Toy) -> None:
    with pytest.raises(ValueError, match=r"data '(toy|digits)': got Space.*; expected images of 28 x 28 pixels"):
        outlier_images(dataset, None, generator=seeded())


def test_a_missing_file_and_another_file_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"fashion-mnist: no data folder; pass --data"):
        outlier_images(strokes(), None, generator=seeded())
    with pytest.raises(FileNotFoundError, match="fashion-mnist/t10k-images-idx3-ubyte"):
        outlier_images(strokes(), tmp_path, generator=seeded())
    header = bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28])
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + bytes(784)))  # MNIST uses the same name
    with pytest.raises(FileNotFoundError, match="jointebm data --download fashion-mnist"):
        outlier_images(strokes(), tmp_path, generator=seeded())
    (tmp_path / "fashion-mnist").mkdir()
    (tmp_path / "t10k-images-idx3-ubyte.gz").rename(tmp_path / "fashion-mnist" / "t10k-images-idx3-ubyte.gz")
    with pytest.raises(ValueError, match="not the original fashion-mnist file"):
        outlier_images(strokes(), tmp_path, generator=seeded())


class Strokes(torch.nn.Module):
    """f(x, y) = 10 times the mean of row 9 y, less 10 times that of all: high at the data."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(10.0))

    def forward(self, position: Position) -> Tensor:
        rows = position["image"][:, ::9].mean(dim=2)[:, :3]  # (N, 3)
        return self.scale * ((rows * position["digit"]).sum(dim=1) - position["image"].mean(dim=(1, 2)))


def model() -> Model:
    return Model(small_config(SPACE), energy=Strokes())


def test_scores_are_sums_and_maxima_over_all_labels() -> None:
    values = strokes().test()
    rows = values["image"][:, ::9].mean(dim=2)[:, :3]
    f = 10 * (rows - values["image"].mean(dim=(1, 2))[:, None])  # (N, 3)
    scores = outlier_scores(model(), values)
    assert scores.keys() == SCORES.keys()
    torch.testing.assert_close(scores["log_sum_exp"], f.exp().sum(dim=1).log())
    torch.testing.assert_close(scores["confidence"], f.softmax(dim=1).amax(dim=1))


def test_a_model_of_the_data_separates_them_from_all_outliers(fashion: np.ndarray) -> None:  # noqa: ARG001
    data = strokes()
    areas = separation(model(), data.test(), outlier_images(data, None, generator=seeded()))
    assert areas == {score: dict.fromkeys(("fashion", "uniform", "shuffled"), 1.0) for score in SCORES}
    swapped = separation(model(), {"image": torch.full((5, 28, 28), 0.2)}, {"data": data.test()["image"]})
    assert swapped == {score: {"data": 0.0} for score in SCORES}
    same = separation(model(), data.test(), {"data": data.test()["image"]})
    assert same == {score: {"data": 0.5} for score in SCORES}


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_pairs_in_order_with_ties_counting_half(seed: int) -> None:
    generator = seeded(seed)
    a, b = (torch.randint(0, 12, (num,), generator=generator).double() for num in (37, 54))  # many ties
    pairs = (a[:, None] > b).double() + (a[:, None] == b).double() / 2
    assert auroc(a, b) == pytest.approx(float(pairs.mean()), abs=1e-12)
    assert auroc(b, a) == pytest.approx(1 - auroc(a, b), abs=1e-12)
    assert auroc(a.exp(), b.exp()) == auroc(a, b)  # depends on ranks only
    assert auroc(torch.tensor([1.0, torch.inf]), torch.tensor([0.0, -torch.inf])) == 1.0


def test_auroc_refuses_no_scores_and_nan() -> None:
    one = torch.tensor([1.0])
    for sides in ((one, one[:0]), (one[:0], one), (one, one * torch.nan)):
        with pytest.raises(ValueError, match="expected some of each and no NaN"):
            auroc(*sides)
