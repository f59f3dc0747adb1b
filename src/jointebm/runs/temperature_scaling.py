"""The factor on f at which p(y | x) fits labels best.

x moves at a temperature lambda of its own, so f and lambda may be multiplied by the same factor without any change to the
chains of x at given y. What changes is how sharp p(y | x) is, and training with few steps can leave it far too flat.

Legend: N rows, S configurations of the discrete blocks.
"""

import math

import torch
from torch import Tensor

from jointebm.sampling.enumeration import enumerate_log_density
from jointebm.kernels import LogDensity
from jointebm.inference.model import ModelConfig
from jointebm.spaces.space import Position, Space

__all__ = ["MAX_FACTOR", "fit_inverse_temperature", "rescaled"]

MAX_FACTOR = 100.0  # on few rows all labels may be right, and then no factor is large enough
TABULATED_AT_ONCE = 50


def fit_inverse_temperature(log_density: LogDensity, space: Space, position: Position) -> float:
    """The c that minimises the mean of -log p_c(y | x), where p_c(y | x) is proportional to exp(c f(x, y)).

    The loss is convex in c, and its derivative, the mean of E_c[f(x, y')] - f(x, y), is bisected.

    Args:
        log_density: f, shape (N,).
        space: the blocks; f is evaluated at all S configurations of the discrete ones.
        position: N rows without a missing entry.

    Returns:
        c in [1 / MAX_FACTOR, MAX_FACTOR]; an end of the range if the best lies beyond.

    References:
        Guo et al. 2017, On calibration of modern neural networks: temperature scaling, here of a joint energy.

    Example:
        >>> from jointebm import Binary
        >>> rows = {"y": torch.tensor([1.0] * 3 + [0.0])}  # log odds 3 : 1, where f says 0.1
        >>> f = lambda position: 0.1 * position["y"]
        >>> round(fit_inverse_temperature(f, Space(y=Binary()), rows) * 0.1, 4) == round(math.log(3), 4)
        True
    """
    f = torch.cat([_table(log_density, space, rows) for rows in _in_pieces(position)])  # (N, S)
    true = space.configuration_index(position)[:, None]

    def derivative(c: float) -> float:
        expected = ((c * f).softmax(dim=1) * f).sum(dim=1, keepdim=True)
        return float((expected - f.gather(1, true)).mean())

    low, high = -math.log(MAX_FACTOR), math.log(MAX_FACTOR)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if derivative(math.exp(middle)) < 0 else (low, middle)
    return math.exp((low + high) / 2)


def rescaled(config: ModelConfig, factor: float) -> ModelConfig:
    """The model with f and the temperature of x multiplied by a factor.

    Raises:
        ValueError: the energy has no output_scale.
    """
    if not hasattr(config.energy, "output_scale"):
        raise ValueError(f"model {config.name!r}: its energy ({config.energy.kind}) has no output_scale to multiply")
    energy = config.energy.model_copy(update={"output_scale": config.energy.output_scale * factor})
    kernel = config.kernel.model_copy(update={"temperature": config.kernel.temperature * factor})
    return config.model_copy(update={"energy": energy, "kernel": kernel})


def _in_pieces(position: Position) -> list[dict[str, Tensor]]:
    num_rows = len(next(iter(position.values())))
    starts = range(0, num_rows, TABULATED_AT_ONCE)
    return [{name: value[start : start + TABULATED_AT_ONCE] for name, value in position.items()} for start in starts]


def _table(log_density: LogDensity, space: Space, position: Position) -> Tensor:
    """f at every configuration, less its largest in the row, shape (N, S), float64."""
    f = torch.cat([values for _, values in enumerate_log_density(log_density, space, position)], dim=1).double()
    return f - f.amax(dim=1, keepdim=True)
