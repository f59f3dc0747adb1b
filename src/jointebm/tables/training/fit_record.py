"""The record of a fit in a folder: checkpoints to resume from, and its metrics.

FOLDER/checkpoints/    the newest states of the fit (see `jointebm.storage.checkpoint`)
FOLDER/metrics.jsonl   one line per 10 iterations or score of held-out rows, and one per intervention ("event")
FOLDER/lock            held by the process that fits
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from torch import Tensor

from jointebm.runs.folder import append_metrics, cut_metrics
from jointebm.runs.interrupts import held_back
from jointebm.runs.resuming import metrics_bytes, newest_checkpoint
from jointebm.sampling.diagnostics import warn_caller
from jointebm.storage.atomic import flush, lock
from jointebm.storage.checkpoint import Checkpoint, write
from jointebm.storage.untrusted import quoted
from jointebm.tables.training.table_config import Progress, TableConfig
from jointebm.tables.training.table_fit import TableFit
from jointebm.tables.training.table_numbers import TableMetrics
from jointebm.tables.training.table_report import FitReport
from jointebm.training.dealing import checkpoint_of, gathered, parcel_of
from jointebm.training.divergence import Intervention
from jointebm.training.world import ALONE, Parcel, World

__all__ = ["FitRecord", "identity_of", "run_fit"]

CHECKPOINT_EVERY = 100  # iterations
KEEP_CHECKPOINTS = 2
LOG_EVERY = 10


def identity_of(
    codes: Tensor,
    num_classes: Sequence[int],
    *,
    bins: Sequence[Sequence[int] | None],
    spreads: Sequence[Tensor | None],
    config: TableConfig,
    seed: int,
    weights: Tensor | None = None,
) -> dict[str, Any]:
    """What a checkpoint must agree with to be resumed, as JSON data."""
    rows = hashlib.sha256(codes.contiguous().numpy().tobytes())
    if weights is not None:
        rows.update(weights.contiguous().numpy().tobytes())
    for each in spreads:
        rows.update(b"" if each is None else each.contiguous().numpy().tobytes())
    return {
        "rows": rows.hexdigest(),
        "num_classes": list(num_classes),
        "bins": [None if each is None else list(each) for each in bins],
        "config": config.model_dump(mode="json"),
        "seed": seed,
    }


class FitRecord:
    """Writes a fit's checkpoints and metrics, and restores it from them.

    Args:
        folder: of the record; made if need be.
        identity: of the fit, see `identity_of`.
        world: the processes that fit together; the first one writes.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Mapping[str, Any], world: World = ALONE) -> None:
        self._folder, self._identity, self._world = Path(folder), dict(identity), world
        self._file: FileIO | None = None  # of the first process

    @contextmanager
    def open(self, fit: TableFit) -> Iterator[None]:
        """Restores the fit from the newest checkpoint, if there is one; then takes notes while the block runs.

        Raises:
            BlockingIOError: another process fits into the folder.
            ValueError: the newest checkpoint is of another fit, or none is intact.
        """
        fits = self._world.tell(self._identity)
        if any(each != fits[0] for each in fits):
            raise ValueError(
                f"{self._folder}: its processes have different tables or settings; give all of them the same"
            )
        with ExitStack() as held:
            checkpoint = self._world.from_first(lambda: self._opened(held), pack=parcel_of, unpack=checkpoint_of)
            num_bytes = 0 if checkpoint is None else self._restored_bytes(fit, checkpoint)
            self._file = self._world.from_first(lambda: self._metrics(num_bytes, held), pack=lambda _: Parcel())
            fit.on_intervention = self._note
            yield

    def _opened(self, held: ExitStack) -> Checkpoint | None:
        """Holds the lock of the folder until `held` closes; returns its newest checkpoint."""
        self._folder.mkdir(parents=True, exist_ok=True)
        held.enter_context(lock(self._folder / "lock"))
        return newest_checkpoint(self._folder, _warn)

    def _metrics(self, num_bytes: int, held: ExitStack) -> FileIO:
        """Opens metrics.jsonl behind its first bytes, until `held` closes."""
        cut_metrics(self._folder, num_bytes, _warn)
        return held.enter_context((self._folder / "metrics.jsonl").open("ab", buffering=0))

    def after(self, fit: TableFit, metrics: TableMetrics) -> None:
        """Writes what is due after an iteration."""
        if metrics.log_score is not None or metrics.iteration % LOG_EVERY == 0:
            self._append(metrics._asdict())
        if metrics.iteration % CHECKPOINT_EVERY == 0:
            self.checkpoint(fit)

    def _note(self, intervention: Intervention) -> None:
        self._append({"event": intervention.action, **intervention._asdict()})

    def _append(self, line: Mapping[str, Any]) -> None:
        if self._file is not None:
            append_metrics(self._file, line)

    def checkpoint(self, fit: TableFit) -> None:
        """Writes the state of the fit, within the block of `open`."""
        state = gathered(fit.state(), self._world)
        self._world.from_first(lambda: self._write(state))

    def _write(self, state: Checkpoint) -> None:
        assert self._file is not None
        flush(self._file)
        plain = {**state.plain, "identity": self._identity, "metrics_bytes": self._file.tell()}
        write(self._folder / "checkpoints", state._replace(plain=plain), keep=KEEP_CHECKPOINTS)

    def _restored_bytes(self, fit: TableFit, checkpoint: Checkpoint) -> int:
        """Restores the fit; returns how far its metrics went."""
        place = f"{self._folder / 'checkpoints'}: the checkpoint of iteration {checkpoint.iteration}"
        written = checkpoint.plain.get("identity")
        if not isinstance(written, dict):
            raise ValueError(f"{place} is not one of a table's fit; choose another folder")
        for name, now in self._identity.items():
            if written.get(name) != now:
                what = "other rows" if name == "rows" else f"another {name}"
                raise ValueError(f"{place} is of a fit with {what}; put that back, or fit into another folder")
        try:
            fit.restore(checkpoint)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
            raise ValueError(f"{place} is not one of this fit: {quoted(error)}") from None
        return metrics_bytes(self._folder, checkpoint)


def run_fit(
    fit: TableFit,
    *,
    record: FitRecord | None,
    on_progress: Callable[[Progress], object] | None = None,
    world: World = ALONE,
) -> FitReport:
    """Runs a fit to its end, and returns its report.

    With a record, Ctrl-C and SIGTERM let the iteration end and write a checkpoint, then raise KeyboardInterrupt.

    Args:
        fit: fresh.
        record: resumes it, and writes its checkpoints and metrics; None does neither.
        on_progress: called whenever the held-out rows are scored.
        world: the processes that fit together; a signal to one of them stops all.
    """
    if record is None:
        for metrics in fit.run():
            _tell(fit, metrics, on_progress)
        return fit.finish()
    with held_back() as pending, record.open(fit):
        try:
            for metrics in fit.run():
                record.after(fit, metrics)
                _tell(fit, metrics, on_progress)
                pending.check(world.largest)
        except KeyboardInterrupt:
            record.checkpoint(fit)
            raise
    return fit.finish()


def _tell(fit: TableFit, metrics: TableMetrics, on_progress: Callable[[Progress], object] | None) -> None:
    if on_progress is not None and metrics.log_likelihood is not None and metrics.log_score is not None:
        on_progress(
            Progress(metrics.iteration / fit.num_iterations, metrics.log_likelihood, metrics.log_score, metrics.seconds)
        )


def _warn(line: str) -> None:
    warn_caller(UserWarning(line))
