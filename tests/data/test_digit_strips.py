"""Specification of the strips of digits: the exact law of their labels, and which pictures are where."""

from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jointebm import Categorical, Continuous, Space
from jointebm.data.datasets import ArrayDataset
from jointebm.data.digit_strips import blotted, digit_strips, strip_rows
from jointebm.data.registry import DATASETS


class EveryQuadruple:
    """Stands for a generator whose draws are all quadruples of pictures, each once, in order."""

    def integers(self, num_pictures: int, *, size: tuple[int, int]) -> Any:
        every = np.array(list(product(range(num_pictures), repeat=size[1])))
        return every[np.arange(size[0]) % len(every)]


@pytest.mark.parametrize("multiple", [1, 2, 5, 10])
def test_strips_are_independent_pictures_given_their_sum(multiple: int) -> None:
    """Every quadruple of pictures that keeps the rule occurs once, and no other one."""
    digits = np.array([9, 1, 1, 4, 6], np.uint8)  # sums above 35 would overflow in five bits, above 255 in eight
    expected = [q for q in product(range(5), repeat=4) if sum(int(digits[i]) for i in q) % multiple == 0]
    rows = strip_rows(digits, len(expected), multiple, EveryQuadruple())  # type: ignore[arg-type]
    assert sorted(map(tuple, rows.tolist())) == sorted(expected) and len(expected) >= 10


MODULE = import_module("jointebm.data.digit_strips")  # the package names the function


def pictures(_: Path | None) -> ArrayDataset:
    """1,000 + 300 pictures that show their number, with their digit in the corner."""
    numbers = np.arange(1300)
    images = np.zeros((1300, 2, 2), np.uint8)
    images[:, 0, 0], images[:, 0, 1], images[:, 1, 0] = numbers % 10, numbers // 250, numbers % 250
    parts = {"image": images, "digit": (numbers % 10).astype(np.uint8)}
    return ArrayDataset(
        name="pictures",
        space=Space(image=Continuous((2, 2)), digit=Categorical(10)),
        train={name: array[:1000] for name, array in parts.items()},
        held_out={name: array[1000:] for name, array in parts.items()},
        white=255,
        noise_width=0.0,
    )


@pytest.fixture
def strips(monkeypatch: pytest.MonkeyPatch) -> ArrayDataset:
    monkeypatch.setattr(MODULE, "mnist", pictures)
    return digit_strips(None)


def numbers_of(images: Any) -> Any:
    return images[..., 0, 1].astype(int) * 250 + images[..., 1, 0]


def test_pictures_show_their_digits_and_each_part_has_its_own(strips: ArrayDataset) -> None:
    covered = (strips.train["image"] == 255).all(axis=(2, 3))
    shown = numbers_of(strips.train["image"])
    assert (strips.train["image"][..., 0, 0] == strips.train["digits"])[~covered].all()
    assert (shown[:18_000] < 900)[~covered[:18_000]].all() and len(np.unique(shown[:18_000])) > 850
    assert ((shown[18_000:] >= 900) & (shown[18_000:] < 1000))[~covered[18_000:]].all()
    assert (numbers_of(strips.held_out["image"]) >= 1000).all()
    assert not (strips.held_out["image"] == 255).all(axis=(2, 3)).any()
    for part in (strips.train, strips.held_out):
        assert (part["digits"].sum(axis=1, dtype=int) % 5 == 0).all()


def test_a_quarter_of_the_training_strips_has_one_blot_at_any_place_and_a_quarter_has_four(
    strips: ArrayDataset,
) -> None:
    """20,000 strips; five standard errors are a false alarm in one seed of 250,000, over seven counts."""
    covered = (strips.train["image"] == 255).all(axis=(2, 3))
    num, shares = covered.sum(axis=1), [1 / 2, 1 / 4, 1 / 4, *[1 / 16] * 4]
    assert set(num.tolist()) == {0, 1, 4}
    counts = [(num == 0).sum(), (num == 1).sum(), (num == 4).sum(), *covered[num == 1].sum(axis=0)]
    for count, share in zip(counts, shares, strict=True):
        assert abs(count - 20_000 * share) < 5 * (20_000 * share * (1 - share)) ** 0.5


def test_values_are_grey_levels_and_strips_are_the_same_each_time(
    strips: ArrayDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = strips.batch(8, generator=torch.Generator().manual_seed(0))
    assert position["image"].shape == (8, 4, 2, 2) and position["digits"].sum(dim=2).eq(1).all()
    assert float(position["image"].min()) >= 0 and float(position["image"].max()) <= 1
    assert (digit_strips(None).train["image"] == strips.train["image"]).all()
    monkeypatch.setattr(MODULE, "NUM_STRIPS", 100)
    assert (digit_strips(None, multiple=10).train["digits"].sum(axis=1, dtype=int) % 10 == 0).all()
    with pytest.raises(ValueError, match=r"multiple must lie in 1 .. 10, got 11"):
        digit_strips(None, multiple=11)


def test_a_blot_covers_whole_digits_and_leaves_its_argument() -> None:
    images, covered = np.zeros((3, 4, 2, 2), np.uint8), np.arange(12).reshape(3, 4) % 3 == 0
    out = blotted(images, covered, 255)
    assert (out == 255).all(axis=(2, 3)).tolist() == covered.tolist() == (out > 0).any(axis=(2, 3)).tolist()
    assert not images.any() and out.dtype == np.uint8


def test_the_registry_names_both_rules() -> None:
    assert DATASETS["digit-strips"].__name__ == "digit_strips"
    assert DATASETS["digit-strips-10"].keywords == {"multiple": 10}  # type: ignore[attr-defined]
