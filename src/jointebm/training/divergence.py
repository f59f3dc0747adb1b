"""Signs of divergence, what training did about them, and the running scales that they are compared with.

Legend: N chains of a batch.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["Diverged", "Intervention", "Scales", "Sign", "blend"]

Sign = Literal["data", "completion", "f", "chain", "proposal", "buffer", "acceptance", "energy gap", "loss", "gradient"]

# The likely cause of each, and its fix.
_CAUSES: dict[Sign, str] = {
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
SETTLED = 100  # iterations before running scales are trusted


class Diverged(FloatingPointError):  # noqa: N818  # what happened, not an error of the program
    """Numbers that must not be learned from.

    Args:
        kind: the sign of divergence.
        message: the finding and its place.
        chains: the offending chains of this process, bool (N,); None if it has none, or the sign is not about single ones.
        num_elsewhere: offending chains of other processes.
    """

    def __init__(self, kind: Sign, message: str, chains: Tensor | None = None, *, num_elsewhere: int = 0) -> None:
        super().__init__(f"{message}. Likely cause and fix: {_CAUSES[kind]}")
        self.kind, self.finding, self.chains, self.num_elsewhere = kind, message, chains, num_elsewhere


class Intervention(NamedTuple):
    """A sign of divergence and the action against it; nothing was learned from the numbers that showed it.

    Args:
        iteration: number of updates done when it was seen.
        kind: the sign.
        action: "restarted chains", or "rolled back" to an earlier state with half the learning rate.
        num_chains: number of restarted chains.
        back_to: iteration at which training resumes.
        learning_rate_factor: factor of the schedule's learning rate from now on.
        finding: the finding and its place.
    """

    iteration: int
    kind: Sign
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


class Scales:
    """Running means over healthy iterations, so that no check depends on the units of f.

    A slow and steady divergence is not noticed: what is usual moves along with it.
    """

    def __init__(self) -> None:
        self.num_healthy = 0
        self.gap_scale, self.gradient_scale, self.accept_rate, self.spread = 0.0, 0.0, 1.0, 1.0

    def state(self) -> dict[str, Any]:
        """All of them, as JSON data."""
        return dict(vars(self))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        if state.keys() != vars(self).keys():
            raise ValueError(f"checkpoint: expected the scales {', '.join(vars(self))}, got {', '.join(state)}")
        vars(self).update(state)

    def check_loss(self, loss: Tensor, where: str) -> None:
        """Raises `Diverged` if the loss is not finite."""
        if not bool(loss.isfinite()):
            raise Diverged("loss", f"loss: {float(loss.detach())} in {where}")

    def check_gap(self, energy_gap: float, spread: float, where: str) -> None:
        """Raises `Diverged` if the energy gap explodes.

        Args:
            energy_gap: mean f of the data minus mean f of the chains, nats.
            spread: standard deviation of f over the data, nats.
            where: completes the message, such as "iteration 7".
        """
        if self.num_healthy >= SETTLED and abs(energy_gap) > MAX_GROWTH * self.gap_scale:
            raise Diverged(
                "energy gap",
                f"energy gap: {energy_gap:.4g} nats in {where}, where {self.gap_scale:.4g} was usual",
            )
        self.gap_scale = self._running(self.gap_scale, abs(energy_gap) + spread)

    def check_gradient(self, norms: Mapping[str, Tensor], where: str) -> float:
        """Raises `Diverged` if a gradient is not finite or explodes; returns the norm of all.

        Args:
            norms: Euclidean norm of each parameter's gradient, by the parameter's name.
            where: completes the message.
        """
        stacked = torch.stack(list(norms.values())).cpu()
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

    def _running(self, scale: float, value: float) -> float:
        return blend(scale, value, min(0.99, self.num_healthy / (self.num_healthy + 1)))


def blend(old: float, new: float, weight: float) -> float:
    """The running mean `old` with the share 1 - `weight` of `new`."""
    return weight * old + (1 - weight) * new
