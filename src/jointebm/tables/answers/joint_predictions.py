"""Probabilities of several columns together, by the chain rule over their classes.

Legend: N rows, L_j classes of target j.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jointebm.tables.answers.answering import Answering
from jointebm.tables.answers.predictions import class_probs, classes
from jointebm.tables.codes.codec import Name

__all__ = ["joint_class_probs"]


def joint_class_probs(fitted: Answering, rows: Any, num_rows: int, names: Sequence[Name]) -> np.ndarray:
    """p(values of the targets | rest of the row), shape (N, L_1, L_2, ...).

        p(v_1, v_2, ... | x) = p(v_1 | x) p(v_2 | x, v_1) ...

    Args:
        fitted: of the table.
        rows: that it has read, in which the targets are missing.
        num_rows: N.
        names: of the targets, which have classes.
    """
    shape, probs = [num_rows], np.ones(num_rows)  # (N * combinations so far)
    numbers = np.arange(num_rows)  # of the combinations that have a probability
    for place, name in enumerate(names):
        coded = fitted.codec.columns[fitted.codec.index(name)]
        values = classes(coded)
        joint = np.zeros((len(probs), len(values)))
        joint[numbers] = probs[numbers, None] * class_probs(coded, fitted.log_predictive(rows, name))
        possible, probs = np.flatnonzero(joint[numbers]), joint.reshape(-1)
        numbers = (numbers[:, None] * len(values) + np.arange(len(values))).reshape(-1)[possible]
        shape.append(len(values))
        if place < len(names) - 1:
            rows = fitted.with_class(rows, possible // len(values), name, values[possible % len(values)])
    return probs.reshape(shape)
