"""How far to trust the last states of chains: acceptance by kernel, jumps, and split R-hat of chains of one condition.

Legend: N chains, T steps, Q quantities.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from jointebm.kernels import Chain, Jump, Kernel, parts_of
from jointebm.sampling.diagnostics import Diagnostics, HalfChains
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["WatchedChains", "diagnostics_of_chains", "numbers_of_conditions", "rates_by_name", "states_of"]

MAX_STATES = 100  # of each chain that split R-hat is computed from


class WatchedChains:
    """Running split R-hat of f, all reals and all labels of chains, over the second half of their steps.

    The first half counts as warm-up, since chains may start from noise. At most 100 states of each chain count, equally
    many steps apart.

    Args:
        num_steps: T steps to come. Below 7 there are too few states, and `r_hat` is None.
    """

    def __init__(self, num_steps: int) -> None:
        num_states = num_steps - num_steps // 2
        self._first, self._every = num_steps // 2, math.ceil(num_states / MAX_STATES)
        self._halves = HalfChains(num_states // self._every) if num_states >= 4 else None

    def add(self, step: int, chain: Chain) -> None:
        """Takes the chains after so many steps."""
        after = step - self._first
        if self._halves is not None and after > 0 and after % self._every == 0:
            self._halves.add(states_of(chain))

    def r_hat(self, conditions: Tensor) -> float | None:
        """The largest split R-hat after all steps; `conditions` as in `split_r_hat`."""
        return None if self._halves is None else self._halves.r_hat(conditions)


def states_of(chain: Chain) -> Tensor:
    """f and all entries of the positions, shape (N, Q)."""
    flat = [value.reshape(len(value), -1) for value in chain.position.values()]
    return torch.cat([chain.f[:, None], *flat], dim=1).detach()


def rates_by_name(kernel: Kernel, rates: Sequence[float]) -> dict[str, float]:
    """Mean acceptance of each kind of kernel by its name, from that of each part of a kernel in order.

    Example:
        >>> from jointebm import Binary, Continuous, Space, kernels
        >>> gibbs, mala = kernels.Gibbs(Space(y=Binary())), kernels.MALA(block="x", step_size=0.1)
        >>> rates_by_name(kernels.Cycle((mala, gibbs, mala)), (0.25, 1.0, 0.75))
        {'MALA': 0.5, 'Gibbs': 1.0}
    """
    of_names: dict[str, list[float]] = {}
    for part, rate in zip(parts_of(kernel), rates, strict=True):
        of_names.setdefault(type(part).__name__, []).append(rate)
    return {name: sum(each) / len(each) for name, each in of_names.items()}


def numbers_of_conditions(position: Position) -> Tensor:
    """Numbers of the different conditions, shape (N,); NaN entries are free.

    Example:
        >>> numbers_of_conditions({"x": torch.tensor([torch.nan, 2.0, torch.nan])})
        tensor([0, 1, 0])
    """
    flat = torch.cat([value.reshape(len(value), -1).cpu().double() for value in position.values()], dim=1)
    flat = flat[:, ~flat.isnan().all(dim=0)]
    if flat.shape[1] == 0:
        return flat.new_zeros(len(flat), dtype=torch.int64)
    return torch.cat([flat.nan_to_num(), flat.isnan()], dim=1).unique(dim=0, return_inverse=True)[1]


def diagnostics_of_chains(
    space: Space, kernel: Kernel, chain: Chain, free: Mask, accept_probs: Tensor, watched: WatchedChains | None
) -> Diagnostics[Tensor]:
    """Of chains that each have one start, not chosen by weight, so that their ess is 1.

    Args:
        space: the blocks.
        kernel: that moved the chains.
        chain: the last states.
        free: what has moved; chains without a free entry are exact.
        accept_probs: means over all chains, after each step, of each part of the kernel, shape (T, P).
        watched: the states for split R-hat; None computes none.

    Returns:
        Diagnostics on the CPU; jumps are means over all chains.
    """
    num, num_steps = len(chain.f), len(accept_probs)
    masks = {name: mask.expand(num, *space[name].variable_shape) for name, mask in free.items()}
    moves = torch.zeros_like(chain.f, dtype=torch.bool)
    for mask in masks.values():
        moves = moves | mask.reshape(num, -1).any(dim=1)
    moves = moves.cpu()  # not every device has float64
    ess = torch.where(moves, 1.0, torch.full_like(moves, torch.inf, dtype=torch.float64))
    if not num_steps:
        return Diagnostics(~moves, ess)
    rates = accept_probs.cpu().double().mean(dim=0).tolist()
    jumps = sum(rate for part, rate in zip(parts_of(kernel), rates, strict=True) if isinstance(part, Jump))
    r_hat = None
    if watched is not None:
        moved = {
            n: value.masked_fill(space[n].expand(masks[n]), torch.nan)
            for n, value in chain.position.items()
            if n in masks
        }
        r_hat = watched.r_hat(numbers_of_conditions({**chain.position, **moved}))
    return Diagnostics(
        exact=~moves,
        ess=ess,
        num_jumps=torch.where(moves, num_steps * jumps, torch.nan).double(),
        accept_rate=rates_by_name(kernel, rates),
        r_hat=r_hat,
    )
