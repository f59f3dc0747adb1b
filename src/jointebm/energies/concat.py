"""Concat energy, the paper's main one: a network of x and y side by side (Sec. 3 and 6).

Legend: N chains, H features.
"""

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from jointebm.energies.inputs import Inputs
from jointebm.energies.layer_gradients import differentiated, is_exactly
from jointebm.randomness.full_precision import full_precision
from jointebm.spaces.space import Position, Space

__all__ = ["ConcatEnergy"]

NARROW = 32  # columns of x; with fewer, a second product and a sum cost more than `encode` saves


class ConcatEnergy(nn.Module):
    """f(x, y) = s net(concat(h(x), y)), with x all continuous and y all discrete blocks of the space, s `output_scale`.

    The first layer of the network is linear, so part of it belongs to x alone: W [h(x), y] + b = (W_x h(x) + b) + W_y y.
    `encode` is the first term and `head` everything after it, so kernels that move y never pay for x. (With fewer than 32
    columns of x and no encoder, the first layer is not split: that is cheaper.)

    The layers of `net` are called one by one and its own `forward` is not, so hooks on `net` do not fire; nor do hooks on
    `net[0]` where it is split. Hook `encoder` or `net[-1]`.

    The last layer runs in the parameters' own precision under autocast too, because differences of f decide what is
    accepted.

    Args:
        space: the blocks.
        net: an `nn.Sequential` that starts with an `nn.Linear` over the columns of h(x) and y, and ends with another
            `nn.Linear` to one number.
        encoder: h, a module from the one continuous block (N, *shape) to features; None is the identity, flattened.
        scale: per block, the factor that the network's input is multiplied by (see `Inputs`).
        output_scale: the factor on the network's output, > 0. f must span tens of nats where few pixels tell labels
            apart; with a scale, the weights stay small.

    Raises:
        TypeError: the network does not start and end with a linear layer.
        ValueError: the network is a single layer, the first layer does not fit the width of h(x) and y, or the last
            layer gives more than one number per row.

    References:
        Kelly & Grathwohl 2021, Sec. 3 and 6, App. B.

    Example:
        >>> import torch
        >>> from jointebm import Categorical, Continuous, Space
        >>> from jointebm.energies import MLP, ConcatEnergy
        >>> space = Space(point=Continuous(2), bit=Categorical(2, (3,)))
        >>> energy = ConcatEnergy(space, MLP(8, (256, 256, 256)))
        >>> energy({"point": torch.zeros(5, 2), "bit": torch.zeros(5, 3, 2)}).shape
        torch.Size([5])
    """

    def __init__(
        self,
        space: Space,
        net: nn.Sequential,
        *,
        encoder: nn.Module | None = None,
        scale: Mapping[str, float] | None = None,
        output_scale: float = 1.0,
    ) -> None:
        super().__init__()
        layers = list(net) if isinstance(net, nn.Sequential) else []
        if not (layers and isinstance(layers[0], nn.Linear) and isinstance(layers[-1], nn.Linear)):
            raise TypeError(
                "ConcatEnergy: net must be an nn.Sequential that starts and ends with nn.Linear, got "
                f"{type(net).__name__}. Any other network works as its own energy: write a module whose forward takes "
                "a position and returns f."
            )
        if len(layers) < 2:
            raise ValueError(
                "ConcatEnergy: net is a single linear layer, in which x and y do not interact; give it at least one hidden "
                "layer"
            )
        if layers[-1].out_features != 1:
            raise ValueError(
                f"ConcatEnergy: the last layer gives {layers[-1].out_features} numbers per row, but f is one number"
            )
        if encoder is not None and len(space.continuous) != 1:
            raise ValueError(f"ConcatEnergy: an encoder needs exactly one continuous block, got {space.continuous}")
        if not 0 < output_scale < math.inf:
            raise ValueError(f"ConcatEnergy: output_scale must be positive and finite, got {output_scale}")
        self.net, self.encoder, self.output_scale = net, encoder, output_scale
        self._x, self._y = Inputs(space, space.continuous, scale), Inputs(space, space.discrete, scale)
        self._all = Inputs(space, (*space.continuous, *space.discrete), scale)
        worth_it = encoder is not None or self._x.width >= NARROW
        self.encoded_blocks = space.continuous if worth_it else ()
        if encoder is None and layers[0].in_features != self._x.width + self._y.width:
            raise ValueError(
                f"ConcatEnergy: the first layer takes {layers[0].in_features} columns, but the space has "
                f"{self._x.width} continuous + {self._y.width} discrete"
            )

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """Modules whose weights, all zero, make f zero (see `start_at_zero`)."""
        return (list(self.net)[-1],)

    def encode(self, position: Position) -> Tensor:
        """W_x h(x) + b, the part of the first layer that belongs to x, shape (N, H)."""
        h = self._x(position) if self.encoder is None else self.encoder(self._x.scaled(position, self._x.names[0]))
        if h.shape[1] + self._y.width != self._first.in_features:  # only the encoder knows its width
            raise ValueError(
                f"ConcatEnergy: the first layer takes {self._first.in_features} columns, but the encoder gives "
                f"{h.shape[1]} and the discrete blocks {self._y.width}"
            )
        return linear(h, self._first.weight[:, : h.shape[1]], self._first.bias)

    def head(self, features: Tensor, position: Position) -> Tensor:
        """f from the features and y, shape (N,), nats."""
        if not self._y.names:
            return self._after_first(features)
        y_weight = self._first.weight[:, -self._y.width :]
        return self._after_first(torch.addmm(features, self._y(position), y_weight.T))

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position, shape (N,), nats."""
        if self.encoded_blocks:
            return self.head(self.encode(position), position)
        return self._after_first(self._first(self._all(position)))

    def value_and_score(self, position: Position) -> tuple[Tensor, dict[str, Tensor]] | None:
        """f and its gradient with respect to each block (see `kernels.known_scores`); None where layers are not plain."""
        if self.encoded_blocks or not is_exactly(self, ConcatEnergy):
            return None
        found = differentiated(list(self.net), self._all(position), self.output_scale)
        return None if found is None else (found[0].squeeze(1), self._all.split(found[1], position))

    def head_value_and_score(self, features: Tensor, position: Position) -> tuple[Tensor, dict[str, Tensor]] | None:
        """The same of the head, the gradient with respect to the features under the name ""."""
        if not is_exactly(self, ConcatEnergy):
            return None
        y_weight = self._first.weight[:, self._first.in_features - self._y.width :]
        hidden = torch.addmm(features, self._y(position), y_weight.T) if self._y.names else features
        found = differentiated(list(self.net)[1:], hidden, self.output_scale)
        if found is None:
            return None
        of_y = self._y.split(found[1] @ y_weight, position) if self._y.names else {}
        return found[0].squeeze(1), {"": found[1], **of_y}

    def _after_first(self, hidden: Tensor) -> Tensor:
        last = cast(nn.Linear, self.net[-1])
        for layer in list(self.net)[1:-1]:
            hidden = layer(hidden)
        with full_precision(hidden):
            f = last(hidden.to(last.weight.dtype)).squeeze(1)
        return f if self.output_scale == 1 else f * self.output_scale

    @property
    def _first(self) -> nn.Linear:
        return cast(nn.Linear, self.net[0])
