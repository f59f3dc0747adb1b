"""What training minimises: Eq. 2 as a loss whose gradient is that of the negative log-likelihood."""

from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.exact import evaluate_configurations
from jointebm.kernels import LogDensity
from jointebm.spaces import Position, Space

__all__ = ["Phases", "conditional_likelihood", "maximum_likelihood", "summed_maximum_likelihood"]


class Phases(NamedTuple):
    """The loss and both phases.

    Args:
        loss: scalar, nats; its gradient is the estimator of Eq. 2 of the negative mean log-likelihood. Its value is not
            the negative log-likelihood, which is not known.
        positive: f of the data, shape (number of data rows,).
        negative: f of the model's chains, shape (number of chains,); of their x alone if y is summed out.
    """

    loss: Tensor
    positive: Tensor
    negative: Tensor


def maximum_likelihood(log_density: LogDensity, positive: Position, negative: Position) -> Phases:
    """The loss of Eq. 2: mean f of the chains minus mean f of the data.

    grad log p(x, y) = grad f(x, y) - E_{p(x', y')}[grad f(x', y')]     (Eq. 2)

    Both phases go through the network in one batch. The gradient is unbiased only if the chains are exact draws from
    the model; with persistent chains they are approximately so.

    Args:
        log_density: f with parameters, shape (N,).
        positive: data, completed: no missing entries.
        negative: chains; no gradient flows into them.

    References:
        Kelly & Grathwohl 2021, Eq. 2.

    Example:
        >>> phases = maximum_likelihood(lambda position: position["x"], {"x": torch.ones(2)}, {"x": torch.zeros(3)})
        >>> phases.loss
        tensor(-1.)
    """
    num_positive = len(next(iter(positive.values())))
    both = {name: torch.cat([positive[name], negative[name].detach()]) for name in positive}
    f = log_density(both)
    f_positive, f_negative = f[:num_positive], f[num_positive:]
    return Phases(f_negative.mean() - f_positive.mean(), f_positive, f_negative)


def summed_maximum_likelihood(log_density: LogDensity, space: Space, positive: Position, negative: Position) -> Phases:
    """The loss of Eq. 2 with y summed out of the negative phase exactly.

    E_{p(x', y')}[grad f(x', y')] = E_{p(x')}[grad log sum_y exp f(x', y)]

    The same expectation as in `maximum_likelihood` with less noise: a chain whose label is right still teaches what all
    the wrong labels are worth. Costs one evaluation of the head per configuration of y and chain, so it is for small
    label spaces.

    Args:
        log_density: f with parameters, shape (N,).
        space: the blocks; all configurations of its discrete blocks are evaluated.
        positive: data, completed: no missing entries.
        negative: chains, of which only the continuous blocks matter.

    References:
        Kelly & Grathwohl 2021, Eq. 2; the sum over y is a Rao-Blackwellisation.

    Example:
        >>> from jointebm import Binary, Continuous, Space
        >>> space = Space(x=Continuous(), y=Binary())
        >>> rows = {"x": torch.zeros(2), "y": torch.tensor([0.0, 1.0])}
        >>> summed_maximum_likelihood(lambda position: position["y"], space, rows, rows).negative.exp()
        tensor([3.7183, 3.7183])
    """
    like = next(iter(negative.values()))
    configurations = space.configurations(dtype=like.dtype, device=like.device)
    f = evaluate_configurations(log_density, negative, configurations)  # (N, S)
    f_negative = f.logsumexp(dim=1)
    f_positive = log_density(positive)
    return Phases(f_negative.mean() - f_positive.mean(), f_positive, f_negative)


def conditional_likelihood(log_density: LogDensity, space: Space, positive: Position) -> Tensor:
    """The classifier's loss, minus mean log p(y | x) of the data, by enumeration of y.

    log p(y | x) = f(x, y) - log sum_y' exp f(x, y')

    Added to the loss of Eq. 2 this is a composite likelihood: the joint one, with a second helping of the conditional. It
    leaves f a joint energy, but the maximum is no longer that of the likelihood unless the model holds the truth.

    Args:
        log_density: f with parameters, shape (N,).
        space: the blocks; all configurations of its discrete blocks are evaluated.
        positive: data, completed: no missing entries.

    Returns:
        Mean of -log p(y | x), a scalar, nats.

    References:
        Kelly & Grathwohl 2021, App. A.2 (the second term of JEM's objective). Lindsay 1988 (composite likelihood).

    Example:
        >>> from jointebm import Binary, Continuous, Space
        >>> space = Space(x=Continuous(), y=Binary())
        >>> rows = {"x": torch.zeros(2), "y": torch.tensor([0.0, 1.0])}
        >>> conditional_likelihood(lambda position: 0 * position["y"], space, rows).exp()  # two classes alike
        tensor(2.)
    """
    like = next(iter(positive.values()))
    configurations = space.configurations(dtype=like.dtype, device=like.device)
    f = evaluate_configurations(log_density, positive, configurations)  # (N, S)
    y = space.configuration_index({name: positive[name] for name in space.discrete})
    return torch.nn.functional.cross_entropy(f.float() if f.dtype == torch.bfloat16 else f, y)
