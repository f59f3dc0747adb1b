"""Checks of data, completions and chains of blocks before every optimizer step.

Legend: N rows of a batch and as many chains.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from jointebm.kernels import Chain, Kernel, parts_of, without_laziness
from jointebm.sampling.checks import check_finite, finite_rows
from jointebm.spaces.space import Position, Space
from jointebm.training.divergence import Diverged, Scales, Sign, blend
from jointebm.training.likelihoods import Phases

__all__ = ["Moved", "Watch"]

MIN_ACCEPT_RATE = 0.01  # of adjusted moves of x, as a running mean
MAX_ESCAPE = 10.0  # distance of a chain from the middle of the data, in half-widths of their range
MIN_SPREAD = 0.05  # variance of the chains relative to that of the data, as a running mean


class Moved(NamedTuple):
    """N chains after the moves of one iteration.

    Args:
        chain: where they are.
        accept_probs: of each kernel of the cycle, mean over steps, shape (number of kernels, N).
        finite: whether f stayed finite all the way, and the score at the end as far as it is known, bool (N,).
    """

    chain: Chain
    accept_probs: Tensor
    finite: Tensor


class Watch:
    """Checks numbers of an iteration: finite, near the data, and not far from what was usual.

    Not every bad run is recognised: an energy that steepens slowly and steadily, for one, passes until chains leave the
    range of the data.

    Args:
        space: the blocks.
        kernel: what moves the chains; the acceptance of its adjusted moves of x is checked.
        scales: what was usual so far.
    """

    def __init__(self, space: Space, kernel: Kernel, scales: Scales) -> None:
        self._space, self._scales = space, scales
        self._adjusted = [index for index, part in enumerate(parts_of(kernel)) if _is_watched(part, space)]

    def check_data(self, positive: Position, where: str) -> None:
        """Raises `Diverged` if a row of data is not finite."""
        rows = len(next(iter(positive.values())))
        data = Chain(positive, next(iter(positive.values())).new_zeros(rows), None)
        self._check_rows("data", data, f"in the positive phase of {where}")

    def check_completions(self, moved: Moved, batch: Position, where: str) -> None:
        """Raises `Diverged` if completions are not finite, or far from the observed entries.

        Args:
            moved: the completed rows after their moves.
            batch: the batch of data, NaN is missing, to compare with.
            where: completes the message, such as "iteration 7".
        """
        phase = f"in the completion of data of {where}"
        self._check_rows("completion", moved.chain, phase)
        lost = ~(moved.finite & moved.accept_probs.isfinite().all(dim=0))
        if bool(lost.any()):
            raise Diverged(
                "completion",
                f"log-density: f, its score or a proposal was not finite on the way, in row {int(lost.nonzero()[0])} "
                f"{phase}",
            )
        observed = {name: batch[name][~batch[name].isnan()] for name in self._space.continuous}
        self._check_range("completion", moved.chain, {n: v for n, v in observed.items() if len(v)}, phase)

    def check_chains(self, moved: Moved, positive: Position, where: str) -> None:
        """Raises `Diverged` if chains are not finite, have collapsed, or no longer move.

        Args:
            moved: the chains after their moves.
            positive: the batch of data, to compare with.
            where: completes the message, such as "iteration 7".
        """
        chain, accept_probs = moved.chain, moved.accept_probs
        self._check_rows("chain", chain, f"in the negative phase of {where}")
        lost = ~moved.finite
        if bool(lost.any()):
            raise Diverged(
                "chain",
                f"log-density: f or its score was not finite on the way, in row {int(lost.nonzero()[0])} in the negative "
                f"phase of {where} ({int(lost.sum())} of {len(lost)} rows)",
                lost,
            )
        data = {name: positive[name] for name in self._space.continuous}
        self._check_range("chain", chain, data, f"in the negative phase of {where}")
        unknown = ~accept_probs.isfinite().all(dim=0)
        if bool(unknown.any()):
            raise Diverged(
                "proposal",
                f"log-density: not a number at a proposal in the negative phase of {where}, in row "
                f"{int(unknown.nonzero()[0])} ({int(unknown.sum())} of {len(unknown)} rows)",
                unknown,
            )
        if self._adjusted:
            rate = float(accept_probs[self._adjusted].mean())
            self._scales.accept_rate = blend(self._scales.accept_rate, rate, 0.95)
            if self._scales.accept_rate < MIN_ACCEPT_RATE:
                raise Diverged("acceptance", f"chains: hardly any move of x is accepted in {where}: {rate:.2g}")
        if self._space.continuous and len(chain.f) > 1:
            self._check_spread(chain.position, positive, where)

    def check_draws(self, chain: Chain, where: str) -> None:
        """Raises `Diverged` if f of draws of the reference is not finite."""
        self._check_rows("chain", chain, f"in the negative phase of {where}")

    def check_phases(self, positive: Position, phases: Phases, energy_gap: float, where: str) -> None:
        """Raises `Diverged` if f or the loss is not finite, or the energy gap explodes."""
        f_positive, f_negative = phases.positive.detach(), phases.negative.detach()
        self._check_rows("f", Chain(positive, f_positive, None), f"in the positive phase of {where}")
        if not bool(f_negative.isfinite().all()):
            rows = ~f_negative.isfinite()
            raise Diverged(
                "chain",
                f"log-density: f is {float(f_negative[rows][0])} in row {int(rows.nonzero()[0])} in the negative phase of "
                f"{where}",
                rows,
            )
        self._scales.check_loss(phases.loss, where)
        self._scales.check_gap(energy_gap, float(f_positive.std(correction=0)), where)

    def _check_rows(self, kind: Sign, chain: Chain, when: str) -> None:
        try:
            check_finite(chain, self._space, when)
        except FloatingPointError as error:
            raise Diverged(kind, str(error), ~finite_rows(chain)) from None

    def _check_range(self, kind: Sign, chain: Chain, data: Position, phase: str) -> None:
        """Raises `Diverged` if chains are far from the data: a slow explosion, which no running scale shows."""
        for name, values in data.items():
            low, high = values.aminmax()
            half_width = (high - low) / 2
            distance = (chain.position[name] - (low + high) / 2).abs().reshape(len(chain.f), -1).amax(dim=1)
            escaped = (distance > MAX_ESCAPE * half_width) & (half_width > 0)
            if bool(escaped.any()):
                raise Diverged(
                    kind,
                    f"block {name!r}: {float(distance.max()):.4g} away from the middle of the data in row "
                    f"{int(distance.argmax())} {phase}, where data reach {float(half_width):.4g} "
                    f"({int(escaped.sum())} of {len(escaped)} rows)",
                    escaped,
                )

    def _check_spread(self, negative: Position, positive: Position, where: str) -> None:
        """Raises `Diverged` if chains are all alike, exactly or nearly."""
        chains, data = (
            torch.cat([position[name].flatten(1) for name in self._space.continuous], dim=1)
            for position in (_as_rows(negative), _as_rows(positive))
        )
        num_different, num_of_data = (len(rows.cpu().double().sum(dim=1).unique()) for rows in (chains, data))
        if 2 * num_different < min(len(chains), num_of_data):
            raise Diverged("buffer", f"chains: only {num_different} of {len(chains)} differ in {where}")
        spread = float(chains.var(dim=0).sum() / data.var(dim=0).sum().clamp(min=torch.finfo(data.dtype).tiny))
        self._scales.spread = blend(self._scales.spread, min(spread, 1.0), 0.95)
        if self._scales.spread < MIN_SPREAD:
            raise Diverged(
                "buffer",
                f"chains: have {self._scales.spread:.2g} of the variance of the data in {where}: nearly all are alike",
            )


def _is_watched(kernel: Kernel, space: Space) -> bool:
    """Whether the acceptance of a kernel is watched: it is adjusted, moves x only, and is applied at every step."""
    if not (kernel.adjusted and space.continuous) or without_laziness(kernel) is not kernel:
        return False
    try:
        kernel.require(Space(**{name: space[name] for name in space.continuous}))
    except ValueError:
        return False
    return True


def _as_rows(position: Position) -> dict[str, Tensor]:
    return {name: value.reshape(len(value), -1) for name, value in position.items()}
