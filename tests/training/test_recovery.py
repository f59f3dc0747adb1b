"""Specification of `Recovery`: fresh chains, then an earlier state at half the learning rate, then an end."""

import json

import pytest
import torch
from torch import Tensor

from jointebm.training.divergence import Diverged, Intervention, Kind
from jointebm.training.recovery import MAX_RESTARTS, Recovery
from jointebm.training.replay_buffer import Drawn
from support.learners import make, same_bits, update

ONE_OF_TWO = torch.tensor([False, True])


def intervene(recovery: Recovery, kind: Kind, *, max_rollbacks: int = 5, slots: tuple[int, int] = (2, 0)) -> None:
    drawn = Drawn(torch.tensor(slots), {"x": torch.zeros(2)})
    chains = ONE_OF_TWO if kind in ("chain", "proposal") else None
    trouble = Diverged(kind, "injected", chains)
    recovery.intervene(trouble, drawn, max_rollbacks=max_rollbacks, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["chain", "proposal"])
def test_offending_chains_start_afresh_and_nothing_else_changes(kind: Kind) -> None:
    learner = make()
    recovery = Recovery(learner)
    update(learner, 1.0)
    before = learner.snapshot()
    intervene(recovery, kind, slots=(2, 0))
    fresh = learner.buffer.noise.draw(1, generator=torch.Generator().manual_seed(0))["x"]
    expected = before.tensors["buffer.x"].clone()
    expected[0] = fresh[0]  # the second of the two that were drawn
    assert same_bits(learner.state(), before._replace(tensors=before.tensors | {"buffer.x": expected}))
    assert recovery.interventions == [Intervention(1, kind, "restarted chains", 1, 1, 1.0, "injected")]


def rolled_back_to(num_updates: int, kept_after: tuple[int, ...]) -> tuple[int, Recovery]:
    """Where a rollback goes, after so many updates with snapshots on the way; checked to be that state bit for bit."""
    learner = make()
    recovery, states = Recovery(learner), [learner.snapshot()]
    for iteration in range(1, num_updates + 1):
        update(learner, float(iteration))
        states.append(learner.snapshot())
        if iteration in kept_after:
            recovery.keep()
    intervene(recovery, "energy gap")
    assert same_bits(learner.state(), states[learner.iteration])
    return learner.iteration, recovery


@pytest.mark.parametrize(("kept_after", "expected"), [((), 0), ((2,), 0), ((2, 4), 2), ((1, 2, 4), 2), ((3, 6), 3)])
def test_a_rollback_goes_to_the_older_of_the_two_newest_snapshots(kept_after: tuple[int, ...], expected: int) -> None:
    back_to, recovery = rolled_back_to(6, kept_after)
    assert back_to == expected and recovery.learning_rate_factor == 0.5
    assert recovery.interventions == [Intervention(6, "energy gap", "rolled back", 0, expected, 0.5, "injected")]


def test_chains_that_offend_again_and_again_are_a_case_for_a_rollback() -> None:
    learner = make()
    recovery = Recovery(learner)
    told: list[Intervention] = []
    recovery.on_intervention = told.append
    for _ in range(MAX_RESTARTS + 1):
        intervene(recovery, "chain")
    assert [each.action for each in told] == ["restarted chains"] * MAX_RESTARTS + ["rolled back"]
    intervene(recovery, "chain")  # counted anew
    recovery.keep()
    for _ in range(MAX_RESTARTS):
        intervene(recovery, "chain")  # and anew after a snapshot
    assert [each.action for each in told[MAX_RESTARTS + 1 :]] == ["restarted chains"] * (MAX_RESTARTS + 1)
    assert told == recovery.interventions


@pytest.mark.parametrize(("kind", "max_rollbacks"), [("data", 5), ("chain", 0), ("loss", 0)])
def test_trouble_that_nothing_helps_against_is_raised_as_it_came(kind: Kind, max_rollbacks: int) -> None:
    learner = make()
    recovery, before = Recovery(learner), learner.snapshot()
    with pytest.raises(Diverged, match=r"^injected\. Likely cause") as error:
        intervene(recovery, kind, max_rollbacks=max_rollbacks)
    assert error.value.kind == kind and recovery.interventions == [] and same_bits(learner.state(), before)


def test_after_the_allowed_rollbacks_it_gives_up_and_says_how_far_it_went() -> None:
    recovery = Recovery(make())
    for _ in range(2):
        intervene(recovery, "loss", max_rollbacks=2)
    with pytest.raises(Diverged, match=r"injected; 2 rollbacks, down to 0\.25 of the learning rate, did not help"):
        intervene(recovery, "loss", max_rollbacks=2)


def test_what_was_kept_is_put_back_into_another_and_rolls_back_alike() -> None:
    _, one = rolled_back_to(6, (2, 4))
    intervene(one, "chain")
    learner = make()
    other = Recovery(learner)
    written = one.state()
    other.restore(written._replace(plain=json.loads(json.dumps(written.plain))))
    assert other.interventions == one.interventions and other.learning_rate_factor == 0.5
    assert tensors_equal(other.state().tensors, written.tensors) and other.state().plain == written.plain
    intervene(other, "loss")
    assert learner.iteration == 2 and other.learning_rate_factor == 0.25


def tensors_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())
