"""A file is fitted to: its columns read, a model made, its folder written."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jointebm.cli.console import Interrupted, print_json, print_table, say
from jointebm.cli.progress import StepProgress
from jointebm.estimators import JointEBM
from jointebm.storage.atomic import check_new
from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.codec import Name, Unseen
from jointebm.tables.codes.column import Kind
from jointebm.tables.files.reading import read_whole
from jointebm.tables.training.table_config import Progress, TableConfig

__all__ = ["fit_table", "parsed_fields"]

OPTIONS = {"kinds": "--kind", "random_state": "--seed", "unseen": "--unseen"}
NUM_STEPS = 100  # of the progress


def fit_table(
    file: Path,
    out: Path,
    *,
    kinds: Mapping[str, Kind],
    fields: Mapping[str, Any],
    missing: frozenset[str],
    unseen: Unseen,
    random_state: int,
    as_json: bool,
) -> None:
    """Fits a model to a file and writes its folder.

    Args:
        file: the table.
        out: folder of the model.
        kinds: overrules what some columns hold.
        fields: of `JointEBM`, or of its `training`.
        missing: texts for a missing value.
        unseen: what the model makes of a category that is not in the file.
        random_state: seed of all draws.
        as_json: whether to print JSON.
    """
    check_new(out)
    own = JointEBM().get_params(deep=False).keys() - {"training", *OPTIONS}
    for name in fields:
        if name in OPTIONS:
            raise ValueError(f"--set {name!r}: is an option of its own: {OPTIONS[name]}")
        parameters = own | TableConfig.model_fields.keys()
        if name not in parameters:
            raise ValueError(f"--set {quoted(repr(name))}: is no parameter; there are {', '.join(sorted(parameters))}")
    started = time.monotonic()
    table = read_whole(file, kinds=kinds, missing=missing)
    training = {name: value for name, value in fields.items() if name not in own}
    chosen = {name: value for name, value in fields.items() if name in own}
    known: dict[Name, Kind] = dict(kinds.items())
    model = JointEBM(training=training or None, kinds=known or None, unseen=unseen, random_state=random_state, **chosen)
    looks: list[float] = []
    with StepProgress(f"fitting {file.name}", NUM_STEPS) as bar:

        def show(progress: Progress) -> None:
            looks.append(progress.log_score)
            bar.show(round(NUM_STEPS * progress.fraction), f"held-out log score {progress.log_score:.4f}")

        try:
            model.fit(table, on_progress=show)
        except KeyboardInterrupt as reason:
            raise Interrupted(reason, "interrupted in the fit; nothing is written") from None
        except (TypeError, ValueError) as error:
            raise type(error)(f"{file}: {error}") from None
    model.save(out)
    columns = [
        {"name": str(each.name), "holds": each.role, "kind": each.codec.kind, "codes": each.codec.num_codes}
        for each in model.codec_.columns
    ]
    summary = {
        "model": str(out),
        "rows": len(table),
        "columns": columns,
        "log_score": max(looks, default=None),
        "seconds": round(time.monotonic() - started, 2),
    }
    if as_json:
        print_json(summary)
        return
    score = f"; held-out log score {max(looks):.4f} nats per entry" if looks else ""
    rows = [[str(value) for value in column.values()] for column in columns]
    print_table(f"{out}: {len(table)} rows", ["column", "holds", "treated as", "codes"], rows, num_text=3)
    say(f"wrote {out} after {summary['seconds']} s{score}")


def parsed_fields(assignments: Sequence[str]) -> dict[str, Any]:
    """--set KEY=VALUE: numbers are numbers, and all else is text.

    Example:
        >>> parsed_fields(["num_visits=10", "objective=pcd"])
        {'num_visits': 10, 'objective': 'pcd'}
    """
    fields: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator or not name:
            raise ValueError(f"--set {assignment!r}: expected KEY=VALUE, such as num_visits=10")
        try:
            fields[name] = json.loads(text)
        except ValueError:
            fields[name] = text
    return fields
