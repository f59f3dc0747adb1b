"""Where the chains of a model start: at draws of its reference, ends of paths over noise levels, exact draws, or noise."""

from collections.abc import Mapping
from typing import Any

from jointebm.energies.level_energy import LevelEnergy
from jointebm.energies.picture import PictureEnergy
from jointebm.inference.corrected import Target, draw_given
from jointebm.inference.model import Model
from jointebm.inference.subset_answers import anneal_given, exact_rows
from jointebm.randomness.draws import Generator
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Position

__all__ = ["chain_starts"]


def chain_starts(model: Model, num: int, given: Mapping[str, Any] | None, generator: Generator) -> Position | Noise:
    """Starts of chains given what is known, as `Model.sample` has them.

    With a reference they are its draws given what is known, chosen in proportion to exp(F) / q unless the model's chains are
    unweighted. They are draws of p only if q is close to p; the kernel does the rest. Those of a model of any subset are the
    ends of paths over noise levels, and those of a `PictureEnergy` are exact draws.

    Args:
        model: the model.
        num: number of chains N.
        given: per block, values that broadcast to (N, *variable_shape); NaN, -1 or an absent block is free.
        generator: source of all draws.

    Returns:
        Positions of N chains, or the noise of a model with none of these.

    Example:
        >>> import torch
        >>> from jointebm import load
        >>> starts = chain_starts(load("pretrained:toy"), 500, {"left": 1}, torch.Generator().manual_seed(0))
        >>> bool((starts["point"][:, 0] < 1).all())
        True
    """
    if isinstance(model.energy, LevelEnergy):
        return anneal_given(model.energy, num, given, generator).position
    if isinstance(model.energy, PictureEnergy):
        return exact_rows(model.energy, model.space, num, given, generator)
    if model.reference is None:
        return model.noise
    target = Target(model, model.reference, model.kernel, model.config.weighted)
    values, _ = draw_given(target, num, given, num_steps=0, generator=generator)
    parameter = next(model.parameters())
    return model.space.encode(values, dtype=parameter.dtype, device=parameter.device)[0]
