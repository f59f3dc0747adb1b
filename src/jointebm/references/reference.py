"""A reference q: a normalised density over a space that can be evaluated, drawn from and conditioned."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["Reference"]


class Reference(Protocol):
    """A normalised density q over the positions of a space: a module that its state and `spec_of` rebuild.

    Densities are with respect to positions of continuous variables (not values: a transform's Jacobian is not included) and
    counting measure of discrete ones. A NaN entry of a position is missing.

    Evidence restricts missing entries. Per discrete block it is log-weights of classes, shaped like one row of the position
    (with a last axis of 2 for a binary block); -inf forbids a class. Per continuous block it is an interval, low and high
    stacked (2, *shape); infinity is no bound. A leading axis of N gives each row its own. Observed entries ignore it.

    Example:
        >>> import torch
        >>> from jointebm import Continuous
        >>> from jointebm.references import Mixture
        >>> q: Reference = Mixture(Space(x=Continuous()))  # N(0, 1)
        >>> q.log_prob({"x": torch.tensor([0.0, torch.nan])})  # -log(2 pi) / 2, and nothing observed
        tensor([-0.9189,  0.0000])
    """

    space: Space

    def log_prob(self, position: Position) -> Tensor:
        """log q of the observed entries of each row, missing ones marginalised, shape (N,), nats.

        Differentiable in the reals and in the one-hot positions, but for `AnyOrder`, which also refuses most subsets.
        """
        ...

    def draw(self, num: int, generator: Generator) -> dict[str, Tensor]:
        """Draws `num` independent positions."""
        ...

    def complete(
        self, position: Position, generator: Generator, evidence: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Draws all missing entries of each row given its observed ones, which keep their bits."""
        ...

    def log_conditional(self, position: Position, free: Mask, evidence: Mapping[str, Tensor] | None = None) -> Tensor:
        """Log-density of what `complete` draws for the free entries given all others, shape (N,), nats.

        Args:
            position: complete rows.
            free: per block, bool (N, *variable_shape) or what broadcasts to it; a block left out is clamped.
            evidence: as `complete` had it.
        """
        ...
