"""What training does about divergence: restarts chains, goes back to a good state, or gives up."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from jointebm.randomness.draws import Generator
from jointebm.storage.checkpoint import Checkpoint
from jointebm.training.divergence import Diverged, Intervention
from jointebm.training.learner import Learner, prefixed, without_prefix
from jointebm.training.replay_buffer import Drawn

__all__ = ["Recovery"]

MAX_RESTARTS = 3  # of chains between two snapshots; more is a case for a rollback


class Recovery:
    """Keeps the states that training can go back to, and what was done so far.

    Args:
        learner: what is put back.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self.interventions: list[Intervention] = []
        self.on_intervention: Callable[[Intervention], object] | None = None  # is told of each as it happens
        self.learning_rate_factor = 1.0  # halved by each rollback
        self._num_restarts = 0  # of chains, since the newest snapshot
        self._snapshots = [learner.snapshot()]  # the newest two, the older one first

    def keep(self) -> None:
        """Takes a snapshot of what is learned now, and forgets the oldest."""
        self._snapshots, self._num_restarts = [self._snapshots[-1], self._learner.snapshot()], 0

    def intervene(self, trouble: Diverged, drawn: Drawn, *, max_rollbacks: int, generator: Generator) -> None:
        """Restarts the offending chains, or rolls back, or gives up by raising.

        Args:
            trouble: the sign of divergence.
            drawn: the chains that were on their way, as they were drawn.
            max_rollbacks: returns to an earlier state, in all; 0 gives up at the first trouble.
            generator: source of the noise that chains restart from.
        """
        if max_rollbacks == 0 or trouble.kind == "data":
            raise trouble
        if trouble.kind in ("chain", "proposal") and self._num_restarts < MAX_RESTARTS:
            assert trouble.chains is not None
            self._restart(trouble, drawn.slots[trouble.chains], generator)
            return
        num_rollbacks = sum(intervention.action == "rolled back" for intervention in self.interventions)
        if num_rollbacks == max_rollbacks:
            raise Diverged(
                trouble.kind,
                f"{trouble.finding}; {num_rollbacks} rollbacks, down to {self.learning_rate_factor:g} of the learning rate, "
                "did not help",
                trouble.chains,
            ) from trouble
        self._roll_back(trouble)

    def state(self) -> Checkpoint:
        """The snapshots, and what was done so far."""
        tensors: dict[str, Tensor] = {}
        for index, snapshot in enumerate(self._snapshots):
            tensors |= prefixed(f"snapshot-{index}", snapshot.tensors)
        plain = {
            "interventions": [intervention._asdict() for intervention in self.interventions],
            "learning_rate_factor": self.learning_rate_factor,
            "num_restarts": self._num_restarts,
            "snapshots": [{"iteration": snapshot.iteration, **snapshot.plain} for snapshot in self._snapshots],
        }
        return Checkpoint(self._learner.iteration, tensors, plain)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Puts back what `state` returned; of more than that, takes what it needs."""
        plain, tensors = checkpoint.plain, {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
        self._snapshots = [
            Checkpoint(snapshot["iteration"], without_prefix(f"snapshot-{index}", tensors), snapshot)
            for index, snapshot in enumerate(plain["snapshots"])
        ]
        self.interventions = [Intervention(**intervention) for intervention in plain["interventions"]]
        self.learning_rate_factor, self._num_restarts = plain["learning_rate_factor"], plain["num_restarts"]

    def _restart(self, trouble: Diverged, slots: Tensor, generator: Generator) -> None:
        """Puts fresh chains in the place of the offending ones."""
        self._num_restarts += 1
        buffer = self._learner.buffer
        buffer.write(slots, buffer.noise.draw(len(slots), generator=generator))
        self._record(trouble, "restarted chains", len(slots), self._learner.iteration)

    def _roll_back(self, trouble: Diverged) -> None:
        """Goes back to the older snapshot, and on with half the learning rate."""
        seen_at = self._learner.iteration
        self._snapshots = self._snapshots[:1]
        self._learner.restore(self._snapshots[0])
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
            back_to=self._learner.iteration,
            learning_rate_factor=self.learning_rate_factor,
            finding=trouble.finding,
        )
        self.interventions.append(intervention)
        if self.on_intervention is not None:
            self.on_intervention(intervention)
