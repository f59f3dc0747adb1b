"""The report of a fit: a good model has no findings, and a failing one says what is wrong."""

import pytest
import torch

from jointebm.references import ProductMixture
from jointebm.tables.density.energy import Residual, TableEnergy
from jointebm.tables.density.normalizer import GROUP, AnnealedRows, annealed, annealed_back
from jointebm.tables.training.table_report import FitReport, table_report_of
from jointebm.tables.training.validation import HeldOut
from support.tiny_tables import CLASSES, generator

HELD_OUT = HeldOut(
    of_model=-2.0, of_reference=-2.5, gain_error=0.1, normalizer_error=0.1, of_model_error=0.1, of_reference_error=0.1
)


def two_groups(weight: float) -> TableEnergy:
    """F = log q with two groups of rows far apart, the second one of this weight."""
    reference = ProductMixture(CLASSES, 2)
    reference.log_weights.copy_(torch.tensor([1 - weight, weight]).log())
    reference.log_probs.fill_(-6.0)
    for column, count in enumerate(CLASSES):
        reference.of_column(column)[0, 0] = 0.0
        reference.of_column(column)[count - 1, 1] = 0.0
        reference.of_column(column).copy_(reference.of_column(column).log_softmax(dim=0))
    return TableEnergy(reference, Residual(CLASSES, width=4, num_layers=1))


def report(energy: TableEnergy, rows: AnnealedRows, codes: torch.Tensor) -> FitReport:
    chosen = torch.arange(16 * GROUP) % len(codes)
    back = annealed_back(energy, rows.rungs, codes[chosen], generator=generator(3))
    return table_report_of(energy, rows, codes, back=back, held_out=HELD_OUT, num_held_out=90, log_score=-0.5)


@pytest.mark.parametrize("share_missing", [0.0, 0.3])
def test_a_model_that_is_the_data_has_no_findings(share_missing: float) -> None:
    energy = two_groups(0.2)
    rows = annealed(energy, (1.0,), num_groups=16, generator=generator())
    data = energy.reference.draw(torch.full((3000, 3), -1), generator(1))
    data = data.masked_fill(torch.rand(data.shape, generator=generator(2)) < share_missing, -1)
    made = report(energy, rows, data)
    assert made.findings == ()
    assert abs(made.worst_component) < 0.03 and made.worst_moment < 5 and made.moments_off == 0
    assert made.gain == pytest.approx(0.5) and made.ess == pytest.approx(2048)
    assert FitReport.model_validate_json(made.model_dump_json()) == made
    assert "held-out log-likelihood of codes -2.000 +- 0.100 nats per row (90 rows)" in made.lines()[0]
    assert made.log_normalizer_upper == made.log_normalizer_upper_error == 0  # F is the reference
    assert "log Z 0.000 +- 0.000, from the data 0.000 +- 0.000" in made.lines()[2]


def test_wrong_weights_of_groups_are_found() -> None:
    energy = two_groups(0.2)
    rows = annealed(two_groups(0.9), (1.0,), num_groups=16, generator=generator())
    data = energy.reference.draw(torch.full((3000, 3), -1), generator(1))
    made = report(energy, rows, data)
    assert abs(made.worst_component) > 0.6 and made.moments_off > 0.05
    assert "a group of rows has the weight 0" in made.findings[0] and "two classes differ" in made.findings[1]
    assert sum(line.startswith("WARNING: ") for line in made.lines()) == 2


def test_the_report_says_why_f_is_the_reference() -> None:
    untrained = FitReport(log_normalizer=0.0, log_normalizer_error=0.0, ess=9.0, num_rungs=1)
    assert untrained.lines()[0] == "no rows were held out (fewer than 50 rows, or num_visits=0): F is the reference"
    trained = {"log_likelihood_error": 0.1, "reference_log_likelihood": -2.0, "gain_error": 0.1, "log_score": -0.5}
    given_up = untrained.model_copy(update=trained | {"log_likelihood": -2.0, "gain": 0.0})
    assert given_up.lines()[2] == "F is the reference: held-out rows prefer it to the network"
    kept = untrained.model_copy(update=trained | {"log_likelihood": -2.05, "gain": -0.05})
    assert not any("F is the reference" in line for line in kept.lines())


