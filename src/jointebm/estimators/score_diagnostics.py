"""Diagnostics of scores of rows, whose estimates are those of a log-density or of predictions of each column."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from jointebm.sampling.diagnostics import ConvergenceWarning, Diagnostics
from jointebm.tables.answers.answering import Answering
from jointebm.tables.codes.codec import Name
from jointebm.tables.frames.reading import Frame

__all__ = ["conditional_diagnostics", "dependence_diagnostics"]


def dependence_diagnostics(fitted: Answering, frame: Frame) -> Diagnostics[Tensor]:
    """Of `Answering.dependence`: of log p of the observed codes, as all else is exact."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the scores have warned
        return fitted.log_density(fitted.rows(frame.table, frame.num_rows)).diagnostics


def conditional_diagnostics(fitted: Answering, frame: Frame, names: Sequence[Name]) -> Diagnostics[Tensor]:
    """Of scores of single entries given the others: of each row the least of all columns, without standard errors."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name in names:
            rows = fitted.rows(frame.table, frame.num_rows, missing=[name])
            found[name] = fitted.predictive_answer(rows, name).diagnostics
    return replace(Diagnostics.together(found), standard_error=None)
