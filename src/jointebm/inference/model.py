"""A model: an energy with its space, its noise and its kernel; saved as a folder of plain data."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from jointebm.energies.specs import EnergySpec
from jointebm.inference.corrected import Target, draw_given
from jointebm.inference.importance import MIN_EFFECTIVE, mass_of_known
from jointebm.inference.prediction import Prediction
from jointebm.inference.reports import NormalizerRecord, Report
from jointebm.kernels import Cycle, Jump, KernelSpec
from jointebm.kernels.columns import columns_of
from jointebm.randomness.draws import Generator
from jointebm.references.reference import Reference
from jointebm.sampling.diagnostics import ConvergenceWarning, Diagnostics, warn_if_poor
from jointebm.sampling.sample import sample
from jointebm.spaces.blocks import Continuous
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Position, Space, Values
from jointebm.storage.config import MAX_COUNT, Config
from jointebm.storage.model_folder import BLOCK_MODEL, write_model

__all__ = ["Model", "ModelConfig"]

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
    num_steps: int = Field(
        200, ge=1, le=MAX_COUNT, description="kernel steps from noise, or the reference, when sampling"
    )
    log_normalizer: NormalizerRecord | None = Field(None, description="log Z; null: not known, f is not normalised")
    diagnostics: Diagnostics | None = Field(None, description="of 500 chains after the fit")
    report: Report | None = Field(None, description="of the fit")

    @property
    def findings(self) -> str:
        """log Z, diagnostics and report in words; empty for a model without them."""
        found = []
        if self.log_normalizer is not None:
            found.append(f"log Z of f: {self.log_normalizer}.")
        if self.diagnostics is not None:
            found.append(f"Chains after the fit: {self.diagnostics}.")
        if self.report is not None:
            found.append(str(self.report))
        return "\n\n".join(found)


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
        """The joint sampler this model was trained with; with a reference, jumps from it come first."""
        kernel = self.config.kernel.build(self.space)
        return kernel if self.reference is None else Cycle((Jump(self.reference), *kernel.kernels))

    @property
    def reference(self) -> Reference | None:
        """q, if the energy is log q + residual."""
        return getattr(self.energy, "reference", None)

    @property
    def log_normalizer(self) -> NormalizerRecord | None:
        """log Z of f with its standard error; None if it is not known."""
        return self.config.log_normalizer

    @property
    def diagnostics(self) -> Diagnostics | None:
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

    def forward(self, position: Position) -> Tensor:
        """f at each row of a position, shape (N,), nats."""
        return self.energy(position)

    def log_density(self, values: Values, *, num_draws: int = 256, seed: int = 0) -> Tensor:
        """log p of what is known of each row, normalised, in the units of the values, shape (N,), nats.

        log p(known) = log of the integral of exp F over the missing entries - log Z + log |d position / d value|

        Missing labels of few configurations are summed out exactly; anything else is estimated by draws of the reference
        given what is known, whose log is too low on average. Calling the model gives f at positions instead.

        Args:
            values: per block, shape (N, *variable_shape); NaN, -1 and absent blocks are marginalised.
            num_draws: of each row with missing reals or very many configurations; 16 times as many where they are poor.
            seed: of these draws.

        Raises:
            ValueError: the model has no reference or no log Z: its f has no known normaliser.

        Warns:
            ConvergenceWarning: the draws of some rows have an ess below 10.
        """
        reference = self._reference("log_density")
        if self.log_normalizer is None:
            raise ValueError("log_density: log Z of this model is not known; fit it by jointebm.fit")
        position, observed = self._encoded(values)
        mass = mass_of_known(
            self,
            self.space,
            reference,
            position,
            num_draws=num_draws,
            generator=self._generator(seed),
            with_marginals=False,
        )
        _warn_of_rows("log_density", mass.ess, num_draws)
        log_p = mass.log_mass - self.log_normalizer.value
        for name in self.space.continuous:
            block, seen = self.space[name], observed[name]
            assert isinstance(block, Continuous)
            slope = block.transform.log_slope(block.decode(position[name].nan_to_num()))
            log_p = log_p + torch.where(seen, slope, 0).reshape(len(log_p), -1).sum(dim=1)
        return log_p

    def sample(
        self, num: int, given: Mapping[str, Any] | None = None, seed: int = 0, *, num_steps: int | None = None
    ) -> dict[str, Tensor]:
        """Draws rows given what is known, as values.

        With a reference, chains start from its draws, reweighted and resampled, and move by the kernel with jumps. Without
        one they start from noise, and finite chains keep the modes where they fell.

        Args:
            num: number of rows N.
            given: per block, values that broadcast to (N, *variable_shape), NaN or -1 is free; or for single variables, a
                set of classes or an interval (low, high) of reals, alone or as an entry of a list. Sets and intervals need
                a reference.
            seed: of all draws.
            num_steps: kernel steps; None is the model's.

        Warns:
            ConvergenceWarning: neither starts nor jumps settle the weights of modes.
        """
        steps = self.config.num_steps if num_steps is None else num_steps
        generator = self._generator(seed)
        if self.reference is None:
            chains = {"num_chains": num, "num_steps": steps, "given": given, "init": self.noise}
            return sample(self, self.space, self.kernel, generator=generator, **chains).values  # type: ignore[arg-type]
        drawn = draw_given(self._target(), num, given, num_steps=steps, generator=generator)
        warn_if_poor(drawn.diagnostics, "sample")
        return drawn.values

    def predict(
        self, values: Values, target: str | Sequence[str], *, num_draws: int = 256, seed: int = 0
    ) -> Prediction:
        """Predicts discrete blocks from whatever else is known of each row.

        Probabilities are marginals given what is known, all else summed out: exactly if no real is missing and the missing
        labels have at most 4096 configurations, otherwise by draws of the reference with exact conditionals.

        Args:
            values: per block, shape (N, *variable_shape); NaN, -1 or an absent block is missing.
            target: name or names of discrete blocks.
            num_draws: as for `log_density`.
            seed: of all draws.

        Returns:
            `Prediction`: `labels`, the most probable class of each variable, and `probs`.

        Raises:
            ValueError: the model has no reference, and a row misses reals or very many labels: see `jointebm.predict`.

        Warns:
            ConvergenceWarning: the draws of some rows have an ess below 10.
        """
        targets = (target,) if isinstance(target, str) else tuple(target)
        self.space.require(targets, discrete=True)
        position, _ = self._encoded(values)
        mass = mass_of_known(
            self, self.space, self.reference, position, num_draws=num_draws, generator=self._generator(seed)
        )
        _warn_of_rows("predict", mass.ess, num_draws)
        columns = columns_of(self.space, self.space.discrete, mass.columns.device)
        probs = columns.split(mass.columns)
        return Prediction({n: self.space[n].decode(probs[n]) for n in targets}, {n: probs[n] for n in targets})

    def impute(
        self, values: Values, num: int = 1, seed: int = 0, *, num_steps: int | None = None
    ) -> list[dict[str, Tensor]]:
        """Draws the missing entries of each row given the others, which keep their bits.

        Args:
            values: per block, shape (N, *variable_shape); NaN, -1 or an absent block is missing.
            num: number of completions.
            seed: of all draws.
            num_steps: kernel steps; None is the model's.

        Returns:
            A list of `num` completions, each values by block.
        """
        num_rows = len(next(iter(values.values())))
        repeated = {}
        for name, value in values.items():
            rows = torch.as_tensor(value)
            repeated[name] = rows.repeat(num, *[1] * (rows.ndim - 1))
        drawn = self.sample(num_rows * num, repeated, seed, num_steps=num_steps)
        return [{name: value[i * num_rows : (i + 1) * num_rows] for name, value in drawn.items()} for i in range(num)]

    def _reference(self, what: str) -> Reference:
        if self.reference is None:
            raise ValueError(
                f"{what}: this model has no reference, so f is not normalised; call the model on positions for f, or fit "
                "one by jointebm.fit"
            )
        return self.reference

    def _target(self) -> Target:
        return Target(self, self._reference("sample"), self.kernel)

    def _encoded(self, values: Values) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        parameter = next(self.parameters())
        return self.space.encode(values, dtype=parameter.dtype, device=parameter.device)

    def _generator(self, seed: int) -> Generator:
        return torch.Generator(next(self.parameters()).device).manual_seed(seed)

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
    parts = [f"# {config.name}", "A jointebm model: one joint density of its blocks.", *filter(None, [config.findings])]
    return "\n\n".join(parts) + "\n"


def _warn_of_rows(what: str, ess: Tensor, num_draws: int) -> None:
    poor = int((ess < MIN_EFFECTIVE).sum())
    if poor:
        warnings.warn(
            f"{what}: the draws of {poor} of {len(ess)} rows have an ess below {MIN_EFFECTIVE:.0f}, the least of them "
            f"{float(ess.min()):.1f}; their answers are too low on average. Remedy: num_draws above {num_draws}",
            ConvergenceWarning,
            stacklevel=3,
        )
