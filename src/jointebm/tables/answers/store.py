"""A fitted table as a model folder; see `jointebm.storage.model_folder`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from jointebm.randomness.devices import Device, place_of
from jointebm.storage.config import Config
from jointebm.storage.model_cards import front_matter
from jointebm.storage.model_folder import TABLE_MODEL, check_sizes, read_model, write_model
from jointebm.storage.untrusted import quoted
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import Name, TableCodec
from jointebm.tables.codes.indicators import Indicator
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.frames.schemas import FrameSchema
from jointebm.tables.relations.relation_system import RelationSystem
from jointebm.tables.training.table_report import FitReport

__all__ = ["TableFolder", "load_table", "save_table"]


class TableFolder(Config):
    """Everything of a fitted table but the weights: `config.json`."""

    format: Literal[2] = Field(2, description="version of this layout")
    kind: Literal["table"] = Field("table", description="tells it from other models")
    frame: FrameSchema = Field(description="the columns it was fitted on")
    codec: TableCodec = Field(description="columns and their codes")
    relations: RelationSystem | None = Field(
        None, description="relations of columns, with the codec of the model's own"
    )
    indicators: tuple[Indicator, ...] = Field((), description="columns of the model that say which entries are missing")
    model: dict[str, Any] = Field(description="shapes of the model")
    report: FitReport = Field(description="how far the density can be trusted, with log Z")
    target: Name | None = Field(None, description="column that `fit` got as y")
    parameters: Parameters = Field(description="of the fit and of answers")
    reading: ReadingOptions = Field(ReadingOptions(), description="how cells of files are read")
    num_rows: int | None = Field(
        None, ge=1, description="rows of the table; more than were trained on, if that was a sample"
    )

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        names = self.frame.names
        if names != self.codec.names or self.target not in (None, *names):
            raise ValueError("the frame, the codec and the target name other columns")
        for stored, coded in zip(self.frame.columns, self.codec.columns, strict=True):
            if stored.is_duration != coded.is_duration:
                raise ValueError(
                    f"column {stored.name!r}: only the frame or the codec says that it is a length of time"
                )
        if self.relations is not None and tuple(each.name for each in self.relations.columns)[: len(names)] != names:
            raise ValueError("the relations and the frame name other columns")
        if not {each.of for each in self.indicators} <= set(names):
            raise ValueError("an indicator is of an unknown column")
        return self

    @property
    def recorded(self) -> TableCodec:
        """The columns of the table, and their indicators."""
        return TableCodec(columns=(*self.codec.columns, *(each.coded for each in self.indicators)))

    def row_lines(self) -> tuple[str, ...]:
        """One line about the sample that was trained on, if it was one."""
        trained = self.parameters.max_rows
        if self.num_rows is None or self.num_rows <= trained:
            return ()
        return (f"{self.num_rows} rows, of which {trained} were trained on",)

    @classmethod
    def of(
        cls,
        frame: FrameSchema,
        codec: TableCodec,
        model: TableModel,
        *,
        relations: RelationSystem | None,
        indicators: tuple[Indicator, ...],
        target: Name | None,
        parameters: Parameters,
    ) -> "TableFolder":
        """The description of a model."""
        assert model.report is not None  # it has been fitted
        return cls(
            frame=frame,
            codec=codec,
            relations=relations,
            indicators=indicators,
            model=model.spec(),
            report=model.report,
            target=target,
            parameters=parameters,
        )


class _Stored(nn.Module):
    """What `model.safetensors` holds: F, and F of each member, all of one shape."""

    def __init__(self, model: TableModel, members: Sequence[TableModel]) -> None:
        super().__init__()
        self.energy = model.energy
        self.members = nn.ModuleList(each.energy for each in members)


def save_table(
    path: str | os.PathLike[str], config: TableFolder, model: TableModel, members: Sequence[TableModel] = ()
) -> Path:
    """Writes a folder.

    Raises:
        FileExistsError: the folder exists.
        OSError: it cannot be written; names the file.
        ValueError: the description is longer than `load_table` would read.
    """
    text = config.model_dump_json(indent=None) + "\n"
    return write_model(Path(path), text, _Stored(model, members).state_dict(), card=_card(config), kind=TABLE_MODEL)


def load_table(
    path: str | os.PathLike[str], *, device: Device = "cpu"
) -> tuple[TableFolder, TableModel, tuple[TableModel, ...]]:
    """Reads a folder: its description, the model, and the members, whose parameters are on the device.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: the folder holds a block model, or a file does not hold what it should; names the file and the reason.
    """
    place = place_of(device)
    config, stored = read_model(Path(path), TABLE_MODEL, TableFolder, check=_check_declared, build=_unfilled)
    stored.to(place)
    members = tuple(TableModel(each).eval() for each in stored.members)  # type: ignore[arg-type]
    return config, TableModel(stored.energy, config.report).eval(), members


def _check_declared(config: TableFolder, tensors: Mapping[str, Tensor]) -> None:
    num_entries = sum(tensor.numel() for tensor in tensors.values())
    check_sizes("model", config.model, tensors, at_most=num_entries)
    if config.model.get("num_layers", 0) > len(tensors):
        raise ValueError(f"more layers than model.safetensors holds tensors, {len(tensors)}")
    if config.parameters.num_members > len(tensors):
        raise ValueError(f"more members than model.safetensors holds tensors, {len(tensors)}")


def _unfilled(config: TableFolder) -> _Stored:
    model, *members = (TableModel.from_spec(config.model) for _ in range(1 + config.parameters.num_members))
    if model.num_classes != (config.recorded if config.relations is None else config.relations.codec).num_codes:
        raise ValueError("the model's columns are not those of the codec")
    return _Stored(model, members)


def _relation_lines(system: RelationSystem | None) -> list[str]:
    """The relations as a list in a model's card."""
    listed = () if system is None else system.listed
    return (
        ["Relations that samples and imputations keep:", "", *(f"- {quoted(each)}" for each in listed), ""]
        if listed
        else []
    )


def _card(config: TableFolder) -> str:
    lines = [
        f"{front_matter('tabular')}# A joint density of a table",
        "",
        "Fitted by jointebm. `JointEBM.load(path)` reads it; nothing in it is executed.",
        "It holds column names, categories and frequent values of the data it was fitted on.",
        "",
        *(f"- {line}" for line in (*config.row_lines(), *config.report.lines())),
        "",
        *_relation_lines(config.relations),
        "| column | holds | codes | rows in rare levels |",
        "|---|---|---|---|",
    ]
    for column in config.codec.columns:
        share = f"{column.codec.rare_share:.1%}" if isinstance(column.codec, CategoryCodec) else ""
        name = quoted(column.name).replace("|", "/")
        lines.append(f"| {name} | {column.role} | {column.codec.num_codes} | {share} |")
    return "\n".join(lines) + "\n"
