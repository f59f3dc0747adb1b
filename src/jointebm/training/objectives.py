"""Objectives of training and the terms that may be added to them: frozen, checked, plain data with a `loss`.

A configuration holds such an object; its name alone, such as "summed", stands for the object with its defaults.

Legend: N rows, V columns, K_j classes of column j.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field
from pydantic.dataclasses import dataclass

from jointebm.training.loss_inputs import PLAIN, LossInputs, by_default_names, space_of
from jointebm.training.terms import BlockTerm, ConditionalTerm, InformationTerm, RoughnessTerm, Term

if TYPE_CHECKING:
    from torch import Tensor

    from jointebm.kernels import LogDensity
    from jointebm.randomness.draws import Generator
    from jointebm.training.likelihoods import (
        Phases,
        conditional_likelihood,
        maximum_likelihood,
        observed_log_density,
        summed_maximum_likelihood,
    )

__all__ = [
    "BlockObjective",
    "BlockTerm",
    "Conditional",
    "ConditionalTerm",
    "Denoising",
    "HasConditionals",
    "InformationTerm",
    "LossInputs",
    "MaximumLikelihood",
    "Objective",
    "Phases",
    "PseudoLikelihood",
    "RoughnessTerm",
    "SummedOut",
    "TableObjective",
    "Term",
    "conditional_likelihood",
    "maximum_likelihood",
    "observed_log_density",
    "summed_maximum_likelihood",
]

COLUMNS_AT_ONCE = 16  # of a pseudo-likelihood; a batch is dealt out to so many columns


class Objective(Protocol):
    """A loss over data and chains, and what it needs of a trainer.

    Args:
        sums_labels_out: missing labels are summed out of the loss, so that no kernel completes them.
        keeps_row_chains: each row has a chain of its own, moved with the reals of the row clamped.
        needs_chains: the loss needs chains of the model.
        takes_missing: missing entries are left to the loss; no kernel completes them.
    """

    sums_labels_out: ClassVar[bool]
    keeps_row_chains: ClassVar[bool]
    needs_chains: ClassVar[bool]
    takes_missing: ClassVar[bool]

    @property
    def name(self) -> str: ...

    def loss(self, log_density: Any, inputs: LossInputs) -> "Phases":
        """The loss, and f of both phases."""
        ...


class HasConditionals(Protocol):
    """A log-density over rows of codes that knows the exact conditionals of its columns."""

    @property
    def num_classes(self) -> tuple[int, ...]:
        """K_j of each column."""
        ...

    def composite(
        self, parts: "Sequence[tuple[int, Tensor]]", *, num_candidates: int, generator: "Generator | None"
    ) -> "Tensor":
        """Sum of -log p(c_j | others) over pairs of a column j and complete rows (N_j, V), a scalar, nats."""
        ...


@dataclass(frozen=True, config=PLAIN)
class MaximumLikelihood:
    """Eq. 2 with the sampled y of the chains; Eq. 8 where entries are missing."""

    _: KW_ONLY
    name: Literal["maximum-likelihood"] = field(default="maximum-likelihood", repr=False)

    sums_labels_out: ClassVar[bool] = False
    keeps_row_chains: ClassVar[bool] = False
    needs_chains: ClassVar[bool] = True
    takes_missing: ClassVar[bool] = False

    def loss(self, log_density: "LogDensity", inputs: LossInputs) -> "Phases":
        """Mean f of the chains minus mean f of the data (`maximum_likelihood`)."""
        from jointebm.training.likelihoods import maximum_likelihood

        return maximum_likelihood(log_density, inputs.positive, inputs.negative, log_weights=inputs.log_weights)


@dataclass(frozen=True, config=PLAIN)
class SummedOut:
    """Eq. 2 with y summed out of the negative phase exactly; missing labels of the data are summed out too.

    Args:
        sampled_share: weight of the chains' own labels in the negative phase, in [0, 1]; 0 uses their x alone.

    Example:
        >>> SummedOut(sampled_share=0.15)
        SummedOut(sampled_share=0.15)
    """

    sampled_share: Annotated[
        float, Field(ge=0, le=1, strict=True, description="weight of the chains' own labels; 0 uses their x alone")
    ] = 0.0
    _: KW_ONLY
    name: Literal["summed"] = field(default="summed", repr=False)

    sums_labels_out: ClassVar[bool] = True
    keeps_row_chains: ClassVar[bool] = False
    needs_chains: ClassVar[bool] = True
    takes_missing: ClassVar[bool] = False

    def loss(self, log_density: "LogDensity", inputs: LossInputs) -> "Phases":
        """See `summed_maximum_likelihood`."""
        from jointebm.training.likelihoods import summed_maximum_likelihood

        space, missing = space_of(inputs), inputs.missing
        if missing is not None and not any(bool(missing[name].any()) for name in space.discrete):
            missing = None  # reals may be missing, but no label is
        return summed_maximum_likelihood(
            log_density,
            space,
            inputs.positive,
            inputs.negative,
            missing=missing,
            sampled_share=self.sampled_share,
            log_weights=inputs.log_weights,
        )


@dataclass(frozen=True, config=PLAIN)
class Conditional:
    """Eq. 2 of log p(y | x) alone: each row keeps a chain of y, moved with the x of the row clamped.

    p(x) is not learned. It is for y with too many configurations to enumerate, where x is large and always given.
    """

    _: KW_ONLY
    name: Literal["conditional"] = field(default="conditional", repr=False)

    sums_labels_out: ClassVar[bool] = False
    keeps_row_chains: ClassVar[bool] = True
    needs_chains: ClassVar[bool] = True
    takes_missing: ClassVar[bool] = False

    def loss(self, log_density: "LogDensity", inputs: LossInputs) -> "Phases":
        """Mean f of the chains minus mean f of the data; both have the same x."""
        return MaximumLikelihood().loss(log_density, inputs)


@dataclass(frozen=True, config=PLAIN)
class PseudoLikelihood:
    """The pseudo-likelihood of a table: observed entries given the others of their row, without chains of the model.

    Args:
        num_candidates: classes that a code is told from in an iteration, >= 2; with no more than these, from all.

    References:
        Besag 1975. Ma & Collins 2018 (ranking).
    """

    num_candidates: Annotated[
        int, Field(ge=2, strict=True, description="classes that a code is told from in an iteration")
    ] = 8
    _: KW_ONLY
    name: Literal["pseudo-likelihood"] = field(default="pseudo-likelihood", repr=False)

    sums_labels_out: ClassVar[bool] = False
    keeps_row_chains: ClassVar[bool] = False
    needs_chains: ClassVar[bool] = False
    takes_missing: ClassVar[bool] = False

    def loss(self, log_density: HasConditionals, inputs: LossInputs) -> "Phases":
        """Sum of -log p(c_j | others) over the observed entries asked for, per row; no phase is reported."""
        import torch

        from jointebm.randomness.draws import shuffled
        from jointebm.training.likelihoods import Phases

        assert inputs.missing is not None and inputs.generator is not None
        codes, missing = inputs.positive["codes"], inputs.missing["codes"]
        columns = [column for column, count in enumerate(log_density.num_classes) if count > 1]
        chosen = shuffled(len(columns), inputs.generator)[: min(COLUMNS_AT_ONCE, len(codes))].tolist()
        hands = torch.arange(len(codes)).tensor_split(len(chosen))
        parts = [(columns[index], hand) for index, hand in zip(chosen, hands, strict=True)]
        observed = [(column, codes[hand[~missing[hand, column]]]) for column, hand in parts]
        total = log_density.composite(observed, num_candidates=self.num_candidates, generator=inputs.generator)
        return Phases(total / len(codes), total.new_empty(0), total.new_empty(0))


@dataclass(frozen=True, config=PLAIN)
class Denoising:
    """Denoising of random parts of rows at random noise levels, with their labels, for an `AnySubsetEnergy`; no chains.

    score_weight * score + level_weight * level + label_weight * label, the mean over rows of `denoising_terms`

    The noise of the lowest level is added here: rows come without it. Missing reals are at infinite noise, missing labels
    are summed out, and nothing is completed. No term sees modes of f far from all noisy data.

    Args:
        score_weight: of denoising score matching, per row, > 0.
        level_weight: of the derivative with respect to the noise level, > 0; it normalises f.
        label_weight: of -log p(labels | visible part), > 0.
        lowest_share: share of rows whose visible part is at the lowest noise level, in [0, 1].
        score_share: share of rows whose scores and level derivatives are taken, in (0, 1]; the others have the label term
            alone, which costs less than half.
    """

    score_weight: Annotated[float, Field(gt=0, strict=True, description="weight of denoising score matching")] = 1.0
    level_weight: Annotated[
        float, Field(gt=0, strict=True, description="weight of the derivative with respect to the noise level")
    ] = 0.3
    label_weight: Annotated[float, Field(gt=0, strict=True, description="weight of the labels given a part")] = 1.0
    lowest_share: Annotated[
        float, Field(ge=0, le=1, strict=True, description="share of rows at the lowest noise level")
    ] = 0.4
    score_share: Annotated[
        float,
        Field(gt=0, le=1, strict=True, description="share of rows whose scores are taken; the others: labels alone"),
    ] = 1.0
    _: KW_ONLY
    name: Literal["denoising"] = field(default="denoising", repr=False)

    sums_labels_out: ClassVar[bool] = True
    keeps_row_chains: ClassVar[bool] = False
    needs_chains: ClassVar[bool] = False
    takes_missing: ClassVar[bool] = True

    def loss(self, log_density: Any, inputs: LossInputs) -> "Phases":
        """See `denoising_terms`."""
        from jointebm.training.denoising import denoising_loss

        return denoising_loss(
            log_density,
            inputs,
            weights=(self.score_weight, self.level_weight, self.label_weight),
            lowest_share=self.lowest_share,
            score_share=self.score_share,
        )


BlockObjective = Annotated[
    MaximumLikelihood | SummedOut | Conditional | Denoising,
    Field(discriminator="name"),
    by_default_names(MaximumLikelihood, SummedOut, Conditional, Denoising),
]
TableObjective = Annotated[
    MaximumLikelihood | PseudoLikelihood,
    Field(discriminator="name"),
    by_default_names(MaximumLikelihood, PseudoLikelihood),
]
if not TYPE_CHECKING:  # these import torch

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from jointebm.training import likelihoods

        return getattr(likelihoods, name)
