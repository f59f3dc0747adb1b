"""What the commands ask about the rows of a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from jointebm.cli.console import print_json, say
from jointebm.cli.tables.asking import Asked, ask
from jointebm.cli.tables.cells import is_missing
from jointebm.cli.tables.given import parse_table_given
from jointebm.cli.tables.jobs import Imputing, Predicting, Sampling, Scoring
from jointebm.cli.tables.models import open_questions
from jointebm.cli.tables.sources import Part
from jointebm.cli.tables.written import cell_text, check_out
from jointebm.estimators import JointEBM
from jointebm.tables.codec import Name
from jointebm.tables.columns import IgnoredCodec

__all__ = ["impute_table", "predict_table", "sample_table", "score_table"]

ROWS_AT_ONCE = 1024  # of samples
NUM_STEPS = 100  # of the progress of a fit


def impute_table(
    asked: Asked, file: Path, out: Path | None, *, num: int, missing: frozenset[str], as_json: bool
) -> None:
    """Fills a file's missing entries, `num` times."""
    if num > 1 and out is None:
        raise ValueError(f"--num {num}: several tables need files; name them with --out")
    outs = [out] if out is None or num == 1 else [_numbered(out, draw) for draw in range(1, num + 1)]
    for each in outs:
        check_out(each)
    source, num_rows = open_questions(file, asked.model, missing=missing)
    job, filled = Imputing(num), 0
    answers = job(asked.model, source.schema.empty_table())
    schemas = [_filled_schema(source.schema, answer.schema, asked.model) for answer in answers]

    def texts(part: Part, answer: pa.Table) -> dict[str, list[str]]:
        nonlocal filled
        filled += _num_missing(part.table) - _num_missing(answer)
        return {} if part.cells is None else _texts(part.cells, answer, schemas[0], missing)

    into: dict[str, list[Any]] | None = {} if as_json and out is None else None
    ask(
        f"imputing {file.name}",
        job,
        asked,
        source.parts(),
        question=lambda part: part.table,
        num_rows=num_rows,
        schemas=schemas,
        outs=outs,
        into=into,
        texts=texts,
    )
    _report(asked, num_rows, outs, into, as_json, filled=filled // num)


def predict_table(
    asked: Asked,
    file: Path,
    out: Path | None,
    *,
    target: Sequence[str] | None,
    statistic: Literal["mean", "median"],
    missing: frozenset[str],
    as_json: bool,
) -> None:
    """Guesses columns of a file's rows: those that are named, or those that the file does not have."""
    check_out(out)
    source, num_rows = open_questions(file, asked.model, missing=missing)
    targets = _targets(asked.model, file, source.names, target)
    job = Predicting(targets, statistic)
    into: dict[str, list[Any]] | None = {} if as_json and out is None else None
    ask(
        f"predicting {', '.join(map(str, targets))}",
        job,
        asked,
        source.parts(),
        question=lambda part: part.table,
        num_rows=num_rows,
        schemas=[job(asked.model, source.schema.empty_table())[0].schema],
        outs=[out],
        into=into,
    )
    _report(asked, num_rows, [out], into, as_json, target=list(targets))


def score_table(
    asked: Asked, file: Path, out: Path | None, *, conditional: bool, missing: frozenset[str], as_json: bool
) -> None:
    """Scores a file's rows."""
    check_out(out)
    source, num_rows = open_questions(file, asked.model, missing=missing)
    job = Scoring(conditional)
    into: dict[str, list[Any]] | None = {} if as_json and out is None else None
    ask(
        f"scoring {file.name}",
        job,
        asked,
        source.parts(),
        question=lambda part: part.table,
        num_rows=num_rows,
        schemas=[job(asked.model, source.schema.empty_table())[0].schema],
        outs=[out],
        into=into,
    )
    _report(asked, num_rows, [out], into, as_json)


def sample_table(
    asked: Asked, out: Path | None, *, given: Sequence[str], num: int, seed: int | None, as_json: bool
) -> None:
    """Draws rows."""
    check_out(out)
    job = Sampling(parse_table_given(given, asked.model), seed)
    schema = job(asked.model, range(0))[0].schema
    into: dict[str, list[Any]] | None = {} if as_json and out is None else None
    ask(
        "sampling",
        job,
        asked,
        (range(first, min(num, first + ROWS_AT_ONCE)) for first in range(0, num, ROWS_AT_ONCE)),
        question=lambda part: part,
        num_rows=num,
        schemas=[schema],
        outs=[out],
        into=into,
    )
    _report(asked, num, [out], into, as_json)


def _numbered(out: Path, draw: int) -> Path:
    """filled.csv.gz becomes filled-1.csv.gz."""
    stem, dot, ending = out.name.partition(".csv") if ".csv" in out.name else out.name.partition(".parquet")
    return out.with_name(f"{stem}-{draw}{dot}{ending}")


def _filled_schema(asked: pa.Schema, answered: pa.Schema, model: JointEBM) -> pa.Schema:
    """The file's own types, but where they could not hold what the model draws."""
    fields = []
    for field in asked:
        narrow = pa.types.is_integer(field.type) and model.frame_schema_.column(field.name).role == "real"
        if narrow or pa.types.is_null(field.type):
            field = field.with_type(pa.float64() if narrow else answered.field(field.name).type)
        fields.append(field.remove_metadata())
    return pa.schema(fields)


def _num_missing(table: pa.Table) -> int:
    return sum(pc.sum(pc.is_null(column, nan_is_null=True)).as_py() or 0 for column in table.columns)


def _texts(
    cells: Mapping[str, list[str]], answer: pa.Table, schema: pa.Schema, missing: frozenset[str]
) -> dict[str, list[str]]:
    """The cells of a CSV file as they are, and the values of the missing ones."""
    texts = {}
    for name, column in cells.items():
        values, arrow = answer[name].to_pylist(), schema.field(name).type
        texts[name] = [
            text if value is None or not is_missing(text, missing) else cell_text(value, arrow)
            for text, value in zip(column, values, strict=True)
        ]
    return texts


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


def _report(
    asked: Asked,
    num_rows: int,
    outs: Sequence[Path | None],
    into: dict[str, list[Any]] | None,
    as_json: bool,
    **more: Any,
) -> None:
    """Says what was written, or prints it all as JSON."""
    written = [str(out) for out in outs if out is not None]
    if as_json:
        shown: dict[str, Any] = {"out": written} if into is None else {"columns": into}
        print_json({"model": str(asked.folder), "rows": num_rows, **more, **shown})
        return
    filled = f", {more['filled']} entries filled" if "filled" in more else ""
    if written:
        say(f"wrote {', '.join(written)}: {num_rows} rows{filled}")
