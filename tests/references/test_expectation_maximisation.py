"""EM climbs its objective whatever is missing, is that of a second implementation, and starts at rows far apart."""

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from jointebm.references import expectation_maximisation as em
from jointebm.references.expectation_maximisation import em_step, fit_product_mixture, prior_of, spread_rows
from jointebm.references.layout import MixedRows
from jointebm.references.product_mixture import ProductMixture
from references.small_spaces import generator, random_mixture

CLASSES = (2, 2, 3)


def some_rows(num: int = 300, *, missing: float = 0.3, seed: int = 0) -> MixedRows:
    """Rows whose columns depend on one another; some rows may lack everything."""
    group = torch.randint(3, (num,), generator=generator(seed))
    codes = torch.stack([group % 2, torch.randint(2, (num,), generator=generator(seed + 1)), group], dim=1)
    reals = torch.randn(num, 2, generator=generator(seed + 2), dtype=torch.float64) + 5 * group[:, None]
    reals[:, 1] = 1000 + 30 * reals[:, 1]
    gaps = torch.rand(num, 5, generator=generator(seed + 3)) < missing
    return MixedRows(codes.masked_fill(gaps[:, :3], -1), reals.masked_fill(gaps[:, 3:], torch.nan))


@pytest.mark.parametrize("strength", [1e-3, 1.0, 20.0])
@pytest.mark.parametrize("missing", [0.0, 0.4, 0.9])
def test_a_step_never_decreases_the_objective(missing: float, strength: float) -> None:
    rows = some_rows(missing=missing)
    prior, made = prior_of(rows, CLASSES, strength), random_mixture(num_components=4).products
    objectives = []
    for _ in range(60):
        made, objective = em_step(made, rows, prior)
        objectives.append(objective)
    assert torch.tensor(objectives).diff().min() > -1e-9 * abs(objectives[-1])
    assert objectives[-1] > objectives[0] + 10


def test_the_objective_is_likelihood_plus_prior() -> None:
    rows, made = some_rows(50), random_mixture().products
    prior = prior_of(rows, CLASSES, 2.0)
    expected = made(*rows).sum().item() + 2 * (prior.classes[:, None] * made.log_probs).sum().item()
    for d in range(2):
        for m in range(3):
            sd, mean = math.exp(made.log_sds[d, m]), made.means[d, m].item()
            pull = 2 * prior.variances[d].item() / 9 + 2e-3 * (mean - prior.means[d].item()) ** 2
            expected -= 2 * math.log(sd) + pull / (2 * sd**2)
    assert em_step(made, rows, prior)[1] == pytest.approx(expected, abs=1e-8)


def test_a_fixed_point_is_a_maximum_over_every_parameter() -> None:
    """Finite differences of the objective in each mean and deviation vanish where EM stops."""
    rows = some_rows(200)
    prior = prior_of(rows, CLASSES, 1.0)
    made = fit_product_mixture(rows, CLASSES, start=torch.tensor([0, 70, 140]), tolerance=0, num_iterations=2000)
    for parameters, step in ((made.means, 1e-4 * prior.variances.sqrt()), (made.log_sds, torch.full((2,), 1e-4))):
        for d in range(2):
            for m in range(3):
                values = []
                for sign in (1, -1):
                    parameters[d, m] += sign * step[d]
                    values.append(em_step(made, rows, prior)[1])
                    parameters[d, m] -= sign * step[d]
                assert abs(values[0] - values[1]) / 2e-4 < 1e-2  # nats per unit, of 200 rows


