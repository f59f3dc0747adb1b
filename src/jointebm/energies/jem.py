"""JEM: a classifier read as an energy (App. A.2), the baseline of the paper, with an energy of x alone if asked for."""

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from jointebm.energies.inputs import Inputs
from jointebm.randomness.full_precision import full_precision
from jointebm.spaces.blocks import Binary
from jointebm.spaces.space import Position, Space

__all__ = ["JEMEnergy"]


class JEMEnergy(nn.Module):
    """f(x, y) = sum over the discrete variables v of net(x)[y_v]: one logit per class (Eq. 11).

    With one categorical variable this is exactly JEM. Several variables are independent given x, as in a classifier with
    one softmax per attribute; the paper prefers `ConcatEnergy` for that reason. A binary variable has one logit, that of
    the value 1.

    With `shared`, f(x, y) = c(x) + log p(y | x) + log K, where p(y | x) is the classifier of the logits and K the
    number of configurations of y: the mean over y of exp f(x, y) is exp c(x) exactly. Over many reals c must span
    hundreds of nats. Logits that also had to say how probable x is would grow with it, and p(y | x) be far too sure.
    The last layer of the logits then runs in its own precision under autocast too.

    Args:
        space: the blocks, at least one continuous and one discrete.
        net: module from x, flattened (N, columns of x), or from `encoder`'s features, to (N, columns of y).
        encoder: module from the one continuous block (N, *shape) to features; None flattens x.
        scale: per continuous block, the factor on its entries (see `Inputs`).
        logit_scale: factor on the logits, > 0.
        shared: c, a module from a position to shape (N,) that reads continuous blocks only, such as a `ConcatEnergy` of
            these; None is no such term.

    Raises:
        TypeError: with `shared`, the network is not an `nn.Sequential` that ends with a linear layer.
        ValueError: the space lacks continuous or discrete blocks, an encoder has not exactly one continuous block, `scale`
            names a block that is not continuous, or `logit_scale` is not positive.

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
        shared: nn.Module | None = None,
    ) -> None:
        super().__init__()
        space.require(scale or {}, discrete=False)
        if not space.continuous or not space.discrete:
            raise ValueError(f"JEMEnergy: needs continuous and discrete blocks, got {space}")
        if encoder is not None and len(space.continuous) != 1:
            raise ValueError(f"JEMEnergy: an encoder needs exactly one continuous block, got {space.continuous}")
        if not 0 < logit_scale < math.inf:
            raise ValueError(f"JEMEnergy: logit_scale must be positive and finite, got {logit_scale}")
        if shared is not None and not (isinstance(net, nn.Sequential) and isinstance(net[-1], nn.Linear)):
            raise TypeError(
                "JEMEnergy: with shared, net must be an nn.Sequential that ends with nn.Linear, got "
                f"{type(net).__name__}"
            )
        self.net, self.encoder, self.shared, self.logit_scale = net, encoder, shared, logit_scale
        self.encoded_blocks = space.continuous
        self._x = Inputs(space, space.continuous, scale)
        self._y = Inputs(space, space.discrete)
        self._log_labels = math.log(Space(**{name: space[name] for name in space.discrete}).num_configurations)
        self._widths = [
            width  # columns of each variable; one for a binary one
            for name in space.discrete
            for width in (
                [1] * space[name].num_variables if isinstance(space[name], Binary) else space.num_classes(name)
            )
        ]

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """Modules whose weights, all zero, make f zero (see `start_at_zero`)."""
        return (self.net,) if self.shared is None else (self.net, self.shared)

    def encode(self, position: Position) -> Tensor:
        """The logits of all classes, shape (N, columns of y), after c(x) less their normaliser if there is one, nats."""
        x = self._x(position) if self.encoder is None else self.encoder(self._x.scaled(position, self._x.names[0]))
        if self.shared is None:
            return self.net(x) * self.logit_scale if self.logit_scale != 1 else self.net(x)
        layers = list(cast(nn.Sequential, self.net))
        last = cast(nn.Linear, layers[-1])
        for layer in layers[:-1]:
            x = layer(x)
        with full_precision(x):  # differences of f decide what is accepted
            logits = last(x.to(last.weight.dtype)) * self.logit_scale
            parts = logits.split(self._widths, dim=1)
            log_sums = [softplus(part[:, 0]) if part.shape[1] == 1 else part.logsumexp(dim=1) for part in parts]
        c = self.shared(position) - torch.stack(log_sums).sum(dim=0) + self._log_labels
        return torch.cat([c[:, None], logits], dim=1)

    def head(self, features: Tensor, position: Position) -> Tensor:
        """f, the sum of the logits that y selects, and c(x) if there is one, shape (N,), nats."""
        y = self._y(position)
        features = features.to(y.dtype)
        if self.shared is None:
            return (features * y).sum(dim=1)
        return features[:, 0] + (features[:, 1:] * y).sum(dim=1)

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position, shape (N,), nats."""
        return self.head(self.encode(position), position)
