"""F = log q + residual: an energy that starts from a reference, a normalised density of the same space."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from jointebm.references.reference import Reference
from jointebm.spaces.space import Position, Space

__all__ = ["Referenced", "start_at_zero"]


class Referenced(nn.Module):
    """F(x, y) = log q(x, y) + r(x, y), with q a reference and r a residual energy.

    Where r is zero, as after `start_at_zero`, F is log q and log Z is 0. In training r learns what q lacks. The reference is
    not trained: neither its parameters nor its buffers change.

    In a space of reals and labels F has an encoder: `encode` runs the part of q that belongs to the reals, and the encoder
    of the residual if it has one of all continuous blocks, once for each x. Kernels that move labels do not pay for them.

    Without `with_labels` the residual alone says what labels x has:

        F(x, y) = log q(x) - log(number of configurations of y) + r(x, y)

    which is a normalised density at r = 0 too, but not q. Over many reals the odds of labels under a mixture are extreme,
    and often wrong; a residual then learns slowly to undo them.

    Args:
        reference: q, a module over the whole space.
        residual: r, a module from a position to shape (N,).
        with_labels: whether log q(y | x) is part of F.

    Example:
        >>> from jointebm.energies import MLP, ConcatEnergy
        >>> from jointebm.references import Mixture
        >>> from jointebm.spaces import Categorical, Continuous, Space
        >>> space = Space(x=Continuous(2), y=Categorical(3))
        >>> q, residual = Mixture(space), ConcatEnergy(space, MLP(5, (16,)))
        >>> energy = Referenced(q, start_at_zero(residual))
        >>> position = q.draw(4, torch.Generator().manual_seed(0))
        >>> bool((energy(position) == q.log_prob(position)).all())
        True
    """

    def __init__(self, reference: nn.Module, residual: nn.Module, *, with_labels: bool = True) -> None:
        super().__init__()
        self._reference, self.residual, self.with_labels = reference.requires_grad_(False), residual, with_labels
        if not with_labels and not self.space.continuous:
            raise ValueError(f"Referenced: without labels of the reference nothing of it is left in {self.space}")
        encoded = tuple(getattr(residual, "encoded_blocks", ()))
        self._residual_encodes = bool(encoded) and encoded == self.space.continuous
        splits = self._residual_encodes or (not encoded and bool(self.space.continuous) and bool(self.space.discrete))
        self.encoded_blocks = self.space.continuous if splits and hasattr(reference, "encode") else ()

    @property
    def reference(self) -> Reference:
        """q."""
        return cast(Reference, self._reference)

    @property
    def space(self) -> Space:
        """The blocks."""
        return self.reference.space

    def encode(self, position: Position) -> Tensor:
        """Features of the residual, or the reals themselves, and of the reference side by side."""
        if self._residual_encodes:
            features = self.residual.encode(position)  # type: ignore[operator]
        else:
            features = torch.cat(
                [position[name].reshape(len(position[name]), -1) for name in self.encoded_blocks], dim=1
            )
        if self.with_labels:
            of_reference = self._reference.encode(position)  # type: ignore[operator]
        else:  # the same for all labels
            of_reference = self._log_q(position)[:, None]
        return torch.cat([features, of_reference], dim=1)

    def head(self, features: Tensor, position: Position) -> Tensor:
        """F from the features and the discrete blocks, shape (N,), nats."""
        width = features.shape[1] - (cast(int, self._reference.num_features) if self.with_labels else 1)
        if self._residual_encodes:
            residual = self.residual.head(features[:, :width], position)  # type: ignore[operator]
        else:
            sizes = [self.space[name].num_variables for name in self.space.continuous]
            parts = zip(self.space.continuous, features[:, :width].split(sizes, dim=1), strict=True)
            reals = {name: part.reshape(len(part), *self.space[name].variable_shape) for name, part in parts}
            residual = self.residual({**position, **reals})
        if self.with_labels:
            log_q = self._reference.head(features[:, width:], position)  # type: ignore[operator]
        else:
            log_q = features[:, width]
        return log_q + residual.to(log_q.dtype)

    def forward(self, position: Position) -> Tensor:
        """F at each row of a position, shape (N,), nats."""
        log_q = self._log_q(position)
        return log_q + self.residual(position).to(log_q.dtype)

    def _log_q(self, position: Position) -> Tensor:
        """log q(x, y), or log q(x) with labels uniform, shape (N,)."""
        if self.with_labels:
            return self.reference.log_prob(position)
        like = position[self.space.continuous[0]]
        blank = {
            name: like.new_full((len(like), *self.space[name].position_shape), torch.nan)
            for name in self.space.discrete
        }
        reals = {name: position[name] for name in self.space.continuous}
        return self.reference.log_prob({**reals, **blank}) - math.log(self.space.num_configurations)


def start_at_zero(residual: nn.Module) -> nn.Module:
    """Sets the output layers of an energy to zero, in place, so that it is zero everywhere.

    Args:
        residual: an energy with `output_layers`, the modules whose weights are zero only if the energy is, or an
            `nn.Sequential` that ends with a linear layer.

    Raises:
        TypeError: the module does not say what its output layers are.

    Example:
        >>> energy = start_at_zero(nn.Sequential(nn.Linear(2, 8), nn.ELU(), nn.Linear(8, 1)))
        >>> bool((energy(torch.ones(3, 2)) == 0).all())
        True
    """
    for layer in output_layers(residual):
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    return residual


def output_layers(module: nn.Module) -> tuple[nn.Module, ...]:
    """The modules whose weights, all zero, make the output of a module zero; TypeError if it does not say so."""
    if isinstance(module, nn.Linear):
        return (module,)
    if isinstance(module, nn.Sequential) and isinstance(module[-1], nn.Linear | nn.Conv2d):
        return (module[-1],)
    layers = getattr(module, "output_layers", None)
    if layers is None:
        raise TypeError(
            f"residual: {type(module).__name__} does not name its output layers; give it a property output_layers, the "
            "modules that are zero where the energy is zero"
        )
    return tuple(layer for each in layers for layer in ((each,) if _is_plain(each) else output_layers(each)))


def _is_plain(module: nn.Module) -> bool:
    """Whether a module has parameters of its own and no further modules."""
    return not any(True for _ in module.children())
