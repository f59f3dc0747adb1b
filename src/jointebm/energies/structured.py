"""Structured energy for many correlated labels of one x: unary terms given x, and an interaction of labels (Sec. 3, 8).

Legend: N chains, M columns of y.
"""

from torch import Tensor, nn

from jointebm.spaces.space import Position, Space

__all__ = ["StructuredEnergy"]


class StructuredEnergy(nn.Module):
    """f(x, y) = <g(x), y> + h(y), with x the one continuous and y the one discrete block of the space.

    g(x) has one number per class of each label; h is the interaction of the labels. Without h, labels are independent given
    x: a classifier with one softmax (a sigmoid, if binary) per label. Kernels that move y evaluate g once.

    Args:
        space: one continuous and one discrete block.
        unary: g, a module from x (N, *shape of x) to one number per column of y, such as `PerPixel` and `PerPlace`.
        interaction: h, a module from the position of y (N, *position shape of y) to (N,), `Transitions` or `GridPairs`;
            None is 0.

    Raises:
        ValueError: the space has other blocks. When called: g(x) has not one number per column of y.

    References:
        Kelly & Grathwohl 2021, Sec. 3. Lafferty et al. 2001 (conditional random fields: this f, of p(y | x) alone).

    Example:
        >>> import torch
        >>> from jointebm import Categorical, Continuous, Space
        >>> from jointebm.energies import Transitions
        >>> space = Space(strokes=Continuous((5, 7)), letters=Categorical(26, (5,)))
        >>> energy = StructuredEnergy(space, nn.Linear(7, 26), Transitions(26))
        >>> energy({"strokes": torch.zeros(2, 5, 7), "letters": torch.zeros(2, 5, 26)}).shape
        torch.Size([2])
    """

    def __init__(self, space: Space, unary: nn.Module, interaction: nn.Module | None = None) -> None:
        super().__init__()
        if len(space.continuous) != 1 or len(space.discrete) != 1:
            raise ValueError(
                f"StructuredEnergy: needs one continuous and one discrete block, got {space}; lay the labels side by side "
                "in one block, such as Categorical(26, (14,))"
            )
        self.unary, self.interaction = unary, interaction
        self.encoded_blocks = space.continuous
        (self.x,), (self.y,) = space.continuous, space.discrete

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """Modules whose weights, all zero, make f zero (see `start_at_zero`)."""
        return (self.unary,) if self.interaction is None else (self.unary, self.interaction)

    def encode(self, position: Position) -> Tensor:
        """g(x), flattened, shape (N, M)."""
        return self.unary(position[self.x]).flatten(1)

    def head(self, features: Tensor, position: Position) -> Tensor:
        """f from g(x) and y, shape (N,), nats."""
        y = position[self.y]
        flat = y.reshape(len(y), -1)
        if features.shape != flat.shape:
            raise ValueError(
                f"StructuredEnergy: unary gives {features.shape[1]} numbers per row, but block {self.y!r} has "
                f"{flat.shape[1]} columns"
            )
        f = (features * flat).sum(dim=1)
        return f if self.interaction is None else f + self.interaction(y)

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position, shape (N,), nats."""
        return self.head(self.encode(position), position)
