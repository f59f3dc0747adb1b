"""Scenes of one or two objects, drawn as small grey images, with captions that are true of them.

Legend: N scenes, O = 2 objects of a scene at most, M objects, S = 24 pixels per side.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.data.caption_grammar import MAX_WORDS, SCENE_SIDE, WORDS, SceneObject, say_caption
from jointebm.data.datasets import FigureKind
from jointebm.data.generated_dataset import GeneratedDataset
from jointebm.randomness.draws import Generator, normal, uniform
from jointebm.spaces.blocks import Categorical, Continuous
from jointebm.spaces.space import Space
from jointebm.spaces.transforms import Identity

__all__ = ["SHADES", "CaptionedScenes", "Scenes", "draw_objects", "draw_scenes", "scene_objects"]

SHADES = (0.5, 1.0)  # grey levels of dim and bright objects on a ground of 0
RADII = ((1.9, 2.2), (3.0, 3.3))  # of small and large objects: half the side of the square of the same area, pixels
ASPECT = 0.6  # short axis of an ellipse over the long one
GAP = 1.5  # pixels between the boxes around two objects, along one axis at least
EDGE_MARGIN = 0.3  # pixels between an object and the edge of the image
SCENE_NOISE_SD = 0.05
NUM_ATTEMPTS = 1000


class Scenes(NamedTuple):
    """N scenes; entries of a second object that is absent are 0.

    Args:
        two: which scenes have a second object, (N,), bool.
        kind: 0 square, 1 wide ellipse, 2 tall ellipse, 3 triangle, (N, O), int64.
        large: (N, O), bool.
        bright: (N, O), bool.
        radius: half the side of the square of the same area, (N, O), pixels.
        x: of the centres of mass, pixels from the left edge, (N, O).
        y: pixels from the top edge, (N, O).
    """

    two: Tensor
    kind: Tensor
    large: Tensor
    bright: Tensor
    radius: Tensor
    x: Tensor
    y: Tensor


def draw_scenes(num: int, *, generator: Generator) -> Scenes:
    """Draws N scenes: one or two objects with equal probability, attributes and places uniform among those that fit.

    Two objects fit if a gap of 1.5 pixels separates the boxes around them, along one axis at least. Scenes are drawn until
    they fit, so that two large objects are rarer than two small ones.

    Example:
        >>> scenes = draw_scenes(100, generator=torch.Generator().manual_seed(0))
        >>> scenes.x.shape, bool((scenes.x < 24).all())
        (torch.Size([100, 2]), True)
    """
    two = uniform(torch.empty(num), generator) < 0.5
    found = _candidates(two, generator)
    for _ in range(NUM_ATTEMPTS):
        wrong = ~_fits(found)
        if not bool(wrong.any()):
            break
        fresh = _candidates(two[wrong], generator)
        for old, new in zip(found, fresh, strict=True):
            old[wrong] = new
    return found


def draw_objects(kind: Tensor, radius: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Images of single objects of shade 1 with smooth edges, (M, S, S).

    A pixel has level clamp(1/2 - d, 0, 1), d the distance of its centre from the outline, negative inside; for an ellipse
    the distance is approximate.

    Args:
        kind: 0 square, 1 wide ellipse, 2 tall ellipse, 3 triangle, (M,).
        radius: half the side of the square of the same area, (M,), pixels.
        x: of the centre of mass, pixels from the left edge, (M,).
        y: pixels from the top edge, (M,).

    Example:
        >>> square = draw_objects(torch.tensor([0]), torch.tensor([2.0]), torch.tensor([12.0]), torch.tensor([12.0]))
        >>> square.shape, float(square.sum())  # the area
        (torch.Size([1, 24, 24]), 16.0)
    """
    at = torch.arange(SCENE_SIDE, dtype=x.dtype) + 0.5
    right, down = at[None, None, :] - x[:, None, None], at[None, :, None] - y[:, None, None]  # (M, 1, S), (M, S, 1)
    r = radius[:, None, None]
    square = right.abs().maximum(down.abs()) - r
    long = r * math.sqrt(4 / (math.pi * ASPECT))
    wide, tall = (_ellipse(right, down, a, b) for a, b in ((long, ASPECT * long), (ASPECT * long, long)))
    inner = r * 2 / 27**0.25  # of the inscribed circle of an equilateral triangle
    triangle = torch.maximum(down, right.abs() * math.sqrt(3) / 2 - down / 2) - inner
    distance = torch.stack([part.expand_as(square) for part in (square, wide, tall, triangle)])
    return (0.5 - distance[kind, torch.arange(len(kind))]).clamp(0, 1)


def scene_objects(scenes: Scenes) -> list[list[SceneObject]]:
    """What captions speak of, scene by scene.

    Example:
        >>> [len(objects) for objects in scene_objects(draw_scenes(4, generator=torch.Generator().manual_seed(0)))]
        [2, 1, 2, 2]
    """
    shape = (scenes.kind + 1) // 2  # both ellipses are one shape
    columns = [part.tolist() for part in (shape, scenes.large, scenes.bright, scenes.x, scenes.y)]
    rows = zip(scenes.two.tolist(), *columns, strict=True)
    return [[SceneObject(*parts) for parts in list(zip(*values, strict=True))[: 1 + two]] for two, *values in rows]


