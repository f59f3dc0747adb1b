"""The objective of a table: its pseudo-likelihood.

Legend: N rows, V columns, K_j classes of column j.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import Field
from pydantic.dataclasses import dataclass

from jointebm.training.loss_inputs import PLAIN, LossInputs

if TYPE_CHECKING:
    from torch import Tensor

    from jointebm.randomness.draws import Generator
    from jointebm.training.likelihoods import Phases

__all__ = ["HasConditionals", "PseudoLikelihood"]

COLUMNS_AT_ONCE = 16  # of a pseudo-likelihood; a batch is dealt out to so many columns


class HasConditionals(Protocol):
    """A log-density over rows of codes that knows the exact conditionals of its columns.

    Example:
        >>> import torch
        >>> class Independent:
        ...     num_classes = (2, 3)
        ...     def composite(self, parts, *, num_candidates, generator):
        ...         return sum(torch.tensor(len(rows) * float(self.num_classes[j])).log() for j, rows in parts)
        >>> density: HasConditionals = Independent()
        >>> PseudoLikelihood().needs_chains, density.num_classes
        (False, (2, 3))
    """

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
class PseudoLikelihood:
    """The pseudo-likelihood of a table: observed entries given the others of their row, without chains of the model.

    Args:
        num_candidates: classes that a code is told from in an iteration, >= 2; with no more than these, from all.

    References:
        Besag 1975. Ma & Collins 2018 (ranking).

    Example:
        >>> PseudoLikelihood(num_candidates=16)
        PseudoLikelihood(num_candidates=16)
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
        hands = torch.arange(len(codes), device=codes.device).tensor_split(len(chosen))
        parts = [(columns[index], hand) for index, hand in zip(chosen, hands, strict=True)]
        observed = [(column, codes[hand[~missing[hand, column]]]) for column, hand in parts]
        total = log_density.composite(observed, num_candidates=self.num_candidates, generator=inputs.generator)
        return Phases(total / len(codes), total.new_empty(0), total.new_empty(0))
