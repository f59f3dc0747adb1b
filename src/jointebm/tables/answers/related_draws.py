"""Weighted draws of rows that keep the relations of a table, where known entries bind several columns of the model.

A known value of a rebuilt column, such as a total whose parts are missing, is a condition on columns of the model together.

- **Maps** (zip -> city; city known, zip missing): the level is drawn from its conditional given that it has these values;
  the weight is the probability that it has. One such level per row is an exact draw.
- **Sums and orders** (total known, parts missing): all parts are drawn without the condition, then one of them, x_k, is
  solved for. Candidates solve for each part in turn, and weigh 1 / mean_k(1 / p(x_k | all others)): the density over the
  mixture of the proposals p(x) / p(x_k | all others).

Resampling by these weights draws from the conditional as the number of candidates grows.

Legend: n rows, C candidates, V columns of the model, A columns that a rebuilt one is computed from, L levels.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jointebm.randomness.row_streams import RowStream, row_keys
from jointebm.sampling.diagnostics import Diagnostics
from jointebm.sampling.weighted_draws import effective_size
from jointebm.tables.answers.fitted import AskedRows, FittedTable
from jointebm.tables.answers.predictions import class_probs, classes
from jointebm.tables.answers.related_evidence import RelatedEvidence
from jointebm.tables.answers.related_parts import solved_parts
from jointebm.tables.codes.agreement import agrees
from jointebm.tables.codes.codec import Name
from jointebm.tables.codes.column import Column
from jointebm.tables.codes.evidence import Evidence
from jointebm.tables.relations.balance import Balance
from jointebm.tables.relations.ordering import Ordering
from jointebm.tables.relations.relation_system import RelationSystem, deduce_all
from jointebm.tables.relations.work_table import Work, fill, missing_in_any, overlaid, taken, with_known

__all__ = [
    "Candidates",
    "allowed_levels",
    "are_bound",
    "are_weighed",
    "bound_by_sums",
    "bound_roots",
    "completed",
    "mixed_keys",
    "rows_of_model",
    "weighted_candidates",
]


class Candidates(NamedTuple):
    """Complete tables, C for each of n rows: candidate c of row i is row c * n + i."""

    work: Work
    log_weights: np.ndarray  # (C, n)
    is_broken: np.ndarray  # (C, n), contradicts a relation that the known entries do not contradict
    is_refused: np.ndarray  # (C, n), to be drawn again if possible
    completion: Diagnostics[Tensor]  # of n rows: the draws of the model
    levels: Diagnostics[Tensor]  # of n rows: the log-probabilities of levels in the weights
    is_weighed: Tensor  # (n,), one candidate is no exact draw

    @property
    def diagnostics(self) -> Diagnostics[Tensor]:
        """Of n rows, each of which is drawn among its candidates."""
        alone = torch.minimum(self.completion.ess, self.levels.ess)
        exact = self.completion.exact & self.levels.exact & ~self.is_weighed
        return replace(self.completion, exact=exact, ess=torch.where(self.is_weighed, self.ess, alone))

    @property
    def ess(self) -> Tensor:
        """Effective number of candidates of each row, 0 where none fits, shape (n,)."""
        return effective_size(torch.from_numpy(self.log_weights.T.copy())).nan_to_num(nan=0.0)


def mixed_keys(keys: Tensor, *numbers: int | Tensor) -> Tensor:
    """Keys of other streams for the same rows."""
    return row_keys(torch.stack([keys, *(torch.as_tensor(each).expand_as(keys) for each in numbers)], dim=1))


def rows_of_model(
    core: FittedTable, system: RelationSystem, work: Work, evidence: Mapping[Name, Evidence] = MappingProxyType({})
) -> AskedRows:
    """The rows as the model knows them, with evidence about missing entries of its columns."""
    rows = core.rows(system.of_model(work), len(next(iter(work.values())).values))
    return rows._replace(evidence=evidence)


def bound_roots(system: RelationSystem, work: Work, known: Collection[Name] = ()) -> dict[Name, np.ndarray]:
    """Columns of the model that are missing while columns that they determine are known, each with these rows, bool (n,).

    Args:
        system: the relations.
        work: n rows.
        known: columns of the model that there is evidence about, which binds them as well.
    """
    bound = {}
    for root, images in system.roots.items():
        seen = [~work[image].is_missing for image in images]
        bound[root] = work[root].is_missing & np.logical_or.reduce(
            [np.full(len(work[root].values), root in known), *seen]
        )
    return bound


def bound_by_sums(system: RelationSystem, work: Work) -> dict[Name, np.ndarray]:
    """Sums and ends of orders that are known while columns that they are computed from are missing, bool (n,)."""
    return {
        name: ~work[name].is_missing & missing_in_any(work, system.ancestors[name])
        for each in system.relations
        if isinstance(each, Balance | Ordering)
        for name in each.derived
    }


def are_bound(system: RelationSystem, work: Work) -> np.ndarray:
    """Rows in which known rebuilt columns bind missing columns of the model, bool (n,)."""
    masks = [*bound_roots(system, work).values(), *bound_by_sums(system, work).values()]
    return np.logical_or.reduce([np.zeros(len(next(iter(work.values())).values), dtype=bool), *masks])


def are_weighed(system: RelationSystem, work: Work, known: Collection[Name] = ()) -> np.ndarray:
    """Rows in which they bind more than one level, so that candidates differ in weight, bool (n,)."""
    none = np.zeros(len(next(iter(work.values())).values), dtype=bool)
    num_levels = np.sum([none, *bound_roots(system, work, known).values()], axis=0)
    return (num_levels > 1) | np.logical_or.reduce([none, *bound_by_sums(system, work).values()])


def weighted_candidates(
    core: FittedTable, system: RelationSystem, work: Work, keys: Tensor, num_candidates: int, evidence: RelatedEvidence
) -> Candidates:
    """Completes each row several times, with weights for what is known about rebuilt columns, and for evidence about roots.

    The mean of the weights is p(known rebuilt columns, evidence about roots | known columns of the model, other evidence).

    Args:
        core: the columns of the model.
        system: the relations.
        work: n rows, with what the relations determine; or C * n rows that differ in what is known.
        keys: of the rows' streams, shape (n,).
        num_candidates: C.
        evidence: about missing entries of the columns of the model.
    """
    num_rows, num = len(keys), len(keys) * num_candidates
    which = np.tile(np.arange(num_rows), num_candidates)
    number = torch.arange(num_candidates).repeat_interleave(num_rows)
    keys = mixed_keys(keys[torch.from_numpy(which)], number)
    is_spread = len(next(iter(work.values())).values) == num
    observed = work if is_spread else taken(work, which)
    now = taken(observed, np.arange(num))
    log_weights = np.zeros(num)
    levels = Diagnostics.of_exact(num, torch.zeros(num, dtype=torch.float64))
    for step, root in enumerate(system.roots):
        rows = np.flatnonzero(bound_roots(system, now, evidence.of_roots)[root])
        if len(rows):
            some = torch.from_numpy(rows)
            of_rows, found = _with_levels(core, system, now, root, rows, mixed_keys(keys[some], 1, step), evidence)
            log_weights[rows] += of_rows
            levels.exact[some] &= found.exact
            levels.ess[some] = torch.minimum(levels.ess[some], found.ess)
            levels.standard_error[some] += found.standard_error
            deduce_all(now, system.relations)
    questions = rows_of_model(core, system, now, evidence.of_others)
    answer = core.impute(questions, mixed_keys(keys, 2), num_draws=1)
    (drawn,) = answer.value
    complete = completed(system, now, questions, drawn)
    turns = number.numpy().copy()  # that decide which part of each sum is solved for
    for name in bound_by_sums(system, now):
        rows = np.flatnonzero(bound_by_sums(system, now)[name])
        if len(rows):
            known, drawn = taken(now, rows), taken(complete, rows)
            solved, of_rows, turns[rows] = solved_parts(core, system, known, name, drawn, turns[rows], evidence)
            log_weights[rows] += of_rows
            now = overlaid(now, rows, solved)
            complete = with_known(complete, now)
    full = with_known(system.close(complete, num), observed)
    is_broken = system.broken(full) & ~system.broken(observed)
    log_weights[is_broken] = -np.inf
    shape = (num_candidates, num_rows)
    worst = Diagnostics(
        exact=levels.exact.view(shape).all(dim=0),
        ess=levels.ess.view(shape).amin(dim=0),
        standard_error=levels.standard_error.view(shape).amax(dim=0),
    )
    return Candidates(
        full,
        log_weights.reshape(shape),
        is_broken.reshape(shape),
        system.refused(full).reshape(shape),
        answer.diagnostics.of_draws(num_candidates),
        worst,
        torch.from_numpy(are_weighed(system, observed, evidence.of_roots)[:num_rows]),
    )


def completed(system: RelationSystem, work: Work, rows: AskedRows, drawn: Mapping[Name, Column]) -> Work:
    """The columns of the model with a draw of what is missing from `rows`, the table as the model knows it."""
    complete = {}
    for place, (name, column) in enumerate(system.of_model(work).items()):
        is_drawn = column.is_missing | (rows.codes[:, place] < 0).numpy()
        values = np.where(is_drawn, drawn[name].values, column.values)
        complete[name] = drawn[name]._replace(values=values, is_missing=is_drawn & drawn[name].is_missing)
    return complete


def _with_levels(
    core: FittedTable,
    system: RelationSystem,
    now: Work,
    root: Name,
    rows: np.ndarray,
    keys: Tensor,
    evidence: RelatedEvidence,
) -> tuple[np.ndarray, Diagnostics[Tensor]]:
    """Fills levels that agree with the known values that they determine, and with the evidence.

    Returns:
        (log_weights, diagnostics): of the rows; standard errors are bounds, sums over the levels that agree or do not.
    """
    sub = taken(now, rows)
    coded = core.codec.columns[core.codec.index(root)]
    codes, origin = rows_of_model(core, system, sub).codes.unique(dim=0, return_inverse=True)
    answer = core.predictive_answer(AskedRows({}, codes, evidence.of_others), root)
    log_probs, found = answer.value[origin.numpy()], answer.diagnostics
    probs, levels = class_probs(coded, log_probs), classes(coded)
    allowed = allowed_levels(system, root, levels, sub, evidence)
    kept = np.where(allowed, probs, 0.0)
    total = kept.sum(axis=1)
    cumulative = np.where(total[:, None] > 0, kept, probs).cumsum(axis=1)
    uniform = RowStream(keys, core.parameters.seed).uniform(torch.empty(len(keys), dtype=torch.float64)).numpy()
    chosen = (cumulative <= uniform[:, None] * cumulative[:, -1:]).sum(axis=1).clip(max=len(levels) - 1)
    is_filled = np.zeros(len(now[root].values), dtype=bool)
    is_filled[rows] = True
    fill(now, root, is_filled, levels[chosen])
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = class_probs(coded, np.log(found.standard_error[origin].numpy()))
        inside, outside = (errors * allowed).sum(axis=1), (errors * ~allowed).sum(axis=1)
        bound = np.where(found.exact[origin].numpy(), 0.0, np.minimum(inside, outside) / total)
        of_rows = Diagnostics(found.exact[origin], found.ess[origin], torch.from_numpy(bound))
        return np.log(total), of_rows


def allowed_levels(
    system: RelationSystem, root: Name, levels: np.ndarray, work: Work, evidence: RelatedEvidence
) -> np.ndarray:
    """Whether levels of a column of the model agree with what is known of those that it determines, bool (n, L)."""
    image_of = system.level_table(root, levels)
    allowed = np.ones((len(work[root].values), len(levels)), dtype=bool)
    for name in system.roots.get(root, ()):
        is_same = image_of[name].values[None] == work[name].values[:, None]
        allowed &= is_same | work[name].is_missing[:, None]
    if root in evidence.of_roots:
        coded = system.codec.columns[system.codec.index(root)]
        allowed &= agrees(coded, evidence.of_roots[root], image_of[root])
    return allowed
