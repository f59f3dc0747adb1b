"""Recovery from divergence: restarts chains, rolls back to a good state, or gives up."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from jointebm.storage.checkpoint import Checkpoint
from jointebm.training.divergence import Diverged, Intervention
from jointebm.training.training_state import TrainingState, prefixed, without_prefix

__all__ = ["Recovery"]

MAX_RESTARTS = 3  # of chains between two snapshots; more is a case for a rollback


class Recovery:
    """Keeps the states that training can return to, and a record of interventions.

    Args:
        state: of training; restored by a rollback.
        max_rollbacks: returns to an earlier state, in all; 0 gives up at the first sign of divergence.
    """

    def __init__(self, state: TrainingState, *, max_rollbacks: int) -> None:
        self._state, self._max_rollbacks = state, max_rollbacks
        self.interventions: list[Intervention] = []
        self.on_intervention: Callable[[Intervention], object] | None = None  # called with each
        self.learning_rate_factor = 1.0  # halved by each rollback
        self._num_restarts = 0  # of chains, since the newest snapshot
        self._snapshots = [state.snapshot()]  # the newest two, the older one first

    def keep(self) -> None:
        """Takes a snapshot, and forgets the oldest."""
        self._snapshots, self._num_restarts = [self._snapshots[-1], self._state.snapshot()], 0

    def intervene(self, trouble: Diverged, restart: Callable[[Tensor | None], int]) -> None:
        """Restarts the offending chains, or rolls back, or gives up by raising.

        Args:
            trouble: the sign of divergence.
            restart: starts these chains of the iteration afresh, bool (N,), None if this process has none, and returns how
                many restart in all processes.
        """
        if self._max_rollbacks == 0 or trouble.kind == "data":
            raise trouble
        if trouble.kind in ("chain", "proposal") and self._num_restarts < MAX_RESTARTS:
            self._num_restarts += 1
            self._record(trouble, "restarted chains", restart(trouble.chains), self._state.iteration)
            return
        num_rollbacks = sum(intervention.action == "rolled back" for intervention in self.interventions)
        if num_rollbacks == self._max_rollbacks:
            raise Diverged(
                trouble.kind,
                f"{trouble.finding}; {num_rollbacks} rollbacks, down to {self.learning_rate_factor:g} of the learning rate, "
                "did not help",
                trouble.chains,
            ) from trouble
        self._roll_back(trouble)

    def state(self) -> Checkpoint:
        """Snapshots and interventions."""
        tensors: dict[str, Tensor] = {}
        for index, snapshot in enumerate(self._snapshots):
            tensors |= prefixed(f"snapshot-{index}", snapshot.tensors)
        plain = {
            "interventions": [intervention._asdict() for intervention in self.interventions],
            "learning_rate_factor": self.learning_rate_factor,
            "num_restarts": self._num_restarts,
            "snapshots": [{"iteration": snapshot.iteration, **snapshot.plain} for snapshot in self._snapshots],
        }
        return Checkpoint(self._state.iteration, tensors, plain)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restores what `state` returned; further tensors are ignored."""
        plain, tensors = checkpoint.plain, {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
        self._snapshots = [
            Checkpoint(snapshot["iteration"], without_prefix(f"snapshot-{index}", tensors), snapshot)
            for index, snapshot in enumerate(plain["snapshots"])
        ]
        self.interventions = [Intervention(**intervention) for intervention in plain["interventions"]]
        self.learning_rate_factor, self._num_restarts = plain["learning_rate_factor"], plain["num_restarts"]

    def _roll_back(self, trouble: Diverged) -> None:
        """Returns to the older snapshot, with half the learning rate."""
        seen_at = self._state.iteration
        self._snapshots = self._snapshots[:1]
        self._state.restore(self._snapshots[0])
        self._num_restarts = 0
        self.learning_rate_factor /= 2
        self._record(trouble, "rolled back", 0, seen_at)

    def _record(
        self, trouble: Diverged, action: Literal["restarted chains", "rolled back"], num_chains: int, seen_at: int
    ) -> None:
        intervention = Intervention(
            iteration=seen_at,
            kind=trouble.kind,
            action=action,
            num_chains=num_chains,
            back_to=self._state.iteration,
            learning_rate_factor=self.learning_rate_factor,
            finding=trouble.finding,
        )
        self.interventions.append(intervention)
        if self.on_intervention is not None:
            self.on_intervention(intervention)
