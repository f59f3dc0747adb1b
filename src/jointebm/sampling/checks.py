"""Checks of a kernel before a run, and of chains after it."""

import torch
from torch import Tensor

from jointebm.kernels import Chain, Kernel
from jointebm.spaces.space import Space

__all__ = ["check_finite", "check_kernel", "finite_rows"]


def check_kernel(kernel: Kernel, space: Space) -> None:
    """Raises TypeError unless the argument is a kernel, and ValueError unless it fits the space."""
    if isinstance(kernel, type) or not isinstance(kernel, Kernel):
        raise TypeError(
            f"kernel: got a {type(kernel).__name__}, expected a kernel such as kernels.Gibbs(space); put several in "
            "kernels.Cycle((...)), and derive your own from kernels.Kernel: uses_score, adjusted, require and step"
        )
    kernel.require(space)


def check_finite(chain: Chain, space: Space, when: str) -> None:
    """Raises, naming the block and row, if a position or f is not finite. Waits for the device."""
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
    """Mask of the rows with a finite position and f, bool (N,)."""
    entries = [value.reshape(len(chain.f), -1).isfinite().all(dim=1) for value in chain.position.values()]
    return torch.stack([chain.f.isfinite(), *entries]).all(dim=0)
