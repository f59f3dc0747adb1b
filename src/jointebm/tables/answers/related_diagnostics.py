"""Diagnostics of some rows among others, for tables whose rows are answered in different ways.

Legend: N rows, n of them.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from jointebm.sampling.diagnostics import Diagnostics

__all__ = ["except_for", "of_rows", "with_rows"]


def of_rows(found: Diagnostics[Tensor], rows: np.ndarray) -> Diagnostics[Tensor]:
    """Those of n rows, by number, from those of N."""
    some = torch.from_numpy(rows)
    error = found.standard_error
    return replace(
        found,
        exact=found.exact[some],
        ess=found.ess[some],
        standard_error=None if error is None else error[some],
        num_jumps=_if_any(None if found.num_jumps is None else found.num_jumps[some]),
    )


def with_rows(found: Diagnostics[Tensor], rows: np.ndarray, other: Diagnostics[Tensor]) -> Diagnostics[Tensor]:
    """Those of N rows, with those of n rows, by number, in their places; rates are averages over the chains of both.

    Example:
        >>> print(with_rows(Diagnostics.of_exact(3), np.array([1]), Diagnostics(torch.tensor([False]), torch.tensor([7.0]))))
        2 of 3 rows exact; ess of the others 7.0 and more
    """
    some = torch.from_numpy(rows)
    exact, ess, error = found.exact.clone(), found.ess.clone(), found.standard_error
    exact[some], ess[some] = other.exact, other.ess.to(ess.dtype)
    jumps = torch.full_like(ess, torch.nan) if found.num_jumps is None else found.num_jumps.clone()
    jumps[some] = torch.nan if other.num_jumps is None else other.num_jumps.to(jumps.dtype)
    if error is not None and other.standard_error is not None:
        error = error.clone()
        error[some] = other.standard_error
    else:
        error = None
    rates = Diagnostics.joined([found, other])
    return replace(rates, exact=exact, ess=ess, standard_error=error, num_jumps=_if_any(jumps))


def except_for(found: Diagnostics[Tensor], rows: np.ndarray) -> Diagnostics[Tensor]:
    """With these rows, bool (N,), as if they were exact, so that nothing warns about them."""
    return replace(found, exact=found.exact | torch.from_numpy(rows))


def _if_any(jumps: Tensor | None) -> Tensor | None:
    """Jumps, or None without any chain."""
    return None if jumps is None or bool(jumps.isnan().all()) else jumps
