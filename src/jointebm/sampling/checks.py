"""Checks of a kernel before a run, and of chains after it."""

import torch
from torch import Tensor

from jointebm.kernels import Chain, Kernel, LogDensity
from jointebm.spaces.space import Space

__all__ = ["check_finite", "check_kernel", "check_rows", "finite_rows"]

ROUNDING = 1e-2  # share of the largest f; half precision rounds by less, other rows and dropout matter by more


def check_kernel(kernel: Kernel, space: Space) -> None:
    """Raises TypeError unless the argument is a kernel, and ValueError unless it fits the space."""
    if isinstance(kernel, type) or not isinstance(kernel, Kernel):
        raise TypeError(
            f"kernel: got a {type(kernel).__name__}, expected a kernel such as kernels.Gibbs(space); put several in "
            "kernels.Cycle((...)), and derive your own from kernels.Kernel: uses_score, adjusted, require and step"
        )
    kernel.require(space)


def check_rows(log_density: LogDensity, chain: Chain) -> None:
    """Raises ValueError if f of a row depends on other rows, or on chance: then it is not the log of a density.

    Evaluates f once more, with the rows of the second half replaced by those of the first. Not seen where all rows are
    equal, or where the difference is below 1% of the largest f, as it is while weights are zero. Waits for the device.

    Args:
        log_density: f, shape (N,).
        chain: N chains with a finite f; nothing is checked if there is one.

    Example:
        >>> from jointebm.kernels import evaluate
        >>> def centred(position): return -(position["x"] - position["x"].mean()).square()
        >>> check_rows(centred, evaluate(centred, {"x": torch.arange(4.0)}))
        Traceback (most recent call last):
        ValueError: log-density: f of row 0 is -2.25 or -0.25, depending on the other rows or on chance. Call .eval() on ...
    """
    num, half = len(chain.f), (len(chain.f) + 1) // 2
    if num < 2:
        return
    index = torch.arange(num, device=chain.f.device)
    index[half:] = index[: num - half]
    with torch.no_grad():
        again = log_density({name: value[index] for name, value in chain.position.items()})
    changed = (again - chain.f).abs()[:half] > ROUNDING * chain.f.abs().max() + 1e-3
    if bool(changed.any()):
        row = int(changed.nonzero()[0])
        raise ValueError(
            f"log-density: f of row {row} is {float(chain.f[row]):.6g} or {float(again[row]):.6g}, depending on the other "
            "rows or on chance. Call .eval() on a module with batch normalisation or dropout, and compute f of each row "
            "from that row alone"
        )


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
