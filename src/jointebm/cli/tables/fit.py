"""Fits a model to files, into a run folder that can be resumed."""

import json
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from jointebm.cli.console import Interrupted, print_json, print_table, say
from jointebm.cli.processes import joined
from jointebm.cli.progress import StepProgress
from jointebm.cli.tables.fit_folder import FitPlan, begin_fit, named, plan_of
from jointebm.cli.tables.said_warnings import say_warnings
from jointebm.estimators import JointEBM
from jointebm.estimators.many_rows import many_rows
from jointebm.randomness.device_names import DeviceName
from jointebm.runs.provenance import environment
from jointebm.storage.atomic import check_new
from jointebm.storage.checkpoint import newest
from jointebm.storage.digests import digest_of_files
from jointebm.storage.untrusted import quoted
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import Name, Unseen
from jointebm.tables.codes.column import Kind
from jointebm.tables.files.reading_options import ReadingOptions
from jointebm.tables.files.sources import files_of
from jointebm.tables.frames.table_rows import TableRows
from jointebm.tables.training.table_config import Progress, TableConfig
from jointebm.training.world import World

__all__ = ["fit_table", "parsed_fields", "plan_fit", "resume_fit"]

OPTIONS = {"kinds": "--kind", "random_state": "--seed", "unseen": "--unseen", "device": "--device"}
NUM_STEPS = 100  # of the progress


