"""A fitted table: the codec and the model of codes, which together answer questions about tables.

    log p(row) = F(codes) + sum_j log p(value_j | code_j) - log Z

An estimate about a row (a prediction, a score) depends on the row and the seed alone, bit for bit. Draws come from streams
with a key for each row: its number in the question, or its id.

Legend: N rows, V columns, K_j codes of column j, D draws.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from jointebm.randomness.row_streams import RowStream
from jointebm.sampling.diagnostics import Answer, Diagnostics
from jointebm.tables.answers.answer_progress import AnswerWatch
from jointebm.tables.answers.code_questions import enough_draws, enough_jumps
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.answers.row_keys import keys_of_draw
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.agreement import require_agreement
from jointebm.tables.codes.codec import MISSING_CODE, CodedColumn, Name, TableCodec
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.evidence import Evidence
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["AskedRows", "FittedTable", "warned"]

Held = TypeVar("Held")

_VALUES = 2**40  # stream counter of draws of values inside codes; sweeps count from 0


class AskedRows(NamedTuple):
    """Encoded rows."""

    table: Mapping[Name, Column]
    codes: Tensor  # (N, V), int64; -1 is missing
    evidence: Mapping[Name, Evidence] = MappingProxyType({})  # about missing entries


@dataclass(frozen=True, eq=False)
class FittedTable:
    """Answers about rows of one table.

    Args:
        codec: columns and their codes.
        model: density over codes.
        parameters: of answers.
        members: densities refitted to bootstrap samples of the training rows; none, unless asked for at the fit.
        warns: whether answers that may be far off warn; False for parts of another answer, which warns itself.
        watch: told of the progress of long questions.
    """

    codec: TableCodec
    model: TableModel
    parameters: Parameters
    members: tuple[TableModel, ...] = ()
    warns: bool = True
    watch: AnswerWatch = field(default_factory=AnswerWatch)

    def rows(
        self,
        table: Mapping[Name, Column],
        num_rows: int,
        *,
        missing: Sequence[Name] = (),
        evidence: Mapping[Name, Evidence] = MappingProxyType({}),
    ) -> AskedRows:
        """Encodes a table; columns named in `missing` count as missing, and missing entries agree with the evidence."""
        for name in missing:
            self.codec.index(name)
        shown = {name: column for name, column in table.items() if name not in missing}
        for name, known in evidence.items():
            if name in shown:
                require_agreement(self.codec.columns[self.codec.index(name)], shown[name], known)
        codes = np.full((num_rows, len(self.codec.columns)), MISSING_CODE)
        if shown:
            codes = self.codec.encode(shown, unseen=self.parameters.unseen)
        return AskedRows(shown, torch.from_numpy(codes), evidence)

    def known(self, rows: AskedRows) -> list[tuple[CodedColumn, Column]]:
        """The entries of rows that answers condition on, by the columns of the model that hold them."""
        columns = [self.codec.columns[self.codec.index(name)] for name in rows.table]
        return [(coded, coded.converted(column)) for coded, column in zip(columns, rows.table.values(), strict=True)]

    def with_class(self, rows: AskedRows, numbers: np.ndarray, name: Name, values: np.ndarray) -> AskedRows:
        """Some rows, by number and again, with other entries of one column, for questions about codes."""
        place, codes = self.codec.index(name), rows.codes[torch.from_numpy(numbers)]
        codec = self.codec.columns[place].codec
        codes[:, place] = torch.from_numpy(codec.encode(values))
        return AskedRows({}, codes, rows.evidence)

    def log_predictive(self, rows: AskedRows, name: Name) -> np.ndarray:
        """log p(code of the column | other observed entries), shape (N, K_j), nats, float64."""
        return self.predictive_answer(rows, name).value

    def predictive_answer(
        self, rows: AskedRows, name: Name, *, readout: np.ndarray | None = None
    ) -> Answer[np.ndarray]:
        """`log_predictive`, with standard errors of the probabilities p, or of `p @ readout`, whose shape is (K_j, Q)."""
        answer = self._predictive(rows.codes, self.codec.index(name), self._log_weights(rows.evidence), readout)
        return Answer(answer.value.double().log_softmax(dim=1).numpy(), self._checked(answer, "predict").diagnostics)

    def warn(self, _: AskedRows, found: Diagnostics[Tensor], what: str) -> None:
        """Warns once if the answer about the rows may be far off."""
        warned(Answer(None, found), what, self.parameters)

    def impute(
        self, rows: AskedRows, keys: Tensor, *, num_draws: int, seed: int | None = None
    ) -> Answer[Iterator[dict[Name, Column]]]:
        """Joint draws of the missing entries of each row; observed entries stay as they are.

        Args:
            rows: what is known.
            keys: of the rows' streams, shape (N,); see `row_keys`.
            num_draws: D, independent draws.
            seed: of all draws; None is that of the model.
        """
        seed = self.parameters.seed if seed is None else seed
        completed = self._completed(rows.codes, keys, num_draws, seed, self._log_weights(rows.evidence))
        answer = self._checked(completed, "impute", num_draws)
        values = (
            self._values(self._allowed(rows, codes), keys, draw=draw, evidence=rows.evidence, seed=seed)
            for draw, codes in enumerate(answer.value)
        )
        return Answer(values, answer.diagnostics)

    def impute_by_members(
        self, rows: AskedRows, keys: Tensor, *, num_draws: int, seed: int | None = None
    ) -> Answer[Iterator[dict[Name, Column]]]:
        """As `impute`, draw number d by member d, so that draws differ by as much as fits do."""
        seed = self.parameters.seed if seed is None else seed
        keys_of_members = [keys_of_draw(keys, draw) for draw in range(num_draws)]
        parts = [
            replace(self, model=member)._completed(rows.codes, of_member, 1, seed, self._log_weights(rows.evidence))
            for member, of_member in zip(self.members, keys_of_members, strict=False)
        ]
        found = Diagnostics.joined([part.diagnostics for part in parts]).of_draws(num_draws)
        answer = self._checked(Answer(torch.cat([part.value for part in parts]), found), "impute", num_draws)
        values = (
            self._values(self._allowed(rows, codes), of_member, draw=0, evidence=rows.evidence, seed=seed)
            for codes, of_member in zip(answer.value, keys_of_members, strict=True)
        )
        return Answer(values, found)

    def sample(
        self, num: int, *, evidence: Mapping[Name, Evidence], seed: int | None = None, first: int = 0
    ) -> Answer[dict[Name, Column]]:
        """Draws rows number `first`, `first + 1`, ... given evidence; None is the seed of the model."""
        seed = self.parameters.seed if seed is None else seed
        keys = torch.arange(first, first + num)
        nothing = torch.full((num, len(self.codec.columns)), MISSING_CODE)
        drawn = self._completed(nothing, keys, 1, seed, self._log_weights(evidence), "sample")
        answer = self._checked(drawn, "sample")
        return Answer(self._values(answer.value[0], keys, draw=0, evidence=evidence, seed=seed), answer.diagnostics)

    def log_density(self, rows: AskedRows) -> Answer[np.ndarray]:
        """log p of the observed entries of each row and of the evidence, missing ones marginalised, shape (N,), nats.

        In the units of the columns. Normalised up to the standard error of log Z, which all rows share. Exact otherwise if
        the missing entries of a row have few configurations; else a mean over `num_draws` draws (`TableModel.log_prob`).
        """
        answer = self._log_codes(rows, "score_samples")
        inside = self.codec.log_prob(rows.table, rows.codes.numpy()).sum(axis=1)
        return Answer(answer.value.numpy() + inside, answer.diagnostics)

    def dependence(self, rows: AskedRows) -> np.ndarray:
        """Dependence of the observed entries of each row, shape (N,), nats.

            log p(codes) - sum_j log p_marginal(c_j) + log-surprise

        Without the density inside the codes, so without units. An estimate where `log_density` is one.
        """
        scores = self._log_codes(rows, "dependence").value.numpy() + self._log_surprise(rows).sum(axis=1)
        for place, log_marginal in enumerate(self.model.log_marginals()):
            seen = rows.codes[:, place] >= 0
            scores[seen.numpy()] -= log_marginal[rows.codes[seen, place]].double().numpy()
        return scores

    def conditional_log_score(self, rows: AskedRows, names: Sequence[Name]) -> np.ndarray:
        """log p(value | other observed entries of the row) of each entry, shape (N, len(names)), nats; NaN where missing."""
        within = self.codec.log_prob(rows.table, rows.codes.numpy())
        return self._of_codes(rows, names) + within[:, [self.codec.index(name) for name in names]]

    def conditional_surprise(self, rows: AskedRows) -> np.ndarray:
        """Mean of log p(code | other observed entries) + log-surprise over observed entries, shape (N,), nats.

        Without the density inside the codes, so without units.
        """
        names = [
            coded.name
            for coded in self.codec.columns
            if coded.codec.num_codes > 1 or isinstance(coded.codec, NumberCodec)
        ]
        places = [self.codec.index(name) for name in names]
        scores = self._of_codes(rows, names) + self._log_surprise(rows).take(places, axis=1)
        num_seen = (~np.isnan(scores)).sum(axis=1)
        return np.nansum(scores, axis=1) / num_seen.clip(min=1)

    def _log_surprise(self, rows: AskedRows) -> np.ndarray:
        """Log-probability of numbers outside the training range, shape (N, V), nats; 0 for all else."""
        surprise = np.zeros(rows.codes.shape)
        for place, coded in enumerate(self.codec.columns):
            if isinstance(coded.codec, NumberCodec) and coded.name in rows.table:
                seen = np.flatnonzero(rows.codes[:, place] >= 0)
                values = coded.converted(rows.table[coded.name]).values[seen]
                surprise[seen, place] = coded.codec.log_surprise(values)
        return surprise

    def _log_codes(self, rows: AskedRows, what: str) -> Answer[Tensor]:
        """log p of the observed codes of each row, shape (N,), nats, float64."""
        parts = [
            self.model.log_prob_answer(
                rows.codes[part],
                num_draws=self.parameters.num_draws,
                seed=self.parameters.seed,
                log_weights=self._log_weights(rows.evidence),
            )
            for part in self.watch.parts(what, len(rows.codes))
        ]
        return self._checked(_joined(parts), what)

    def _of_codes(self, rows: AskedRows, names: Sequence[Name]) -> np.ndarray:
        scores, answers = np.full((len(rows.codes), len(names)), np.nan), []
        for column, name in enumerate(names):
            place = self.codec.index(name)
            seen = (rows.codes[:, place] >= 0).nonzero().squeeze(1)
            answer = self._predictive(rows.codes[seen], place, self._log_weights(rows.evidence))
            log_probs = answer.value.gather(1, rows.codes[seen][:, [place]])
            scores[seen.numpy(), column] = log_probs.squeeze(1).double().numpy()
            no_error = torch.zeros(len(seen), 0)
            answers.append(replace(answer.diagnostics, standard_error=no_error))
        if answers:
            self._checked(Answer(scores, Diagnostics.joined(answers)), "score of entries")
        return scores

    def _predictive(
        self,
        codes: Tensor,
        place: int,
        log_weights: Sequence[Tensor | None] | None,
        readout: np.ndarray | None = None,
    ) -> Answer[Tensor]:
        """log p(code of a column | other observed entries), shape (N, K_j)."""
        parts = [
            self.model.predictive_answer(
                codes[part],
                place,
                num_draws=self.parameters.num_draws,
                num_sweeps=self.parameters.num_sweeps,
                seed=self.parameters.seed,
                readout=None if readout is None else torch.from_numpy(readout),
                log_weights=log_weights,
            )
            for part in self.watch.parts("predict", len(codes))
        ]
        return _joined(parts)

    def _completed(
        self,
        codes: Tensor,
        keys: Tensor,
        num_draws: int,
        seed: int,
        log_weights: Sequence[Tensor | None] | None,
        what: str = "impute",
    ) -> Answer[Tensor]:
        """Joint draws of the missing codes, shape (D, N, V)."""
        num_sweeps = self.parameters.num_sweeps
        parts = [
            self.model.complete_answer(
                codes[part],
                num_draws=num_draws,
                num_sweeps=num_sweeps,
                seed=seed,
                log_weights=log_weights,
                keys=keys[part],
            )
            for part in self.watch.parts(what, len(codes))
        ]
        return _joined(parts, dim=1)

    def _checked(self, answer: Answer[Held], what: str, num_draws: int | None = None) -> Answer[Held]:
        return warned(answer, what, self.parameters, num_draws) if self.warns else answer

    def _log_weights(self, evidence: Mapping[Name, Evidence]) -> list[Tensor | None] | None:
        """log p(evidence | code) of each column, shape (K_j,); None without evidence."""
        if not evidence:
            return None
        of_columns = self.codec.log_weights(evidence)
        return [None if each is None else torch.from_numpy(each).float() for each in of_columns]

    def _allowed(self, rows: AskedRows, codes: Tensor) -> Tensor:
        """Completed codes, with one that the evidence allows in place of an observed one, whose value is known anyway."""
        codes = codes.clone()
        for place, weights in enumerate(self._log_weights(rows.evidence) or ()):
            if weights is not None:
                codes[rows.codes[:, place] >= 0, place] = int(weights.argmax())
        return codes

    def _values(
        self, codes: Tensor, keys: Tensor, *, draw: int, evidence: Mapping[Name, Evidence], seed: int
    ) -> dict[Name, Column]:
        """Values inside their codes."""
        stream = RowStream(keys, seed, draw=draw, counter=_VALUES)
        uniforms = stream.uniform(torch.empty(codes.shape, dtype=torch.float64))
        return self.codec.decode(codes.numpy(), uniforms.numpy(), evidence=evidence)


def warned(answer: Answer[Held], what: str, parameters: Parameters, num_draws: int | None = None) -> Answer[Held]:
    """The answer, after one warning if it may be far off.

    Args:
        answer: to the question.
        what: the question, which begins the message.
        parameters: of answers.
        num_draws: chains of each row; None is that of the parameters.
    """
    asked = parameters.num_draws
    min_jumps = enough_jumps(answer.diagnostics, asked if num_draws is None else num_draws)
    if answer.diagnostics.standard_error is None:  # draws
        return answer.checked(what, {"num_sweeps": "a larger"}, min_jumps=min_jumps)
    min_ess = enough_draws(asked)
    remedy = {"num_draws": "a larger", "num_sweeps": "a larger"}
    return answer.checked(what, remedy, min_ess=min_ess, min_jumps=min_jumps)


def _joined(parts: Sequence[Answer[Tensor]], dim: int = 0) -> Answer[Tensor]:
    """The answer about the rows of several parts, which lie along that axis."""
    found = Diagnostics.joined([part.diagnostics for part in parts])
    return Answer(torch.cat([part.value for part in parts], dim=dim), found)
