"""Members: refits to bootstrap samples."""

import pytest
import torch
from scipy import stats
from torch import Tensor

from jointebm.references import ProductMixture
from jointebm.references.expectation_maximisation import fit_product_mixture
from jointebm.references.layout import MixedRows
from jointebm.tables.density.energy import Rebased, Residual, TableEnergy
from jointebm.tables.training.bins import Bins
from jointebm.tables.training.bootstrap import bootstrapped, unsmooth
from jointebm.tables.training.smoothing import Curves
from jointebm.tables.training.table_config import TableConfig

CLASSES, BINS = (6, 2), ((0, 1, 2, 3, 4, 5), None)
CONFIG = TableConfig(width=16, max_iterations=300, num_visits=40, prior_strength=0.5)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dependent_rows(num: int = 400) -> Tensor:
    """A number, and whether it is large; some entries are missing."""
    number = torch.randint(6, (num,), generator=generator(1))
    large = (number >= 3).long() ^ (torch.rand(num, generator=generator(2)) < 0.1).long()
    codes = torch.stack([number, large], dim=1)
    codes[torch.rand(codes.shape, generator=generator(3)) < 0.1] = -1
    return codes


def independent(codes: Tensor, classes: tuple[int, ...]) -> ProductMixture:
    rows = MixedRows(codes, torch.empty(len(codes), 0))
    return fit_product_mixture(rows, classes, start=torch.zeros(1, dtype=torch.int64), prior_strength=0.5)


def member(energy: TableEnergy, codes: Tensor, number: int, *, seed: int = 0) -> TableEnergy:
    return bootstrapped(energy, codes, bins=BINS, config=CONFIG, prior_strength=0.5, seed=seed, number=number)


def network(codes: Tensor) -> TableEnergy:
    """Independent columns, and a network that knows little."""
    residual = Residual(CLASSES, width=16, num_layers=2)
    residual.initialise(generator(4))
    with torch.no_grad():
        residual.readout.fill_(0.01)
    reference = independent(codes, CLASSES)
    return TableEnergy(reference, Rebased(residual, Bins(BINS, CLASSES).marginals(codes), reference))


def test_members_of_independent_columns_spread_as_the_bootstrap_says() -> None:
    """The share of a class among N rows drawn with replacement: a chi-squared test, false alarms 2e-6."""
    codes = (torch.rand(200, 1, generator=generator(5)) < 0.3).long()
    energy = TableEnergy(independent(codes, (2,)), Residual((2,), width=4, num_layers=1))
    share, num = float(codes.double().mean()), 400
    shares = torch.tensor(
        [
            bootstrapped(energy, codes, bins=(None,), config=CONFIG, prior_strength=0.5, seed=0, number=number)
            .reference.log_probs[1, 0]
            for number in range(num)
        ]
    ).double().exp()  # fmt: skip
    spread = num * float(shares.var(correction=0)) / (share * (1 - share) / 200)
    assert stats.chi2.ppf(1e-6, num - 1) < spread < stats.chi2.ppf(1 - 1e-6, num - 1)
    assert abs(float(shares.mean()) - share) < 5 * (share * (1 - share) / 200 / num) ** 0.5 + 0.003


def test_the_prior_of_a_member_is_that_of_the_reference_of_the_fit() -> None:
    """Two kinds of rows with nothing in common. Of s rows per component the share s / (n + 2 s) is of the other kind, and
    so it is in members, within 5 standard errors of their n; with the full strength of the config it is five times that."""
    codes = torch.arange(2).repeat_interleave(200)[:, None].expand(-1, 2)
    rows, weak = MixedRows(codes, torch.empty(400, 0)), 0.1
    reference = fit_product_mixture(rows, (2, 2), start=torch.tensor([0, 399]), prior_strength=weak, tolerance=1e-9)
    energy = TableEnergy(reference, Residual((2, 2), width=4, num_layers=1))

    def shares(of: TableEnergy) -> Tensor:
        return of.reference.log_probs.exp().view(2, 2, 2).amin(dim=1).mean()

    expected = 0.5 * weak / (200 + weak)
    assert float(shares(energy)) == pytest.approx(expected, rel=0.02)
    for strength in (weak, CONFIG.prior_strength):
        members = [
            bootstrapped(
                energy, codes, bins=(None, None), config=CONFIG, prior_strength=strength, seed=0, number=number
            )
            for number in range(8)
        ]
        mean = float(torch.stack([shares(each) for each in members]).mean())
        assert mean == pytest.approx(expected * strength / weak, rel=0.1), strength


def test_a_member_is_decided_by_the_seed_and_its_number() -> None:
    codes = dependent_rows()
    energy = network(codes)
    first, again, second, other = (
        member(energy, codes, *each) if len(each) == 1 else member(energy, codes, each[0], seed=each[1])
        for each in ((0,), (0,), (1,), (0, 1))
    )
    states = [each.state_dict() for each in (first, again, second, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    for different in states[2:]:
        assert not torch.equal(different["reference.log_probs"], states[0]["reference.log_probs"])
        assert not torch.equal(different["residual.net.readout"], states[0]["residual.net.readout"])


def test_a_network_of_zero_stays_zero() -> None:
    codes = dependent_rows()
    energy = TableEnergy(independent(codes, CLASSES), Residual(CLASSES, width=16, num_layers=2))
    assert not bool(member(energy, codes, 0).residual(torch.tensor([[0, 0], [5, 1]])).any())


@pytest.mark.slow
def test_members_learn_from_their_sample_and_leave_the_fit_alone() -> None:
    codes = dependent_rows()
    energy = network(codes)
    before = {name: value.clone() for name, value in energy.state_dict().items()}
    found = bootstrapped(
        energy,
        codes,
        bins=BINS,
        config=CONFIG.model_copy(update={"max_iterations": 4000, "num_visits": 800}),
        prior_strength=0.5,
        seed=0,
        number=0,
    )
    assert all(torch.equal(value, before[name]) for name, value in energy.state_dict().items())
    with torch.no_grad():
        odds = [
            float((each(torch.tensor([[5, 1]])) - each(torch.tensor([[5, 0]]))).detach()) for each in (energy, found)
        ]
    assert odds[0] < 1 < odds[1]  # in truth log 9


def test_training_continues_at_the_weights_of_the_fit() -> None:
    residual = Residual(CLASSES, width=16, num_layers=2)
    residual.initialise(generator(6))
    before = residual.embedding.detach().clone()
    codes = dependent_rows()
    unsmooth(residual, BINS, codes)
    assert not torch.allclose(residual.embedding[:6], before[:6]) and torch.equal(residual.embedding[6:], before[6:])
    Curves(residual, BINS, codes)
    assert torch.allclose(residual.embedding, before, atol=1e-5)
