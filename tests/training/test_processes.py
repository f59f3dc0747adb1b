"""Several processes train one model: equal parameters, the gradient of the union, collective recovery, clear ends.

Two processes over gloo on this machine. Every test is exact; no tolerance but that of rounding.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from jointebm.training.world import share_of
from support import rank_tasks
from support.ranks import on_ranks, values

CASES = ("plain", "weighted", "incomplete")
SUM = "jointebm.training.process_group.Processes.sum_gradients"


def test_every_meeting_gives_all_processes_the_same(tmp_path: Path) -> None:
    """Messages longer than one exchange too, and gradients that only some processes have."""
    found = values(on_ranks(3, rank_tasks.meetings, folder=tmp_path))
    assert [each.pop("shares") for each in found] == [[0, 1, 3], [0, 1, 2], [0, 1, 2]]
    assert found[0] == found[1] == found[2]
    assert found[0] == {
        "told": [(0, 0, True), (1, 10_000, True), (2, 20_000, True)],
        "largest": 14,
        "gradients": [[6.0, 60.0], [3.0, 4.0], None],
        "gathered": [(0, [0]), (1, [0, 1]), (2, [0, 1, 2])],
        "made": ([1.5, None], True),
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_parameters_are_equal_after_50_steps_and_chains_are_not(case: str, tmp_path: Path) -> None:
    first, second = values(on_ranks(2, rank_tasks.trained, case, folder=tmp_path))
    assert first["shared"] == second["shared"] and first["own"] != second["own"]
    assert first["metrics"] == second["metrics"] and first["plain"] == second["plain"]
    assert (first["num_slots"], second["num_slots"]) == (23, 22)
    assert first["metrics"][-1].iteration == 50


@pytest.mark.slow
def test_gradients_that_are_not_summed_are_noticed(tmp_path: Path) -> None:
    outcomes = on_ranks(2, rank_tasks.trained, "plain", folder=tmp_path, plants=[(SUM, rank_tasks.without_sum)])
    assert all(each.error.startswith("FloatingPointError: processes: their gradients differ") for each in outcomes)


def largest_difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Relative to the largest entry of the expected gradient."""
    assert found.keys() == expected.keys()
    pairs = [(torch.tensor(found[name]), torch.tensor(expected[name])) for name in expected]
    return max(float((one - other).abs().max()) for one, other in pairs) / max(float(o.abs().max()) for _, o in pairs)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("objective", rank_tasks.OBJECTIVES)
def test_the_gradient_is_that_of_the_union_of_rows_and_chains(objective: str, weighted: bool, tmp_path: Path) -> None:
    """25 rows and chains, 13 and 12 of them in a process."""
    arguments = (rank_tasks.OBJECTIVES[objective](), weighted)
    for found, expected in values(on_ranks(2, rank_tasks.gradient_and_that_of_the_union, *arguments, folder=tmp_path)):
        assert largest_difference(found, expected) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "replacement"),
    [(SUM, rank_tasks.without_sum), ("jointebm.training.loop.own_loss", rank_tasks.own_weights)],
)
def test_the_gradient_of_the_union_is_not_had_by_chance(name: str, replacement: Any, tmp_path: Path) -> None:
    arguments = (rank_tasks.OBJECTIVES["maximum likelihood"](), True)
    outcomes = on_ranks(
        2, rank_tasks.gradient_and_that_of_the_union, *arguments, folder=tmp_path, plants=[(name, replacement)]
    )
    assert all(largest_difference(*pair) > 1e-3 for pair in values(outcomes))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_as_many_processes_resume_bit_for_bit(case: str, tmp_path: Path) -> None:
    for straight, resumed in values(
        on_ranks(2, rank_tasks.resumed, tmp_path / "checkpoints", case, 13, folder=tmp_path)
    ):
        assert straight == resumed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "before", "after"), [("weighted", 2, 3), ("incomplete", 3, 2), ("incomplete", 1, 2), ("weighted", 2, 1)]
)
def test_another_number_of_processes_is_dealt_the_same_chains(
    case: str, before: int, after: int, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoints"
    saved = values(on_ranks(before, rank_tasks.saved_after, path, case, 13, folder=tmp_path))[0]
    resumed = values(on_ranks(after, rank_tasks.dealt_out, path, case, folder=tmp_path))
    assert resumed[0]["chains"] == saved["chains"] and resumed[0]["completions"] == saved["completions"]
    assert bool(saved["completions"]) == (case == "incomplete")
    assert resumed[0]["sizes"] == [share_of(45, rank, after, name="") for rank in range(after)]
    assert len({each["shared"] for each in resumed}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "action"), [("f", "rolled back"), ("chain", "restarted chains")])
