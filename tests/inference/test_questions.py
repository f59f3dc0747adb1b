"""Diagnostics of the answers of a block model, on spaces that can be summed."""

import itertools
import math
import warnings

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, ConvergenceWarning, KernelSpec, Model, ModelConfig, Space, sample
from jointebm.energies import ConcatSpec, MLPSpec
from jointebm.inference import importance
from jointebm.references import Mixture
from support.block_models import model_of
from support.coverage import NUM_SEEDS, expect_no_coverage, few_draws_differ, require_coverage

LABELS = Space(a=Categorical((2, 3)), b=Binary())
MIXED = Space(x=Continuous(), y=Categorical(3))


@pytest.fixture
def no_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two configurations of missing labels are too many to sum."""
    monkeypatch.setattr(importance, "MAX_EXACT", 1)
    monkeypatch.setattr(importance, "MAX_SUMMED", 1)


def repeated(**values: list[int]) -> dict[str, Tensor]:
    """One row, as often as there are seeds: each gets draws of its own."""
    return {name: torch.tensor(value).expand(NUM_SEEDS, *torch.tensor(value).shape) for name, value in values.items()}


@torch.no_grad()
def exact_marginal(model: Model, *, a: int) -> tuple[float, float]:
    """log of the sum of exp F over rows with a[0] = a, and p(b = 1) among them."""
    configurations = LABELS.configurations(dtype=torch.float64)
    f = torch.where(configurations["a"][:, a] == 1, model(configurations), -torch.inf)
    return float(f.logsumexp(dim=0)), float(f.softmax(dim=0) @ configurations["b"].double())


@pytest.mark.usefixtures("no_sums")
def test_standard_errors_of_drawn_labels_cover_the_sums() -> None:
    """By enumeration; false alarm of each below 4e-4 (fixed seed)."""
    model = model_of(LABELS)
    mass, prob = exact_marginal(model, a=1)
    known = repeated(a=[1, -1])
    log_p, found = model.log_density(known, num_draws=200, diagnostics=True)
    assert few_draws_differ(log_p) and not bool(found.exact.any())
    require_coverage(log_p, found.standard_error, mass - 0.5)
    expect_no_coverage(log_p, found.standard_error, mass - 0.5, factor=0.6)
    prediction, found = model.predict(known, "b", num_draws=200, seed=1, diagnostics=True)
    assert few_draws_differ(prediction.probs["b"]) and not bool(found.exact.any())
    require_coverage(prediction.probs["b"], found.standard_error["b"], prob)
    expect_no_coverage(prediction.probs["b"], found.standard_error["b"], prob, factor=0.6)


def test_standard_errors_of_drawn_reals_cover_the_integral() -> None:
    """By quadrature over x, with y summed out at each draw; false alarm of each below 4e-4 (fixed seed)."""
    model = model_of(MIXED)
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    of_class = torch.stack([model.log_density({"x": grid, "y": torch.full((4001,), y)}) for y in range(3)], dim=1)
    masses = of_class.logsumexp(dim=0) + math.log(24 / 4000)
    log_p, found = model.log_density(repeated(y=1), num_draws=1000, diagnostics=True)  # type: ignore[arg-type]
    require_coverage(log_p, found.standard_error, float(masses[1]))
    nothing = {"y": torch.full((NUM_SEEDS,), -1)}
    prediction, found = model.predict(nothing, "y", num_draws=1000, diagnostics=True)
    assert few_draws_differ(log_p) and not bool(found.exact.any())
    for y in range(3):
        require_coverage(prediction.probs["y"][:, y], found.standard_error["y"][:, y], float(masses.softmax(dim=0)[y]))
    expect_no_coverage(
        prediction.probs["y"][:, 0], found.standard_error["y"][:, 0], float(masses.softmax(0)[0]), factor=2
    )


def test_exact_answers_have_no_error() -> None:
    model = model_of(LABELS)
    values = {"a": torch.tensor([[1, -1], [0, 2]]), "b": torch.tensor([-1, 1])}
    for answer in (model.log_density(values, diagnostics=True), model.predict(values, ("a", "b"), diagnostics=True)):
        assert bool(answer.diagnostics.exact.all()) and bool(answer.diagnostics.ess.isinf().all())
        assert answer.diagnostics.num_jumps is None and answer.diagnostics.accept_rate == {}
    _, found = model.log_density(values, diagnostics=True)
    assert found.standard_error.tolist() == [0.0, 0.0]
    _, found = model.predict(values, ("a", "b"), diagnostics=True)
    assert {name: float(error.abs().max()) for name, error in found.standard_error.items()} == {"a": 0.0, "b": 0.0}


@pytest.mark.usefixtures("no_sums")
def test_the_ess_of_a_row_is_that_of_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(LABELS)
    reference = model.reference
    assert isinstance(reference, Mixture)
    drawn: list[dict[str, Tensor]] = []
    complete = Mixture.complete

    def kept(self: Mixture, *args: object) -> dict[str, Tensor]:
        drawn.append(complete(self, *args))  # type: ignore[arg-type]
        return drawn[-1]

    monkeypatch.setattr(Mixture, "complete", kept)
    _, found = model.log_density({"a": torch.tensor([[1, -1]])}, num_draws=50, diagnostics=True)
    weights = (model(drawn[-1]) - reference.log_prob(drawn[-1])).exp().detach()
    assert abs(float(found.ess[0]) - float(weights.sum().square() / weights.square().sum())) < 1e-9


def test_draws_report_the_ess_of_their_starts_and_the_jumps_of_their_chains() -> None:
    model = model_of(MIXED)
    _, found = model.sample(100, {"y": 1}, num_steps=20, diagnostics=True)
    assert found.standard_error is None and bool((found.ess == found.ess[0]).all()) and 50 < found.ess[0] < 1000
    assert set(found.accept_rate) == {"Jump", "Gibbs", "Langevin"}
    assert found.num_jumps is not None
    assert float(found.num_jumps.mean()) == pytest.approx(20 * found.accept_rate["Jump"])
    assert found.r_hat is not None and 0.9 < found.r_hat < 1.5
    known = {"x": torch.tensor([0.1, math.nan, 0.3]), "y": torch.tensor([1, -1, -1])}
    completions, found = model.impute(known, num=4, num_steps=20, diagnostics=True)
    assert len(completions) == 4 and found.exact.tolist() == [True, False, True]  # the last misses a label alone
    assert found.num_jumps is not None and found.num_jumps.isnan().tolist() == [True, False, True]
    assert found.ess.isinf().tolist() == [True, False, True] and found.ess[1] >= 1 and found.num_jumps[1] > 2
    plain = model.impute(known, num=4, num_steps=20)
    assert all(torch.equal(plain[i][name], completions[i][name]) for i, name in itertools.product(range(4), known))


@pytest.mark.parametrize("labels", [[1], [0, 1, 2, 1]])  # one condition for all rows, and one for each
def test_chains_without_weights_start_at_plain_draws_and_do_not_jump(
    monkeypatch: pytest.MonkeyPatch, labels: list[int]
) -> None:
    model = model_of(MIXED)
    given = {"y": torch.tensor(labels)} if len(labels) > 1 else {"y": labels[0]}
    _, of_weighted = model.sample(4, given, num_steps=0, diagnostics=True)
    model.config = model.config.model_copy(update={"weighted": False})
    drawn, complete = [], Mixture.complete

    def kept(self: Mixture, *args: object) -> dict[str, Tensor]:
        drawn.append(complete(self, *args))  # type: ignore[arg-type]
        return drawn[-1]

    monkeypatch.setattr(Mixture, "complete", kept)
    values, found = model.sample(4, given, num_steps=0, diagnostics=True)
    of_each = len(drawn[-1]["x"]) // len(labels) if len(labels) > 1 else 1
    assert torch.equal(values["x"], drawn[-1]["x"][::of_each][:4])
    assert torch.equal(found.ess, of_weighted.ess)  # the weights are reported all the same
    _, moved = model.sample(4, given, num_steps=3, diagnostics=True)
    assert set(moved.accept_rate) == {"Gibbs", "Langevin"} and float(moved.num_jumps.sum()) == 0  # type: ignore[union-attr]


def test_rows_without_anything_to_draw_are_exact() -> None:
    answer, found = model_of(LABELS).sample(2, {"a": [1, 2], "b": 0}, num_steps=4, diagnostics=True)
    assert bool(found.exact.all()) and found.r_hat is None and found.accept_rate == {}
    assert answer["a"].tolist() == [[1, 2], [1, 2]]


def test_chains_from_noise_report_themselves() -> None:
    """Without a reference, as `sample` reports them, and no weight has chosen a start."""
    config = ModelConfig(
        name="noise",
        data="none",
        space=MIXED.config,
        energy=ConcatSpec(net=MLPSpec(hidden=(4,))),
        kernel=KernelSpec(step_size=0.1),
        num_steps=9,
    )
    model, given = Model(config).eval(), {"y": [0, 1, -1, -1], "x": [0.5, math.nan, math.nan, math.nan]}
    values, found = model.sample(4, given, 3, diagnostics=True)
    expected = sample(
        model, MIXED, model.kernel, num_chains=4, num_steps=9, given=given, init=model.noise,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    plain = model.sample(4, given, 3)
    for name, value in expected.values.items():
        assert torch.equal(values[name].nan_to_num(), value.nan_to_num()) and torch.equal(plain[name], values[name])
    assert found.exact.tolist() == [True, False, False, False] and found.ess.tolist() == [math.inf, 1, 1, 1]
    assert found.r_hat == expected.diagnostics.r_hat and found.r_hat is not None
    assert set(found.accept_rate) == {type(part).__name__ for part in model.kernel.kernels}


def test_a_question_warns_once_however_many_rows_are_poor() -> None:
    model = model_of(MIXED)
    with torch.no_grad():
        model.energy.residual.double()  # type: ignore[union-attr]
        for parameter in model.energy.residual.parameters():  # type: ignore[union-attr]
            parameter.mul_(30)
    nothing = {"y": torch.full((5,), -1)}
    for ask in (
        lambda: model.predict(nothing, "y", num_draws=4),
        lambda: model.log_density(nothing, num_draws=4),
        lambda: model.impute(nothing | {"x": torch.full((5,), math.nan)}, num_steps=1),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ask()
        assert [each.category for each in caught] == [ConvergenceWarning]
        assert "of 5 rows have fewer than" in str(caught[0].message) and "Remedy: " in str(caught[0].message)
        assert caught[0].filename == __file__
