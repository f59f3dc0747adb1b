"""JEM: a classifier read as an energy (App. A.2), the baseline of the paper."""

from collections.abc import Mapping

from torch import Tensor, nn

from jointebm.energies.inputs import Inputs
from jointebm.spaces.space import Position, Space

__all__ = ["JEMEnergy"]


class JEMEnergy(nn.Module):
    """f(x, y) = sum over the discrete variables v of net(x)[y_v]: one logit per class (Eq. 11).

    With one categorical variable this is exactly JEM. Several variables are independent given x, as in a classifier with
    one softmax per attribute; the paper prefers `ConcatEnergy` for that reason. A binary variable has one logit, that of
    the value 1.

    Args:
        space: the blocks, at least one continuous and one discrete.
        net: module from x, flattened (N, columns of x), or from `encoder`'s features, to (N, columns of y).
        encoder: module from the one continuous block (N, *shape) to features; None flattens x.
        scale: per continuous block, the factor on its entries (see `Inputs`).

    Raises:
        ValueError: the space lacks continuous or discrete blocks, an encoder has not exactly one continuous block, or
            `scale` names a block that is not continuous.

    References:
        Grathwohl et al. 2019. Kelly & Grathwohl 2021, App. A.2, Eqs. 10-13.

    Example:
        >>> import torch
        >>> from jointebm import Categorical, Continuous, Space
        >>> from jointebm.energies import MLP
        >>> space = Space(x=Continuous(2), y=Categorical(3))
        >>> energy = JEMEnergy(space, MLP(2, (16,), 3))
        >>> energy({"x": torch.zeros(5, 2), "y": torch.eye(3)[[0, 1, 2, 0, 1]]}).shape
        torch.Size([5])
    """

    def __init__(
        self,
        space: Space,
        net: nn.Module,
        *,
        encoder: nn.Module | None = None,
        scale: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        space.require(scale or {}, discrete=False)
        if not space.continuous or not space.discrete:
            raise ValueError(f"JEMEnergy: needs continuous and discrete blocks, got {space}")
        if encoder is not None and len(space.continuous) != 1:
            raise ValueError(f"JEMEnergy: an encoder needs exactly one continuous block, got {space.continuous}")
        self.net, self.encoder = net, encoder
        self.encoded_blocks = space.continuous
        self._x = Inputs(space, space.continuous, scale)
        self._y = Inputs(space, space.discrete)

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """Modules whose weights, all zero, make f zero (see `start_at_zero`)."""
        return (self.net,)

    def encode(self, position: Position) -> Tensor:
        """The logits of all classes, shape (N, columns of y)."""
        if self.encoder is None:
            return self.net(self._x(position))
        return self.net(self.encoder(self._x.scaled(position, self._x.names[0])))

    def head(self, features: Tensor, position: Position) -> Tensor:
        """f, the sum of the logits that y selects, shape (N,), nats."""
        y = self._y(position)
        return (features.to(y.dtype) * y).sum(dim=1)

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position, shape (N,), nats."""
        return self.head(self.encode(position), position)
