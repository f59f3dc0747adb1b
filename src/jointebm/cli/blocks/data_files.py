"""Lists the data sets, checks their files, and downloads missing ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from jointebm.cli.console import print_json, print_table, say
from jointebm.data.downloads import DOWNLOADS, DataFile, download, open_https
from jointebm.data.letters import LETTERS_FILE
from jointebm.data.registry import DATASETS
from jointebm.storage.untrusted import quoted

__all__ = ["download_files", "list_data"]

EMBEDDED = ("toy", "digits", "sets", "ising")
RENDERED = ("dsprites",)  # where their files are missing
BROUGHT = {"letters": LETTERS_FILE}  # files that the user brings


class FileState(NamedTuple):
    """A file; `state` is found, missing or damaged, and `note` says why."""

    path: str
    state: str
    note: str
    url: str


def download_files(name: str, data_dir: Path | None) -> None:
    """Downloads the files of a data set that are missing."""
    if data_dir is None:
        raise ValueError(f"--download {name}: needs a folder to write to; name it with --data DIR or JOINTEBM_DATA")
    for file in DOWNLOADS[name]:
        found = file.find(data_dir)
        if found is not None:
            file.check(found)
            say(f"{found} exists already")
            continue
        say(f"downloading {file.url}")
        say(f"wrote {download(file, data_dir, open_url=open_https)}")


def list_data(data_dir: Path | None, *, as_json: bool) -> None:
    """Prints the data sets with the state of their files."""
    sets = [_described(name, data_dir) for name in (*EMBEDDED, *DOWNLOADS, *BROUGHT)]
    if as_json:
        print_json({"data_dir": None if data_dir is None else str(data_dir), "data": sets})
    else:
        _print(sets, data_dir)


def _described(name: str, data_dir: Path | None) -> dict[str, Any]:
    """A data set as `--json` prints it."""
    files = [_state(file, data_dir) for file in DOWNLOADS.get(name, ())]
    if name in BROUGHT:
        path = (data_dir or Path()) / BROUGHT[name]
        files.append(FileState(str(path), "found" if data_dir and path.is_file() else "missing", "", ""))
    return {
        "name": name,
        "datasets": [each for each in DATASETS if each == name or each.startswith(f"{name}-")],
        "state": _whole(name, [file.state for file in files]),
        "files": [file._asdict() for file in files],
    }


def _state(file: DataFile, data_dir: Path | None) -> FileState:
    found = file.find(data_dir)
    if found is None:
        return FileState(str((data_dir or Path()) / file.path), "missing", "", file.url)
    try:
        file.check(found)
    except ValueError as error:
        return FileState(str(found), "damaged", quoted(error), file.url)
    return FileState(str(found), "found", "", file.url)


def _whole(name: str, states: Sequence[str]) -> str:
    """The state of a data set, given those of its files."""
    if "missing" in states and name in RENDERED:
        return "rendered"
    return next((state for state in ("damaged", "missing", "found") if state in states), "embedded")


def _print(sets: Sequence[dict[str, Any]], data_dir: Path | None) -> None:
    rows = [
        (each["name"], each["state"], ", ".join(each["datasets"]) or "for out-of-distribution tests") for each in sets
    ]
    print_table(f"data; data folder: {data_dir or 'none'}", ("what", "state", "used as"), rows, num_text=3)
    for file in (file for each in sets for file in each["files"]):
        typer.echo(f"{file['state']}: {file['path']}" + (f" ({file['note']})" if file["note"] else ""))
    for each in sets:
        if each["name"] in DOWNLOADS and "missing" in (file["state"] for file in each["files"]):
            typer.echo(f"get {each['name']} with: jointebm data --download {each['name']} --data {data_dir or 'DIR'}")