def test_an_uncertain_log_z_is_found() -> None:
    energy = two_groups(0.2)
    rows = annealed(energy, (1.0,), num_groups=16, generator=generator())
    heavy = rows._replace(log_weights=torch.where(torch.arange(2048) == 0, 90.0, rows.log_weights))
    made = report(energy, heavy, rows.codes)
    assert made.ess < 2 and "log Z is uncertain" in made.findings[0]


def test_a_planted_spurious_mode_is_found_and_an_honest_fit_has_none() -> None:
    """F gives rows of the second group 1 to 4 times their weight; 20 honest samples raise no alarm (rate below 1e-3)."""
    energy = two_groups(0.02)
    for seed in range(20):
        data = energy.reference.draw(torch.full((3000, 3), -1), generator(100 + seed))
        rows = annealed(energy, (1.0,), num_groups=16, generator=generator(seed))
        assert report(energy, rows, data).component_finding is None
    data = energy.reference.draw(torch.full((3000, 3), -1), generator(1))
    for factor, is_found in ((1.0, False), (1.5, False), (4.0, True)):
        tilted = rows._replace(log_weights=(rows.codes[:, 0] == 1).double() * torch.tensor(factor).log())
        made = report(energy, tilted, data)
        assert (made.component_finding is not None) == is_found
        assert 0.002 < (made.worst_component_error or 0) < 0.015
    assert "F has a spurious mode there" in made.findings[0]
    lost = rows._replace(log_weights=torch.where(rows.codes[:, 0] == 1, -5.0, 0.0).double())
    assert "F lacks some of these rows" in (report(energy, lost, data).component_finding or "")


def test_log_z_that_differs_between_both_ends_is_found() -> None:
    """The data hold a group that draws of the reference never reach and F gives half of its mass."""
    blind, energy = two_groups(1e-9), two_groups(1e-9)
    tilt = energy.residual
    with torch.no_grad():
        tilt.embedding[[1, 4, 8]] = 100.0  # the last class of each column
        tilt.bias.fill_(-200.0)
        tilt.readout.fill_(17.94 / (4 * 100))  # its four hidden units are 100: F is as large as in the near group
    data = two_groups(0.5).reference.draw(torch.full((2048, 3), -1), generator(1))
    rows = annealed(energy, (1.0,), num_groups=16, generator=generator())
    near, far = energy(torch.tensor([[0, 0, 0], [1, 2, 3]])).tolist()
    assert abs(near - far) < 0.1
    made = report(energy, rows, data)
    assert made.bracket_finding is not None and "chains from one end do not reach" in made.findings[0]
    assert made.log_normalizer_upper == pytest.approx(made.log_normalizer + 0.69, abs=0.1)
    assert report(blind, rows._replace(log_weights=0 * rows.log_weights), data).bracket_finding is None


def test_rare_classes_of_a_column_count_together_in_moments() -> None:
    """A column of 2,000 classes beside a bit: 1,800 rare ones have a tenth of the rows, or 3 times that in the model."""
    classes = (2000, 2)
    reference = ProductMixture(classes)
    shares = torch.cat([torch.full((200,), 0.9 / 200), torch.full((1800,), 0.1 / 1800)])
    reference.of_column(0).copy_(shares.log()[:, None])
    energy = TableEnergy(reference, Residual(classes, width=4, num_layers=1))
    data = reference.draw(torch.full((3000, 2), -1), generator(1))
    rows = annealed(energy, (1.0,), num_groups=16, generator=generator())
    honest = report(energy, rows, data)
    assert honest.worst_moment < 5 and honest.moments_off == 0
    tripled = rows._replace(log_weights=(rows.codes[:, 0] >= 200).double() * torch.tensor(3.0).log())
    assert report(energy, tripled, data).worst_moment > 8


def test_a_report_without_held_out_rows_says_why() -> None:
    first = FitReport(log_normalizer=0.0, log_normalizer_error=0.0, ess=9.0, num_rungs=1).lines()[0]
    assert first == "no rows were held out (fewer than 50 rows, or num_visits=0): F is the reference"