def test_a_step_without_the_variance_of_the_prior_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant drops the pull on the variance; with a strong prior its objective falls."""
    rows = some_rows()
    prior, made = prior_of(rows, CLASSES, 50.0), random_mixture(num_components=4).products
    for _ in range(100):
        made, before = em_step(made, rows, prior)
    best = em.best_gaussians
    monkeypatch.setattr(em, "best_gaussians", lambda moments, strength, least: best(moments, 1e-9 * strength, least))
    made, _ = em_step(made, rows, prior)
    assert em_step(made, rows, prior)[1] < before - 1


def test_complete_reals_agree_with_scikit_learn() -> None:
    """The same parameters give the same log-density; EM from the same start ends at the same optimum."""
    x = some_rows(600, missing=0).reals
    x[:, 1] = (x[:, 1] - 1000) / 30
    start = torch.tensor([[0.0, 0.0], [4.0, 6.0], [11.0, 9.0]], dtype=torch.float64)
    theirs = GaussianMixture(3, covariance_type="diag", means_init=start.numpy(), reg_covar=0, tol=1e-13, max_iter=400)
    theirs.weights_init, theirs.precisions_init = np.full(3, 1 / 3), np.ones((3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs.fit(x.numpy())
    rows = MixedRows(torch.empty(600, 0, dtype=torch.int64), x)
    ours = ProductMixture((), 3, num_reals=2).double()
    ours.means.copy_(start.T)
    prior = prior_of(rows, (), 1e-9)
    for _ in range(400):
        ours, _ = em_step(ours, rows, prior)
    order = ours.means[0].argsort(), np.argsort(theirs.means_[:, 0])
    assert np.abs(ours.means.T[order[0]].numpy() - theirs.means_[order[1]]).max() < 1e-5
    assert np.abs((2 * ours.log_sds).exp().T[order[0]].numpy() - theirs.covariances_[order[1]]).max() < 1e-5
    assert np.abs(ours.log_weights.exp()[order[0]].numpy() - theirs.weights_[order[1]]).max() < 1e-6
    ours.means.copy_(torch.from_numpy(theirs.means_.T))
    ours.log_sds.copy_(torch.from_numpy(theirs.covariances_.T).log() / 2)
    ours.log_weights.copy_(torch.from_numpy(theirs.weights_).log())
    assert np.abs(ours(*rows).numpy() - theirs.score_samples(x.numpy())).max() < 1e-10


def test_one_component_is_the_marginals() -> None:
    rows = some_rows(missing=0.3)
    made = fit_product_mixture(rows, CLASSES, start=torch.zeros(1, dtype=torch.int64), prior_strength=1e-9)
    x = rows.reals[:, 1]
    x = x[~x.isnan()]
    assert made.means[1, 0].item() == pytest.approx(x.mean().item(), rel=1e-9)
    assert made.log_sds[1, 0].exp().item() == pytest.approx(x.std(correction=0).item(), rel=1e-9)
    seen = rows.codes[:, 2][rows.codes[:, 2] >= 0]
    expected = torch.bincount(seen).double() / len(seen)
    assert (made.of_column(2).exp()[:, 0] - expected).abs().max() < 1e-8


def test_no_component_collapses_on_equal_rows() -> None:
    """Half of all rows are equal, and one column is constant: deviations stay above the stated share, all is finite."""
    reals = torch.randn(200, 3, generator=generator())
    reals[:100] = 0.25
    reals[:, 2] = 7.0
    rows = MixedRows(torch.empty(200, 0, dtype=torch.int64), reals)
    made = fit_product_mixture(rows, (), start=torch.arange(96, 104), prior_strength=1e-9)
    prior = prior_of(rows, (), 1e-9)
    assert prior.variances[2] == prior.variances[:2].mean()
    assert bool(((2 * made.log_sds.double()).exp() >= 0.999e-5 * prior.variances[:, None]).all())
    assert bool(made(*rows).isfinite().all())


def test_columns_without_any_entry_have_the_prior() -> None:
    rows = MixedRows(torch.full((20, 1), -1), torch.full((20, 2), torch.nan))
    made = fit_product_mixture(rows, (3,), start=torch.arange(2))
    assert made.log_probs.exp().sub(1 / 3).abs().max() < 1e-6
    assert torch.equal(made.means, torch.zeros(2, 2))
    assert bool(made.log_sds.isfinite().all())


def test_rows_in_parts_give_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, made = some_rows(), random_mixture().products
    prior = prior_of(rows, CLASSES, 1.0)
    whole, objective = em_step(made, rows, prior)
    monkeypatch.setattr(em, "ENTRIES_AT_ONCE", 7 * 7)
    parts, objective_of_parts = em_step(made, rows, prior)
    assert objective == pytest.approx(objective_of_parts, rel=1e-13)
    for name, tensor in whole.state_dict().items():
        assert (tensor - parts.state_dict()[name]).abs().max() < 1e-9


def test_starting_rows_lie_in_different_groups() -> None:
    """Eight groups 1,000 deviations apart, one with 5 rows of 705: for each of 20 seeds every group has one start."""
    sizes = torch.tensor([100] * 7 + [5])
    group = torch.arange(8).repeat_interleave(sizes)
    reals = torch.randn(705, 1, generator=generator()) + 1000 * group[:, None]
    rows = MixedRows(torch.zeros(705, 1, dtype=torch.int64), reals)
    prior = prior_of(rows, (2,), 1.0)
    for seed in range(20):
        assert sorted(group[spread_rows(rows, prior, 8, generator(seed))].tolist()) == list(range(8))


def test_equal_rows_can_start_more_components_than_there_are_rows() -> None:
    rows = MixedRows(torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 1))
    assert len(spread_rows(rows, prior_of(rows, (2,), 1.0), 5, generator())) == 5
