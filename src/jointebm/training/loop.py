"""The training loop, without any knowledge of what is trained.

An iteration: attempt, tell the other processes, backward, sum and check the gradient; if there is a sign of divergence in
any process, recover in all of them and try again; then commit, update, average, take a snapshot every `snapshot_every`
iterations. A `Problem` says what is drawn, moved and minimised.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor, nn

from jointebm.storage.checkpoint import Checkpoint
from jointebm.training.divergence import Diverged, Intervention, Scales
from jointebm.training.recovery import Recovery
from jointebm.training.shared_attempts import Attempt, account_of, own_loss, raise_agreed, shared_scales
from jointebm.training.training_state import Descent, TrainingState
from jointebm.training.world import ALONE, World

__all__ = ["Loop", "Problem", "Update"]

D = TypeVar("D")  # rows of data and chains, as drawn
A = TypeVar("A", bound=Attempt)


class Problem(Protocol[D, A]):
    """What is trained: its parameters, where data and chains come from, and the loss.

    Args:
        module: its parameters; trained in place.
        scales: what was usual so far; an attempt compares itself with them.
    """

    @property
    def module(self) -> nn.Module: ...

    @property
    def scales(self) -> Scales: ...

    def draw(self) -> D:
        """Draws rows of data, and the chains that move in this iteration."""
        ...

    def attempt(self, drawn: D, where: str) -> A:
        """Moves chains and completions and evaluates the loss; changes nothing that lasts.

        Raises:
            Diverged: a number is not finite, or far from what was usual.
        """
        ...

    def pooled(self, attempt: A, numbers: Sequence[Mapping[str, Any]]) -> A:
        """The attempt with the numbers of all processes in place of its own."""
        ...

    def commit(self, drawn: D, attempt: A) -> None:
        """Keeps the chains and completions of an attempt."""
        ...

    def restart(self, drawn: D, chains: Tensor) -> int:
        """Starts offending chains afresh, bool (N,); returns how many."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Chains and completions by name; they change with the next commit."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned, and takes the tensors over."""
        ...


class Update(NamedTuple, Generic[A]):
    """One iteration.

    Args:
        iteration: number of updates done.
        attempt: what was learned from.
        grad_norm: Euclidean norm of the gradient of the parameters.
        learning_rate: used for this update.
        seconds: spent in iterations so far, over all sessions.
    """

    iteration: int
    attempt: A
    grad_norm: float
    learning_rate: float
    seconds: float


class Loop(Generic[D, A]):
    """Descends the loss of a problem.

    Args:
        problem: what is trained.
        descent: optimizer, schedule and averaging.
        snapshot_every: iterations between the states that a rollback returns to.
        max_rollbacks: returns to an earlier state, in all; 0 stops at the first sign of divergence.
        world: the processes that descend together, each with its own rows and chains, from equal parameters.
    """

    def __init__(
        self,
        problem: Problem[D, A],
        descent: Descent,
        *,
        snapshot_every: int,
        max_rollbacks: int,
        world: World = ALONE,
    ) -> None:
        self._problem, self._snapshot_every, self._world = problem, snapshot_every, world
        self._state = TrainingState(problem, descent)
        self._recovery = Recovery(self._state, max_rollbacks=max_rollbacks)
        self.optimizer = self._state.optimizer
        self.seconds = 0.0
        self._norm = 0.0  # of the last gradient

    @property
    def average(self) -> nn.Module:
        """The module with averaged parameters."""
        return self._state.average

    @property
    def iteration(self) -> int:
        """Number of updates done."""
        return self._state.iteration

    @property
    def interventions(self) -> list[Intervention]:
        """Interventions against divergence so far."""
        return self._recovery.interventions

    @property
    def learning_rate_factor(self) -> float:
        """Factor of the schedule's learning rate; halved by each rollback."""
        return self._recovery.learning_rate_factor

    @property
    def on_intervention(self) -> Callable[[Intervention], object] | None:
        """Called with each intervention."""
        return self._recovery.on_intervention

    @on_intervention.setter
    def on_intervention(self, told: Callable[[Intervention], object] | None) -> None:
        self._recovery.on_intervention = told

    def step(self) -> Update[A]:
        """Does one iteration, after as many interventions as it takes.

        Raises:
            Diverged: a row of data is not finite, or trouble came again after `max_rollbacks` rollbacks; names the step,
                phase, block and row, the likely cause and its fix. Nothing was learned from the numbers it names.
        """
        started = time.perf_counter()
        drawn, attempt, grad_norm = self._sound_attempt()
        self._problem.commit(drawn, attempt)
        learning_rate = self._state.update(self.learning_rate_factor)
        if self.iteration % self._snapshot_every == 0:
            self._recovery.keep()
        self.seconds += time.perf_counter() - started
        return Update(self.iteration, attempt, grad_norm, learning_rate, self.seconds)

    def state(self) -> Checkpoint:
        """Everything that decides the next iterations, but for sources of draws."""
        learned, kept = self._state.state(), self._recovery.state()
        return Checkpoint(
            self.iteration,
            {**learned.tensors, **kept.tensors},
            {**learned.plain, "seconds": self.seconds, **kept.plain},
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restores what `state` returned; further tensors are ignored."""
        self._state.restore(checkpoint)
        self._recovery.restore(checkpoint)
        self.seconds = checkpoint.plain["seconds"]

    def _sound_attempt(self) -> tuple[D, A, float]:
        """Attempts until nothing is wrong; leaves the gradient in the parameters."""
        while True:
            drawn = self._problem.draw()
            usual = self._problem.scales.state()
            try:
                attempt, grad_norm = self._attempt(drawn)
            except Diverged as trouble:
                self._problem.scales.restore(usual)  # scales are of healthy iterations only

                def restart(chains: Tensor | None, drawn: D = drawn, num_elsewhere: int = trouble.num_elsewhere) -> int:
                    return num_elsewhere + (0 if chains is None else self._problem.restart(drawn, chains))

                self._recovery.intervene(trouble, restart)
            else:
                return drawn, attempt, grad_norm

    def _attempt(self, drawn: D) -> tuple[A, float]:
        """An attempt of all processes with its gradient, or the sign of divergence of any of them."""
        where, scales = f"iteration {self.iteration + 1}", self._problem.scales
        self.optimizer.zero_grad()
        attempt, trouble = self._own_attempt(drawn, where)
        accounts = self._world.tell(account_of(attempt, trouble, scales, self._norm))
        raise_agreed(accounts, trouble, self._world)
        assert attempt is not None
        scales.restore(shared_scales(accounts))
        own_loss(attempt, accounts, self._world).backward()
        self._world.sum_gradients(self._problem.module.parameters())
        gradients = {n: p.grad.norm() for n, p in self._problem.module.named_parameters() if p.grad is not None}
        self._norm = scales.check_gradient(gradients, where)
        return self._problem.pooled(attempt, [account["numbers"] for account in accounts]), self._norm

    def _own_attempt(self, drawn: D, where: str) -> tuple[A | None, Diverged | None]:
        """The attempt of this process, or the sign of divergence that it saw."""
        try:
            return self._problem.attempt(drawn, where), None
        except Diverged as trouble:
            return None, trouble
