"""What the commands ask a model about every row of a file, or of rows to be drawn: read in parts, answered, written."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from jointebm.cli.console import print_json, say
from jointebm.cli.progress import watched
from jointebm.cli.tables.given import parse_table_given
from jointebm.cli.tables.jobs import Imputing, Job, Predicting, Sampling, Scoring
from jointebm.cli.tables.opened import open_questions, open_table, with_answers
from jointebm.cli.tables.workers import answered
from jointebm.estimators import JointEBM
from jointebm.tables.answers.predictions import Statistic
from jointebm.tables.codes.codec import Name, Unseen
from jointebm.tables.codes.column import IgnoredCodec
from jointebm.tables.files.reading import Part
from jointebm.tables.files.writing import check_out, collected, written

__all__ = ["Asked", "impute_table", "predict_table", "sample_table", "score_table"]

ROWS_AT_ONCE = 1024  # of samples


@dataclass(frozen=True)
class Asked:
    """A model, and how it is to be asked.

    Args:
        folder: of the model.
        model: with the changes made.
        changes: of the parameters of its answers; None is none.
        workers: number of processes.
        as_json: whether to print one JSON object.
    """

    folder: Path
    model: JointEBM
    changes: Mapping[str, Any]
    workers: int
    as_json: bool

    @classmethod
    def open(
        cls,
        name: str,
        *,
        workers: int,
        as_json: bool,
        unseen: Unseen | None = None,
        num_draws: int | None = None,
        num_sweeps: int | None = None,
        random_state: int | None = None,
    ) -> "Asked":
        """Opens a table's model; parameters of its answers that are None stay as they are."""
        folder, model = open_table(name)
        changes = {
            "unseen": unseen,
            "num_draws": num_draws,
            "num_sweeps": num_sweeps,
            "random_state": random_state,
        }
        return cls(folder, with_answers(model, changes), changes, workers, as_json)


def impute_table(asked: Asked, file: Path, out: Path | None, *, num: int, missing: frozenset[str]) -> None:
    """Fills a file's missing entries, `num` times."""
    if num > 1 and out is None:
        raise ValueError(f"--num {num}: several tables need files; name them with --out")
    outs = [out] if out is None or num == 1 else [_numbered(out, draw) for draw in range(1, num + 1)]
    for each in outs:
        check_out(each)
    questions = open_questions(file, asked.model, missing=missing)
    _answer(
        asked,
        Imputing(num, missing),
        questions.parts(),
        outs,
        what=f"imputing {file.name}",
        empty=questions.schema.empty_table(),
        num_rows=questions.num_rows,
    )


def predict_table(
    asked: Asked,
    file: Path,
    out: Path | None,
    *,
    target: Sequence[str] | None,
    statistic: Statistic,
    missing: frozenset[str],
) -> None:
    """Guesses columns of a file's rows: those that are named, or those that the file does not have."""
    check_out(out)
    questions = open_questions(file, asked.model, missing=missing)
    targets = _targets(asked.model, file, questions.schema.names, target)
    _answer(
        asked,
        Predicting(targets, statistic),
        questions.parts(),
        [out],
        what=f"predicting {', '.join(map(str, targets))}",
        empty=questions.schema.empty_table(),
        num_rows=questions.num_rows,
    )


def score_table(asked: Asked, file: Path, out: Path | None, *, conditional: bool, missing: frozenset[str]) -> None:
    """Scores a file's rows."""
    check_out(out)
    questions = open_questions(file, asked.model, missing=missing)
    _answer(
        asked,
        Scoring(conditional),
        questions.parts(),
        [out],
        what=f"scoring {file.name}",
        empty=questions.schema.empty_table(),
        num_rows=questions.num_rows,
    )


def sample_table(asked: Asked, out: Path | None, *, given: Sequence[str], num: int) -> None:
    """Draws rows, of the whole table or of the part that agrees with what is given."""
    check_out(out)
    numbers = (range(first, min(num, first + ROWS_AT_ONCE)) for first in range(0, num, ROWS_AT_ONCE))
    _answer(
        asked,
        Sampling(parse_table_given(given, asked.model)),
        (Part(pa.table({"number": list(each)}), None, str) for each in numbers),
        [out],
        what="sampling",
        empty=pa.table({"number": pa.array([], pa.int64())}),
        num_rows=num,
    )


def _answer(
    asked: Asked,
    job: Job,
    parts: Iterable[Part],
    outs: Sequence[Path | None],
    *,
    what: str,
    empty: pa.Table,
    num_rows: int,
) -> None:
    """Writes the answers about all parts, in their order, and says so.

    Args:
        asked: the model.
        job: the question.
        parts: of the table.
        outs: a file for each answer; None is standard output.
        what: is being done, for the progress bar.
        empty: a part without rows.
        num_rows: of all parts.
    """
    schemas = job.schemas(asked.model, empty)
    columns: dict[str, list[Any]] = {}
    counts = Counter(job.counts(empty, schemas[0].empty_table()))
    with ExitStack() as stack:
        add = stack.enter_context(watched(what, num_rows))
        writers = [
            stack.enter_context(collected(columns, schema) if out is None and asked.as_json else written(out, schema))
            for out, schema in zip(outs, schemas, strict=True)
        ]
        found = answered(job, asked.model, asked.folder, parts, workers=asked.workers, changes=asked.changes)
        for part, answers in stack.enter_context(closing(found)):
            for write, answer, schema in zip(writers, answers, schemas, strict=True):
                write(answer, job.texts(part, answer, schema))
            counts.update(job.counts(part.table, answers[0]))
            add(len(answers[0]))
    files = [str(out) for out in outs if out is not None]
    if asked.as_json:
        print_json(
            {
                "model": str(asked.folder),
                "rows": num_rows,
                **counts,
                **({"out": files} if files else {"columns": columns}),
            }
        )
    elif files:
        counted = "".join(f", {count} entries {done}" for done, count in counts.items())
        say(f"wrote {', '.join(files)}: {num_rows} rows{counted}")


def _numbered(out: Path, draw: int) -> Path:
    """filled.csv.gz becomes filled-1.csv.gz."""
    endings = "".join(suffix for suffix in out.suffixes[-2:] if suffix in (".csv", ".gz", ".parquet"))
    return out.with_name(f"{out.name.removesuffix(endings)}-{draw}{endings}")


def _targets(model: JointEBM, file: Path, names: Sequence[str], target: Sequence[str] | None) -> tuple[Name, ...]:
    modelled = [each.name for each in model.codec_.columns if not isinstance(each.codec, IgnoredCodec)]
    if target is None:
        absent = tuple(name for name in modelled if name not in names)
        if not absent:
            raise ValueError(f"{file}: has every column of the model; name what is to be predicted with --target")
        return absent
    for name in target:
        if name not in modelled:
            raise ValueError(
                f"--target {name!r}: is no column that the model predicts, which are {', '.join(map(repr, modelled))}"
            )
    return tuple(dict.fromkeys(target))
