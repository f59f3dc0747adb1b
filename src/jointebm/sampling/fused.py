"""Fused steps: several steps of a kernel as one compiled function of tensors, with its draws passed in.

The steps are traced down to tensor operations, the backward passes of f included, so whatever a kernel does in Python costs
nothing afterwards; `torch.compile` then fuses the operations.

Where a module is trained meanwhile, its parameters are inputs of the function, read at each call.

Legend: N chains, T steps of one call, P parts of the kernel.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from jointebm.kernels import Chain, Kernel, LogDensity, Score, evaluate, flat_infos, settle
from jointebm.randomness.full_precision import full_precision
from jointebm.randomness.tapes import Request, Requests, Tape, draw_ahead
from jointebm.randomness.waiting import unread_values
from jointebm.spaces.space import Mask, Position

__all__ = ["FusedSteps", "fuse_steps"]

STEPS_PER_CALL = 4
PARAMETER_SCALE = 1.01  # of parameters, for which a trace is checked too
TRACE_ROUNDING = 1e-4  # within which a trace and the steps agree; they make the same operations
FAILURES = (RuntimeError, OSError, ImportError, TypeError, ValueError, AttributeError, LookupError, EOFError)

log = logging.getLogger(__name__)


class FusedSteps(NamedTuple):
    """A compiled function that makes several steps.

    Args:
        num_steps: T of one call.
        requests: the draws of one call, in order.
        log_density: f.
        trained: the module whose parameters and buffers are read at each call; None if they are fixed.
        scored: whether the function takes the score and returns it.
        function: from the tensors of a module, those of a chain and the draws to those of the chain after the steps.
    """

    num_steps: int
    requests: list[Request]
    log_density: LogDensity
    trained: nn.Module | None
    scored: bool
    function: Callable[..., tuple[Tensor, ...]]

    def __call__(self, chain: Chain, generator: torch.Generator) -> tuple[list[Chain], Tensor]:
        """The chains after each step, of which only the last has a score, and the acceptance probabilities (T, P, N)."""
        with torch.no_grad():
            flat = _flattened(self.log_density, chain, scored=self.scored)
            draws = draw_ahead(self.requests, generator)
            with full_precision(chain.f):  # casts are part of the function
                *tensors, probs = self.function(*_tensors_of(self.trained).values(), *flat, *draws)
        names, width = tuple(chain.position), len(chain.position) + 1
        steps = [tensors[start : start + width] for start in range(0, self.num_steps * width, width)]
        chains = [Chain(dict(zip(names, step[:-1], strict=True)), step[-1], None) for step in steps]
        if self.scored:
            score = Score(dict(zip(names, tensors[self.num_steps * width :], strict=True)))
            chains[-1] = chains[-1]._replace(score=score)
        return chains, probs


def fuse_steps(
    log_density: LogDensity,
    kernel: Kernel,
    chain: Chain,
    *,
    free: Mask,
    generator: Any,
    num_steps: int = STEPS_PER_CALL,
    trained: bool = False,
) -> FusedSteps | None:
    """Compiles steps of a kernel for chains of these shapes and masks, or says in one log line why it cannot.

    The compiled steps make the same draws from the generator as steps of the kernel do, and agree with them up to rounding,
    which may turn a decision that is a tie. Where `Lazy` skips all chains, the kernel draws nothing and the compiled steps
    do. f that branches on values, or computes with them outside of torch, is not compiled: the trace is compared with the
    steps once, for other chains, draws and parameters. Parameters of f must not change, unless `trained`.

    Args:
        log_density: f, in torch functions.
        kernel: any kernel whose operations do not depend on values.
        chain: N chains.
        free: as for the kernel.
        generator: what will be drawn from; only a `torch.Generator` can be.
        num_steps: T of one call, >= 1; the time to compile grows with it.
        trained: whether f is a module whose parameters and buffers may change between calls, which then read them. A kernel
            verified for f is not verified for it.

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
        return _fused(log_density, kernel, chain, settle(whole), num_steps, trained)
    except FAILURES as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        log.warning("compile: %s: %.200s; steps are not compiled", type(error).__name__, reason)
        return None


