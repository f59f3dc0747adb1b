"""The questions that every fitted table answers, with related columns or without.

Legend: N rows, K codes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.tables.codes.codec import CodedColumn, Name, TableCodec
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.evidence import Evidence

__all__ = ["Answering"]


class Answering(Protocol):
    """Questions about rows that `rows` has read; see `FittedTable` and `RelatedTable`."""

    @property
    def codec(self) -> TableCodec:
        """All columns of the table."""

    def rows(
        self,
        table: Mapping[Name, Column],
        num_rows: int,
        *,
        missing: Sequence[Name] = (),
        evidence: Mapping[Name, Evidence] = ...,
    ) -> Any:
        """Reads a table; columns named in `missing` count as missing, and missing entries agree with the evidence."""

    def known(self, rows: Any) -> list[tuple[CodedColumn, Column]]:
        """The entries of rows that answers condition on, by the columns of the model that hold them."""

    def with_class(self, rows: Any, numbers: np.ndarray, name: Name, values: np.ndarray) -> Any:
        """Some rows, by number and again, with other entries of one column."""

    def log_predictive(self, rows: Any, name: Name) -> np.ndarray:
        """log p(code of the column | other observed entries), shape (N, K), nats."""

    def predictive_answer(self, rows: Any, name: Name, *, readout: np.ndarray | None = None) -> Answer[np.ndarray]:
        """`log_predictive`, with standard errors of the probabilities p, or of `p @ readout`."""

    def warn(self, rows: Any, found: Diagnostics[Tensor], what: str) -> None:
        """Warns once if the answer about the rows may be far off; `what` names the question."""

    def impute(
        self, rows: Any, keys: Tensor, *, num_draws: int, seed: int | None = None
    ) -> Answer[Iterable[dict[Name, Column]]]:
        """Joint draws of the missing entries of each row."""

    def impute_by_members(
        self, rows: Any, keys: Tensor, *, num_draws: int, seed: int | None = None
    ) -> Answer[Iterable[dict[Name, Column]]]:
        """As `impute`, draw number d by member d."""

    def sample(
        self, num: int, *, evidence: Mapping[Name, Evidence], seed: int | None = None, first: int = 0
    ) -> Answer[dict[Name, Column]]:
        """Draws rows given evidence."""

    def log_density(self, rows: Any) -> Answer[np.ndarray]:
        """log p of the observed entries of each row and of the evidence, shape (N,), nats."""

    def dependence(self, rows: Any) -> np.ndarray:
        """Dependence of the observed entries of each row, shape (N,), nats."""

    def conditional_log_score(self, rows: Any, names: Sequence[Name]) -> np.ndarray:
        """log p(value | other observed entries of the row), shape (N, len(names)), nats."""

    def conditional_surprise(self, rows: Any) -> np.ndarray:
        """Mean of log p(code | other observed entries), shape (N,), nats."""
