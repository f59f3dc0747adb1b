"""A model: an energy with its space, its noise and its kernel; saved as a folder, loaded without running anything in it."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jointebm.config import Config
from jointebm.energies.specs import EnergySpec
from jointebm.kernels import Cycle, KernelSpec
from jointebm.noise import Noise
from jointebm.spaces import Position, Space

__all__ = ["Model", "ModelConfig", "load"]

FORMAT = 1


class ModelConfig(Config):
    """All of a model but its numbers: `config.json` of a model folder."""

    format: int = Field(FORMAT, description="version of this layout")
    name: str = Field(description="name of the recipe it was trained by")
    data: str = Field(description="name of the data it was trained on")
    space: dict[str, dict[str, Any]] = Field(description="blocks, by name")
    energy: EnergySpec = Field(description="the network")
    kernel: KernelSpec = Field(description="the kernel that samples it")
    num_chains: int = Field(10, ge=1, description="chains of the sample-based vote")
    num_steps: int = Field(200, ge=1, description="kernel steps from noise when sampling")


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
        if path.exists():
            raise FileExistsError(f"{path}: exists; choose another folder or remove it")
        with torch.random.fork_rng(devices=[]):
            described = {
                name: tensor.shape for name, tensor in self.config.energy.build(self.space).state_dict().items()
            }
        if described != {name: tensor.shape for name, tensor in self.energy.state_dict().items()}:
            raise ValueError(
                f"{path}: the energy is not the one that config.energy describes, so it could not be loaded again; "
                "describe it by a spec (see CONTRIBUTING), or save its state_dict yourself"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            (scratch / "config.json").write_text(self.config.model_dump_json(indent=2) + "\n")
            tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in self.state_dict().items()}
            save_file(tensors, scratch / "model.safetensors")
            (scratch / "README.md").write_text(card or f"# {self.config.name}\n\nA jointebm model.\n")
            scratch.chmod(0o755)
            scratch.rename(path)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        return path


def load(path: str | os.PathLike[str]) -> Model:
    """Loads a model folder; nothing in it is executed.

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
    try:
        text = (path / "config.json").read_text()
        found_format = json.loads(text).get("format", FORMAT)
        if found_format != FORMAT:
            raise ValueError(f"{path / 'config.json'}: format {found_format}; this version reads format {FORMAT}")
        config = ModelConfig.model_validate_json(text)
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise ValueError(f"{path / 'config.json'}: not a model configuration: {_first_line(error)}") from None
    try:
        tensors = load_file(path / "model.safetensors")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path / 'model.safetensors'}: not a safetensors file: {error}") from None
    try:
        # torch.nn draws weights from the global generator only; it is put back as it was.
        with torch.random.fork_rng(devices=[]):
            model = Model(config)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"misses or does not know {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path / 'config.json'}: does not describe a model: {reason}") from None
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items() if tensor.is_floating_point()}
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in expected or expected[name] != found.get(name):
            raise ValueError(f"{path / 'model.safetensors'}: tensor {name!r} does not fit config.json")
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = json.loads(error.json(include_url=False))[0]
        return f"{'.'.join(map(str, first['loc'])) or 'top level'}: {first['msg']}"
    return str(error)
