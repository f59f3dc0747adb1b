"""Draws that are made together have the distribution of the proposal, and say so."""

from collections.abc import Callable

import pytest
import torch

from jointebm.randomness.row_streams import RowStream, row_keys
from jointebm.references.evidence_of_codes import evidence_of_codes
from jointebm.tables.answers.shared_draws import SharedDraws, shared_draws
from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.density.rough_energy import RoughEnergy
from support.tiny_tables import ALL, energy, energy_with_network, matches

PROPOSALS = pytest.mark.parametrize("make", [energy, energy_with_network])
ROWS = torch.tensor([[-1, -1, -1], [1, -1, -1], [-1, 1, -1], [0, 2, -1]])
EVIDENCE = [torch.tensor([0.4, -0.4]), torch.tensor([0.0, -torch.inf, 1.0]), None]


def drawn(made: TableEnergy, num: int, **choices: object) -> SharedDraws:
    return shared_draws(RoughEnergy(made), ROWS, RowStream(row_keys(ROWS), 3), num, **choices)  # type: ignore[arg-type]


@PROPOSALS
@pytest.mark.parametrize("evidence", [None, EVIDENCE])
def test_a_draw_has_the_probability_that_it_states(
    make: Callable[..., TableEnergy], evidence: list[torch.Tensor | None] | None
) -> None:
    made = make(dtype=torch.float64)
    found = drawn(made, 40, log_weights=evidence)
    codes, free = found.codes.flatten(0, 1), (ROWS < 0).repeat_interleave(40, dim=0)
    expected = made.proposal.log_conditional(codes, free, evidence) - evidence_of_codes(codes, free, evidence)
    assert (found.log_prob.flatten() - expected).abs().max() < (
        1e-9 if evidence is None else 1e-6
    )  # evidence is float32
    assert torch.equal(torch.where(free, -1, codes), ROWS.repeat_interleave(40, dim=0))
    if evidence is not None:
        assert not (codes[free[:, 1], 1] == 1).any()


@pytest.mark.parametrize("last", [None, 0, 2])
def test_draws_are_as_frequent_as_their_probability(last: int | None) -> None:
    """20,000 draws of each row; each share within 5.5 standard errors: false alarm below 3e-6 (fixed seed)."""
    made, num = energy(dtype=torch.float64), 20_000
    rows = ROWS[:2] if last == 0 else ROWS
    rows = rows[:1] if last == 0 else rows
    found = shared_draws(RoughEnergy(made), rows, RowStream(row_keys(rows), 3), num, last=last)
    for row, codes in zip(rows, found.codes, strict=True):
        probs = made.reference(ALL).masked_fill(~matches(row[None])[0], -torch.inf).softmax(dim=0)
        shares = (codes[:, None] == ALL).all(dim=2).double().mean(dim=0)
        assert ((shares - probs).abs() <= 5.5 * (probs * (1 - probs) / num).sqrt() + 1e-12).all()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_each_single_draw_of_a_lattice_has_the_distribution_of_all(number: int) -> None:
    """The second column given the first, which lies in another third of its distribution for each number.

    4,000 streams; shares within 5 standard errors: false alarm below 2e-5 (fixed seed).
    """
    made, num = energy(dtype=torch.float64), 4000
    row = ROWS[:1]
    found = shared_draws(RoughEnergy(made), row.repeat(num, 1), RowStream(torch.arange(num), 3), 3).codes[:, number]
    probs = made.reference(ALL).softmax(dim=0)
    for first in (0, 1):
        here = found[found[:, 0] == first]
        of_first = (ALL[:, 0] == first) * probs
        for code in range(3):
            share = float(of_first[ALL[:, 1] == code].sum() / of_first.sum())
            error = (share * (1 - share) / max(1, len(here))) ** 0.5
            assert abs(float((here[:, 1] == code).double().mean()) - share) < 5 * error or not len(here)


def test_the_first_column_is_drawn_systematically() -> None:
    made = energy(dtype=torch.float64)
    shares = made.reference.of_classes(made.reference.components(ROWS[:1]), 0)[0].exp()
    counts = torch.bincount(drawn(made, 50).codes[0, :, 0], minlength=2)
    assert (counts - 50 * shares).abs().max() <= 1


@PROPOSALS
def test_equal_draws_have_equal_names_and_the_last_column_is_named_apart(make: Callable[..., TableEnergy]) -> None:
    made = make(dtype=torch.float64)
    found = drawn(made, 60, last=2)
    for codes, names, before in zip(found.codes, found.names, found.names_before, strict=True):
        assert torch.equal(names[:, None] == names, (codes[:, None] == codes).all(dim=2))
        assert torch.equal(before[:, None] == before, (codes[:, None, :2] == codes[:, :2]).all(dim=2))
    others = found.codes.clone()
    others[..., 2] = -1
    free = torch.tensor([False, False, True]).expand(len(ROWS) * 60, -1)
    for code in range(4):
        others[..., 2] = code
        expected = made.proposal.log_conditional(others.flatten(0, 1), free).exp().view(len(ROWS), 60)
        assert (found.probs_of_last[found.index_of_last][..., code] - expected).abs().max() < 1e-9
