"""Distributions over the codes of any column of a related table.

Legend: n rows, K codes of the predicted column, S strata of each code, M values of a column of the model, C candidates.
"""

import numpy as np

from jointebm.tables.answers.fitted import FittedTable
from jointebm.tables.answers.predictions import class_probs
from jointebm.tables.answers.related_draws import Candidates
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import CodedColumn, Name
from jointebm.tables.codes.column import IgnoredCodec
from jointebm.tables.relations.relation_system import RelationSystem, deduce_all
from jointebm.tables.relations.work_table import Work, taken

__all__ = ["distribution_of", "predicted_by_one"]

STRATA = 16  # values that stand for a code of numbers
ROWS_PREDICTED_AT_ONCE = 128


def predicted_by_one(
    system: RelationSystem, work: Work, part: Name, log_probs: np.ndarray, coded: CodedColumn
) -> np.ndarray:
    """p(code of a column), shape (n, K), where one column of the model decides.

    Exact for categories; a code of numbers stands for `STRATA` values at the middles of equal shares.

    Args:
        system: the relations.
        work: n rows, in which `part` is the only missing column that the predicted one is computed from.
        part: a column of the model.
        log_probs: of its codes.
        coded: the predicted column.
    """
    source = system.codec.columns[system.codec.index(part)]
    if coded.name == part and source.codec.model_dump() == coded.codec.model_dump():
        return np.exp(log_probs)
    assert not isinstance(source.codec, IgnoredCodec)
    if isinstance(source.codec, CategoryCodec):
        values, weights = source.codec.values, class_probs(source, log_probs)
    else:
        codes = np.repeat(np.arange(source.codec.num_codes), STRATA)
        middles = np.tile((np.arange(STRATA) + 0.5) / STRATA, source.codec.num_codes)
        values, weights = source.codec.decode(codes, middles), np.exp(log_probs).repeat(STRATA, axis=1) / STRATA
    names = {name for each in system.relations for name in (*each.columns, *each.added)} | {part}
    related = {name: work[name] for name in names}
    probs = np.zeros((len(log_probs), coded.codec.num_codes))
    for start in range(0, len(log_probs), ROWS_PREDICTED_AT_ONCE):
        some = np.arange(start, min(start + ROWS_PREDICTED_AT_ONCE, len(log_probs)))
        table = taken(related, np.repeat(some, len(values)))
        column = table[part]
        tiled = np.tile(values, len(some)).astype(column.values.dtype)
        table[part] = column._replace(values=tiled, is_missing=np.zeros(len(tiled), dtype=bool))
        deduce_all(table, system.relations)
        predicted = coded.codec.encode(table[coded.name].values).reshape(len(some), len(values))
        for row, codes in zip(some, predicted, strict=True):
            probs[row] = np.bincount(codes[codes >= 0], weights[row][codes >= 0], minlength=probs.shape[1])
    return probs


def distribution_of(
    core: FittedTable, system: RelationSystem, candidates: Candidates, coded: CodedColumn, *, is_free: bool
) -> np.ndarray:
    """p(code of a column), shape (n, K), as an average over weighted candidates.

    `is_free` says that no relation is computed from the column, so that its exact conditionals can be averaged.
    """
    num, num_rows = candidates.log_weights.shape
    log_weights = np.where(np.isneginf(candidates.log_weights).all(axis=0), 0.0, candidates.log_weights)
    weights = np.exp(log_weights - log_weights.max(axis=0))
    weights /= weights.sum(axis=0)
    if is_free:
        shown = system.of_model(candidates.work)
        questions = core.rows(shown, num * num_rows, missing=[coded.name])
        of_draws = np.exp(core.log_predictive(questions, coded.name))
    else:
        codes = coded.codec.encode(candidates.work[coded.name].values)
        of_draws = (codes[:, None] == np.arange(coded.codec.num_codes)).astype(np.float64)
    total = np.zeros((num_rows, coded.codec.num_codes))
    for draw, weight in zip(of_draws.reshape(num, num_rows, -1), weights, strict=True):
        total += weight[:, None] * draw
    return total
