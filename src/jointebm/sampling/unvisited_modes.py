"""Looks for modes of a log-density that chains of local moves have not visited.

Legend: N chains, S starts, D free reals, M modes.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels import LogDensity, evaluate
from jointebm.randomness import draws
from jointebm.randomness.draws import Generator
from jointebm.sampling.checks import check_finite
from jointebm.sampling.samples import Samples
from jointebm.spaces.space import Position, Space, Values

__all__ = ["Unvisited", "unvisited"]

WIDEST = 16.0  # standard deviations of the chains that starts are spread over, from 1 on
GROWN, SHRUNK = 1.5, 0.3  # of a step uphill that was taken, and of one that was not
MAX_SLOPE = 0.1  # norm of the score at a mode, nats per standard deviation of the chains; rounding leaves some
MAX_GAIN = 0.01  # of the last step that led up to a mode, nats
NEIGHBOURHOOD = 2.0  # times the distance of chains to their nearest neighbours (95% of them), that is near a chain
SAME = 1.0  # distance within which two modes are one, in standard deviations
LEAST_CHAINS = 8
MAX_NEIGHBOURED = 1000  # chains whose nearest neighbour is looked for
MAX_DISTANCES = 2**23  # at once


class Unvisited(NamedTuple):
    """Modes that no chain has visited, the highest first.

    Chains that leave a mode out sample a part of exp(f) alone. Remedy: `kernels.Jump` or `kernels.ReplicaExchange` with a
    reference that holds all modes, and chains that start at them too (`init`).

    Args:
        values: per block, the modes, shape (M, *variable_shape), in the user's units.
        f: log-density at the modes, shape (M,), nats.
        median_f: of the chains, nats.

    Example:
        >>> found = Unvisited({"x": torch.tensor([12.0])}, torch.tensor([0.0]), -0.2)
        >>> len(found.f), bool((found.f > found.median_f).all())  # one mode, higher than the chains
        (1, True)
    """

    values: dict[str, Tensor]
    f: Tensor
    median_f: float


def unvisited(
    log_density: LogDensity,
    space: Space,
    samples: Samples,
    *,
    given: Values | None = None,
    num_starts: int = 64,
    num_steps: int = 200,
    generator: Generator,
) -> Unvisited:
    """Climbs f from starts around the chains, and returns modes as high as the chains where none of them is.

    Starts lie around the mean of the chains, 1 to 16 times as wide as these. Each climbs by `num_steps` gradient steps,
    preconditioned by the covariance of the chains. Where a climb ends is a mode if its last step gained 0.01 nats or less
    and the score there is 0.1 nats per standard deviation of the chains or less. The mode is unvisited if its f is at least
    the median of the chains' and its distance to the nearest chain is more than twice that of chains to one another (the
    95% quantile, over 1,000 chains). Costs `num_steps` evaluations of S rows with gradients, next to num_chains x num_steps
    of the run. Nothing is warned of: the answer says it.

    Not guaranteed: a mode further away, or that no start climbs to, is not found. Nor is one that is wide and low, one with
    a kink, as of a Laplace density, where the score does not vanish, or one so narrow that rounding of f leaves a score.
    Labels stay as in the chains, so modes behind other labels are not found either. A mode may be high and hold little
    mass, as the neck of a funnel. Far out in heavy tails the score is small as well.

    Args:
        log_density: f.
        space: the blocks, one of them continuous.
        samples: of `sample`, with 8 chains or more, all under the same condition.
        given: as in `sample`.
        num_starts: S >= 1.
        num_steps: >= 1.
        generator: source of the starts.

    Returns:
        `Unvisited`; M is 0 where nothing was found.

    Raises:
        ValueError: fewer than 8 chains, no real is free, chains with different conditions, or chains that `given` is not
            true of.
        FloatingPointError: f of a chain is not finite, or f of a climb is neither finite nor -inf.

    Example:
        >>> from jointebm import Continuous, Space, kernels, sample
        >>> def two_modes(position):
        ...     x = position["x"]
        ...     return torch.logaddexp(-0.5 * x.square(), -0.5 * (x - 12).square())
        >>> space, generator = Space(x=Continuous()), torch.Generator().manual_seed(0)
        >>> samples = sample(two_modes, space, kernels.MALA("x", 1.2), num_chains=99, num_steps=99, generator=generator)
        >>> unvisited(two_modes, space, samples, generator=generator).values["x"].round()
        tensor([12.])
    """
    num_chains = len(samples.chain.f)
    if num_chains < LEAST_CHAINS:
        raise ValueError(
            f"unvisited: got {num_chains} chains; where they are is told by {LEAST_CHAINS} or more. Run `sample` with "
            f"num_chains={LEAST_CHAINS} or more; {MAX_NEIGHBOURED} are as many as help"
        )
    for name, value in (("num_starts", num_starts), ("num_steps", num_steps)):
        if value < 1:
            raise ValueError(f"unvisited: {name} is a whole number >= 1, got {value}; leave it out for the default")
    check_finite(samples.chain, space, "of the samples")
    position = {name: value.detach() for name, value in samples.chain.position.items()}
    names, is_free = _free_reals(space, position, given, generator)
    reals = _joined(position, names)[:, is_free].double()  # (N, D)
    mean, root = reals.mean(dim=0), _root_of_covariance(reals)
    chosen = torch.arange(num_starts, device=reals.device) % num_chains
    scales = WIDEST ** torch.linspace(0, 1, num_starts, dtype=torch.float64, device=reals.device)
    noise = draws.normal(reals.new_empty(num_starts, reals.shape[1]), generator)
    climb = _Climb(log_density, {name: value[chosen] for name, value in position.items()}, names, is_free, root)
    ends, f, is_mode = climb.ends(mean + scales[:, None] * (noise @ root.T), num_steps)
    of_chains, of_ends = (torch.linalg.solve_triangular(root, (each - mean).T, upper=False).T for each in (reals, ends))
    asked = torch.arange(0, num_chains, math.ceil(num_chains / MAX_NEIGHBOURED), device=reals.device)
    reach = NEIGHBOURHOOD * float(_nearest(of_chains[asked], of_chains, but=asked).quantile(0.95))
    median = float(samples.chain.f.double().median())
    is_new = is_mode & (f >= median)
    is_new &= _nearest(of_ends, of_chains) > reach
    kept: list[int] = []
    for row in f.masked_fill(~is_new, -torch.inf).argsort(descending=True)[: int(is_new.sum())].tolist():
        if not kept or float(torch.cdist(of_ends[[row]], of_ends[kept]).min()) > max(SAME, reach):
            kept.append(row)
    values = {name: each[kept] for name, each in space.decode(climb.at(ends)).items()}
    return Unvisited(values, f[kept], median)


class _Climb:
    """Ascent of f in the free reals of S rows; all else stays.

    Args:
        log_density: f.
        position: S rows.
        names: of the blocks that hold free reals.
        is_free: which of their reals are free.
        root: lower root of the covariance of the chains, shape (D, D).
    """

    def __init__(
        self, log_density: LogDensity, position: Position, names: list[str], is_free: Tensor, root: Tensor
    ) -> None:
        self._log_density, self._position, self._names, self._is_free = log_density, position, names, is_free
        self._root = root

    def at(self, x: Tensor) -> Position:
        """The rows with these free reals, shape (S, D)."""
        flat = _joined(self._position, self._names).clone()
        flat[:, self._is_free] = x.to(flat.dtype)
        sizes = [self._position[name][0].numel() for name in self._names]
        parts = zip(self._names, flat.split(sizes, dim=1), strict=True)
        return {**self._position, **{name: part.reshape(self._position[name].shape) for name, part in parts}}

    def ends(self, x: Tensor, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Where rows are after these steps, f there, and whether that is a mode.

        A step that leads down is not taken, and the next is shorter. None is longer than the furthest start is away.
        """
        f, slope = self._evaluated(x)
        length, gain = torch.ones_like(f), torch.zeros_like(f)
        longest = WIDEST * math.sqrt(x.shape[1])
        for _ in range(num_steps):
            length = torch.minimum(length, longest / slope.norm(dim=1).clamp(min=1e-300))
            new = x + length[:, None] * (slope @ self._root.T)
            new_f, new_slope = self._evaluated(new)
            is_up = new_f > f
            gain = torch.where(is_up, new_f - f, gain)
            x, slope = (torch.where(is_up[:, None], *each) for each in ((new, x), (new_slope, slope)))
            f = torch.where(is_up, new_f, f)
            length = length * torch.where(is_up, GROWN, SHRUNK)
        return x, f, (gain <= MAX_GAIN) & (slope.norm(dim=1) <= MAX_SLOPE)

    def _evaluated(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """f and its gradient in standard deviations of the chains, shape (S, D), 0 where f is -inf.

        Raises:
            FloatingPointError: f is NaN or +inf, or is finite and its gradient is not.
        """
        chain = evaluate(self._log_density, self.at(x))
        assert chain.score is not None
        f, score = chain.f.double(), _joined(chain.score, self._names)[:, self._is_free].double()
        is_outside = f == -torch.inf
        score = score.masked_fill(is_outside[:, None], 0.0)
        if bool((wrong := ~(f.isfinite() | is_outside)).any()):
            raise FloatingPointError(
                f"unvisited: f is {float(f[wrong][0])} in {int(wrong.sum())} of {len(f)} rows of a climb; expected a "
                "number, or -inf where exp(f) is 0. Return -inf outside the support of f"
            )
        if bool((wrong := ~score.isfinite().all(dim=1)).any()):
            raise FloatingPointError(
                f"unvisited: the gradient of f is not finite in {int(wrong.sum())} of {len(f)} rows of a climb, where f is "
                f"{float(f[wrong][0]):.6g}. Write f so that it can be differentiated where it is finite"
            )
        return f, score @ self._root


def _free_reals(
    space: Space, position: Position, given: Values | None, generator: Generator
) -> tuple[list[str], Tensor]:
    """The blocks that hold free reals, and which of their reals are free.

    Raises:
        ValueError: none is free, chains have different conditions, or `given` is not true of the chains.
    """
    num_chains = len(next(iter(position.values())))
    clamped, free = space.clamp(given, num_chains=num_chains, generator=generator, init=position)
    for name, value in clamped.items():
        if bool((wrong := (value != position[name]).reshape(num_chains, -1).any(dim=1)).any()):
            raise ValueError(
                f"unvisited: block {name!r} of chain {int(wrong.nonzero()[0])} is not as given; `given` is that of the run. "
                "Pass what `sample` was called with"
            )
    names = [name for name in space.continuous if bool(free[name].any())]
    if not names:
        raise ValueError("unvisited: no real is free, so that there is nothing to climb in; leave some out of `given`")
    for name in given or {}:
        is_given = ~space[name].expand(free[name])
        other = (is_given != is_given[:1]) | (is_given & (clamped[name] != clamped[name][:1]))
        if bool((wrong := other.reshape(num_chains, -1).any(dim=1)).any()):
            raise ValueError(
                f"unvisited: block {name!r} of chain {int(wrong.nonzero()[0])} is given otherwise than that of chain 0; "
                "modes are those of one condition. Ask about the chains of each condition on their own"
            )
    return names, _joined({name: free[name][:1] for name in names}, names)[0]


def _nearest(rows: Tensor, points: Tensor, *, but: Tensor | None = None) -> Tensor:
    """Distance of each row to the nearest point; `but` names a point per row that does not count."""
    found = []
    for numbers in torch.arange(len(rows), device=rows.device).split(max(1, MAX_DISTANCES // len(points))):
        distances = torch.cdist(rows[numbers], points)
        if but is not None:
            distances[torch.arange(len(numbers), device=rows.device), but[numbers]] = torch.inf
        found.append(distances.amin(dim=1))
    return torch.cat(found)


def _joined(position: Mapping[str, Tensor], names: list[str]) -> Tensor:
    """Blocks of N rows side by side, shape (N, sum of their reals)."""
    return torch.cat([position[name].reshape(len(position[name]), -1) for name in names], dim=1)


def _root_of_covariance(reals: Tensor) -> Tensor:
    """The lower root of the covariance, shape (D, D), shrunk to its diagonal where rows are few for it."""
    num_rows, num_reals = reals.shape
    covariance = reals.T.cov().reshape(num_reals, num_reals)
    diagonal = covariance.diagonal().clamp(min=1e-12 * (1 + reals.square().mean(dim=0))).diag()
    share = num_reals / (num_reals + num_rows)
    root: Tensor = torch.linalg.cholesky((1 - share) * covariance + share * diagonal)
    return root
