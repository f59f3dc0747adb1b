"""Step sizes of kernels that move a continuous block: one number for the block, or one per entry.

Legend: N rows.
"""

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Self

import torch
from torch import Tensor

from jointebm.kernels.kernel import Kernel
from jointebm.spaces.space import Position, Space

__all__ = ["LearnsStepSize", "StepSized"]

ROWS_OF_DOUBT = 5.0  # rows that say "all scales are equal", which few draws do not outweigh


@dataclass(frozen=True, eq=False)
class StepSized(Kernel):
    """A kernel that moves one continuous block in steps of a size; abstract.

    Args:
        block: name of a continuous block.
        step_size: eps > 0, in position units; a tensor that broadcasts to the block's shape gives one per entry.
        temperature: lambda > 0.
    """

    block: str
    step_size: float | Tensor
    temperature: float = 1.0

    def __post_init__(self) -> None:
        kind, size = type(self).__name__, self.step_size
        if isinstance(size, Tensor):
            if not size.is_floating_point() or not bool((size.isfinite() & (size > 0)).all()):
                raise ValueError(
                    f"{kind}: step_size must hold positive, finite numbers of a floating dtype, got {size}"
                )
            object.__setattr__(self, "step_size", size.detach())
        numbers = {"temperature": self.temperature} | ({} if isinstance(size, Tensor) else {"step_size": size})
        for name, value in numbers.items():
            if not isinstance(value, Real):
                raise TypeError(f"{kind}: {name} must be a positive number, got {value!r}; a step size may be a tensor")
            if not 0 < float(value) < math.inf:
                raise ValueError(f"{kind}: {name} must be a positive number, got {value}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = dict(vars(self)), dict(vars(other))
        sizes = mine.pop("step_size"), theirs.pop("step_size")
        if all(isinstance(size, Tensor) for size in sizes):
            return mine == theirs and torch.equal(*sizes)
        return mine == theirs and not any(isinstance(size, Tensor) for size in sizes) and sizes[0] == sizes[1]

    def __hash__(self) -> int:
        return hash((type(self), self.block, self.temperature))

    def require(self, space: Space) -> None:
        """Raises ValueError unless the space has this continuous block, of a shape that the step size fits."""
        space.require((self.block,), discrete=False)
        shape = space[self.block].position_shape
        if isinstance(self.step_size, Tensor):
            own = tuple(self.step_size.shape)
            sides = zip(reversed(own), reversed(shape), strict=False)
            if len(own) > len(shape) or any(mine not in (1, side) for mine, side in sides):
                raise ValueError(
                    f"{type(self).__name__}: step_size has shape {own}, which does not broadcast to shape {shape} of block "
                    f"{self.block!r}"
                )

    def eps(self, like: Tensor) -> Any:
        """The step size: a number, or a tensor of the dtype and on the device of `like`."""
        return self.step_size.to(like) if isinstance(self.step_size, Tensor) else self.step_size


class LearnsStepSize:
    """A part of kernels whose step size `adapt` finds; mixed into a `StepSized` kernel."""

    def rescaled(self, factor: float) -> Self:
        """This kernel with its step size multiplied by a number."""
        return replace(self, step_size=self.step_size * factor)  # type: ignore[type-var,attr-defined]

    def learned(self, position: Position, score: Position | None = None) -> Self:
        """This kernel with step sizes in proportion to the scale of each entry, their geometric mean kept.

        scale_d = (variance of x_d / variance of score_d)^(1/4)

        On a Gaussian with independent entries that is the standard deviation, wherever the rows are; on any Gaussian it is
        the geometric mean of the marginal and the conditional standard deviation. Without a score it is the standard
        deviation of the rows. Few rows count little: log scales shrink towards their mean as if by five further rows.
        Entries that never vary, or are known in fewer than two rows, keep their step size.

        Args:
            position: rows, per block (N, *position_shape); NaN is left out.
            score: of f at these rows.

        References:
            Tran & Kleppe 2024 and the sampler nutpie (scales from scores).

        Example:
            >>> from jointebm.kernels import MALA
            >>> scales = torch.tensor([1.0, 100.0])
            >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))  # not yet spread as f is
            >>> MALA("x", 0.5).learned({"x": x}, {"x": -x / scales.square()}).step_size
            tensor([0.0506, 4.9430])
        """
        block, size = self.block, self.step_size  # type: ignore[attr-defined]
        x = position[block].reshape(len(position[block]), -1)  # (N, D)
        known = ~x.isnan()
        num, log_variance = known.sum(dim=0).to(x.dtype), _variance(x, known).log()
        if score is None:
            log_scale = log_variance / 2
        else:
            log_scale = (log_variance - _variance(score[block].reshape(x.shape), known).log()) / 4
        usable = (num >= 2) & log_scale.isfinite()
        if int(usable.sum()) < 2:
            return self
        shape = position[block].shape[1:]
        log_present = torch.as_tensor(size).to(x).expand(shape).flatten().log()
        log_scale = log_scale[usable]
        weight = num[usable] / (num[usable] + ROWS_OF_DOUBT)
        log_scale = weight * (log_scale - log_scale.mean())
        log_size = log_present.clone()
        log_size[usable] = log_scale - log_scale.mean() + log_present[usable].mean()
        return replace(self, step_size=log_size.exp().reshape(shape))  # type: ignore[type-var]


def _variance(values: Tensor, known: Tensor) -> Tensor:
    """Variance of the known entries of each column of (N, D), shape (D,)."""
    num = known.sum(dim=0)
    mean = torch.where(known, values, 0).sum(dim=0) / num.clamp(min=1)
    return torch.where(known, values - mean, 0).square().sum(dim=0) / (num - 1).clamp(min=1)
