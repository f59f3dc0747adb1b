"""Gradients of plain networks without autograd: linear layers with activations between them.

Legend: N rows, H columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, linear, silu

__all__ = ["differentiated", "is_exactly"]

aten = torch.ops.aten
_METHODS = frozenset(("forward", "encode", "head"))


def differentiated(layers: Sequence[nn.Module], hidden: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor] | None:
    """The scaled output of layers that end with a linear one to a single number, and its gradient with respect to the input.

    The operations are those of autograd, but for the derivative of ELU, which is taken from its output instead of by a
    second exponential. Gradients agree with those of autograd up to rounding.

    Args:
        layers: `nn.Linear`, `nn.ELU` and `nn.SiLU`, the first and last linear.
        hidden: their input, shape (N, H).
        scale: factor on the output.

    Returns:
        The output, shape (N, 1), and the gradient of each row's output, shape (N, H); None if a layer is of another type or
        has hooks, or under autocast.

    Example:
        >>> layers, rows = [nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 1)], torch.ones(2, 3, requires_grad=True)
        >>> output, gradient = differentiated(layers, rows.detach())
        >>> torch.equal(gradient, torch.autograd.grad(nn.Sequential(*layers)(rows).sum(), rows)[0])
        True
    """
    device = hidden.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return None
    steps: list[tuple[nn.Module, Tensor]] = []  # a layer, and what its derivative is made of
    for layer in layers:
        kind = type(layer)
        if _is_hooked(layer):
            return None
        if kind is nn.Linear:
            weight = layer.weight
            hidden = linear(hidden, weight, layer.bias)  # type: ignore[arg-type]
            steps.append((layer, weight))  # type: ignore[arg-type]
        elif kind is nn.ELU:
            hidden = elu(hidden, layer.alpha)  # type: ignore[arg-type]
            steps.append((layer, hidden))
        elif kind is nn.SiLU:
            steps.append((layer, hidden))
            hidden = silu(hidden)
        else:
            return None
    _, weight = steps.pop()
    if scale != 1:
        hidden, weight = hidden * scale, weight * scale
    gradient = weight.expand(len(hidden), -1)
    for layer, known in reversed(steps):
        if isinstance(layer, nn.ELU):
            gradient = aten.elu_backward(gradient, layer.alpha, 1.0, 1.0, True, known)
        elif isinstance(layer, nn.SiLU):
            gradient = aten.silu_backward(gradient, known)
        else:
            gradient = gradient @ known
    return hidden, gradient


def is_exactly(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether f of a module is what its class says: no subclass, no method set on the module itself, no hooks.

    Example:
        >>> layer = nn.Identity()
        >>> before = is_exactly(layer, nn.Identity)
        >>> layer.forward = lambda x: 2 * x
        >>> before, is_exactly(layer, nn.Identity), is_exactly(nn.ELU(), nn.Module)
        (True, False, False)
    """
    return type(module) is kind and _METHODS.isdisjoint(vars(module)) and not _is_hooked(module)


def _is_hooked(layer: nn.Module) -> bool:
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return any(hooks)
