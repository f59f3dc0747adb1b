"""Exact Gibbs sampling of discrete variables, one at a time.

Legend: N chains, V discrete variables, K classes (the largest number of any variable), M columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, encoded, evaluate_candidates, where_rows
from jointebm.kernels.columns import Columns, chosen_blocks, columns_of, require_same
from jointebm.kernels.kernel import Info, Kernel, anything_free
from jointebm.randomness.draws import Generator, choose
from jointebm.spaces.space import Mask, Space

__all__ = ["Gibbs", "choose_variable", "draw_candidate", "draw_variable", "with_each_class"]


@dataclass(frozen=True)
class Gibbs(Kernel):
    """Draws a discrete variable from its exact conditional given all the others.

    y_v ~ p(y_v = k | everything else) = softmax over k of f(y_v = k, everything else)

    Adjusted by construction: leaves exp(f) of the free variables, given the clamped ones, exactly invariant. All classes
    of the variable are evaluated in one batch, without any backward pass. A random scan also satisfies detailed
    balance, a systematic one does not.

    Args:
        space: the space whose discrete blocks move.
        blocks: names of the discrete blocks that move; None is all of them.
        scan: "random" moves one free variable per chain and step, drawn for each chain; "systematic" moves every
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
    adjusted = True

    def __post_init__(self) -> None:
        if self.scan not in ("random", "systematic"):
            raise ValueError(f"Gibbs: scan must be 'random' or 'systematic', got {self.scan!r}")
        object.__setattr__(self, "blocks", chosen_blocks(self, self.space, self.blocks))

    def require(self, space: Space) -> None:
        """Raises ValueError unless the space has the blocks that move, as the kernel was made for."""
        require_same(self, self.space, self.blocks or (), space)

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Draws one variable per chain (random scan) or every variable in turn (systematic scan)."""
        blocks = tuple(name for name in self.blocks or () if anything_free(chain, free, name))
        moved = torch.zeros_like(chain.f, dtype=torch.bool)
        undefined = moved  # chains whose conditional has a NaN
        if blocks:
            columns = columns_of(self.space, blocks, chain.f.device)
            free_variables = columns.join_free(free, len(chain.f))  # (N, V)
            if self.scan == "random":
                variable, movable = choose_variable(free_variables, generator, like=chain.f)
                chain, probs = draw_variable(columns, log_density, chain, variable, movable, generator)
                moved, undefined = movable, movable & probs.isnan().any(dim=1)
            else:
                for index, movable in enumerate(free_variables.unbind(dim=1)):
                    variable = torch.full_like(chain.f, index, dtype=torch.int64)
                    chain, probs = draw_variable(columns, log_density, chain, variable, movable, generator)
                    moved, undefined = moved | movable, undefined | (movable & probs.isnan().any(dim=1))
        return chain, Info(torch.where(undefined, torch.nan, moved.to(chain.f.dtype)), moved)


def choose_variable(free_variables: Tensor, generator: Generator, *, like: Tensor) -> tuple[Tensor, Tensor]:
    """Chooses one of the free variables (N, V) of each chain uniformly; any variable where none is free.

    Returns the variable, (N,), int64, and which chains have a free one, (N,), bool. The draw has the dtype of `like`.
    """
    movable = free_variables.any(dim=1)
    log_weights = torch.where(free_variables | ~movable[:, None], 0.0, -torch.inf)
    return choose(log_weights.to(like.dtype), generator), movable


@torch.no_grad()
def draw_variable(
    columns: Columns, log_density: LogDensity, chain: Chain, variable: Tensor, movable: Tensor, generator: Generator
) -> tuple[Chain, Tensor]:
    """Draws one discrete variable (N,) of each movable chain (N,) from its exact conditional.

    Returns the chains, and the probability of each class, (N, K), 0 for classes that a variable does not have. Where f is
    NaN or +inf at some class, probabilities are NaN and the draw is arbitrary.
    """
    candidates = with_each_class(columns, chain.position, variable)
    return draw_candidate(columns, log_density, chain, variable, movable, candidates, generator)


def draw_candidate(
    columns: Columns,
    log_density: LogDensity,
    chain: Chain,
    variable: Tensor,
    movable: Tensor,
    candidates: Mapping[str, Tensor],
    generator: Generator,
) -> tuple[Chain, Tensor]:
    """Draws one of the candidates, one per class of a variable (N,), of each movable chain (N,) in proportion to exp(f).

    `candidates` holds the blocks that differ, each (N, K, *position_shape). Returns what `draw_variable` returns.
    """
    chain = encoded(log_density, chain, moving=candidates)
    features = None if chain.encoding is None else chain.encoding.features
    f = evaluate_candidates(log_density, chain.position, candidates, features=features)  # (N, K)
    absent = torch.arange(f.shape[1], device=f.device) >= columns.num_classes[variable][:, None]
    f = f.masked_fill(absent, -torch.inf)
    chosen = choose(f, generator)  # (N,)
    rows = torch.arange(len(f), device=f.device)
    moved = {name: where_rows(movable, new[rows, chosen], chain.position[name]) for name, new in candidates.items()}
    f_moved = torch.where(movable, f[rows, chosen], chain.f)
    return Chain({**chain.position, **moved}, f_moved, None, chain.encoding), f.softmax(dim=1)


def with_each_class(columns: Columns, position: Mapping[str, Tensor], variable: Tensor) -> dict[str, Tensor]:
    """The position with each class in turn in the given variable, per block (N, K, *position_shape)."""
    y = columns.join(position)[:, None]  # (N, 1, M)
    of_variable = (columns.variable == variable[:, None])[:, None]  # (N, 1, M)
    classes = torch.arange(columns.max_classes, device=y.device)[None, :, None]  # (1, K, 1)
    return columns.split(torch.where(of_variable, (columns.class_of_column == classes).to(y.dtype), y))
