"""A judge that reads one or two objects off an image by geometry alone, without training.

Legend: N images, S pixels per side, M objects.
"""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from jointebm.data.caption_grammar import SceneObject
from jointebm.data.scenes import SHADES, draw_objects

__all__ = ["read_scenes"]

GROUND = 0.25  # level below which a pixel belongs to no object: half of a dim one
MIN_PIXELS = 4  # of an object; fewer are noise
DIM = sum(SHADES) / 2  # level that separates dim from bright
LARGE = 26.4  # area that separates small from large, pixels: the geometric mean of 2.2^2 * 4 and 3^2 * 4
AREAS = (8.0, 80.0)  # of clear objects, pixels: about half of the smallest and twice the largest
MAX_SHAPE_ERROR = 0.2  # squared difference from the nearest shape, summed over pixels, over the area
NUM_KINDS = 4  # of `draw_objects`
MAX_OBJECTS = 2
OUTLINE = 3  # pixels of a square around each pixel of an object, which hold its edge


def read_scenes(images: Tensor) -> list[list[SceneObject] | None]:
    """The objects of N images, or None where an image does not show one or two clear objects.

    Pixels above .25 that touch along an edge are one object, if there are at least four. Its shade is the mean of the
    brighter half of its pixels, its area the sum of the levels of its pixels and of those around them, over the shade, and
    its place their mean. Of the four shapes with this area at this place, drawn as `data.scenes` draws them, it is the
    nearest; if even that differs by a fifth of the area (in squares), or the area is beyond 8 to 80, it is not clear.

    Args:
        images: (N, S, S), with S as in `data.scenes`.

    Example:
        >>> square = draw_objects(torch.tensor([0]), torch.tensor([2.0]), torch.tensor([7.0]), torch.tensor([9.5]))
        >>> read_scenes(square)
        [[SceneObject(shape=0, large=False, bright=True, x=7.0, y=9.5)]]
        >>> read_scenes(torch.zeros(1, 24, 24))
        [None]
    """
    parts = _connected(images > GROUND)
    return [_objects(image, part) for image, part in zip(images, parts, strict=True)]


def _connected(inside: Tensor) -> Tensor:
    """Numbers of the connected parts, (N, S, S), int64: 0 outside, equal where pixels are connected along edges."""
    numbers = torch.arange(1, inside[0].numel() + 1, dtype=torch.float64).reshape(inside.shape[1:]) * inside
    while True:
        rows, columns = (max_pool2d(numbers, size, 1, pad) for size, pad in (((1, 3), (0, 1)), ((3, 1), (1, 0))))
        spread = rows.maximum(columns) * inside
        if torch.equal(spread, numbers):
            return numbers.long()
        numbers = spread


def _objects(image: Tensor, parts: Tensor) -> list[SceneObject] | None:
    """The objects of one image."""
    numbers, counts = parts[parts > 0].unique(return_counts=True)
    numbers = numbers[counts >= MIN_PIXELS]
    if not 1 <= len(numbers) <= MAX_OBJECTS:
        return None
    found = [_object(image, parts, int(number)) for number in numbers]
    clear = [each for each in found if each is not None]
    return clear if len(clear) == len(found) else None


def _object(image: Tensor, parts: Tensor, number: int) -> SceneObject | None:
    """The object at the pixels of one connected part; None if it is not clear."""
    inside = parts == number
    around = max_pool2d(inside[None].double(), OUTLINE, 1, OUTLINE // 2)[0] > 0
    around &= inside | (parts == 0)
    levels = image[inside].sort(descending=True).values
    bright = bool(levels[: (len(levels) + 1) // 2].mean() > DIM)
    cover = torch.where(around, image / SHADES[bright], 0.0)
    area, at = cover.sum(), torch.arange(len(image)).to(image) + 0.5
    x, y = (cover.sum(dim=0) @ at) / area, (cover.sum(dim=1) @ at) / area
    repeated = [each.expand(NUM_KINDS) for each in (area.sqrt() / 2, x, y)]
    shapes = draw_objects(torch.arange(NUM_KINDS), *repeated)  # (4, S, S)
    error, kind = ((cover - shapes).square().sum(dim=(1, 2)) / area).min(dim=0)
    if not (AREAS[0] < float(area) < AREAS[1] and float(error) < MAX_SHAPE_ERROR):
        return None
    return SceneObject((int(kind) + 1) // 2, bool(area > LARGE), bright, float(x), float(y))
