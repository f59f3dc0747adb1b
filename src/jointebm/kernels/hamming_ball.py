"""The Hamming ball sampler: exact draws of a few discrete variables at once from a ball around a random centre.

Legend: N chains, V variables, B variables chosen per chain, O offsets in the ball, M columns.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import comb

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity, encoded, evaluate_candidates, where_rows
from jointebm.kernels.columns import Columns, chosen_blocks, columns_of, require_same
from jointebm.kernels.gibbs import choose_variable
from jointebm.kernels.kernel import Info, Kernel, anything_free, nothing_moved
from jointebm.randomness.draws import Generator, choose
from jointebm.spaces.space import Mask, Space

__all__ = ["HammingBall"]

MAX_OFFSETS = 100_000


@dataclass(frozen=True)
class HammingBall(Kernel):
    """Draws several discrete variables from the density restricted to a Hamming ball around a random centre.

    B of the free variables, uniformly at random;   u ~ uniform {u : at most r of the B differ from y};
    y' ~ exp(f) restricted to {y' : at most r of the B differ from u}

    Adjusted by construction, and reversible: (y, u) has the density exp(f(y)) [y in the ball of u], of which both lines draw
    a part, so exp(f) of the free variables, given everything else, stays exactly invariant. No gradient, no rejection. Two
    labels that only change together, such as the two ends of a swap, move where `Gibbs` is stuck. The price is an evaluation
    per member of the ball: sum over j <= r of (B choose j) (K - 1)^j, in one batch.

    Args:
        space: the space whose discrete blocks move.
        radius: r >= 1, number of variables that may differ.
        num_variables: B >= r, variables that are considered in a step; fewer where fewer are free.
        blocks: names of the discrete blocks that move; None is all of them.

    Raises:
        ValueError: radius and number do not fit, or the ball has more than 100,000 members.

    References:
        Titsias & Yau 2017, The Hamming ball sampler.

    Example:
        >>> from jointebm import Binary, Space, kernels
        >>> space = Space(bits=Binary(2))
        >>> def log_density(position):  # 0 and 0, or 1 and 1; 20 nats between them
        ...     return -20 * (position["bits"][:, 0] - position["bits"][:, 1]).square()
        >>> chain = kernels.evaluate(log_density, {"bits": torch.zeros(1000, 2)}, with_score=False)
        >>> free, generator = {"bits": torch.tensor([True])}, torch.Generator().manual_seed(0)
        >>> chain, _ = HammingBall(space, radius=2, num_variables=2).step(log_density, chain, free=free, generator=generator)
        >>> bool(abs(chain.position["bits"].mean() - 0.5) < 0.05)
        True
    """

    space: Space
    radius: int = 2
    num_variables: int = 6
    blocks: tuple[str, ...] | None = None

    uses_score = False
    adjusted = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", chosen_blocks(self, self.space, self.blocks))
        if not 1 <= self.radius <= self.num_variables:
            raise ValueError(
                f"HammingBall: needs 1 <= radius <= num_variables, got {self.radius} and {self.num_variables}"
            )
        classes = max(max(self.space.num_classes(name)) for name in self.blocks or ())
        size = sum(comb(self.num_variables, j) * (classes - 1) ** j for j in range(self.radius + 1))
        if size > MAX_OFFSETS:
            raise ValueError(
                f"HammingBall: {self.num_variables} variables of up to {classes} classes have {size} neighbours within "
                f"{self.radius}; at most {MAX_OFFSETS}. Take a smaller radius or num_variables"
            )

    def require(self, space: Space) -> None:
        """Raises ValueError unless the space has the blocks that move, as the kernel was made for."""
        require_same(self, self.space, self.blocks or (), space)

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        """Moves each chain once; costs an evaluation per member of the ball, in one batch, and no backward pass."""
        blocks = tuple(name for name in self.blocks or () if anything_free(chain, free, name))
        if not blocks:
            return chain, nothing_moved(chain)
        columns = columns_of(self.space, blocks, chain.f.device)
        waiting = columns.join_free(free, len(chain.f))  # (N, V)
        some, usable = [], []
        for _ in range(min(self.num_variables, columns.num_variables)):
            variable, movable = choose_variable(waiting, generator, like=chain.f)
            some.append(variable)
            usable.append(movable)
            waiting = waiting.scatter(1, variable[:, None], False)
        chosen, free_chosen = torch.stack(some, dim=1), torch.stack(usable, dim=1)  # (N, B)
        offsets = _offsets(len(some), columns.max_classes, self.radius, chain.f.device)  # (O, B)
        classes = torch.where(free_chosen, columns.num_classes[chosen], 1)  # (N, B): what is clamped has one
        inside = (offsets < classes[:, None]).all(dim=2)  # (N, O): as many around every centre
        log_uniform = torch.where(inside, 0.0, -torch.inf).to(chain.f.dtype)

        y = columns.join(chain.position)
        of_chosen = (columns.variable == chosen[:, :, None]) & free_chosen[:, :, None]  # (N, B, M)
        labels = (y[:, None] * of_chosen * columns.class_of_column).sum(dim=2).round().to(torch.int64)  # (N, B)
        rows = torch.arange(len(y), device=y.device)
        centre = (labels + offsets[choose(log_uniform, generator)]) % classes
        ball = (centre[:, None] + offsets) % classes[:, None]  # (N, O, B)
        candidates = columns.split(_written(columns, y, of_chosen, ball))
        chain = encoded(log_density, chain, moving=candidates)
        features = None if chain.encoding is None else chain.encoding.features
        f = evaluate_candidates(log_density, chain.position, candidates, features=features)
        f = f.masked_fill(~inside, -torch.inf)
        drawn = choose(f, generator)  # (N,)
        movable = free_chosen.any(dim=1)
        moved = {name: where_rows(movable, new[rows, drawn], chain.position[name]) for name, new in candidates.items()}
        f_moved = torch.where(movable, f[rows, drawn], chain.f)
        undefined = movable & f.logsumexp(dim=1).isnan()
        info = Info(torch.where(undefined, torch.nan, movable.to(f.dtype)), movable)
        return Chain({**chain.position, **moved}, f_moved, None, chain.encoding), info


def _written(columns: Columns, y: Tensor, of_chosen: Tensor, labels: Tensor) -> Tensor:
    """Columns (N, M) with labels (N, O, B) in the chosen variables, (N, O, M)."""
    written = y[:, None].expand(-1, labels.shape[1], -1)
    for place in range(labels.shape[2]):
        new = (columns.class_of_column == labels[:, :, place, None]).to(y.dtype)
        written = torch.where(of_chosen[:, None, place], new, written)
    return written


@lru_cache(maxsize=64)
def _offsets(num_variables: int, num_classes: int, radius: int, device: torch.device) -> Tensor:
    """All offsets of labels of which at most `radius` are not 0, (O, B), int64."""
    rows = []
    for count in range(min(radius, num_variables) + 1):
        for places in combinations(range(num_variables), count):
            for steps in product(range(1, num_classes), repeat=count):
                row = [0] * num_variables
                for place, step in zip(places, steps, strict=True):
                    row[place] = step
                rows.append(row)
    return torch.tensor(rows, dtype=torch.int64, device=device)
