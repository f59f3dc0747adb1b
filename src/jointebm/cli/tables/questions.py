"""Asks a model about every row of a file, or for new rows: reads parts, answers them, writes the answers."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from jointebm.cli.console import print_json, say
from jointebm.cli.progress import watched
from jointebm.cli.tables.opened import (
    Questions,
    Share,
    checked_questions,
    open_file,
    open_table,
    say_outside,
    with_answers,
)
from jointebm.cli.tables.said_warnings import say_warnings
from jointebm.cli.tables.table_given import parse_table_given
from jointebm.cli.tables.workers import answered
from jointebm.estimators import JointEBM
from jointebm.estimators.imputations import Uncertainty
from jointebm.estimators.row_jobs import ImputeJob, Job, PredictJob, SampleJob, ScoreJob
from jointebm.randomness.device_names import DeviceName
from jointebm.tables.answers.parameters import Missingness
from jointebm.tables.answers.predictions import Statistic
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import IgnoredCodec
from jointebm.tables.files.outputs import check_out, collected, written
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.files.sources import Part

__all__ = ["Asked", "impute_table", "predict_table", "sample_table", "score_table"]

SAMPLES_PER_PART = 1024


@dataclass(frozen=True)
class Asked:
    """A model and how to ask it."""

    folder: Path
    model: JointEBM  # with the changes made
    changes: Mapping[str, Any]  # of parameters of its answers; None keeps the model's own
    reading: ReadingOptions  # of files: those of the model, with what this command changes
    workers: int
    as_json: bool
    share: Share | None = None  # of the rows of a file; None is all

    @classmethod
    def open(
        cls,
        name: str,
        *,
        changes: Mapping[str, Any],
        workers: int,
        device: DeviceName,
        as_json: bool,
        reading: Mapping[str, Any] | None = None,
        part: tuple[int, int] | None = None,
    ) -> "Asked":
        """Opens a model of a table, and says which options of reading differ from those of its fit."""
        folder, model = open_table(name, device)
        now = model.reading_.changed(**(reading or {}))
        if differing := model.reading_.changes(now):
            say(f"{name}: files are read otherwise than in the fit: {'; '.join(differing)}")
        share = None if part is None else Share(*part)
        return cls(folder, with_answers(model, changes), changes, now, workers, as_json, share)


def impute_table(
    asked: Asked,
    file: Path,
    out: Path | None,
    *,
    given: Sequence[str],
    num: int,
    uncertainty: Uncertainty,
    id_column: str | None,
) -> None:
    """Fills the missing entries of a file, `num` times.

    Args:
        asked: the model.
        file: the table.
        out: file to write, which becomes several if `num` is more than 1; None is standard output.
        given: evidence about missing entries, as `--given` names it.
        num: number of completed tables.
        uncertainty: as in `JointEBM.draw_imputations`.
        id_column: column whose ids key the draws of rows; None: their numbers.
    """
    if num > 1 and out is None:
        raise ValueError(f"--num {num}: writes several tables; name their files with --out")
    outs = [out] if out is None or num == 1 else [_numbered(out, draw) for draw in range(1, num + 1)]
    for each in outs:
        check_out(each)
    evidence, source = parse_table_given(given, asked.model), open_file(file, asked.model, asked.reading)
    questions = checked_questions(
        file, source, asked.model, given=evidence, id_column=id_column, share=asked.share, warns=True
    )
    job = ImputeJob(evidence, num, asked.reading, uncertainty, id_column)
    _answer(asked, job, questions, outs, what=f"imputing {file.name}")


def predict_table(
    asked: Asked,
    file: Path,
    out: Path | None,
    *,
    given: Sequence[str],
    target: Sequence[str] | None,
    statistic: Statistic,
) -> None:
    """Predicts columns of the rows of a file: the named ones, or those that the file lacks and nothing is given about."""
    check_out(out)
    evidence, source = parse_table_given(given, asked.model), open_file(file, asked.model, asked.reading)
    targets = _targets(asked.model, file, source.schema.names, target, evidence)
    questions = checked_questions(
        file, source, asked.model, given=evidence, targets=targets, share=asked.share, warns=True
    )
    what = f"predicting {', '.join(map(str, targets))}"
    _answer(asked, PredictJob(evidence, targets, statistic), questions, [out], what=what)


def score_table(asked: Asked, file: Path, out: Path | None, *, given: Sequence[str], conditional: bool) -> None:
    """Scores the rows of a file."""
    if given and conditional:
        raise ValueError("--conditional: scores entries given the other entries of their rows alone; leave out --given")
    check_out(out)
    evidence, source = parse_table_given(given, asked.model), open_file(file, asked.model, asked.reading)
    questions = checked_questions(file, source, asked.model, given=evidence, share=asked.share)
    _answer(asked, ScoreJob(evidence, conditional), questions, [out], what=f"scoring {file.name}")


def sample_table(asked: Asked, out: Path | None, *, given: Sequence[str], num: int, missingness: Missingness) -> None:
    """Draws rows that agree with the given values."""
    check_out(out)
    evidence = parse_table_given(given, asked.model)
    say_outside(asked.model, evidence)
    job = SampleJob(evidence, missingness)
    numbers = (range(first, min(num, first + SAMPLES_PER_PART)) for first in range(0, num, SAMPLES_PER_PART))
    parts = (Part(pa.table({"number": list(each)}), None, str, each.start) for each in numbers)
    _answer(asked, job, Questions(pa.schema([("number", pa.int64())]), parts, num), [out], what="sampling")


def _answer(asked: Asked, job: Job, questions: Questions, outs: Sequence[Path | None], *, what: str) -> None:
    """Writes the answers for all parts in order, one file per answer (None is standard output), and reports the files."""
    empty, num_rows = questions.schema.empty_table(), questions.num_rows
    columns: dict[str, list[Any]] = {}
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        say_warnings()
        schemas = job.schemas(asked.model, empty)
        counts = Counter(job.counts(empty, schemas[0].empty_table()))
        add = stack.enter_context(watched(what, num_rows))
        writers = [
            stack.enter_context(
                collected(columns, schema) if out is None and asked.as_json else written(out, schema, asked.reading)
            )
            for out, schema in zip(outs, schemas, strict=True)
        ]
        found = answered(job, asked.model, asked.folder, questions.parts, workers=asked.workers, changes=asked.changes)
        for part, answers in stack.enter_context(closing(found)):
            for write, answer, schema in zip(writers, answers, schemas, strict=True):
                write(answer, job.texts(part, answer, schema))
            counts.update(job.counts(part.table, answers[0]))
            add(len(answers[0]))
    files = [str(out) for out in outs if out is not None]
    if asked.as_json:
        written_to = {"out": files} if files else {"columns": columns}
        print_json({"model": str(asked.folder), "rows": num_rows, **counts, **written_to})
    elif files:
        counted = "".join(f", {count} entries {done}" for done, count in counts.items())
        say(f"wrote {', '.join(files)}: {num_rows} rows{counted}")


def _numbered(out: Path, draw: int) -> Path:
    """filled.csv.gz becomes filled-1.csv.gz."""
    endings = "".join(suffix for suffix in out.suffixes[-2:] if suffix in (".csv", ".gz", ".parquet"))
    return out.with_name(f"{out.name.removesuffix(endings)}-{draw}{endings}")


def _targets(
    model: JointEBM, file: Path, names: Sequence[str], target: Sequence[str] | None, given: Mapping[Name, object]
) -> tuple[Name, ...]:
    modelled = [each.name for each in model.codec_.columns if not isinstance(each.codec, IgnoredCodec)]
    if target is None:
        absent = tuple(name for name in modelled if name not in names and name not in given)
        if not absent:
            but = ", or --given names it" if given else ""
            raise ValueError(f"{file}: has every column of the model{but}; name the columns to predict with --target")
        return absent
    for name in target:
        if name not in modelled:
            raise ValueError(
                f"--target {name!r}: the model does not predict this column; it predicts {', '.join(map(repr, modelled))}"
            )
        if name in given:
            raise ValueError(f"--target {name!r}: is named by --given too; leave it out of one of them")
    return tuple(dict.fromkeys(target))
