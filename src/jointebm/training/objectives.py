"""Objectives of training and the terms that may be added to them: frozen, checked, plain data with a `loss`.

A configuration holds such an object; its name alone, such as "summed", stands for the object with its defaults.

Legend: N rows, V columns, K_j classes of column j.

Example:
    >>> from jointebm import TrainConfig
    >>> TrainConfig(num_iterations=10, batch_size=8, num_steps=1, learning_rate=1e-3, objective="summed").objective
    SummedOut(sampled_share=0.0)
"""

from dataclasses import KW_ONLY, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field
from pydantic.dataclasses import dataclass

from jointebm.training.loss_inputs import PLAIN, LossInputs, by_default_names, space_of
from jointebm.training.table_objective import HasConditionals, PseudoLikelihood
from jointebm.training.terms import BlockTerm, ConditionalTerm, InformationTerm, RoughnessTerm, Term

if TYPE_CHECKING:
    from jointebm.kernels import LogDensity
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
    "LabelGroups",
    "LossInputs",
    "MaximumLikelihood",
    "Normalised",
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


class Objective(Protocol):
    """A loss over data and chains, and what it needs of a trainer.

    Args:
        sums_labels_out: missing labels are summed out of the loss, so that no kernel completes them.
        keeps_row_chains: each row has a chain of its own, moved with the reals of the row clamped.
        needs_chains: the loss needs chains of the model.
        takes_missing: missing entries are left to the loss; no kernel completes them.

    Example:
        >>> objective: Objective = MaximumLikelihood()
        >>> objective.name, objective.needs_chains
        ('maximum-likelihood', True)
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


@dataclass(frozen=True, config=PLAIN)
class MaximumLikelihood:
    """Eq. 2 with the sampled y of the chains; Eq. 8 where entries are missing.

    Example:
        >>> import torch
        >>> inputs = LossInputs(positive={"x": torch.ones(2)}, negative={"x": torch.zeros(3)})
        >>> MaximumLikelihood().loss(lambda position: position["x"], inputs).loss
        tensor(-1.)
    """

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

    Example:
        >>> Conditional().keeps_row_chains
        True
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
class Normalised:
    """Maximum likelihood of an energy that is normalised whatever its parameters are, such as `PictureEnergy`: no chains.

    The negative phase of Eq. 2 is then zero: minus the mean of log p(x, y) is the loss. Missing entries are completed by the
    kernel (Eq. 8).

    Example:
        >>> Normalised().needs_chains
        False
    """

    _: KW_ONLY
    name: Literal["normalised"] = field(default="normalised", repr=False)

    sums_labels_out: ClassVar[bool] = False
    keeps_row_chains: ClassVar[bool] = False
    needs_chains: ClassVar[bool] = False
    takes_missing: ClassVar[bool] = False

    def loss(self, log_density: Any, inputs: LossInputs) -> "Phases":
        """See `normalised_likelihood`."""
        from jointebm.training.likelihoods import normalised_likelihood

        return normalised_likelihood(log_density, inputs.positive)


@dataclass(frozen=True, config=PLAIN)
class LabelGroups:
    """Composite likelihood of p(y | x): random groups of labels given all other labels and x, without chains.

    p(x) is not learned, and no sum over all y is taken. Missing labels are completed by the kernel; reals are all needed.

    Args:
        group_size: labels of a group, >= 1; f is evaluated at all configurations of a group. Two labels tell what a rule
            that fixes one of them by the others hides.

    Example:
        >>> LabelGroups(group_size=1)
        LabelGroups(group_size=1)
    """

    group_size: Annotated[int, Field(ge=1, strict=True, description="labels told at once, given all others")] = 2
    _: KW_ONLY
    name: Literal["label-groups"] = field(default="label-groups", repr=False)

    sums_labels_out: ClassVar[bool] = False
    keeps_row_chains: ClassVar[bool] = False
    needs_chains: ClassVar[bool] = False
    takes_missing: ClassVar[bool] = False

    def loss(self, log_density: "LogDensity", inputs: LossInputs) -> "Phases":
        """See `label_group_likelihood`."""
        from jointebm.training.label_groups import label_group_likelihood

        space, missing = space_of(inputs), inputs.missing or {}
        assert inputs.generator is not None
        for name in space.continuous:
            if name in missing and bool(missing[name].any()):
                raise ValueError(f"objective 'label-groups' learns p(y | x), but reals of {name!r} are missing")
        return label_group_likelihood(
            log_density, space, inputs.positive, group_size=self.group_size, generator=inputs.generator
        )


@dataclass(frozen=True, config=PLAIN)
class Denoising:
    """Denoising of random parts of rows at random noise levels, with their labels; no chains. The energy takes noise levels.

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
        hidden_share: share of rows of which a random part of the labels is missing, in [0, 1]; for labels of many parts.
        whole_share: share of rows of which all reals are visible at one level, in [0, 1), besides others by chance.

    Example:
        >>> Denoising(score_weight=0.1).needs_chains
        False
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
    hidden_share: Annotated[
        float, Field(ge=0, le=1, strict=True, description="share of rows of which a part of the labels is missing")
    ] = 0.0
    whole_share: Annotated[
        float, Field(ge=0, lt=1, strict=True, description="share of rows visible whole, besides others by chance")
    ] = 0.0
    _: KW_ONLY
    name: Literal["denoising"] = field(default="denoising", repr=False)

    sums_labels_out: ClassVar[bool] = True
    keeps_row_chains: ClassVar[bool] = False
    needs_chains: ClassVar[bool] = False
    takes_missing: ClassVar[bool] = True

    def loss(self, log_density: Any, inputs: LossInputs) -> "Phases":
        """See `denoising_terms`."""
        from jointebm.training.denoising import DenoisingShares, denoising_loss

        return denoising_loss(
            log_density,
            inputs,
            weights=(self.score_weight, self.level_weight, self.label_weight),
            shares=DenoisingShares(self.lowest_share, self.whole_share, self.score_share, self.hidden_share),
        )


BlockObjective = Annotated[
    MaximumLikelihood | SummedOut | Conditional | Normalised | LabelGroups | Denoising,
    Field(discriminator="name"),
    by_default_names(MaximumLikelihood, SummedOut, Conditional, Normalised, LabelGroups, Denoising),
]
"""Any objective over blocks; `name` says which, and a name alone stands for its defaults.

Example:
    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(BlockObjective).validate_python("label-groups")
    LabelGroups(group_size=2)
"""

TableObjective = Annotated[
    MaximumLikelihood | PseudoLikelihood,
    Field(discriminator="name"),
    by_default_names(MaximumLikelihood, PseudoLikelihood),
]
"""Any objective over rows of codes; a name alone stands for its defaults.

Example:
    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(TableObjective).validate_python("pseudo-likelihood")
    PseudoLikelihood(num_candidates=8)
"""

if not TYPE_CHECKING:  # these import torch

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from jointebm.training import likelihoods

        return getattr(likelihoods, name)
