"""`Rows`: a question about batches of rows, for engines that hand them to many processes."""

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from jointebm.estimators.joint_ebm import JointEBM
from jointebm.estimators.row_jobs import ImputeJob, Job, PredictJob, SampleJob, ScoreJob
from jointebm.storage.untrusted import quoted
from jointebm.tables.answers.parameters import Missingness
from jointebm.tables.answers.predictions import Statistic
from jointebm.tables.codes.codec import Name, Unseen
from jointebm.tables.files.reading_options import ReadingOptions

__all__ = ["RowQuestion", "Rows"]

RowQuestion = Literal["impute", "predict", "score", "sample"]
_OWN = {"impute": {"row_ids"}, "predict": {"target", "statistic"}, "score": {"conditional"}, "sample": {"missingness"}}


class Rows:
    """A question about Arrow batches of rows, which can be sent to processes: each loads the model once, when it is asked.

    The answer for a row depends on the row, the seed, and for draws its number or id: not on its batch, process or machine.
    So every engine gives the answers of one process, bit for bit on machines of one kind with one version of torch
    (docs/scale.md has code for Ray Data, Dask and Spark). An engine does not tell a batch where it lies in the table: draws
    need a column of row numbers or of ids.

    Args:
        folder: of the model; every process has to reach it.
        question: "impute": the batch with its missing entries drawn; "predict": predictions of `target`, with probabilities
            of categories and the central 90% of numbers, as `jointebm predict` writes them; "score": `log_density` and
            `dependence`; "sample": a row for each row of the batch, which holds nothing but their numbers.
        number: column of row numbers, whole and from 0, which is no column of the model; answers hold it too. With it,
            "impute" and "sample" draw what one process draws for the rows with these numbers. Samples of consecutive numbers
            are drawn together, so a batch of scattered numbers is slow.
        keep: further column or columns that are no part of the model, or are to be in answers of "predict" and "score" too.
        given: evidence about missing entries, the same for all rows, as in `JointEBM.sample`.
        target: column, or columns, to predict.
        statistic: prediction of numbers and times.
        conditional: whether to score each entry given the others of its row as well.
        row_ids: column of the model that holds an id for each row; draws then follow it. Two rows with one id get the same
            random numbers, which a batch cannot see: make sure that ids differ.
        missingness: of samples, as in `JointEBM.sample`.
        unseen, num_draws, num_sweeps, seed: change the model's own `unseen`, `num_draws`, `num_sweeps`, `random_state`; None
            keeps it.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: an unknown question, or an argument that is not about it.

    Example:
        >>> import tempfile
        >>> table = pa.table({"a": [0, 1] * 300, "b": [0, 1] * 300})
        >>> model = JointEBM(training={"num_visits": 0, "rows_per_component": 10}).fit(table)
        >>> folder = model.save(tempfile.mkdtemp() + "/model")
        >>> rows = Rows(folder, "impute", number="row")
        >>> rows(pa.table({"row": [0, 1], "a": [0, 1], "b": pa.array([None, None], pa.int64())})).to_pydict()
        {'row': [0, 1], 'a': [0, 1], 'b': [0, 1]}
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        question: RowQuestion,
        *,
        number: str | None = None,
        keep: str | Sequence[str] = (),
        given: Mapping[Name, object] | None = None,
        target: str | Sequence[str] | None = None,
        statistic: Statistic = "mean",
        conditional: bool = False,
        row_ids: str | None = None,
        missingness: Missingness = "ignored",
        unseen: Unseen | None = None,
        num_draws: int | None = None,
        num_sweeps: int | None = None,
        seed: int | None = None,
    ) -> None:
        if question not in get_args(RowQuestion):
            raise ValueError(
                f"question: got {quoted(repr(question))}, expected 'impute', 'predict', 'score' or 'sample'"
            )
        asked = {"row_ids": row_ids, "target": target, "conditional": conditional}
        asked |= {"statistic": statistic != "mean", "missingness": missingness != "ignored"}
        for name, value in asked.items():
            if value and name not in _OWN[question]:
                raise ValueError(f"{name}: is not for {question!r}; leave it out")
        if question == "predict" and not target:
            raise ValueError("target: name the column to predict, or several")
        if (question == "sample" or (question == "impute" and row_ids is None)) and number is None:
            more = " or of ids (row_ids=...)" if question == "impute" else ""
            raise ValueError(f"number: draws follow row numbers; name a column of them (number=...){more}")
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"{folder}: no such folder of a model; save it where every process can read it")
        self._folder, self.number = str(Path(folder).absolute()), number
        self.keep = (keep,) if isinstance(keep, str) else tuple(keep)
        changes = {"unseen": unseen, "num_draws": num_draws, "num_sweeps": num_sweeps, "random_state": seed}
        self._changes = tuple((name, value) for name, value in changes.items() if value is not None)
        given, targets = dict(given or {}), (target,) if isinstance(target, str) else tuple(target or ())
        jobs: dict[str, Job] = {
            "impute": ImputeJob(given, 1, ReadingOptions(), id_column=row_ids),
            "predict": PredictJob(given, targets, statistic),
            "score": ScoreJob(given, conditional),
            "sample": SampleJob(given, missingness),
        }
        self.question, self._job = question, jobs[question]

    @property
    def model(self) -> JointEBM:
        """The model, loaded once per process."""
        return _loaded(self._folder, self._changes)

    def __call__(self, batch: Any) -> Any:
        """The answer for a table or batch of Arrow, as the same kind, one row for each of its rows in their order."""
        if isinstance(batch, pa.RecordBatch):
            answer = self(pa.Table.from_batches([batch])).combine_chunks()
            return answer.to_batches()[0] if len(answer) else pa.RecordBatch.from_pylist([], schema=answer.schema)
        model, own = self.model, [name for name in (self.number, *self.keep) if name is not None]
        for name in own:
            if name not in batch.column_names:
                raise ValueError(f"column {name!r}: the batch lacks it; it has {quoted(', '.join(batch.column_names))}")
        rows = batch.drop_columns([name for name in own if name not in model.codec_.names])
        if self.question == "sample":
            rows = batch.select([self.number])
        (answer,) = self._job(model, rows, self._numbers(batch))
        (schema,) = self._job.schemas(model, rows.schema.empty_table())
        answer = answer.cast(schema)
        for name in reversed(own):
            if name not in answer.column_names:
                answer = answer.add_column(0, batch.schema.field(name), batch[name])
        return answer

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The schema of answers for batches of this schema, for engines that want it before the first batch."""
        answered: pa.Schema = self(schema.empty_table()).schema
        return answered

    def _numbers(self, batch: pa.Table) -> int | np.ndarray:
        """The numbers of the rows; 0 where they do not matter."""
        if self.number is None:
            return 0
        numbers = batch[self.number]
        if numbers.null_count or not pa.types.is_integer(numbers.type):
            raise ValueError(
                f"column {self.number!r}: holds {numbers.type}, expected whole numbers without missing ones"
            )
        return numbers.to_numpy().astype(np.int64)


@lru_cache(maxsize=8)
def _loaded(folder: str, changes: tuple[tuple[str, Any], ...]) -> JointEBM:
    model = JointEBM.load(folder)
    return model.set_params(**dict(changes))
