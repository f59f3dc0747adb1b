"""A fitted table: the codec and the model of codes, which together answer questions about tables.

    log p(row) = F(codes) + sum_j log p(value_j | code_j) - log Z

An estimate about a row (a prediction, a score) depends on the row and the seed alone, bit for bit. Draws come from streams
with a key for each row: its number in the question, or its id.

Legend: N rows, V columns, K_j codes of column j, D draws.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jointebm.randomness.row_streams import RowStream
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.answers.row_keys import keys_of_draw
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.codes.codec import MISSING_CODE, Name, TableCodec
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.evidence import Evidence
from jointebm.tables.codes.numbers import NumberCodec

__all__ = ["FittedTable", "Rows"]

BLOCK = 4096  # rows at a time; memory does not grow with the table beyond its own size
_VALUES = 2**40  # stream counter of draws of values inside codes; sweeps count from 0


class Rows(NamedTuple):
    """Encoded rows."""

    table: Mapping[Name, Column]
    codes: Tensor  # (N, V), int64; -1 is missing


@dataclass(frozen=True, eq=False)
class FittedTable:
    """Answers about rows of one table.

    Args:
        codec: columns and their codes.
        model: density over codes.
        parameters: of answers.
        members: densities refitted to bootstrap samples of the training rows; none, unless asked for at the fit.
    """

    codec: TableCodec
    model: TableModel
    parameters: Parameters
    members: tuple[TableModel, ...] = ()

    def rows(self, table: Mapping[Name, Column], num_rows: int, *, missing: Sequence[Name] = ()) -> Rows:
        """Encodes a table; columns named in `missing` count as missing."""
        for name in missing:
            self.codec.index(name)
        shown = {name: column for name, column in table.items() if name not in missing}
        codes = np.full((num_rows, len(self.codec.columns)), MISSING_CODE)
        if shown:
            codes = self.codec.encode(shown, unseen=self.parameters.unseen)
        return Rows(shown, torch.from_numpy(codes))

    def log_predictive(self, rows: Rows, name: Name) -> np.ndarray:
        """log p(code of the column | other observed entries), shape (N, K_j), nats, float64."""
        place = self.codec.index(name)
        parts = [self._predictive(codes, place) for codes in rows.codes.split(BLOCK)]
        return torch.cat(parts).double().log_softmax(dim=1).numpy()

    def impute(
        self, rows: Rows, keys: Tensor, *, num_draws: int, seed: int | None = None
    ) -> Iterator[dict[Name, Column]]:
        """Joint draws of the missing entries of each row; observed entries stay as they are.

        Args:
            rows: what is known.
            keys: of the rows' streams, shape (N,); see `row_keys`.
            num_draws: D, independent draws.
            seed: of all draws; None is that of the model.
        """
        seed = self.parameters.seed if seed is None else seed
        blocks = zip(rows.codes.split(BLOCK), keys.split(BLOCK), strict=True)
        parts = [
            self.model.complete(
                codes, num_draws=num_draws, num_sweeps=self.parameters.num_sweeps, seed=seed, keys=of_block
            )
            for codes, of_block in blocks
        ]
        for draw, codes in enumerate(torch.cat(parts, dim=1)):  # (D, N, V)
            yield self._values(codes, keys, draw=draw, evidence={}, seed=seed)

    def impute_by_members(
        self, rows: Rows, keys: Tensor, *, num_draws: int, seed: int | None = None
    ) -> Iterator[dict[Name, Column]]:
        """As `impute`, draw number d by member d, so that draws differ by as much as fits do."""
        for draw, member in enumerate(self.members[:num_draws]):
            yield from replace(self, model=member).impute(rows, keys_of_draw(keys, draw), num_draws=1, seed=seed)

    def sample(
        self, num: int, *, evidence: Mapping[Name, Evidence], seed: int | None = None, first: int = 0
    ) -> dict[Name, Column]:
        """Draws rows number `first`, `first + 1`, ... given evidence; None is the seed of the model."""
        seed = self.parameters.seed if seed is None else seed
        log_weights = [
            None if each is None else torch.from_numpy(each).float() for each in self.codec.log_weights(evidence)
        ]
        keys = torch.arange(first, first + num)
        nothing = torch.full((num, len(log_weights)), MISSING_CODE)
        parts = [
            self.model.complete(
                codes, num_sweeps=self.parameters.num_sweeps, seed=seed, log_weights=log_weights, keys=some
            )[0]
            for codes, some in zip(nothing.split(BLOCK), keys.split(BLOCK), strict=True)
        ]
        return self._values(torch.cat(parts), keys, draw=0, evidence=evidence, seed=seed)

    def log_density(self, rows: Rows) -> np.ndarray:
        """log p of the observed entries of each row, missing ones marginalised, shape (N,), nats, float64.

        In the units of the columns. Normalised up to the standard error of log Z, which all rows share. Exact otherwise if
        the missing entries of a row have few configurations; else a mean over `num_draws` draws (`TableModel.log_prob`).
        """
        return self._log_codes(rows) + self.codec.log_prob(rows.table, rows.codes.numpy()).sum(axis=1)

    def dependence(self, rows: Rows) -> np.ndarray:
        """Dependence of the observed entries of each row, shape (N,), nats.

            log p(codes) - sum_j log p_marginal(c_j) + log-surprise

        Without the density inside the codes, so without units. An estimate where `log_density` is one.
        """
        scores = self._log_codes(rows) + self._log_surprise(rows).sum(axis=1)
        for place, log_marginal in enumerate(self.model.log_marginals()):
            seen = rows.codes[:, place] >= 0
            scores[seen.numpy()] -= log_marginal[rows.codes[seen, place]].double().numpy()
        return scores

    def conditional_log_score(self, rows: Rows, names: Sequence[Name]) -> np.ndarray:
        """log p(value | other observed entries of the row) of each entry, shape (N, len(names)), nats; NaN where missing."""
        within = self.codec.log_prob(rows.table, rows.codes.numpy())
        return self._of_codes(rows, names) + within[:, [self.codec.index(name) for name in names]]

    def conditional_surprise(self, rows: Rows) -> np.ndarray:
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

    def _log_surprise(self, rows: Rows) -> np.ndarray:
        """Log-probability of numbers outside the training range, shape (N, V), nats; 0 for all else."""
        surprise = np.zeros(rows.codes.shape)
        for place, coded in enumerate(self.codec.columns):
            if isinstance(coded.codec, NumberCodec) and coded.name in rows.table:
                seen = np.flatnonzero(rows.codes[:, place] >= 0)
                values = coded.converted(rows.table[coded.name]).values[seen]
                surprise[seen, place] = coded.codec.log_surprise(values)
        return surprise

    def _log_codes(self, rows: Rows) -> np.ndarray:
        """log p of the observed codes of each row, shape (N,), nats, float64."""
        parameters = self.parameters
        parts = [
            self.model.log_prob(codes, num_draws=parameters.num_draws, seed=parameters.seed)
            for codes in rows.codes.split(BLOCK)
        ]
        return torch.cat(parts).numpy()

    def _of_codes(self, rows: Rows, names: Sequence[Name]) -> np.ndarray:
        scores = np.full((len(rows.codes), len(names)), np.nan)
        for column, name in enumerate(names):
            place = self.codec.index(name)
            for start in range(0, len(rows.codes), BLOCK):
                codes = rows.codes[start : start + BLOCK]
                seen = (codes[:, place] >= 0).nonzero().squeeze(1)
                log_probs = self._predictive(codes[seen], place).gather(1, codes[seen][:, [place]])
                scores[start + seen.numpy(), column] = log_probs.squeeze(1).double().numpy()
        return scores

    def _predictive(self, codes: Tensor, place: int) -> Tensor:
        return self.model.predictive(
            codes,
            place,
            num_draws=self.parameters.num_draws,
            num_sweeps=self.parameters.num_sweeps,
            seed=self.parameters.seed,
        )

    def _values(
        self, codes: Tensor, keys: Tensor, *, draw: int, evidence: Mapping[Name, Evidence], seed: int
    ) -> dict[Name, Column]:
        """Values inside their codes."""
        stream = RowStream(keys, seed, draw=draw, counter=_VALUES)
        uniforms = stream.uniform(torch.empty(codes.shape, dtype=torch.float64))
        return self.codec.decode(codes.numpy(), uniforms.numpy(), evidence=evidence)
