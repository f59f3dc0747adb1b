"""An answer of the service: rows, and what else there is to say about them."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel

from jointebm.sampling.diagnostics import Diagnostics
from jointebm.watch.packed_frames import finite_or_none

__all__ = ["Answered", "Service", "diagnostics_as_json"]


class Answered(NamedTuple):
    """An answer.

    Args:
        draws: rows, as values by block or columns by name; one entry, or one per draw of an imputation.
        also: further parts of the answer, as plain data.
        several: whether the question was for draws, so that a single one is still a list.
    """

    draws: Sequence[Mapping[Any, Any]]
    also: Mapping[str, Any]
    several: bool = False


class Service(Protocol):
    """The four questions about a model of one kind."""

    questions: ClassVar[Mapping[str, type[BaseModel]]]  # the fields of each question, by its name

    def read_arrow(self, body: bytes) -> dict[str, Any]:
        """The rows of an Arrow stream as fields of a question."""

    def answer(self, question: str, asked: Any) -> Answered:
        """Answers; raises ValueError or TypeError if the question does not fit the model."""

    def as_json(self, rows: Mapping[Any, Any]) -> dict[str, Any]:
        """Rows as plain data: a list per block or column."""


def diagnostics_as_json(found: Diagnostics[Any]) -> dict[str, Any]:
    """How far an answer can be trusted, as plain data; null stands for an answer without limit of ess."""
    return {
        "exact": np.asarray(found.exact).tolist(),
        "ess": [finite_or_none(each) for each in np.asarray(found.ess, dtype=float)],
        "accept_rate": dict(found.accept_rate),
        "r_hat": None if found.r_hat is None else finite_or_none(found.r_hat),
    }
