"""A log-density tabulated over all configurations at fixed x."""

from typing import Any

import torch
from torch import Tensor

from jointebm.kernels import LogDensity, evaluate
from jointebm.kernels.columns import columns_of
from jointebm.spaces.space import Position, Space

__all__ = ["Tabulated"]


class Tabulated:
    """A log-density of discrete blocks only, with f and its score looked up instead of evaluated.

    While x is clamped and y has few configurations, f(x, y) and score_y(x, y) are tabulated once per row; further steps are
    then free. Kernels run on it unchanged, and chains are those of the log-density up to rounding. Chains are ordered by
    row: the first N-th part belongs to the first row, and so on.

    Args:
        log_density: f, shape (N,).
        space: names the discrete blocks that are tabulated.
        position: N rows with all other blocks of the log-density.

    Example:
        >>> from jointebm import Binary, Space, kernels
        >>> table = Tabulated(lambda position: position["x"] * position["y"], Space(y=Binary()),
        ...                   {"x": torch.tensor([2.0, 3.0])})
        >>> chain = kernels.evaluate(table, {"y": torch.tensor([1.0, 0.0])})
        >>> chain.f, chain.score["y"]
        (tensor([2., 0.]), tensor([2., 3.]))
    """

    def __init__(self, log_density: LogDensity, space: Space, position: Position) -> None:
        like = next(iter(position.values()))
        self._columns = columns_of(space, space.discrete, like.device)
        configurations = space.configurations(dtype=like.dtype, device=like.device)
        num_rows, num_configurations = len(like), space.num_configurations
        f, scores, previous = [], [], None
        for index in range(num_configurations):
            y = {name: value[index].expand(num_rows, *value.shape[1:]) for name, value in configurations.items()}
            previous = evaluate(log_density, {**position, **y}, previous=previous)
            assert previous.score is not None
            f.append(previous.f)
            scores.append(self._columns.join(previous.score))
        self._f = torch.stack(f, dim=1)  # (N, S)
        self._score = torch.stack(scores, dim=1)  # (N, S, M)
        # Increment of a configuration's number by a 1 in each column, (M,); below 2^24 exact in single precision.
        counts = self._columns.num_classes
        later = counts.flip(0).cumprod(0).flip(0) // counts  # configurations of all later variables
        self._place_values = (self._columns.class_of_column * later[self._columns.variable]).to(torch.float32)

    def __call__(self, position: Position) -> Tensor:
        """f of each chain; its gradient is the score in the table."""
        y = self._columns.join(position)
        # As `Space.configuration_index`, by one product.
        index = (y.detach().to(self._place_values.dtype) @ self._place_values).long()
        # Candidates of one chain (`evaluate_candidates`) are adjacent, so they stay in their row's part.
        rows = torch.arange(len(index), device=index.device) // (len(index) // len(self._f))
        result: Tensor = _LookUp.apply(y, self._f[rows, index], self._score[rows, index])
        return result


class _LookUp(torch.autograd.Function):
    """Returns a given f, and in the backward pass a given score."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, f: Tensor, score: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(score)
        return f.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (score,) = ctx.saved_tensors
        return gradients[0][:, None] * score, None, None
