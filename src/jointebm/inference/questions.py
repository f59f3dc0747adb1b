"""Questions to a block model: densities, samples, predictions and imputations, each with its diagnostics.

Legend: N rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from jointebm.energies.any_subset import AnySubsetEnergy
from jointebm.inference.corrected import Target, draw_given
from jointebm.inference.importance import mass_of_known
from jointebm.inference.model_config import ModelConfig
from jointebm.inference.prediction import Prediction
from jointebm.inference.reports import NormalizerRecord
from jointebm.inference.subset_answers import annealed_rows, subset_log_density, subset_prediction
from jointebm.kernels import Cycle
from jointebm.kernels.columns import columns_of
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

    With `diagnostics=True` every question returns (answer, `Diagnostics`): effective draws and standard errors per row,
    acceptance and split R-hat where chains ran.
    """

    config: ModelConfig
    energy: nn.Module
    space: Space

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
            ValueError: f has no known normaliser: the model has no reference or no log Z, and no noise levels.

        Warns:
            ConvergenceWarning: the draws of some rows have an ess below 10.
        """
        position, observed = self._encoded(values)
        if isinstance(self.energy, AnySubsetEnergy):
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
        answer = Answer(log_p, found).checked("log_density", f"num_draws above {num_draws}")
        return answer if diagnostics else log_p

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

        With a reference, chains start from its draws, reweighted and resampled, and move by the kernel with jumps. A model
        of any subset goes from its highest noise level to its lowest, with what is given clamped, before the kernel moves.
        Any other starts from noise, and finite chains keep the modes where they fell.

        Args:
            num: number of rows N.
            given: per block, values that broadcast to (N, *variable_shape), NaN or -1 is free; or for single variables, a
                set of classes or an interval (low, high) of reals, alone or as an entry of a list. Sets and intervals need
                a reference.
            seed: of all draws.
            num_steps: kernel steps; None is the model's.
            diagnostics: whether to return (values, `Diagnostics`); takes a reference.

        Raises:
            ValueError: `given` does not fit, or it or `diagnostics` needs a reference that the model does not have.

        Warns:
            ConvergenceWarning: neither starts nor jumps settle the weights of modes.
        """
        steps = self.config.num_steps if num_steps is None else num_steps
        generator = self._generator(seed)
        if isinstance(self.energy, AnySubsetEnergy):
            answer = annealed_rows(self, self.energy, self.kernel, num, given, num_steps=steps, generator=generator)
            return answer if diagnostics else answer.value
        if self.reference is None and not diagnostics:
            chains = {"num_chains": num, "num_steps": steps, "given": given, "init": self.noise}
            return sample(self, self.space, self.kernel, generator=generator, **chains).values  # type: ignore[arg-type]
        answer = draw_given(
            self._target("sample"), num, given, num_steps=steps, generator=generator, with_r_hat=diagnostics
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
        if isinstance(self.energy, AnySubsetEnergy):
            prediction = subset_prediction(self.energy, position, targets)
            found = Diagnostics.of_exact(len(next(iter(position.values()))))
            return Answer(prediction, found) if diagnostics else prediction
        mass = mass_of_known(
            self, self.space, self.reference, position, num_draws=num_draws, generator=self._generator(seed)
        )
        columns = columns_of(self.space, self.space.discrete, mass.columns.device)
        probs, errors = columns.split(mass.columns), columns.split(mass.column_errors)
        prediction = Prediction({n: self.space[n].decode(probs[n]) for n in targets}, {n: probs[n] for n in targets})
        found = Diagnostics(mass.ess.isinf(), mass.ess, {name: errors[name] for name in targets})
        answer = Answer(prediction, found).checked("predict", f"num_draws above {num_draws}")
        return answer if diagnostics else prediction

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
        """Draws the missing entries of each row given the others, which keep their bits.

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
        num_rows = len(next(iter(values.values())))
        repeated = {}
        for name, value in values.items():
            rows = torch.as_tensor(value)
            repeated[name] = rows.repeat(num, *[1] * (rows.ndim - 1))
        steps, generator = self.config.num_steps if num_steps is None else num_steps, self._generator(seed)
        if isinstance(self.energy, AnySubsetEnergy):
            drawn = annealed_rows(
                self, self.energy, self.kernel, num * num_rows, repeated, num_steps=steps, generator=generator
            )
        else:
            drawn = draw_given(
                self._target("impute"),
                num * num_rows,
                repeated,
                num_steps=steps,
                generator=generator,
                with_r_hat=diagnostics,
            )
        parts = {name: value.split(num_rows) for name, value in drawn.value.items()}
        completions = [{name: part[number] for name, part in parts.items()} for number in range(num)]
        answer = Answer(completions, drawn.diagnostics.of_draws(num))
        if not isinstance(self.energy, AnySubsetEnergy):
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
        parameter = next(self.parameters())
        return self.space.encode(values, dtype=parameter.dtype, device=parameter.device)

    def _generator(self, seed: int) -> Generator:
        return torch.Generator(next(self.parameters()).device).manual_seed(seed)
