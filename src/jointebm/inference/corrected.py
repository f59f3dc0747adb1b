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
from jointebm.sampling.annealing import effective_size, systematic_rows
from jointebm.sampling.checks import check_finite
from jointebm.sampling.diagnostics import Diagnostics, split_r_hat
from jointebm.sampling.sample import run_chain
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["CorrectedDraws", "Target", "draw_given"]

POOL = 4  # draws of the reference for each row
MIN_POOL = 1000  # for all rows with the same condition
MAX_POOL = 100_000


class Target(NamedTuple):
    """A density with its reference and the kernel that moves it."""

    log_density: LogDensity
    reference: Reference
    kernel: Kernel

    @property
    def space(self) -> Space:
        return self.reference.space


class CorrectedDraws(NamedTuple):
    """Values, with how far to trust them."""

    values: dict[str, Tensor]
    diagnostics: Diagnostics


@torch.no_grad()
def draw_given(
    target: Target,
    num: int,
    given: Mapping[str, Any] | None,
    *,
    num_steps: int,
    generator: Generator,
    with_r_hat: bool = False,
) -> CorrectedDraws:
    """Draws rows of exp F given what is known; known entries keep their bits.

    Starts are chosen from draws of the reference in proportion to exp(F) / q, then chains move by the kernel. With sets and
    intervals both stay inside them.

    Args:
        target: F with its reference and kernel.
        num: N rows.
        given: per block, values, sets or intervals (see `split_given`).
        num_steps: kernel steps.
        generator: source of all draws.
        with_r_hat: whether to keep the way of the chains and compute split R-hat.

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
    start, ess, pool = _starts(target, position, free, evidence, generator)
    log_density: LogDensity = target.log_density
    if evidence:
        log_density = Restricted(log_density, space, evidence)
    chain = evaluate(log_density, start, with_score=target.kernel.uses_score)
    rates, way = [], []
    steps = run_chain(log_density, target.kernel, chain, free=free, generator=generator)
    for chain, infos in itertools.islice(steps, num_steps):
        rates.append(torch.stack([info.accept_prob.mean() for info in infos]))
        if with_r_hat:
            flat = [value.reshape(num, -1) for value in chain.position.values()]
            way.append(torch.cat([chain.f[:, None], *flat], dim=1))
    check_finite(chain, space, f"after {num_steps} steps")
    diagnostics = Diagnostics(
        num_draws=pool,
        ess=float(ess),
        num_steps=num_steps,
        accept_rate=_named_rates(target.kernel, rates),
        r_hat=split_r_hat(torch.stack(way)) if len(way) >= 4 else None,
    )
    return CorrectedDraws(_with_known(space, space.decode(chain.position), known.values, num), diagnostics)


def _starts(
    target: Target, position: Position, free: Mask, evidence: Mapping[str, Tensor], generator: Generator
) -> tuple[dict[str, Tensor], float, int]:
    """Completed rows chosen by their weights, the effective number of draws for one condition, and how many there were."""
    num = len(next(iter(position.values())))
    if not any(bool(mask.any()) for mask in free.values()):
        return dict(position), float(num), num
    alike = all(bool(_same(value).all()) for value in position.values())
    if alike:
        pool = min(MAX_POOL, max(MIN_POOL, POOL * num))
        rows = torch.zeros(pool, dtype=torch.int64)
    else:
        pool = POOL * num
        rows = torch.arange(num).repeat_interleave(POOL)
    repeated = {name: value[rows] for name, value in position.items()}
    masks = {name: mask.expand(num, *target.space[name].variable_shape)[rows] for name, mask in free.items()}
    drawn = target.reference.complete(repeated, generator, evidence or None)
    log_q = target.reference.log_conditional(drawn, masks, evidence or None)
    log_weights = (target.log_density(drawn) - log_q).double()
    if not bool(log_weights.amax().isfinite()):
        raise FloatingPointError(f"sample: the largest log-weight of the draws is {float(log_weights.amax())}")
    if alike:
        chosen = systematic_rows(log_weights, num, generator)
        return {name: value[chosen] for name, value in drawn.items()}, effective_size(log_weights), pool
    table = log_weights.reshape(num, POOL)
    chosen = torch.arange(num) * POOL + choose(table, generator)
    share = (2 * table.logsumexp(dim=1) - (2 * table).logsumexp(dim=1)).exp().mean() / POOL
    return {name: value[chosen] for name, value in drawn.items()}, float(share) * pool, pool


def _same(value: Tensor) -> Tensor:
    """Which entries are as in the first row, NaN alike."""
    return (value == value[:1]) | (value.isnan() & value[:1].isnan())


def _named_rates(kernel: Kernel, rates: list[Tensor]) -> dict[str, float]:
    """Mean acceptance of each kernel by its name; those of the same name are averaged."""
    if not rates:
        return {}
    names = [type(part).__name__ for part in parts_of(kernel)]
    means = torch.stack(rates).mean(dim=0).tolist()
    pairs = list(zip(names, means, strict=True))
    return {name: sum(rate for n, rate in pairs if n == name) / names.count(name) for name in dict.fromkeys(names)}


def _with_known(space: Space, drawn: dict[str, Tensor], known: Mapping[str, Any], num: int) -> dict[str, Tensor]:
    """The values with known entries as they were given, which a transform may have rounded."""
    for name, given in known.items():
        if space[name].discrete:
            continue
        value = torch.as_tensor(given).to(drawn[name]).broadcast_to((num, *space[name].variable_shape))
        drawn[name] = torch.where(value.isnan(), drawn[name], value)
    return drawn
