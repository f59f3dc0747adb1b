"""A model: an energy with its space, its noise and its kernel; saved as a folder, loaded without running anything in it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from jointebm.energies.specs import EnergySpec
from jointebm.kernels import Cycle, KernelSpec
from jointebm.spaces.blocks import Binary, Block, Continuous
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Position, Space
from jointebm.storage.atomic import new_folder
from jointebm.storage.config import Config
from jointebm.storage.untrusted import quoted, read_config
from jointebm.storage.weights import _exceeds, _whole_numbers, check_tensors, read_weights

__all__ = ["Model", "ModelConfig", "load"]

FORMAT = 1
MAX_DIMENSIONS = 64  # of a block; torch computes with no more
MAX_COUNT = 1_000_000  # of chains or steps
SUM_TOLERANCE = 0.02  # of probabilities, which may have been rounded to half precision

# Names become parts of file names and are printed: no slashes, and nothing that a terminal would act on.
Name = Annotated[str, Field(pattern=r"^[^\p{C}/\\]+$", max_length=200)]


class ModelConfig(Config):
    """All of a model but its numbers: `config.json` of a model folder."""

    format: int = Field(FORMAT, description="version of this layout")
    name: Name = Field(description="name of the recipe it was trained by")
    data: Name = Field(description="name of the data it was trained on")
    space: dict[Name, dict[str, Any]] = Field(description="blocks, by name")
    energy: EnergySpec = Field(description="the network")
    kernel: KernelSpec = Field(description="the kernel that samples it")
    num_chains: int = Field(10, ge=1, le=MAX_COUNT, description="chains of the sample-based vote")
    num_steps: int = Field(200, ge=1, le=MAX_COUNT, description="kernel steps from noise when sampling")


class Model(nn.Module):
    """log p(x, y) = f(x, y) - log Z, ready to be sampled and conditioned.

    A model is itself the log-density: call it on a position, or hand it to `sample`, `predict` and every kernel.

    Args:
        config: what it is made of.
        energy: the network with its weights; None builds it with fresh weights from torch's global generator.
        noise: what chains start from; None is uniform noise that knows no data.

    Example:
        >>> from jointebm import Categorical, Continuous, Space
        >>> from jointebm.energies import ConcatSpec, MLPSpec
        >>> space = Space(point=Continuous(2), label=Categorical(3))
        >>> config = ModelConfig(name="example", data="none", space=space.config,
        ...                      energy=ConcatSpec(net=MLPSpec(hidden=(16,))), kernel=KernelSpec(step_size=0.1))
        >>> Model(config)({"point": torch.zeros(4, 2), "label": torch.eye(3)[[0, 1, 2, 0]]}).shape
        torch.Size([4])
    """

    def __init__(self, config: ModelConfig, *, energy: nn.Module | None = None, noise: Noise | None = None) -> None:
        super().__init__()
        self.config = config
        self.space = Space.from_config(config.space)
        self.energy = config.energy.build(self.space) if energy is None else energy
        for name, parameter in (noise or Noise.uniform(self.space)).parameters.items():
            self.register_buffer(f"noise_{name}", parameter.clone())

    @property
    def noise(self) -> Noise:
        """What chains start from (App. B)."""
        return Noise(self.space, {name: self.get_buffer(f"noise_{name}") for name in self.space})

    @property
    def kernel(self) -> Cycle:
        """The joint sampler this model was trained with."""
        return self.config.kernel.build(self.space)

    @property
    def encoded_blocks(self) -> tuple[str, ...]:
        """Blocks that only the encoder reads; see `kernels.EncodedLogDensity`."""
        return getattr(self.energy, "encoded_blocks", ())

    def encode(self, position: Position) -> Tensor:
        """Features of the encoded blocks."""
        return self.energy.encode(position)  # type: ignore[operator]

    def head(self, features: Tensor, position: Position) -> Tensor:
        """f from the features and the other blocks."""
        return self.energy.head(features, position)  # type: ignore[operator]

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position, shape (N,), nats."""
        return self.energy(position)

    def save(self, path: str | os.PathLike[str], *, card: str | None = None) -> Path:
        """Writes a model folder: `config.json`, `model.safetensors` and the card `README.md`.

        The folder appears whole or not at all.

        Args:
            path: the folder, which must not exist.
            card: text of the model card; None writes a short one from the configuration.

        Raises:
            FileExistsError: the folder exists.
            ValueError: the energy is not what the configuration describes, so that `load` could not rebuild it.
        """
        path = Path(path)
        with torch.random.fork_rng(devices=[]):
            described = {
                name: tensor.shape for name, tensor in self.config.energy.build(self.space).state_dict().items()
            }
        if described != {name: tensor.shape for name, tensor in self.energy.state_dict().items()}:
            raise ValueError(
                f"{path}: the energy is not the one that config.energy describes, so it could not be loaded again; "
                "describe it by a spec (see CONTRIBUTING), or save its state_dict yourself"
            )
        with new_folder(path) as scratch:
            (scratch / "config.json").write_text(self.config.model_dump_json(indent=2) + "\n")
            tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in self.state_dict().items()}
            save_file(tensors, scratch / "model.safetensors")
            (scratch / "README.md").write_text(card or f"# {self.config.name}\n\nA jointebm model.\n")
        return path


