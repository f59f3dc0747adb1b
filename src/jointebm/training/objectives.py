"""Objectives of training and the terms that may be added to them: frozen, checked, plain data with a `loss`.

A configuration holds such an object; its name alone, such as "summed", stands for the object with its defaults.

Legend: N rows, V columns, K_j classes of column j.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

if TYPE_CHECKING:
    from torch import Tensor

    from jointebm.kernels import LogDensity
    from jointebm.randomness.draws import Generator
    from jointebm.spaces.space import Mask, Position, Space
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
PLAIN = ConfigDict(extra="forbid", allow_inf_nan=False)


class LossInputs(NamedTuple):
    """Data and chains of one iteration.

    Args:
        positive: N rows of data, completed; a table's rows are one block "codes", shape (N, V), int64.
        negative: chains of the model; empty if the objective needs none.
        space: the blocks; None for a table.
        missing: per block, which entries of `positive` were not observed, (N, *variable_shape), bool; None: all were.
        generator: source of what a loss draws itself; None if it draws nothing.
        log_weights: of the chains, (N,), nats, up to a constant; None: equal weights.
    """

    positive: "Position"
    negative: "Position"
    space: "Space | None" = None
    missing: "Mask | None" = None
    generator: "Generator | None" = None
    log_weights: "Tensor | None" = None


class Objective(Protocol):
    """A loss over data and chains, and what it needs of a trainer.

    Args:
        sums_labels_out: missing labels are summed out of the loss, so that no kernel completes them.
        keeps_row_chains: each row has a chain of its own, moved with the reals of the row clamped.
        needs_chains: the loss needs chains of the model.
    """

    sums_labels_out: ClassVar[bool]
    keeps_row_chains: ClassVar[bool]
    needs_chains: ClassVar[bool]

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

    def loss(self, log_density: "LogDensity", inputs: LossInputs) -> "Phases":
        """See `summed_maximum_likelihood`."""
        from jointebm.training.likelihoods import summed_maximum_likelihood

        space, missing = _space(inputs), inputs.missing
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


class Term(Protocol):
    """What is added to the loss of an objective over blocks, with a weight; the labels are enumerated."""

    @property
    def weight(self) -> float: ...

    @property
    def labelled_batch_size(self) -> int:
        """Rows with labels that the term is of, drawn apart from the batch; 0: it is of the batch."""
        ...

    def loss(self, log_density: "LogDensity", inputs: LossInputs) -> "Tensor":
        """A scalar, nats."""
        ...


@dataclass(frozen=True, config=PLAIN)
class ConditionalTerm:
    """Adds mean -log p(y | x), the loss of a classifier (`conditional_likelihood`).

    Args:
        weight: of the term, > 0.
        labelled_batch_size: rows with labels per iteration, drawn apart; 0 takes those of the batch.
    """

    weight: Annotated[float, Field(gt=0, strict=True)] = 1.0
    labelled_batch_size: Annotated[int, Field(ge=0, strict=True)] = 0
    _: KW_ONLY
    name: Literal["conditional"] = field(default="conditional", repr=False)

    def loss(self, log_density: "LogDensity", inputs: LossInputs) -> "Tensor":
        """See `conditional_likelihood`."""
        from jointebm.training.likelihoods import conditional_likelihood

        return conditional_likelihood(log_density, _space(inputs), inputs.positive, missing=inputs.missing)


@dataclass(frozen=True, config=PLAIN)
class InformationTerm:
    """Subtracts the mutual information of x and each label over the batch, for few labels in clear classes."""

    weight: Annotated[float, Field(gt=0, strict=True)] = 1.0
    _: KW_ONLY
    name: Literal["information"] = field(default="information", repr=False)

    labelled_batch_size: ClassVar[int] = 0

    def loss(self, log_density: "LogDensity", inputs: LossInputs) -> "Tensor":
        """Minus `label_information`."""
        from jointebm.training.label_terms import label_information

        return -label_information(log_density, _space(inputs), inputs.positive)


@dataclass(frozen=True, config=PLAIN)
class RoughnessTerm:
    """Adds the change of p(y | x) where x moves in the worst direction, for few labels in clear classes.

    Args:
        weight: of the term, > 0.
        radius: L2 radius of the perturbation, in position units, > 0.
    """

    weight: Annotated[float, Field(gt=0, strict=True)] = 1.0
    radius: Annotated[float, Field(gt=0, strict=True)] = 1.0
    _: KW_ONLY
    name: Literal["roughness"] = field(default="roughness", repr=False)

    labelled_batch_size: ClassVar[int] = 0

    def loss(self, log_density: "LogDensity", inputs: LossInputs) -> "Tensor":
        """See `label_roughness`."""
        from jointebm.training.label_terms import label_roughness

        assert inputs.generator is not None
        return label_roughness(
            log_density, _space(inputs), inputs.positive, radius=self.radius, generator=inputs.generator
        )


def _space(inputs: LossInputs) -> "Space":
    if inputs.space is None:
        raise ValueError("objective: this one sums over labels, so its inputs need the space of the blocks")
    return inputs.space


def _named(*kinds: type) -> BeforeValidator:
    """Lets a name stand for the object with its defaults."""

    def by_name(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        known = {kind().name: kind for kind in kinds}
        if value not in known:
            raise ValueError(f"unknown name {value!r}; known: {', '.join(known)}")
        return known[value]()

    return BeforeValidator(by_name)


BlockObjective = Annotated[
    MaximumLikelihood | SummedOut | Conditional,
    Field(discriminator="name"),
    _named(MaximumLikelihood, SummedOut, Conditional),
]
TableObjective = Annotated[
    MaximumLikelihood | PseudoLikelihood, Field(discriminator="name"), _named(MaximumLikelihood, PseudoLikelihood)
]
BlockTerm = Annotated[
    ConditionalTerm | InformationTerm | RoughnessTerm,
    Field(discriminator="name"),
    _named(ConditionalTerm, InformationTerm, RoughnessTerm),
]

if not TYPE_CHECKING:  # these import torch

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from jointebm.training import likelihoods

        return getattr(likelihoods, name)
