"""Weights of the components of a reference, under a model and in the data: the sign of a spurious or lost mode.

Legend: D draws of the model, N rows, M components, G groups of draws.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.sampling.weighted_draws import effective_size

__all__ = ["ComponentWeight", "component_weights"]

CLEARLY = 4.0  # standard errors between a weight of the model and of the data, that a finding takes
MIN_OFF, MAX_DIFFERENCE_OF_WEIGHT = (
    0.01,
    0.05,
)  # a difference below the first is never a finding, one above the second always, if clear


class ComponentWeight(NamedTuple):
    """One component of a reference: mean probability that a row belongs to it.

    Args:
        model: over rows of the model.
        data: over rows of the data.
        standard_error: of their difference.

    Example:
        >>> ComponentWeight(model=0.08, data=0.02, standard_error=0.01).finding
        'a group of rows has the weight 0.080 in F and 0.020 +- 0.010 in the data: F has a spurious mode there'
        >>> ComponentWeight(model=0.08, data=0.02, standard_error=0.03).finding  # not clear
    """

    model: float
    data: float
    standard_error: float

    @property
    def excess(self) -> float:
        """The difference of the weights in units of the least that is a finding.

        It takes four standard errors, and twice or half the weight in the data, but at least .01 and at most .05.
        """
        difference = self.model - self.data
        relative = self.data if difference > 0 else self.data / 2
        return abs(difference) / max(CLEARLY * self.standard_error, MIN_OFF, min(MAX_DIFFERENCE_OF_WEIGHT, relative))

    @property
    def finding(self) -> str | None:
        """What is wrong, if the weights are clearly and much apart."""
        if not self.excess > 1:
            return None
        what = "F has a spurious mode there" if self.model > self.data else "F lacks some of these rows"
        return (
            f"a group of rows has the weight {self.model:.3f} in F and {self.data:.3f} +- {self.standard_error:.3f} in the "
            f"data: {what}"
        )


def component_weights(
    of_model: Tensor, log_weights: Tensor, of_data: Tensor, *, num_groups: int | None = None
) -> tuple[ComponentWeight, ...]:
    """Weights of all components, with the standard error of each difference.

    That of the model is the jackknife's over groups of draws, but at least that of so many independent rows. Of these, model
    and data have one share, as they have if nothing is wrong.

    Args:
        of_model: probability of each component given a draw of the model, shape (D, M).
        log_weights: of the draws, shape (D,), nats.
        of_data: probability of each component given a row of the data, shape (N, M).
        num_groups: G, equal groups of draws that are independent of one another; None is D.
    """
    shares = log_weights.double().softmax(dim=0)
    size = effective_size(log_weights.double())
    products = shares[:, None] * of_model.double()
    groups = len(shares) if num_groups is None else num_groups
    of_groups, in_groups = products.view(groups, -1, products.shape[1]).sum(dim=1), shares.view(groups, -1).sum(dim=1)
    model, data = products.sum(dim=0), of_data.double().mean(dim=0)
    left_out = (model - of_groups) / (1 - in_groups)[:, None]
    jackknife = (groups - 1) / groups * (left_out - left_out.mean(dim=0)).square().sum(dim=0)
    share = (size * model + len(of_data) * data) / (size + len(of_data))
    spread = torch.maximum(jackknife, _variance(share, size)) + _variance(share, torch.tensor(float(len(of_data))))
    errors = [error if math.isfinite(error) else math.inf for error in spread.sqrt().tolist()]
    return tuple(map(ComponentWeight, model.tolist(), data.tolist(), errors))


def _variance(share: Tensor, size: Tensor) -> Tensor:
    """Of a share of so many rows, at most; half a row more, so that no share has the variance zero."""
    middle = (share * size + 0.5) / (size + 1)
    return middle * (1 - middle) / size
