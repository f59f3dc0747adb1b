"""Checks before and after a run of chains."""

import torch
from torch import Tensor

from jointebm.kernels import MALA, Chain, ChromaticGibbs, Cycle, Gibbs, GibbsWithGradients, Kernel, Langevin, Lazy
from jointebm.spaces.space import Space

__all__ = []


def check_kernel(kernel: Kernel, space: Space) -> None:
    """Raises if a kernel of this library, or one of a cycle's, is not for this space; foreign kernels are not looked at.

    Args:
        kernel: any kernel.
        space: the space that it is to move.
    """
    if isinstance(kernel, Cycle):
        for part in kernel.kernels:
            check_kernel(part, space)
    elif isinstance(kernel, Lazy):
        check_kernel(kernel.kernel, space)
    elif isinstance(kernel, Langevin | MALA):
        space.require((kernel.block,), discrete=False)
    elif isinstance(kernel, Gibbs | GibbsWithGradients | ChromaticGibbs):
        assert kernel.blocks is not None
        space.require(kernel.blocks, discrete=True)
        for name in kernel.blocks:
            if kernel.space[name] != space[name]:
                raise ValueError(
                    f"{type(kernel).__name__}: was made for a block {name!r} that is {kernel.space[name]}, but here it is "
                    f"{space[name]}"
                )


def check_finite(chain: Chain, space: Space, when: str) -> None:
    """Raises, naming the block and row, if a position or f is not finite. Waits for the device.

    Args:
        chain: the chain to look at.
        space: its space.
        when: completes the message, such as "after 20 steps".
    """
    if bool(finite_rows(chain).all()):
        return
    for name in space:
        rows = ~chain.position[name].isfinite().reshape(len(chain.f), -1).all(dim=1)
        if bool(rows.any()):
            raise FloatingPointError(
                f"block {name!r}: not finite in row {int(rows.nonzero()[0])} {when} ({int(rows.sum())} of {len(rows)} "
                "rows). Try a smaller step size, or complete missing entries first"
            )
    rows = ~chain.f.isfinite()
    raise FloatingPointError(
        f"log-density: f is {float(chain.f[rows][0])} in row {int(rows.nonzero()[0])} {when} ({int(rows.sum())} of "
        f"{len(rows)} rows). Try a smaller step size or learning rate"
    )


def finite_rows(chain: Chain) -> Tensor:
    """Which rows have a finite position and f, bool (N,)."""
    entries = [value.reshape(len(chain.f), -1).isfinite().all(dim=1) for value in chain.position.values()]
    return torch.stack([chain.f.isfinite(), *entries]).all(dim=0)
