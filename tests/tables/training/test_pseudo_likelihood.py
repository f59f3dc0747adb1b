"""The pseudo-likelihood: conditionals, gradient and maximum are those of enumeration."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from jointebm.tables.density.energy import TableEnergy
from jointebm.tables.training.pseudo_likelihood import pseudo_likelihood
from jointebm.training.objectives import LossInputs, PseudoLikelihood
from support.tiny_tables import ALL, CLASSES, energy, enumerated, generator, matches


def by_enumeration(made: TableEnergy, column: int, rows: Tensor) -> Tensor:
    """Sum of -log p(c_j | others), from f of all configurations."""
    others = rows.clone()
    others[:, column] = -1
    f = made(ALL)
    agreeing = torch.where(matches(others), f, -torch.inf)
    return (agreeing.logsumexp(dim=1) - made(rows)).sum()


def gradient(loss: Tensor, made: TableEnergy) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(made.residual.parameters()))])


def test_value_and_gradient_are_those_of_enumeration() -> None:
    made, rows = energy(), ALL[torch.randperm(24, generator=generator())]
    parts = [(0, rows[:5]), (1, rows[5:14]), (2, rows[14:])]
    found = pseudo_likelihood(made, parts)
    expected = torch.stack([by_enumeration(made, column, part) for column, part in parts]).sum()
    assert (found - expected).abs() < 1e-12
    assert (gradient(found, made) - gradient(expected, made)).abs().max() < 1e-12


def test_half_precision_keeps_most_of_it() -> None:
    """bfloat16 has 8 bits: f is off by about a hundredth, and so is a mean of log-scores."""
    made = energy(dtype=torch.float32)
    exact, rough = (pseudo_likelihood(made, [(2, ALL)], precision=p) for p in (torch.float32, torch.bfloat16))
    assert 0 < (exact - rough).abs() / 24 < 0.05


def expected_ranking_loss(made: TableEnergy, data: TableEnergy, column: int, num_candidates: int) -> Tensor:
    """The ranking loss in expectation over rows of exp f of `data` and over all tuples of candidates."""
    weights, total = enumerated(data).softmax(dim=0), torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        of_base = (
            made.reference.of_classes(made.reference.components(_without(ALL, column)), column).log_softmax(dim=1).exp()
        )
    for others in itertools.product(range(CLASSES[column]), repeat=num_candidates - 1):
        probs = of_base[:, list(others)].prod(dim=1) * weights
        drawn = torch.tensor(others).expand(24, -1)
        g = made.residual(_with(column, torch.cat([ALL[:, [column]], drawn], dim=1))).reshape(24, num_candidates)
        total = total - (probs * g.log_softmax(dim=1)[:, 0]).sum()
    return total


def _without(rows: Tensor, column: int) -> Tensor:
    return torch.where(torch.arange(3) == column, -1, rows)


def _with(column: int, codes: Tensor) -> Tensor:
    rows = ALL.repeat_interleave(codes.shape[1], dim=0)
    rows[:, column] = codes.flatten()
    return rows


@pytest.mark.parametrize("column", [1, 2])
def test_ranking_is_stationary_at_the_truth_and_nowhere_near_it(column: int) -> None:
    """Expected gradients by enumeration of rows and candidates: zero if the data are exp f, and not otherwise."""
    made = energy()
    at_truth = gradient(expected_ranking_loss(made, made, column, 2), made)
    elsewhere = gradient(expected_ranking_loss(made, energy(seed=5), column, 2), made)
    assert at_truth.abs().max() < 1e-13
    assert elsewhere.abs().max() > 1e-3


def test_drawn_candidates_give_the_ranking_loss_in_expectation() -> None:
    """Mean over 40,000 rows within 5 standard errors of enumeration: false alarm 6e-7 (fixed seed)."""
    made, num = energy(), 40_000
    chosen = torch.multinomial(enumerated(made).exp(), num, replacement=True, generator=generator())
    losses = torch.stack(
        [
            pseudo_likelihood(made, [(2, rows)], num_candidates=2, generator=generator(seed))
            for seed, rows in enumerate(ALL[chosen].split(400))
        ]
    ).detach()
    error = losses.std() / len(losses) ** 0.5
    expected = expected_ranking_loss(made, made, 2, 2).item() * 400
    assert abs(losses.mean() - expected) < 5 * error
    assert error < 0.01 * expected


def test_few_classes_are_never_ranked() -> None:
    made = energy()
    assert torch.equal(pseudo_likelihood(made, [(2, ALL)], num_candidates=4), pseudo_likelihood(made, [(2, ALL)]))


def test_ranking_without_a_generator_is_refused() -> None:
    with pytest.raises(ValueError, match="num_candidates needs a generator"):
        pseudo_likelihood(energy(), [(2, ALL)], num_candidates=2)


class Asked:
    """Remembers what a pseudo-likelihood asks for."""

    num_classes = (3, 1, 4, 5)

    def __init__(self) -> None:
        self.parts: list[tuple[int, Tensor]] = []

    def composite(self, parts: Sequence[tuple[int, Tensor]], **_: object) -> Tensor:
        self.parts += parts
        return torch.tensor(float(sum(len(rows) for _, rows in parts)))


def test_missing_entries_and_columns_of_one_class_are_never_asked_for() -> None:
    """Rows are told apart by their codes; each is dealt to one column, and left out where that entry is missing."""
    asked, rows = Asked(), torch.cartesian_prod(torch.arange(3), torch.arange(1), torch.arange(4), torch.arange(5))
    missing = torch.rand(rows.shape, generator=generator(2)) < 0.4
    seen = torch.zeros_like(missing)
    for seed in range(50):
        samples = LossInputs({"codes": rows}, {}, missing={"codes": missing}, generator=generator(seed))
        before = len(asked.parts)
        loss = PseudoLikelihood().loss(asked, samples).loss
        counts = sum(len(part) for _, part in asked.parts[before:])
        assert loss.item() == pytest.approx(counts / len(rows))  # per row of the batch, also of those left out
        for column, part in asked.parts[before:]:
            numbers = (part[:, None] == rows).all(dim=2).nonzero()[:, 1]
            assert not missing[numbers, column].any()
            seen[numbers, column] = True
    assert not seen[:, 1].any() and torch.equal(seen[:, [0, 2, 3]], ~missing[:, [0, 2, 3]])
