"""Exact Gibbs sampling of discrete variables, one at a time.

Legend: N chains, V discrete variables, K classes (the largest number of any variable), M columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, encoded, evaluate_candidates, where_rows
from jointebm.kernels.columns import Columns, chosen_blocks, columns_of, pick, require_same
from jointebm.kernels.kernel import Info, Kernel, anything_free
from jointebm.randomness.draws import Generator, choose
from jointebm.spaces.space import Mask, Space

__all__ = ["Gibbs", "choose_variable", "draw_candidate", "draw_variable", "with_each_class"]

MAX_ENTRIES = 2**24  # of the positions of one batch of candidates; more classes than fit take several batches


@dataclass(frozen=True)
class Gibbs(Kernel):
    """Draws a discrete variable from its exact conditional given all the others.

    y_v ~ p(y_v = k | everything else) = softmax over k of f(y_v = k, everything else)

    Adjusted by construction: leaves exp(f) of the free variables, given the clamped ones, exactly invariant. All classes
    of the variable are evaluated in one batch, without any backward pass; in several batches if their positions would hold
    more than 2^24 numbers. A random scan also satisfies detailed balance, a systematic one does not.

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
    width = sum(value[0].numel() for value in chain.position.values())
    size = max(1, MAX_ENTRIES // (len(variable) * width))  # classes of one batch
    if size >= columns.max_classes:
        candidates = with_each_class(columns, chain.position, variable)
        return draw_candidate(columns, log_density, chain, variable, movable, candidates, generator)
    chain = encoded(log_density, chain, moving=columns.blocks)
    features = None if chain.encoding is None else chain.encoding.features
    parts = []
    for classes in torch.arange(columns.max_classes, device=variable.device).split(size):
        candidates = with_classes(columns, chain.position, variable, classes.expand(len(variable), -1))
        parts.append(evaluate_candidates(log_density, chain.position, candidates, features=features))

    def at(chosen: Tensor) -> dict[str, Tensor]:
        new = with_classes(columns, chain.position, variable, chosen[:, None])
        return {name: each[:, 0] for name, each in new.items()}

    return _draw(columns, chain, variable, movable, torch.cat(parts, dim=1), at, generator)


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
    rows = torch.arange(len(f), device=f.device)

    def at(chosen: Tensor) -> dict[str, Tensor]:
        return {name: new[rows, chosen] for name, new in candidates.items()}

    return _draw(columns, chain, variable, movable, f, at, generator)


def _draw(
    columns: Columns,
    chain: Chain,
    variable: Tensor,
    movable: Tensor,
    f: Tensor,
    candidate_at: Callable[[Tensor], Mapping[str, Tensor]],
    generator: Generator,
) -> tuple[Chain, Tensor]:
    """Draws a class of each movable chain from f (N, K), and takes the candidate of that class, (N,)."""
    f = _without_absent(columns, variable, f)
    chosen = choose(f, generator)  # (N,)
    moved = {name: where_rows(movable, new, chain.position[name]) for name, new in candidate_at(chosen).items()}
    f_moved = torch.where(movable, pick(f, chosen), chain.f)
    return Chain({**chain.position, **moved}, f_moved, None, chain.encoding), f.softmax(dim=1)


def with_each_class(columns: Columns, position: Mapping[str, Tensor], variable: Tensor) -> dict[str, Tensor]:
    """The position with each class in turn in the given variable, per block (N, K, *position_shape)."""
    classes = torch.arange(columns.max_classes, device=variable.device)
    return with_classes(columns, position, variable, classes[None])


def with_classes(
    columns: Columns, position: Mapping[str, Tensor], variable: Tensor, classes: Tensor
) -> dict[str, Tensor]:
    """The position with some classes (N, J), or (1, J), in the given variable, per block (N, J, *position_shape)."""
    y = columns.join(position)[:, None]  # (N, 1, M)
    of_variable = (columns.variable == variable[:, None])[:, None]  # (N, 1, M)
    return columns.split(torch.where(of_variable, (columns.class_of_column == classes[:, :, None]).to(y.dtype), y))


def _without_absent(columns: Columns, variable: Tensor, f: Tensor) -> Tensor:
    """f (N, K) with -inf at classes that the variable does not have."""
    absent = torch.arange(f.shape[1], device=f.device) >= columns.num_classes[variable][:, None]
    return f.masked_fill(absent, -torch.inf)
