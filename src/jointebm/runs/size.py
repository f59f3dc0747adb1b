"""Checks that a run fits into the memory of this machine, before anything of its size is allocated."""

import os
from math import prod

import torch

from jointebm.recipes import Recipe, recipe_fields
from jointebm.spaces.space import Space
from jointebm.storage.untrusted import quoted

__all__ = ["check_size"]

MAX_LAYERS = 1000


def check_size(recipe: Recipe, space: Space) -> None:
    """Raises if parameters and chains alone exceed the memory of this machine, or the network has too many layers."""
    name, widths = quoted(repr(recipe.name)), _widths(recipe)
    for path, values in widths.items():
        if len(values) > MAX_LAYERS:
            raise ValueError(
                f"recipe {name}: {path} has {len(values)} layers, expected at most {MAX_LAYERS}; choose fewer"
            )
    try:
        with torch.device("meta"):  # shapes without numbers
            num_parameters = sum(parameter.numel() for parameter in recipe.energy.build(space).parameters())
    except (RuntimeError, OverflowError, TypeError) as error:  # such as a size beyond 64 bits
        largest = max((width for values in widths.values() for width in values), default=0)
        reason = quoted(str(error).partition("\n")[0])
        raise ValueError(
            f"recipe {name}: its network, with widths up to {largest}, cannot be built for data {recipe.data!r}: {reason}"
        ) from None
    num_entries = recipe.train.buffer_size * sum(prod(block.position_shape) for block in space.values())
    # Parameters: values, gradient, average, two moments of Adam, and all but the gradient per snapshot. Chains: the buffer,
    # and one per snapshot.
    num_bytes = 4 * (13 * num_parameters + 3 * num_entries)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_bytes > memory:
        raise ValueError(
            f"recipe {name}: its network of {num_parameters} parameters and its replay buffer of {num_entries} numbers need "
            f"at least {-(-num_bytes >> 30)} GB, but this machine has {memory >> 30} GB; choose smaller widths or a smaller "
            "buffer_size"
        )


def _widths(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Widths of the layers of each part of a network, by path of the field."""
    fields = [field for field in recipe_fields(recipe) if field.path.startswith("energy.")]
    return {field.path: field.value for field in fields if isinstance(field.value, tuple)}