def _fused(
    log_density: LogDensity, kernel: Kernel, chain: Chain, free: Mask, num_steps: int, is_trained: bool
) -> FusedSteps:
    own = torch.Generator(chain.f.device).manual_seed(0)  # the draws of the user's generator stay untouched
    trained = log_density if is_trained and isinstance(log_density, nn.Module) else None
    with torch.no_grad(), unread_values():
        requests = Requests(own)
        after, _ = kernel.step(log_density, _encoded_afresh(log_density, kernel, chain), free=free, generator=requests)
        scored = kernel.uses_score and after.score is not None and not getattr(log_density, "encoded_blocks", ())
        made = requests.made * num_steps
        names, of_module = tuple(chain.position), _tensors_of(trained)

        def steps(*tensors: Tensor) -> tuple[Tensor, ...]:
            present, tensors = tensors[: len(of_module)], tensors[len(of_module) :]
            f = log_density if trained is None else _Rebound(trained, dict(zip(of_module, present, strict=True)))
            num = len(names) + 1 + len(names) * scored
            state, tape, kept, probs = _chain_of(names, tensors[:num], scored=scored), Tape(tensors[num:]), [], []
            state = _encoded_afresh(f, kernel, state)
            for _ in range(num_steps):
                state, info = kernel.step(f, state, free=free, generator=tape)
                kept += [*(state.position[name] for name in names), state.f]
                probs.append(torch.stack([each.accept_prob for each in flat_infos(info)]))
            if scored:
                assert state.score is not None
                kept += [state.score[name] for name in names]
            return (*(tensor.clone() for tensor in kept), torch.stack(probs))

        start = _flattened(log_density, chain, scored=scored)
        inputs = [*of_module.values(), *start, *draw_ahead(made, own)]
        graph = make_fx(steps)(*inputs)
        others = [
            *map(_scaled, of_module.values()),
            *(value.roll(1, dims=0) for value in start),
            *draw_ahead(made, own),
        ]
        expected = steps(*others)
        with full_precision(chain.f):
            _require_same(expected, graph(*others))
            compiled = torch.compile(graph, fullgraph=True, dynamic=False)
            compiled(*inputs)  # compiles now, where a failure can be handled
    return FusedSteps(num_steps, made, log_density, trained, scored, compiled)


def _scaled(value: Tensor) -> Tensor:
    """Another value for a parameter or buffer; whole numbers stay."""
    return value * PARAMETER_SCALE if value.is_floating_point() else value


def _require_same(expected: tuple[Tensor, ...], traced: tuple[Tensor, ...]) -> None:
    """Raises RuntimeError unless a trace returns what the steps return, at inputs other than those it was made from.

    A value that leaves torch, such as by `numpy` or `tolist`, becomes a constant of the trace without any error.
    """
    pairs = zip(expected, traced, strict=True)
    if not all(
        torch.allclose(one, other, rtol=TRACE_ROUNDING, atol=TRACE_ROUNDING, equal_nan=True) for one, other in pairs
    ):
        raise RuntimeError(
            "f or the kernel computes outside of torch, such as by numpy or tolist, which a trace misses"
        )


def _tensors_of(module: nn.Module | None) -> dict[str, Tensor]:
    """The present parameters and buffers of a module, without their graph."""
    if module is None:
        return {}
    return {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}


class _Methods(nn.Module):
    """A module whose forward calls a method of another one, so that `functional_call` reaches any method."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.of = module

    def forward(self, method: str, *arguments: Any) -> Tensor:
        return getattr(self.of, method)(*arguments)


class _Rebound:
    """A log-density with other tensors in place of its parameters and buffers."""

    def __init__(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        self._methods, self._tensors = _Methods(module), {f"of.{name}": value for name, value in tensors.items()}
        self.encoded_blocks = getattr(module, "encoded_blocks", ())

    def __call__(self, position: Position) -> Tensor:
        return self._call("__call__", position)

    def encode(self, position: Position) -> Tensor:
        return self._call("encode", position)

    def head(self, features: Tensor, position: Position) -> Tensor:
        return self._call("head", features, position)

    def _call(self, method: str, *arguments: Any) -> Tensor:
        return functional_call(self._methods, self._tensors, (method, *arguments))


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
