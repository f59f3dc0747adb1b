"""`jointebm data`: lists and downloads data files."""

from typing import Annotated, Literal

import typer

from jointebm.cli.options import DataDir, Json

__all__ = ["data"]


def data(
    *,
    name: Annotated[
        Literal["mnist", "fashion-mnist", "dsprites"] | None,
        typer.Option("--download", help="Download the missing files of a data set into the folder of --data."),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List the data sets and the state of their files. Nothing is downloaded without --download."""
    from jointebm.cli.blocks.data_files import download_files, list_data

    if name is not None:
        download_files(name, data_dir)
    list_data(data_dir, as_json=as_json)
