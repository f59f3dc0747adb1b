"""Bijections between values, in the user's units, and the unbounded positions that kernels move."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["TRANSFORMS", "Affine", "Identity", "Logit", "Transform"]


@dataclass(frozen=True)
class Identity:
    """Values are positions.

    Example:
        >>> Identity().forward(torch.tensor([2.0]))
        tensor([2.])
    """

    name: ClassVar[str] = "identity"
    domain: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    slack: ClassVar[float] = 0.0

    def forward(self, values: Tensor) -> Tensor:
        """Maps values to positions of the same shape."""
        return values

    def inverse(self, position: Tensor) -> Tensor:
        """Maps positions to values of the same shape."""
        return position

    def log_slope(self, values: Tensor) -> Tensor:
        """log of d position / d value at each value."""
        return torch.zeros_like(values)


@dataclass(frozen=True)
class Affine:
    """Subtracts a shift and divides by a scale, each real of a row by its own.

    Args:
        shift: of each real of a row, flattened.
        scale: of each real, > 0.

    Example:
        >>> Affine(shift=(10.0, 0.0), scale=(2.0, 1.0)).forward(torch.tensor([[14.0, 3.0]]))
        tensor([[2., 3.]])
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    name: ClassVar[str] = "affine"
    domain: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    slack: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        for field in ("shift", "scale"):  # lists, where read from JSON
            object.__setattr__(self, field, tuple(float(number) for number in getattr(self, field)))
        if len(self.shift) != len(self.scale) or not all(0 < number < math.inf for number in self.scale):
            raise ValueError(
                f"Affine: needs as many shifts as scales, and positive finite scales; got {len(self.shift)} shifts and "
                f"scales {self.scale[:8]}"
            )

    def forward(self, values: Tensor) -> Tensor:
        """Maps values to positions of the same shape."""
        return (values - self._like(self.shift, values)) / self._like(self.scale, values)

    def inverse(self, position: Tensor) -> Tensor:
        """Maps positions to values of the same shape."""
        return position * self._like(self.scale, position) + self._like(self.shift, position)

    def log_slope(self, values: Tensor) -> Tensor:
        """log of d position / d value at each value."""
        return -self._like(self.scale, values).log().expand_as(values)

    @staticmethod
    def _like(numbers: tuple[float, ...], rows: Tensor) -> Tensor:
        return torch.tensor(numbers, dtype=rows.dtype, device=rows.device).reshape(rows.shape[1:])


@dataclass(frozen=True)
class Logit:
    """The paper's logit of values in [0, 1] (App. B.2.1), with its inverse.

    forward: p = v * (1 - 2 margin) + margin, position = log(p / (1 - p)).

    A position beyond the logit of the margin lies outside the image of [0, 1]. `inverse` maps it to a value just outside
    [0, 1], at most `slack` away, rather than clipping it, and `forward` takes such values back. The two directions are
    inverses up to rounding, and rounding is coarse near the ends: `forward` first moves p to no less than half a float
    epsilon (or the margin, if that is smaller) and to no more than the largest float below one, so every position is
    finite; positions beyond +-17 do not round-trip in float32.

    Args:
        margin: distance kept from 0 and 1, in (0, 0.5); the paper uses 1e-6.

    References:
        Kelly & Grathwohl 2021, App. B.2.1.

    Example:
        >>> logit = Logit(margin=1e-6)
        >>> values = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
        >>> torch.allclose(logit.inverse(logit.forward(values)), values, atol=1e-12)
        True
    """

    margin: float = 1e-6

    name: ClassVar[str] = "logit"
    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not 0 < self.margin < 0.5:
            raise ValueError(f"Logit: margin must lie in (0, 0.5), got {self.margin}")

    @property
    def slack(self) -> float:
        """Largest distance from the domain of a value that `inverse` returns, rounding in float32 included."""
        return (self.margin + 4 * torch.finfo(torch.float32).eps) / (1 - 2 * self.margin)

    def forward(self, values: Tensor) -> Tensor:
        """Maps values to positions of the same shape."""
        p = values * (1 - 2 * self.margin) + self.margin
        half_eps = torch.finfo(p.dtype).eps / 2
        return torch.logit(p.clamp(min(self.margin, half_eps), 1 - half_eps))

    def inverse(self, position: Tensor) -> Tensor:
        """Maps positions to values of the same shape."""
        return (torch.sigmoid(position) - self.margin) / (1 - 2 * self.margin)

    def log_slope(self, values: Tensor) -> Tensor:
        """log of d position / d value at each value."""
        position = self.forward(values)
        return math.log(1 - 2 * self.margin) - logsigmoid(position) - logsigmoid(-position)


Transform = Identity | Affine | Logit
"""Any way from the reals of a user to positions, and back.

Example:
    >>> isinstance(Logit(margin=1e-6), Transform)
    True
"""

TRANSFORMS: dict[str, type[Identity] | type[Affine] | type[Logit]] = {
    kind.name: kind for kind in (Identity, Affine, Logit)
}
