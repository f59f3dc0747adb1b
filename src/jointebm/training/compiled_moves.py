"""Compiled moves of the chains of training: the steps of `sampling.fused`, which read the parameters of the moment."""

from jointebm.kernels import Chain, Kernel, LogDensity
from jointebm.randomness.draws import Generator
from jointebm.sampling.fused import FusedSteps, fuse_steps
from jointebm.spaces.space import Mask

__all__ = ["CompiledMoves"]

MOST_FUSED = 5  # of one call; the time to compile grows with them


class CompiledMoves:
    """Compiles steps of a kernel when chains first move, and keeps them.

    Chains then always come in the same shapes with the same mask. Where steps cannot be compiled, one line is logged, once.

    Args:
        log_density: module from a position to f, shape (N,); its parameters may change between moves.
        kernel: what moves the chains.
        num_steps: kernel steps of a move, of which as many as possible are compiled.
    """

    def __init__(self, log_density: LogDensity, kernel: Kernel, num_steps: int) -> None:
        self._log_density, self._kernel = log_density, kernel
        self._num_steps = num_steps if num_steps <= MOST_FUSED else min(range(MOST_FUSED, 1, -1), key=num_steps.__mod__)
        self._compiled: list[FusedSteps | None] = []  # empty before chains first move

    def steps(self, chain: Chain, *, free: Mask, generator: Generator) -> FusedSteps | None:
        """The compiled steps; None where they could not be compiled."""
        if not self._compiled:
            fused = fuse_steps(
                self._log_density,
                self._kernel,
                chain,
                free=free,
                generator=generator,
                num_steps=self._num_steps,
                trained=True,
            )
            self._compiled.append(fused)
        return self._compiled[0]
