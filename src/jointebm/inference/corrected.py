"""Draws of one saved density: reweighted draws of its reference, resampled, and moved by kernels that jump.

Legend: N rows to draw, P draws of the reference to choose among.
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jointebm.inference.given_values import Restricted, split_given
from jointebm.kernels import Kernel, LogDensity, evaluate, parts_of
from jointebm.randomness.draws import Generator, choose
from jointebm.references.reference import Reference
from jointebm.sampling.annealing import systematic_rows
from jointebm.sampling.checks import check_finite
from jointebm.sampling.diagnostics import Answer, Diagnostics, HalfChains
from jointebm.sampling.sample import run_chain
from jointebm.sampling.weighted_draws import effective_size
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["Target", "draw_given", "num_candidates", "with_given_values"]

POOL = 4  # draws of the reference for each row, at least
MIN_POOL = 1000  # for all rows together
MAX_POOL = 100_000


class Target(NamedTuple):
    """A density with its reference and the kernel that moves it.

    Unless `weighted`, chains start at draws of the reference as they come: over hundreds of reals one of them would hold
    all weight, and every chain would start there.
    """

    log_density: LogDensity
    reference: Reference
    kernel: Kernel
    weighted: bool = True

    @property
    def space(self) -> Space:
        return self.reference.space


@torch.no_grad()
def draw_given(
    target: Target,
    num: int,
    given: Mapping[str, Any] | None,
    *,
    num_steps: int,
    generator: Generator,
    with_r_hat: bool = False,
) -> Answer[dict[str, Tensor]]:
    """Draws rows of exp F given what is known; known entries keep their bits.

    Starts are chosen from draws of the reference in proportion to exp(F) / q, or are such draws if the target is not
    `weighted`; then chains move by the kernel. With sets and intervals both stay inside them.

    Args:
        target: F with its reference and kernel.
        num: N rows.
        given: per block, values, sets or intervals (see `split_given`).
        num_steps: kernel steps.
        generator: source of all draws.
        with_r_hat: whether to compute split R-hat of F, all reals and all labels.

    Returns:
        Values, and diagnostics: rows without a free entry are exact; the ess of the others is that of weighted draws of the
        reference, among which their start is chosen if it is, and which rows of one condition share.

    Raises:
        ValueError: no rows, or `given` does not fit.
        FloatingPointError: F is minus infinity at all draws, or not finite at the end.
    """
    space, reference = target.space, target.reference
    if num < 1 or num_steps < 0:
        raise ValueError(f"sample: needs num >= 1 and num_steps >= 0, got {num} and {num_steps}")
    known = split_given(space, given)
    like = next(iter(reference.draw(1, generator).values()))
    blank = {name: like.new_full((num, *block.position_shape), torch.nan) for name, block in space.items()}
    position, free = space.clamp(known.values, num_chains=num, generator=generator, init=blank)
    evidence = {name: each.to(like) for name, each in known.evidence.items()}
    moves = torch.stack(
        [mask.expand(num, *space[n].variable_shape).reshape(num, -1).any(dim=1) for n, mask in free.items()]
    )
    moves = moves.any(dim=0)  # (N,)
    start, ess = _starts(target, position, free, evidence, generator)
    log_density: LogDensity = target.log_density
    if evidence:
        log_density = Restricted(log_density, space, evidence)
    chain = evaluate(log_density, start, with_score=target.kernel.uses_score)
    halves = HalfChains(num_steps) if with_r_hat and num_steps >= 4 else None
    total = torch.zeros(len(parts_of(target.kernel)), num, dtype=torch.float64, device=chain.f.device)
    steps = run_chain(log_density, target.kernel, chain, free=free, generator=generator)
    for chain, infos in itertools.islice(steps, num_steps):
        total += torch.stack([info.accept_prob.expand(num) for info in infos])
        if halves is not None:
            flat = [value.reshape(num, -1) for value in chain.position.values()]
            halves.add(torch.cat([chain.f[:, None], *flat], dim=1))
    check_finite(chain, space, f"after {num_steps} steps")
    names = [type(part).__name__ for part in parts_of(target.kernel)]
    of_names = {name: total[[place for place, n in enumerate(names) if n == name]] for name in dict.fromkeys(names)}
    jumps = of_names["Jump"].sum(dim=0) if "Jump" in of_names else torch.zeros_like(total[0])
    has_chains = bool(moves.any()) and num_steps > 0
    diagnostics = Diagnostics(
        exact=~moves,
        ess=torch.where(moves, ess, torch.inf),
        num_jumps=torch.where(moves, jumps, torch.nan) if has_chains else None,
        accept_rate={n: float(each[:, moves].mean()) / num_steps for n, each in of_names.items()} if has_chains else {},
        r_hat=halves.r_hat(_conditions(position)) if halves is not None and has_chains else None,
    )
    return Answer(with_given_values(space, space.decode(chain.position), known.values, num), diagnostics)


def num_candidates(num: int) -> int:
    """Draws of the reference that the starts of so many chains of one condition are chosen among."""
    return min(MAX_POOL, max(MIN_POOL, POOL * num))


def _starts(
    target: Target, position: Position, free: Mask, evidence: Mapping[str, Tensor], generator: Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Completed rows, chosen by their weights if there are any, and the effective number of weighted draws, (N,)."""
    num = len(next(iter(position.values())))
    if not any(bool(mask.any()) for mask in free.values()):
        return dict(position), torch.full((num,), torch.inf, dtype=torch.float64)
    alike = all(bool(_same(value).all()) for value in position.values())
    of_each = max(POOL, MIN_POOL // num)
    rows = torch.arange(num).repeat_interleave(of_each)
    if alike:
        rows = torch.zeros(num_candidates(num), dtype=torch.int64)
    repeated = {name: value[rows] for name, value in position.items()}
    masks = {name: mask.expand(num, *target.space[name].variable_shape)[rows] for name, mask in free.items()}
    drawn = target.reference.complete(repeated, generator, evidence or None)
    log_q = target.reference.log_conditional(drawn, masks, evidence or None)
    log_weights = (target.log_density(drawn) - log_q).double()
    if not bool(log_weights.amax().isfinite()):
        raise FloatingPointError(f"sample: the largest log-weight of the draws is {float(log_weights.amax())}")
    table = log_weights[None] if alike else log_weights.reshape(num, of_each)
    ess = effective_size(table).expand(num)
    chosen = torch.arange(num, device=table.device) * (1 if alike else of_each)
    if target.weighted and alike:
        chosen = systematic_rows(log_weights, num, generator)
    elif target.weighted:
        chosen = chosen + choose(table, generator)
    return {name: value[chosen] for name, value in drawn.items()}, ess


def _conditions(position: Position) -> Tensor:
    """Numbers of the different conditions, shape (N,)."""
    flat = torch.cat([value.reshape(len(value), -1).double() for value in position.values()], dim=1)
    return torch.cat([flat.nan_to_num(), flat.isnan()], dim=1).unique(dim=0, return_inverse=True)[1]


def _same(value: Tensor) -> Tensor:
    """Which entries are as in the first row, NaN alike."""
    return (value == value[:1]) | (value.isnan() & value[:1].isnan())


def with_given_values(space: Space, drawn: dict[str, Tensor], known: Mapping[str, Any], num: int) -> dict[str, Tensor]:
    """The values with known entries as they were given, which a transform may have rounded."""
    for name, given in known.items():
        if space[name].discrete:
            continue
        value = torch.as_tensor(given).to(drawn[name]).broadcast_to((num, *space[name].variable_shape))
        drawn[name] = torch.where(value.isnan(), drawn[name], value)
    return drawn
