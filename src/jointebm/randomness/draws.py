"""Random draws: normals, uniforms, choices and acceptances, each from an explicit generator.

Nothing else in the library draws random numbers. The generator is a `torch.Generator`, or any object with these four
methods (a `Stream`): `jointebm.testing` passes a stream that walks through every outcome of a step with its probability,
and `RowStream` makes the draws of a row independent of its batch. A `torch.Generator` draws on its own device, and what it
drew is handed over to where it is needed.

Legend: N chains (rows), V variables of a row, M moves (candidates).
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

__all__ = [
    "Generator",
    "Stream",
    "accept",
    "choose",
    "choose_by",
    "device_of",
    "normal",
    "require_generator",
    "shuffled",
    "threshold_below",
    "uniform",
]


class Stream(Protocol):
    """A source of draws that is not a `torch.Generator`; each method means what the function with its name does."""

    def normal(self, like: Tensor) -> Tensor:
        """Standard normals with the shape, dtype and device of `like`."""

    def uniform(self, like: Tensor) -> Tensor:
        """Uniforms on [0, 1) with the shape, dtype and device of `like`."""

    def choose(self, log_weights: Tensor) -> Tensor:
        """Indices (N,) for log-weights (N, M), or (N, V) for (N, M, V), nats."""

    def accept(self, log_ratio: Tensor) -> Tensor:
        """Acceptances (N,), bool, for log-ratios (N,), nats."""


Generator = torch.Generator | Stream


def require_generator(generator: object) -> None:
    """Raises TypeError unless the argument can be drawn from; for use where a generator enters the library."""
    if not isinstance(generator, torch.Generator) and not hasattr(generator, "choose"):
        raise TypeError(
            f"generator: got {generator!r:.60}, expected a torch.Generator or a Stream; for a seed, pass "
            "torch.Generator().manual_seed(seed)"
        )


def normal(like: Tensor, generator: Generator) -> Tensor:
    """Draws independent standard normals with the shape, dtype and device of `like`."""
    if not isinstance(generator, torch.Generator):
        return generator.normal(like)
    drawn = torch.randn(like.shape, dtype=like.dtype, device=generator.device, generator=generator)
    return drawn.to(like.device)


def uniform(like: Tensor, generator: Generator) -> Tensor:
    """Draws independent uniforms on [0, 1) with the shape, dtype and device of `like`."""
    if not isinstance(generator, torch.Generator):
        return generator.uniform(like)
    drawn = torch.rand(like.shape, dtype=like.dtype, device=generator.device, generator=generator)
    return drawn.to(like.device)


def choose(log_weights: Tensor, generator: Generator) -> Tensor:
    """Draws one index per row with probability softmax(log_weights), by inverting the distribution function.

    A candidate of weight zero (log-weight -inf) is never chosen. A row in which every weight is zero has no
    distribution: its index is arbitrary, and the caller must not use it. Log-weights (N, M), nats, give indices (N,), int64;
    (N, M, V) give those of V independent choices in each row, (N, V).

    Example:
        >>> weights = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]])
        >>> choose(weights, torch.Generator().manual_seed(0))
        tensor([0, 1])
    """
    if not isinstance(generator, torch.Generator):
        return generator.choose(log_weights)
    return choose_by(log_weights, lambda like: uniform(like, generator))


def choose_by(log_weights: Tensor, uniform_like: Callable[[Tensor], Tensor]) -> Tensor:
    """Draws as `choose` does, with uniforms from a function of a tensor with their shape and dtype."""
    weights = torch.softmax(log_weights, dim=1)  # (N, M) or (N, M, V)
    # The largest uniform is 1 - 2^-p, with p the bits of a number: its product with a total of about 1 is below the total.
    if weights.shape[1] == 2:
        first, second = weights.split(1, dim=1)
        total = first + second
        return (first <= uniform_like(total) * total).squeeze(1).to(torch.int64)
    cumulative = weights.cumsum(dim=1)
    total = cumulative[:, -1:]
    return (cumulative <= uniform_like(total) * total).sum(dim=1)  # in a row of NaN none is below: 0


def threshold_below(total: Tensor, uniforms: Tensor) -> Tensor:
    """Points uniform on [0, total), at which a cumulative sum is inverted; shapes agree.

    u * total may round up to the total; the largest number below it keeps the last candidate of positive weight.
    """
    return torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))


def accept(log_ratio: Tensor, generator: Generator) -> Tensor:
    """Accepts each row of log Metropolis-Hastings ratios (N,), nats, with probability min(1, exp); a NaN never."""
    if not isinstance(generator, torch.Generator):
        return generator.accept(log_ratio)
    return uniform(log_ratio, generator).log() < log_ratio


def shuffled(num: int, generator: Generator) -> Tensor:
    """The numbers below `num` in random order, shape (num,), int64, where the generator is."""
    return uniform(torch.empty(num, dtype=torch.float64, device=device_of(generator)), generator).argsort()


def device_of(generator: Generator) -> torch.device:
    """Where a generator draws; the CPU for any other stream, which draws anywhere."""
    return generator.device if isinstance(generator, torch.Generator) else torch.device("cpu")
