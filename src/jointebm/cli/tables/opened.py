"""Opens models of tables, and files of rows to ask them about."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from jointebm.cli.blocks.models import holds_table
from jointebm.cli.console import say
from jointebm.estimators import JointEBM
from jointebm.inference.pretrained import find_model
from jointebm.randomness.device_names import DeviceName
from jointebm.storage.untrusted import quoted
from jointebm.tables.answers.row_keys import keys_of_ids, require_different
from jointebm.tables.codes.agreement import DisagreementError
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import CodedColumn, Name
from jointebm.tables.codes.training_range import RangeTally, given_outside
from jointebm.tables.files.cells import CellKind
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.files.sources import ColumnType, Part, Source, open_source
from jointebm.tables.frames.reading import Frame, read_frame
from jointebm.tables.frames.schemas import ColumnSchema

__all__ = ["Questions", "Share", "checked_questions", "open_file", "open_table", "say_outside", "with_answers"]


class Questions(NamedTuple):
    """Rows to ask a model about."""

    schema: pa.Schema  # of the parts
    parts: Iterable[Part]
    num_rows: int  # of all parts


class Share(NamedTuple):
    """Part `number` of a file that is divided into `of` parts of about equal numbers of rows."""

    number: int  # from 1
    of: int

    def rows(self, num: int) -> range:
        """The numbers of its rows, of a file of `num` rows.

        Example:
            >>> [Share(number, 3).rows(10) for number in (1, 2, 3)]
            [range(0, 3), range(3, 6), range(6, 10)]
        """
        return range((self.number - 1) * num // self.of, self.number * num // self.of)


def open_table(name: str, device: DeviceName) -> tuple[Path, JointEBM]:
    """Finds and loads a model of a table."""
    if not holds_table(name):
        raise ValueError(f"{name}: is not a model of a table; 'jointebm fit' writes those")
    path = find_model(name)
    return path, JointEBM.load(path, device=device)


def with_answers(model: JointEBM, changes: Mapping[str, Any]) -> JointEBM:
    """The model with changed parameters of its answers; None keeps the model's own."""
    model.set_params(**{name: value for name, value in changes.items() if value is not None})
    assert model.fitted  # raises if a parameter is out of its range
    return model


def open_file(path: Path, model: JointEBM, reading: ReadingOptions) -> Source:
    """Opens a file of rows of the table that the model was fitted to."""
    if not all(isinstance(name, str) for name in model.codec_.names):
        raise ValueError(f"{path}: the model was fitted to an array, whose columns have no names; use it from Python")
    schemas = {str(schema.name): schema for schema in model.frame_schema_.columns}

    def type_of(name: str) -> ColumnType:
        schema = schemas[name]
        if schema.is_duration:
            raise ValueError(f"{path}: column {name!r} holds durations, which CSV does not tell from text; use Parquet")
        return _type(schema.in_backend("pyarrow", model.frame_schema_.backend), model.coded(name))

    return open_source(path, list(schemas), type_of, reading)


def checked_questions(
    path: Path,
    source: Source,
    model: JointEBM,
    *,
    given: Mapping[Name, object],
    targets: Sequence[Name] = (),
    id_column: str | None = None,
    share: Share | None = None,
    warns: bool = False,
) -> Questions:
    """Checks that the model can read the rows of a file, and that a column of ids has one for each row of the whole file.

    That takes eight bytes of memory per row.

    Args:
        path: of the file, for messages.
        source: the file.
        model: to be asked.
        given: evidence that all rows have to agree with.
        targets: columns whose entries are ignored.
        id_column: name of the column of ids.
        share: the rows to answer; None is all.
        warns: whether to say what lies outside the training range.
    """
    if id_column is not None and id_column not in source.schema.names:
        raise ValueError(
            f"--id {quoted(repr(id_column))}: {path} has no such column; it has {quoted(', '.join(source.schema.names))}"
        )
    if warns:
        say_outside(model, given)
    tally = RangeTally()
    num_rows, keys = 0, [torch.empty(0, dtype=torch.int64)]
    rows = None if share is None else share.rows(source.num_rows())
    if id_column is not None:
        keys += [_keys(path, part, model, id_column) for part in source.parts(None)]
    for part in source.parts(rows):
        frame = _checked(path, part, model)
        if given or warns:
            encoded = _encoded(path, part, frame, model, given, targets)
            if warns:
                model.count_outside(tally, encoded, targets=targets, place=part.places)
        num_rows += len(part.table)
    require_different(torch.cat(keys), f"{path}, column {id_column!r}", first=1)
    for line in tally.findings():
        say(f"{path}: {line}")
    return Questions(source.schema, source.parts(rows), num_rows)


