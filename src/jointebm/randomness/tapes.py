"""Draws made ahead of a step: which it needs, and a stream that hands them out in order."""

from collections.abc import Iterable
from functools import reduce
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from jointebm.randomness.draws import Generator, choose_by, normal, uniform

__all__ = ["Request", "Requests", "Tape", "draw_ahead"]

MAX_UNROLLED = 16


class Request(NamedTuple):
    """A draw that a step makes."""

    kind: Literal["normal", "uniform"]
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


class Tape:
    """A stream that hands out normals and uniforms made before, in order; each has the shape that is asked for.

    Example:
        >>> tape = Tape([torch.tensor([[0.9]])])
        >>> tape.choose(torch.tensor([[0.5, 0.5]]).log())
        tensor([1])
    """

    def __init__(self, draws: Iterable[Tensor]) -> None:
        self._draws = iter(draws)

    def normal(self, like: Tensor) -> Tensor:  # noqa: ARG002
        """The next draw."""
        return next(self._draws)

    def uniform(self, like: Tensor) -> Tensor:  # noqa: ARG002
        """The next draw."""
        return next(self._draws)

    def choose(self, log_weights: Tensor) -> Tensor:
        """See `draws.choose`; sums few classes one by one, which fuses with what is around it where `cumsum` does not."""
        if log_weights.shape[1] > MAX_UNROLLED:
            return choose_by(log_weights, self.uniform)
        # Weights relative to the largest; each class is read once, where `softmax` would read all for each.
        each = log_weights.unbind(dim=1)  # (N,) or (N, V)
        largest = reduce(torch.maximum, each)
        cumulative = list(accumulate((one - largest).exp() for one in each))
        total = cumulative[-1].unsqueeze(1)
        threshold = (self.uniform(total) * total).squeeze(1)  # below the total, since uniforms are at most 1 - 2^-24
        below = [(one <= threshold).to(torch.int64) for one in cumulative[:-1]]
        return sum(below, torch.zeros_like(threshold, dtype=torch.int64))

    def accept(self, log_ratio: Tensor) -> Tensor:
        """See `draws.accept`."""
        return self.uniform(log_ratio).log() < log_ratio


class Requests(Tape):
    """A stream that notes what is drawn from it; the draws are those of a generator."""

    def __init__(self, generator: Generator) -> None:
        super().__init__(())
        self._generator = generator
        self.made: list[Request] = []

    def normal(self, like: Tensor) -> Tensor:
        """Standard normals."""
        self.made.append(Request("normal", like.shape, like.dtype, like.device))
        return normal(like, self._generator)

    def uniform(self, like: Tensor) -> Tensor:
        """Uniforms on [0, 1)."""
        self.made.append(Request("uniform", like.shape, like.dtype, like.device))
        return uniform(like, self._generator)


def draw_ahead(requests: Iterable[Request], generator: Generator) -> list[Tensor]:
    """The draws of some requests, in order: those that a step with this generator would make."""
    functions = {"normal": normal, "uniform": uniform}
    return [functions[r.kind](torch.empty(r.shape, dtype=r.dtype, device=r.device), generator) for r in requests]
