"""Signs that training has gone wrong, looked for before every optimizer step.

Legend: N rows of a batch and as many chains.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from jointebm.kernels import Chain, Kernel, parts_of, without_laziness
from jointebm.sampling.checks import check_finite, finite_rows
from jointebm.spaces.space import Position, Space
from jointebm.training.objectives import Phases

__all__ = ["Diverged", "Intervention", "Kind", "Moved", "Watch"]

Kind = Literal["data", "completion", "f", "chain", "proposal", "buffer", "acceptance", "energy gap", "loss", "gradient"]

# What most likely brought each about, and what to turn.
_CAUSES: dict[Kind, str] = {
    "data": "complete or leave out such rows, or give missing entries as NaN with the numbers of the rows",
    "completion": "the sampler steps too far for how steep f has become: set a smaller step_size or learning_rate",
    "f": "the network overflows on data: set a smaller learning_rate",
    "chain": "the sampler steps too far for how steep f has become: set a smaller step_size, or a smaller learning_rate",
    "proposal": "the sampler steps too far for how steep f has become: set a smaller step_size, or a smaller learning_rate",
    "buffer": "the model has lost all modes but one, or chains hardly move: set a larger replacement_rate or num_steps",
    "acceptance": "f has become too steep for the sampler: set a smaller step_size or learning_rate, or noisier data",
    "energy gap": "f changes faster than the chains follow: set a smaller learning_rate or step_size, or more num_steps",
    "loss": "the network overflows: set a smaller learning_rate",
    "gradient": "f changes too fast: set a smaller learning_rate",
}

MAX_GROWTH = 20.0  # of the energy gap over its running scale
MAX_GRADIENT_GROWTH = 1000.0  # of the gradient's norm over its running mean
MIN_ACCEPT_RATE = 0.01  # of adjusted moves of x, as a running mean
MAX_ESCAPE = 10.0  # distance of a chain from the middle of the data, in half-widths of their range
MIN_SPREAD = 0.05  # variance of the chains relative to that of the data, as a running mean
SETTLED = 100  # iterations before running scales are trusted


class Diverged(FloatingPointError):  # noqa: N818  # what happened, not an error of the program
    """Numbers that must not be learned from.

    Args:
        kind: which sign it was.
        message: what was found where.
        chains: the offending chains, bool (N,); None if it is not about single chains.
    """

    def __init__(self, kind: Kind, message: str, chains: Tensor | None = None) -> None:
        super().__init__(f"{message}. Likely cause and way out: {_CAUSES[kind]}")
        self.kind, self.finding, self.chains = kind, message, chains


class Intervention(NamedTuple):
    """What training did about a sign of divergence; nothing was learned from the numbers that showed it.

    Args:
        iteration: number of updates done when it was seen.
        kind: which sign it was.
        action: "restarted chains" from noise, or "rolled back" to an earlier state with half the learning rate.
        num_chains: how many chains were restarted.
        back_to: iteration that training goes on from.
        learning_rate_factor: what the schedule's learning rate is multiplied by from now on.
        finding: what was found where.
    """

    iteration: int
    kind: Kind
    action: Literal["restarted chains", "rolled back"]
    num_chains: int
    back_to: int
    learning_rate_factor: float
    finding: str

    def __str__(self) -> str:
        what = (
            f"{self.num_chains} chains restarted"
            if self.action == "restarted chains"
            else f"rolled back to {self.back_to}, learning rate times {self.learning_rate_factor:g}"
        )
        return f"iteration {self.iteration + 1}: {what} ({self.kind}: {self.finding})"


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
    """Compares each iteration with what is finite, and with what was usual so far.

    Scales are running means over healthy iterations, so that nothing depends on the units of f. Not every bad run is
    recognised: an energy that steepens slowly and steadily, for one, looks healthy until chains leave the range of the data.

    Args:
        space: the blocks.
        kernel: what moves the chains; the acceptance of its adjusted moves of x is watched.
    """

    def __init__(self, space: Space, kernel: Kernel) -> None:
        self._space = space
        self._adjusted = [index for index, part in enumerate(parts_of(kernel)) if _is_watched(part, space)]
        self.num_healthy = 0
        self.gap_scale, self.gradient_scale, self.accept_rate, self.spread = 0.0, 0.0, 1.0, 1.0

    def state(self) -> dict[str, Any]:
        """The running scales, as JSON data."""
        names = ("num_healthy", "gap_scale", "gradient_scale", "accept_rate", "spread")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state` returned."""
        for name, value in state.items():
            setattr(self, name, value)

    def check_data(self, positive: Position, where: str) -> None:
        """Raises `Diverged` if a row of data is not finite."""
        rows = len(next(iter(positive.values())))
        data = Chain(positive, next(iter(positive.values())).new_zeros(rows), None)
        self._check_rows("data", data, f"in the positive phase of {where}")

    def check_completions(self, moved: Moved, batch: Position, where: str) -> None:
        """Raises `Diverged` if what completes rows of data is not finite, or far from what is observed.

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
            self.accept_rate = _blend(self.accept_rate, rate, 0.95)
            if self.accept_rate < MIN_ACCEPT_RATE:
                raise Diverged("acceptance", f"chains: hardly any move of x is accepted in {where}: {rate:.2g}")
        if self._space.continuous and len(chain.f) > 1:
            self._check_spread(chain.position, positive, where)

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
        if not bool(phases.loss.isfinite()):
            raise Diverged("loss", f"loss: {float(phases.loss.detach())} in {where}")
        if self.num_healthy >= SETTLED and abs(energy_gap) > MAX_GROWTH * self.gap_scale:
            raise Diverged(
                "energy gap",
                f"energy gap: {energy_gap:.4g} nats in {where}, where {self.gap_scale:.4g} was usual",
            )
        scale = abs(energy_gap) + float(f_positive.std(correction=0))
        self.gap_scale = self._running(self.gap_scale, scale)

    def check_gradient(self, norms: Mapping[str, Tensor], where: str) -> float:
        """Raises `Diverged` if a gradient is not finite or explodes; returns the norm of all.

        Args:
            norms: Euclidean norm of each parameter's gradient, by the parameter's name.
            where: completes the message.
        """
        stacked = torch.stack(list(norms.values()))
        if not bool(stacked.isfinite().all()):
            name = list(norms)[int((~stacked.isfinite()).nonzero()[0])]
            raise Diverged("gradient", f"gradient: not finite in parameter {name!r} in {where}")
        norm = float(stacked.double().norm())
        if self.num_healthy >= SETTLED and norm > MAX_GRADIENT_GROWTH * self.gradient_scale:
            raise Diverged(
                "gradient", f"gradient: norm {norm:.4g} in {where}, where {self.gradient_scale:.4g} was usual"
            )
        self.gradient_scale = self._running(self.gradient_scale, norm)
        self.num_healthy += 1
        return norm

    def _check_rows(self, kind: Kind, chain: Chain, when: str) -> None:
        try:
            check_finite(chain, self._space, when)
        except FloatingPointError as error:
            raise Diverged(kind, str(error), ~finite_rows(chain)) from None

    def _check_range(self, kind: Kind, chain: Chain, data: Position, phase: str) -> None:
        """Looks for chains that have left the data far behind: a slow explosion, which no running scale would show."""
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
        """Looks for chains that have become one and the same, exactly or nearly."""
        chains, data = (
            torch.cat([position[name].flatten(1) for name in self._space.continuous], dim=1)
            for position in (_as_rows(negative), _as_rows(positive))
        )
        num_different, num_of_data = (len(rows.double().sum(dim=1).unique()) for rows in (chains, data))
        if 2 * num_different < min(len(chains), num_of_data):
            raise Diverged("buffer", f"chains: only {num_different} of {len(chains)} differ in {where}")
        spread = float(chains.var(dim=0).sum() / data.var(dim=0).sum().clamp(min=torch.finfo(data.dtype).tiny))
        self.spread = _blend(self.spread, min(spread, 1.0), 0.95)
        if self.spread < MIN_SPREAD:
            raise Diverged(
                "buffer",
                f"chains: have {self.spread:.2g} of the variance of the data in {where}: they are nearly all alike",
            )

    def _running(self, scale: float, value: float) -> float:
        return _blend(scale, value, min(0.99, self.num_healthy / (self.num_healthy + 1)))


def _is_watched(kernel: Kernel, space: Space) -> bool:
    """Whether the acceptance of a kernel is watched: it is adjusted, moves x only, and is applied at every step."""
    if not (kernel.adjusted and space.continuous) or without_laziness(kernel) is not kernel:
        return False
    try:
        kernel.require(Space(**{name: space[name] for name in space.continuous}))
    except ValueError:
        return False
    return True


def _blend(old: float, new: float, weight: float) -> float:
    return weight * old + (1 - weight) * new


def _as_rows(position: Position) -> dict[str, Tensor]:
    return {name: value.reshape(len(value), -1) for name, value in position.items()}
