"""The three shapes of dSprites, drawn from their latents.

Legend: N images, L the six latents in the official order (color, shape, scale, orientation, posX, posY).
"""

import numpy as np
import numpy.typing as npt

from jointebm.data.dsprites import CENTER_SPACING, FIRST_CENTER, LATENTS, ORIGINAL_SIDE, SEMI_AXES, halved

__all__ = ["HALF_SIDE", "HEART_RADII", "SHAPES", "draw_sprites", "outline_value"]

SHAPES = ("square", "ellipse", "heart")  # official order

# Fitted to official images, in pixels of 64 x 64 at scale 1; see `draw_sprites`.
HALF_SIDE = 9.6  # of the square
HEART_RADII = (
    10.77,
    8.38,
    7.77,
    7.66,
    7.51,
    8.51,
    9.43,
    9.72,
    9.99,
    9.48,
    7.69,
    5.67,
    2.48,
)  # from the tip to the notch
WINDOW = 15  # pixels around the centre; the corners of the largest square are 13.6 away
DRAWN_AT_ONCE = 1024


def draw_sprites(latents: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Draws squares, ellipses and hearts, 32 x 32: a pixel of 64 x 64 is on if its centre is inside; 2 x 2 are summed.

    Ellipses are those of `jointebm.data.dsprites.render`. Side of the square and outline of the heart were fitted to the 26
    squares and hearts of the official notebook, each in the best of 40 orientations: 13 of the 15 squares are equal and the
    others differ in at most two pixels; the 11 hearts differ in 6% of their pixels.

    Args:
        latents: (N, L); color is ignored.

    Returns:
        Levels 0 .. 4 of images (N, 32, 32), posX to the right and posY downwards.

    Example:
        >>> draw_sprites(np.array([[0, 0, 5, 0, 0, 0]])).sum()  # a square of about 19.2 x 19.2 pixels of 64 x 64
        np.uint64(400)
    """
    images = np.zeros((len(latents), ORIGINAL_SIDE // 2, ORIGINAL_SIDE // 2), np.uint8)
    for first in range(0, len(latents), DRAWN_AT_ONCE):
        part = latents[first : first + DRAWN_AT_ONCE]
        images[first : first + DRAWN_AT_ONCE] = halved(_drawn(part))
    return images


def _drawn(latents: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Images (N, 64, 64) of zeros and ones; only a window around each centre is computed."""
    shape, pos_x, pos_y = latents[:, 1], latents[:, 4], latents[:, 5]
    center_x, center_y = (FIRST_CENTER + CENTER_SPACING * place for place in (pos_x, pos_y))
    offsets = np.arange(-WINDOW, WINDOW + 1)
    columns, rows = (np.round(center).astype(np.int64)[:, None] + offsets for center in (center_x, center_y))  # (N, W)
    dx = np.broadcast_to((columns - center_x[:, None])[:, None, :], (len(latents), len(offsets), len(offsets)))
    dy = np.broadcast_to((rows - center_y[:, None])[:, :, None], dx.shape)
    inside = np.zeros(dx.shape, np.bool_)
    for number in range(len(SHAPES)):
        of_shape = shape == number
        inside[of_shape] = outline_value(latents[of_shape], dx[of_shape], dy[of_shape], number) <= 1
    images = np.zeros((len(latents), ORIGINAL_SIDE, ORIGINAL_SIDE), np.uint8)
    images[np.arange(len(latents))[:, None, None], rows[:, :, None], columns[:, None, :]] = inside
    return images


def outline_value(
    latents: npt.NDArray[np.integer], dx: npt.NDArray[np.float64], dy: npt.NDArray[np.float64], shape: int
) -> npt.NDArray[np.float64]:
    """A number of points (N, ...) relative to the centres of sprites of one shape: 1 on the outline, less inside.

    Args:
        latents: (N, L).
        dx: to the right, in pixels of 64 x 64.
        dy: downwards.
        shape: number of the shape.
    """
    place = (slice(None),) + (None,) * (dx.ndim - 1)
    size = np.linspace(0.5, 1, LATENTS["scale"])[latents[:, 2]][place]
    angle = -np.linspace(0, 2 * np.pi, LATENTS["orientation"])[latents[:, 3]][place]  # counter-clockwise
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / size
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / size
    if SHAPES[shape] == "square":
        return np.maximum(abs(u), abs(v)) / HALF_SIDE
    if SHAPES[shape] == "ellipse":
        return (u / SEMI_AXES[0]) ** 2 + (v / SEMI_AXES[1]) ** 2
    from_tip = np.arctan2(abs(u), v)  # 0 at the tip, pi at the notch
    return np.hypot(u, v) / np.interp(from_tip, np.linspace(0, np.pi, len(HEART_RADII)), HEART_RADII)
