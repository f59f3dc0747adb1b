"""Fits a model to a file, into a run folder that can be resumed."""

import json
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from jointebm.cli.console import Interrupted, print_json, print_table, say
from jointebm.cli.progress import StepProgress
from jointebm.cli.tables.fit_folder import FitPlan, begin_fit, plan_of
from jointebm.estimators import JointEBM
from jointebm.runs.provenance import environment
from jointebm.storage.atomic import check_new
from jointebm.storage.checkpoint import newest
from jointebm.storage.digests import file_digest
from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import Name, Unseen
from jointebm.tables.codes.column import Kind
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.files.sources import read_whole
from jointebm.tables.training.table_config import Progress, TableConfig

__all__ = ["fit_table", "parsed_fields", "plan_fit", "resume_fit"]

OPTIONS = {"kinds": "--kind", "random_state": "--seed", "unseen": "--unseen"}
NUM_STEPS = 100  # of the progress


def plan_fit(
    file: Path,
    *,
    kinds: Mapping[str, Kind],
    fields: Mapping[str, Any],
    reading: ReadingOptions,
    unseen: Unseen,
    seed: int,
) -> FitPlan:
    """The plan of a fit.

    Args:
        file: the table.
        kinds: overrules the kinds that columns suggest.
        fields: of `JointEBM`, or of its `training`.
        reading: how its cells are read.
        unseen: treatment of categories not seen in training.
        seed: of all draws.

    Raises:
        ValueError: a field is unknown, or has an option of its own.
    """
    parameters = _own_parameters() | TableConfig.model_fields.keys()
    for name in fields:
        if name in OPTIONS:
            raise ValueError(f"--set {name!r}: has an option of its own: {OPTIONS[name]}")
        if name not in parameters:
            raise ValueError(f"--set {quoted(repr(name))}: unknown parameter; known: {', '.join(sorted(parameters))}")
    return FitPlan(
        table=str(file.absolute()),
        sha256=file_digest(file),
        kinds=dict(kinds),
        fields=dict(fields),
        reading=reading,
        unseen=unseen,
        seed=seed,
        environment=environment(),
    )


def fit_table(plan: FitPlan, out: Path, *, as_json: bool) -> None:
    """Fits a model to a file, into a new run folder.

    Args:
        plan: the table, and how to fit.
        out: folder of the run, which must not exist.
        as_json: whether to print JSON.
    """
    check_new(out)
    table = _read(plan)
    if not len(table):
        raise ValueError(f"{plan.table}: has no rows below the names of its columns; expected at least one")
    _check_plan(plan, table)
    begin_fit(out, plan)
    try:
        _fit(plan, table, out, as_json=as_json)
    except (TypeError, ValueError) as error:  # the table is wrong: there is nothing to resume
        shutil.rmtree(out)
        raise type(error)(f"{plan.table}: {error}") from None


def resume_fit(folder: Path, *, as_json: bool) -> None:
    """Resumes a fit that was interrupted, bit for bit.

    Args:
        folder: of the run.
        as_json: whether to print JSON.
    """
    plan = plan_of(folder)
    for name, now in environment().items():
        if plan.environment.get(name, now) != now:
            say(
                f"{folder}: was begun with {name} {quoted(plan.environment[name])}, now {now}: the result will not be bit "
                "for bit that of an uninterrupted fit"
            )
    _fit(plan, _read(plan), folder, as_json=as_json)


def _read(plan: FitPlan) -> Any:
    return read_whole(Path(plan.table), kinds=plan.kinds, reading=plan.reading)


def _fit(plan: FitPlan, table: Any, out: Path, *, as_json: bool) -> None:
    """Runs the fit from its newest checkpoint, if there is one, and writes the model."""
    started = time.monotonic()
    model = _unfitted(plan)
    with StepProgress(f"fitting {Path(plan.table).name}", NUM_STEPS) as bar, warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(str(message))

        def show(progress: Progress) -> None:
            bar.show(round(NUM_STEPS * progress.fraction), f"held-out log-likelihood {progress.log_likelihood:.3f}")

        try:
            model.fit(table, on_progress=show, run=out)
        except KeyboardInterrupt as reason:
            found = newest(out / "checkpoints").checkpoint
            where = "before the first iteration" if found is None else f"after {found.iteration} iterations"
            command = f"jointebm fit --resume {out} --threads {torch.get_num_threads()}"
            raise Interrupted(reason, f"interrupted {where}; resume with: {command}") from None
    model.reading_ = plan.reading
    model.save(out / "model")
    shares = [each.codec.rare_share if isinstance(each.codec, CategoryCodec) else None for each in model.codec_.columns]
    columns = [
        {"name": str(each.name), "holds": each.role, "kind": each.codec.kind, "codes": each.codec.num_codes}
        | {"rare_share": share}
        for each, share in zip(model.codec_.columns, shares, strict=True)
    ]
    summary = {
        "model": str(out),
        "rows": len(table),
        "columns": columns,
        "relations": [str(relation) for relation in model.relations_],
        "log_score": model.report_.log_score,
        "report": model.report_.model_dump() | {"findings": list(model.report_.findings)},
        "seconds": round(time.monotonic() - started, 2),
    }
    if as_json:
        print_json(summary)
        return
    headings = ["column", "holds", "treated as", "codes", "rows in rare levels"]
    rows = [
        [*(str(column[name]) for name in ("name", "holds", "kind", "codes")), "" if share is None else f"{share:.1%}"]
        for column, share in zip(columns, shares, strict=True)
    ]
    print_table(f"{out}: {len(table)} rows", headings, rows, num_text=3)
    for relation in model.relations_:
        say(f"relation kept: {relation}")
    for line in model.report_.lines():
        say(line)
    say(f"wrote {out} after {summary['seconds']} s")


def _unfitted(plan: FitPlan) -> JointEBM:
    """The estimator of a plan."""
    own = _own_parameters()
    training = {name: value for name, value in plan.fields.items() if name not in own}
    chosen = {name: value for name, value in plan.fields.items() if name in own}
    kinds: dict[Name, Kind] = dict(plan.kinds.items())
    return JointEBM(
        training=training or None, kinds=kinds or None, unseen=plan.unseen, random_state=plan.seed, **chosen
    )


def _check_plan(plan: FitPlan, table: Any) -> None:
    """Raises ValueError, naming the option, where a parameter or the name of a column is wrong."""
    try:
        _unfitted(plan).checked_parameters()
    except (TypeError, ValueError) as error:
        raise ValueError(f"--set {str(error).removeprefix('training.')}") from None
    for name in plan.kinds:
        if name not in table.column_names:
            known = ", ".join(repr(str(each)) for each in table.column_names)
            raise ValueError(f"--kind {quoted(repr(name))}: unknown column; columns: {known}")


def _own_parameters() -> set[str]:
    """Parameters of `JointEBM` that --set changes, but for those of its training."""
    return JointEBM().get_params(deep=False).keys() - {"training", *OPTIONS}


def parsed_fields(assignments: Sequence[str]) -> dict[str, Any]:
    """--set KEY=VALUE: numbers are numbers, and all else is text.

    Example:
        >>> parsed_fields(["num_visits=10", "objective=pseudo-likelihood"])
        {'num_visits': 10, 'objective': 'pseudo-likelihood'}
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
