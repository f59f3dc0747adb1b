"""JEM: a classifier read as an energy (App. A.2), the baseline of the paper, with an output for x alone if asked for."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jointebm.energies.inputs import Inputs
from jointebm.spaces.space import Position, Space

__all__ = ["JEMEnergy"]


class JEMEnergy(nn.Module):
    """f(x, y) = sum over the discrete variables v of net(x)[y_v]: one logit per class (Eq. 11).

    With one categorical variable this is exactly JEM. Several variables are independent given x, as in a classifier with
    one softmax per attribute; the paper prefers `ConcatEnergy` for that reason. A binary variable has one logit, that of
    the value 1.

    With `shared_scale` the network has one more output, the first: f(x, y) = shared_scale c(x) + logit_scale sum_v
    net(x)[y_v]. Over many reals c must span hundreds of nats and logits span ten; with two scales both need weights of the
    same size, and neither drowns the other in training. The last layer then runs in its own precision under autocast too.

    Args:
        space: the blocks, at least one continuous and one discrete.
        net: module from x, flattened (N, columns of x), or from `encoder`'s features, to (N, columns of y), one more with
            `shared_scale`.
        encoder: module from the one continuous block (N, *shape) to features; None flattens x.
        scale: per continuous block, the factor on its entries (see `Inputs`).
        logit_scale: factor on the logits, > 0.
        shared_scale: factor on an output for x alone, > 0; None is no such output.

    Raises:
        TypeError: with `shared_scale`, the network is not an `nn.Sequential` that ends with a linear layer.
        ValueError: the space lacks continuous or discrete blocks, an encoder has not exactly one continuous block, `scale`
            names a block that is not continuous, a scale is not positive, or the network has not the outputs it needs.

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
        logit_scale: float = 1.0,
        shared_scale: float | None = None,
    ) -> None:
        super().__init__()
        space.require(scale or {}, discrete=False)
        if not space.continuous or not space.discrete:
            raise ValueError(f"JEMEnergy: needs continuous and discrete blocks, got {space}")
        if encoder is not None and len(space.continuous) != 1:
            raise ValueError(f"JEMEnergy: an encoder needs exactly one continuous block, got {space.continuous}")
        for name, factor in (("logit_scale", logit_scale), ("shared_scale", shared_scale)):
            if factor is not None and not 0 < factor < math.inf:
                raise ValueError(f"JEMEnergy: {name} must be positive and finite, got {factor}")
        self.net, self.encoder = net, encoder
        self.logit_scale, self.shared_scale = logit_scale, shared_scale
        self.encoded_blocks = space.continuous
        self._x = Inputs(space, space.continuous, scale)
        self._y = Inputs(space, space.discrete)
        if shared_scale is not None:
            self._require_outputs(1 + self._y.width)

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """Modules whose weights, all zero, make f zero (see `start_at_zero`)."""
        return (self.net,)

    def encode(self, position: Position) -> Tensor:
        """The logits of all classes, shape (N, columns of y), after the shared output if there is one, in nats."""
        x = self._x(position) if self.encoder is None else self.encoder(self._x.scaled(position, self._x.names[0]))
        if self.shared_scale is None:
            return self.net(x) * self.logit_scale if self.logit_scale != 1 else self.net(x)
        assert isinstance(self.net, nn.Sequential)
        *layers, last = self.net
        for layer in layers:
            x = layer(x)
        with torch.autocast(x.device.type, enabled=False):  # differences of f decide what is accepted
            outputs = last(x.to(last.weight.dtype))
        return torch.cat([self.shared_scale * outputs[:, :1], self.logit_scale * outputs[:, 1:]], dim=1)

    def head(self, features: Tensor, position: Position) -> Tensor:
        """f, the sum of the logits that y selects and the shared output, shape (N,), nats."""
        y = self._y(position)
        features = features.to(y.dtype)
        if self.shared_scale is None:
            return (features * y).sum(dim=1)
        return features[:, 0] + (features[:, 1:] * y).sum(dim=1)

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position, shape (N,), nats."""
        return self.head(self.encode(position), position)

    def _require_outputs(self, num: int) -> None:
        last = self.net[-1] if isinstance(self.net, nn.Sequential) else None
        if not isinstance(last, nn.Linear):
            raise TypeError(
                "JEMEnergy: with shared_scale, net must be an nn.Sequential that ends with nn.Linear, got "
                f"{type(self.net).__name__}"
            )
        if last.out_features != num:
            raise ValueError(
                f"JEMEnergy: with shared_scale the last layer gives one number for x and one per class, {num}; got "
                f"{last.out_features}"
            )
