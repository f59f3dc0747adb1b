"""Specification of the judges: right about data, and independent of the model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.data import GeneratedDataset, Sets, Toy, digits
from jointebm.data.dsprites import halved, render
from jointebm.data.toy import attributes_of, centers
from jointebm.evaluation import ImageClassifier, NearestMode, SpriteCentre, judge_for, placement
from jointebm.evaluation.accuracy import accuracy
from support.rendered_sprites import sprites


def test_nearest_mode_labels_every_mode() -> None:
    labels = NearestMode().label({"point": centers() + 0.3})
    assert {name: value.tolist() for name, value in labels.items()} == {
        name: value.tolist() for name, value in attributes_of(torch.arange(8)).items()
    }


@pytest.mark.slow
def test_image_classifier_labels_98_percent_of_held_out_digits_correctly() -> None:
    data = digits()
    before = torch.get_rng_state()
    judge = judge_for(data, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    real = data.test()
    assert accuracy(data.space, judge.label(real), real).mean >= 0.98
    # It reads the image alone, row by row.
    some = torch.tensor([5, 2, 9])
    alone = judge.label({"image": real["image"][some]})["digit"]
    assert torch.equal(alone, judge.label(real)["digit"][some])


def test_image_classifier_is_determined_by_the_seed() -> None:
    data, images = digits(), {"image": digits().test()["image"]}
    first, again, other = (
        ImageClassifier.train(data, seed=seed, num_iterations=5).label(images)["digit"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


class Corners(GeneratedDataset):
    """5 x 4 images with one bright corner: a bit names its row, a group of two its column (twice)."""

    name = "corners"
    num_test = 1100
    space = Space(image=Continuous((5, 4)), low=Binary(), group=Categorical((2, 3)))

    def draw(self, num: int, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        labels = torch.randint(0, 2, (num, 2), generator=generator)
        image = 0.1 * torch.randn(num, 5, 4, generator=generator)
        image[torch.arange(num), labels[:, 0] * 4, labels[:, 1] * 3] += 1
        return {"image": image, "low": labels[:, 0], "group": torch.stack([labels[:, 1], 2 * labels[:, 1]], dim=1)}


def test_image_classifier_learns_binary_and_ragged_variables() -> None:
    data = Corners()
    labels = ImageClassifier.train(data, seed=0, num_iterations=60).label(data.test())
    assert accuracy(data.space, labels, data.test()).exact_match > 0.99


def test_image_classifier_refuses_data_without_an_image() -> None:
    with pytest.raises(ValueError, match="expected one image block"):
        ImageClassifier(Toy().space)
    with pytest.raises(ValueError, match="expected one image block"):
        ImageClassifier(Space(image=Continuous((4, 4))))


# The geometry of dSprites.


@pytest.mark.parametrize("scale", [0, 5])
def test_every_position_of_a_sprite_is_in_its_own_bin(scale: int) -> None:
    positions = np.array([(0, 1, scale, angle, x, y) for angle in (0, 9, 39) for x in range(32) for y in range(32)])
    measured = SpriteCentre().label({"image": torch.from_numpy(halved(render(positions))) / 4})
    assert measured["horizontal"].tolist() == (positions[:, 4] // 2).tolist()
    assert measured["vertical"].tolist() == (positions[:, 5] // 2).tolist()


def test_the_centre_is_found_through_the_noise_of_the_data() -> None:
    data = sprites()
    assert isinstance(judge_for(data, seed=0), SpriteCentre)
    real = data.test()
    found = placement(data.space, SpriteCentre().label(real), real)
    assert set(found.exact) == {"horizontal", "vertical", "all"}
    assert found.exact["all"] > 0.99 and found.within_one == {"horizontal": 1.0, "vertical": 1.0, "all": 1.0}
    # In a transposed image only sprites on the diagonal, one bin in 16, are placed correctly.
    turned = placement(data.space, SpriteCentre().label({"image": real["image"].mT}), real)
    assert turned.exact["all"] < 0.1


def test_an_image_without_a_sprite_is_far_from_every_bin() -> None:
    space, labels = sprites().space, SpriteCentre().label({"image": torch.full((2, 32, 32), 0.4)})
    for asked in (0, 15):
        result = placement(space, labels, {name: torch.full((2,), asked) for name in ("horizontal", "vertical")})
        assert set(result.exact.values()) == set(result.within_one.values()) == {0.0}


def test_placement_counts_offsets_of_at_most_one() -> None:
    space, zero = sprites().space, torch.zeros(4, dtype=torch.uint8)
    measured = {"horizontal": torch.tensor([0, 1, 2, 0]), "vertical": torch.tensor([0, 0, 1, 3])}
    result = placement(space, measured, {"horizontal": zero, "vertical": zero})
    assert result.exact == {"horizontal": 0.5, "vertical": 0.5, "all": 0.25}
    assert result.within_one == {"horizontal": 0.75, "vertical": 0.75, "all": 0.5}


# By data set.


def test_a_data_set_without_a_judge_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"data 'sets': no judge can label samples of .*expected an image, or known geom"
    ):
        judge_for(Sets(), seed=0)


def test_the_judge_is_the_one_that_the_data_set_names() -> None:
    other = SimpleNamespace(name="another name", judge="nearest mode")
    assert isinstance(judge_for(other, seed=0), NearestMode)  # type: ignore[arg-type]
