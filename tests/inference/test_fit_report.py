"""The report of a block model: planted spurious and lost modes are found and warned of, and honest models raise no alarm."""

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from jointebm import Categorical, Continuous, ConvergenceWarning, Model, Space
from jointebm.energies.referenced import Referenced
from jointebm.inference.fit_report import FitSummary, warn_of_wrong_modes, with_report
from jointebm.inference.reports import Estimate, NormalizerRecord
from jointebm.references import Mixture
from jointebm.spaces.space import Position
from support.block_models import small_config

SPACE = Space(x=Continuous(), y=Categorical(2))
SHARE = 0.04  # of the rows of the second group
NONE = Estimate(value=0.0, standard_error=0.0)


class Tilted(nn.Module):
    """Adds the log of a factor to rows of the second group."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.tilt = nn.Parameter(torch.tensor(math.log(factor)))

    def forward(self, position: Position) -> Tensor:
        return self.tilt * (position["x"] > 6)


def two_groups(num: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    group = (torch.rand(num, generator=generator) < SHARE).long()
    return {"x": 12.0 * group + torch.randn(num, generator=generator), "y": group}


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    rows = SPACE.encode(two_groups(4000, 0))[0]
    return Mixture.fit(SPACE, rows, 2, generator=torch.Generator().manual_seed(0))


def reported(mixture: Mixture, factor: float, *, seed: int = 0, upper: float | None = None) -> Model:
    energy = Referenced(mixture, Tilted(factor))
    record = NormalizerRecord(value=0.0, standard_error=0.01, ess=1.0, method="known", upper=upper, upper_error=0.01)
    model = Model(small_config(SPACE, log_normalizer=record), energy=energy).eval()
    rows = SPACE.encode(two_groups(4000, 100 + seed))[0]
    held_out = SPACE.encode(two_groups(100, 1000 + seed))[0]
    summary = FitSummary(NONE, NONE, iterations=1, best_iteration=1, negatives="draws")
    return with_report(model, rows, held_out, summary, torch.Generator().manual_seed(seed))


@pytest.mark.slow
def test_honest_models_raise_no_alarm(mixture: Mixture) -> None:
    """Four runs of two components; false alarm below 1e-3."""
    for seed in range(4):
        report = reported(mixture, 1.0, seed=seed).report
        assert report is not None and report.mode_failures == ()


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "match"), [(4.0, "has a spurious mode there"), (1e-4, "lacks some of these rows")])
def test_a_planted_mode_is_found_and_warned_of(mixture: Mixture, factor: float, match: str) -> None:
    model = reported(mixture, factor)
    assert model.report is not None and match in model.report.failures[0]
    assert match in str(model.report) and match in model.config.findings
    with pytest.warns(ConvergenceWarning, match=f"^fit: a group of rows.*{match}.*Remedy") as found:
        warn_of_wrong_modes(model)
    assert found[0].filename == __file__


@pytest.mark.slow
@pytest.mark.parametrize(("upper", "is_found"), [(None, False), (0.05, False), (0.7, True)])
def test_log_z_that_differs_between_both_ends_is_found(mixture: Mixture, upper: float | None, is_found: bool) -> None:
    model = reported(mixture, 1.0, upper=upper)
    assert model.report is not None
    assert any("chains from one end do not reach" in each for each in model.report.failures) == is_found
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_wrong_modes(model)
    assert len(caught) == is_found
