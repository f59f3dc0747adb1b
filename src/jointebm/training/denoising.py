"""The loss of `Denoising`: scores, noise-level derivatives and labels of one function for every subset.

Legend: N rows, D reals of a row, S configurations of all labels, G groups of reals with one noise level each.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.energies.any_subset import AnySubsetEnergy
from jointebm.randomness.draws import Generator, normal, uniform
from jointebm.spaces.space import Position
from jointebm.training.likelihoods import Phases
from jointebm.training.objectives import Denoising, LossInputs
from jointebm.training.visible_parts import DrawnLevels, draw_levels

__all__ = ["DenoisingTerms", "denoising_loss", "denoising_terms"]

SHOWN_LABELS = 0.5  # share of rows whose scores are taken given the known labels; of the others labels are summed out


class DenoisingTerms(NamedTuple):
    """The three terms of each row, and f of its visible part and known labels, shape (N,).

    Args:
        score: 1/2 sum over visible i of (s_i df/dx_i + n_i)^2, with n_i the noise that was added.
        level: sum over groups g of (df/dlog s_g - |n_g|^2 + d_g)^2 / (2 d_g), with d_g visible reals of the group.
        label: -log p(known labels | visible reals), nats.
        f: nats.
    """

    score: Tensor
    level: Tensor
    label: Tensor
    f: Tensor


def denoising_terms(
    energy: AnySubsetEnergy, position: Position, drawn: DrawnLevels, generator: Generator
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

    References:
        Vincent 2011 (denoising score matching). Guth et al. 2025, arXiv 2506.05310 (dual score matching).
    """
    reals = energy.reals(position)
    exists = drawn.log_levels.isfinite()  # (N, 2)
    log_levels = torch.where(exists, drawn.log_levels, 0.0).to(reals).requires_grad_()
    visible = ~reals.isnan() & torch.where(drawn.second, exists[:, 1:], exists[:, :1])
    levels = torch.where(drawn.second, log_levels[:, 1:], log_levels[:, :1]).exp()
    noise = torch.where(visible, levels, torch.inf)
    n = normal(reals, generator) * visible
    sd = torch.where(visible, noise.detach(), 0.0)
    x = torch.where(visible, reals.nan_to_num() + sd * n, 0.0).requires_grad_()
    with torch.enable_grad():
        table = energy.table(x, noise)  # (N, S)
        known = (table + energy.label_table(position).log()).logsumexp(dim=1)
        total = table.logsumexp(dim=1)
        shown = uniform(total.detach(), generator) < SHOWN_LABELS
        f = torch.where(shown, known, total)
        score, by_level = torch.autograd.grad(f.sum(), [x, log_levels], create_graph=True)
    squares = n.square()
    of_level: Tensor | float = 0.0
    for number, group in enumerate((~drawn.second, drawn.second)):
        d = (group & visible).sum(dim=1).to(reals)
        error = by_level[:, number] - (squares * group).sum(dim=1) + d
        of_level = of_level + torch.where(d > 0, error.square() / (2 * d).clamp(min=1), 0.0)
    assert isinstance(of_level, Tensor)
    return DenoisingTerms(0.5 * (sd * score + n).square().sum(dim=1), of_level, total - known, known)


def denoising_loss(objective: Denoising, energy: AnySubsetEnergy, inputs: LossInputs) -> Phases:
    """The loss of one batch at random parts and levels, with the mean of each term as its parts.

    Raises:
        TypeError: the energy is not an `AnySubsetEnergy`.
    """
    if not isinstance(energy, AnySubsetEnergy):
        raise TypeError(
            f"objective 'denoising': needs an AnySubsetEnergy (kind any-subset), which takes noise levels; got "
            f"{type(energy).__name__}"
        )
    assert inputs.generator is not None
    space, position = energy.space, dict(inputs.positive)
    for name, mask in (inputs.missing or {}).items():
        position[name] = torch.where(space[name].expand(mask), torch.nan, position[name])
    drawn = draw_levels(
        space,
        len(next(iter(position.values()))),
        bounds=(energy.min_noise, energy.max_noise),
        lowest_share=objective.lowest_share,
        generator=inputs.generator,
    )
    terms = denoising_terms(energy, position, drawn, inputs.generator)
    means = {"score": terms.score.mean(), "level": terms.level.mean(), "label": terms.label.mean()}
    loss = (
        objective.score_weight * means["score"]
        + objective.level_weight * means["level"]
        + objective.label_weight * means["label"]
    )
    parts = {name: float(mean.detach()) for name, mean in means.items()}
    return Phases(loss, terms.f.detach(), terms.f.new_empty(0), parts)
