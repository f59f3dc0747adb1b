"""What decides when a fit of a table stops, against the exact answer by enumeration."""

import pytest
import torch
from torch import Tensor

from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.moves import State
from jointebm.tables.training import validation
from jointebm.tables.training.validation import Validation
from support.tiny_tables import ALL, energy, enumerated, generator, matches

WHOLE = torch.tensor([[0, 2, 3], [1, 0, 1], [0, 1, 0]])
HOLED = torch.tensor([[0, 2, -1], [-1, 0, 1], [1, -1, 2], [1, -1, -1], [-1, -1, 0], [-1, -1, -1]])


def exact(made: TableEnergy, codes: Tensor) -> float:
    """Mean of log p(c_j | observed others) over observed entries, all else summed out."""
    log_probs, total = enumerated(made).double(), 0.0
    entries = (codes >= 0).nonzero()
    for row, column in entries.tolist():
        others = codes[[row]].clone()
        others[:, column] = -1
        seen, asked = (log_probs[matches(rows)[0]].logsumexp(dim=0) for rows in (others, codes[[row]]))
        total += float(asked - seen)
    return total / len(entries)


def looks(made: TableEnergy, codes: Tensor, num: int, *, seed: int = 0) -> Tensor:
    asked = Validation(codes, made.reference, generator(seed), torch.float64)
    return torch.tensor([asked.score(made) for _ in range(num)], dtype=torch.float64)


def test_rows_without_holes_are_scored_exactly() -> None:
    made = energy()
    assert looks(made, WHOLE, 1).item() == pytest.approx(exact(made, WHOLE), abs=1e-6)


def test_rows_with_holes_are_scored_with_what_is_missing_summed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of 20 looks by 500 chains, started 20 looks before; four standard errors: one false alarm in 16,000."""
    monkeypatch.setattr(validation, "NUM_CHAINS", 500)
    made, rows = energy(), torch.cat([WHOLE, HOLED])
    found = torch.stack([looks(made, rows, 40, seed=seed)[20:].mean() for seed in range(8)])
    assert abs(float(found.mean()) - exact(made, rows)) < 4 * float(found.std()) / 8**0.5 + 1e-3  # 1e-3: log of a mean
    assert float(found.std()) < 0.01


def test_chains_that_see_the_answer_are_told_from_those_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: the asked entry stands while the others are drawn, as it did in completions of training rows."""
    made, asked = energy(), []

    def sees(_: TableEnergy, state: State, **others: object) -> State:  # noqa: ARG001
        asked.append(1)
        codes = state.codes.clone()
        codes[:, 2] = codes[:, 0] + 2 * (codes[:, 1] % 2)  # an echo of what was observed
        return state._replace(codes=codes)

    rows = HOLED[:1].repeat(50, 1)
    right = looks(made, rows, 1).item()
    monkeypatch.setattr(validation, "sweep", sees)
    assert looks(made, rows, 1).item() != pytest.approx(right, abs=1e-3)
    assert asked


def test_only_some_entries_of_many_are_asked_for_and_weigh_as_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal rows: a few entries answer for all, and whole rows keep their share."""
    monkeypatch.setattr(validation, "NUM_CHAINS", 200)
    monkeypatch.setattr(validation, "MAX_ASKED", 6)
    made = energy()
    holed = torch.tensor([[1, -1, -1]]).repeat(60, 1)
    rows = torch.cat([WHOLE, holed])
    share = 60 / (9 + 60)
    wanted = share * exact(made, holed) + (1 - share) * exact(made, WHOLE)
    assert looks(made, rows, 20)[5:].mean().item() == pytest.approx(wanted, abs=0.01)
    assert exact(made, holed) != pytest.approx(exact(made, WHOLE), abs=0.1)  # or shares would not show


def test_it_is_rough_if_hardly_a_row_is_whole() -> None:
    rough = [
        Validation(
            torch.cat([WHOLE, HOLED[:1].repeat(num, 1)]), energy().reference, generator(), torch.float32
        ).is_rough
        for num in (0, 27, 28)
    ]
    assert rough == [False, False, True]


def test_rows_of_nothing_but_holes_have_no_score() -> None:
    assert looks(energy(), torch.full((4, 3), -1), 1).item() == 0.0
    assert len(ALL) == 24
