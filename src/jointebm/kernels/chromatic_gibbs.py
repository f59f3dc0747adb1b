"""Gibbs sampling of many discrete variables at once, colour by colour.

Legend: N chains, V variables of one colour, K classes (the largest number of any variable), M columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, evaluate, scored
from jointebm.kernels.columns import Columns, chosen_blocks, columns_of, pick, require_same
from jointebm.kernels.kernel import Info, Kernel, anything_free, metropolis
from jointebm.randomness.draws import Generator, choose
from jointebm.spaces.space import Mask, Space

__all__ = ["ChromaticGibbs"]


@dataclass(frozen=True, eq=False)
class ChromaticGibbs(Kernel):
    """Draws all variables of one colour together, each from the conditional that the score implies; colour by colour.

    q(y'|y) = product over the free variables v of the colour of softmax over k of score_vk(y), at k = y'_v
    accept_prob = min(1, exp(f(y') - f(y)) q(y|y') / q(y'|y))

    If f is linear in the one-hot (or the bit) of each variable given all others, and no two variables of one colour occur
    in one term of f, then q is their exact conditional, every proposal is accepted, and a step is a sweep of Gibbs
    sampling for one evaluation per colour: 2 for nearest neighbours on a grid, coloured like a chessboard.

    Adjusted: leaves exp(f) of the free variables, given everything else, exactly invariant for any f and any colours.
    Acceptance is *not* guaranteed: where many variables of one colour interact, nearly all proposals are rejected. If
    `accept_prob` is not 1 up to rounding, the colours do not fit f. The update of one colour satisfies detailed balance, a
    step does not.

    Args:
        space: the space whose discrete blocks move.
        colours: per block that moves, the number of each variable's colour, shape (*variable_shape), whole numbers;
            colours are common to all blocks, and drawn in the order of their numbers.

    Raises:
        ValueError: there is no block, a block is not discrete, or colours are not whole numbers of the block's shape.

    References:
        Gonzalez et al. 2011, Parallel Gibbs sampling: from colored fields to thin junction trees (the chromatic sampler).
        Zhang et al. 2022 (proposals of many variables by the score, corrected).

    Example:
        >>> from jointebm import Binary, Space, kernels
        >>> space = Space(spins=Binary((4, 4)))
        >>> def log_density(position):
        ...     y = position["spins"]
        ...     return 50 * (y[:, :, 1:] * (1 - y[:, :, :-1])).sum(dim=(1, 2))  # off, on, off, on
        >>> stripes = torch.arange(4).expand(4, 4) % 2
        >>> chain = kernels.evaluate(log_density, {"spins": torch.zeros(1, 4, 4)})
        >>> kernel, generator = ChromaticGibbs(space, {"spins": stripes}), torch.Generator().manual_seed(0)
        >>> for _ in range(3):
        ...     chain, info = kernel.step(log_density, chain, free={"spins": torch.tensor(True)}, generator=generator)
        >>> chain.position["spins"][0, 0].tolist(), info.accept_prob.tolist()
        ([0.0, 1.0, 0.0, 1.0], [1.0])
    """

    space: Space
    colours: Mapping[str, Tensor]

    uses_score = True
    adjusted = True

    def __post_init__(self) -> None:
        chosen_blocks(self, self.space, tuple(self.colours))
        for name, numbers in self.colours.items():
            shape = self.space[name].variable_shape
            if numbers.shape != shape or numbers.is_floating_point() or numbers.is_complex():
                raise ValueError(
                    f"ChromaticGibbs: colours of block {name!r}: got {numbers.dtype} of shape {tuple(numbers.shape)}, "
                    f"expected whole numbers of shape {shape}, one for each variable"
                )

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks that move, in the order of the space."""
        return tuple(name for name in self.space if name in self.colours)

    def require(self, space: Space) -> None:
        """Raises ValueError unless the space has the blocks that move, as the kernel was made for."""
        require_same(self, self.space, self.blocks, space)

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Moves each chain by every colour once; costs one evaluation for each colour that is not clamped in all chains.

        `accept_prob` is the mean over the colours of which a chain has free variables, and a chain is `accepted` if any is.
        """
        blocks = tuple(name for name in self.blocks if anything_free(chain, free, name))
        total, tried = torch.zeros_like(chain.f), torch.zeros_like(chain.f)
        any_accepted = torch.zeros_like(chain.f, dtype=torch.bool)
        if blocks:
            columns = columns_of(self.space, blocks, chain.f.device)
            free_variables = columns.join_free(free, len(chain.f))  # of all colours
            colours = torch.cat([self.colours[name].flatten() for name in blocks]).to(chain.f.device)
            chain = scored(log_density, chain, self)
            for colour in colours.unique():  # ascending
                some = Variables.of(columns, colours == colour)
                movable = free_variables[:, some.number]  # (N, V)
                if movable.device.type == "cpu" and not bool(movable.any()):  # as in `anything_free`
                    continue
                chain, info = _draw(columns, some, log_density, chain, movable, generator)
                total, tried = total + info.accept_prob, tried + movable.any(dim=1)
                any_accepted = any_accepted | info.accepted
        return chain, Info(total / tried.clamp(min=1), any_accepted)


class Variables(NamedTuple):
    """Some of the variables of the columns, as a table of classes."""

    number: Tensor  # which variables, (V,), int64
    column: Tensor  # their columns, (C,), int64
    place: Tensor  # of each of these columns, the place of its variable among `number`, (C,), int64
    label: Tensor  # of each of these columns, its class, (C,), int64
    is_binary: Tensor  # which variables are binary, (V,), bool

    @staticmethod
    def of(columns: Columns, chosen: Tensor) -> "Variables":
        """The variables of a mask over all of them."""
        number, column = chosen.nonzero().flatten(), chosen[columns.variable].nonzero().flatten()
        place = (chosen.cumsum(dim=0) - 1)[columns.variable[column]]
        is_binary = torch.zeros_like(number, dtype=torch.bool)
        is_binary[place] = columns.is_binary[column]
        return Variables(number, column, place, columns.class_of_column[column], is_binary)

    def log_probs(self, score: Tensor, num_classes: int) -> Tensor:
        """Log-probabilities that the score (N, M) implies, (N, K, V); -inf for classes that a variable does not have."""
        table = score.new_full((len(score), num_classes, len(self.number)), -torch.inf)
        table[:, 0, self.is_binary] = 0  # a bit has one column: the gain of being 1
        table[:, self.label, self.place] = score[:, self.column]
        return table.log_softmax(dim=1)

    def labels(self, y: Tensor) -> Tensor:
        """The labels in columns (N, M), shape (N, V), int64."""
        on = (y[:, self.column] > 0.5) * self.label
        return torch.zeros(len(y), len(self.number), dtype=torch.int64, device=y.device).index_add_(1, self.place, on)

    def write(self, y: Tensor, labels: Tensor) -> Tensor:
        """Columns (N, M) with labels replaced by (N, V)."""
        return y.index_copy(1, self.column, (labels[:, self.place] == self.label).to(y.dtype))


def _draw(
    columns: Columns, some: Variables, log_density: LogDensity, chain: Chain, movable: Tensor, generator: Generator
) -> tuple[Chain, Info]:
    """Draws variables where they are movable (N, V), and accepts or rejects them together."""
    assert chain.score is not None
    y = columns.join(chain.position)  # (N, M)
    before = some.labels(y)
    log_q = some.log_probs(columns.join(chain.score), columns.max_classes)  # (N, K, V)
    after = torch.where(movable, choose(log_q, generator), before)
    moved = columns.split(some.write(y, after))
    proposal = evaluate(log_density, {**chain.position, **moved}, previous=chain)
    assert proposal.score is not None
    log_q_reverse = some.log_probs(columns.join(proposal.score), columns.max_classes)

    gained = torch.where(movable, pick(log_q_reverse, before) - pick(log_q, after), 0).sum(dim=1)
    log_ratio = proposal.f - chain.f + gained
    info = metropolis(log_ratio, movable.any(dim=1), generator)
    return proposal.where(info.accepted, chain), info
