"""Questions to a block model: densities, samples, predictions and imputations, each with its diagnostics.

Legend: N rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from jointebm.inference.corrected import Target, draw_given
from jointebm.inference.importance import mass_of_known
from jointebm.inference.model_config import ModelConfig
from jointebm.inference.prediction import Prediction
from jointebm.inference.reports import NormalizerRecord
from jointebm.inference.subset_answers import PART_ENERGIES, annealed_rows, subset_log_density, subset_prediction
from jointebm.kernels import Cycle
from jointebm.kernels.columns import columns_of
from jointebm.randomness.devices import on_cpu
from jointebm.randomness.draws import Generator
from jointebm.references.reference import Reference
from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.sampling.sample import sample
from jointebm.spaces.blocks import Continuous
from jointebm.spaces.noise import Noise
from jointebm.spaces.space import Space, Values

__all__ = ["Questions"]

MIN_POOL_ESS = 50.0  # draws of the reference to choose starts among; with fewer, modes get wrong weights
_MORE_JUMPS = "a larger num_steps, fewer or wider conditions, or a fit with more rows"
MIN_JUMPS = 2.0  # accepted per chain; with fewer, chains stay near their starts


class Questions(nn.Module, ABC):
    """The questions that `Model` answers.

    Answers are on the CPU, wherever the parameters are. With `diagnostics=True` every question returns (answer,
    `Diagnostics`): effective draws and standard errors per row, acceptance and split R-hat where chains ran.
    """

    config: ModelConfig
    energy: nn.Module
    space: Space

    @property
    def device(self) -> torch.device:
        """Where the parameters are, and all that is computed with them; `to` moves them."""
        return next(self.parameters()).device

    @property
    @abstractmethod
    def noise(self) -> Noise:
        """The distribution that chains start from (App. B)."""

    @property
    @abstractmethod
    def kernel(self) -> Cycle:
        """The joint sampler."""

    @property
    @abstractmethod
    def reference(self) -> Reference | None:
        """q, if there is one."""

    @property
    @abstractmethod
    def log_normalizer(self) -> NormalizerRecord | None:
        """log Z of f, if it is known."""

    @overload
    def log_density(
        self, values: Values, *, num_draws: int = ..., seed: int = ..., diagnostics: Literal[False] = ...
    ) -> Tensor: ...
    @overload
    def log_density(
        self, values: Values, *, num_draws: int = ..., seed: int = ..., diagnostics: Literal[True]
    ) -> Answer[Tensor]: ...
    def log_density(
        self, values: Values, *, num_draws: int = 256, seed: int = 0, diagnostics: bool = False
    ) -> Tensor | Answer[Tensor]:
        """log p of what is known of each row, normalised, in the units of the values, shape (N,), nats.

        log p(known) = log of the integral of exp F over the missing entries - log Z + log |d position / d value|

        Missing labels of few configurations are summed out exactly; anything else is estimated by draws of the reference
        given what is known, whose log is too low on average. A model of any subset gives f of the known part, in one pass,
        as training normalised it; log Z is subtracted where every real is known. Calling the model gives f at positions
        instead.

        Args:
            values: per block, shape (N, *variable_shape); NaN, -1 and absent blocks are marginalised.
            num_draws: of each row with missing reals or very many configurations; 16 times as many where they are poor.
            seed: of these draws.
            diagnostics: whether to return (answer, `Diagnostics`). Its standard errors are without that of log Z.

        Raises:
            ValueError: f has no known normaliser: the model has no reference or no log Z, and is not of any subset.

        Warns:
            ConvergenceWarning: the draws of some rows have an ess below 10.
        """
        position, observed = self._encoded(values)
        if isinstance(self.energy, PART_ENERGIES):
            log_p = subset_log_density(self.energy, position, self.log_normalizer.value if self.log_normalizer else 0.0)
            found = Diagnostics.of_exact(len(log_p), torch.zeros_like(log_p))
        else:
            reference = self._reference("log_density")
            if self.log_normalizer is None:
                raise ValueError("log_density: log Z of this model is not known; fit it by jointebm.fit")
            mass = mass_of_known(
                self,
                self.space,
                reference,
                position,
                num_draws=num_draws,
                generator=self._generator(seed),
                with_marginals=False,
            )
            log_p = mass.log_mass - self.log_normalizer.value
            found = Diagnostics(mass.ess.isinf(), mass.ess, mass.error)
        for name in self.space.continuous:
            block, seen = self.space[name], observed[name]
            assert isinstance(block, Continuous)
            slope = block.transform.log_slope(block.decode(position[name].nan_to_num()))
            log_p = log_p + torch.where(seen, slope, 0).reshape(len(log_p), -1).sum(dim=1)
        answer = on_cpu(Answer(log_p, found)).checked("log_density", f"num_draws above {num_draws}")
        return answer if diagnostics else answer.value

    @overload
    def sample(
        self,
        num: int,
        given: Mapping[str, Any] | None = ...,
        seed: int = ...,
        *,
        num_steps: int | None = ...,
        diagnostics: Literal[False] = ...,
    ) -> dict[str, Tensor]: ...
    @overload
    def sample(
        self,
        num: int,
        given: Mapping[str, Any] | None = ...,
        seed: int = ...,
        *,
        num_steps: int | None = ...,
        diagnostics: Literal[True],
    ) -> Answer[dict[str, Tensor]]: ...
    def sample(
        self,
        num: int,
        given: Mapping[str, Any] | None = None,
        seed: int = 0,
        *,
        num_steps: int | None = None,
        diagnostics: bool = False,
    ) -> dict[str, Tensor] | Answer[dict[str, Tensor]]:
        """Draws rows given what is known, as values.

        With a reference, rows with all reals given are drawn exactly if the free labels have at most 4096 configurations;
        others begin at its draws, reweighted and resampled, and move by the kernel with jumps. A model of any subset first
        goes from its highest noise level to its lowest. Any other starts from noise, and keeps the modes where it fell.

        Args:
            num: number of rows N.
            given: per block, values that broadcast to (N, *variable_shape), NaN or -1 is free; or, with a reference, for
                single variables a set of classes or an interval (low, high) of reals, alone or in a list.
            seed: of all draws.
            num_steps: kernel steps; None is the model's.
            diagnostics: whether to return (values, `Diagnostics`); those of `Samples` where chains start from noise.

        Raises:
            ValueError: `given` does not fit, or needs a reference that the model does not have.

        Warns:
            ConvergenceWarning: neither starts nor jumps settle the weights of modes. Chains from noise never warn.
        """
        steps = self.config.num_steps if num_steps is None else num_steps
        generator = self._generator(seed)
        if isinstance(self.energy, PART_ENERGIES):
            how = {"num_steps": steps, "generator": generator}
            answer = annealed_rows(self, self.energy, self.space, self.kernel, num, given, **how)  # type: ignore[arg-type]
            return on_cpu(answer) if diagnostics else on_cpu(answer.value)
        if self.reference is None:
            chains = {"num_chains": num, "num_steps": steps, "given": given, "init": self.noise}
            drawn = sample(self, self.space, self.kernel, generator=generator, **chains)  # type: ignore[arg-type]
            return Answer(drawn.values, drawn.diagnostics) if diagnostics else drawn.values
        answer = on_cpu(
            draw_given(self._target("sample"), num, given, num_steps=steps, generator=generator, with_r_hat=diagnostics)
        )
        answer.checked("sample", _MORE_JUMPS, min_ess=MIN_POOL_ESS, min_jumps=MIN_JUMPS)
        return answer if diagnostics else answer.value

    @overload
    def predict(
        self,
        values: Values,
        target: str | Sequence[str],
        *,
        num_draws: int = ...,
        seed: int = ...,
        diagnostics: Literal[False] = ...,
    ) -> Prediction: ...
    @overload
    def predict(
        self,
        values: Values,
        target: str | Sequence[str],
        *,
        num_draws: int = ...,
        seed: int = ...,
        diagnostics: Literal[True],
    ) -> Answer[Prediction]: ...
    def predict(
        self,
        values: Values,
        target: str | Sequence[str],
        *,
        num_draws: int = 256,
        seed: int = 0,
        diagnostics: bool = False,
    ) -> Prediction | Answer[Prediction]:
        """Predicts discrete blocks from whatever else is known of each row.

        Probabilities are marginals given what is known, all else summed out: exactly if no real is missing and the missing
        labels have at most 4096 configurations, otherwise by draws of the reference with exact conditionals. A model of any
        subset answers all of them by one pass.

        Args:
            values: per block, shape (N, *variable_shape); NaN, -1 or an absent block is missing.
            target: name or names of discrete blocks.
            num_draws: as for `log_density`.
            seed: of all draws.
            diagnostics: whether to return (prediction, `Diagnostics`), with the standard errors of `probs` by block.

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
        if isinstance(self.energy, PART_ENERGIES):
            prediction = on_cpu(subset_prediction(self.energy, self.space, position, targets))
            no_errors = {name: torch.zeros_like(each) for name, each in prediction.probs.items()}
            found = Diagnostics.of_exact(len(next(iter(position.values()))), no_errors)
            return Answer(prediction, found) if diagnostics else prediction
        mass = mass_of_known(
            self, self.space, self.reference, position, num_draws=num_draws, generator=self._generator(seed)
        )
        columns = columns_of(self.space, self.space.discrete, mass.columns.device)
        probs, errors = columns.split(mass.columns), columns.split(mass.column_errors)
        prediction = Prediction({n: self.space[n].decode(probs[n]) for n in targets}, {n: probs[n] for n in targets})
        found = Diagnostics(mass.ess.isinf(), mass.ess, {name: errors[name] for name in targets})
        answer = on_cpu(Answer(prediction, found)).checked("predict", f"num_draws above {num_draws}")
        return answer if diagnostics else answer.value

    @overload
    def impute(
        self,
        values: Values,
        num: int = ...,
        seed: int = ...,
        *,
        num_steps: int | None = ...,
        diagnostics: Literal[False] = ...,
    ) -> list[dict[str, Tensor]]: ...
    @overload
    def impute(
        self,
        values: Values,
        num: int = ...,
        seed: int = ...,
        *,
        num_steps: int | None = ...,
        diagnostics: Literal[True],
    ) -> Answer[list[dict[str, Tensor]]]: ...
    def impute(
        self,
        values: Values,
        num: int = 1,
        seed: int = 0,
        *,
        num_steps: int | None = None,
        diagnostics: bool = False,
    ) -> list[dict[str, Tensor]] | Answer[list[dict[str, Tensor]]]:
        """Draws the missing entries of each row given the others, which keep their bits; exactly where `sample` does.

        Args:
            values: per block, shape (N, *variable_shape); NaN, -1 or an absent block is missing.
            num: number of completions.
            seed: of all draws.
            num_steps: kernel steps; None is the model's.
            diagnostics: whether to return (completions, `Diagnostics`), averaged over the completions of each row.

        Returns:
            A list of `num` completions, each values by block.

        Raises:
            ValueError: the model has neither a reference nor noise levels, or the values do not fit.

        Warns:
            ConvergenceWarning: neither starts nor jumps settle the weights of modes.
        """
        num_rows, tensors = len(next(iter(values.values()))), {n: torch.as_tensor(v) for n, v in values.items()}
        repeated = {name: rows.repeat(num, *[1] * (rows.ndim - 1)) for name, rows in tensors.items()}
        steps, generator = self.config.num_steps if num_steps is None else num_steps, self._generator(seed)
        num_drawn = num * num_rows
        if isinstance(self.energy, PART_ENERGIES):
            drawn = annealed_rows(
                self, self.energy, self.space, self.kernel, num_drawn, repeated, num_steps=steps, generator=generator
            )
        else:
            target = self._target("impute")
            drawn = draw_given(
                target, num_drawn, repeated, num_steps=steps, generator=generator, with_r_hat=diagnostics
            )
        drawn = on_cpu(drawn)
        parts = {name: value.split(num_rows) for name, value in drawn.value.items()}
        completions = [{name: part[number] for name, part in parts.items()} for number in range(num)]
        answer = Answer(completions, drawn.diagnostics.of_draws(num))
        if not isinstance(self.energy, PART_ENERGIES):
            answer.checked("impute", _MORE_JUMPS, min_jumps=MIN_JUMPS)
        return answer if diagnostics else completions

    def _reference(self, what: str) -> Reference:
        if self.reference is None:
            raise ValueError(
                f"{what}: this model has no reference, so f is not normalised; call the model on positions for f, or fit "
                "one by jointebm.fit"
            )
        return self.reference

    def _target(self, what: str) -> Target:
        return Target(self, self._reference(what), self.kernel, self.config.weighted)

    def _encoded(self, values: Values) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.space.encode(values, dtype=next(self.parameters()).dtype, device=self.device)

    def _generator(self, seed: int) -> Generator:
        return torch.Generator(self.device).manual_seed(seed)
