"""Probabilities of several columns together, by the chain rule over their codes.

Legend: N rows, V columns, K_j codes and L_j classes of target j.
"""

from collections.abc import Sequence

import numpy as np
import torch

from jointebm.tables.answers.fitted import FittedTable, Rows
from jointebm.tables.answers.predictions import class_probs
from jointebm.tables.codes.codec import Name

__all__ = ["joint_class_probs"]


def joint_class_probs(fitted: FittedTable, rows: Rows, names: Sequence[Name]) -> np.ndarray:
    """p(values of the targets | rest of the row), shape (N, L_1, L_2, ...).

        p(c_1, c_2, ... | x) = p(c_1 | x) p(c_2 | x, c_1) ...

    Within a code, levels that share it have the same shares whatever else the row holds.

    Args:
        fitted: of the table.
        rows: in which the targets are missing.
        names: of the targets, which have classes.
    """
    num_rows = len(rows.codes)
    places = [fitted.codec.index(name) for name in names]
    codes, log_probs = rows.codes, np.zeros((num_rows, 1))  # (N * configurations so far)
    for name, place in zip(names, places, strict=True):
        num = fitted.codec.num_codes[place]
        found = fitted.log_predictive(rows._replace(codes=codes), name)
        log_probs = (log_probs.reshape(-1, 1) + found).reshape(num_rows, -1)
        codes = codes.repeat_interleave(num, dim=0)
        codes[:, place] = torch.arange(num).repeat(len(found))
    joint = log_probs.reshape(num_rows, *[fitted.codec.num_codes[place] for place in places])
    for axis, place in enumerate(places, start=1):
        last = np.moveaxis(joint, axis, -1)
        levels = class_probs(fitted.codec.columns[place], last.reshape(-1, last.shape[-1]))
        with np.errstate(divide="ignore"):
            joint = np.moveaxis(np.log(levels).reshape(*last.shape[:-1], -1), -1, axis)
    return np.exp(joint)
