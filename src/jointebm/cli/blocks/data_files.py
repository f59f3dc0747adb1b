"""Lists the data sets, checks their files, and downloads missing ones."""

from pathlib import Path
from typing import Any

import typer

from jointebm.cli.console import print_json, print_table, say
from jointebm.data.downloads import BY_HAND, DOWNLOADS, MADE_OF, RENDERED, DataFile, download, open_https
from jointebm.data.registry import DATASETS
from jointebm.storage.untrusted import quoted

__all__ = ["download_files", "list_data"]

EMBEDDED = ("toy", "digits", "sets", "ising", "captions")


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
    sets = [_described(name, data_dir) for name in (*EMBEDDED, *DOWNLOADS, *BY_HAND)]
    if as_json:
        print_json({"data_dir": None if data_dir is None else str(data_dir), "data": sets})
        return
    rows = [
        (each["name"], each["state"], ", ".join(each["datasets"]) or "for out-of-distribution tests") for each in sets
    ]
    print_table(f"data; data folder: {data_dir or 'none'}", ("what", "state", "used as"), rows, num_text=3)
    for file in (file for each in sets for file in each["files"]):
        typer.echo(f"{file['state']}: {file['path']}" + (f" ({file['note']})" if file["note"] else ""))
    for each in sets:
        if each["name"] in DOWNLOADS and "missing" in (file["state"] for file in each["files"]):
            typer.echo(f"get {each['name']} with: jointebm data --download {each['name']} --data {data_dir or 'DIR'}")


def _described(name: str, data_dir: Path | None) -> dict[str, Any]:
    """A data set as `--json` prints it."""
    files = [_file_state(file, data_dir) for file in DOWNLOADS.get(name, ())]
    if name in BY_HAND:
        path = (data_dir or Path()) / BY_HAND[name]
        state = "found" if data_dir and path.is_file() else "missing"
        files.append({"path": str(path), "state": state, "note": "", "url": ""})
    states = [file["state"] for file in files]
    made_of = [made for made, source in MADE_OF.items() if source == name]
    whole = next((state for state in ("damaged", "missing", "found") if state in states), "embedded")
    return {
        "name": name,
        "datasets": [each for each in DATASETS if _is_of(each, name) or any(_is_of(each, made) for made in made_of)],
        "state": "rendered" if "missing" in states and name in RENDERED else whole,
        "files": files,
    }


def _is_of(dataset: str, name: str) -> bool:
    """Whether a data set is that of a name, or a variant of it."""
    return dataset == name or dataset.startswith(f"{name}-")


def _file_state(file: DataFile, data_dir: Path | None) -> dict[str, str]:
    """A file: found, missing or damaged, and a note that says why."""
    found, state, note = file.find(data_dir), "found", ""
    if found is None:
        state = "missing"
    else:
        try:
            file.check(found)
        except ValueError as error:
            state, note = "damaged", quoted(error)
    return {"path": str(found or (data_dir or Path()) / file.path), "state": state, "note": note, "url": file.url}
