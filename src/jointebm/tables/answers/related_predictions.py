"""Distributions over the codes of any column of a related table.

Legend: n rows, K codes of the predicted column, S strata of each code, M values of a column of the model, C candidates,
Q quantities that are read out of the distribution.
"""

from dataclasses import replace

import numpy as np
import torch

from jointebm.sampling.diagnostics import Answer
from jointebm.sampling.weighted_draws import weighted_averages
from jointebm.tables.answers.fitted import FittedTable
from jointebm.tables.answers.predictions import class_probs
from jointebm.tables.answers.related_draws import Candidates, rows_of_model
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import CodedColumn, Name
from jointebm.tables.codes.column import IgnoredCodec
from jointebm.tables.relations.relation_system import RelationSystem, deduce_all
from jointebm.tables.relations.work_table import Work, taken

__all__ = ["distribution_of", "predicted_by_one"]

STRATA = 16  # values that stand for a code of numbers
ROWS_PREDICTED_AT_ONCE = 128


def predicted_by_one(
    core: FittedTable, system: RelationSystem, work: Work, part: Name, coded: CodedColumn, readout: np.ndarray
) -> Answer[np.ndarray]:
    """p(code of a column), shape (n, K), where one column of the model decides.

    Exact for categories; a code of numbers stands for `STRATA` values at the middles of equal shares. Standard errors are
    upper bounds, sums over the codes of that column, unless it is the predicted one.

    Args:
        core: the columns of the model.
        system: the relations.
        work: n rows, in which `part` is the only missing column that the predicted one is computed from.
        part: a column of the model.
        coded: the predicted column.
        readout: standard errors are those of `p @ readout`, shape (K, Q).
    """
    source, questions = system.codec.columns[system.codec.index(part)], rows_of_model(core, system, work)
    if coded.name == part and source.codec.model_dump() == coded.codec.model_dump():
        answer = core.predictive_answer(questions, part, readout=readout)
        return Answer(np.exp(answer.value), answer.diagnostics)
    assert not isinstance(source.codec, IgnoredCodec)
    answer = core.predictive_answer(questions, part)
    log_probs, found = answer.value, answer.diagnostics
    with np.errstate(divide="ignore"):
        log_errors = np.log(found.standard_error.numpy())
    if isinstance(source.codec, CategoryCodec):
        values, weights = source.codec.values, class_probs(source, log_probs)
        errors = class_probs(source, log_errors)
    else:
        codes = np.repeat(np.arange(source.codec.num_codes), STRATA)
        middles = np.tile((np.arange(STRATA) + 0.5) / STRATA, source.codec.num_codes)
        values, weights = source.codec.decode(codes, middles), np.exp(log_probs).repeat(STRATA, axis=1) / STRATA
        errors = np.exp(log_errors).repeat(STRATA, axis=1) / STRATA
    names = {name for each in system.relations for name in (*each.columns, *each.added)} | {part}
    related = {name: work[name] for name in names}
    probs = np.zeros((len(log_probs), coded.codec.num_codes))
    bounds = np.zeros((len(log_probs), readout.shape[1]))
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
            if not found.exact[row]:
                apart = np.abs(readout[codes] - (probs[row][:, None] * readout).sum(axis=0))
                bounds[row] = (errors[row][:, None] * apart)[codes >= 0].sum(axis=0)
    return Answer(probs, replace(found, standard_error=torch.from_numpy(bounds)))


def distribution_of(
    core: FittedTable,
    system: RelationSystem,
    candidates: Candidates,
    coded: CodedColumn,
    readout: np.ndarray,
    *,
    is_free: bool,
) -> Answer[np.ndarray]:
    """p(code of a column), shape (n, K), as an average over weighted candidates.

    Args:
        core: the columns of the model.
        system: the relations.
        candidates: of n rows.
        coded: the predicted column.
        readout: standard errors are those of `p @ readout`, shape (K, Q).
        is_free: no relation is computed from the column, so that its exact conditionals can be averaged.
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
    of_draws = of_draws.reshape(num, num_rows, -1)
    for draw, weight in zip(of_draws, weights, strict=True):
        total += weight[:, None] * draw
    quantities = torch.from_numpy((of_draws @ readout).swapaxes(0, 1).copy())
    errors = weighted_averages(torch.from_numpy(log_weights.T.copy()), quantities).standard_error
    return Answer(
        total,
        replace(
            candidates.completion,
            exact=torch.zeros(num_rows, dtype=torch.bool),
            ess=candidates.ess,
            standard_error=errors,
        ),
    )
