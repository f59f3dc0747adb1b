"""JEM: a classifier read as an energy (App. A.2), the baseline that the paper contrasts."""

from collections.abc import Mapping

from torch import Tensor, nn

from jointebm.energies.inputs import Inputs
from jointebm.spaces.space import Position, Space

__all__ = ["JEMEnergy"]


class JEMEnergy(nn.Module):
    """f(x, y) = sum over the discrete variables v of net(x)[y_v]: one logit per class (Eq. 11).

    With one categorical variable this is JEM to the letter. With several, they are independent given x: that is what a
    classifier with one softmax per attribute assumes, and why the paper prefers `ConcatEnergy`. A binary variable has
    one logit, that of the value 1.

    Args:
        space: the blocks, at least one continuous and one discrete.
        net: module from x, flattened (N, columns of x), or from `encoder`'s features, to (N, columns of y).
        encoder: module from the one continuous block (N, *shape) to features; None flattens x.
        scale: per continuous block, the factor that its entries are multiplied by (see `Inputs`).

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

    def encode(self, position: Position) -> Tensor:
        """The logits of all classes, shape (N, columns of y)."""
        if self.encoder is None:
            return self.net(self._x(position))
        return self.net(self.encoder(self._x.scaled(position, self._x.names[0])))

    def head(self, features: Tensor, position: Position) -> Tensor:
        """The logits that y picks, summed: f, shape (N,)."""
        y = self._y(position)
        return (features.to(y.dtype) * y).sum(dim=1)

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position, shape (N,), nats."""
        return self.head(self.encode(position), position)
