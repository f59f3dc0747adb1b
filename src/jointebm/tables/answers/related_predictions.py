"""Distributions over the codes of any column of a related table.

Legend: n rows, K codes of the predicted column, S strata of each code, M values of a column of the model, C candidates,
Q quantities that are read out of the distribution.
"""

from dataclasses import replace

import numpy as np
import torch

from jointebm.sampling.diagnostics import Answer
from jointebm.sampling.weighted_draws import weighted_averages
from jointebm.tables.answers.predictions import class_probs
from jointebm.tables.answers.related_choices import RelatedChoices
from jointebm.tables.answers.related_draws import Candidates, allowed_levels, rows_of_model
from jointebm.tables.codes.agreement import agrees
from jointebm.tables.codes.categories import CategoryCodec
from jointebm.tables.codes.codec import CodedColumn, Name
from jointebm.tables.codes.column import Column, IgnoredCodec
from jointebm.tables.codes.evidence import Evidence
from jointebm.tables.relations.relation_system import deduce_all
from jointebm.tables.relations.work_table import Work, taken

__all__ = ["distribution_of", "predicted_by_one"]

STRATA = 16  # values that stand for a code of numbers
ROWS_PREDICTED_AT_ONCE = 128


def predicted_by_one(
    choices: RelatedChoices, work: Work, part: Name, coded: CodedColumn, readout: np.ndarray
) -> Answer[np.ndarray]:
    """p(code of a column), shape (n, K), where one column of the model decides.

    Exact for categories; a code of numbers stands for `STRATA` values at the middles of equal shares. Standard errors are
    upper bounds, sums over the codes of that column, unless it is the predicted one.

    Args:
        choices: the model, the relations and the evidence.
        work: n rows, in which `part` is the only missing column that the predicted one is computed from.
        part: a column of the model.
        coded: the predicted column.
        readout: standard errors are those of `p @ readout`, shape (K, Q).

    Raises:
        ValueError: no value of the part agrees with the evidence in a row.
    """
    core, system, evidence = choices.core, choices.system, choices.evidence
    source = system.codec.columns[system.codec.index(part)]
    questions = rows_of_model(core, system, work, evidence.of_model)
    is_bound = part in evidence.of_model or any(not work[name].is_missing.all() for name in system.roots.get(part, ()))
    if coded.name == part and source.codec.model_dump() == coded.codec.model_dump() and not is_bound:
        answer = core.predictive_answer(questions, part, readout=readout)
        return Answer(np.exp(answer.value), answer.diagnostics)
    answer = core.predictive_answer(questions, part)
    found = answer.diagnostics
    with np.errstate(divide="ignore"):
        log_errors = np.log(found.standard_error.numpy())
    values, weights, errors = _strata(source, evidence.of_others.get(part), answer.value, log_errors)
    allowed = allowed_levels(system, part, values, work, evidence)
    kept = np.where(allowed, weights, 0.0)
    none = ~(kept.sum(axis=1) > 0)
    if evidence.asked and none.any():
        raise ValueError(evidence.refusal(system, int(none.sum()), len(none)))
    allowed[none], kept[none] = True, weights[none]  # known entries that no level has together
    total = kept.sum(axis=1)[:, None]
    weights, errors = kept / total, np.where(allowed, errors, 0.0) / total
    names = {name for each in system.relations for name in (*each.columns, *each.added)} | {part}
    related = {name: work[name] for name in names}
    probs = np.zeros((len(weights), coded.codec.num_codes))
    bounds = np.zeros((len(weights), readout.shape[1]))
    for start in range(0, len(weights), ROWS_PREDICTED_AT_ONCE):
        some = np.arange(start, min(start + ROWS_PREDICTED_AT_ONCE, len(weights)))
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


def _strata(
    source: CodedColumn, known: Evidence | None, log_probs: np.ndarray, log_errors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values that stand for a column of the model, shape (M,), with their probabilities and errors, shape (n, M) each.

    Args:
        source: the column.
        known: evidence about it.
        log_probs: of its codes.
        log_errors: of its codes.
    """
    codec = source.codec
    assert not isinstance(codec, IgnoredCodec)
    if isinstance(codec, CategoryCodec):
        levels = Column(source.role, codec.values, np.zeros(len(codec.values), dtype=bool), source.unit)
        allowed = np.ones(len(codec.levels)) if known is None else agrees(source, known, levels)
        return codec.values, class_probs(source, log_probs) * allowed, class_probs(source, log_errors) * allowed
    possible = np.arange(codec.num_codes)
    if known is not None:
        log_weights = codec.log_weights(known)
        possible = np.flatnonzero(np.isfinite(log_weights))
        log_probs, log_errors = log_probs + log_weights, log_errors + log_weights
    codes = np.repeat(possible, STRATA)
    middles = np.tile((np.arange(STRATA) + 0.5) / STRATA, len(possible))
    values = codec.decode(codes, middles, evidence=known)
    probs, errors = (np.exp(each[:, possible]).repeat(STRATA, axis=1) / STRATA for each in (log_probs, log_errors))
    return values, probs, errors


def distribution_of(
    choices: RelatedChoices,
    candidates: Candidates,
    coded: CodedColumn,
    readout: np.ndarray,
    *,
    is_free: bool,
) -> Answer[np.ndarray]:
    """p(code of a column), shape (n, K), as an average over weighted candidates.

    Args:
        choices: the model and the relations.
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
        shown = choices.system.of_model(candidates.work)
        questions = choices.core.rows(shown, num * num_rows, missing=[coded.name])
        of_draws = np.exp(choices.core.log_predictive(questions, coded.name))
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
