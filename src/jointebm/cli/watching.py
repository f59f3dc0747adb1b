"""Opens a model and its data for `jointebm watch`, and serves them."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jointebm.cli.blocks.models import holds_table
from jointebm.cli.console import say
from jointebm.sampling.diagnostics import ConvergenceWarning
from jointebm.watch.limits import Limits
from jointebm.watch.opened_models import open_watched

__all__ = ["watch_model"]

NUM_OFFERED = 1000  # of a table, that the page offers


def watch_model(
    name: str,
    *,
    data: Path | None,
    host: str,
    port: int,
    names: Sequence[str],
    token: str | None,
    limits: Mapping[str, Any],
) -> None:
    """Serves until interrupted; see `jointebm.watch.serving.serve_watched`."""
    try:
        from jointebm.watch.serving import serve_watched
    except ModuleNotFoundError as error:
        raise ImportError(f"watch needs {error.name}: pip install 'jointebm[watch]'") from error
    if holds_table(name):
        if data is not None and data.is_dir():  # such as $JOINTEBM_DATA
            say(f"--data {data} is a folder; chains of {name}, a model of a table, start at rows of a table file alone")
            data = None
        opened = open_watched(name, table=None if data is None else _rows(name, data))
    else:
        opened = open_watched(name, data=data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # answers hold their diagnostics
        serve_watched(
            opened,
            host=host,
            port=port,
            token=token,
            names=names,
            limits=Limits(**limits),
            ready=lambda address: say(f"watching {name}; open {address} (Ctrl-C ends it)"),
        )


def _rows(name: str, file: Path) -> Mapping[Any, Any]:
    """The first rows of a file, as columns."""
    from jointebm.cli.tables.opened import open_file, open_table
    from jointebm.tables.frames.reading import read_frame

    _, model = open_table(name, "cpu")
    part = next(iter(open_file(file, model, model.reading_).parts(None)))
    return read_frame(part.table.slice(0, NUM_OFFERED)).table
