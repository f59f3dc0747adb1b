"""Specification of the judge: it reads what was drawn, and nothing off an image that shows no clear objects."""

import pytest
import torch
from torch import Tensor

from jointebm.data import CaptionedScenes
from jointebm.data.caption_grammar import SceneObject
from jointebm.data.scenes import draw_objects
from jointebm.evaluation.scene_judge import read_scenes


def drawn(*objects: tuple[int, float, float, float, float]) -> Tensor:
    """One image of objects (kind, radius, x, y, shade)."""
    columns = torch.tensor(objects).T
    return (draw_objects(columns[0].long(), *columns[1:4]) * columns[4][:, None, None]).sum(dim=0)[None]


@pytest.mark.parametrize("noise_sd", [0.0, 0.05])
def test_scenes_are_read_as_they_were_drawn(noise_sd: float) -> None:
    values, objects = CaptionedScenes(noise_sd).described(300, generator=torch.Generator().manual_seed(0))
    for found, true in zip(read_scenes(values["image"]), objects, strict=True):
        assert found is not None and len(found) == len(true)
        for thing in true:
            near = min(found, key=lambda other: abs(other.x - thing.x) + abs(other.y - thing.y))
            assert near[:3] == thing[:3]
            assert abs(near.x - thing.x) < 0.3 and abs(near.y - thing.y) < 0.3


def test_columns_are_x_and_rows_are_y() -> None:
    assert read_scenes(drawn((3, 3.1, 6.0, 17.0, 0.5))) == [
        [SceneObject(2, large=True, bright=False, x=pytest.approx(6, abs=0.1), y=pytest.approx(17, abs=0.1))]
    ]


SMALL = (0, 2.0, 4.0, 4.0, 1.0)


@pytest.mark.parametrize(
    "image",
    [
        drawn((0, 0.4, 12.0, 12.0, 1.0)),
        drawn(SMALL, (0, 2.0, 4.0, 12.0, 1.0), (0, 2.0, 12.0, 4.0, 1.0)),
        drawn((1, 3.2, 8.0, 8.0, 1.0), (2, 3.2, 14.0, 10.0, 1.0)).clamp(max=1),
        drawn((0, 4.0, 12.0, 12.0, 1.0), (0, 3.0, 12.0, 12.0, -1.0)),
        torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(0)),
        drawn(SMALL) + drawn((0, 4.0, 15.0, 15.0, 1.0)) * (torch.arange(24) % 2),
    ],
    ids=["nothing", "three objects", "two in one", "a frame", "noise", "stripes"],
)
def test_nothing_is_read_off_what_is_not_clear(image: Tensor) -> None:
    assert read_scenes(image) == [None]


def test_specks_are_not_objects() -> None:
    image = drawn(SMALL)
    image[0, 20, 20:23] = 1.0
    (found,) = read_scenes(image)
    assert found is not None and len(found) == 1
