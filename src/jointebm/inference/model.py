"""A model: an energy with its space, its noise and its kernel; saved as a folder of plain data."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from jointebm.energies.layer_gradients import is_exactly
from jointebm.inference.model_config import ModelConfig
from jointebm.inference.questions import Questions
from jointebm.inference.reports import ChainRecord, NormalizerRecord, Report
from jointebm.kernels import Cycle, Jump
from jointebm.references.reference import Reference
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Position, Space
from jointebm.storage.hub import OnHub
from jointebm.storage.model_cards import front_matter
from jointebm.storage.model_folder import BLOCK_MODEL, write_model

__all__ = ["Model"]


class Model(OnHub, Questions):
    """log p(x, y) = f(x, y) - log Z, with its space, noise and kernel.

    A model is itself the log-density: call it on a position, or pass it to `sample`, `predict` or a kernel.

    Args:
        config: its description.
        energy: the network with its weights; None builds it with fresh weights from torch's global generator.
        noise: where chains start; None is uniform noise.

    Example:
        >>> from jointebm import Categorical, Continuous, KernelSpec, Space
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
        """The joint sampler this model was trained with; with a reference and weighted chains, jumps from it come first."""
        kernel = self.config.kernel.build(self.space)
        if self.reference is None or not self.config.weighted:
            return kernel
        return Cycle((Jump(self.reference), *kernel.kernels))

    @property
    def reference(self) -> Reference | None:
        """q, if the energy is log q + residual."""
        return getattr(self.energy, "reference", None)

    @property
    def log_normalizer(self) -> NormalizerRecord | None:
        """log Z of f with its standard error; None if it is not known."""
        return self.config.log_normalizer

    @property
    def diagnostics(self) -> ChainRecord | None:
        """Of 500 chains after the fit: ess, acceptance, split R-hat; None for a model that `fit` did not make."""
        return self.config.diagnostics

    @property
    def report(self) -> Report | None:
        """What the fit reached on held-out rows; None for a model that `fit` did not make."""
        return self.config.report

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

    def value_and_score(self, position: Position) -> tuple[Tensor, dict[str, Tensor]] | None:
        """f and its score, where the energy computes them itself (see `kernels.known_scores`)."""
        known = getattr(self.energy, "value_and_score", None) if is_exactly(self, Model) else None
        return None if known is None else known(position)

    def head_value_and_score(self, features: Tensor, position: Position) -> tuple[Tensor, dict[str, Tensor]] | None:
        """The same of the head."""
        known = getattr(self.energy, "head_value_and_score", None) if is_exactly(self, Model) else None
        return None if known is None else known(features, position)

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
            card=card or _card(self.config),
            kind=BLOCK_MODEL,
        )


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _card(config: ModelConfig) -> str:
    """A short model card from the configuration."""
    parts = [
        f"{front_matter(config.data)}# {config.name}",
        "A jointebm model: one joint density of its blocks.",
        *filter(None, [config.findings]),
    ]
    return "\n\n".join(parts) + "\n"
