"""Specification of paths over noise levels: unbiased for the integral of exp F, whatever f is, and exact at clamped entries.

Statistical tests allow five standard errors (a false alarm in 10^6 each) at fixed seeds.
"""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from jointebm import Categorical, Continuous, KernelSpec, Model, ModelConfig, Space, predict
from jointebm.energies import AnySubsetEnergy, AnySubsetSpec, LevelMLPSpec
from jointebm.inference.noise_path import NoisePath, noise_path_normalizer
from jointebm.references import Mixture
from jointebm.sampling.annealing import log_mean_weight, log_normalizer

F64 = torch.float64
SPACE = Space(x=Continuous(2), y=Categorical(3))
SPEC = AnySubsetSpec(net=LevelMLPSpec(hidden=(16,)), min_noise=0.1, max_noise=10.0, num_levels=60)
GRID = torch.linspace(-9, 9, 361, dtype=F64)
CELL = float(GRID[1] - GRID[0])


class Case(NamedTuple):
    """An energy that no one trained, so that its levels are no noisy versions of one another."""

    energy: AnySubsetEnergy
    table: Tensor  # F on the grid, (cells, 3)
    points: Tensor


@pytest.fixture(scope="module")
def case() -> Case:
    torch.manual_seed(1)
    energy = SPEC.build(SPACE).double()
    for parameter in energy.parameters():
        nn.init.normal_(parameter, std=0.3)
    points = torch.cartesian_prod(GRID, GRID)
    with torch.no_grad():
        return Case(energy, energy.table(points, torch.full_like(points, 0.1)), points)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unknown(num: int) -> dict[str, Tensor]:
    return {"y": torch.full((num, 3), torch.nan, dtype=F64)}


