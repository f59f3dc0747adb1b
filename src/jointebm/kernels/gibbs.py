"""Exact Gibbs sampling of discrete variables, one at a time.

Legend: N chains, V discrete variables, K classes (the largest number of any variable), M columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from jointebm.draws import Generator, choose
from jointebm.kernels.chain import Chain, Info, LogDensity, anything_free, evaluate_candidates
from jointebm.kernels.columns import Columns, columns_of
from jointebm.kernels.gibbs_with_gradients import chosen_blocks
from jointebm.spaces import Mask, Space

__all__ = ["Gibbs", "log_conditionals"]


@dataclass(frozen=True)
class Gibbs:
    """Draws a discrete variable from its exact conditional given all the others.

    y_v ~ p(y_v = k | everything else) = softmax over k of f(y_v = k, everything else)

    Adjusted by construction: leaves exp(f) of the free variables, given the clamped ones, exactly invariant. All classes
    of the variable are evaluated in one batch, without any backward pass. A random scan also satisfies detailed
    balance, a systematic one does not.

    Args:
        space: the space whose discrete blocks move.
        blocks: names of the discrete blocks that move; None is all of them.
        scan: "random" moves one free variable per chain and step, drawn anew for each chain; "systematic" moves every
            variable in order and costs V batches of evaluations a step.

    References:
        Geman & Geman 1984.

    Example:
        >>> from jointebm import Categorical, Space, kernels
        >>> space = Space(y=Categorical(3))
        >>> def log_density(position): return 50 * position["y"][:, 1]
        >>> chain = kernels.evaluate(log_density, {"y": torch.eye(3)}, with_score=False)
        >>> chain, _ = Gibbs(space).step(
        ...     log_density, chain, free={"y": torch.tensor(True)}, generator=torch.Generator()
        ... )
        >>> space.decode(chain.position)["y"].tolist()
        [1, 1, 1]
    """

    space: Space
    blocks: tuple[str, ...] | None = None
    scan: Literal["random", "systematic"] = "random"

    uses_score = False

    def __post_init__(self) -> None:
        if self.scan not in ("random", "systematic"):
            raise ValueError(f"Gibbs: scan must be 'random' or 'systematic', got {self.scan!r}")
        object.__setattr__(self, "blocks", chosen_blocks(self, self.space, self.blocks))

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Draws one variable per chain (random scan) or every variable in turn (systematic scan)."""
        blocks = tuple(name for name in self.blocks or () if anything_free(free, name))
        moved = torch.zeros_like(chain.f, dtype=torch.bool)
        if blocks:
            columns = columns_of(self.space, blocks, chain.f.device)
            free_variables = columns.join_free(free, len(chain.f))  # (N, V)
            if self.scan == "random":
                movable = free_variables.any(dim=1)
                log_weights = torch.where(free_variables | ~movable[:, None], 0.0, -torch.inf)
                variable = choose(log_weights.to(chain.f.dtype), generator)
                chain, moved = _draw_variable(columns, log_density, chain, variable, movable, generator), movable
            else:
                for index in range(len(columns.first)):
                    variable = torch.full_like(chain.f, index, dtype=torch.int64)
                    chain = _draw_variable(columns, log_density, chain, variable, free_variables[:, index], generator)
                moved = free_variables.any(dim=1)
        return chain, Info(moved.to(chain.f.dtype), moved)


def log_conditionals(log_density: LogDensity, chain: Chain, space: Space, block: str, variable: int) -> Tensor:
    """Log of the exact conditional of one discrete variable given all else, at each chain.

    Args:
        log_density: f, shape (N,).
        chain: N chains.
        space: their space.
        block: name of a discrete block.
        variable: number of the variable within the block.

    Returns:
        Normalised log-probabilities, shape (N, K), nats.

    Example:
        >>> from jointebm import Categorical, Space, kernels
        >>> def log_density(position): return position["y"] @ torch.tensor([1.0, 2.0]).log()
        >>> chain = kernels.evaluate(log_density, {"y": torch.eye(2)}, with_score=False)
        >>> log_conditionals(log_density, chain, Space(y=Categorical(2)), "y", 0).exp()
        tensor([[0.3333, 0.6667],
                [0.3333, 0.6667]])
    """
    columns = columns_of(space, (block,), chain.f.device)
    index = torch.full_like(chain.f, variable, dtype=torch.int64)
    candidates = _candidates(columns, chain.position, index, int(columns.num_classes[variable]))
    return evaluate_candidates(log_density, chain, candidates).log_softmax(dim=1)


def _draw_variable(
    columns: Columns, log_density: LogDensity, chain: Chain, variable: Tensor, movable: Tensor, generator: Generator
) -> Chain:
    """Draws variable number `variable` (N,) of each movable chain from its conditional."""
    num_classes = max(block_classes for name in columns.blocks for block_classes in _counts(columns, name))
    candidates = _candidates(columns, chain.position, variable, num_classes)
    f = evaluate_candidates(log_density, chain, candidates)  # (N, K)
    absent = torch.arange(num_classes, device=f.device) >= columns.num_classes[variable][:, None]
    chosen = choose(f.masked_fill(absent, -torch.inf), generator)  # (N,)
    rows = torch.arange(len(f), device=f.device)
    position = {
        name: torch.where(movable.reshape(-1, *[1] * (old.ndim - 1)), candidates[name][rows, chosen], old)
        for name, old in chain.position.items()
        if name in candidates
    }
    return Chain({**chain.position, **position}, torch.where(movable, f[rows, chosen], chain.f), None, chain.encoding)


def _candidates(
    columns: Columns, position: Mapping[str, Tensor], variable: Tensor, num_classes: int
) -> dict[str, Tensor]:
    """The position with each class in turn in the given variable, per block (N, K, *position_shape)."""
    y = columns.join(position)[:, None]  # (N, 1, M)
    of_variable = (columns.variable == variable[:, None])[:, None]  # (N, 1, M)
    classes = torch.arange(num_classes, device=y.device)[None, :, None]  # (1, K, 1)
    class_of_column = torch.arange(y.shape[-1], device=y.device) - columns.first[columns.variable]
    class_of_column = torch.where(columns.is_binary, 1, class_of_column)
    return columns.split(torch.where(of_variable, (class_of_column == classes).to(y.dtype), y))


def _counts(columns: Columns, name: str) -> tuple[int, ...]:
    return columns.space[name].num_classes_per_variable  # type: ignore[union-attr]
