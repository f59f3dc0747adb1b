"""Gibbs sampling of many discrete variables at once, colour by colour.

Legend: N chains, V variables of one colour, K classes (the largest number of any variable), M columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, Score, evaluate, scored
from jointebm.kernels.class_table import ClassTable
from jointebm.kernels.columns import Columns, chosen_blocks, columns_of, pick, require_same
from jointebm.kernels.couplings import colour_apart, find_couplings
from jointebm.kernels.kernel import Info, Kernel, anything_free, metropolis
from jointebm.kernels.pairwise_sums import PairwiseSums, Pull
from jointebm.randomness.draws import Generator, choose
from jointebm.randomness.waiting import may_read
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["ChromaticGibbs", "draw_together"]


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

    `ChromaticGibbs.verified` finds colours from f itself and then leaves the correction out. With two colours, one per
    layer, this is block Gibbs sampling of a restricted Boltzmann machine.

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
    verified_for: LogDensity | None = field(default=None, init=False)
    sums: PairwiseSums | None = field(default=None, init=False)

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

    @staticmethod
    def verified(
        space: Space,
        log_density: LogDensity,
        position: Position,
        *,
        colours: Mapping[str, Tensor] | None = None,
        blocks: tuple[str, ...] | None = None,
        generator: Generator,
    ) -> "ChromaticGibbs":
        """Finds colours for a log-density, or checks given ones, and makes the kernel that draws without correction.

        No two variables of one colour meet in a term of f, and f is linear in each, as `find_couplings` sees it at random
        points of the cube: then each draw is exact and none is rejected. The correction is left out for this very
        log-density only; for any other, and for a copy, the kernel corrects as usual. Change no parameter of f afterwards.

        If all blocks are discrete and move, and labels interact in pairs alone, then f is known in full (`PairwiseSums`):
        f and its score are sums over pairs, equal to what f returns up to rounding, and a step evaluates nothing.

        Args:
            space: the blocks.
            log_density: f, twice differentiable in the discrete blocks.
            position: rows at which f is looked at; some are enough. Discrete blocks are replaced by random points.
            colours: as for the kernel; None finds them.
            blocks: that move if colours are None; None is all discrete blocks.
            generator: source of the random points.

        Raises:
            ValueError: two variables of one colour interact, or f is not linear in one.

        Example:
            >>> from jointebm import Binary, kernels
            >>> from jointebm.energies import IsingEnergy
            >>> space, generator = Space(spins=Binary((4, 6))), torch.Generator().manual_seed(0)
            >>> energy = IsingEnergy(space, coupling=0.4)
            >>> kernel = ChromaticGibbs.verified(space, energy, {"spins": torch.zeros(3, 4, 6)}, generator=generator)
            >>> kernel.colours["spins"][:2].tolist()
            [[0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0]]
        """
        names = chosen_blocks(ChromaticGibbs, space, tuple(colours) if colours is not None else blocks)
        names = tuple(name for name in space if name in names)
        coupled = find_couplings(log_density, space, names, position, generator=generator)
        variables = [name for name in names for _ in range(space[name].num_variables)]
        if bool(coupled.diagonal().any()):
            number = int(coupled.diagonal().nonzero()[0])
            raise ValueError(
                f"ChromaticGibbs: f is not linear in variable {number - variables.index(variables[number])} of block "
                f"{variables[number]!r}, so that its score does not give its conditional; use ChromaticGibbs(space, "
                "colours), which corrects, or Gibbs"
            )
        if colours is None:
            widths = [space[name].num_variables for name in names]
            found = colour_apart(coupled).split(widths)
            pairs = zip(names, found, strict=True)
            colours = {name: each.reshape(space[name].variable_shape) for name, each in pairs}
        kernel = ChromaticGibbs(space, colours)
        number_of = torch.cat([colours[name].flatten() for name in names])
        clash = coupled & (number_of[:, None] == number_of)
        if bool(clash.any()):
            one, other = clash.nonzero()[0].tolist()
            raise ValueError(
                f"ChromaticGibbs: variables {one} and {other}, counted over {', '.join(names)}, interact and have one "
                f"colour, {int(number_of[one])}; pass colours=None to find colours"
            )
        object.__setattr__(kernel, "verified_for", log_density)
        if set(names) == set(space):
            object.__setattr__(kernel, "sums", PairwiseSums.found(log_density, space, position, generator=generator))
        return kernel

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Moves each chain by every colour once; costs one evaluation for each colour that is not clamped in all chains.

        Where f is known in full (`verified`), it costs none.

        `accept_prob` is the mean over the colours of which a chain has free variables, and a chain is `accepted` if any is.
        """
        blocks = tuple(name for name in self.blocks if anything_free(chain, free, name))
        total, tried = torch.zeros_like(chain.f), torch.zeros_like(chain.f)
        any_accepted = torch.zeros_like(chain.f, dtype=torch.bool)
        if blocks:
            columns = columns_of(self.space, blocks, chain.f.device)
            free_variables = columns.join_free(free, len(chain.f))  # of all colours
            chain = scored(log_density, chain, self)
            if self.sums is not None and log_density is self.verified_for and blocks == self.blocks:
                return _sweep(self, columns, chain, free_variables, generator)
            for table in _tables(self, blocks, chain.f.device, exact=log_density is self.verified_for):
                movable = table.movable(free_variables)  # (N, V)
                if may_read(movable) and not bool(movable.any()):
                    continue
                if log_density is self.verified_for:
                    chain, info = _draw_exactly(columns, table, log_density, chain, movable, generator)
                else:
                    chain, info = draw_together(columns, table, _implied, log_density, chain, movable, generator)
                total, tried = total + info.accept_prob, tried + movable.any(dim=1)
                any_accepted = any_accepted | info.accepted
        return chain, Info(total / tried.clamp(min=1), any_accepted)


