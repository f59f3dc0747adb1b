"""Acceptance rates of a kernel, by name and in words."""

from collections.abc import Mapping, Sequence

from jointebm.kernels import Cycle

__all__ = ["named_rates", "write_rates"]


def named_rates(kernel: Cycle, accept_rate: Sequence[float]) -> dict[str, float]:
    """Acceptance rates by kernel and the block that it moves; equal kernels are averaged; none if no kernel ran.

    Example:
        >>> from jointebm import Binary, Continuous, Space, kernels
        >>> space = Space(x=Continuous(), y=Binary())
        >>> cycle = Cycle((kernels.Gibbs(space), kernels.Gibbs(space), kernels.MALA(block="x", step_size=0.1)))
        >>> named_rates(cycle, (1.0, 0.5, 0.25))
        {'Gibbs': 0.75, 'MALA(x)': 0.25}
    """
    rates: dict[str, list[float]] = {}
    for part, rate in zip(kernel.kernels, accept_rate, strict=True) if accept_rate else ():
        block = getattr(part, "block", None)
        rates.setdefault(type(part).__name__ + (f"({block})" if block else ""), []).append(rate)
    return {name: sum(values) / len(values) for name, values in rates.items()}


def write_rates(rates: Mapping[str, float]) -> str:
    """Acceptance rates as a caption."""
    nothing = "0 (nothing was free to move, or nothing accepted)"
    return ", ".join(f"{name} {rate:.3f}" if rate else f"{name} {nothing}" for name, rate in rates.items())