def plan_fit(
    files: Sequence[Path],
    *,
    kinds: Mapping[str, Kind],
    fields: Mapping[str, Any],
    reading: ReadingOptions,
    unseen: Unseen,
    seed: int,
    device: DeviceName,
) -> FitPlan:
    """The plan of a fit.

    Args:
        files: of the table, or folders of them.
        kinds: overrules the kinds that columns suggest.
        fields: of `JointEBM`, or of its `training`.
        reading: how its cells are read.
        unseen: treatment of categories not seen in training.
        seed: of all draws.
        device: where to fit.

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
        tables=tuple(str(file.absolute()) for file in files),
        sha256=digest_of_files(files_of(files)),
        kinds=dict(kinds),
        fields=dict(fields),
        reading=reading,
        unseen=unseen,
        seed=seed,
        device=device,
        environment=environment(device),
    )


def fit_table(plan: FitPlan, files: Sequence[Path], out: Path, *, as_json: bool) -> None:
    """Fits a model to the rows of files, into a new run folder.

    Args:
        plan: the table, and how to fit.
        files: of the table, or folders of them, as messages name them.
        out: folder of the run, which must not exist.
        as_json: whether to print JSON.
    """
    with joined(plan.device) as world:
        world.from_first(lambda: check_new(out))
        rows = _read(plan, files)
        if next(rows.read(), None) is None:
            raise ValueError(f"{named(files)}: has no rows below the names of its columns; expected at least one")
        _check_plan(plan, rows)
        plan = plan.model_copy(update={"environment": environment(plan.device, world.size)})
        world.from_first(lambda: begin_fit(out, plan))
        try:
            model, seconds = _fit(plan, rows, out, world)
        except (TypeError, ValueError) as error:  # the table is wrong: there is nothing to resume
            if world.rank == 0:
                shutil.rmtree(out)
            kind, said = TypeError if isinstance(error, TypeError) else ValueError, str(error)
            raise kind(said if said.startswith(str(files[0])) else f"{named(files)}: {said}") from None
    if world.rank == 0:
        _report(model, out, seconds, as_json=as_json)


def resume_fit(folder: Path, *, device: DeviceName | None, as_json: bool) -> None:
    """Resumes a fit that was interrupted, bit for bit.

    Args:
        folder: of the run.
        device: where to continue; None is that of the start.
        as_json: whether to print JSON.
    """
    plan = plan_of(folder)
    if device is not None:
        plan = plan.model_copy(update={"device": device})
    with joined(plan.device) as world:
        for name, now in environment(plan.device, world.size).items():
            if world.rank == 0 and plan.environment.get(name, now) != now:
                say(
                    f"{folder}: was begun with {name} {quoted(plan.environment[name])}, now {now}: the result will not be "
                    "bit for bit that of an uninterrupted fit"
                )
        model, seconds = _fit(plan, _read(plan, plan.places), folder, world)
    if world.rank == 0:
        _report(model, folder, seconds, as_json=as_json)


def _read(plan: FitPlan, files: Sequence[Path]) -> TableRows:
    kinds: dict[Name, Kind] = dict(plan.kinds.items())
    rows = many_rows(list(files), kinds, plan.reading)
    assert rows is not None  # they are paths
    return rows


def _fit(plan: FitPlan, rows: TableRows, out: Path, world: World) -> tuple[JointEBM, float]:
    """Runs the fit from its newest checkpoint, if there is one, and writes the model; returns it with the seconds."""
    started = time.monotonic()
    model = _unfitted(plan)
    with ExitStack() as held:
        held.enter_context(warnings.catch_warnings())
        show = None
        if world.rank == 0:
            show = _shown(held.enter_context(StepProgress(f"fitting {plan.places[0].name}", NUM_STEPS)))
            say_warnings()
        else:
            warnings.simplefilter("ignore")
        try:
            model.fit_rows(rows, on_progress=show, run=out, world=world)
        except KeyboardInterrupt as reason:
            if world.rank:
                raise
            raise Interrupted(reason, _interrupted(out, world.size)) from None
    model.reading_ = plan.reading
    if world.rank == 0:
        model.save(out / "model")
    return model, round(time.monotonic() - started, 2)


def _shown(bar: StepProgress) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        bar.show(
            round(NUM_STEPS * progress.fraction), f"held-out log-likelihood of codes {progress.log_likelihood:.3f}"
        )

    return show


def _interrupted(out: Path, num_processes: int) -> str:
    """How far the fit came, and the command that resumes it."""
    found = newest(out / "checkpoints").checkpoint
    where = "before the first iteration" if found is None else f"after {found.iteration} iterations"
    start = "" if num_processes == 1 else f"torchrun --nproc-per-node {num_processes} -m "
    command = f"{start}jointebm fit --resume {out} --threads {torch.get_num_threads()}"
    return f"interrupted {where}; resume with: {command}"


def _report(model: JointEBM, out: Path, seconds: float, *, as_json: bool) -> None:
    """Prints what was fitted."""
    shares = [each.codec.rare_share if isinstance(each.codec, CategoryCodec) else None for each in model.codec_.columns]
    columns = [
        {"name": str(each.name), "holds": each.role, "kind": each.codec.kind, "codes": each.codec.num_codes}
        | {"rare_share": share}
        for each, share in zip(model.codec_.columns, shares, strict=True)
    ]
    summary = {
        "model": str(out),
        "rows": model.num_rows_,
        "trained_rows": min(model.num_rows_ or 0, model.max_rows),
        "columns": columns,
        "relations": [str(relation) for relation in model.relations_],
        "log_score": model.report_.log_score,
        "report": model.report_.model_dump() | {"findings": list(model.report_.findings)},
        "seconds": seconds,
    }
    if as_json:
        print_json(summary)
        return
    of_sample = f"{model.num_rows_} rows"
    if summary["trained_rows"] != model.num_rows_:
        of_sample += f", {summary['trained_rows']} of them sampled to train on"
    headings = ["column", "holds", "treated as", "codes", "rows in rare levels"]
    cells = [
        [*(str(column[name]) for name in ("name", "holds", "kind", "codes")), "" if share is None else f"{share:.1%}"]
        for column, share in zip(columns, shares, strict=True)
    ]
    print_table(f"{out}: {of_sample}", headings, cells, num_text=3)
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
        training=training or None,
        kinds=kinds or None,
        unseen=plan.unseen,
        random_state=plan.seed,
        device=plan.device,
        **chosen,
    )


def _check_plan(plan: FitPlan, rows: TableRows) -> None:
    """Raises ValueError, naming the option, where a parameter or the name of a column is wrong."""
    try:
        _unfitted(plan).checked_parameters()
    except (TypeError, ValueError) as error:
        raise ValueError(f"--set {str(error).removeprefix('training.')}") from None
    for name in plan.kinds:
        if name not in rows.schema.names:
            known = ", ".join(repr(str(each)) for each in rows.schema.names)
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
