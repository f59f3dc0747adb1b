"""Draws of one saved density: exact where only few labels are missing; else reweighted draws of its reference that move.

Legend: N rows to draw, P draws of the reference to choose among.
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jointebm.inference.given_values import Restricted, split_given
from jointebm.inference.importance import drawn_labels
from jointebm.kernels import Kernel, LogDensity, evaluate, parts_of
from jointebm.randomness.draws import Generator, choose
from jointebm.references.reference import Reference
from jointebm.sampling.annealing import systematic_rows
from jointebm.sampling.chain_diagnostics import numbers_of_conditions, rates_by_name, states_of
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
    enumerates: bool = True,
) -> Answer[dict[str, Tensor]]:
    """Draws rows of exp F given what is known; known entries keep their bits.

    Rows that miss nothing but labels of at most 4096 configurations are drawn exactly. For all others, starts are chosen
    from draws of the reference in proportion to exp(F) / q, or are such draws if the target is not `weighted`; then chains
    move by the kernel. With sets and intervals all of them stay inside these.

    Args:
        target: F with its reference and kernel.
        num: N rows.
        given: per block, values, sets or intervals (see `split_given`).
        num_steps: kernel steps of the chains.
        generator: source of all draws.
        with_r_hat: whether to compute split R-hat of F, all reals and all labels, of the chains.
        enumerates: whether rows are drawn exactly where they can be; False makes a chain of every row.

    Returns:
        Values, and diagnostics: rows drawn exactly or without a free entry are exact; the ess of the others is that of
        weighted draws of the reference, among which their start is chosen if it is, and which rows of one condition share.

    Raises:
        ValueError: no rows, or `given` does not fit.
        FloatingPointError: F is minus infinity at all draws, or not finite at the end.
    """
    space = target.space
    if num < 1 or num_steps < 0:
        raise ValueError(f"sample: needs num >= 1 and num_steps >= 0, got {num} and {num_steps}")
    known = split_given(space, given)
    like = next(iter(target.reference.draw(1, generator).values()))
    blank = {name: like.new_full((num, *block.position_shape), torch.nan) for name, block in space.items()}
    position, free = space.clamp(known.values, num_chains=num, generator=generator, init=blank)
    evidence = {name: each.to(like) for name, each in known.evidence.items()}
    masks = {name: mask.expand(num, *space[name].variable_shape) for name, mask in free.items()}
    moves = torch.stack([mask.reshape(num, -1).any(dim=1) for mask in masks.values()]).any(dim=0)  # (N,)
    restricted = Restricted(target.log_density, space, evidence) if evidence else target.log_density
    if enumerates:
        position, exact = drawn_labels(restricted, space, position, generator)
        moves = moves & ~exact
    drawn, diagnostics = position, Diagnostics.of_exact(num)
    rows = moves.nonzero().flatten()
    if len(rows):
        start = {name: value[rows] for name, value in position.items()}
        of_rows = {name: mask[rows] for name, mask in masks.items()}
        half = with_r_hat and num_steps >= 4
        moved = _moved(
            target, restricted, start, of_rows, evidence, num_steps=num_steps, generator=generator, half=half
        )
        drawn = {name: value.index_copy(0, rows, moved.value[name]) for name, value in position.items()}
        found = moved.diagnostics
        jumps = found.num_jumps
        if jumps is not None:
            jumps = like.new_full((num,), torch.nan, dtype=torch.float64).index_copy(0, rows, jumps)
        diagnostics = replace(
            found,
            exact=~moves,
            ess=diagnostics.ess.to(found.ess).index_copy(0, rows, found.ess),
            num_jumps=jumps,
        )
    return Answer(with_given_values(space, space.decode(drawn), known.values, num), diagnostics)


def _moved(
    target: Target,
    restricted: LogDensity,
    position: Position,
    free: Mask,
    evidence: Mapping[str, Tensor],
    *,
    num_steps: int,
    generator: Generator,
    half: bool,
) -> Answer[Position]:
    """Rows that all miss something, completed and moved by the kernel; `restricted` is F within the evidence."""
    start, ess = _starts(target, position, free, evidence, generator)
    chain, num = evaluate(restricted, start, with_score=target.kernel.uses_score), len(ess)
    halves = HalfChains(num_steps) if half else None
    total = torch.zeros(len(parts_of(target.kernel)), num, dtype=torch.float64, device=chain.f.device)
    steps = run_chain(restricted, target.kernel, chain, free=free, generator=generator)
    for chain, infos in itertools.islice(steps, num_steps):
        total += torch.stack([info.accept_prob.expand(num) for info in infos])
        if halves is not None:
            halves.add(states_of(chain))
    check_finite(chain, target.space, f"after {num_steps} steps")
    jumps = [place for place, part in enumerate(parts_of(target.kernel)) if type(part).__name__ == "Jump"]
    rates = (total.mean(dim=1) / max(1, num_steps)).tolist()
    diagnostics = Diagnostics(
        exact=torch.zeros_like(ess, dtype=torch.bool),
        ess=ess,
        num_jumps=total[jumps].sum(dim=0) if num_steps else None,
        accept_rate=rates_by_name(target.kernel, rates) if num_steps else {},
        r_hat=halves.r_hat(numbers_of_conditions(position)) if halves is not None else None,
    )
    return Answer(chain.position, diagnostics)


def num_candidates(num: int) -> int:
    """Draws of the reference that the starts of so many chains of one condition are chosen among."""
    return min(MAX_POOL, max(MIN_POOL, POOL * num))


def _starts(
    target: Target, position: Position, free: Mask, evidence: Mapping[str, Tensor], generator: Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Completed rows, chosen by their weights if there are any, and the effective number of weighted draws, (N,)."""
    num = len(next(iter(position.values())))
    alike = all(bool(_same(value).all()) for value in position.values())
    of_each = max(POOL, MIN_POOL // num)
    place = next(iter(position.values())).device
    rows = torch.arange(num, device=place).repeat_interleave(of_each)
    if alike:
        rows = torch.zeros(num_candidates(num), dtype=torch.int64, device=place)
    repeated = {name: value[rows] for name, value in position.items()}
    masks = {name: mask[rows] for name, mask in free.items()}
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
