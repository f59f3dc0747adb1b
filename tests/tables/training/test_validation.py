"""What decides when a fit of a table stops, against the exact answer by enumeration."""

import pytest
import torch
from torch import Tensor

from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.moves import State
from jointebm.tables.density.normalizer import annealed
from jointebm.tables.training import validation
from jointebm.tables.training.pseudo_likelihood import pseudo_likelihood
from jointebm.tables.training.validation import Validation
from support.tiny_tables import ALL, energy, energy_with_network, enumerated, generator, matches

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


def test_complete_rows_are_scored_exactly() -> None:
    made = energy()
    assert looks(made, WHOLE, 1).item() == pytest.approx(exact(made, WHOLE), abs=1e-6)


def test_looks_are_compared_by_the_same_draws_of_the_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    """8,192 draws; log Z within 5 of its standard errors of enumeration: false alarm 6e-7 (fixed seed)."""
    monkeypatch.setattr("jointebm.tables.density.normalizer.SHARE_OF_DRAWS", 0.0)
    made = energy_with_network()
    asked = Validation(WHOLE, made.reference, generator(), torch.float64, proposal=made.network)
    first, again = (asked.log_likelihood(made) for _ in range(2))
    assert first == again
    log_probs = enumerated(made).double().log_softmax(dim=0)
    exact_mean = float((matches(WHOLE).double() @ log_probs).mean())
    assert abs(first.of_model - exact_mean) < 5 * first.normalizer_error < 0.5


def test_columns_of_many_classes_are_scored_on_fewer_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three rows, the first and all columns; then all rows of the columns of two and three classes alone."""
    made = energy()
    monkeypatch.setattr(validation, "MAX_EVALUATED", 1)
    assert looks(made, WHOLE, 1).item() == pytest.approx(exact(made, WHOLE[:1]), abs=1e-6)
    monkeypatch.setattr(validation, "MAX_EVALUATED", 9)
    with torch.no_grad():
        columns = [
            -float(pseudo_likelihood(made, [(column, WHOLE[:num])])) / num for column, num in ((0, 3), (1, 3), (2, 2))
        ]
    assert looks(made, WHOLE, 1).item() == pytest.approx(sum(columns) / 3, abs=1e-6)


@pytest.mark.slow
def test_incomplete_rows_are_scored_with_what_is_missing_summed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of 20 looks by 500 chains, started 20 looks before; four standard errors: one false alarm in 16,000."""
    monkeypatch.setattr(validation, "NUM_CHAINS", 500)
    made, rows = energy(), torch.cat([WHOLE, HOLED])
    found = torch.stack([looks(made, rows, 40, seed=seed)[20:].mean() for seed in range(8)])
    assert abs(float(found.mean()) - exact(made, rows)) < 4 * float(found.std()) / 8**0.5 + 1e-3  # 1e-3: log of a mean
    assert float(found.std()) < 0.01


def test_chains_that_see_the_answer_are_told_from_those_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: the asked entry stands while the others are drawn, as it did in completions of training rows."""
    made, asked = energy(), []

    def sees(_: TableEnergy, state: State, **others: object) -> tuple[State, Tensor]:  # noqa: ARG001
        asked.append(1)
        codes = state.codes.clone()
        codes[:, 2] = codes[:, 0] + 2 * (codes[:, 1] % 2)  # an echo of what was observed
        return state._replace(codes=codes), torch.zeros_like(codes[:, 0])

    rows = HOLED[:1].repeat(50, 1)
    right = looks(made, rows, 1).item()
    monkeypatch.setattr(validation, "sweep", sees)
    assert looks(made, rows, 1).item() != pytest.approx(right, abs=1e-3)
    assert asked


def test_only_some_entries_of_many_are_asked_for_and_weigh_as_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal rows: a few entries answer for all, and whole rows keep their share."""
    monkeypatch.setattr(validation, "NUM_CHAINS", 200)
    monkeypatch.setattr(validation, "MAX_ASKED", 9)
    made = energy()
    holed = torch.tensor([[1, -1, -1]]).repeat(60, 1)
    rows = torch.cat([WHOLE, holed])
    share = 60 / (9 + 60)
    wanted = share * exact(made, holed) + (1 - share) * exact(made, WHOLE)
    assert looks(made, rows, 20)[5:].mean().item() == pytest.approx(wanted, abs=0.01)
    assert exact(made, holed) != pytest.approx(exact(made, WHOLE), abs=0.1)  # or shares would not show


@pytest.mark.parametrize("made", [energy(), energy_with_network()], ids=["draws of q", "draws of the proposal"])
def test_the_log_likelihood_is_that_of_enumeration(made: TableEnergy, monkeypatch: pytest.MonkeyPatch) -> None:
    """With log Z and the missing entries by many draws: within four of its standard errors, in 20 of 20 seeds."""
    monkeypatch.setattr(validation, "NUM_DRAWS", 4000)
    rows = torch.cat([WHOLE, HOLED])
    log_probs = enumerated(made).double().log_softmax(dim=0)
    exact_mean = torch.stack([log_probs[matches(row[None])[0]].logsumexp(dim=0) for row in rows]).mean().item()
    for seed in range(20):
        held_out = Validation(rows, made.reference, generator(seed), torch.float64, proposal=made.network)
        drawn = annealed(made, None, num_groups=16, generator=generator(seed))
        found = held_out.log_likelihood(made, drawn)
        assert abs(found.of_model - exact_mean) < 4 * drawn.standard_error + 0.03  # .03: the missing entries
        assert found.of_reference == pytest.approx(made.reference(rows).mean().item(), abs=1e-9)
        assert found.gain == pytest.approx(found.of_model - found.of_reference) and found.gain_error > 0


def test_rows_without_any_entry_have_no_score() -> None:
    assert looks(energy(), torch.full((4, 3), -1), 1).item() == 0.0
    assert len(ALL) == 24
