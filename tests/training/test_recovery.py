"""Specification of `Recovery`: fresh chains, then an earlier state at half the learning rate, then an end."""

import json

import pytest
import torch
from torch import Tensor

from jointebm.training.divergence import Diverged, Intervention, Sign
from jointebm.training.recovery import MAX_RESTARTS, Recovery
from support.training_states import Chains, make, same_bits, update

ONE_OF_TWO = torch.tensor([False, True])


def recovery_of(*, max_rollbacks: int = 5) -> tuple[Chains, Recovery]:
    chains, state = make()
    return chains, Recovery(state, max_rollbacks=max_rollbacks)


def intervene(recovery: Recovery, kind: Sign, restarted: list[Tensor] | None = None) -> None:
    def restart(chains: Tensor) -> int:
        if restarted is not None:
            restarted.append(chains)
        return int(chains.sum())

    recovery.intervene(Diverged(kind, "injected", ONE_OF_TWO if kind in ("chain", "proposal") else None), restart)


@pytest.mark.parametrize("kind", ["chain", "proposal"])
def test_offending_chains_restart_and_nothing_else_changes(kind: Sign) -> None:
    chains, state = make()
    recovery, restarted = Recovery(state, max_rollbacks=5), list[Tensor]()
    update(chains, state, 1.0)
    before = state.snapshot()
    intervene(recovery, kind, restarted)
    assert len(restarted) == 1 and torch.equal(restarted[0], ONE_OF_TWO)
    assert same_bits(state.state(), before)
    assert recovery.interventions == [Intervention(1, kind, "restarted chains", 1, 1, 1.0, "injected")]


def rolled_back_to(num_updates: int, kept_after: tuple[int, ...]) -> tuple[int, Recovery]:
    """Where a rollback goes, after so many updates with snapshots on the way; checked to be that state bit for bit."""
    chains, state = make()
    recovery, states = Recovery(state, max_rollbacks=5), [state.snapshot()]
    for iteration in range(1, num_updates + 1):
        update(chains, state, float(iteration))
        states.append(state.snapshot())
        if iteration in kept_after:
            recovery.keep()
    intervene(recovery, "energy gap")
    assert same_bits(state.state(), states[state.iteration])
    return state.iteration, recovery


@pytest.mark.parametrize(("kept_after", "expected"), [((), 0), ((2,), 0), ((2, 4), 2), ((1, 2, 4), 2), ((3, 6), 3)])
def test_a_rollback_goes_to_the_older_of_the_two_newest_snapshots(kept_after: tuple[int, ...], expected: int) -> None:
    back_to, recovery = rolled_back_to(6, kept_after)
    assert back_to == expected and recovery.learning_rate_factor == 0.5
    assert recovery.interventions == [Intervention(6, "energy gap", "rolled back", 0, expected, 0.5, "injected")]


def test_chains_that_offend_again_and_again_cause_a_rollback() -> None:
    _, recovery = recovery_of()
    told: list[Intervention] = []
    recovery.on_intervention = told.append
    for _ in range(MAX_RESTARTS + 1):
        intervene(recovery, "chain")
    assert [each.action for each in told] == ["restarted chains"] * MAX_RESTARTS + ["rolled back"]
    intervene(recovery, "chain")  # counted from 0 again
    recovery.keep()
    for _ in range(MAX_RESTARTS):
        intervene(recovery, "chain")  # and again after a snapshot
    assert [each.action for each in told[MAX_RESTARTS + 1 :]] == ["restarted chains"] * (MAX_RESTARTS + 1)
    assert told == recovery.interventions


@pytest.mark.parametrize(("kind", "max_rollbacks"), [("data", 5), ("chain", 0), ("loss", 0)])
def test_trouble_without_a_remedy_is_raised_unchanged(kind: Sign, max_rollbacks: int) -> None:
    _, state = make()
    recovery, before = Recovery(state, max_rollbacks=max_rollbacks), state.snapshot()
    with pytest.raises(Diverged, match=r"^injected\. Likely cause") as error:
        intervene(recovery, kind)
    assert error.value.kind == kind and recovery.interventions == [] and same_bits(state.state(), before)


def test_after_the_allowed_rollbacks_it_gives_up_and_says_how_far_it_went() -> None:
    _, recovery = recovery_of(max_rollbacks=2)
    for _ in range(2):
        intervene(recovery, "loss")
    with pytest.raises(Diverged, match=r"injected; 2 rollbacks, down to 0\.25 of the learning rate, did not help"):
        intervene(recovery, "loss")


def test_a_restored_recovery_rolls_back_alike() -> None:
    _, one = rolled_back_to(6, (2, 4))
    intervene(one, "chain")
    _, state = make()
    other = Recovery(state, max_rollbacks=5)
    written = one.state()
    other.restore(written._replace(plain=json.loads(json.dumps(written.plain))))
    assert other.interventions == one.interventions and other.learning_rate_factor == 0.5
    assert tensors_equal(other.state().tensors, written.tensors) and other.state().plain == written.plain
    intervene(other, "loss")
    assert state.iteration == 2 and other.learning_rate_factor == 0.25


def tensors_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())
