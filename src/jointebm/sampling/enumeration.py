"""Exact answers by enumeration, in bounded memory.

Legend: N rows, S configurations of the discrete blocks, M columns of the discrete positions.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels import LogDensity, evaluate_candidates
from jointebm.spaces.space import Position, Space

__all__ = [
    "Marginal",
    "enumerate_log_density",
    "evaluate_all_configurations",
    "evaluate_configurations",
    "log_partition",
    "marginalize",
]


def evaluate_configurations(log_density: LogDensity, position: Position, configurations: Position) -> Tensor:
    """Evaluates f at every row combined with every configuration; gradients flow to parameters if they are enabled.

    Args:
        log_density: f, shape (N,).
        position: N rows; blocks that `configurations` names are ignored.
        configurations: S rows of other blocks.

    Returns:
        f, shape (N, S), nats.

    Example:
        >>> rows, configurations = {"x": torch.tensor([1.0, 2.0])}, {"y": torch.tensor([0.0, 1.0, 2.0])}
        >>> evaluate_configurations(lambda position: position["x"] * position["y"], rows, configurations)
        tensor([[0., 1., 2.],
                [0., 2., 4.]])
    """
    num_rows = len(next(iter(position.values())))
    candidates = {name: value.expand(num_rows, *value.shape) for name, value in configurations.items()}
    return evaluate_candidates(log_density, position, candidates)


def evaluate_all_configurations(
    log_density: LogDensity, space: Space, position: Position
) -> tuple[Tensor, dict[str, Tensor]]:
    """Evaluates f at every row combined with every configuration of the discrete blocks of a space, at once.

    Returns f, (N, S), and the configurations. Gradients flow to parameters if they are enabled. A bfloat16 f is returned as
    float32, so that a sum over configurations is not rounded to 8 bits again.
    """
    like = next(iter(position.values()))
    configurations = space.configurations(dtype=like.dtype, device=like.device)
    f = evaluate_configurations(log_density, position, configurations)
    return (f.float() if f.dtype == torch.bfloat16 else f), configurations


def enumerate_log_density(
    log_density: LogDensity, space: Space, position: Position, *, max_evaluations: int = 65_536
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Evaluates f at every configuration of the discrete blocks of a space, for each row, piece by piece.

    Memory is bounded by `max_evaluations` rows of the network, whatever the number of configurations.

    Args:
        log_density: f, shape (N,).
        space: names the discrete blocks that are enumerated.
        position: N rows with all other blocks of the log-density.
        max_evaluations: most rows of the network in one piece; at least one configuration is evaluated at once.

    Yields:
        (configurations, f): the piece, per block (C, *position_shape), and f of shape (N, C).

    Example:
        >>> from jointebm import Binary, Space
        >>> pieces = enumerate_log_density(lambda position: position["y"].sum(dim=1), Space(y=Binary(2)),
        ...                                {"x": torch.zeros(1)})
        >>> [f.tolist() for _, f in pieces]
        [[[0.0, 1.0, 1.0, 2.0]]]
    """
    like = next(iter(position.values()))
    for configurations in _pieces(space, max(1, max_evaluations // len(like)), like.dtype, like.device):
        with torch.no_grad():
            yield configurations, evaluate_configurations(log_density, position, configurations)


class Marginal(NamedTuple):
    """f with y summed out, and the confidence of the most probable y."""

    log_density: Tensor  # log sum_y exp f(x, y), which is log p(x) + log Z, shape (N,), nats
    log_confidence: Tensor  # log max_y p(y | x), shape (N,), nats


def marginalize(
    log_density: LogDensity, space: Space, position: Position, *, max_evaluations: int = 65_536
) -> Marginal:
    """Sums the discrete blocks of a space out, exactly: log sum_y exp f(x, y) at each x.

    Args:
        log_density: f, shape (N,).
        space: names the discrete blocks that are summed out.
        position: N rows with all other blocks of the log-density.
        max_evaluations: most rows of the network in one evaluation; bounds memory.

    Returns:
        `Marginal`, without gradients to parameters.

    Raises:
        FloatingPointError: f has no finite maximum at some row.

    Example:
        >>> from jointebm import Binary, Space
        >>> marginal = marginalize(lambda position: position["x"] + 0 * position["y"], Space(y=Binary()),
        ...                        {"x": torch.tensor([0.0, 1.0])})
        >>> marginal.log_density.exp(), marginal.log_confidence.exp()
        (tensor([2.0000, 5.4366]), tensor([0.5000, 0.5000]))
    """
    rows_at_once = max(1, max_evaluations // space.num_configurations)
    num_rows = len(next(iter(position.values())))
    parts: list[Marginal] = []
    for start in range(0, num_rows, rows_at_once):
        rows = {name: value[start : start + rows_at_once] for name, value in position.items()}
        pieces = [f for _, f in enumerate_log_density(log_density, space, rows, max_evaluations=max_evaluations)]
        sums = torch.stack([f.logsumexp(dim=1) for f in pieces]).logsumexp(dim=0)
        best = torch.stack([f.amax(dim=1) for f in pieces]).amax(dim=0)
        if not bool(best.isfinite().all()):
            row = int((~best.isfinite()).nonzero()[0])
            raise FloatingPointError(
                f"log-density: its maximum over all configurations is {float(best[row])} in row {start + row}"
            )
        parts.append(Marginal(sums, best - sums))
    return Marginal(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def log_partition(
    log_density: LogDensity,
    space: Space,
    *,
    max_evaluations: int = 65_536,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """log Z of a purely discrete space, by enumeration of all its configurations.

    Args:
        log_density: f, shape (N,).
        space: blocks, all discrete.
        max_evaluations: most configurations evaluated at once.
        dtype: of the positions; None is torch's default dtype.
        device: of the positions; None is the CPU.

    Returns:
        log of the sum over all configurations of exp(f), a scalar, nats; without gradients to parameters.

    Example:
        >>> from jointebm import Binary, Space
        >>> float(log_partition(lambda position: 0 * position["y"], Space(y=Binary())).exp())
        2.0
    """
    if space.continuous:
        raise ValueError(f"log_partition: blocks {space.continuous} are continuous; log Z is an integral over them")
    with torch.no_grad():
        sums = [log_density(piece).logsumexp(dim=0) for piece in _pieces(space, max_evaluations, dtype, device)]
    return torch.stack(sums).logsumexp(dim=0)


def _pieces(
    space: Space, size: int, dtype: torch.dtype | None, device: torch.device | str | None
) -> Iterator[dict[str, Tensor]]:
    """All configurations of the discrete blocks in order, at most `size` at once."""
    total = space.num_configurations
    for start in range(0, total, size):
        yield space.configurations(start=start, stop=min(start + size, total), dtype=dtype, device=device)
