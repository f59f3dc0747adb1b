"""Replica exchange: copies of a chain at rungs between a reference and the log-density, which swap places.

Legend: N chains, R rungs; a replica is one of the R copies that make up a chain.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, evaluate
from jointebm.kernels.jump import Jump
from jointebm.kernels.kernel import Info, Kernel, metropolis, parts_of, with_parts, without_laziness
from jointebm.kernels.tempering import RUNG, Endpoints, Tempered, check_rungs, evaluate_endpoints, of_space
from jointebm.randomness.draws import Generator, Stream
from jointebm.randomness.tapes import Tape
from jointebm.references.reference import Reference
from jointebm.spaces.blocks import Block, Categorical
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["ReplicaExchange", "Replicated"]


@dataclass(frozen=True)
class Replicated:
    """The log-density of chains of R replicas: sum over r of (1 - b_r) log q(x_r) + b_r f(x_r).

    Its last replica has the law exp(f), whatever the others do. Made by `ReplicaExchange.target`.

    Args:
        log_density: f of one replica.
        exchange: the kernel, with the reference and the rungs.
    """

    log_density: LogDensity
    exchange: "ReplicaExchange"

    def __call__(self, position: Position) -> Tensor:
        rows = self.exchange.rows(position)
        rung = self.exchange.rung_of_rows(next(iter(rows.values())))
        f = Tempered(self.log_density, self.exchange.reference)({**rows, RUNG: rung})
        return f.reshape(-1, len(self.exchange.rungs)).sum(dim=1)


@dataclass(frozen=True)
class ReplicaExchange(Kernel):
    """Moves R replicas of each chain at once, at rungs b from the reference q to the target exp(f), and swaps neighbours.

    replica r has the law q^(1 - b_r) exp(b_r f); replicas r and r + 1 swap with probability
    min(1, exp[(b_r - b_(r+1)) (u(x_(r+1)) - u(x_r))]),    u = f - log q

    A step lets the replica at b = 0 jump, which is a fresh draw from q given its clamped entries; tries the swaps of even
    and then those of odd neighbours; and moves all replicas by `kernel`, as N R rows of one batch. Every part leaves
    `Replicated` exactly invariant if the kernel is adjusted: what is new from q at one end arrives, swap by swap, at exp(f)
    at the other.

    A chain is a row of a larger space, in which each block has a leading axis R; so every function that takes a space, a
    log-density and a kernel takes `exchange.space`, `exchange.target(f)` and `exchange`. Two replicas swap only where all
    entries that are clamped in either are equal in both. Rungs that lie too far apart do not swap: watch the acceptance
    rates. Costs one evaluation of f and log q at N R rows more than the kernel.

    Args:
        reference: q.
        rungs: b of each replica, strictly increasing from 0 to 1.
        kernel: what moves the replicas within their rung.

    References:
        Swendsen & Wang 1986; Geyer 1991. Syed et al. 2022 (even and odd swaps in turn; a rung of exact draws).

    Example:
        >>> from jointebm import Continuous, kernels, sample
        >>> from jointebm.references import Mixture
        >>> generator, space = torch.Generator().manual_seed(0), Space(x=Continuous())
        >>> wide = {"x": 6 * torch.randn(1000, generator=generator)}
        >>> q = Mixture.fit(space, wide, 1, generator=generator)  # N(0, 6^2); f has weights .2 and .8, at -6 and 6
        >>> def log_density(position):
        ...     x = position["x"]
        ...     return torch.logaddexp(-(x + 6).square() / 2, -(x - 6).square() / 2 + 1.386)
        >>> exchange = ReplicaExchange(q, (0, 0.1, 0.4, 1), kernels.MALA(block="x", step_size=1.4))
        >>> samples = sample(exchange.target(log_density), exchange.space, exchange, num_chains=500, num_steps=50,
        ...                  init=exchange.replicate(q.draw(500, generator)), generator=generator)
        >>> x = exchange.cold(samples.values)["x"]
        >>> bool(abs((x > 0).float().mean() - 0.8) < 0.06)
        True
        >>> len(samples.accept_rate)  # three swaps, then MALA
        4
    """

    reference: Reference
    rungs: tuple[float, ...]
    kernel: Kernel

    uses_score = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rungs", check_rungs("ReplicaExchange", self.rungs))
        self.kernel.require(self.reference.space)

    @property
    def adjusted(self) -> bool:
        """Whether the kernel that moves the replicas is adjusted."""
        return self.kernel.adjusted

    @property
    def parts(self) -> tuple[Kernel, ...]:
        """This kernel once for each pair of neighbours, then the parts of the kernel that moves the replicas."""
        return (self,) * (len(self.rungs) - 1) + parts_of(self.kernel)

    @cached_property
    def space(self) -> Space:
        """The space of chains of R replicas: each block with a leading axis R; a ragged group R times side by side."""
        return Space(**{name: self._replicated(block) for name, block in self.reference.space.items()})

    def require(self, space: Space) -> None:
        """Raises ValueError unless the space is that of the replicas."""
        if space != self.space:
            raise ValueError(
                f"ReplicaExchange: moves chains of {self.space}, but here the space is {space}; pass exchange.space"
            )

    def with_parts(self, parts: tuple[Kernel, ...]) -> Kernel:
        """The exchange of replicas that other kernels move; parts that stand for swaps are not read."""
        return replace(self, kernel=with_parts(self.kernel, parts[len(self.rungs) - 1 :]))

    def without_laziness(self) -> Kernel:
        """The exchange of replicas that a kernel without laziness moves."""
        return replace(self, kernel=without_laziness(self.kernel))

    def target(self, log_density: LogDensity) -> Replicated:
        """The log-density over `space` whose last replica has the law exp(f)."""
        return Replicated(log_density, self)

    def replicate(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies each row into R replicas; works on positions, masks and values, per block (N, ...)."""
        num = len(self.rungs)
        return {
            name: value.repeat(1, num) if self._ragged(name) else value[:, None].expand(-1, num, *value.shape[1:])
            for name, value in rows.items()
        }

    def cold(self, chains: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The last replica of each chain, whose law is exp(f); works on positions, masks and values, per block (N, ...)."""
        return {
            name: value.reshape(len(value), len(self.rungs), -1)[:, -1] if self._ragged(name) else value[:, -1]
            for name, value in chains.items()
        }

    def rows(self, chains: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All replicas as rows of the space of the reference, per block (N R, ...); the R of a chain are adjacent."""
        num = len(self.rungs)
        return {
            name: value.reshape(len(value) * num, -1) if self._ragged(name) else value.flatten(0, 1)
            for name, value in chains.items()
        }

    def rung_of_rows(self, like: Tensor) -> Tensor:
        """b of each of N R rows, shape (N R,), of the dtype and on the device of the rows."""
        return like.new_tensor(self.rungs).repeat(len(like) // len(self.rungs))

    @torch.no_grad()
    def step(
        self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator
    ) -> tuple[Chain, tuple[Info | tuple[Any, ...], ...]]:
        """Redraws, swaps and moves each chain once.

        Returns:
            The chains, and one `Info` per pair of neighbours, followed by that of the kernel, averaged over rungs.
        """
        if not isinstance(log_density, Replicated):
            raise TypeError(
                f"ReplicaExchange: got a log-density of type {type(log_density).__name__}; pass exchange.target(log_density)"
            )
        num_chains = len(chain.f)
        present = {name: chain.position[name] for name in self.space}
        masks = {
            name: free.get(name, torch.zeros((), dtype=torch.bool, device=chain.f.device)).expand(
                num_chains, *block.variable_shape
            )
            for name, block in self.space.items()
        }
        masks, rows = self.rows(masks), self.rows(present)
        rows = self._redrawn(rows, masks, generator)
        ends = evaluate_endpoints(log_density.log_density, self.reference, rows, with_score=self.kernel.uses_score)
        order, infos = self._swaps(ends, masks, generator)  # (N R,)
        moved, info = self.kernel.step(
            Tempered(log_density.log_density, self.reference),
            ends.take(order).chain(self.rung_of_rows(ends.target.f)),
            free=masks,
            generator=generator
            if isinstance(generator, torch.Generator | Tape)
            else _Folded(generator, len(self.rungs)),
        )
        position = {name: self._folded(name, value) for name, value in of_space(self.reference, moved.position).items()}
        f = moved.f.reshape(num_chains, -1).sum(dim=1)
        return Chain({**chain.position, **position}, f, None), (
            *infos,
            self._folded_info(info),
        )

    def _redrawn(self, rows: Position, masks: Mask, generator: Generator) -> dict[str, Tensor]:
        """The rows, with free entries of the replicas at b = 0 drawn from q given the others."""
        num, q = len(self.rungs), self.reference
        hot = evaluate(q.log_prob, {name: value[::num] for name, value in rows.items()}, with_score=False)
        free = {name: mask[::num] for name, mask in masks.items()}
        drawn, _ = Jump(q).step(q.log_prob, hot, free=free, generator=generator)
        redrawn = {name: value.clone() for name, value in rows.items()}
        for name, value in redrawn.items():
            value[::num] = drawn.position[name]
        return redrawn

    def _swaps(self, ends: Endpoints, masks: Mask, generator: Generator) -> tuple[Tensor, list[Info]]:
        """Rows that the replicas take over, shape (N R,), after the swaps of even and then of odd neighbours."""
        num, log_ratio = len(self.rungs), ends.log_ratio
        order = torch.arange(len(log_ratio), device=log_ratio.device).reshape(-1, num)  # (N, R)
        infos: dict[int, Info] = {}
        for parity in (0, 1):
            for low in range(parity, num - 1, 2):
                one, other = order[:, low], order[:, low + 1]
                allowed = self._may_swap(ends.target.position, masks, one, other, low)
                ratio = (self.rungs[low] - self.rungs[low + 1]) * (log_ratio[other] - log_ratio[one])
                infos[low] = metropolis(ratio, allowed, generator)
                accepted = infos[low].accepted
                order = order.clone()
                order[:, low], order[:, low + 1] = torch.where(accepted, other, one), torch.where(accepted, one, other)
        return order.flatten(), [infos[low] for low in sorted(infos)]

    def _may_swap(self, position: Position, masks: Mask, one: Tensor, other: Tensor, low: int) -> Tensor:
        """Whether a swap would keep every clamped entry of two replicas, shape (N,), and move something."""
        num, space = len(self.rungs), self.reference.space
        keeps, movable = [], []
        for name, value in position.items():
            free = masks[name][low::num] & masks[name][low + 1 :: num]  # masks stay with the rung
            equal = (value[one] == value[other]) | space[name].expand(free)
            keeps.append(equal.reshape(len(one), -1).all(dim=1))
            movable.append(free.reshape(len(one), -1).any(dim=1))
        return torch.stack(keeps).all(dim=0) & torch.stack(movable).any(dim=0)

    def _replicated(self, block: Block) -> Block:
        num = len(self.rungs)
        if isinstance(block, Categorical) and block.ragged:
            return replace(block, num_classes=block.num_classes_per_variable * num)
        return replace(block, shape=(num, *block.variable_shape))

    def _ragged(self, name: str) -> bool:
        block = self.reference.space[name]
        return isinstance(block, Categorical) and block.ragged

    def _folded(self, name: str, rows: Tensor) -> Tensor:
        """The inverse of `rows`, for one block."""
        num = len(self.rungs)
        return rows.reshape(len(rows) // num, -1) if self._ragged(name) else rows.unflatten(0, (-1, num))

    def _folded_info(self, info: Any) -> Any:
        """Info of the rows, folded per chain: mean acceptance, and whether any replica moved."""
        if not isinstance(info, Info):
            return tuple(self._folded_info(part) for part in info)
        accept_prob, accepted = (part.reshape(-1, len(self.rungs)) for part in info)
        return Info(accept_prob.mean(dim=1), accepted.any(dim=1))


class _Folded:
    """A stream for N R rows made from one for N: the draws of a chain's replicas are those of its row."""

    def __init__(self, stream: Stream, num_rungs: int) -> None:
        self._stream, self._num_rungs = stream, num_rungs

    def normal(self, like: Tensor) -> Tensor:
        return self._stream.normal(like.unflatten(0, (-1, self._num_rungs))).flatten(0, 1)

    def uniform(self, like: Tensor) -> Tensor:
        return self._stream.uniform(like.unflatten(0, (-1, self._num_rungs))).flatten(0, 1)

    def choose(self, log_weights: Tensor) -> Tensor:
        each = log_weights.unflatten(0, (-1, self._num_rungs)).unbind(dim=1)
        return torch.stack([self._stream.choose(rung) for rung in each], dim=1).flatten(0, 1)

    def accept(self, log_ratio: Tensor) -> Tensor:
        each = log_ratio.unflatten(0, (-1, self._num_rungs)).unbind(dim=1)
        return torch.stack([self._stream.accept(rung) for rung in each], dim=1).flatten(0, 1)
