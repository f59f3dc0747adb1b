"""Reads folders of block models; nothing in them is executed."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from jointebm.energies.level_energy import LevelEnergy
from jointebm.inference.model import Model
from jointebm.inference.model_config import ModelConfig
from jointebm.randomness.devices import Device, place_of
from jointebm.spaces.blocks import Binary, Continuous
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Space
from jointebm.storage.model_folder import BLOCK_MODEL, check_room, check_sizes, read_model
from jointebm.storage.untrusted import quoted

__all__ = ["load_model"]

SUM_TOLERANCE = 0.02  # of probabilities, which may have been rounded to half precision


def load_model(path: str | os.PathLike[str], *, device: Device = "cpu") -> Model:
    """Loads the folder of a block model; nothing in it is executed.

    Args:
        path: a folder that `Model.save` wrote.
        device: where its parameters are; see `place_of`.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: the folder holds a table model, or a file does not hold what it should; names the file and the reason.

    Example:
        >>> from jointebm.inference.pretrained import find_model
        >>> load_model(find_model("pretrained:toy")).space.discrete
        ('bottom', 'left', 'diagonal')
    """
    path, place = Path(path), place_of(device, wide=False)
    _, model = read_model(path, BLOCK_MODEL, ModelConfig, check=_check_declared, build=_unfilled)
    _check_noise(path / "model.safetensors", model.noise)
    if model.reference is not None or isinstance(model.energy, LevelEnergy):
        place = place_of(place)  # with float64
    return model.to(place)


def _check_declared(config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
    """Raises if blocks or layers are declared for which the file has no room.

    A layer has a weight, whose entries are no fewer than its width, and a block has as many entries of noise.
    """
    for name, block in Space.from_config(config.space).items():
        check_room(f"block {name!r}", block.position_shape, tensors)
    check_sizes("energy", config.energy.model_dump(), tensors, at_most=len(tensors))


def _unfilled(config: ModelConfig) -> Model:
    """A model whose energy and noise have their shapes and no values yet."""
    space = Space.from_config(config.space)
    shapes = {
        name: (2, *block.position_shape) if isinstance(block, Continuous) else block.position_shape
        for name, block in space.items()
    }
    return Model(config, noise=Noise(space, {name: torch.empty(shape) for name, shape in shapes.items()}))


def _check_noise(path: Path, noise: Noise) -> None:
    """Raises unless chains can start from the noise: bounds in order, probabilities in [0, 1] that sum to one."""
    for name, block in noise.space.items():
        parameter = noise.parameters[name]
        if isinstance(block, Continuous):
            fits = bool((parameter[0] <= parameter[1]).all())
        else:
            fits = bool((parameter >= 0).all() and (parameter <= 1).all())
            parts = [] if isinstance(block, Binary) else [parameter]
            if not isinstance(block, Binary) and block.ragged:
                parts = list(parameter.split(list(block.num_classes_per_variable)))
            fits &= all(bool(((part.float().sum(dim=-1) - 1).abs() < SUM_TOLERANCE).all()) for part in parts)
        if not fits:
            kind = "bounds in order" if isinstance(block, Continuous) else "probabilities that sum to one"
            raise ValueError(f"{path}: tensor {quoted(repr(f'noise_{name}'))} does not hold {kind}")
