"""Replica exchange, written a second time, with a fault; and a kernel that does not cover up for it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jointebm.kernels import Chain, Info, Kernel, LogDensity, ReplicaExchange, evaluate
from jointebm.randomness.draws import Generator, accept
from jointebm.spaces.space import Mask


@dataclass(frozen=True)
class Still(Kernel):
    """A kernel that moves nothing, so that redraws and swaps are alone."""

    uses_score = False
    adjusted = True

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:  # noqa: ARG002
        return chain, Info(torch.zeros_like(chain.f), torch.zeros_like(chain.f, dtype=torch.bool))


@dataclass(frozen=True)
class FaultyExchange(Kernel):
    """A second `ReplicaExchange` of one block of bits, replica by replica, with a fault."""

    exchange: ReplicaExchange
    fault: str = ""

    uses_score = False
    adjusted = False

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        q, rungs, f = self.exchange.reference, self.exchange.rungs, log_density.log_density  # type: ignore[attr-defined]
        (name,) = self.exchange.reference.space
        x = list(chain.position[name].unbind(dim=1))
        masks = list(free[name].expand(len(chain.f), *self.exchange.space[name].variable_shape).unbind(dim=1))

        def tempered(b: float) -> LogDensity:
            return lambda p: (1 - b) * q.log_prob(p) + b * f(p)

        def level(r: int, value: Tensor) -> Tensor:
            return tempered(rungs[r])({name: value})

        hot = 1 if self.fault == "redraws the second rung" else 0
        redrawn = torch.where(masks[hot], torch.nan, x[hot])
        if self.fault == "redraw ignores the clamp":
            redrawn = torch.full_like(redrawn, torch.nan)
        x[hot] = q.complete({name: redrawn}, generator)[name]
        pairs = [*range(0, len(rungs) - 1, 2), *range(1, len(rungs) - 1, 2)]
        seen = list(x)
        for low in pairs:
            a, b = (seen if self.fault == "without parity" else x)[low : low + 2]
            ratio = level(low, b) + level(low + 1, a) - level(low, a) - level(low + 1, b)
            ratio = {"swap ratio missing": torch.zeros_like(ratio), "swap ratio inverted": -ratio}.get(
                self.fault, ratio
            )
            keeps = ((a == b) | (masks[low] & masks[low + 1])).reshape(len(a), -1).all(dim=1)
            accepted = accept(ratio, generator)
            if self.fault != "swap ignores the clamp":
                accepted &= keeps
            accepted = accepted.reshape(-1, *[1] * (a.ndim - 1))
            if self.fault == "copies instead of swapping":
                x[low + 1] = torch.where(accepted, a, b)
            else:
                x[low], x[low + 1] = torch.where(accepted, b, x[low]), torch.where(accepted, a, x[low + 1])
        for r, b in enumerate(rungs):
            wrong = 1 - b if self.fault == "rungs upside down" else b
            one = evaluate(tempered(wrong), {name: x[r]}, with_score=False)
            one, _ = self.exchange.kernel.step(tempered(wrong), one, free={name: masks[r]}, generator=generator)
            x[r] = one.position[name]
        position = {name: torch.stack(x, dim=1)}
        return Chain(position, log_density(position), None), Info(torch.ones_like(chain.f), chain.f == chain.f)


FAULTS = (
    "redraws the second rung",
    "redraw ignores the clamp",
    "without parity",
    "swap ratio missing",
    "swap ratio inverted",
    "swap ignores the clamp",
    "copies instead of swapping",
    "rungs upside down",
)
