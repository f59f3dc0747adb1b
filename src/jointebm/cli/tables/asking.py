"""A question about every row of a file, or for rows that are not there yet: read in parts, answered, written."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from jointebm.cli.tables.jobs import Job
from jointebm.cli.tables.models import open_table, with_answers
from jointebm.cli.tables.work import answered, watched
from jointebm.cli.tables.written import collected, written
from jointebm.estimators import JointEBM

__all__ = ["Asked", "ask"]

P = TypeVar("P")


@dataclass(frozen=True)
class Asked:
    """A model, and how it is to be asked.

    Args:
        folder: of the model.
        model: with the changes made.
        changes: of the parameters of its answers.
        workers: number of processes.
    """

    folder: Path
    model: JointEBM
    changes: Mapping[str, Any]
    workers: int

    @classmethod
    def open(cls, name: str, *, workers: int, **changes: Any) -> "Asked":
        """Opens a table's model."""
        folder, model = open_table(name)
        return cls(folder, with_answers(model, changes), changes, workers)


def ask(
    what: str,
    job: Job,
    asked: Asked,
    parts: Iterable[P],
    *,
    question: Callable[[P], Any],
    num_rows: int,
    schemas: Sequence[pa.Schema],
    outs: Sequence[Path | None],
    into: dict[str, list[Any]] | None = None,
    texts: Callable[[P, pa.Table], Mapping[str, list[str]]] = lambda part, answer: {},  # noqa: ARG005
) -> None:
    """Writes the answers about all parts, in their order.

    Args:
        what: is being done, for the progress bar.
        job: the question.
        asked: the model.
        parts: of the table.
        question: what of a part the job gets.
        num_rows: of all parts.
        schemas: of the answers, for each file.
        outs: the files; None is standard output.
        into: takes what would go to standard output, for JSON.
        texts: what stands for some columns of an answer in CSV.
    """
    with ExitStack() as stack:
        add = stack.enter_context(watched(what, num_rows))
        writers = [
            stack.enter_context(written(out, schema) if out is not None or into is None else collected(into, schema))
            for out, schema in zip(outs, schemas, strict=True)
        ]
        found = answered(job, asked.model, asked.folder, parts, question, workers=asked.workers, changes=asked.changes)
        for part, answers in stack.enter_context(closing(found)):
            for write, answer in zip(writers, answers, strict=True):
                write(answer, texts(part, answer))
            add(len(answers[0]))
