"""The loss of `Denoising`: scores, noise-level derivatives and labels of one function for every subset.

Legend: N rows, D reals of a row, G groups of reals with one noise level each.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.energies.level_energy import LevelEnergy
from jointebm.randomness.draws import Generator, normal, uniform
from jointebm.spaces.space import Position, Space
from jointebm.training.likelihoods import Phases
from jointebm.training.loss_inputs import LossInputs
from jointebm.training.visible_parts import DrawnLevels, draw_levels

__all__ = ["DenoisingShares", "DenoisingTerms", "denoising_loss", "denoising_terms"]

SHOWN_LABELS = 0.5  # share of rows whose scores are taken given the known labels; of the others labels are summed out


class DenoisingShares(NamedTuple):
    """Shares of the rows of a batch, see `Denoising`.

    Args:
        lowest: whose visible part is at the lowest level.
        whole: of which all reals are visible at one level, besides others by chance.
        scores: whose scores and level derivatives are taken.
        hidden: of which a random part of the labels is missing.
    """

    lowest: float
    whole: float
    scores: float
    hidden: float


class DenoisingTerms(NamedTuple):
    """The terms of each row, and f of its visible part and known labels, shape (N,).

    Args:
        score: 1/2 sum over visible i of (s_i df/dx_i + n_i)^2, with n_i the noise that was added; of the first rows.
        level: sum over groups g of (df/dlog s_g - |n_g|^2 + d_g)^2 / (2 d_g), with d_g visible reals of the group; of the
            first rows.
        label: -log p(known labels | visible reals), nats.
        f: nats.
    """

    score: Tensor
    level: Tensor
    label: Tensor
    f: Tensor


class _Noisy(NamedTuple):
    """N rows under fresh noise.

    Args:
        n: standard normal noise of the visible reals, (N, D), 0 elsewhere.
        visible: (N, D), bool.
        log_levels: of both groups, (N, 2); 0 for one that is missing.
        total: f of the visible reals alone, (N,).
        f: of the visible reals and the known labels, (N,).
        x: noisy reals, (N, D), 0 where missing.
    """

    n: Tensor
    visible: Tensor
    log_levels: Tensor
    total: Tensor
    f: Tensor
    x: Tensor


def denoising_terms(
    energy: LevelEnergy,
    position: Position,
    drawn: DrawnLevels,
    generator: Generator,
    *,
    num_scores: int | None = None,
) -> DenoisingTerms:
    """The terms of rows under fresh noise.

    Each has its minimum where f is the log-density of the noisy visible reals and the labels, up to a constant that is the
    same at all noise levels:

        E[-n_i | x, y] = s_i d log p / dx_i             (denoising score matching)
        E[|n_g|^2 - d_g | x, y] = d log p / dlog s_g    (its counterpart in the noise level, which fixes the constant)

    Args:
        energy: f with parameters.
        position: N rows without the noise of the lowest level; NaN is missing.
        drawn: parts and levels.
        generator: source of the noise.
        num_scores: rows whose scores and level derivatives are taken, the first ones; None is all.

    References:
        Vincent 2011 (denoising score matching). Guth, Kadkhodaie & Simoncelli 2025, arXiv 2506.05310 (dual score matching).
    """
    num_rows = len(drawn.second)
    num = num_rows if num_scores is None else num_scores
    first, rest = slice(None, num), slice(num, None)
    noisy = _noisy(energy, position, drawn, first, generator)
    score, level = _derivative_terms(noisy, drawn.second[first], generator)
    label, f = noisy.total - noisy.f, noisy.f
    if num < num_rows:
        others = _noisy(energy, position, drawn, rest, generator)
        label = torch.cat([label, others.total - others.f])
        f = torch.cat([f, others.f])
    return DenoisingTerms(score, level, label, f)


def _noisy(energy: LevelEnergy, position: Position, drawn: DrawnLevels, rows: slice, generator: Generator) -> _Noisy:
    """f of some rows under fresh noise, differentiable in the noisy reals and the levels."""
    position = {name: value[rows] for name, value in position.items()}
    log_levels, second = drawn.log_levels[rows], drawn.second[rows]
    reals, exists = energy.reals(position), log_levels.isfinite()
    log_levels = torch.where(exists, log_levels, 0.0).to(reals).requires_grad_()
    visible = ~reals.isnan() & torch.where(second, exists[:, 1:], exists[:, :1])
    levels = torch.where(second, log_levels[:, 1:], log_levels[:, :1]).exp()
    n = normal(reals, generator) * visible
    x = torch.where(visible, reals.nan_to_num() + levels.detach() * n, 0.0).requires_grad_()
    found = energy.density(x, torch.where(visible, levels, torch.inf), position)
    return _Noisy(n, visible, log_levels, found.reals, found.known, x)


def _derivative_terms(noisy: _Noisy, second: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """The terms of the score and of the levels, (N,) each, given the known labels or with all labels summed out."""
    n, visible = noisy.n, noisy.visible
    shown = uniform(noisy.total.detach(), generator) < SHOWN_LABELS
    f = torch.where(shown, noisy.f, noisy.total)
    score, by_level = torch.autograd.grad(f.sum(), [noisy.x, noisy.log_levels], create_graph=True)
    levels = torch.where(second, noisy.log_levels[:, 1:], noisy.log_levels[:, :1]).detach().exp()
    of_score = 0.5 * (torch.where(visible, levels, 0.0) * score + n).square().sum(dim=1)
    of_level = torch.zeros_like(of_score)
    for number, group in enumerate((~second & visible, second & visible)):
        d = group.sum(dim=1).to(n)
        error = by_level[:, number] - (n.square() * group).sum(dim=1) + d
        of_level = of_level + error.square() / (2 * d.clamp(min=1))  # without a real, the error is 0
    return of_score, of_level


def _partly_labelled(space: Space, position: Position, share: float, generator: Generator) -> dict[str, Tensor]:
    """Rows of which a share lacks labels: in each of them every label is missing at a rate that is uniform on [0, 1]."""
    num, like = len(next(iter(position.values()))), next(iter(position.values()))
    chosen, rate = uniform(like.new_empty(2, num), generator)
    found = dict(position)
    for name in space.discrete:
        entries = uniform(like.new_empty(num, *space[name].variable_shape), generator)
        shape = (num, *[1] * (entries.ndim - 1))
        hidden = (entries < rate.reshape(shape)) & (chosen < share).reshape(shape)
        found[name] = torch.where(space[name].expand(hidden), torch.nan, position[name])
    return found


def denoising_loss(
    energy: LevelEnergy,
    inputs: LossInputs,
    *,
    weights: tuple[float, float, float],
    shares: DenoisingShares,
) -> Phases:
    """The loss of one batch at random parts and levels, with the mean of each term as its parts.

    Args:
        energy: f with parameters.
        inputs: rows of data and the generator.
        weights: of the terms of scores, levels and labels.
        shares: of rows in each treatment.

    Raises:
        TypeError: the energy takes no noise levels.
    """
    if not isinstance(energy, LevelEnergy):
        raise TypeError(
            f"objective 'denoising': needs an energy that takes noise levels (kind any-subset or caption), got "
            f"{type(energy).__name__}"
        )
    assert inputs.generator is not None
    space, position = energy.space, dict(inputs.positive)
    for name, mask in (inputs.missing or {}).items():
        position[name] = torch.where(space[name].expand(mask), torch.nan, position[name])
    num = len(next(iter(position.values())))
    if shares.hidden:
        position = _partly_labelled(space, position, shares.hidden, inputs.generator)
    bounds = (energy.min_noise, energy.max_noise)
    drawn = draw_levels(
        space,
        num,
        bounds=bounds,
        lowest_share=shares.lowest,
        whole_share=shares.whole,
        generator=inputs.generator,
    )
    num_scores = max(1, round(shares.scores * num))
    terms = denoising_terms(energy, position, drawn, inputs.generator, num_scores=num_scores)
    means = {"score": terms.score.mean(), "level": terms.level.mean(), "label": terms.label.mean()}
    loss = torch.stack([weight * mean for weight, mean in zip(weights, means.values(), strict=True)]).sum()
    parts = {name: float(mean.detach()) for name, mean in means.items()}
    return Phases(loss, terms.f.detach(), terms.f.new_empty(0), parts)
