"""Cluster moves of labels that interact in pairs.

Legend: N chains, V variables, E pairs, K classes (the largest number of any variable), M columns.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels.bonds import bond_strengths, require_bonds
from jointebm.kernels.chain import Chain, LogDensity, evaluate, scored
from jointebm.kernels.class_table import ClassTable
from jointebm.kernels.columns import Columns, chosen_blocks, columns_of, pick, require_same
from jointebm.kernels.components import components
from jointebm.kernels.couplings import constant_couplings
from jointebm.kernels.kernel import Info, Kernel, anything_free, metropolis, nothing_moved
from jointebm.randomness.draws import Generator, choose
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["SwendsenWang"]


@dataclass(frozen=True, eq=False)
class SwendsenWang(Kernel):
    """Ties variables that agree into clusters at random, and draws a state for each cluster from the sum of its fields.

    w(y) = sum over pairs of |J_vw|, if y_v = y_w (J_vw > 0) or y_v != y_w (J_vw < 0)
    P(v and w are tied | y) = 1 - exp(-|J_vw|) if the pair has its |J_vw|, and 0 otherwise
    a cluster shifts its labels to y_v + s with q(s) = softmax over s of sum over v of h_v(y_v + s), modulo classes
    h_v(k) = what the score of f - w gives to class k of variable v

    If f - w is a sum of terms of single labels, which may depend on other blocks, this is the algorithm of Swendsen and
    Wang with fields: q is exact, and every proposal is accepted. Labels of a cluster that agree stay equal, and bits with
    J < 0 stay unequal, so that domains turn over as a whole, which single labels cannot do at strong couplings. A step costs
    one evaluation. A pair with a clamped variable is not tied; it acts as a field.

    Adjusted: leaves exp(f) of the free variables, given everything else, exactly invariant for any f and any couplings, and
    satisfies detailed balance. Fast mixing is *not* guaranteed: where fields differ strongly from label to label, or signs
    of couplings contradict one another along circles, clusters that are large hardly move. Then cycle with `ChromaticGibbs`,
    or pass couplings that are smaller than those of f (Higdon's partial decoupling): clusters are smaller, and the
    correction accounts for the rest.

    `SwendsenWang.verified` finds J from f itself and then leaves the correction out.

    Args:
        space: the space whose discrete blocks move.
        couplings: J, what f gains in nats if two labels are equal, (V, V), symmetric, with variables counted over the
            blocks; 0 where a pair is not tied.
        blocks: discrete blocks that move; None is all of them.

    Raises:
        ValueError: couplings have another shape, are not symmetric or not finite, or couple a variable to itself,
            variables with unequal numbers of classes, or, if negative, variables of more than two classes.

    References:
        Swendsen & Wang 1987. Edwards & Sokal 1988 (the joint density of labels and ties). Higdon 1998 (fields, partial
        decoupling). Barbu & Zhu 2005 (the correction for any f).

    Example:
        >>> from jointebm import Binary, Space, kernels
        >>> space = Space(spins=Binary(5))
        >>> def log_density(position):
        ...     y = position["spins"]
        ...     return 50 * (y[:, 1:] * y[:, :-1] + (1 - y[:, 1:]) * (1 - y[:, :-1])).sum(dim=1) + 9 * y[:, 0]
        >>> generator = torch.Generator().manual_seed(0)
        >>> kernel = SwendsenWang.verified(space, log_density, {"spins": torch.zeros(2, 5)}, generator=generator)
        >>> chain = kernels.evaluate(log_density, {"spins": torch.zeros(1, 5)})
        >>> chain, info = kernel.step(log_density, chain, free={"spins": torch.tensor(True)}, generator=generator)
        >>> chain.position["spins"].tolist(), info.accept_prob.tolist()  # one cluster, drawn by the field of its first
        ([[1.0, 1.0, 1.0, 1.0, 1.0]], [1.0])
    """

    space: Space
    couplings: Tensor
    blocks: tuple[str, ...] | None = None
    verified_for: LogDensity | None = field(default=None, init=False)

    uses_score = True
    adjusted = True

    def __post_init__(self) -> None:
        chosen = chosen_blocks(self, self.space, self.blocks)
        names = tuple(name for name in self.space if name in chosen)
        object.__setattr__(self, "blocks", names)
        require_bonds(columns_of(self.space, names, torch.device("cpu")), self.couplings)

    def require(self, space: Space) -> None:
        """Raises ValueError unless the space has the blocks that move, as the kernel was made for."""
        require_same(self, self.space, self.blocks or (), space)

    @staticmethod
    def verified(
        space: Space,
        log_density: LogDensity,
        position: Position,
        *,
        blocks: tuple[str, ...] | None = None,
        generator: Generator,
    ) -> "SwendsenWang":
        """Finds the couplings of a log-density and makes the kernel that draws without correction.

        f must be a sum of terms of single labels, which may depend on other blocks, and of constant couplings J_vw [y_v =
        y_w] of pairs, as `constant_couplings` sees it at random points of the cube. Any coupling of two bits has this form,
        up to terms of single bits. The correction is left out for this very log-density only; for any other, and for a
        copy, the kernel corrects as usual. Change no coupling of f afterwards.

        Args:
            space: the blocks.
            log_density: f, twice differentiable in the discrete blocks.
            position: rows at which f is looked at, at least two. Discrete blocks are replaced by random points; reals
                should differ from row to row, so that couplings that depend on them are seen.
            blocks: that move; None is all discrete blocks.
            generator: source of the random points.

        Raises:
            ValueError: there is one row only; second derivatives of f are not constant, so that couplings depend on other
                labels or blocks; a coupling is not of the form J [y_v = y_w]; or J is negative for more than two classes.

        Example:
            >>> from jointebm import Binary
            >>> from jointebm.energies import IsingEnergy
            >>> space, generator = Space(spins=Binary((4, 6))), torch.Generator().manual_seed(0)
            >>> energy = IsingEnergy(space, coupling=0.4)
            >>> kernel = SwendsenWang.verified(space, energy, {"spins": torch.zeros(3, 4, 6)}, generator=generator)
            >>> kernel.couplings[0].unique().tolist()  # s_v s_w is 1 if spins are equal and -1 if not
            [0.0, 0.800000011920929]
        """
        names = chosen_blocks(SwendsenWang, space, blocks)
        names = tuple(name for name in space if name in names)
        if (num := len(next(iter(position.values())))) < 2:
            raise ValueError(f"SwendsenWang: got {num} row to look at f, expected at least 2")
        matrix = constant_couplings(log_density, space, names, position, generator=generator)
        if matrix is None:
            raise ValueError(
                "SwendsenWang: second derivatives of f in the labels are not constant, so that labels do not interact in "
                "pairs alone, or their couplings depend on other blocks; use SwendsenWang(space, couplings), which "
                "corrects, or ChromaticGibbs"
            )
        kernel = SwendsenWang(space, bond_strengths(columns_of(space, names, torch.device("cpu")), matrix), names)
        object.__setattr__(kernel, "verified_for", log_density)
        return kernel

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Draws clusters and their states once in each chain; costs one evaluation."""
        blocks = self.blocks or ()
        if not any(anything_free(chain, free, name) for name in blocks):
            return chain, nothing_moved(chain)
        columns = columns_of(self.space, blocks, chain.f.device)
        ties = _ties(self, chain.f.device, chain.f.dtype)
        chain = scored(log_density, chain, self)
        assert chain.score is not None
        movable = columns.join_free(free, len(chain.f))  # (N, V)
        y = columns.join(chain.position)
        before = ties.table.labels(y)  # (N, V)
        has_gain = ties.have_gain(before, movable)  # (N, E)
        root = components(ties.pairs, ties.draw(has_gain, generator), columns.num_variables)
        log_q = ties.log_q(columns.join(chain.score), before, root, movable)  # (N, K, V)
        drawn = choose(log_q, generator)
        after = ties.shifted(before, drawn.gather(1, root))
        moved = columns.split(ties.table.write(y, after, movable))
        proposal = evaluate(log_density, {**chain.position, **moved}, previous=chain)
        anything = movable.any(dim=1)
        if log_density is self.verified_for:
            return proposal, Info(anything.to(chain.f.dtype), anything)

        # The ties of the proposal are as probable as those of the chain, but for the pairs that are not tied.
        assert proposal.score is not None
        log_q_reverse = ties.log_q(columns.join(proposal.score), after, root, movable)
        back = ties.shifted(torch.zeros_like(drawn), -drawn)
        gained = (pick(log_q_reverse, back) - pick(log_q, drawn)).sum(dim=1)
        rest = ties.total(has_gain) - ties.total(ties.have_gain(after, movable))
        info = metropolis(proposal.f - chain.f + rest + gained, anything, generator)
        return proposal.where(info.accepted, chain), info


class _Ties(NamedTuple):
    """The pairs that can be tied, and what they give.

    Args:
        table: of all variables.
        num_classes: of each variable, (V,).
        pairs: the two variables of each pair, (2, E).
        couplings: J of each pair, (E,), nats.
        log_weights: of no tie and of a tie where a pair has its gain, (2, E).
    """

    table: ClassTable
    num_classes: Tensor
    pairs: Tensor
    couplings: Tensor
    log_weights: Tensor

    def have_gain(self, labels: Tensor, movable: Tensor) -> Tensor:
        """Which pairs have their |J| in labels (N, V), (N, E); pairs that are not free on both sides count as fields."""
        one, other = self.pairs
        equal = labels[:, one] == labels[:, other]
        return (equal == (self.couplings > 0)) & movable[:, one] & movable[:, other]

    def total(self, has_gain: Tensor) -> Tensor:
        """w (N,) of pairs (N, E)."""
        return torch.where(has_gain, self.couplings.abs(), 0).sum(dim=1)

    def draw(self, has_gain: Tensor, generator: Generator) -> Tensor:
        """Which of the pairs that have their gain (N, E) are tied."""
        never = self.log_weights.new_tensor([0.0, -torch.inf])[:, None]
        return choose(torch.where(has_gain[:, None], self.log_weights, never), generator) == 1

    def log_q(self, score: Tensor, labels: Tensor, root: Tensor, movable: Tensor) -> Tensor:
        """Log-probabilities of shifts (N, K, V) at the root (N, V) of each cluster; other variables have shift 0 alone."""
        num_classes = len(self.table.source)
        shift = torch.arange(num_classes, device=labels.device)[:, None]
        index = (labels[:, None] + shift) % self.num_classes  # (N, K, V)
        fields = self.residual_fields(score, labels, movable).gather(1, index)
        allowed = (shift == 0) | (movable[:, None] & (shift < self.num_classes))
        gains = torch.where(allowed, fields - fields[:, :1], -torch.inf)
        clusters = torch.zeros_like(gains).scatter_add(2, root[:, None].expand_as(gains), gains)
        is_root = root == torch.arange(root.shape[1], device=root.device)
        return torch.where((shift == 0) | is_root[:, None], clusters, -torch.inf).log_softmax(dim=1)

    def shifted(self, labels: Tensor, shift: Tensor) -> Tensor:
        """Labels (N, V) moved on by (N, V) classes."""
        return (labels + shift) % self.num_classes

    def residual_fields(self, score: Tensor, labels: Tensor, movable: Tensor) -> Tensor:
        """h (N, K, V): the score (N, M) by class, without what pairs that can be tied give to it."""
        spread = self.table.spread(score)
        num_chains, num_classes, num_variables = spread.shape
        ends, others = self.pairs.flatten(), self.pairs.flip(0).flatten()  # every pair from both sides
        given = torch.where(movable[:, ends] & movable[:, others], self.couplings.repeat(2), 0)
        place = labels[:, others] * num_variables + ends  # the class that the other side favours
        pulled = spread.new_zeros(num_chains, num_classes * num_variables).scatter_add(1, place, given)
        return spread - pulled.reshape(spread.shape)


@lru_cache(maxsize=64)
def _ties(kernel: SwendsenWang, device: torch.device, dtype: torch.dtype) -> _Ties:
    """The pairs of a kernel, made once."""
    columns: Columns = columns_of(kernel.space, kernel.blocks or (), torch.device("cpu"))
    table = ClassTable.of(columns, torch.ones(columns.num_variables, dtype=torch.bool)).to(device)
    couplings = kernel.couplings.detach().cpu()
    pairs = couplings.triu(1).nonzero().T
    strengths = couplings[pairs[0], pairs[1]].to(dtype)
    weights = torch.stack([-strengths.abs(), (-(-strengths.abs()).expm1()).log()])
    counts = columns.num_classes
    return _Ties(table, counts.to(device), pairs.to(device), strengths.to(device), weights.to(device))
