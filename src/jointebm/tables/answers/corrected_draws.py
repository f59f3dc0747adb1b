"""Draws of the missing entries of rows: from the proposal, then corrected by weights, jumps and sweeps.

Legend: N rows, V columns, K_j classes of column j, D draws.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from jointebm.randomness.row_streams import RowStream
from jointebm.sampling.diagnostics import Diagnostics, HalfChains
from jointebm.sampling.weighted_draws import effective_size
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.moves import jump, propose, sweep, towards

__all__ = ["ChainEnds", "corrected_draws", "log_mean_of_draws"]

CHAINS = 128  # moved at once
NUM_STARTS = 16  # draws of the proposal that a chain's start is chosen from
ROWS_PER_VECTOR = 64  # a multiple of the vector length of every processor


class ChainEnds(NamedTuple):
    """The last states of N chains, and how they came there.

    Args:
        codes: completed, shape (N, V).
        ess: effective number of the candidates of each start, shape (N,), float64.
        num_jumps: that each chain has accepted, shape (N,), float64.
        swept: share of the moves of single columns that each chain has accepted, shape (N,), float64.
        residuals: g after each sweep, shape (T, N).
    """

    codes: Tensor
    ess: Tensor
    num_jumps: Tensor
    swept: Tensor
    residuals: Tensor

    @staticmethod
    def joined(parts: "Sequence[ChainEnds]") -> "ChainEnds":
        """Of several batches, one after the other."""
        codes, ess, num_jumps, swept = (torch.cat(each) for each in list(zip(*parts, strict=True))[:4])
        return ChainEnds(codes, ess, num_jumps, swept, torch.cat([part.residuals for part in parts], dim=1))

    def diagnostics(self, conditions: Tensor) -> Diagnostics[Tensor]:
        """Of these chains; `conditions` numbers what was known, shape (N,)."""
        num_sweeps = len(self.residuals)
        halves = HalfChains(num_sweeps) if num_sweeps >= 4 else None
        for each in self.residuals if halves is not None else ():
            halves.add(each[:, None])  # type: ignore[union-attr]
        return Diagnostics(
            exact=torch.zeros_like(self.ess, dtype=torch.bool),
            ess=self.ess,
            num_jumps=self.num_jumps,
            accept_rate={"Jump": float(self.num_jumps.mean()) / num_sweeps, "Sweep": float(self.swept.mean())},
            r_hat=None if halves is None else halves.r_hat(conditions),
        )


@torch.no_grad()
def corrected_draws(
    energy: TableEnergy, codes: Tensor, stream: RowStream, num_sweeps: int, log_weights: Sequence[Tensor | None] | None
) -> ChainEnds:
    """One draw of the missing entries of at most `CHAINS` rows, padded to that number.

    Args:
        energy: F.
        codes: shape (N, V), -1 is missing.
        stream: of these rows.
        num_sweeps: sweeps over the missing entries, and as many jumps of all of them.
        log_weights: per column, added to F of its classes where it is missing, shape (K_j,), or None.
    """
    num_rows, num_columns = codes.shape
    filler = torch.arange(CHAINS, device=codes.device) % num_rows
    codes, stream = codes[filler], stream.select(filler)
    free = codes < 0
    # Counters are fixed in advance: those of the candidates, then in each sweep those of a jump and of every column.
    candidates = [
        propose(energy, codes, stream.at(number * (num_columns + 1)), log_weights=log_weights)
        for number in range(NUM_STARTS)
    ]
    of_candidates = torch.stack([each.log_weights for each in candidates], dim=1)
    chosen = stream.at(NUM_STARTS * (num_columns + 1)).choose(of_candidates)
    state = candidates[0].state
    for number, candidate in enumerate(candidates):
        state = towards(state, candidate.state, chosen == number)
    num_jumps, way = of_candidates.new_zeros(CHAINS, dtype=torch.float64), []
    num_moves = torch.zeros_like(num_jumps)
    for number in range(num_sweeps):
        first = (NUM_STARTS + 3 * number) * (num_columns + 2)

        def generators(column: int, first: int = first) -> RowStream:
            return stream.at(first + num_columns + 2 + 2 * column)

        state, accepted = jump(energy, state, free=free, generator=stream.at(first), log_weights=log_weights)
        num_jumps += accepted
        state, moved = sweep(energy, state, free=free, generators=generators, log_weights=log_weights)
        num_moves += moved
        way.append(state.residual[:num_rows])
    ess = effective_size(of_candidates[:num_rows].double())
    swept = num_moves / (num_sweeps * free.sum(dim=1))
    return ChainEnds(state.codes[:num_rows], ess, num_jumps[:num_rows], swept[:num_rows], torch.stack(way))


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
