"""A model: an energy with its space, its noise and its kernel; saved as a folder of plain data."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from jointebm.energies.specs import EnergySpec
from jointebm.kernels import Cycle, KernelSpec
from jointebm.spaces.blocks import Categorical, Continuous
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Position, Space
from jointebm.storage.config import MAX_COUNT, Config
from jointebm.storage.model_folder import BLOCK_MODEL, check_room, check_sizes, read_model, write_model
from jointebm.storage.untrusted import quoted

__all__ = ["Model", "ModelConfig", "load_model"]

SUM_TOLERANCE = 0.02  # of probabilities, which may have been rounded to half precision

# Names become parts of file names and are printed: no slashes, and nothing that a terminal would act on.
_Name = Annotated[str, Field(pattern=r"^[^\p{C}/\\]+$", max_length=200)]


class ModelConfig(Config):
    """Everything of a model but its weights and noise: `config.json` of a model folder."""

    format: Literal[1] = Field(1, description="version of this layout")
    name: _Name = Field(description="name of the recipe it was trained by")
    data: _Name = Field(description="name of the data it was trained on")
    space: dict[_Name, dict[str, Any]] = Field(description="blocks, by name")
    energy: EnergySpec = Field(description="the network")
    kernel: KernelSpec = Field(description="the kernel that samples it")
    num_chains: int = Field(10, ge=1, le=MAX_COUNT, description="chains of the sample-based vote")
    num_steps: int = Field(200, ge=1, le=MAX_COUNT, description="kernel steps from noise when sampling")


class Model(nn.Module):
    """log p(x, y) = f(x, y) - log Z, with its space, noise and kernel.

    A model is itself the log-density: call it on a position, or pass it to `sample`, `predict` or a kernel.

    Args:
        config: its description.
        energy: the network with its weights; None builds it with fresh weights from torch's global generator.
        noise: where chains start; None is uniform noise.

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
        """The distribution that chains start from (App. B)."""
        return Noise(self.space, {name: self.get_buffer(f"noise_{name}") for name in self.space})

    @property
    def kernel(self) -> Cycle:
        """The joint sampler this model was trained with."""
        return self.config.kernel.build(self.space)

    @property
    def encoded_blocks(self) -> tuple[str, ...]:
        """Blocks that only the encoder reads (see `kernels.EncodedLogDensity`)."""
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
        """Writes a model folder: `config.json`, `model.safetensors` and the card `README.md`, whole or not at all.

        Args:
            path: the folder, which must not exist.
            card: text of the model card; None writes a short one from the configuration.

        Raises:
            FileExistsError: the folder exists.
            OSError: it cannot be written; names the file.
            ValueError: the energy is not what the configuration describes, so that `load` could not rebuild it.
        """
        path = Path(path)
        with torch.device("meta"):  # shapes without numbers
            described = self.config.energy.build(self.space)
        if _shapes(described) != _shapes(self.energy):
            raise ValueError(
                f"{path}: the energy is not the one that config.energy describes, so it could not be loaded again; "
                "describe it by a spec (see CONTRIBUTING), or save its state_dict yourself"
            )
        return write_model(
            path,
            self.config.model_dump_json(indent=2) + "\n",
            self.state_dict(),
            card=card or f"# {self.config.name}\n\nA jointebm model.\n",
            kind=BLOCK_MODEL,
        )


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def load_model(path: str | os.PathLike[str]) -> Model:
    """Loads the folder of a block model, as `jointebm.load` does."""
    path = Path(path)
    _, model = read_model(path, BLOCK_MODEL, ModelConfig, check=_check_declared, build=Model)
    _check_noise(path / "model.safetensors", model.noise)
    return model


def _check_declared(config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
    """Raises if blocks or layers are declared for which the file has no room.

    A layer has a weight, whose entries are no fewer than its width, and a block has as many entries of noise.
    """
    for name, block in Space.from_config(config.space).items():
        check_room(f"block {name!r}", block.position_shape, tensors)
    check_sizes("energy", config.energy.model_dump(), tensors, at_most=len(tensors))


def _check_noise(path: Path, noise: Noise) -> None:
    """Raises unless chains can start from the noise: bounds in order, probabilities in [0, 1] that sum to one."""
    for name, block in noise.space.items():
        parameter = noise.parameters[name]
        if isinstance(block, Continuous):
            fits, kind = bool((parameter[0] <= parameter[1]).all()), "bounds in order"
        else:
            fits, kind = bool((parameter >= 0).all() and (parameter <= 1).all()), "probabilities that sum to one"
        if isinstance(block, Categorical):
            parts = parameter.flatten().split(list(block.num_classes_per_variable))
            fits &= all(abs(float(part.float().sum()) - 1) < SUM_TOLERANCE for part in parts)
        if not fits:
            raise ValueError(f"{path}: tensor {quoted(repr(f'noise_{name}'))} does not hold {kind}")