def load(path: str | os.PathLike[str]) -> Model:
    """Loads a model folder; nothing in it is executed.

    What `config.json` declares is compared with what `model.safetensors` holds before a network of that size is made.

    Args:
        path: a folder that `Model.save` wrote.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file does not hold what it should, with the file and the reason.
    """
    path = Path(path)
    for name in ("config.json", "model.safetensors"):
        if not (path / name).is_file():
            raise FileNotFoundError(
                f"{path / name}: no such file; a model folder holds config.json and model.safetensors"
            )
    config = read_config(path / "config.json", "a model configuration", ModelConfig, version=FORMAT)
    tensors = read_weights(path / "model.safetensors")
    try:
        space = Space.from_config(config.space)
        _check_declared(config, space, tensors)
        with torch.device("meta"):  # shapes without numbers
            energy = config.energy.build(space)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"misses or does not know {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path / 'config.json'}: does not describe a model: {quoted(reason)}") from None
    noise_shapes = {f"noise_{name}": _noise_shape(block) for name, block in space.items()}
    energy_shapes = {f"energy.{name}": tuple(tensor.shape) for name, tensor in energy.state_dict().items()}
    check_tensors(path / "model.safetensors", tensors, noise_shapes | energy_shapes)
    energy.load_state_dict({name: tensors[f"energy.{name}"] for name in energy.state_dict()}, assign=True)
    noise = Noise(space, {name: tensors[f"noise_{name}"] for name in space})
    _check_noise(path / "model.safetensors", noise)
    return Model(config, energy=energy, noise=noise).eval()


def _check_declared(config: ModelConfig, space: Space, tensors: Mapping[str, Tensor]) -> None:
    """Raises if the configuration declares blocks or layers for which the file has no room.

    A layer has a weight, whose entries are no fewer than its width, and a block has as many entries of noise.
    """
    num_entries = sum(tensor.numel() for tensor in tensors.values())
    for name, block in space.items():
        shape = block.position_shape
        if len(shape) > MAX_DIMENSIONS or _exceeds(shape, num_entries):
            raise ValueError(
                f"block {name!r} is larger than all of model.safetensors, which holds {num_entries} numbers"
            )
    widths = list(_whole_numbers(config.energy.model_dump()))
    if len(widths) > len(tensors) or max(widths, default=0) > num_entries:
        raise ValueError(
            f"energy: {len(widths)} widths up to {max(widths)} need a larger network than model.safetensors, which holds "
            f"{num_entries} numbers in {len(tensors)} tensors"
        )


def _noise_shape(block: Block) -> tuple[int, ...]:
    """The shape of what `Block.draw` takes."""
    return (2, *block.position_shape) if isinstance(block, Continuous) else block.position_shape


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
            raise ValueError(f"{path}: tensor {quoted(repr(f'noise_{name}'))} holds no {kind}")
