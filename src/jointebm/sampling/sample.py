"""Runs of kernels: Algorithm 1 from noise or from given positions, with any values clamped.

Legend: N chains, T kept states.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from jointebm.kernels import Chain, Info, Kernel, LogDensity, evaluate, flat_infos, settle
from jointebm.randomness.devices import on_cpu
from jointebm.randomness.draws import Generator
from jointebm.sampling.chain_diagnostics import WatchedChains, diagnostics_of_chains
from jointebm.sampling.checks import check_finite, check_kernel, check_layers, check_rows
from jointebm.sampling.fused import FusedSteps, fuse_steps
from jointebm.sampling.samples import Samples, Trajectory
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Mask, Position, Space, Values

__all__ = ["SamplingState", "begin_sampling", "run_chain", "sample", "sample_trajectory"]


def run_chain(
    log_density: LogDensity, kernel: Kernel, chain: Chain, *, free: Mask, generator: Generator
) -> Iterator[tuple[Chain, tuple[Info, ...]]]:
    """Yields the chain and the info of each kernel after every step, without end and without waiting for the device.

    Example:
        >>> from jointebm import Binary, kernels
        >>> def log_density(position): return 9 * position["y"]
        >>> chain = evaluate(log_density, {"y": torch.zeros(3)}, with_score=False)
        >>> gibbs, free = kernels.Gibbs(Space(y=Binary())), {"y": torch.tensor([True])}
        >>> steps = run_chain(log_density, gibbs, chain, free=free, generator=torch.Generator().manual_seed(0))
        >>> next(steps)[0].position["y"]
        tensor([1., 1., 1.])
    """
    free = settle(free)
    while True:
        chain, info = kernel.step(log_density, chain, free=free, generator=generator)
        yield chain, flat_infos(info)


def sample(
    log_density: LogDensity,
    space: Space,
    kernel: Kernel,
    *,
    num_chains: int,
    num_steps: int,
    given: Values | None = None,
    init: Position | Noise | None = None,
    generator: Generator,
    compile: bool = False,
) -> Samples:
    """Samples every free variable given the rest: Algorithm 1 with the given values clamped.

    Chains start from noise as App. B says if `init` is a `Noise`, and are approximate samples after finitely many
    steps; with an unadjusted kernel they stay approximate. A clamped entry is bit for bit the same after any number of
    steps. Ctrl-C raises KeyboardInterrupt and the chains are lost; `begin_sampling` and `SamplingState.run` keep them.

    Args:
        log_density: f, a model or any callable from a position to shape (N,).
        space: the blocks.
        kernel: moves the chains.
        num_chains: number of chains N >= 1.
        num_steps: kernel steps >= 0.
        given: per block, values that broadcast to (N, *variable_shape); NaN, -1 or an absent block is free.
        init: start of the free entries: positions (leading axis N), a `Noise`, or None for uniform noise. Positions take
            the dtype and device of the module.
        generator: source of all draws.
        compile: whether steps are fused by `torch.compile`, which takes seconds to minutes at the start and needs a C++
            compiler; the draws stay the same, results agree up to rounding (`fuse_steps`). One log line says where it
            is not possible.

    Returns:
        `Samples`.

    Raises:
        FloatingPointError: f is not finite at the start, or f or an acceptance probability is not at the end.
        TypeError: `kernel` is no kernel, or `generator` no generator.
        ValueError: the kernel does not fit the space, or needs a score that the log-density does not have; or f of a
            row depends on other rows (`check_layers`, `check_rows`).

    References:
        Kelly & Grathwohl 2021, Algorithm 1, Sec. 5, App. B.

    Example:
        >>> from jointebm import Binary, Continuous, Space, kernels
        >>> space = Space(x=Continuous(), y=Binary())
        >>> def log_density(position): return -0.5 * (position["x"] - 4 * position["y"]).square()
        >>> kernel = kernels.Cycle((kernels.Gibbs(space), kernels.MALA(block="x", step_size=1.0)))
        >>> samples = sample(log_density, space, kernel, num_chains=500, num_steps=50, given={"y": 1},
        ...                  generator=torch.Generator().manual_seed(0))
        >>> bool(abs(samples.values["x"].mean() - 4) < 0.2)
        True
    """
    _check_counts(num_chains, num_steps)
    state = begin_sampling(
        log_density, space, kernel, num_chains=num_chains, given=given, init=init, generator=generator
    )
    state.run_watched(num_steps, compiled=compile)
    return state.samples()


def sample_trajectory(
    log_density: LogDensity,
    space: Space,
    kernel: Kernel,
    *,
    num_chains: int,
    num_steps: int,
    thin: int = 1,
    given: Values | None = None,
    init: Position | Noise | None = None,
    generator: Generator,
    compile: bool = False,
) -> Trajectory:
    """Samples as `sample` does, and keeps every `thin`-th state.

    Args:
        log_density: as for `sample`, and so the other arguments.
        thin: keep the state after every `thin`-th step, >= 1. T = num_steps // thin.

    Returns:
        `Trajectory`.

    Example:
        >>> from jointebm import Binary, Space, kernels
        >>> space = Space(y=Binary())
        >>> trajectory = sample_trajectory(lambda position: position["y"], space, kernels.Gibbs(space), num_chains=3,
        ...                                num_steps=10, thin=2, generator=torch.Generator())
        >>> trajectory.values["y"].shape
        torch.Size([5, 3])
    """
    if thin < 1:
        raise ValueError(f"sample_trajectory: thin must be >= 1, got {thin}")
    _check_counts(num_chains, num_steps)
    state = begin_sampling(
        log_density, space, kernel, num_chains=num_chains, given=given, init=init, generator=generator, thin=thin
    )
    state.run_watched(num_steps, compiled=compile)
    return state.trajectory()


def begin_sampling(
    log_density: LogDensity,
    space: Space,
    kernel: Kernel,
    *,
    num_chains: int,
    given: Values | None,
    init: Position | Noise | None,
    generator: Generator,
    thin: int | None = None,
) -> "SamplingState":
    """Chains before their first step, with the given values clamped; the arguments are those of `sample_trajectory`."""
    check_kernel(kernel, space)
    check_layers(log_density)
    dtype, device = _dtype_and_device(log_density)
    if isinstance(init, Noise):
        init = init.draw(num_chains, generator=generator, dtype=dtype, device=device)
    position, free = space.clamp(
        given, num_chains=num_chains, generator=generator, init=init, dtype=dtype, device=device
    )
    chain = evaluate(log_density, position, with_score=kernel.uses_score)
    check_finite(chain, space, "at the start of the chains")
    check_rows(log_density, chain)
    return SamplingState(log_density, space, kernel, chain, free, generator, thin)


@dataclass
class SamplingState:
    """The state of a run: with that of the generator, it determines all further steps; plus what was kept so far."""

    log_density: LogDensity
    space: Space
    kernel: Kernel
    chain: Chain
    free: Mask
    generator: Generator
    thin: int | None  # keep the state after every `thin`-th step; None keeps none
    kept: list[Chain] = field(default_factory=list)  # without score
    accept_probs: list[Tensor] = field(default_factory=list)  # of each step, the mean accept_prob of each kernel
    fused: FusedSteps | None = None  # compiled steps
    watched: WatchedChains | None = None  # for split R-hat of a run whose steps are known in advance

    def compile(self) -> None:
        """Compiles several steps into one call, for all that follow; where that fails, one log line says so."""
        self.fused = fuse_steps(self.log_density, self.kernel, self.chain, free=self.free, generator=self.generator)

    def run_watched(self, num_steps: int, *, compiled: bool) -> None:
        """Runs all steps of chains that have done none, and watches their split R-hat."""
        if compiled:
            self.compile()
        self.watched = WatchedChains(num_steps)
        self.run(num_steps)

    def run(self, num_steps: int, progress: Callable[[int], object] | None = None) -> None:
        """Runs the chains until they have done `num_steps` steps in all.

        `progress` is called with the number of steps done after each. What interrupts it between two steps, such as
        KeyboardInterrupt from `progress`, leaves the chains complete: `run` resumes them, `samples` returns where they are.
        """
        fused = self.fused
        while fused is not None and num_steps - len(self.accept_probs) >= fused.num_steps:
            assert isinstance(self.generator, torch.Generator)
            chains, accept_probs = fused(self.chain, self.generator)
            first = len(self.accept_probs) + 1
            self.chain = chains[-1]
            self.accept_probs.extend(accept_probs.mean(dim=2).unbind())
            for step, chain in enumerate(chains, start=first):
                self._after(step, chain, progress)
        steps = run_chain(self.log_density, self.kernel, self.chain, free=self.free, generator=self.generator)
        for step in range(len(self.accept_probs) + 1, num_steps + 1):
            self.chain, infos = next(steps)
            self.accept_probs.append(torch.stack([info.accept_prob.mean() for info in infos]))
            self._after(step, self.chain, progress)

    def _after(self, step: int, chain: Chain, progress: Callable[[int], object] | None) -> None:
        if self.watched is not None:
            self.watched.add(step, chain)
        if self.thin is not None and step % self.thin == 0:
            self.kept.append(chain._replace(score=None, encoding=None))
        if progress is not None:
            progress(step)

    def samples(self) -> Samples:
        """The present states; raises FloatingPointError if they or their acceptance are not finite."""
        num_steps = len(self.accept_probs)
        check_finite(self.chain, self.space, f"after {num_steps} steps")
        accept_probs = torch.stack(self.accept_probs) if self.accept_probs else torch.empty(0, 0)
        accept_rate = accept_probs.mean(dim=0).cpu() if self.accept_probs else torch.empty(0)
        if not bool(accept_rate.isfinite().all()):
            raise FloatingPointError(
                f"log-density: not a number at some proposal within {num_steps} steps. Try a smaller step size, "
                "or check the log-density for overflow"
            )
        values = on_cpu(self.space.decode(self.chain.position))
        found = diagnostics_of_chains(
            self.space, self.kernel, self.chain, free=self.free, accept_probs=accept_probs, watched=self.watched
        )
        return Samples(values, self.chain, tuple(accept_rate.tolist()), num_steps, found)

    def trajectory(self) -> Trajectory:
        """The kept states and the present ones."""
        samples = self.samples()
        if not self.kept:
            empty = {name: value[None][:0] for name, value in samples.values.items()}
            return Trajectory(empty, samples.chain.f[None][:0].cpu(), samples)
        decoded = [on_cpu(self.space.decode(chain.position)) for chain in self.kept]
        values = {name: torch.stack([value[name] for value in decoded]) for name in self.space}
        return Trajectory(values, torch.stack([chain.f for chain in self.kept]).cpu(), samples)


def _dtype_and_device(log_density: LogDensity) -> tuple[torch.dtype | None, torch.device | None]:
    """Those of a module's first floating parameter or buffer; None for other callables, which follow their input."""
    if isinstance(log_density, nn.Module):
        for tensor in itertools.chain(log_density.parameters(), log_density.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype, tensor.device
    return None, None


def _check_counts(num_chains: int, num_steps: int) -> None:
    if num_chains < 1 or num_steps < 0:
        raise ValueError(f"sample: needs num_chains >= 1 and num_steps >= 0, got {num_chains} and {num_steps}")
