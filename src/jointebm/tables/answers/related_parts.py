"""Solves for the parts of a known sum, or of a known end of an order, and weighs what was solved for.

Parts of one sum are weighed as if no other sum were known. What then follows by other known sums is weighed given the
parts, column by column, and sums that are still open are solved one after the other: the product of these weights is that of
all sums together.

Legend: n rows, A columns that the sum is computed from.
"""

from collections.abc import Sequence

import numpy as np

from jointebm.tables.answers.fitted import AskedRows, FittedTable
from jointebm.tables.answers.related_evidence import RelatedEvidence
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.numbers import NumberCodec
from jointebm.tables.relations.relation_system import RelationSystem, deduce_all
from jointebm.tables.relations.work_table import Work, fill, missing_in_any, taken, with_known

__all__ = ["solved_parts"]


def solved_parts(
    core: FittedTable,
    system: RelationSystem,
    known: Work,
    name: Name,
    drawn: Work,
    turns: np.ndarray,
    evidence: RelatedEvidence,
) -> tuple[Work, np.ndarray, np.ndarray]:
    """Solves for what a known sum is computed from, in n rows with the turns of their candidates.

    What follows from the parts by other known sums is not known yet where the parts are weighed: draws stand for it.

    Returns:
        (solved, log_weights, turns): these rows with the parts, and what follows from them, filled; shape (n,); and turns
            for the next sum, which are independent of those of this one.
    """
    trial, parts = taken(known, np.arange(len(turns))), system.ancestors[name]
    missing = np.stack([trial[part].is_missing for part in parts], axis=1)  # (n, A)
    solvable = _solvable(core, parts, missing)
    chosen = _nth_true(solvable, turns)
    for place, part in enumerate(parts):
        others = missing[:, place] & (chosen != place)
        fill(trial, part, others, drawn[part].values[others])
    deduce_all(trial, system.relations)
    is_solved = ~missing_in_any(trial, parts)
    weighed = with_known(drawn, known) | with_known({part: drawn[part] for part in parts}, trial)
    questions = core.rows(weighed, len(turns))
    inverse = np.full((len(turns), len(parts)), -np.inf)
    for place, part in enumerate(parts):
        if solvable[:, place].any():
            scores = core.conditional_log_score(questions, [part])[:, 0] - _log_allowed(core, questions, part, evidence)
            inverse[solvable[:, place], place] = -scores[solvable[:, place]]
    with np.errstate(divide="ignore"):
        log_weights = np.log(solvable.sum(axis=1)) - np.logaddexp.reduce(inverse, axis=1)
    for other in system.codec.names:  # that follow from the parts by other known sums
        follows = known[other].is_missing & ~trial[other].is_missing
        if other not in parts and follows.any():
            weighed[other] = with_known({other: weighed[other]}, trial)[other]
            questions = core.rows(weighed, len(turns))
            score = core.conditional_log_score(questions, [other])[:, 0] - _log_allowed(
                core, questions, other, evidence
            )
            log_weights[follows] += score[follows]
    log_weights = np.where(is_solved & ~np.isnan(log_weights), log_weights, -np.inf)
    return trial, log_weights, turns // solvable.sum(axis=1).clip(min=1)


def _log_allowed(core: FittedTable, rows: AskedRows, part: Name, evidence: RelatedEvidence) -> np.ndarray:
    """log p(evidence about a column | all others), shape (n,), nats: the share of its draws that agree."""
    if part not in evidence.of_others:
        return np.zeros(len(rows.codes))
    weights = core.codec.log_weights({part: evidence.of_others[part]})[core.codec.index(part)]
    return np.logaddexp.reduce(core.log_predictive(rows, part) + weights, axis=1)


def _solvable(core: FittedTable, parts: Sequence[Name], missing: np.ndarray) -> np.ndarray:
    """Missing parts that can be solved for: those with the finest grid, of reals those without points, bool (n, A)."""
    steps, rough = np.full(len(parts), np.inf), np.zeros(len(parts), dtype=bool)
    for place, part in enumerate(parts):
        codec = core.codec.columns[core.codec.index(part)].codec
        if isinstance(codec, NumberCodec):
            steps[place] = _step(codec)
            rough[place] = codec.grid is None and any(
                low == high for low, high in zip(codec.low, codec.high, strict=True)
            )
    of_row = np.where(missing, steps, np.inf)
    finest = of_row.min(axis=1, keepdims=True)
    solvable = np.isfinite(of_row) & (of_row <= finest * (1 + 1e-9))
    smooth = solvable & ~rough
    return np.where(smooth.any(axis=1, keepdims=True), smooth, solvable)


def _step(codec: NumberCodec) -> float:
    """Distance that values of a column differ by a multiple of; 0 for reals."""
    if codec.grid is None:
        return 0.0
    apart = int(np.gcd.reduce(np.diff(np.array(codec.low)))) if codec.is_discrete and codec.num_codes > 1 else 1
    return codec.grid.step * apart / 10.0**codec.grid.decimals


def _nth_true(mask: np.ndarray, number: np.ndarray) -> np.ndarray:
    """The place of one of the true entries of each row, in turn by number, shape (n,); -1 without any."""
    count = mask.sum(axis=1)
    nth = number % count.clip(min=1) + 1
    place = (mask.cumsum(axis=1) < nth[:, None]).sum(axis=1)
    return np.where(count > 0, place, -1)
