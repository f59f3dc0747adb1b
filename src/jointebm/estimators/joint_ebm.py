"""`JointEBM`: a joint density of a table as a scikit-learn estimator.

Legend: N rows, V columns, K classes.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from jointebm.estimators.answers import Answers, set_features
from jointebm.estimators.arguments import check_mapping, relation_texts, row_weights
from jointebm.estimators.coded_rows import CodedRows, coded_rows
from jointebm.estimators.density_fit import fit_density
from jointebm.estimators.fit_watch import FitWatch
from jointebm.estimators.many_rows import many_rows, require_table
from jointebm.inference.pretrained import find_model
from jointebm.randomness.devices import Device, place_of
from jointebm.storage.hub import OnHub
from jointebm.tables.answers.parameters import MAX_TRAINED_ROWS, Missingness, Parameters
from jointebm.tables.answers.store import TableFolder, load_table, save_table
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.categories import MAX_CODED_LEVELS
from jointebm.tables.codes.codec import Name, Unseen
from jointebm.tables.codes.column import Kind
from jointebm.tables.frames.reading import Frame, read_frame, target_name, with_column
from jointebm.tables.frames.table_rows import TableRows, rows_of_frame
from jointebm.tables.relations.found_relations import AUTO
from jointebm.tables.training.table_config import Progress
from jointebm.training.objectives import MaximumLikelihood, PseudoLikelihood
from jointebm.training.world import ALONE, World

__all__ = ["JointEBM"]


class JointEBM(OnHub, Answers):
    """A joint density of all columns of a table, fitted to rows with missing entries; it answers for any columns given any.

        log p(row) = F(codes) + sum_j log p(value_j | code_j) - log Z

    A table model is a model of codes. Numbers and dates are divided into codes, categories get one code per level
    (docs/tables.md). F is the log-density of the marginals plus a network trained by weighted draws or chains, so that F is
    right between groups of rows as well as inside them; or of a mixture, the reference, where held-out rows prefer it or
    are too few. Missing columns of a question are marginalised. Answers are exact where the configurations of the missing
    entries are few; else draws of a proposal are corrected by weights, jumps of whole rows and sweeps. `report_` says how
    far F can be trusted, and a `ConvergenceWarning` where an answer cannot be.

    A table is a frame of pandas, polars or pyarrow, or a 2-D array; answers come back as the same kind with its column
    order, dtypes and categories. NaN, None, NaT, NA and null are missing. A prediction or score of a row depends on the row
    and `random_state` alone, bit for bit; an imputation also on the number of the row, or on an id (`row_ids`), so that
    equal rows get independent draws.

    Not guaranteed:
    - log Z is estimated: all scores share the error that `report_` states.
    - Within its code, a number does not depend on the other columns.
    - Where columns determine one another almost, jumps are rarely accepted: weights of groups that the proposal lacks may
      be off, and `num_sweeps` must be larger.

    Args:
        objective: "maximum-likelihood" (weighted chains), or "pseudo-likelihood" (exact conditionals of each column alone,
            which learns little about the weights of groups); or such an object of `jointebm.objectives`.
        training: further fields of `jointebm.tables.training.table_config.TableConfig`, such as {"num_visits": 10}; None
            keeps their defaults.
        kinds: overrules the kind that a column's content suggests: {column: "numeric", "categorical" or "id"}.
        max_bins: codes for a column of numbers or dates, about at most, from 2 to 4096; None is up to four for each of 48
            bins, or of 2 N^(1/3) if that is less.
        max_levels: codes for a column of categories, from 2: each level has its own; with more levels, the rarest share the
            last code, and which of them a row has then does not depend on the other columns.
        max_rows: rows that are trained on, at most: a random sample of a larger table, decided by `random_state` and the
            numbers of rows. Codecs and relations are those of all rows.
        relations: between columns, which samples and imputations keep (docs/tables.md): "auto" detects those that all rows
            keep; None is none; or texts such as ["start <= end", "total = a + b", "zip -> city"], and "auto" among them.
        missingness: "ignored": that an entry is missing tells nothing; "model": the density knows which entries are missing,
            so that it tells what it told in training, `given={column: None}` says that an entry is missing, and
            `sample(missingness="model")` leaves entries missing as in the data (docs/tables.md).
        unseen: a category that was not seen in training is an "error", or "missing".
        num_draws: draws that an answer is averaged over at first where other entries have many configurations, from 1;
            rows that need more get up to 64 times as many.
        num_sweeps: sweeps, and as many jumps, per completion and sample where there are many configurations, from 1.
        num_members: refits to bootstrap samples of the rows, up to 1,000, for `draw_imputations(X, num,
            uncertainty="model")`; as many as the imputations that will be asked for. Five take less time than two fits.
        random_state: seed of all draws in training and answers; None takes a new one at each fit.
        device: where to fit, and where the fitted model is: "auto" is "cuda" where there is one, else "cpu". Tables and
            answers stay where they are.
        verbose: whether `fit`, and answers that take over two seconds, print their progress to standard error. The logger
            "jointebm" gets it anyway, as INFO.

    Attributes:
        codec_: columns and their codes.
        model_: the density over codes.
        members_: the densities of the refits, `num_members` of them.
        relations_: relations between columns that every sample and imputation keeps; `str` gives their texts.
        num_rows_: rows of the table that was fitted, from which `max_rows` were sampled if there were more.
        report_: how far it can be trusted: held-out log-likelihood, log Z with its error, weights of groups, moments.
        target_: name of the column passed as y to `fit`, or None.
        reading_: how the command line reads cells of files for this model; frames are taken as they are.
        n_features_in_: number of columns of X.
        feature_names_in_: their names, if all are text.

    Example:
        >>> quick = {"num_visits": 0, "rows_per_component": 20, "prior_strength": 0.1}
        >>> import pandas as pd
        >>> size, kind = [1.0, 1.2, None, 5.0, 5.2, 5.1], ["cat", "cat", "cat", "dog", "dog", None]
        >>> table = pd.DataFrame({"size": size * 20, "kind": kind * 20})
        >>> model = JointEBM(training=quick).fit(table)
        >>> model.predict(pd.DataFrame({"size": [1.0, 5.2]}), "kind").tolist()
        ['cat', 'dog']
        >>> sorted(set(model.sample(50, given={"kind": "dog"})["size"]) - {1.0, 1.2})
        [5.0, 5.1, 5.2]
    """

    def __init__(
        self,
        *,
        objective: Literal["maximum-likelihood", "pseudo-likelihood"]
        | MaximumLikelihood
        | PseudoLikelihood = "maximum-likelihood",
        training: Mapping[str, object] | None = None,
        kinds: Mapping[Name, Kind] | None = None,
        max_bins: int | None = None,
        max_levels: int = MAX_CODED_LEVELS,
        max_rows: int = MAX_TRAINED_ROWS,
        relations: str | Sequence[str] | None = "auto",
        missingness: Missingness = "ignored",
        unseen: Unseen = "error",
        num_draws: int = 100,
        num_sweeps: int = 10,
        num_members: int = 0,
        random_state: int | np.random.RandomState | None = 0,
        device: Device = "auto",
        verbose: bool = False,
    ) -> None:
        self.objective = objective
        self.training = training
        self.kinds = kinds
        self.max_bins = max_bins
        self.max_levels = max_levels
        self.max_rows = max_rows
        self.relations = relations
        self.missingness = missingness
        self.unseen = unseen
        self.num_draws = num_draws
        self.num_sweeps = num_sweeps
        self.num_members = num_members
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        *,
        sample_weight: Any = None,
        on_progress: Callable[[Progress], object] | None = None,
        run: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Fits the joint density of all columns of X, and of y if it is given.

        X may be larger than memory: a path of a .parquet or .csv file, or of a folder of them, a list of such `Path`s, or a
        reader of Arrow batches. It is read in chunks: codecs are those of all rows, and the density is trained on a random
        sample of `max_rows`, as it is of a frame with more rows. The model does not depend on the chunks, nor on the number
        of threads that read them (docs/scale.md).

        With `run`, an interrupted fit resumes when it is called again with the same table and parameters; members are not
        kept, and start over.

        Args:
            X: table, N rows, or where it is read from; entries may be missing.
            y: one more column, such as a label, called by its own name or "target"; entries may be missing. With a path,
                it is a column of the files.
            sample_weight: of the rows, shape (N,), not negative: the density is that of rows drawn with such frequencies. A
                weight of 0 leaves the row out, and only ratios matter. None weighs all alike. Bins, and the shares of
                values inside a bin and of rare levels, are those of unweighted rows.
            on_progress: called whenever the held-out rows are scored, and after each member.
            run: folder for checkpoints and metrics.jsonl; None writes nothing.

        Raises:
            TypeError: a column holds an unsupported type.
            ValueError: no rows or columns, an infinite number, or a parameter that is out of its range.

        Warns:
            ConvergenceWarning: the fit learned nothing about how columns depend, or training was cut short.
        """
        if y is None and sample_weight is None:
            check_mapping("kinds", self.kinds, {"code": "categorical"})
            rows = many_rows(X, dict(self.kinds or {}))
            if rows is not None:
                return self.fit_rows(rows, on_progress=on_progress, run=run)
        else:
            require_table(X, "sample_weight" if y is None else "y")
        frame = read_frame(X)
        target = None if y is None else target_name(y, frame.schema.names)
        if target is not None:
            frame = with_column(frame, target, y)
        return self.fit_frame(frame, target=target, sample_weight=sample_weight, on_progress=on_progress, run=run)

    def fit_rows(
        self,
        rows: TableRows,
        *,
        on_progress: Callable[[Progress], object] | None = None,
        run: str | os.PathLike[str] | None = None,
        world: World = ALONE,
    ) -> Self:
        """Fits rows that are read in chunks; all processes of a world call it with the same arguments."""
        parameters = self.checked_parameters()
        coded = world.patiently(lambda: coded_rows(rows, parameters))
        return self._fit(coded, parameters, weights=None, target=None, on_progress=on_progress, run=run, world=world)

    def fit_frame(
        self,
        frame: Frame,
        *,
        target: Name | None = None,
        kinds: Mapping[Name, Kind] | None = None,
        sample_weight: Any = None,
        on_progress: Callable[[Progress], object] | None = None,
        run: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Fits a frame that has been read; `kinds` overrules those of the estimator."""
        parameters = self.checked_parameters(kinds)
        if frame.num_rows == 0 or not frame.table:
            raise ValueError(
                f"Found array with {frame.num_rows} sample(s) and {len(frame.table)} feature(s) while a minimum of 1 "
                "is required"
            )
        weights = row_weights(sample_weight, frame.num_rows)
        kept = None if weights is None else np.flatnonzero(weights)
        coded = coded_rows(rows_of_frame(frame, kept), parameters, numbers=kept)
        of_rows = None if weights is None else torch.from_numpy(weights[kept][coded.numbers])
        return self._fit(coded, parameters, weights=of_rows, target=target, on_progress=on_progress, run=run)

    def _fit(
        self,
        coded: CodedRows,
        parameters: Parameters,
        *,
        target: Name | None,
        weights: torch.Tensor | None,
        on_progress: Callable[[Progress], object] | None,
        run: str | os.PathLike[str] | None,
        world: World = ALONE,
    ) -> Self:
        """Fits the density of coded rows."""
        watch = FitWatch(on_progress, verbose=self.verbose)
        for line in coded.lines():
            watch.say(line)
        model, members = fit_density(
            coded, parameters, weights=weights, on_progress=watch.tell, run=run, device=self.device, world=world
        )
        folder = TableFolder.of(
            coded.schema,
            coded.codec,
            model,
            relations=coded.relations,
            indicators=coded.indicators,
            target=target,
            parameters=parameters,
        ).model_copy(update={"num_rows": coded.num_rows})
        self._set_fitted(folder, model, members)
        watch.finish(model)
        return self

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a folder with `config.json`, `model.safetensors` and `README.md`, completely or not at all.

        Raises:
            FileExistsError: the folder exists.
        """
        check_is_fitted(self, "model_")
        return save_table(
            path,
            self._folder.model_copy(update={"parameters": self._answering(), "reading": self.reading_}),
            self.model_,
            self.members_,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: Device = "auto", revision: str | None = None) -> Self:
        """Reads a folder written by `save` or `jointebm fit`, or a model on the Hub; nothing in it is executed.

        Args:
            path: the folder, or owner/name, as in `jointebm.load`.
            device: where the model is to be, as for a fit; that of the fit does not matter.
            revision: branch, tag or commit on the Hub.

        Raises:
            FileNotFoundError: the folder or one of its files is missing.
            ValueError: a file is malformed; names the file and the reason.
        """
        folder, model, members = load_table(find_model(path, revision), device=device)
        parameters = folder.parameters
        training = parameters.training.model_dump(exclude={"objective"}, exclude_defaults=True)
        objective = parameters.training.objective
        estimator = cls(
            objective=objective.name if objective == type(objective)() else objective,
            training=training or None,
            kinds=dict(parameters.kinds) or None,
            random_state=parameters.seed,
            device=device,
            relations=AUTO if parameters.relations == (AUTO,) else parameters.relations and list(parameters.relations),
            **parameters.model_dump(exclude={"training", "kinds", "seed", "relations"}),
        )
        estimator._set_fitted(folder, model, members)
        return estimator

    def with_target(self, target: Name) -> Self:
        """The same fitted density with another default target; the model is shared."""
        target = self.codec_.names[self.codec_.index(target)]
        other = clone(self)
        other._set_fitted(self._folder.model_copy(update={"target": target}), self.model_, self.members_)
        return other

    def checked_parameters(self, kinds: Mapping[Name, Kind] | None = None) -> Parameters:
        """The parameters of a fit; `kinds` overrules those of the estimator.

        Raises:
            ValueError: a parameter is out of its range; names it and the value.
        """
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = int(check_random_state(seed).random_sample() * 2**31)  # the seed of all draws, not a draw
        place_of(self.device)
        check_mapping("training", self.training, {"num_visits": 10})
        check_mapping("kinds", self.kinds, {"code": "categorical"})
        kinds = dict(self.kinds or {}) | dict(kinds or {})
        for name, kind in kinds.items():
            if kind not in get_args(Kind):
                raise ValueError(f"kinds: column {name!r}: got {kind!r}, expected 'numeric', 'categorical' or 'id'")
        given = self.get_params(deep=False) | {"seed": seed, "kinds": tuple(kinds.items())}
        given["relations"] = relation_texts(self.relations)
        given["training"] = {"objective": self.objective} | dict(self.training or {})
        plain = {name: each.item() if isinstance(each, np.generic) else each for name, each in given.items()}
        return Parameters.checked(**{name: plain[name] for name in Parameters.model_fields})

    def _set_fitted(self, folder: TableFolder, model: TableModel, members: Sequence[TableModel]) -> None:
        self._folder = folder
        self.codec_, self.model_, self.target_, self.reading_ = folder.codec, model, folder.target, folder.reading
        self.members_ = tuple(members)
        self.report_, self.num_rows_ = folder.report, folder.num_rows
        self.relations_ = () if folder.relations is None else folder.relations.listed
        set_features(self, self.features)
