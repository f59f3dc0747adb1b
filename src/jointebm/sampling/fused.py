"""Fused steps: several steps of a kernel as one compiled function of tensors, with its draws passed in.

The steps are traced down to tensor operations, the backward passes of f included, so whatever a kernel does in Python costs
nothing afterwards; `torch.compile` then fuses the operations.

Legend: N chains, T steps of one call, P parts of the kernel.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from jointebm.kernels import Chain, Kernel, LogDensity, Score, evaluate, flat_infos, settle
from jointebm.kernels.kernel import unread_masks
from jointebm.randomness.tapes import Request, Requests, Tape, draw_ahead
from jointebm.spaces.space import Mask

__all__ = ["FusedSteps", "fuse_steps"]

STEPS_PER_CALL = 4
FAILURES = (RuntimeError, OSError, ImportError, TypeError, ValueError, AttributeError, LookupError, EOFError)

log = logging.getLogger(__name__)


class FusedSteps(NamedTuple):
    """A compiled function that makes several steps.

    Args:
        num_steps: T of one call.
        num_parts: P.
        requests: the draws of one call, in order.
        log_density: f.
        scored: whether the function takes the score and returns it.
        function: from the tensors of a chain and the draws to those of the chain after the steps.
    """

    num_steps: int
    num_parts: int
    requests: list[Request]
    log_density: LogDensity
    scored: bool
    function: Callable[..., tuple[Tensor, ...]]

    def __call__(self, chain: Chain, generator: torch.Generator) -> tuple[list[Chain], Tensor]:
        """The chains after each step, of which only the last has a score, and mean acceptance (T, P)."""
        with torch.no_grad():
            flat = _flattened(self.log_density, chain, scored=self.scored)
            *tensors, rates = self.function(*flat, *draw_ahead(self.requests, generator))
        names, width = tuple(chain.position), len(chain.position) + 1
        steps = [tensors[start : start + width] for start in range(0, self.num_steps * width, width)]
        chains = [Chain(dict(zip(names, step[:-1], strict=True)), step[-1], None) for step in steps]
        if self.scored:
            score = Score(dict(zip(names, tensors[self.num_steps * width :], strict=True)))
            chains[-1] = chains[-1]._replace(score=score)
        return chains, rates


def fuse_steps(
    log_density: LogDensity, kernel: Kernel, chain: Chain, *, free: Mask, generator: Any
) -> FusedSteps | None:
    """Compiles steps of a kernel for chains of these shapes and masks, or says in one log line why it cannot.

    The compiled steps make the same draws from the generator as steps of the kernel do, and agree with them up to rounding,
    which may turn a decision that is a tie. Where `Lazy` skips all chains, the kernel draws nothing and the compiled steps
    do. Parameters of f must not change, and what f does in Python is fixed: branches on values are those of now or fail.

    Args:
        log_density: f, in torch functions.
        kernel: any kernel whose operations do not depend on values.
        chain: N chains.
        free: as for the kernel.
        generator: what will be drawn from; only a `torch.Generator` can be.

    Returns:
        The compiled steps; None if the steps cannot be traced or compiled here, such as without a C++ compiler.

    Example:
        >>> from jointebm.kernels import MALA
        >>> def branches(position): return position["x"] if position["x"].sum() > 0 else -position["x"]
        >>> chain, free = evaluate(branches, {"x": torch.ones(2)}), {"x": torch.tensor(True)}
        >>> fuse_steps(branches, MALA("x", 0.1), chain, free=free, generator=torch.Generator()) is None
        True
    """
    if not isinstance(generator, torch.Generator):
        log.warning("compile: draws from a %s cannot be made ahead; steps are not compiled", type(generator).__name__)
        return None
    try:
        whole = {name: mask.new_ones((1,) * mask.ndim) if bool(mask.all()) else mask for name, mask in free.items()}
        return _fused(log_density, kernel, chain, settle(whole))
    except FAILURES as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        log.warning("compile: %s: %.200s; steps are not compiled", type(error).__name__, reason)
        return None


def _fused(log_density: LogDensity, kernel: Kernel, chain: Chain, free: Mask) -> FusedSteps:
    own = torch.Generator(chain.f.device).manual_seed(0)  # the draws of the user's generator stay untouched
    with torch.no_grad(), unread_masks():
        requests = Requests(own)
        after, info = kernel.step(
            log_density, _encoded_afresh(log_density, kernel, chain), free=free, generator=requests
        )
        num_parts = len(flat_infos(info))
        scored = kernel.uses_score and after.score is not None and not getattr(log_density, "encoded_blocks", ())
        made = requests.made * STEPS_PER_CALL
        names = tuple(chain.position)

        def steps(*tensors: Tensor) -> tuple[Tensor, ...]:
            num = len(names) + 1 + len(names) * scored
            state, tape, kept, rates = _chain_of(names, tensors[:num], scored=scored), Tape(tensors[num:]), [], []
            state = _encoded_afresh(log_density, kernel, state)
            for _ in range(STEPS_PER_CALL):
                state, info = kernel.step(log_density, state, free=free, generator=tape)
                kept += [*(state.position[name] for name in names), state.f]
                rates.append(torch.stack([each.accept_prob.mean() for each in flat_infos(info)]))
            if scored:
                assert state.score is not None
                kept += [state.score[name] for name in names]
            return (*(tensor.clone() for tensor in kept), torch.stack(rates))

        flat = _flattened(log_density, chain, scored=scored)
        draws = draw_ahead(made, own)
        graph = make_fx(steps)(*flat, *draws)
        compiled = torch.compile(graph, fullgraph=True, dynamic=False)
        compiled(*flat, *draws)  # compiles now, where a failure can be handled
    return FusedSteps(STEPS_PER_CALL, num_parts, made, log_density, scored, compiled)


def _encoded_afresh(log_density: LogDensity, kernel: Kernel, chain: Chain) -> Chain:
    """The chain; with its encoding and score if the log-density has an encoder, whose graph no call hands to the next."""
    if not getattr(log_density, "encoded_blocks", ()):
        return chain
    return evaluate(log_density, chain.position, with_score=kernel.uses_score)


def _flattened(log_density: LogDensity, chain: Chain, *, scored: bool) -> list[Tensor]:
    """The tensors of a chain: its blocks, f, and the score of each block if asked for."""
    tensors = [*chain.position.values(), chain.f]
    if scored:
        score = chain.score if chain.score is not None else evaluate(log_density, chain.position).score
        assert score is not None
        tensors += [score[name] for name in chain.position]
    return tensors


def _chain_of(names: tuple[str, ...], tensors: tuple[Tensor, ...], *, scored: bool) -> Chain:
    """The inverse of `_flattened`."""
    position: Mapping[str, Tensor] = dict(zip(names, tensors[: len(names)], strict=True))
    score = Score(dict(zip(names, tensors[len(names) + 1 :], strict=True))) if scored else None
    return Chain(position, tensors[len(names)], score)
