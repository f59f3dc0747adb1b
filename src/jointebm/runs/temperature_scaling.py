"""Temperature scaling: the factor on f at which p(y | x) fits labels best.

x moves at its own temperature lambda, so multiplying f and lambda by the same factor leaves the chains of x given y as they
are. It changes how sharp p(y | x) is, which training with few steps can leave far too flat.

Legend: N rows, S configurations of the discrete blocks.
"""

import math

import torch
from torch import Tensor

from jointebm.data import Dataset
from jointebm.inference.model import Model
from jointebm.inference.model_config import ModelConfig
from jointebm.kernels import LogDensity
from jointebm.sampling.enumeration import enumerate_log_density
from jointebm.spaces.space import Position, Space

__all__ = ["MAX_FACTOR", "calibrated", "fit_inverse_temperature", "rescaled"]

MAX_FACTOR = 100.0  # if all labels of few rows are predicted correctly, the best factor is infinite
TABULATED_AT_ONCE = 50


def fit_inverse_temperature(log_density: LogDensity, space: Space, position: Position) -> float:
    """The c that minimises the mean of -log p_c(y | x), where p_c(y | x) is proportional to exp(c f(x, y)).

    The loss is convex in c, and its derivative, the mean of E_c[f(x, y')] - f(x, y), is bisected.

    Args:
        log_density: f, shape (N,).
        space: the blocks; f is evaluated at all S configurations of the discrete ones.
        position: N rows without a missing entry.

    Returns:
        c in [1 / MAX_FACTOR, MAX_FACTOR]; an end of the range if the best c lies beyond.

    References:
        Guo et al. 2017, On calibration of modern neural networks: temperature scaling, c = 1 / T; here of a joint energy.

    Example:
        >>> from jointebm import Binary
        >>> rows = {"y": torch.tensor([1.0] * 3 + [0.0])}  # log odds 3 : 1, where f says 0.1
        >>> f = lambda position: 0.1 * position["y"]
        >>> round(fit_inverse_temperature(f, Space(y=Binary()), rows) * 0.1, 4) == round(math.log(3), 4)
        True
    """
    pieces = zip(*(value.split(TABULATED_AT_ONCE) for value in position.values()), strict=True)
    f = torch.cat([_table(log_density, space, dict(zip(position, piece, strict=True))) for piece in pieces])  # (N, S)
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
    """The configuration with f and the temperature of x multiplied by a factor."""
    if not hasattr(config.energy, "output_scale"):
        raise ValueError(
            f"model {config.name!r}: its energy ({config.energy.kind}) has no output_scale; expected a kind with one"
        )
    energy = config.energy.model_copy(update={"output_scale": config.energy.output_scale * factor})
    kernel = config.kernel.model_copy(update={"temperature": config.kernel.temperature * factor})
    return config.model_copy(update={"energy": energy, "kernel": kernel})


def calibrated(model: Model, dataset: Dataset, num_rows: int) -> tuple[Model, float]:
    """The model with f scaled to the labels of training rows, and the factor."""
    drawn = dataset.batch(num_rows, generator=torch.Generator().manual_seed(0))
    position = {name: value.to(model.device) for name, value in drawn.items()}
    complete = torch.stack([value.reshape(num_rows, -1).isfinite().all(dim=1) for value in position.values()]).all(
        dim=0
    )
    if not bool(complete.any()):
        raise ValueError(f"calibration_rows {num_rows}: every row has a missing entry; set it to 0")
    factor = fit_inverse_temperature(
        model.energy, model.space, {name: value[complete] for name, value in position.items()}
    )
    config = rescaled(model.config, factor)
    energy = config.energy.build(model.space).to(model.device)
    energy.load_state_dict(model.energy.state_dict())
    return Model(config, energy=energy, noise=model.noise).eval(), factor


def _table(log_density: LogDensity, space: Space, position: Position) -> Tensor:
    """f at every configuration minus its maximum in the row, shape (N, S), float64."""
    f = torch.cat([values for _, values in enumerate_log_density(log_density, space, position)], dim=1).double()
    return f - f.amax(dim=1, keepdim=True)
