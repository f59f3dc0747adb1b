"""Checks of a kernel before a run, and of chains after it."""

import torch
from torch import Tensor, nn

from jointebm.kernels import Chain, Kernel, LogDensity
from jointebm.spaces.space import Space

__all__ = ["check_finite", "check_kernel", "check_layers", "check_rows", "finite_rows"]

NORMALISERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
ROUNDING = 1e-2  # share of the largest f; half precision rounds by less, other rows and dropout matter by more


def check_kernel(kernel: Kernel, space: Space) -> None:
    """Raises TypeError unless the argument is a kernel, and ValueError unless it fits the space."""
    if isinstance(kernel, type) or not isinstance(kernel, Kernel):
        raise TypeError(
            f"kernel: got a {type(kernel).__name__}, expected a kernel such as kernels.Gibbs(space); put several in "
            "kernels.Cycle((...)), and derive your own from kernels.Kernel: uses_score, adjusted, require and step"
        )
    kernel.require(space)


def check_layers(log_density: LogDensity) -> None:
    """Raises ValueError, naming the layer, if a module normalises over the batch or drops units out.

    These are layers of `torch.nn` in training mode, and batch normalisation without running statistics in either mode.
    What a module does without such layers is seen by `check_rows` alone.

    Args:
        log_density: f; a callable that is no module has no layers.

    Example:
        >>> check_layers(nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1)))
        Traceback (most recent call last):
        ValueError: log-density: layer '1' (Dropout) is in training mode: f of a row would depend on other rows or on ...
    """
    for name, layer in log_density.named_modules() if isinstance(log_density, nn.Module) else ():
        over_batch = isinstance(layer, NORMALISERS) and (layer.training or layer.running_mean is None)
        if over_batch or (isinstance(layer, DROPOUTS) and layer.training and layer.p > 0):
            why = "is in training mode" if layer.training else "has no running statistics"
            raise ValueError(
                f"log-density: layer {name!r} ({type(layer).__name__}) {why}: f of a row would depend on other rows or on "
                "chance, and be the log of no density. Call .eval() on the module, or use LayerNorm, which sees one row"
            )


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
    changed = ~((again - chain.f).abs()[:half] <= ROUNDING * chain.f.abs().max() + 1e-3)  # NaN counts
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
