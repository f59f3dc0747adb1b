"""The protocol of kernels: pure steps that move the free part of a chain and keep every bit of the rest.

Legend: N chains.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from jointebm.kernels.chain import Chain, LogDensity
from jointebm.randomness.draws import Generator, accept
from jointebm.randomness.waiting import may_read
from jointebm.spaces.space import Mask, Space

__all__ = [
    "Info",
    "Kernel",
    "anything_free",
    "flat_infos",
    "metropolis",
    "moves_wholly",
    "nothing_moved",
    "parts_of",
    "settle",
    "with_parts",
    "without_laziness",
]


class Info(NamedTuple):
    """Outcome of one step, per chain.

    Args:
        accept_prob: min(1, Metropolis-Hastings ratio), shape (N,); 1 for kernels that never reject, and 0 where an adjusted
            kernel has nothing to move. NaN means that the log-density is not a number at a proposal or candidate;
            `sample` and `Trainer` raise on it.
        accepted: whether the proposal was taken, shape (N,), bool.

    Example:
        >>> from jointebm import kernels
        >>> chain = kernels.evaluate(lambda position: -0.5 * position["x"].square(), {"x": torch.zeros(3)})
        >>> _, info = kernels.MALA("x", 0.1).step(
        ...     lambda position: -0.5 * position["x"].square(), chain, free={"x": torch.tensor([True])},
        ...     generator=torch.Generator().manual_seed(0),
        ... )
        >>> info.accept_prob.shape, info.accepted.dtype
        (torch.Size([3]), torch.bool)
    """

    accept_prob: Tensor
    accepted: Tensor


@runtime_checkable
class Kernel(Protocol):
    """One Markov transition: a pure `step`, and what it needs and guarantees.

    The kernels of this library are frozen dataclasses derived from this class. A kernel of your own may derive from it
    too; it then inherits a `require` that accepts every space.

    Example:
        >>> from jointebm.kernels import evaluate
        >>> class Flip(Kernel):
        ...     uses_score, adjusted = False, True
        ...     def step(self, log_density, chain, *, free, generator):
        ...         flipped = {**chain.position, "y": torch.where(free["y"], 1 - chain.position["y"], chain.position["y"])}
        ...         proposed = evaluate(log_density, flipped, with_score=False)
        ...         taken = torch.rand(len(chain.f), generator=generator).log() < proposed.f - chain.f
        ...         y = torch.where(taken, proposed.position["y"], chain.position["y"])
        ...         moved = Chain({**chain.position, "y": y}, torch.where(taken, proposed.f, chain.f), None)
        ...         return moved, Info((proposed.f - chain.f).exp().clamp(max=1), taken)
        >>> chain = evaluate(lambda position: 9 * position["y"], {"y": torch.zeros(2)}, with_score=False)
        >>> moved, _ = Flip().step(
        ...     lambda position: 9 * position["y"], chain, free={"y": torch.tensor([True])}, generator=torch.Generator()
        ... )
        >>> moved.position["y"]
        tensor([1., 1.])
    """

    @property
    @abstractmethod
    def uses_score(self) -> bool:
        """Whether `step` reads the score; if no kernel does, the score is never computed."""

    @property
    @abstractmethod
    def adjusted(self) -> bool:
        """Whether the kernel leaves its target exactly invariant, by an exact draw or a Metropolis correction."""

    def require(self, space: Space, /) -> None:
        """Raises ValueError if the kernel does not fit a space: it moves a block that is absent or of another kind."""
        del space

    @abstractmethod
    def step(
        self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator
    ) -> "tuple[Chain, Info | tuple[Any, ...]]":
        """Moves each chain once.

        Args:
            log_density: f, shape (N,).
            chain: N chains.
            free: per block, a bool mask that broadcasts to (N, *variable_shape) of what may move; a block that it does
                not name is clamped.
            generator: source of all draws.

        Returns:
            The moved chains, and one `Info`, or a tuple with an entry per kernel applied.
        """


@runtime_checkable
class Compound(Protocol):
    """A kernel made of other kernels."""

    @property
    def parts(self) -> tuple[Kernel, ...]:
        """See `parts_of`."""

    def with_parts(self, parts: tuple[Kernel, ...]) -> Kernel:
        """See `with_parts`, the function."""

    def without_laziness(self) -> Kernel:
        """See `without_laziness`, the function."""


def parts_of(kernel: Kernel) -> tuple[Kernel, ...]:
    """The kernels that a kernel applies in turn, one per entry of its info; a kernel that is not compound is its own part.

    Example:
        >>> from jointebm import Binary, Continuous, Space, kernels
        >>> gibbs, mala = kernels.Gibbs(Space(y=Binary())), kernels.MALA(block="x", step_size=0.1)
        >>> parts_of(kernels.Cycle((kernels.Cycle((gibbs, mala)), gibbs))) == (gibbs, mala, gibbs)
        True
    """
    return kernel.parts if isinstance(kernel, Compound) else (kernel,)


def with_parts(kernel: Kernel, parts: tuple[Kernel, ...]) -> Kernel:
    """The kernel with other parts in the places of those that `parts_of` lists.

    Example:
        >>> from jointebm import Binary, Space, kernels
        >>> gibbs, mala = kernels.Gibbs(Space(y=Binary())), kernels.MALA(block="x", step_size=0.1)
        >>> with_parts(kernels.Cycle((gibbs, mala)), (mala, gibbs)) == kernels.Cycle((mala, gibbs))
        True
    """
    if isinstance(kernel, Compound):
        return kernel.with_parts(parts)
    (part,) = parts
    return part


def flat_infos(info: Any) -> tuple[Info, ...]:
    """The infos of a step, one per part of its kernel, in order.

    Example:
        >>> info = Info(torch.ones(2), torch.ones(2, dtype=torch.bool))
        >>> len(flat_infos((info, (info, info))))
        3
    """
    return (info,) if isinstance(info, Info) else tuple(single for part in info for single in flat_infos(part))


def without_laziness(kernel: Kernel) -> Kernel:
    """The kernel with every `Lazy` part applied at every step.

    Example:
        >>> from jointebm import Binary, Space, kernels
        >>> gibbs = kernels.Gibbs(Space(y=Binary()))
        >>> without_laziness(kernels.Cycle((kernels.Lazy(gibbs, rate=0.1),))) == kernels.Cycle((gibbs,))
        True
    """
    return kernel.without_laziness() if isinstance(kernel, Compound) else kernel


def metropolis(log_ratio: Tensor, movable: Tensor | None, generator: Generator) -> Info:
    """Accepts proposals with probability min(1, exp(log_ratio)), and never in chains that have nothing to move.

    Args:
        log_ratio: Metropolis-Hastings ratio of each chain, shape (N,), nats.
        movable: chains with something to move, shape (N,), bool; None is all.
        generator: source of one acceptance per chain.

    Example:
        >>> ratios, movable = torch.tensor([0.0, -torch.inf, 9.0]), torch.tensor([True, True, False])
        >>> metropolis(ratios, movable, torch.Generator().manual_seed(0)).accepted.tolist()
        [True, False, False]
    """
    if movable is None:
        return Info(log_ratio.clamp(max=0).exp_(), accept(log_ratio, generator))
    accepted = accept(log_ratio, generator) & movable
    return Info(torch.where(movable, log_ratio.clamp(max=0).exp(), 0), accepted)


def nothing_moved(chain: Chain) -> Info:
    """The info of an adjusted kernel that has nothing to move in any chain."""
    return Info(torch.zeros_like(chain.f), torch.zeros_like(chain.f, dtype=torch.bool))


class Settled(dict[str, Tensor]):
    """Masks that were read before a run of steps: every block has something free, those in `whole` nothing clamped."""

    whole: frozenset[str] = frozenset()


def settle(free: Mask) -> dict[str, Tensor]:
    """Leaves out the blocks that are clamped entirely. Waits for the device: call it once, before a run of steps.

    The steps need not read these masks again, and take fewer operations where nothing is clamped (`moves_wholly`).

    Example:
        >>> settle({"x": torch.tensor([True]), "y": torch.tensor([False])})
        {'x': tensor([True])}
    """
    settled = Settled({name: mask for name, mask in free.items() if bool(mask.any())})
    settled.whole = frozenset(name for name, mask in settled.items() if bool(mask.all()))
    return settled


def moves_wholly(free: Mask, blocks: Iterable[str]) -> bool:
    """Whether nothing in some blocks is clamped in any chain, as far as `settle` has found; it reads no mask.

    Example:
        >>> free = {"x": torch.tensor([True]), "y": torch.tensor([True, False])}
        >>> moves_wholly(free, ("x",)), moves_wholly(settle(free), ("x",)), moves_wholly(settle(free), ("x", "y"))
        (False, True, False)
    """
    return isinstance(free, Settled) and free.whole.issuperset(blocks)


def anything_free(chain: Chain, free: Mask, block: str) -> bool:
    """Whether a block of a chain may move at all; raises ValueError if the chain has no such block.

    Where the entries of a mask are not read (`may_read`), the answer is yes; `settle` has read them before.
    """
    if block not in chain.position:
        raise ValueError(f"kernel: moves block {block!r}, but the chain has {', '.join(map(repr, chain.position))}")
    mask = free.get(block)
    if isinstance(free, Settled):
        return mask is not None
    return mask is not None and (not may_read(mask) or bool(mask.any()))
