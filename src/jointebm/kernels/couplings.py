"""Which discrete variables of a log-density interact, and colours that keep interacting ones apart.

Legend: N rows, V variables, M columns.
"""

import torch
from torch import Tensor

from jointebm.kernels.chain import LogDensity
from jointebm.kernels.columns import columns_of
from jointebm.randomness.draws import Generator, uniform
from jointebm.spaces.space import Position, Space

__all__ = ["colour_apart", "find_couplings"]


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
    points = {name: uniform(value, generator) if space[name].discrete else value for name, value in position.items()}
    leaves = {name: value.detach().requires_grad_() for name, value in points.items()}
    coupled = torch.zeros(columns.num_variables, columns.num_variables, dtype=torch.bool)
    with torch.enable_grad():
        f = log_density(leaves).sum()
        if not f.requires_grad:
            return coupled
        score = _gradients(f, [leaves[name] for name in blocks], create_graph=True)
        joined = columns.join(dict(zip(blocks, score, strict=True)))
        weights = 0.5 + uniform(joined, generator)  # so that terms of several rows and classes do not cancel
        if not joined.requires_grad:
            return coupled
        for number in range(columns.num_variables):
            of_variable = ((columns.variable == number) * weights * joined).sum()
            second = _gradients(of_variable, [leaves[name] for name in blocks], create_graph=False)
            found = (columns.join(dict(zip(blocks, second, strict=True))) != 0).any(dim=0)  # (M,)
            coupled[number] = (
                torch.zeros(columns.num_variables).index_add_(0, columns.variable.cpu(), found.cpu().float()) > 0
            )
    return coupled | coupled.T


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
