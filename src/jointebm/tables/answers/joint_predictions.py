"""Probabilities of several columns together, by the chain rule over their classes.

Legend: N rows, L_j classes of target j, C combinations of the classes of some targets.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jointebm.sampling.diagnostics import Answer, ConvergenceWarning, Diagnostics
from jointebm.tables.answers.answering import Answering
from jointebm.tables.answers.predictions import class_errors, class_probs, classes
from jointebm.tables.codes.codec import Name, TableCodec

__all__ = ["joint_class_probs", "require_few_combinations"]

MAX_COMBINATIONS = 4096  # of classes of several targets


def require_few_combinations(codec: TableCodec, names: Sequence[Name]) -> None:
    """Raises ValueError if columns have too many combinations of their classes, or one has no classes."""
    num = math.prod(len(classes(codec.columns[codec.index(name)])) for name in names)
    if num > MAX_COMBINATIONS:
        raise ValueError(
            f"predict_joint_proba: got {num} combinations of classes, expected at most {MAX_COMBINATIONS}; call "
            "draw_joint(X, targets, num) and count"
        )


def joint_class_probs(fitted: Answering, rows: Any, num_rows: int, names: Sequence[Name]) -> Answer[np.ndarray]:
    """p(values of the targets | rest of the row), shape (N, L_1, L_2, ...), with standard errors.

        p(v_1, v_2, ... | x) = p(v_1 | x) p(v_2 | x, v_1) ...

    Errors of factors add up as those of independent estimates, which they are: their draws have streams of their own.

    Args:
        fitted: of the table.
        rows: that it has read, in which the targets are missing.
        num_rows: N.
        names: of the targets, which have classes.
    """
    asked, shape, probs, errors = rows, [num_rows], np.ones(num_rows), np.zeros(num_rows)  # (N * C) of the last two
    numbers = np.arange(num_rows)  # of the combinations that have a probability
    found = {}
    for place, name in enumerate(names):
        coded = fitted.codec.columns[fitted.codec.index(name)]
        values = classes(coded)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # all factors warn together, at the end
            answer = fitted.predictive_answer(rows, name)
        found[name] = _of_rows(answer.diagnostics, numbers // math.prod(shape[1:]), probs[numbers], num_rows)
        factor, its_errors = class_probs(coded, answer.value), class_errors(coded, answer.diagnostics.numpy())
        before, error_before = probs[numbers, None], errors[numbers, None]
        joint, errors = np.zeros((len(probs), len(values))), np.repeat(errors[:, None], len(values), axis=1)
        joint[numbers] = before * factor
        with np.errstate(invalid="ignore"):
            errors[numbers] = np.hypot(error_before * factor, before * its_errors)
        errors[np.isnan(errors)] = np.inf  # of a probability of zero with an unknown error
        possible, probs, errors = np.flatnonzero(joint[numbers]), joint.reshape(-1), errors.reshape(-1)
        numbers = (numbers[:, None] * len(values) + np.arange(len(values))).reshape(-1)[possible]
        shape.append(len(values))
        if place < len(names) - 1:
            rows = fitted.with_class(rows, possible // len(values), name, values[possible % len(values)])
    together = replace(Diagnostics.together(found), standard_error=torch.from_numpy(errors.reshape(shape)))
    fitted.warn(asked, together, "predict_joint_proba")
    return Answer(probs.reshape(shape), together)


def _of_rows(found: Diagnostics[Tensor], origin: np.ndarray, probs: np.ndarray, num_rows: int) -> Diagnostics[Tensor]:
    """Of N rows, from those of combinations of classes: means by the probability of each, of 1 / ess and of jumps.

    Args:
        found: of the combinations that have a probability.
        origin: the row of each.
        probs: of each.
        num_rows: N.
    """
    places, shares = torch.from_numpy(origin), torch.from_numpy(probs)

    def total(of_each: Tensor) -> Tensor:
        return torch.zeros(num_rows, dtype=torch.float64).index_add_(0, places, of_each.double())

    jumps = found.num_jumps
    if jumps is not None:
        moved = ~jumps.isnan()
        jumps = total(shares * jumps.nan_to_num()) / total(shares * moved)
    exact = total(~found.exact) == 0
    return replace(found, exact=exact, ess=total(shares) / total(shares / found.ess), num_jumps=jumps)
