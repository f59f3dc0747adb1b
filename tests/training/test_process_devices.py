"""Several processes train on a device that is not the CPU: gradients meet there, all else on the CPU.

NCCL takes tensors of a GPU alone, and gloo those of the CPU: a tensor of the other device would fail there.
"""

from pathlib import Path

import pytest

from support import placed_rank_tasks
from support.pretend_device import PLACE
from support.ranks import on_ranks, values


@pytest.mark.slow
@pytest.mark.parametrize("case", placed_rank_tasks.CASES)
def test_gradients_meet_on_the_device_and_all_else_on_the_cpu(case: str, tmp_path: Path) -> None:
    """With the bits of processes on the CPU."""
    first, second = values(on_ranks(2, placed_rank_tasks.trained_on_both, case, folder=tmp_path))
    expected = {("all_reduce", PLACE.type), *((each, "cpu") for each in ("all_gather", "all_reduce", "broadcast"))}
    assert set(first["meetings"]) == set(second["meetings"]) == expected
    assert first["elsewhere"] == first["on_cpu"] == second["on_cpu"] == second["elsewhere"]
    assert len(set(first["on_cpu"]["parts"])) == 2
