"""The geometric path between a reference and a log-density, and chains anywhere on it.

Legend: N chains.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, Score, evaluate
from jointebm.references.reference import Reference
from jointebm.spaces.space import Position

__all__ = ["RUNG", "Endpoints", "Tempered", "check_rungs", "evaluate_endpoints", "of_space"]

RUNG = "rung b of the chain"
"""A block of a tempered position, shape (N,), that no space can have by accident and that no kernel moves."""


@dataclass(frozen=True)
class Tempered:
    """The log-density (1 - b) log q + b f of chains that carry their own b in the block `RUNG`.

    Where b is 0 or 1 the other end is left out, so that log 0 there does no harm. Not normalised. An encoder of f is run at
    each evaluation.

    Args:
        log_density: f, shape (N,).
        reference: q.
    """

    log_density: LogDensity
    reference: Reference

    def __call__(self, position: Position) -> Tensor:
        rows = {name: value for name, value in position.items() if name != RUNG}
        f = self.log_density(rows)
        log_q = self.reference.log_prob(of_space(self.reference, rows)).to(f.dtype)
        return _mix(position[RUNG].detach(), log_q, f)


class Endpoints(NamedTuple):
    """N positions seen from both ends of the path.

    Args:
        reference: chain of log q.
        target: chain of f, at the same position.
    """

    reference: Chain
    target: Chain

    @property
    def log_ratio(self) -> Tensor:
        """f - log q, which is the slope of the tempered log-density in b, shape (N,), nats."""
        return self.target.f - self.reference.f

    def take(self, rows: Tensor) -> "Endpoints":
        """Some of the positions, by their numbers, which may repeat."""
        return Endpoints(*(_taken(chain, rows) for chain in self))

    def chain(self, rung: Tensor) -> Chain:
        """The chain of `Tempered` at a b per row, shape (N,), without a further evaluation."""
        f = _mix(rung, self.reference.f, self.target.f)
        position = {**self.target.position, RUNG: rung}
        if self.target.score is None or self.reference.score is None:
            return Chain(position, f, None)
        score = {}
        for name, of_target in self.target.score.items():
            of_reference = self.reference.score.get(name, torch.zeros_like(of_target))
            score[name] = _mix(rung.reshape(-1, *[1] * (of_target.ndim - 1)), of_reference, of_target)
        return Chain(position, f, Score({**score, RUNG: torch.zeros_like(rung)}))


def evaluate_endpoints(
    log_density: LogDensity, reference: Reference, position: Position, *, with_score: bool
) -> Endpoints:
    """Evaluates f and log q at a position without a `RUNG`: one evaluation of each.

    Args:
        log_density: f, shape (N,).
        reference: q.
        position: per block, shape (N, *position_shape).
        with_score: whether chains made from the result have a score.
    """
    of_reference = evaluate(reference.log_prob, of_space(reference, position), with_score=with_score)
    of_target = evaluate(log_density, position, with_score=with_score)
    return Endpoints(of_reference._replace(f=of_reference.f.to(of_target.f.dtype)), of_target)


def check_rungs(what: str, rungs: Iterable[float]) -> tuple[float, ...]:
    """The rungs as floats; raises ValueError unless they strictly increase from 0 to 1."""
    checked = tuple(float(b) for b in rungs)
    if len(checked) < 2 or checked[0] != 0 or checked[-1] != 1 or any(low >= high for low, high in pairwise(checked)):
        raise ValueError(f"{what}: rungs must strictly increase from 0 to 1, such as (0, .3, 1); got {checked}")
    return checked


def _taken(chain: Chain, rows: Tensor) -> Chain:
    position = {name: value[rows] for name, value in chain.position.items()}
    score = None if chain.score is None else Score({name: value[rows] for name, value in chain.score.items()})
    return Chain(position, chain.f[rows], score)


def of_space(reference: Reference, position: Position) -> dict[str, Tensor]:
    """The blocks of a position that a reference knows."""
    return {name: position[name] for name in reference.space}


def _mix(rung: Tensor, at_reference: Tensor, at_target: Tensor) -> Tensor:
    """(1 - b) times the one plus b times the other; an end of weight 0 counts as 0, even if it is infinite."""
    below, above = torch.where(rung < 1, at_reference, 0), torch.where(rung > 0, at_target, 0)
    return (1 - rung) * below + rung * above