def _keys(path: Path, part: Part, model: JointEBM, name: str) -> Tensor:
    """Keys of the rows of a part by their ids."""
    ids = model.coded(name).converted(read_frame(part.table.select([name])).table[name])
    if ids.is_missing.any():
        place = part.places(int(ids.is_missing.argmax()))
        raise ValueError(f"{path}, {place}, column {name!r}: is missing, and --id takes an id for every row; add it")
    return keys_of_ids(ids, name)


def say_outside(model: JointEBM, given: Mapping[Name, object]) -> None:
    """Says which given values lie outside the training range."""
    for line in given_outside(model.evidence(given), model.codec_):
        say(f"--given {line}")


def _checked(path: Path, part: Part, model: JointEBM) -> Frame:
    """The rows; raises unless the model can read them."""
    try:
        frame = read_frame(part.table)
        converted = {name: model.coded(name).converted(column) for name, column in frame.table.items()}
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from None
    for name, column in converted.items():
        codec = model.coded(name).codec
        if isinstance(codec, CategoryCodec) and model.unseen == "error":
            seen = np.flatnonzero(~column.is_missing)
            unknown = seen[codec.encode(column.values[seen]) < 0]
            if len(unknown):
                raise ValueError(
                    f"{path}, {part.places(int(unknown[0]))}, column {name!r}: "
                    f"category {quoted(repr(column.values[unknown[0]]))} was not seen in training; correct it, or treat "
                    "unknown categories as missing: --unseen missing"
                )
    return frame


def _encoded(
    path: Path, part: Part, frame: Frame, model: JointEBM, given: Mapping[Name, object], targets: Sequence[Name]
) -> Any:
    """The encoded rows; raises unless they agree with the evidence."""
    try:
        return model.encoded(frame, given, missing=targets)
    except DisagreementError as error:
        place = f"{path}, {part.places(error.row)}"
        raise ValueError(f"{place}: --given column {error.name!r}: the row {error.reason}; {error.remedy}") from None


def _type(schema: ColumnSchema, coded: CodedColumn) -> ColumnType:
    """The kind of the cells of a column in CSV, and their Arrow type."""
    if schema.role == "time":
        if schema.unit == "D":
            return "date", pa.date32()
        kind: CellKind = "time" if schema.time_zone is None else "zoned"
        return kind, pa.timestamp(schema.unit, tz=schema.time_zone)
    role: str = schema.role
    if role == "label" and isinstance(coded.codec, CategoryCodec):
        role = _role_of_levels(coded.codec)
    types: dict[str, ColumnType] = {
        "real": ("real", pa.float64()),
        "whole": ("real", pa.int64()),  # fractions are read as well
        "boolean": ("boolean", pa.bool_()),
        "label": ("text", pa.string()),
    }
    return types[role]


def _role_of_levels(codec: CategoryCodec) -> str:
    """The role of cells whose categories are numbers or booleans."""
    types = {type(level) for level in codec.levels}
    if types == {bool}:
        return "boolean"
    if types <= {int, float}:
        return "whole" if types == {int} else "real"
    return "label"
