"""Scores that an energy computes itself: the same operations as those of autograd, without what autograd costs around them.

On a small network that is half of the time of an evaluation.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor

from jointebm.spaces.space import Position

__all__ = ["KnowsScore", "known_score"]

Known = tuple[Tensor, dict[str, Tensor]]


class KnowsScore(Protocol):
    """A log-density that may have its own gradients; whatever it returns is believed.

    Example:
        >>> class Square:
        ...     def __call__(self, position): return -0.5 * position["x"].square()
        ...     def value_and_score(self, position): return self(position), {"x": -position["x"]}
        >>> known_score(Square(), "value_and_score", {"x": torch.tensor([2.0])}, blocks=("x",))
        (tensor([-2.]), {'x': tensor([-2.])})
    """

    def value_and_score(self, position: Position) -> Known | None:
        """f, shape (N,), and its gradient with respect to each block; None leaves it to autograd."""

    def head_value_and_score(self, features: Tensor, position: Position) -> Known | None:
        """The same of the head, with the gradient with respect to the features under the name ""."""


def known_score(log_density: object, method: str, *arguments: Tensor | Position, blocks: Iterable[str]) -> Known | None:
    """What a method of `KnowsScore` returns, if the log-density has it and it knows the gradient of all these blocks."""
    of_energy: Callable[..., Known | None] | None = getattr(log_density, method, None)
    if of_energy is None:
        return None
    with torch.no_grad():
        found = of_energy(*arguments)
    return found if found is not None and found[1].keys() == {*blocks} else None
