"""Terms that may be added to the loss of an objective over blocks: frozen, checked, plain data with a `loss`."""

from dataclasses import KW_ONLY, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import Field
from pydantic.dataclasses import dataclass

from jointebm.training.loss_inputs import PLAIN, LossInputs, by_default_names, space_of

if TYPE_CHECKING:
    from torch import Tensor

    from jointebm.kernels import LogDensity

__all__ = ["BlockTerm", "ConditionalTerm", "InformationTerm", "RoughnessTerm", "Term"]


class Term(Protocol):
    """What is added to the loss of an objective over blocks, with a weight; the labels are enumerated.

    Example:
        >>> term: Term = InformationTerm()
        >>> term.weight, term.labelled_batch_size  # 0: of the batch
        (1.0, 0)
    """

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

    Example:
        >>> ConditionalTerm(weight=0.5)
        ConditionalTerm(weight=0.5, labelled_batch_size=0)
    """

    weight: Annotated[float, Field(gt=0, strict=True)] = 1.0
    labelled_batch_size: Annotated[int, Field(ge=0, strict=True)] = 0
    _: KW_ONLY
    name: Literal["conditional"] = field(default="conditional", repr=False)

    def loss(self, log_density: "LogDensity", inputs: LossInputs) -> "Tensor":
        """See `conditional_likelihood`."""
        from jointebm.training.likelihoods import conditional_likelihood

        return conditional_likelihood(log_density, space_of(inputs), inputs.positive, missing=inputs.missing)


@dataclass(frozen=True, config=PLAIN)
class InformationTerm:
    """Subtracts the mutual information of x and each label over the batch, for few labels in clear classes.

    Example:
        >>> InformationTerm(weight=0.1).name
        'information'
    """

    weight: Annotated[float, Field(gt=0, strict=True)] = 1.0
    _: KW_ONLY
    name: Literal["information"] = field(default="information", repr=False)

    labelled_batch_size: ClassVar[int] = 0

    def loss(self, log_density: "LogDensity", inputs: LossInputs) -> "Tensor":
        """Minus `label_information`."""
        from jointebm.training.label_terms import label_information

        return -label_information(log_density, space_of(inputs), inputs.positive)


@dataclass(frozen=True, config=PLAIN)
class RoughnessTerm:
    """Adds the change of p(y | x) where x moves in the worst direction, for few labels in clear classes.

    Args:
        weight: of the term, > 0.
        radius: L2 radius of the perturbation, in position units, > 0.

    Example:
        >>> RoughnessTerm(radius=0.3)
        RoughnessTerm(weight=1.0, radius=0.3)
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
            log_density, space_of(inputs), inputs.positive, radius=self.radius, generator=inputs.generator
        )


BlockTerm = Annotated[
    ConditionalTerm | InformationTerm | RoughnessTerm,
    Field(discriminator="name"),
    by_default_names(ConditionalTerm, InformationTerm, RoughnessTerm),
]
"""Any term; `name` says which, and a name alone stands for its defaults.

Example:
    >>> from pydantic import TypeAdapter
    >>> TypeAdapter(BlockTerm).validate_python("roughness")
    RoughnessTerm(weight=1.0, radius=1.0)
"""