@lru_cache(maxsize=64)
def _tables(
    kernel: ChromaticGibbs, blocks: tuple[str, ...], device: torch.device, *, exact: bool
) -> tuple[ClassTable, ...]:
    """One table per colour, in the order of their numbers, made once per kernel."""
    columns = columns_of(kernel.space, blocks, torch.device("cpu"))
    colours = torch.cat([kernel.colours[name].flatten() for name in blocks]).cpu()
    make = ClassTable.without_gathers if exact else ClassTable.of
    return tuple(make(columns, colours == colour).to(device) for colour in colours.unique())


def _implied(table: ClassTable, score: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG001
    """Log-probabilities of classes (N, K, V) that the score (N, M) implies, whatever the labels are."""
    return table.spread(score).log_softmax(dim=1)


def draw_together(
    columns: Columns,
    table: ClassTable,
    proposal_of: Callable[[ClassTable, Tensor, Tensor], Tensor],
    log_density: LogDensity,
    chain: Chain,
    movable: Tensor,
    generator: Generator,
) -> tuple[Chain, Info]:
    """Proposes variables independently where they are movable (N, V), and accepts or rejects them together.

    `proposal_of` gives log-probabilities (N, K, V) from the table, the score (N, M) and the present labels (N, V).
    """
    assert chain.score is not None
    y = columns.join(chain.position)  # (N, M)
    before = table.labels(y)
    log_q = proposal_of(table, columns.join(chain.score), before)  # (N, K, V)
    after = torch.where(movable, choose(log_q, generator), before)
    moved = columns.split(table.write(y, after, movable))
    proposal = evaluate(log_density, {**chain.position, **moved}, previous=chain)
    assert proposal.score is not None
    log_q_reverse = proposal_of(table, columns.join(proposal.score), after)

    gained = torch.where(movable, pick(log_q_reverse, before) - pick(log_q, after), 0).sum(dim=1)
    log_ratio = proposal.f - chain.f + gained
    info = metropolis(log_ratio, movable.any(dim=1), generator)
    return proposal.where(info.accepted, chain), info


def _draw_exactly(
    columns: Columns, table: ClassTable, log_density: LogDensity, chain: Chain, movable: Tensor, generator: Generator
) -> tuple[Chain, Info]:
    """Draws variables of which no two interact from their conditionals, where they are movable (N, V)."""
    assert chain.score is not None
    drawn = choose(table.choices(columns.join(chain.score), movable), generator)
    moved = columns.split(table.write(columns.join(chain.position), drawn, movable))
    chain = evaluate(log_density, {**chain.position, **moved}, previous=chain)
    accepted = movable.any(dim=1)
    return chain, Info(accepted.to(chain.f.dtype), accepted)


def _sweep(
    kernel: ChromaticGibbs, columns: Columns, chain: Chain, unclamped: Tensor, generator: Generator
) -> tuple[Chain, Info]:
    """Draws all colours of a log-density that is known in full; free variables are (N, V) of all."""
    assert chain.score is not None
    known = _known(kernel, chain.f.device, chain.f.dtype)
    y = known.sorted(columns.join(chain.position))
    own = y  # the score of the columns of a colour
    for table, pull, first, end in known.colours:
        movable, own = table.movable(unclamped), pull.score(y)
        drawn = table.write(y[:, first:end], choose(table.spread(own), generator), movable)
        y = torch.cat([y[:, :first], drawn, y[:, end:]], dim=1)
    # What the last colour was drawn from is still its score, since none of it interacts.
    score = known.colours[0].pull.score(y)
    score = torch.cat([score, own], dim=1) if known.everything is None else known.everything.score(y)
    f, y, score = known.sums.at(y, score), known.unsorted(y), known.unsorted(score)
    moved = Score(columns.split(score), constant=chain.score.constant)
    anything = unclamped.any(dim=1)
    info = Info(anything.to(chain.f.dtype), anything)
    return Chain({**chain.position, **columns.split(y)}, f, moved), info


class _Colour(NamedTuple):
    """The variables of a colour, over its own columns, what gives their score, and the first and the end of the columns."""

    table: ClassTable
    pull: Pull
    first: int
    end: int


class _Known(NamedTuple):
    """A log-density that is known in full, with its columns sorted by colour, so that each colour is a slice.

    Args:
        sums: over the sorted columns.
        colours: in the order of their numbers.
        everything: the pull of all columns; None if there are two colours, whose scores are put together.
        order: of the columns by colour, (M,); None if they are sorted.
        back: the inverse.
    """

    sums: PairwiseSums
    colours: tuple[_Colour, ...]
    everything: Pull | None
    order: Tensor | None
    back: Tensor | None

    def sorted(self, values: Tensor) -> Tensor:
        """Columns (N, M) by colour."""
        return values if self.order is None else values[:, self.order]

    def unsorted(self, values: Tensor) -> Tensor:
        """Columns (N, M) as they are in a position."""
        return values if self.back is None else values[:, self.back]


@lru_cache(maxsize=64)
def _known(kernel: ChromaticGibbs, device: torch.device, dtype: torch.dtype) -> _Known:
    """The sums of a kernel by colour, made once."""
    columns = columns_of(kernel.space, kernel.blocks, torch.device("cpu"))
    numbers = torch.cat([kernel.colours[name].flatten() for name in kernel.blocks]).cpu()
    assert kernel.sums is not None
    of_columns = numbers[columns.variable]
    order = of_columns.argsort(stable=True)
    sums, colours, first = kernel.sums.to(torch.device("cpu"), dtype).permuted(order), [], 0
    for number in numbers.unique():
        own = (of_columns == number).nonzero().flatten()
        end = first + len(own)
        table = ClassTable.of(columns, numbers == number).within(own)
        colours.append(_Colour(table.to(device), Pull.of(sums, torch.arange(first, end)).to(device), first, end))
        first = end
    everything = None if len(colours) == 2 else Pull.of(sums, torch.arange(first)).to(device)
    orders = (None, None) if bool((order.diff() == 1).all()) else (order.to(device), order.argsort().to(device))
    return _Known(sums.to(device, dtype), tuple(colours), everything, *orders)