def test_a_sign_of_divergence_in_one_process_is_one_for_all(kind: str, action: str, tmp_path: Path) -> None:
    first, second = values(on_ranks(2, rank_tasks.in_trouble, kind, folder=tmp_path))
    assert first == second and first["error"] == ""
    (intervention,) = first["interventions"]
    assert intervention["action"] == action and intervention["iteration"] == 23
    assert intervention["finding"] == f"process 1 of 2: injected {kind} in iteration 24"
    assert intervention["num_chains"] == (2 if kind == "chain" else 0)
    back_to = 10 if action == "rolled back" else 23  # the older of two snapshots
    assert first["told"] == [*range(1, 24), *range(back_to + 1, 31)]


@pytest.mark.slow
def test_a_rollback_of_one_process_alone_is_noticed(tmp_path: Path) -> None:
    plant = ("jointebm.training.loop.raise_agreed", rank_tasks.own_trouble)
    outcomes = on_ranks(2, rank_tasks.in_trouble, "f", folder=tmp_path, plants=[plant], patience=10)  # they hang
    both = [each.value for each in outcomes]
    assert any(each.error for each in outcomes) or both[0] != both[1]


def test_a_row_that_is_not_finite_ends_all_with_the_same_line(tmp_path: Path) -> None:
    outcomes = on_ranks(2, rank_tasks.with_a_nan_row, folder=tmp_path)
    assert outcomes[0].error == outcomes[1].error
    assert outcomes[0].error.startswith("Diverged: process 1 of 2: ") and "iteration 5" in outcomes[0].error
    assert "row 2" in outcomes[0].error and "\n" not in outcomes[0].error


def test_a_killed_process_ends_the_others_with_one_line(tmp_path: Path) -> None:
    survivor, killed = on_ranks(2, rank_tasks.with_a_killed_process, folder=tmp_path)
    assert killed.exit_code == -9
    assert survivor.error.startswith("LostProcess: process 0 of 2: lost the connection to another process")
    assert "\n" not in survivor.error


def test_a_process_that_is_killed_before_it_joins_ends_the_others_with_one_line(tmp_path: Path) -> None:
    plants = [("torch.distributed.init_process_group", rank_tasks.killed_before_it_joins)]
    first, second = on_ranks(2, rank_tasks.meetings, folder=tmp_path, plants=plants)
    assert (first.exit_code, second.exit_code) == (1, -9)
    assert first.error.startswith("LostProcess: process 0 of 2: cannot meet the others: ")
    assert "\n" not in first.error


def test_what_the_first_process_cannot_make_ends_the_others_in_silence(tmp_path: Path) -> None:
    first, *others = on_ranks(3, rank_tasks.from_first_fails, folder=tmp_path)
    assert "No space left on device" in first.error
    assert all(each.error.startswith("FailedElsewhere") for each in others)


def test_there_are_no_more_processes_than_rows() -> None:
    assert [share_of(5, rank, 4, name="rows") for rank in range(4)] == [2, 1, 1, 1]
    with pytest.raises(
        ValueError, match="batch_size: got 2 for 3 processes, each of which needs one; set it to 3 or more"
    ):
        share_of(2, 0, 3, name="batch_size")
