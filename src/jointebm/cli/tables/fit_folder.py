"""The run folder of a fit.

DIR/fit.json         the table with its SHA-256, and the options of the fit
DIR/metrics.jsonl    and DIR/checkpoints/, see `jointebm.tables.training.fit_record`
DIR/model/           the fitted model
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from jointebm.storage.atomic import new_folder, write_file
from jointebm.storage.config import Config
from jointebm.storage.digests import file_digest
from jointebm.storage.untrusted import quoted, read_config
from jointebm.tables.codes.codec import Unseen
from jointebm.tables.codes.column import Kind
from jointebm.tables.files.reading_options import ReadingOptions

__all__ = ["FitPlan", "begin_fit", "plan_of"]


class FitPlan(Config):
    """The request of a fit, which `fit.json` holds."""

    format: Literal[1] = Field(1, description="version of this layout")
    table: str = Field(description="absolute path of the table")
    sha256: str = Field(description="of the table's bytes")
    kinds: dict[str, Kind] = Field(description="overrules the kinds that columns suggest")
    fields: dict[str, Any] = Field(description="parameters of JointEBM, or of its training")
    reading: ReadingOptions = Field(description="how cells are read")
    unseen: Unseen = Field(description="treatment of categories not seen in training")
    seed: int = Field(ge=0, description="of all draws")
    environment: dict[str, Any] = Field(description="versions and hardware")


def begin_fit(out: Path, plan: FitPlan) -> None:
    """Makes the folder of a run, whole or not at all.

    Raises:
        FileExistsError: the folder exists.
    """
    with new_folder(out) as scratch:
        write_file(scratch / "fit.json", (plan.model_dump_json(indent=2) + "\n").encode())


def plan_of(folder: Path) -> FitPlan:
    """Reads the plan of an unfinished run.

    Raises:
        FileNotFoundError: this is no run of a fit.
        FileExistsError: the run is finished.
        ValueError: fit.json is damaged, or the table has changed.
    """
    path = folder / "fit.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; --resume takes a folder that 'jointebm fit TABLE --out DIR' made"
        )
    if (folder / "model").exists():
        raise FileExistsError(f"{folder}: is finished; its model is in {folder / 'model'}")
    plan = read_config(path, "the record of a fit", FitPlan)
    if file_digest(Path(plan.table)) != plan.sha256:
        raise ValueError(
            f"{quoted(plan.table)}: has changed since the fit in {folder} started; restore it, or fit into a new folder"
        )
    return plan
