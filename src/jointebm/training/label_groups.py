"""The likelihood of small groups of labels given all others and x: labels that cannot be enumerated, without chains.

Legend: N rows, V labels, M their columns, S configurations of a group, B labels of a group.
"""

import math

import torch
from torch import Tensor

from jointebm.kernels import LogDensity, evaluate_candidates
from jointebm.kernels.columns import Columns, columns_of, pick
from jointebm.randomness.draws import Generator, shuffled
from jointebm.spaces.space import Position, Space
from jointebm.training.likelihoods import Phases

__all__ = ["label_group_likelihood"]

MAX_GROUPS = 16  # of an iteration; more groups are drawn from
MAX_CANDIDATES = 4096  # configurations of a group


def label_group_likelihood(
    log_density: LogDensity, space: Space, positive: Position, *, group_size: int, generator: Generator
) -> Phases:
    """Minus the mean over rows of sum over groups A of log p(y_A | y_others, x), for a random partition of the labels.

    log p(y_A | y_others, x) = f(x, y) - log sum over y_A of exp f(x, y_A, y_others)

    A composite likelihood (Lindsay 1988), with groups of one label the pseudo-likelihood (Besag 1975): the conditionals of
    the true p(y | x) minimise it, so f finds p(y | x) if the network can hold it, though log Z(x) is never computed. A rule
    that leaves a label no choice given the others has no gradient in x with groups of one; groups of two have.

    f is evaluated at all configurations of a group, never at those of all labels. With more than 16 groups, 16 of them are
    drawn and weighted up.

    Args:
        log_density: f with parameters, shape (N,).
        space: the blocks.
        positive: data, completed.
        group_size: labels of a group, at least 1; the last group may have fewer.
        generator: source of the partition, one for all rows.

    Raises:
        ValueError: a group has more than 4,096 configurations.

    Example:
        >>> from jointebm import Binary, Continuous, Space
        >>> space = Space(x=Continuous(), y=Binary(2))
        >>> rows = {"x": torch.zeros(3), "y": torch.ones(3, 2)}
        >>> f = lambda position: 0 * position["y"].sum(dim=1)
        >>> label_group_likelihood(f, space, rows, group_size=1, generator=torch.Generator()).loss.exp()  # 2 x 2 alike
        tensor(4.)
    """
    like = next(iter(positive.values()))
    columns = columns_of(space, space.discrete, like.device)
    groups = list(shuffled(columns.num_variables, generator).to(like.device).split(group_size))
    chosen = groups
    if len(groups) > MAX_GROUPS:  # at random, since the last group may be smaller
        chosen = [groups[number] for number in shuffled(len(groups), generator)[:MAX_GROUPS].tolist()]
    y = columns.join(positive)
    labels = _labels(columns, y)
    encoded = getattr(log_density, "encoded_blocks", ())
    shared = bool(encoded) and not set(encoded) & set(space.discrete)
    features = log_density.encode(positive) if shared else None  # type: ignore[attr-defined]
    total, f_positive = like.new_zeros(()), like.new_zeros(len(like))
    for group in chosen:
        configurations = _configurations(space, columns, group)  # (S, B)
        f = evaluate_candidates(
            log_density, positive, columns.split(_written(columns, y, group, configurations)), features=features
        )
        f = f.float() if f.dtype == torch.bfloat16 else f
        true = (configurations == labels[:, None, group]).all(dim=2).to(torch.int8).argmax(dim=1)  # (N,)
        f_positive = pick(f, true)
        total = total + (f.logsumexp(dim=1) - f_positive).mean()
    return Phases(total * (len(groups) / len(chosen)), f_positive, like.new_empty(0))


def _labels(columns: Columns, y: Tensor) -> Tensor:
    """The class of every variable, (N, V), int64."""
    classes = y.new_zeros(len(y), columns.num_variables)
    return classes.index_add_(1, columns.variable, y * columns.class_of_column).round().long()


def _configurations(space: Space, columns: Columns, group: Tensor) -> Tensor:
    """All classes of the labels of a group, (S, B), int64."""
    sizes = columns.num_classes[group].tolist()
    if math.prod(sizes) > MAX_CANDIDATES:
        raise ValueError(
            f"label-groups: {len(sizes)} labels of {space} with {sizes} classes have {math.prod(sizes)} configurations, "
            f"at most {MAX_CANDIDATES}; set a smaller group_size"
        )
    grids = torch.meshgrid(*[torch.arange(size, device=group.device) for size in sizes], indexing="ij")
    return torch.stack(grids, dim=-1).reshape(-1, len(sizes))


def _written(columns: Columns, y: Tensor, group: Tensor, configurations: Tensor) -> Tensor:
    """Columns (N, M) with each configuration (S, B) in the labels of a group, (N, S, M)."""
    written = y[:, None].expand(-1, len(configurations), -1)
    for variable, classes in zip(group, configurations.T, strict=True):
        new = (columns.class_of_column == classes[:, None]).to(y.dtype)  # (S, M)
        written = torch.where(columns.variable == variable, new, written)
    return written