def exact_draws(case: Case, num: int) -> dict[str, Tensor]:
    """Draws of F on the grid, uniform within its cells."""
    chosen = torch.multinomial(case.table.exp().flatten(), num, replacement=True, generator=generator(7))
    jitter = CELL * (torch.rand(num, 2, generator=generator(8), dtype=F64) - 0.5)
    return {"x": case.points[chosen // 3] + jitter, "y": torch.eye(3, dtype=F64)[chosen % 3]}


def test_log_z_from_both_ends_is_that_of_quadrature(case: Case) -> None:
    log_z = float(case.table.flatten().logsumexp(dim=0)) + 2 * math.log(CELL)
    rows = exact_draws(case, 2000)
    found = noise_path_normalizer(case.energy, rows, num_levels=60, generator=generator())
    assert abs(log_z) > 0.2  # there is something to find
    assert abs(found.value - log_z) < 5 * found.standard_error < 0.2
    assert abs(found.upper - log_z) < 0.2
    assert found.method == "noise-level path" and found.ess > 200


@pytest.mark.slow
def test_it_agrees_with_annealed_importance_sampling(case: Case) -> None:
    energy = case.energy.float()
    try:
        q = Mixture(SPACE)
        annealed = log_normalizer(energy, q, num_draws=1000, generator=generator())
        rows = {name: value.float() for name, value in exact_draws(case, 1000).items()}
        found = noise_path_normalizer(energy, rows, num_levels=100, generator=generator())
        assert abs(found.value - annealed.value) < 5 * math.hypot(found.standard_error, annealed.standard_error)
    finally:
        case.energy.double()


@pytest.mark.parametrize("num_levels", [1, 5])
def test_of_a_normal_density_all_weights_are_one_whatever_the_number_of_levels(num_levels: int) -> None:
    """Its reverse is exact. A sign, a factor or a level out of place shows in every weight."""
    energy = SPEC.build(SPACE).double()
    path = NoisePath(energy, torch.full((20, 2), torch.nan, dtype=F64), unknown(20), num_levels)
    drawn = path.draw(generator())
    back = path.back(torch.randn(20, 2, dtype=F64, generator=generator()), generator())
    for log_weights in (drawn.log_weights, back):
        torch.testing.assert_close(log_weights, torch.zeros(20, dtype=F64), rtol=0, atol=1e-6)


def conditional(case: Case, first: float, label: int) -> Tensor:
    """F given the first real and the label, on the grid of the second."""
    rows = torch.stack([torch.full_like(GRID, first), GRID], dim=1)
    with torch.no_grad():
        return case.energy.table(rows, torch.full_like(rows, 0.1))[:, label]


def test_with_a_part_clamped_weights_are_the_integral_over_the_rest(case: Case) -> None:
    num, first, label = 2000, 0.7, 2
    known = torch.tensor([[first, math.nan]], dtype=F64).expand(num, 2)
    labels = {"y": torch.tensor([[0.0, 0, 1]], dtype=F64).expand(num, 3)}
    drawn = NoisePath(case.energy, known, labels, 80).draw(generator())
    assert bool((drawn.reals[:, 0] == first).all())
    f = conditional(case, first, label)
    value, error = log_mean_weight(drawn.log_weights)
    assert abs(value - float(f.logsumexp(dim=0)) - math.log(CELL)) < 5 * error < 0.2
    weights = drawn.log_weights.softmax(dim=0)
    mean = float(f.softmax(dim=0) @ GRID)
    spread = float((weights.square() @ (drawn.reals[:, 1] - mean).square()).sqrt())
    assert abs(float(weights @ drawn.reals[:, 1]) - mean) < 5 * spread


def test_labels_are_drawn_from_their_exact_conditional(case: Case) -> None:
    num = 4000
    reals = torch.tensor([[0.7, -0.4]], dtype=F64).expand(num, 2)
    labels = unknown(num)
    labels["y"][0] = torch.tensor([0.0, 1.0, 0.0])
    drawn = case.energy.draw_labels({"x": reals, **labels}, generator())["y"]
    with torch.no_grad():
        p = case.energy.table(reals[:1], torch.full((1, 2), 0.1, dtype=F64)).softmax(dim=1)[0]
    assert bool(((drawn[1:].mean(dim=0) - p).abs() < 5 * (p * (1 - p) / num) ** 0.5).all())
    assert drawn[0].tolist() == [0, 1, 0]  # it was known


# The answers of a model.


@pytest.fixture(scope="module")
def model(case: Case) -> Model:
    config = ModelConfig(
        name="random",
        data="none",
        space=SPACE.config,
        energy=SPEC,
        kernel=KernelSpec(discrete="gibbs", continuous="mala", step_size=0.3),
        num_steps=3,
    )
    return Model(config, energy=case.energy).eval()


def test_labels_given_any_part_are_answered_in_one_pass(model: Model, case: Case) -> None:
    values = {"x": [[0.7, math.nan], [math.nan, math.nan], [0.7, -0.4]]}
    position, observed = SPACE.encode(values, dtype=F64)
    noise = torch.where(observed["x"], 0.1, torch.inf).double()
    with torch.no_grad():
        expected = case.energy.table(position["x"].nan_to_num(), noise).softmax(dim=1)
    for found in (model.predict(values, "y"), predict(model, values, "y")):
        torch.testing.assert_close(found.probs["y"], expected)
        assert found.labels["y"].equal(expected.argmax(dim=1))


def test_known_labels_keep_their_bits(model: Model) -> None:
    found = predict(model, {"x": [[0.7, math.nan]] * 3, "y": [2, 0, -1]}, "y")
    assert found.labels["y"][:2].tolist() == [2, 0]
    assert found.probs["y"][:2].tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_log_density_of_a_part_is_f_of_it_and_log_z_is_of_whole_rows(model: Model, case: Case) -> None:
    from jointebm.inference.reports import NormalizerRecord

    record = NormalizerRecord(value=2.0, standard_error=0.1, ess=10.0, method="test")
    normalised = Model(model.config.model_copy(update={"log_normalizer": record}), energy=case.energy)
    values = {"x": [[0.7, math.nan], [0.7, -0.4]], "y": [1, -1]}
    f = model.log_density(values)
    x = torch.tensor([[0.7, 0.0], [0.7, -0.4]], dtype=F64)
    with torch.no_grad():
        table = case.energy.table(x, torch.tensor([[0.1, math.inf], [0.1, 0.1]], dtype=F64))
    torch.testing.assert_close(f, torch.stack([table[0, 1], table[1].logsumexp(dim=0)]))
    torch.testing.assert_close(normalised.log_density(values), f - torch.tensor([0.0, 2.0], dtype=F64))


def test_draws_keep_what_is_given_and_report_themselves(model: Model) -> None:
    given = {"x": torch.tensor([0.123, math.nan], dtype=F64), "y": 1}
    answer = model.sample(50, given=given, diagnostics=True)
    assert bool((answer.value["x"][:, 0] == given["x"][0]).all())
    assert bool((answer.value["y"] == 1).all()) and len(answer.value["x"][:, 1].unique()) == 50
    assert 1 < float(answer.diagnostics.ess[0]) <= 50 and 0.2 < answer.diagnostics.accept_rate["path"] <= 1
    assert set(answer.diagnostics.accept_rate) == {"path", "Gibbs", "MALA"} and answer.diagnostics.num_jumps is None
    again = model.sample(50, given=given, num_steps=300, diagnostics=True)
    assert again.diagnostics.r_hat is not None and 0.8 < again.diagnostics.r_hat < 1.5  # of chains of one condition
    first, second = model.impute({"x": [[0.5, math.nan], [0.5, 0.25]], "y": [-1, 2]}, num=2)
    assert first["x"][1].tolist() == [0.5, 0.25] and first["y"][1] == 2
    assert first["x"][0, 1] != second["x"][0, 1]
    again = model.sample(50, given=given)
    assert again["x"].equal(answer.value["x"])


def test_draws_have_the_density_of_the_model(case: Case) -> None:
    """The mean of each real over 1,000 draws by 150 levels, ended by 20 steps of the kernel."""
    config = ModelConfig(
        name="random",
        data="none",
        space=SPACE.config,
        energy=SPEC.model_copy(update={"num_levels": 150}),
        kernel=KernelSpec(discrete="gibbs", continuous="mala", step_size=0.8),
        num_steps=20,
    )
    energy = config.energy.build(SPACE).double()
    energy.load_state_dict(case.energy.state_dict())
    drawn = Model(config, energy=energy).eval().sample(1000)
    p = case.table.flatten().softmax(dim=0).reshape(-1, 3)
    mean = p.sum(dim=1) @ case.points
    sd = (p.sum(dim=1) @ (case.points - mean).square()).sqrt()
    assert bool(((drawn["x"].mean(dim=0) - mean).abs() < 5 * sd / 1000**0.5).all())
    shares = torch.bincount(drawn["y"], minlength=3) / 1000
    assert bool(((shares - p.sum(dim=0)).abs() < 5 * (0.25 / 1000) ** 0.5).all())


def test_a_part_that_is_not_finite_is_refused() -> None:
    broken = SPEC.build(SPACE).double()
    broken.log_prior.fill_(torch.nan)
    path = NoisePath(broken, torch.full((2, 2), torch.nan, dtype=F64), unknown(2), 2)
    with pytest.raises(FloatingPointError, match="noise path: f or its score is not finite in 2 of 2 rows"):
        path.draw(generator())
