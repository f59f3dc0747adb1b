"""Draws of the missing entries of rows: from the reference, then corrected by weights, jumps and sweeps.

Legend: N rows, V columns, K_j classes of column j, D draws.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from jointebm.randomness.row_streams import RowStream
from jointebm.sampling.diagnostics import ConvergenceWarning
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.moves import chain_at, jump, sweep, towards

__all__ = ["corrected_draws", "log_mean_of_draws", "warn_of_draws", "warn_of_jumps"]

CHAINS = 128  # moved at once
NUM_STARTS = 16  # draws of the reference that a chain's start is chosen from
MIN_ROW_ESS = 10.0  # effective draws, below which an average over draws is not to be trusted
ROWS_PER_VECTOR = 64  # a multiple of the vector length of every processor
MIN_ROW_JUMPS = 0.1  # accepted by a chain, on average over chains


@torch.no_grad()
def corrected_draws(
    energy: TableEnergy, codes: Tensor, stream: RowStream, num_sweeps: int, log_weights: Sequence[Tensor | None] | None
) -> tuple[Tensor, Tensor]:
    """One draw of the missing entries of at most `CHAINS` rows, padded to that number, and the accepted jumps of each.

    Args:
        energy: F.
        codes: shape (N, V), -1 is missing.
        stream: of these rows.
        num_sweeps: sweeps over the missing entries, and as many jumps of all of them.
        log_weights: per column, added to F of its classes where it is missing, shape (K_j,), or None.

    Returns:
        (codes, num_accepted): completed codes, shape (N, V), and shape (N,).
    """
    num_rows, num_columns = codes.shape
    filler = torch.arange(CHAINS) % num_rows
    codes, stream = codes[filler], stream.select(filler)
    free = codes < 0
    # Counters are fixed in advance: those of the candidates, then in each sweep those of a jump and of every column.
    candidates = [
        chain_at(
            energy,
            energy.reference.draw(codes, stream.at(number * (num_columns + 1)), evidence=log_weights),
        )
        for number in range(NUM_STARTS)
    ]
    residuals = torch.stack([each.residual for each in candidates], dim=1)
    chosen = stream.at(NUM_STARTS * (num_columns + 1)).choose(residuals)
    state = candidates[0]
    for number, candidate in enumerate(candidates):
        state = towards(state, candidate, chosen == number)
    num_accepted = torch.zeros(CHAINS)
    for number in range(num_sweeps):
        first = (NUM_STARTS + 3 * number) * (num_columns + 2)

        def generators(column: int, first: int = first) -> RowStream:
            return stream.at(first + num_columns + 2 + 2 * column)

        state, accepted = jump(energy, state, free=free, generator=stream.at(first), log_weights=log_weights)
        num_accepted += accepted
        state = sweep(energy, state, free=free, generators=generators, log_weights=log_weights)
    return state.codes[:num_rows], num_accepted[:num_rows]


def warn_of_jumps(num_accepted: Tensor) -> None:
    """Warns if hardly a chain has accepted a jump, unless so few chains may have had bad luck."""
    rate = float(num_accepted.mean())
    if float(num_accepted.sum()) < MIN_ROW_JUMPS * len(num_accepted) - 2:
        warnings.warn(
            f"chains hardly cross between groups of rows: {rate:.3f} accepted jumps per chain. Draws keep the weights of "
            "these groups in the reference; use a larger num_sweeps",
            ConvergenceWarning,
            stacklevel=4,
        )


def warn_of_draws(log_weights: Tensor) -> None:
    """Warns if rows have few effective draws, of log-weights (D, N)."""
    sizes = (2 * log_weights.logsumexp(dim=0) - (2 * log_weights).logsumexp(dim=0)).exp()
    num_poor = int((sizes < min(MIN_ROW_ESS, len(log_weights) / 4)).sum())
    if num_poor:
        warnings.warn(
            f"{num_poor} of {len(sizes)} rows with missing entries have fewer than {MIN_ROW_ESS:g} effective draws, so "
            "their log-density is too low; use a larger num_draws",
            ConvergenceWarning,
            stacklevel=4,
        )


def log_mean_of_draws(of_draws: Tensor) -> Tensor:
    """log of the mean over draws of probabilities, shape (D, N, K) to (N, K).

    Summed draw by draw and in whole vectors: torch's sum over an axis, and exponentials of partial vectors, round
    differently at the end of a batch.
    """
    num_rows = of_draws.shape[1]
    padded = pad(of_draws.double(), (0, 0, 0, -num_rows % ROWS_PER_VECTOR))
    peak = padded.amax(dim=0)
    total = torch.zeros_like(peak)
    for each in padded:
        total += (each - peak).exp()
    return ((total / len(padded)).log() + peak)[:num_rows].to(of_draws.dtype)
