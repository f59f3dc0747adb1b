"""Mixed Hamiltonian Monte Carlo: labels change in the middle of a trajectory of reals.

Legend: N chains, V variables, K classes (the largest number of any variable).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, encoded, evaluate, evaluate_candidates, scored, where_rows
from jointebm.kernels.columns import Columns, chosen_blocks, columns_of, pick, require_same
from jointebm.kernels.gibbs import choose_variable, with_each_class
from jointebm.kernels.hmc import HMC, kinetic_energy
from jointebm.kernels.kernel import Info, Kernel, anything_free, metropolis, nothing_moved
from jointebm.randomness.draws import Generator, choose, normal, uniform
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["MixedHMC", "MixedState"]


class MixedState(NamedTuple):
    """A place on a mixed trajectory.

    Args:
        chain: positions with f and score.
        momentum: p of the reals, (N, *shape).
        stock: kinetic energy k of each label, (N, V), nats.
        log_ratio: change of f - |p|^2 / 2 in the parts of the trajectory where reals move, (N,), nats.
    """

    chain: Chain
    momentum: Tensor
    stock: Tensor
    log_ratio: Tensor


@dataclass(frozen=True)
class MixedHMC(Kernel):
    """Proposes the end of a trajectory of a continuous block along which labels change, and accepts or rejects it.

    p ~ N(0, I), k_v ~ Exp(1) for each label; then `num_moves` times: leapfrog steps of (x, p); v ~ uniform;
        y'_v ~ p(y'_v | everything else) among the other classes;    d = log (1 - p(y'_v)) - log (1 - p(y_v));
        if k_v > d:  y_v <- y'_v and k_v <- k_v - d
    and leapfrog steps again. Accepted with probability min(1, exp(sum over leapfrog parts of the change of f - |p|^2 / 2)).

    Adjusted: leaves exp(f) of the free entries, given the clamped ones, exactly invariant: label moves conserve energy, the
    sequence of variables is as likely in either order, and reversed momenta lead back. Labels change at places that x
    passes on its way, which `HMC` and `Gibbs` in turn do not reach. Modes that x does not pass stay unreached.

    Args:
        space: the blocks.
        hmc: step size, block and leapfrog steps of each part between two label moves; its temperature is 1.
        num_moves: label moves per step, >= 1.
        blocks: names of the discrete blocks that move; None is all of them.

    References:
        Zhou 2020, Mixed Hamiltonian Monte Carlo for mixed discrete and continuous variables (with its Laplace momentum).

    Example:
        >>> from jointebm import Binary, Continuous, kernels
        >>> space, generator = Space(x=Continuous(), y=Binary()), torch.Generator().manual_seed(0)
        >>> def log_density(position):  # y has weights .5 and .5
        ...     return -0.5 * (position["x"] - 2 * position["y"]).square()
        >>> chain = kernels.evaluate(log_density, {"x": torch.zeros(1000), "y": torch.zeros(1000)})
        >>> kernel = MixedHMC(space, kernels.HMC("x", 0.5, num_leapfrog=2), num_moves=3)
        >>> free = {"x": torch.tensor([True]), "y": torch.tensor([True])}
        >>> for _ in range(10):
        ...     chain, info = kernel.step(log_density, chain, free=free, generator=generator)
        >>> bool(abs(chain.position["y"].mean() - 0.5) < 0.05), bool(info.accept_prob.mean() > 0.9)
        (True, True)
    """

    space: Space
    hmc: HMC
    num_moves: int = 4
    blocks: tuple[str, ...] | None = None

    uses_score = True
    adjusted = True
    target_accept = 0.8

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", chosen_blocks(self, self.space, self.blocks))
        self.hmc.require(self.space)
        if self.hmc.temperature != 1 or self.num_moves < 1:
            raise ValueError(
                f"MixedHMC: needs a temperature of 1, which labels have, and num_moves >= 1, got {self.hmc.temperature} "
                f"and {self.num_moves}"
            )

    @property
    def block(self) -> str:
        """The continuous block that moves."""
        return self.hmc.block

    def rescaled(self, factor: float) -> "MixedHMC":
        """This kernel with its step size multiplied by a number."""
        return replace(self, hmc=self.hmc.rescaled(factor))

    def learned(self, position: Position, score: Position | None = None) -> "MixedHMC":
        """This kernel with a step size per entry, as `MALA.learned` finds it."""
        return replace(self, hmc=self.hmc.learned(position, score))

    def require(self, space: Space) -> None:
        """Raises ValueError unless the space has the blocks that move, as the kernel was made for."""
        require_same(self, self.space, self.blocks or (), space)
        self.hmc.require(space)

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Moves each chain at most once.

        Costs (num_moves + 1) * num_leapfrog + num_moves evaluations with their score, and num_moves of all classes.
        """
        names = (self.block, *(self.blocks or ()))
        settled = {name: free[name] for name in names if anything_free(chain, free, name)}
        if not settled:
            return chain, nothing_moved(chain)
        chain = scored(log_density, chain, self, block=self.block if self.block in settled else None)
        columns = columns_of(self.space, self.blocks or (), chain.f.device)
        free_variables = columns.join_free(settled, len(chain.f))
        x = chain.position[self.block]
        mask = settled.get(self.block, torch.zeros((), dtype=torch.bool, device=x.device)).expand_as(x)
        momentum = torch.where(mask, normal(x, generator), 0)
        stock = -torch.log1p(-uniform(chain.f.new_empty(len(chain.f), columns.num_variables), generator))
        start = MixedState(chain, momentum, stock, torch.zeros_like(chain.f))
        end = self.trajectory(log_density, start, mask, free_variables, generator)
        movable = mask.reshape(len(x), -1).any(dim=1) | free_variables.any(dim=1)
        info = metropolis(end.log_ratio, movable, generator)
        return end.chain.where(info.accepted, chain), info

    def trajectory(
        self, log_density: LogDensity, state: MixedState, mask: Tensor, free_variables: Tensor, generator: Generator
    ) -> MixedState:
        """The end of the trajectory; masks (N, *shape) of the reals and (N, V) of the labels say what moves."""
        columns = columns_of(self.space, self.blocks or (), mask.device)
        state = self._reals_moved(log_density, state, mask)
        for _ in range(self.num_moves):
            state = _label_moved(log_density, state, columns, free_variables, generator)
            state = self._reals_moved(log_density, state, mask)
        return state

    def _reals_moved(self, log_density: LogDensity, state: MixedState, mask: Tensor) -> MixedState:
        chain, momentum = self.hmc.trajectory(log_density, state.chain, state.momentum, mask)
        gained = chain.f - state.chain.f + kinetic_energy(state.momentum) - kinetic_energy(momentum)
        return MixedState(chain, momentum, state.stock, state.log_ratio + gained)


def _label_moved(
    log_density: LogDensity, state: MixedState, columns: Columns, free_variables: Tensor, generator: Generator
) -> MixedState:
    """One label of each chain changed, if its stock of energy suffices."""
    chain = state.chain
    variable, movable = choose_variable(free_variables, generator, like=chain.f)
    candidates = with_each_class(columns, chain.position, variable)
    chain = encoded(log_density, chain, moving=candidates)
    features = None if chain.encoding is None else chain.encoding.features
    f = evaluate_candidates(log_density, chain.position, candidates, features=features)  # (N, K)
    classes, rows = torch.arange(f.shape[1], device=f.device), torch.arange(len(f), device=f.device)
    f = f.masked_fill(classes >= columns.num_classes[variable][:, None], -torch.inf)
    label = columns.label_of(columns.join(chain.position), variable)
    others = f.masked_fill(classes == label[:, None], -torch.inf)
    new = choose(others, generator)
    cost = f.masked_fill(classes == new[:, None], -torch.inf).logsumexp(dim=1) - others.logsumexp(dim=1)
    stock = pick(state.stock, variable)
    changed = movable & (others > -torch.inf).any(dim=1) & (stock > cost)
    moved = {name: where_rows(changed, new_[rows, new], chain.position[name]) for name, new_ in candidates.items()}
    chain = evaluate(log_density, {**chain.position, **moved}, previous=chain)
    left = torch.where(changed, stock - cost, stock)
    return state._replace(chain=chain, stock=state.stock.scatter(1, variable[:, None], left[:, None]))
