"""Initial weights of `torch.nn` modules by a seed.

`torch.nn` draws the weights of a new module, and dropout, from the global generator only. So these few places seed it, and
put it back as it was; every draw of this library itself takes a generator.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["global_draws"]


@contextmanager
def global_draws(seed: int) -> Iterator[None]:
    """Seeds the global generator of the CPU while the block runs, and restores it.

    Not for threads: they share that generator.

    Args:
        seed: of what `torch.nn` draws in the block.

    Example:
        >>> before = torch.get_rng_state()
        >>> with global_draws(0):
        ...     first = torch.nn.Linear(2, 1).weight
        >>> with global_draws(0):
        ...     bool((torch.nn.Linear(2, 1).weight == first).all())
        True
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
