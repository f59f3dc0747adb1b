"""Losses of Eqs. 2 and 8, whose gradient is that of the negative log-likelihood.

Legend: N rows, S configurations of the discrete blocks.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels import LogDensity
from jointebm.sampling.enumeration import evaluate_all_configurations
from jointebm.spaces.space import Mask, Position, Space

__all__ = [
    "Phases",
    "conditional_likelihood",
    "maximum_likelihood",
    "normalised_likelihood",
    "observed_log_density",
    "summed_maximum_likelihood",
    "weighted_mean",
]


class Phases(NamedTuple):
    """The loss and both phases.

    Args:
        loss: scalar, nats; its gradient is the estimator of Eq. 2 of the negative mean log-likelihood. Its value is not
            the negative log-likelihood, which is not known.
        positive: f of the data, shape (number of data rows,); of what is left if missing y are summed out.
        negative: f of the model's chains, shape (number of chains,); of their x alone if y is summed out, and empty if the
            objective needs no chains.
        parts: the terms of the loss by name, without weights; None if it has one.
        of_chains: the part of the loss that is a mean by the weights of the chains, a scalar; None if there are no chains.

    Example:
        >>> phases = maximum_likelihood(lambda position: position["x"], {"x": torch.ones(2)}, {"x": torch.zeros(3)})
        >>> phases.positive, phases.negative, phases.parts
        (tensor([1., 1.]), tensor([0., 0., 0.]), None)
    """

    loss: Tensor
    positive: Tensor
    negative: Tensor
    parts: Mapping[str, float] | None = None
    of_chains: Tensor | None = None


def maximum_likelihood(
    log_density: LogDensity, positive: Position, negative: Position, *, log_weights: Tensor | None = None
) -> Phases:
    """The loss of Eq. 2: mean f of the chains minus mean f of the data.

    grad log p(x, y) = grad f(x, y) - E_{p(x', y')}[grad f(x', y')]     (Eq. 2)

    Both phases go through the network in one batch. The gradient is unbiased only if the chains are exact draws from
    the model; with persistent chains they are approximately so.

    Args:
        log_density: f with parameters, shape (N,).
        positive: data, completed: no missing entries. If missing entries are exact draws given the observed ones, the
            gradient is that of the likelihood of what was observed (Eq. 8).
        negative: chains; no gradient flows into them.
        log_weights: of the chains, shape (number of chains,), nats, up to a constant; None is equal weights. With weights
            the gradient is consistent where chains are not draws of the model (see `chain_weights`).

    References:
        Kelly & Grathwohl 2021, Eqs. 2 and 8.

    Example:
        >>> phases = maximum_likelihood(lambda position: position["x"], {"x": torch.ones(2)}, {"x": torch.zeros(3)})
        >>> phases.loss
        tensor(-1.)
    """
    num_positive = len(next(iter(positive.values())))
    both = {name: torch.cat([positive[name], negative[name].detach()]) for name in positive}
    f = log_density(both)
    f_positive, f_negative = f[:num_positive], f[num_positive:]
    of_chains = weighted_mean(f_negative, log_weights)
    return Phases(of_chains - f_positive.mean(), f_positive, f_negative, of_chains=of_chains)


def normalised_likelihood(log_density: LogDensity, positive: Position) -> Phases:
    """Minus the mean log-density of the data, for an f whose log Z is 0 for all parameters.

    Args:
        log_density: f with parameters, shape (N,), and an attribute `log_normalizer` that is 0.
        positive: data, completed: no missing entries.

    Raises:
        ValueError: f does not say that it is normalised.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> from jointebm.energies import PictureEnergy
        >>> space = Space(image=Continuous((1, 1)), down=Categorical(2), right=Categorical(2))
        >>> f = PictureEnergy(space, side=1, rows="down", columns="right", noise_sd=1.0)
        >>> row = {"image": torch.zeros(1, 1, 1), "down": torch.eye(2)[[0]], "right": torch.eye(2)[[1]]}
        >>> round(float(normalised_likelihood(f, row).loss.detach()), 4)  # log 4 + log(2 pi) / 2
        2.3052
    """
    if getattr(log_density, "log_normalizer", None) != 0:
        raise ValueError(
            "objective 'normalised' needs an energy whose log Z is 0 for all parameters, got "
            f"{type(log_density).__name__}; use energy kind 'picture', or another objective"
        )
    f = log_density(positive)
    return Phases(-f.mean(), f, f.new_empty(0))


def summed_maximum_likelihood(
    log_density: LogDensity,
    space: Space,
    positive: Position,
    negative: Position,
    *,
    missing: Mask | None = None,
    sampled_share: float = 0.0,
    log_weights: Tensor | None = None,
) -> Phases:
    """The loss of Eq. 2 with y summed out of the negative phase exactly.

    E_{p(x', y')}[grad f(x', y')] = E_{p(x')}[grad log sum_y exp f(x', y)]

    The same expectation as in `maximum_likelihood` with less noise. It costs one evaluation of the head per configuration of
    y and chain, so it is for small label spaces. Missing labels of the data are summed out likewise (Eq. 8).

    With w = `sampled_share` above 0 the negative phase is w f(x', y') + (1 - w) log sum_y exp f(x', y), which has the same
    expected gradient where the chains are draws from the joint density. Chains with a lazy y, or with x at another
    temperature, are not, and then the result depends on w: with y fully marginalised, an x that has drifted from its label
    contributes no gradient about that label; with w > 0 it does, and samples given a label are better.

    Args:
        log_density: f with parameters, shape (N,).
        space: the blocks; all configurations of its discrete blocks are evaluated.
        positive: data, completed: no missing entries.
        negative: chains; only their continuous blocks matter if w is 0.
        missing: per discrete block, which labels of `positive` were not observed, shape
            (N, *variable_shape), bool; None if all were observed.
        sampled_share: w, in [0, 1].
        log_weights: of the chains, x and y together, shape (number of chains,), nats, up to a constant; None is equal
            weights. The weight of a chain serves both its own label and the sum over labels.

    References:
        Kelly & Grathwohl 2021, Eqs. 2 and 8; the sums over y are Rao-Blackwellisations.

    Example:
        >>> from jointebm import Binary, Continuous, Space
        >>> space = Space(x=Continuous(), y=Binary())
        >>> rows = {"x": torch.zeros(2), "y": torch.tensor([0.0, 1.0])}
        >>> summed_maximum_likelihood(lambda position: position["y"], space, rows, rows).negative.exp()
        tensor([3.7183, 3.7183])
    """
    f, _ = evaluate_all_configurations(log_density, space, negative)
    f_negative = f.logsumexp(dim=1)
    f_positive = (
        log_density(positive) if missing is None else observed_log_density(log_density, space, positive, missing)
    )
    of_chains = weighted_mean(f_negative, log_weights)
    loss = of_chains - f_positive.mean()
    if sampled_share:
        at_own_label = f.gather(1, space.configuration_index(negative)[:, None]).squeeze(1)
        of_labels = sampled_share * weighted_mean(at_own_label - f_negative, log_weights)
        loss, of_chains = loss + of_labels, of_chains + of_labels
    return Phases(loss, f_positive, f_negative, of_chains=of_chains)


def weighted_mean(values: Tensor, log_weights: Tensor | None) -> Tensor:
    """Mean of values (N,) by weights whose logarithms are known up to a constant, (N,); None is equal weights.

    Example:
        >>> weighted_mean(torch.tensor([1.0, 5.0]), torch.tensor([0.0, -torch.inf]))
        tensor(1.)
    """
    if log_weights is None:
        return values.mean()
    return (log_weights.softmax(dim=0).to(values.dtype) * values).sum()


def observed_log_density(log_density: LogDensity, space: Space, position: Position, missing: Mask) -> Tensor:
    """Sums missing labels out of f, exactly: log sum exp f(x, y) over the y that agree with the observed labels.

    Its gradient is E_{p(missing y | x, observed y)}[grad f(x, y)], the positive phase of Eq. 8. Rows without a missing label
    cost one evaluation, the others one of the head per configuration of y.

    Args:
        log_density: f with parameters, shape (N,).
        space: the blocks; all configurations of its discrete blocks are evaluated.
        position: N rows; labels that are missing may be anything.
        missing: per discrete block, shape (N, *variable_shape), bool.

    Returns:
        log p(x, observed y) + log Z, shape (N,), nats.

    Example:
        >>> from jointebm import Binary, Continuous, Space
        >>> space = Space(x=Continuous(), y=Binary())
        >>> rows = {"x": torch.zeros(2), "y": torch.ones(2)}
        >>> missing = {"y": torch.tensor([False, True])}
        >>> observed_log_density(lambda position: position["y"], space, rows, missing).exp()
        tensor([2.7183, 3.7183])
    """
    incomplete = torch.cat([_flat(missing[name]) for name in space.discrete], dim=1).any(dim=1)
    rows, others = incomplete.nonzero().flatten(), (~incomplete).nonzero().flatten()
    known = log_density({name: value[others] for name, value in position.items()}) if len(others) else None
    if not len(rows):
        assert known is not None
        return known
    part = {name: value[rows] for name, value in position.items()}
    f, agrees = _all_configurations(log_density, space, part, {name: missing[name][rows] for name in space.discrete})
    summed = f.masked_fill(~agrees, -torch.inf).logsumexp(dim=1)
    if known is None:
        return summed
    return summed.new_empty(len(incomplete)).index_copy(0, rows, summed).index_copy(0, others, known.to(summed.dtype))


def _all_configurations(
    log_density: LogDensity, space: Space, position: Position, missing: Mask
) -> tuple[Tensor, Tensor]:
    """f at every configuration of y, (N, S), and which of them agree with the labels that are not missing, (N, S)."""
    f, configurations = evaluate_all_configurations(log_density, space, position)
    agrees = torch.ones_like(f, dtype=torch.bool)
    for name in space.discrete:
        labels, unknown = _flat(space[name].decode(position[name])), _flat(missing[name])  # (N, V)
        for number, column in enumerate(_flat(space[name].decode(configurations[name])).T):  # (S,)
            agrees &= (labels[:, number, None] == column) | unknown[:, number, None]
    return f, agrees


def conditional_likelihood(
    log_density: LogDensity, space: Space, positive: Position, *, missing: Mask | None = None
) -> Tensor:
    """Minus mean log p(y | x) of the data, by enumeration of y: the loss of a classifier.

    log p(y | x) = f(x, y) - log sum_y' exp f(x, y')

    Added to the loss of Eq. 2 this is a composite likelihood: the joint likelihood plus an extra conditional term. It
    leaves f a joint energy, but the maximum is no longer that of the likelihood unless the model holds the truth.

    Args:
        log_density: f with parameters, shape (N,).
        space: the blocks; all configurations of its discrete blocks are evaluated.
        positive: data, completed: no missing entries.
        missing: per block, which entries of `positive` were not observed, shape
            (N, *variable_shape), bool; None if all were observed. Missing labels are summed out; a row of which a real is
            missing has no such term, and counts as 0 in the mean, as does one without any label.

    Returns:
        Mean of -log p(observed y | x), a scalar, nats.

    References:
        Kelly & Grathwohl 2021, App. A.2 (the second term of JEM's objective). Lindsay 1988 (composite likelihood).

    Example:
        >>> from jointebm import Binary, Continuous, Space
        >>> space = Space(x=Continuous(), y=Binary())
        >>> rows = {"x": torch.zeros(2), "y": torch.tensor([0.0, 1.0])}
        >>> conditional_likelihood(lambda position: 0 * position["y"], space, rows).exp()  # two classes alike
        tensor(2.)
    """
    if missing is not None:
        num_rows = len(next(iter(positive.values())))
        reals = [_flat(missing[name]).any(dim=1) for name in space.continuous]
        labels = torch.cat([_flat(missing[name]) for name in space.discrete], dim=1)
        rows = (~torch.stack([labels.all(dim=1), *reals]).any(dim=0)).nonzero().flatten()
        if not len(rows):
            return next(iter(positive.values())).new_zeros(())
        part = {name: value[rows] for name, value in positive.items()}
        f, agrees = _all_configurations(
            log_density, space, part, {name: missing[name][rows] for name in space.discrete}
        )
        return (f.logsumexp(dim=1) - f.masked_fill(~agrees, -torch.inf).logsumexp(dim=1)).sum() / num_rows
    f, _ = evaluate_all_configurations(log_density, space, positive)
    y = space.configuration_index({name: positive[name] for name in space.discrete})
    return torch.nn.functional.cross_entropy(f, y)


def _flat(per_row: Tensor) -> Tensor:
    """All entries of a block per row, (N, V)."""
    return per_row.reshape(len(per_row), -1)
