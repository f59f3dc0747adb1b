"""Which discrete variables of a log-density interact, and colours that keep interacting ones apart.

Legend: N rows, V variables, M columns.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels.chain import LogDensity
from jointebm.kernels.columns import Columns, columns_of
from jointebm.randomness.draws import Generator, uniform
from jointebm.spaces.space import Position, Space

__all__ = ["colour_apart", "constant_couplings", "find_couplings"]

CURVATURE_ROUNDING = 128  # times the spacing of numbers next to the largest second derivative, which counts as equal


def find_couplings(
    log_density: LogDensity, space: Space, blocks: tuple[str, ...], position: Position, *, generator: Generator
) -> Tensor:
    """Finds which discrete variables meet in a term of f, by second derivatives at random points of the cube.

    coupled_vw: whether d^2 f / dy_v dy_w is not zero at any row; on the diagonal, whether f is not linear in y_v alone

    Costs one forward and V backward passes. For f that is a polynomial or analytic in y the answer is right with
    probability 1. Not guaranteed otherwise: terms that are flat at all random points, such as those of ReLU networks with
    few rows, are missed.

    Args:
        log_density: f, twice differentiable in y.
        space: the blocks.
        blocks: discrete blocks, whose variables are counted side by side.
        position: rows for all blocks; discrete blocks are replaced by uniforms on [0, 1).
        generator: source of the points.

    Returns:
        Bool matrix, shape (V, V), symmetric.

    Example:
        >>> from jointebm import Binary
        >>> space = Space(bits=Binary(3))
        >>> def log_density(position): return position["bits"][:, 0] * position["bits"][:, 2]
        >>> find_couplings(
        ...     log_density, space, ("bits",), {"bits": torch.zeros(4, 3)}, generator=torch.Generator()
        ... ).int()
        tensor([[0, 0, 1],
                [0, 0, 0],
                [1, 0, 0]], dtype=torch.int32)
    """
    columns = columns_of(space, blocks, next(iter(position.values())).device)
    coupled = torch.zeros(columns.num_variables, columns.num_variables, dtype=torch.bool)
    scores = _Scores.at_random(log_density, columns, position, generator)
    if scores is None:
        return coupled
    weights = 0.5 + uniform(scores.joined, generator)  # so that terms of several rows and classes do not cancel
    for number in range(columns.num_variables):
        found = (scores.derivatives((columns.variable == number) * weights) != 0).any(dim=0)  # (M,)
        coupled[number] = (
            torch.zeros(columns.num_variables).index_add_(0, columns.variable.cpu(), found.cpu().float()) > 0
        )
    return coupled | coupled.T


def constant_couplings(
    log_density: LogDensity, space: Space, blocks: tuple[str, ...], position: Position, *, generator: Generator
) -> Tensor | None:
    """Finds the second derivatives of f in the columns of discrete blocks, if they are the same wherever f is looked at.

    f = a + b(other blocks) y + y C y / 2, with C_ij = d^2 f / dy_i dy_j: labels interact in pairs, by constants

    Costs one forward and M backward passes. Not guaranteed: second derivatives that differ by less than rounding, 128 times
    the spacing of numbers next to the largest, count as equal; and f that is quadratic at all points that are looked at.

    Args:
        log_density: f, twice differentiable in y.
        space: the blocks.
        blocks: discrete blocks, whose columns are side by side.
        position: at least two rows for all blocks; discrete blocks are replaced by uniforms on [0, 1).
        generator: source of the points.

    Returns:
        C, shape (M, M), symmetric; None if second derivatives differ between points, or there is one row only.

    Example:
        >>> from jointebm import Binary
        >>> space = Space(bits=Binary(3))
        >>> def log_density(position): return 0.5 * position["bits"][:, 0] * position["bits"][:, 2]
        >>> constant_couplings(
        ...     log_density, space, ("bits",), {"bits": torch.zeros(4, 3)}, generator=torch.Generator()
        ... )
        tensor([[0.0000, 0.0000, 0.5000],
                [0.0000, 0.0000, 0.0000],
                [0.5000, 0.0000, 0.0000]])
    """
    like = next(iter(position.values()))
    if len(like) < 2:
        return None
    columns = columns_of(space, blocks, like.device)
    num = len(columns.variable)
    scores = _Scores.at_random(log_density, columns, position, generator)
    if scores is None:
        return torch.zeros(num, num, dtype=position[blocks[0]].dtype, device=like.device)
    found, spread = [], []
    for number in range(num):
        each = scores.derivatives((torch.arange(num, device=like.device) == number).to(scores.joined.dtype))  # (N, M)
        found.append(each.mean(dim=0))
        spread.append((each - found[-1]).abs().amax())
    matrix = torch.stack(found)
    matrix = (matrix + matrix.T) / 2
    allowed = CURVATURE_ROUNDING * torch.finfo(matrix.dtype).eps * matrix.abs().amax()
    return matrix if bool(torch.stack(spread).amax() <= allowed) else None


class _Scores(NamedTuple):
    """The score of discrete blocks at random points, to be differentiated once more."""

    columns: Columns
    leaves: list[Tensor]
    joined: Tensor  # (N, M)

    @staticmethod
    def at_random(
        log_density: LogDensity, columns: Columns, position: Position, generator: Generator
    ) -> "_Scores | None":
        """At uniforms on [0, 1) for all discrete blocks; None if f has no second derivatives in the blocks."""
        discrete = columns.space.discrete
        points = {name: uniform(value, generator) if name in discrete else value for name, value in position.items()}
        leaves = {name: value.detach().requires_grad_() for name, value in points.items()}
        with torch.enable_grad():
            f = log_density(leaves).sum()
            if not f.requires_grad:
                return None
            own = [leaves[name] for name in columns.blocks]
            score = _gradients(f, own, create_graph=True)
            joined = columns.join(dict(zip(columns.blocks, score, strict=True)))
        return _Scores(columns, own, joined) if joined.requires_grad else None

    def derivatives(self, weights: Tensor) -> Tensor:
        """Gradient of the weighted sum of the score, (N, M), in the columns of its row."""
        with torch.enable_grad():
            second = _gradients((weights * self.joined).sum(), self.leaves, create_graph=False)
        return self.columns.join(dict(zip(self.columns.blocks, second, strict=True)))


def colour_apart(coupled: Tensor) -> Tensor:
    """Colours of variables (V,), int64, such that coupled ones (V, V) differ: the most constrained first.

    Two colours wherever two suffice, as for chessboards and restricted Boltzmann machines; no bound elsewhere.

    References:
        Brelaz 1979 (DSATUR).

    Example:
        >>> ring = torch.eye(6).roll(1, dims=0).bool()
        >>> colour_apart(ring | ring.T).tolist()
        [0, 1, 0, 1, 0, 1]
    """
    num = len(coupled)
    neighbours = [set(row.nonzero().flatten().tolist()) - {number} for number, row in enumerate(coupled)]
    colours, seen = [-1] * num, [set[int]() for _ in range(num)]
    waiting = set(range(num))
    while waiting:
        number = max(waiting, key=lambda each: (len(seen[each]), len(neighbours[each]), -each))
        waiting.remove(number)
        colours[number] = next(colour for colour in range(num) if colour not in seen[number])
        for other in neighbours[number]:
            seen[other].add(colours[number])
    return torch.tensor(colours, dtype=torch.int64)


def _gradients(output: Tensor, leaves: list[Tensor], *, create_graph: bool) -> list[Tensor]:
    found = torch.autograd.grad(output, leaves, create_graph=create_graph, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(leaf) if each is None else each for leaf, each in zip(leaves, found, strict=True)]
