"""Several processes fit one table: equal models near the truth, and a fit that resumes bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm.tables.training.table_config import TableConfig
from support import rank_tasks
from support.ranks import on_ranks, values
from support.tiny_tables import ALL, CLASSES, energy, enumerated, generator

CONFIG = TableConfig(width=32, batch_size=101, num_visits=6, precision="float32", max_components=1, num_looks=4)


def incomplete_rows(num: int) -> Tensor:
    rows = ALL[torch.multinomial(enumerated(energy()).exp(), num, replacement=True, generator=generator(11))]
    return rows.masked_fill(torch.rand(num, 3, generator=generator(7)) < 0.2, -1)


def fits(size: int, codes: Tensor, folder: Path, *, run: Path | None = None, stop_at: int = -1) -> list[Any]:
    return on_ranks(size, rank_tasks.fitted_table, codes, CLASSES, CONFIG, run, stop_at, folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize("uses_chains", [False, True])
def test_all_processes_fit_the_same_model_near_the_truth(uses_chains: bool, tmp_path: Path) -> None:
    """3,000 rows of 24 states; an independent reference is off by .2 nats. With chains and with draws of the proposal."""
    plants = [("jointebm.tables.training.table_problem.ENOUGH_SHARE", 2.0)] if uses_chains else []
    codes = incomplete_rows(3000)
    first, second = values(
        on_ranks(2, rank_tasks.fitted_table, codes, CLASSES, CONFIG, None, -1, folder=tmp_path, plants=plants)
    )
    assert first == second and len(first["told"]) > 1
    log_p, log_q = (torch.as_tensor(f).double().log_softmax(dim=0) for f in (enumerated(energy()), first["f"]))
    assert float((log_p.exp() * (log_p - log_q)).sum()) < 0.05


@pytest.mark.slow
def test_a_fit_stopped_by_one_process_resumes_bit_for_bit(tmp_path: Path) -> None:
    codes = incomplete_rows(600)
    straight = values(fits(2, codes, tmp_path, run=tmp_path / "straight"))[0]
    stopped = fits(2, codes, tmp_path, run=tmp_path / "run", stop_at=2)
    assert [each.error.split(":")[0] for each in stopped] == 2 * ["KeyboardInterrupt"]
    resumed = values(fits(2, codes, tmp_path, run=tmp_path / "run"))
    assert all(each["state"] == straight["state"] and each["report"] == straight["report"] for each in resumed)


@pytest.mark.slow
def test_a_fit_resumes_in_other_numbers_of_processes(tmp_path: Path) -> None:
    codes = incomplete_rows(600)
    fits(3, codes, tmp_path, run=tmp_path / "run", stop_at=2)
    fits(1, codes, tmp_path, run=tmp_path / "run", stop_at=1)
    first, second = values(fits(2, codes, tmp_path, run=tmp_path / "run"))
    assert first["state"] == second["state"]


def test_processes_with_different_tables_are_refused(tmp_path: Path) -> None:
    outcomes = on_ranks(2, rank_tasks.fitted_tables, 200, CLASSES, CONFIG, tmp_path / "run", folder=tmp_path)
    assert all("its processes have different tables or settings" in each.error for each in outcomes)
