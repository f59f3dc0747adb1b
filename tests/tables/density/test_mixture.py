"""The mixture: sums agree with loops, EM never decreases its objective, draws are exact."""

import math

import pytest
import torch

from jointebm.randomness.row_streams import RowStream
from jointebm.tables.density.mixture import Mixture, em_step, fit_mixture
from support.tiny_tables import ALL, CLASSES, generator, matches, mixture, mixture_by_loops

INCOMPLETE = torch.cartesian_prod(*[torch.arange(-1, count) for count in CLASSES])  # every row with every missing entry


def test_the_mixture_is_a_sum_of_products_with_missing_entries_marginalised() -> None:
    made = mixture()
    found = made(INCOMPLETE).exp()
    by_loops = torch.tensor([mixture_by_loops(made, row) for row in INCOMPLETE.tolist()], dtype=torch.float64)
    summed = (matches(INCOMPLETE) * made(ALL).exp()).sum(dim=1)
    assert (found - by_loops).abs().max() < 1e-14
    assert (found - summed).abs().max() < 1e-14
    assert made(ALL).exp().sum().item() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("column", range(3))
def test_the_classes_of_a_column_are_those_of_whole_rows(column: int) -> None:
    made = mixture()
    others = ALL.clone()
    others[:, column] = -1
    found = made.of_classes(made.components(others), column)
    for code in range(CLASSES[column]):
        rows = ALL.clone()
        rows[:, column] = code
        assert (found[:, code] - made(rows)).abs().max() < 1e-13


@pytest.mark.parametrize("num_components", range(1, 34))
def test_the_classes_of_a_row_do_not_depend_on_its_place(num_components: int) -> None:
    """On AMD, products of rows were summed in another order at some places if components were not a multiple of four."""
    made = Mixture((3, 8, 20), num_components)
    made.log_probs.copy_(torch.randn(made.log_probs.shape, generator=generator()) / 4)
    rows = torch.stack([torch.randint(-1, count, (128,), generator=generator(count)) for count in (3, 8, 20)], dim=1)
    shuffled = torch.randperm(128, generator=generator())
    for column in range(3):
        others = rows.clone()
        others[:, column] = -1
        answer = made.of_classes(made.components(others), column)
        assert torch.equal(made.of_classes(made.components(others[shuffled]), column), answer[shuffled])


def some_rows(num: int = 60) -> torch.Tensor:
    drawn = torch.stack([torch.randint(count, (num,), generator=generator(1)) for count in CLASSES], dim=1)
    drawn[:, 1] = (drawn[:, 0] + drawn[:, 2]) % 3
    return drawn.masked_fill(torch.rand(num, 3, generator=generator(2)) < 0.25, -1)


def test_a_step_of_em_agrees_with_loops() -> None:
    made, codes = mixture(2), some_rows()
    prior = torch.cat([torch.full((count,), 1 / count, dtype=torch.float64) for count in CLASSES])
    following, _ = em_step(made, codes, prior, prior_strength=1.5)
    for component in range(2):
        one = Mixture(CLASSES, 1).double()
        one.log_weights.copy_(made.log_weights[[component]])
        one.log_probs.copy_(made.log_probs[:, [component]])
        shares = [mixture_by_loops(one, row) / mixture_by_loops(made, row) for row in codes.tolist()]
        assert following.log_weights[component].exp().item() == pytest.approx(sum(shares) / len(codes), abs=1e-13)
        first = 0
        for column, count in enumerate(CLASSES):
            seen = [(row[column], share) for row, share in zip(codes.tolist(), shares, strict=True) if row[column] >= 0]
            total = sum(share for _, share in seen) + 1.5
            for code in range(count):
                expected = (sum(share for k, share in seen if k == code) + 1.5 / count) / total
                found = following.log_probs[first + code, component].exp().item()
                assert found == pytest.approx(expected, abs=1e-13)
            first += count


@pytest.mark.parametrize("prior_strength", [0.1, 5.0])
def test_em_never_decreases_its_objective_and_reaches_a_fixed_point(prior_strength: float) -> None:
    made, codes = mixture(4), some_rows(200)
    prior = torch.cat([torch.full((count,), 1 / count, dtype=torch.float64) for count in CLASSES])
    objectives = []
    for _ in range(300):
        made, objective = em_step(made, codes, prior, prior_strength=prior_strength)
        objectives.append(objective)
    gains = torch.tensor(objectives).diff()
    assert gains.min() > -1e-9
    assert gains[-1] < 1e-3 < gains[0]


def test_the_objective_is_the_likelihood_of_observed_entries() -> None:
    made, codes = mixture(2), some_rows()
    prior = torch.full((sum(CLASSES),), 0.25, dtype=torch.float64)
    likelihood = sum(math.log(mixture_by_loops(made, row)) for row in codes.tolist())
    penalty = 2.0 * 0.25 * made.log_probs.sum().item()
    assert em_step(made, codes, prior, prior_strength=2.0)[1] == pytest.approx(likelihood + penalty, abs=1e-9)


def test_one_component_is_the_marginals() -> None:
    codes = some_rows()
    fitted = fit_mixture(codes, CLASSES, num_components=1, generator=generator(), prior_strength=1e-6)
    seen = codes[:, 1][codes[:, 1] >= 0]
    expected = torch.bincount(seen, minlength=3) / len(seen)
    assert (fitted.of_column(1).exp()[:, 0] - expected).abs().max() < 1e-6


@pytest.mark.parametrize("with_evidence", [False, True])
def test_draws_of_missing_entries_have_their_exact_joint_distribution(with_evidence: bool) -> None:
    """60,000 draws of each of 3 patterns; every count within 5.5 standard errors, false alarm below 1e-6 (fixed seed)."""
    made, num = mixture(), 60_000
    evidence = (
        [None, torch.tensor([0.0, -torch.inf, 1.0]), torch.tensor([0.3, 0.0, -0.7, 1.0])] if with_evidence else None
    )
    for row in ([-1, -1, -1], [1, -1, -1], [-1, 2, -1]):
        codes = torch.tensor([row])
        weights = made(ALL).masked_fill(~matches(codes)[0], -torch.inf)
        for column, each in enumerate(evidence or []):
            if each is not None and row[column] < 0:
                weights = weights + each[ALL[:, column]]
        probs = weights.softmax(dim=0)
        drawn = made.draw(codes.expand(num, -1), RowStream(torch.arange(num), seed=0), log_weights=evidence)
        shares = (drawn[:, None] == ALL).all(dim=2).double().mean(dim=0)
        assert ((shares - probs).abs() <= 5.5 * (probs * (1 - probs) / num).sqrt() + 1e-12).all()


def test_rows_in_parts_give_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    made, codes, prior = mixture(), some_rows(), torch.full((sum(CLASSES),), 0.3, dtype=torch.float64)
    whole, objective = em_step(made, codes, prior, prior_strength=1.0)
    monkeypatch.setattr("jointebm.tables.density.mixture.ENTRIES_AT_ONCE", 7 * sum(CLASSES))
    parts, objective_of_parts = em_step(made, codes, prior, prior_strength=1.0)
    assert objective == pytest.approx(objective_of_parts, abs=1e-10)
    assert (whole.log_probs - parts.log_probs).abs().max() < 1e-12
    assert (whole.log_weights - parts.log_weights).abs().max() < 1e-12