@dataclass(frozen=True)
class CaptionedScenes(GeneratedDataset):
    """Images of one or two objects, 24 x 24, under normal noise, each with one of its true captions.

    Args:
        noise_sd: standard deviation of the noise, >= 0.

    Example:
        >>> test = CaptionedScenes().test()
        >>> test["image"].shape, test["caption"].shape
        (torch.Size([1000, 24, 24]), torch.Size([1000, 12]))
    """

    noise_sd: float = SCENE_NOISE_SD

    name = "captions"
    space = Space(
        image=Continuous((SCENE_SIDE, SCENE_SIDE), Identity()),
        caption=Categorical(len(WORDS), (MAX_WORDS,)),
    )
    num_test = 1000
    figures: FigureKind | None = None

    def draw(self, num: int, *, generator: Generator) -> dict[str, Tensor]:
        """Draws scenes, one of the captions of each, and the noise."""
        return self.described(num, generator=generator)[0]

    def described(self, num: int, *, generator: Generator) -> tuple[dict[str, Tensor], list[list[SceneObject]]]:
        """Draws rows as `draw` does, with what there is to say of each."""
        scenes = draw_scenes(num, generator=generator)
        objects = scene_objects(scenes)
        chance = uniform(torch.empty(num, 4, dtype=torch.float64), generator).tolist()
        captions = [say_caption(*pair) for pair in zip(objects, chance, strict=True)]
        image = _images(scenes)
        if self.noise_sd:
            image = image + self.noise_sd * normal(image, generator)
        return {"image": image, "caption": torch.tensor(captions)}, objects

    def test_objects(self) -> list[list[SceneObject]]:
        """What there is to say of each test row."""
        return self.described(self.num_test, generator=torch.Generator().manual_seed(1))[1]

    def validation(self) -> tuple[dict[str, Tensor], list[list[SceneObject]]]:
        """Further rows as in `described`, to choose settings by."""
        return self.described(self.num_test, generator=torch.Generator().manual_seed(2))

    def without_noise(self) -> "CaptionedScenes":
        """The same rows without noise."""
        return replace(self, noise_sd=0.0)


def _images(scenes: Scenes) -> Tensor:
    """(N, S, S)."""
    levels = draw_objects(*(part.flatten() for part in (scenes.kind, scenes.radius, scenes.x, scenes.y)))
    shade = torch.tensor(SHADES)[scenes.bright.long()]
    shade = shade * torch.stack([torch.ones_like(scenes.two), scenes.two], dim=1)
    return (levels.unflatten(0, shade.shape) * shade[:, :, None, None]).sum(dim=1)


def _ellipse(right: Tensor, down: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Approximate distance from an ellipse with semi-axes a and b: g / |grad g| with g = |(right / a, down / b)| - 1."""
    size = ((right / a).square() + (down / b).square()).sqrt().clamp(min=1e-6)
    slope = ((right / a**2).square() + (down / b**2).square()).sqrt() / size
    return (size - 1) / slope.clamp(min=1e-6)


def _half_boxes(scenes: Scenes) -> tuple[Tensor, Tensor, Tensor]:
    """How far objects reach from their centres: to either side, up, and down, (N, O)."""
    r, long = scenes.radius, scenes.radius * math.sqrt(4 / (math.pi * ASPECT))
    inner = r * 2 / 27**0.25
    aside = torch.stack([r, long, ASPECT * long, math.sqrt(3) * inner])  # of each kind
    up = torch.stack([r, ASPECT * long, long, 2 * inner])
    down = torch.stack([r, ASPECT * long, long, inner])
    kind = scenes.kind[None]
    return aside.gather(0, kind)[0], up.gather(0, kind)[0], down.gather(0, kind)[0]


def _candidates(two: Tensor, generator: Generator) -> Scenes:
    """Scenes whose objects lie inside the image and may overlap."""
    u = uniform(torch.empty(7, len(two), 2), generator)
    ellipse = (3 * u[0]).floor() == 1
    kind = torch.where(ellipse, 1 + (u[1] < 0.5).long(), (u[0] > 0.5).long() * 3)
    large, bright = u[2] < 0.5, u[3] < 0.5
    low, high = (torch.tensor(bounds)[large.long()] for bounds in zip(*RADII, strict=True))
    scenes = Scenes(two, kind, large, bright, low + (high - low) * u[4], u[5], u[6])
    aside, up, down = _half_boxes(scenes)
    x = aside + EDGE_MARGIN + u[5] * (SCENE_SIDE - 2 * (aside + EDGE_MARGIN))
    y = up + EDGE_MARGIN + u[6] * (SCENE_SIDE - up - down - 2 * EDGE_MARGIN)
    exists = torch.stack([torch.ones_like(two), two], dim=1)
    parts = (torch.where(exists, part, torch.zeros_like(part)) for part in (kind, large, bright, scenes.radius, x, y))
    return Scenes(two.clone(), *parts)


def _fits(scenes: Scenes) -> Tensor:
    """Which scenes have one object, or two with a gap between them, (N,), bool."""
    aside, up, down = _half_boxes(scenes)
    right = (scenes.x[:, 0] - scenes.x[:, 1]).abs() - aside.sum(dim=1)
    below = scenes.y[:, 0] - scenes.y[:, 1]  # of the first object below the second
    under = torch.where(below > 0, below - up[:, 0] - down[:, 1], -below - up[:, 1] - down[:, 0])
    return ~scenes.two | (right >= GAP) | (under >= GAP)
