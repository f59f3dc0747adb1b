"""The conditional path: "given part of a row, draw the rest", from values to values.

Legend: N rows.
"""

from collections.abc import Callable, Sequence

import torch

from jointebm.kernels import Kernel, LogDensity
from jointebm.randomness.draws import Generator
from jointebm.sampling.sample import sample
from jointebm.spaces.space import Mask, Position, Space

__all__ = ["Redraw", "Transition", "check_held", "conditional_path", "full_mask", "tile"]

Transition = Callable[[Position, Mask, Generator], Position]
"""(position, free, generator) -> position: moves what is free, given the rest. A block that `free` leaves out is clamped.

Example:
    >>> def stay(position, free, generator): return dict(position)  # leaves everything invariant, and never moves
    >>> transition: Transition = stay
    >>> transition({"x": torch.ones(2)}, {}, torch.Generator())
    {'x': tensor([1., 1.])}
"""

Redraw = Callable[[Position, Mask, Generator], Position]
"""(position, free, generator) -> position: draws what is *not* free from its exact conditional, given what is free.

Example:
    >>> def fair(position, free, generator):  # bits that are independent of everything
    ...     bits = torch.randint(2, position["bit"].shape, generator=generator).float()
    ...     return {"bit": torch.where(free["bit"], position["bit"], bits)}
    >>> redraw: Redraw = fair
    >>> redraw({"bit": torch.full((2,), 9.0)}, {"bit": torch.tensor([True])}, torch.Generator())
    {'bit': tensor([9., 9.])}
"""


def conditional_path(log_density: LogDensity, space: Space, kernel: Kernel, *, num_steps: int = 1) -> Transition:
    """Makes a transition of a user's whole call: values, `sample` with `given`, and values again.

    Clamped entries reach the chains only through `given`; they are NaN in the start. Entries whose value did not change keep
    their bits, so the rounding between positions and values makes no difference.

    Args:
        log_density: f, shape (N,).
        space: the blocks.
        kernel: moves the chains.
        num_steps: kernel steps of one transition, >= 1. A stale f or score is visible only from 2 on.

    Example:
        >>> from jointebm import Binary, kernels
        >>> space = Space(bits=Binary(2))
        >>> path = conditional_path(lambda position: 50 * position["bits"].sum(dim=1), space, kernels.Gibbs(space))
        >>> free = {"bits": torch.tensor([[True, False]])}
        >>> path({"bits": torch.zeros(1, 2)}, free, torch.Generator())
        {'bits': tensor([[1., 0.]])}
    """

    def transition(position: Position, free: Mask, generator: Generator) -> Position:
        num_chains, dtype = len(next(iter(position.values()))), next(iter(position.values())).dtype
        free = full_mask(space, free, num_chains)
        values = space.decode(position)
        given = {
            name: torch.where(free[name], -1 if block.discrete else torch.nan, values[name])
            for name, block in space.items()
        }
        init = {name: torch.where(block.expand(free[name]), position[name], torch.nan) for name, block in space.items()}
        samples = sample(
            log_density,
            space,
            kernel,
            num_chains=num_chains,
            num_steps=num_steps,
            given=given,
            init=init,
            generator=generator,
        )
        returned, _ = space.encode(samples.values, dtype=dtype)
        # Given entries are encoded and decoded once in between; free entries start from the position itself.
        as_given = space.decode(space.encode(values, dtype=dtype)[0])
        unmoved = {
            name: samples.values[name] == torch.where(free[name], values[name], as_given[name]) for name in space
        }
        return {
            name: torch.where(block.expand(unmoved[name]), position[name], returned[name])
            for name, block in space.items()
        }

    return transition


def tile(space: Space, patterns: Sequence[Mask] | None, num: int) -> dict[str, torch.Tensor]:
    """Assigns patterns of what is free to rows: row i has number i modulo their count; None frees everything."""
    if patterns is None:
        patterns = ({name: torch.tensor(True) for name in space},)
    if not patterns:
        raise ValueError("patterns: needs at least one, such as {'x': torch.tensor(True)}; None frees everything")
    for pattern in patterns:
        space.require(pattern)
    number = torch.arange(num) % len(patterns)
    rows = [full_mask(space, pattern, 1) for pattern in patterns]
    return {name: torch.cat([row[name] for row in rows])[number] for name in space}


def check_held(space: Space, before: Position, after: Position, free: Mask) -> None:
    """Raises AssertionError, naming block and row, if an entry that is not free has changed in any bit."""
    free = full_mask(space, free, len(next(iter(before.values()))))
    for name, block in space.items():
        moved = ~block.expand(free[name]) & (before[name] != after[name])
        rows = moved.reshape(len(moved), -1).any(dim=1)
        if bool(rows.any()):
            raise AssertionError(
                f"transition: moved a clamped entry of block {name!r}, in row {int(rows.nonzero()[0])} "
                f"({int(rows.sum())} of {len(rows)} rows)"
            )


def full_mask(space: Space, free: Mask, num: int) -> dict[str, torch.Tensor]:
    """The mask of every block at full size."""
    held = torch.tensor(False)
    return {name: free.get(name, held).expand(num, *block.variable_shape) for name, block in space.items()}
