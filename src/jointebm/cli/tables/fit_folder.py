"""The run folder of a fit.

DIR/fit.json         the files of the table with their SHA-256, and the options of the fit
DIR/metrics.jsonl    and DIR/checkpoints/, see `jointebm.tables.training.fit_record`
DIR/model/           the fitted model
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from jointebm.randomness.device_names import DeviceName
from jointebm.storage.atomic import new_folder, write_file
from jointebm.storage.config import Config
from jointebm.storage.digests import digest_of_files
from jointebm.storage.untrusted import quoted, read_config
from jointebm.tables.codes.codec import Unseen
from jointebm.tables.codes.column import Kind
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.files.sources import files_of

__all__ = ["FitPlan", "begin_fit", "named", "plan_of"]


class FitPlan(Config):
    """The request of a fit, which `fit.json` holds."""

    format: Literal[1] = Field(1, description="version of this layout")
    tables: tuple[str, ...] = Field(min_length=1, description="absolute paths of the table's files and folders")
    sha256: str = Field(description="of the bytes of its files")
    kinds: dict[str, Kind] = Field(description="overrules the kinds that columns suggest")
    fields: dict[str, Any] = Field(description="parameters of JointEBM, or of its training")
    reading: ReadingOptions = Field(description="how cells are read")
    unseen: Unseen = Field(description="treatment of categories not seen in training")
    seed: int = Field(ge=0, description="of all draws")
    device: DeviceName = Field("auto", description="where to fit")
    environment: dict[str, Any] = Field(description="versions and hardware")

    @property
    def places(self) -> list[Path]:
        """Files and folders of the table."""
        return [Path(each) for each in self.tables]


def named(places: Sequence[Path]) -> str:
    """A table of files and folders, for messages."""
    return str(places[0]) if len(places) == 1 else f"{places[0]} and {len(places) - 1} more"


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
    if digest_of_files(files_of(plan.places)) != plan.sha256:
        raise ValueError(
            f"{quoted(named(plan.places))}: has changed since the fit in {folder} started; restore it, or fit into a new "
            "folder"
        )
    return plan
