"""From the rows of a table to codes: one pass for codecs and a sample, and passes that check relations on all rows.

Legend: N rows of the table, n rows of the sample, V columns of the model.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jointebm.sampling.diagnostics import warn_caller
from jointebm.storage.untrusted import quoted
from jointebm.tables.answers.parameters import Parameters
from jointebm.tables.codes.chunks import Chunk, Chunks, folded
from jointebm.tables.codes.codec import Name, TableCodec
from jointebm.tables.codes.column import Column, IgnoredCodec
from jointebm.tables.codes.column_summary import ColumnSummary
from jointebm.tables.codes.indicators import Indicator, fit_indicators, with_indicators
from jointebm.tables.codes.row_sample import joined_tables
from jointebm.tables.codes.table_summary import TableSummary
from jointebm.tables.frames.schemas import FrameSchema
from jointebm.tables.frames.table_rows import TableRows
from jointebm.tables.relations.collected_relations import CollectedRelations
from jointebm.tables.relations.fitted_forms import BrokenRelationError
from jointebm.tables.relations.found_relations import find_relations
from jointebm.tables.relations.relation_check import RelationCheck
from jointebm.tables.relations.relation_system import RelationSystem

__all__ = ["CodedRows", "coded_rows"]

MAX_THREADS = 8


class CodedRows(NamedTuple):
    """What a fit takes from a table."""

    schema: FrameSchema
    codec: TableCodec  # of the columns of the table
    indicators: tuple[Indicator, ...]
    relations: RelationSystem | None
    of_model: TableCodec  # of the columns of the model
    codes: Tensor  # of the sample, (n, V), in the smallest of 16 or 32 bits
    table: Mapping[Name, Column]  # of the sample: the columns of the model
    numbers: np.ndarray  # of its rows in the table, (n,)
    num_rows: int  # N
    num_passes: int  # over all rows
    is_checked: bool  # whether relations were checked on all rows

    def inside(self, places: Tensor) -> Tensor:
        """log p of the values of these rows of the sample given their codes, shape of `places`, nats."""
        chosen = places.numpy()
        some = {name: column.take(chosen) for name, column in self.table.items()}
        return torch.from_numpy(self.of_model.log_prob(some, self.codes[places].long().numpy()).sum(axis=1))

    def lines(self) -> list[str]:
        """What to tell of a sample."""
        num_trained = len(self.numbers)
        if num_trained == self.num_rows:
            return []
        lines = [f"read {self.num_rows} rows {self.num_passes} times, to train on {num_trained} of them"]
        if self.relations is not None and not self.is_checked:
            lines.append(
                f"relations hold in the {num_trained} rows of the sample, and were not checked in the others, since a "
                "stream is read once; fit files or a folder to check all rows"
            )
        return lines


def coded_rows(rows: TableRows, parameters: Parameters, *, numbers: np.ndarray | None = None) -> CodedRows:
    """Fits codecs to all rows of a table, and encodes a sample of at most `max_rows`.

    The table is read once; once more where relations are found in the sample of a larger table, to check them on all rows,
    and again after some of them were refuted.

    Args:
        rows: of the table.
        parameters: of the fit.
        numbers: of the rows, for messages, shape (N,); None is 0, 1, ...

    Raises:
        ValueError: no rows, or a row breaks a declared relation.
    """
    new_summary = partial(
        TableSummary,
        max_rows=parameters.max_rows,
        seed=parameters.seed,
        ids=[name for name, kind in parameters.kinds if kind == "id"],
    )
    if not rows.schema.columns:
        raise ValueError("Found array with 0 feature(s) while a minimum of 1 is required: the table has no columns")
    num_threads = min(torch.get_num_threads(), MAX_THREADS)
    summary = folded(rows.read(), new_summary, num_threads=num_threads)
    if not summary.num_rows:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required: the table has no rows")
    columns, (sample, places) = summary.columns(), summary.sample()
    columns = {name: columns[name] for name in rows.schema.names}
    codec = TableCodec.fit(
        columns, kinds=dict(parameters.kinds), max_bins=parameters.max_bins, max_levels=parameters.max_levels
    )
    _warn_if_empty(codec)
    indicators = fit_indicators(columns, codec) if parameters.missingness == "model" else ()
    table = with_indicators({name: sample[name] for name in codec.names}, indicators)
    is_whole = len(places) == summary.num_rows
    search = _Search(parameters, codec.names, indicators, numbers)
    if is_whole:
        found = search.found(table, places)
        relations, num_passes = None if found is None else found.system(), 1
    else:
        read = rows.read if rows.is_repeatable else None
        relations, num_passes = search.checked(table, places, columns, read, new_summary, num_threads)
    of_model = TableCodec(columns=(*codec.columns, *(each.coded for each in indicators)))
    if relations is not None:
        of_model, table = relations.training(table)
    codes = of_model.encode(table)
    smallest = torch.int16 if max(of_model.num_codes) < 2**15 else torch.int32
    return CodedRows(
        schema=rows.schema_of(columns),
        codec=codec,
        indicators=indicators,
        relations=relations,
        of_model=of_model,
        codes=torch.from_numpy(codes).to(smallest),
        table=table,
        numbers=places,
        num_rows=summary.num_rows,
        num_passes=num_passes,
        is_checked=is_whole or rows.is_repeatable,
    )


def _warn_if_empty(codec: TableCodec) -> None:
    """Warns if no column is left to model."""
    reasons = [each.codec.reason for each in codec.columns if isinstance(each.codec, IgnoredCodec)]
    if len(reasons) == len(codec.columns):
        listed = ", ".join(f"{each.name!r} ({why})" for each, why in zip(codec.columns, reasons, strict=True))
        warn_caller(
            UserWarning(
                f"fit: no column is modelled: {quoted(listed)}; the model knows nothing. Texts that nearly all differ count "
                "as ids; call a column categorical to model it (kinds={...: 'categorical'}, or --kind NAME=categorical)"
            )
        )


class _Search(NamedTuple):
    """How relations are searched for."""

    parameters: Parameters
    names: tuple[Name, ...]  # columns that may be related
    indicators: tuple[Indicator, ...]
    numbers: np.ndarray | None  # of the rows, for messages

    def found(self, table: Mapping[Name, Column], places: np.ndarray) -> CollectedRelations | None:
        """The relations of rows with these numbers."""
        parameters = self.parameters
        try:
            return find_relations(
                table,
                parameters.relations,
                names=self.names,
                kinds=dict(parameters.kinds),
                max_bins=parameters.max_bins,
                max_levels=parameters.max_levels,
            )
        except BrokenRelationError as error:
            row = places[error.row] if self.numbers is None else self.numbers[places[error.row]]
            raise BrokenRelationError(error.text, int(row), error.reason) from None

    def checked(
        self,
        table: dict[Name, Column],
        places: np.ndarray,
        columns: Mapping[Name, ColumnSummary],
        read: Callable[[], Chunks] | None,
        new_summary: Callable[[], TableSummary],
        num_threads: int,
    ) -> tuple[RelationSystem | None, int]:
        """The relations of a sample that all rows keep, and the number of passes; `read` is None if rows are read once."""
        num_passes = 1
        while True:
            found = self.found(table, places)
            system = None if found is None else found.system()
            if found is None or system is None:
                return None, num_passes
            related = found.related
            known = {name: each for name, each in columns.items() if name not in related}
            if read is None:
                return found.system(known), num_passes
            check = folded(
                self._recorded(read()), partial(RelationCheck, system, related, new_summary), num_threads=num_threads
            )
            num_passes += 1
            witnesses = check.witnesses()
            if witnesses is None:
                return found.system({**known, **check.summaries()}), num_passes
            places = np.concatenate([places, witnesses[0]])
            order = np.unique(places, return_index=True)[1]
            table = {name: each.take(order) for name, each in joined_tables([table, witnesses[1]]).items()}
            places = places[order]

    def _recorded(self, chunks: Chunks) -> Chunks:
        """Chunks with the indicators of their columns."""

        def read_chunk(read: Callable[[], Chunk]) -> Chunk:
            chunk = read()
            table = {name: chunk.table[name] for name in self.names}
            return Chunk(with_indicators(table, self.indicators), chunk.first)

        return (partial(read_chunk, read) for read in chunks)
