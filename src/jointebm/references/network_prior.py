"""The normal prior of the weights of networks over codes, which decides their start and pulls on them in training.

With N rows and strength s, training minimises

    -1/N sum_i log p(row_i) - s/N log N(weights; 0, variances)

so that s = 1 gives the mode of the posterior; to the first term, a table adds its pseudo-likelihood. Without a prior, a
network memorises a table of some hundred rows.

Legend: V columns, H hidden units.
"""

import math
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from jointebm.randomness import draws
from jointebm.randomness.draws import Generator

__all__ = ["WEIGHT_PRIOR", "draw_weights", "prior_groups"]

WEIGHT_PRIOR = 0.03  # s, by default: chosen by the true likelihood of drawn tables of 150 to 400 rows


class OverCodes(Protocol):
    """A network over the sum of one vector per code."""

    embedding: nn.Parameter
    bias: nn.Parameter
    weights: nn.ParameterList


def _variances(num_columns: int, width: int) -> dict[str, float]:
    """Of the prior, by the name of a parameter."""
    return {
        "embedding": 1 / num_columns,
        "vectors": 1 / num_columns,  # of `Curves`, in place of the embedding
        "bias": 1 / 4,
        "weights": 2 / width,
        "biases": 1 / 4,
        "readout": 1 / width,
        "readout_bias": 1 / 4,
    }


@torch.no_grad()
def draw_weights(network: OverCodes, num_columns: int, generator: Generator) -> None:
    """Draws vectors of codes, their bias and hidden weights from the prior; the other parameters keep their values."""
    variances = _variances(num_columns, len(network.bias))
    parts: list[tuple[str, Tensor]] = [("embedding", network.embedding), ("bias", network.bias)]
    for name, part in (*parts, *(("weights", weight) for weight in network.weights)):
        part.copy_(draws.normal(part, generator) * math.sqrt(variances[name]))


def prior_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], *, num_columns: int, width: int, strength: float
) -> list[dict[str, object]]:
    """Groups of `torch.optim.Adam`, whose `weight_decay` adds the gradient of the prior: strength * weight / variance.

    Args:
        parameters: with their names in the network, as `named_parameters` gives them; parametrised ones too.
        num_columns: V.
        width: H.
        strength: s / N.

    Raises:
        KeyError: a parameter that the prior does not know.

    Example:
        >>> groups = prior_groups([("bias", nn.Parameter(torch.zeros(32)))], num_columns=2, width=32, strength=0.1)
        >>> groups[0]["weight_decay"]
        0.4
    """
    variances = _variances(num_columns, width)
    groups: dict[float, list[nn.Parameter]] = {}
    for path, each in parameters:
        known = [part for part in path.split(".") if part in variances]
        if not known:
            raise KeyError(f"prior_groups: no variance of parameter {path!r}; known names are {', '.join(variances)}")
        groups.setdefault(strength / variances[known[0]], []).append(each)
    return [{"params": each, "weight_decay": decay} for decay, each in groups.items()]
