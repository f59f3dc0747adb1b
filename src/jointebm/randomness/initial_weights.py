"""What `torch.nn` draws, from a generator: the weights of a new module, and dropout.

`torch.nn` takes no generator and would draw from the global one. Its operations take one; a dispatch mode gives it to them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["DrawsFrom"]


class DrawsFrom(TorchDispatchMode):
    """While the block runs, every operation of this thread that draws takes this generator, unless it was given another one.

    The global generator is neither read nor moved. The bits are those that it would give with the same seed.

    Args:
        generator: source of all draws, on the device of the tensors.

    Raises:
        RuntimeError: in the block, an operation draws and takes no generator.

    Example:
        >>> before = torch.get_rng_state()
        >>> with DrawsFrom(torch.Generator().manual_seed(0)):
        ...     first = torch.nn.Linear(2, 1).weight
        >>> with DrawsFrom(torch.Generator().manual_seed(0)):
        ...     bool((torch.nn.Linear(2, 1).weight == first).all())
        True
        >>> torch.equal(before, torch.get_rng_state())
        True
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Evaluates one operation."""
        given = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags and given.get("generator") is None:
            if all(each.name != "generator" for each in func._schema.arguments):
                raise RuntimeError(
                    f"DrawsFrom: {func} draws from the global generator of torch and takes no other; use one that takes a "
                    "generator, such as torch.Tensor.normal_ or uniform_"
                )
            given["generator"] = self._generator
        return func(*args, **given)
