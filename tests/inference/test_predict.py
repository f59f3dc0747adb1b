"""Specification of `predict` and of conditional sampling, against brute force and closed forms (Sec. 5)."""

import itertools
import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from jointebm import (
    Binary,
    Categorical,
    Continuous,
    KernelSpec,
    Model,
    ModelConfig,
    Noise,
    Prediction,
    Space,
    predict,
)
from jointebm.energies import BilinearSpec, ConcatSpec, EnergySpec, MLPSpec
from jointebm.spaces.space import Position
from support.coverage import NUM_SEEDS, expect_no_coverage, require_coverage
from support.generators import seeded
from support.oracles import chi_square_p_value

NAN = math.nan
SPACE = Space(bits=Binary(2), x=Continuous(2), y=Categorical(3), group=Categorical((2, 3)), flag=Binary())
NO_REALS = Space(y=Categorical(3), bits=Binary(2), group=Categorical((2, 3)))
CONCAT = ConcatSpec(net=MLPSpec(hidden=(12, 8)))
BILINEAR = BilinearSpec(g=MLPSpec(hidden=(8,)), h=MLPSpec(hidden=(8,)), num_features=4)


def make(space: Space = SPACE, energy: EnergySpec = CONCAT, *, sharpness: float = 1.0, **kernel: Any) -> Model:
    """A model in float64 with random weights, large enough that labels depend on x and on one another."""
    config = ModelConfig(
        name="test", data="none", space=space.config, energy=energy, kernel=KernelSpec(**({"step_size": 0.3} | kernel))
    )
    model, generator = Model(config).double(), seeded(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(sharpness * 0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


MODELS = {
    "concat": make(),
    "sharp": make(sharpness=2.0),
    "bilinear": make(energy=BILINEAR),
    "labels only": make(NO_REALS),
}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def values_of(model: Model, num: int, *, missing_rate: float, seed: int = 1) -> dict[str, Tensor]:
    """Rows with reals known and labels missing at random, one by one; the first row misses every label."""
    generator, space = seeded(seed), model.space
    position, _ = space.clamp(None, num_chains=num, generator=generator, dtype=torch.float64)
    values = space.decode({name: 2 * value if name == "x" else value for name, value in position.items()})
    for name in space.discrete:
        missing = torch.rand(values[name].shape, generator=generator) < missing_rate
        missing[0] = True
        values[name] = values[name].masked_fill(missing, -1)
    return values


def brute_force(model: Model, values: dict[str, Tensor]) -> Prediction:
    """The most probable completion and all marginals of every row, by going through all completions one by one."""
    space = model.space
    counts = [count for name in space.discrete for count in space[name].num_classes_per_variable]  # type: ignore[union-attr]
    widths = [space[name].num_variables for name in space.discrete]
    best, marginals = [], []
    for row in range(len(next(iter(values.values())))):
        known = [label for name in space.discrete for label in values[name][row].reshape(-1).tolist()]
        completions = [
            labels
            for labels in itertools.product(*map(range, counts))
            if all(k in (-1, label) for k, label in zip(known, labels, strict=True))
        ]
        split = torch.tensor(completions).split(widths, dim=1)
        labels = {
            name: part.reshape(len(part), *space[name].variable_shape)
            for name, part in zip(space.discrete, split, strict=True)
        }
        reals = {name: values[name][[row] * len(completions)] for name in space.continuous}
        position, _ = space.encode({**labels, **reals}, dtype=torch.float64)
        with torch.no_grad():
            f = model(position)
        best.append({name: value[f.argmax()] for name, value in labels.items()})
        p = f.softmax(dim=0)
        marginals.append({name: torch.tensordot(p, position[name], dims=1) for name in space.discrete})
    return Prediction(
        *({name: torch.stack([row[name] for row in rows]) for name in space.discrete} for rows in (best, marginals))
    )


def assert_same(actual: Prediction, expected: Prediction, atol: float) -> None:
    for name in actual.labels:
        assert torch.equal(actual.labels[name], expected.labels[name])
        torch.testing.assert_close(actual.probs[name], expected.probs[name], rtol=0, atol=atol)


# Energy-based prediction: enumeration.


@every_model
@pytest.mark.parametrize("missing_rate", [1.0, 0.5, 0.2])
def test_exact_is_the_argmax_and_the_marginals_of_all_completions(model: Model, missing_rate: float) -> None:
    values = values_of(model, 12, missing_rate=missing_rate)
    prediction = predict(model, values, model.space.discrete)
    expected = brute_force(model, values)
    assert_same(prediction, expected, atol=1e-12)
    uncertain = torch.cat([(p - p.round()).abs().flatten() > 0.05 for p in expected.probs.values()])
    assert missing_rate < 1 or bool(uncertain.any())  # there is something to average over


@every_model
def test_missing_variables_not_asked_for_are_averaged_over(model: Model) -> None:
    values = values_of(model, 8, missing_rate=0.5)
    prediction, expected = predict(model, values, "group"), brute_force(model, values)
    assert list(prediction.labels) == list(prediction.probs) == ["group"]
    torch.testing.assert_close(prediction.probs["group"], expected.probs["group"], rtol=0, atol=1e-12)
    assert torch.equal(prediction.labels["group"], expected.labels["group"])


def test_an_absent_block_is_a_missing_one() -> None:
    model = MODELS["concat"]
    values = values_of(model, 5, missing_rate=0.5)
    absent = {"x": values["x"], "y": values["y"]}
    spelled_out = values | {
        "bits": torch.full((5, 2), -1),
        "group": torch.full((5, 2), -1),
        "flag": torch.full((5,), -1),
    }
    assert_same(predict(model, absent, ["y", "bits"]), predict(model, spelled_out, ["y", "bits"]), atol=0)


@every_model
@pytest.mark.parametrize("max_evaluations", [1, 7, 100, 150])
def test_memory_is_bounded_and_the_answer_is_the_same(model: Model, max_evaluations: int) -> None:
    values = values_of(model, 5, missing_rate=0.6)
    expected = predict(model, values, model.space.discrete)
    sizes: list[int] = []
    net = model.energy.h if isinstance(model.config.energy, BilinearSpec) else model.energy.net[-1]  # type: ignore[union-attr,index]
    handle = net.register_forward_hook(lambda *arguments: sizes.append(len(arguments[-1])))  # type: ignore[union-attr]
    prediction = predict(model, values, model.space.discrete, max_evaluations=max_evaluations)
    handle.remove()
    assert_same(prediction, expected, atol=1e-12)
    assert 0 < max(sizes) <= max_evaluations


@pytest.mark.parametrize("missing_rate", [0.5, 0.0])
@pytest.mark.parametrize("method", ["exact", "gibbs", "sample"])
def test_known_labels_stay_and_are_certain(method: Literal["exact", "gibbs", "sample"], missing_rate: float) -> None:
    model = MODELS["concat"]
    values = {name: value[1:] for name, value in values_of(model, 6, missing_rate=missing_rate).items()}
    prediction = predict(model, values, model.space.discrete, method=method, num_steps=3, generator=seeded())
    position, observed = model.space.encode(values, dtype=torch.float64)
    for name in model.space.discrete:
        assert torch.equal(prediction.labels[name][observed[name]], values[name][observed[name]])
        known = model.space[name].expand(observed[name]).expand_as(position[name])
        assert torch.equal(prediction.probs[name][known], position[name][known])
        assert bool((prediction.labels[name] >= 0).all())


def test_a_row_does_not_depend_on_other_rows() -> None:
    model = MODELS["concat"]
    values = values_of(model, 6, missing_rate=0.5)
    together = predict(model, values, model.space.discrete)
    for row in range(6):
        alone = predict(model, {name: value[[row]] for name, value in values.items()}, model.space.discrete)
        for name in model.space.discrete:
            assert torch.equal(alone.labels[name][0], together.labels[name][row])
            torch.testing.assert_close(alone.probs[name][0], together.probs[name][row], rtol=0, atol=1e-12)


def test_a_very_sharp_model_does_not_underflow() -> None:
    model = make(sharpness=12.0)
    prediction = predict(model, values_of(model, 6, missing_rate=1.0), model.space.discrete)
    for name in ("y", "group"):
        assert bool(prediction.probs[name].isfinite().all())
    torch.testing.assert_close(prediction.probs["y"].sum(dim=1), torch.ones(6, dtype=torch.float64))


def test_probabilities_have_the_dtype_of_the_model() -> None:
    model = MODELS["labels only"]
    assert predict(model, {"y": [0]}, "bits").probs["bits"].dtype == torch.float64


# Rao-Blackwellised prediction.

SINGLES = ["y", "flag", "bits", "group"]


@pytest.mark.parametrize("target", SINGLES)
@pytest.mark.parametrize("num_steps", [1, 3])
def test_gibbs_is_exact_where_a_single_variable_is_free(target: str, num_steps: int) -> None:
    model = MODELS["concat"]
    values = {name: value[1:] for name, value in values_of(model, 7, missing_rate=0.0).items()}
    values[target] = values[target].clone()
    values[target].reshape(6, -1)[:, -1] = -1  # the last variable of the block
    exact = predict(model, values, target)
    gibbs = predict(model, values, target, method="gibbs", num_chains=2, num_steps=num_steps, generator=seeded())
    assert_same(gibbs, exact, atol=1e-6)


def p_values_of_replicates(estimates: Tensor, truth: Tensor) -> Tensor:
    """Two-sided normal p-values that independent estimates (R, M) have the means `truth` (M,)."""
    error = estimates.std(dim=0) / math.sqrt(len(estimates))
    z = (estimates.mean(dim=0) - truth).abs() / error.clamp(min=1e-12)
    return torch.special.erfc(z / math.sqrt(2))


CONDITIONALS: dict[str, tuple[Model, dict[str, Any]]] = {
    "all labels": (MODELS["concat"], {"x": [[0.5, -1.0]]}),
    "some labels": (MODELS["concat"], {"x": [[0.5, -1.0]], "y": [1], "group": [[-1, 2]]}),
    "no reals in the space": (MODELS["labels only"], {"group": [[1, -1]]}),
}


@pytest.mark.parametrize(("model", "values"), CONDITIONALS.values(), ids=CONDITIONALS)
def test_gibbs_converges_to_the_exact_marginals_of_several_variables(model: Model, values: dict[str, Any]) -> None:
    """200 independent estimates of 4 chains and 40 sweeps. Each mean is tested at 1e-6; at most 10 marginals a case.

    The first 20 sweeps are dropped; what is left of the noise after them is far below the standard error.
    """
    space = model.space
    repeated = {name: torch.tensor(value).expand(200, *torch.tensor(value).shape[1:]) for name, value in values.items()}
    exact = predict(model, values, space.discrete)
    gibbs = predict(model, repeated, space.discrete, method="gibbs", num_chains=4, num_steps=40, generator=seeded())
    for name in space.discrete:
        estimates = gibbs.probs[name].reshape(200, -1)
        assert bool((p_values_of_replicates(estimates, exact.probs[name].flatten()) > 1e-6).all())


def test_gibbs_probabilities_sum_to_one_and_labels_are_their_argmax() -> None:
    model = MODELS["concat"]
    prediction = predict(
        model, {"x": torch.randn(9, 2, generator=seeded())}, SPACE.discrete, method="gibbs", generator=seeded()
    )
    torch.testing.assert_close(prediction.probs["y"].sum(dim=1), torch.ones(9, dtype=torch.float64))
    first, second = prediction.probs["group"].split([2, 3], dim=1)
    assert torch.equal(prediction.labels["y"], prediction.probs["y"].argmax(dim=1))
    assert torch.equal(prediction.labels["group"], torch.stack([first.argmax(dim=1), second.argmax(dim=1)], dim=1))
    assert torch.equal(prediction.labels["bits"], (prediction.probs["bits"] > 0.5).long())


# Sample-based prediction.


@pytest.mark.parametrize("discrete", ["gibbs-with-gradients", "gibbs"])
@pytest.mark.parametrize(("model", "values"), CONDITIONALS.values(), ids=CONDITIONALS)
def test_votes_are_as_frequent_as_the_exact_conditional_says(
    model: Model, values: dict[str, Any], discrete: str
) -> None:
    """Chi-square of 4,000 independent chains per variable, each with a false-alarm rate of 1e-6; at most 6 a case."""
    fields = model.config.kernel.model_dump() | {"discrete": discrete}
    config = model.config.model_copy(update={"kernel": KernelSpec(**fields)})
    model = Model(config, energy=model.energy, noise=model.noise)
    votes = predict(
        model, values, model.space.discrete, method="sample", num_chains=4000, num_steps=60, generator=seeded()
    )
    exact = predict(model, values, model.space.discrete)
    for name in model.space.discrete:
        block = model.space[name]
        shares, p = votes.probs[name].flatten(), exact.probs[name].flatten()
        if isinstance(block, Binary):
            parts = [(torch.stack([1 - s, s]), torch.stack([1 - q, q])) for s, q in zip(shares, p, strict=True)]
        else:
            counts = list(block.num_classes_per_variable)  # type: ignore[union-attr]
            parts = list(zip(shares.split(counts), p.split(counts), strict=True))
        for s, q in parts:
            possible = q > 0
            assert not s[~possible].any()
            statistic = 4000 * float(((s - q).square()[possible] / q[possible]).sum())
            degrees = int(possible.sum()) - 1
            assert degrees == 0 or chi_square_p_value(statistic, degrees) > 1e-6


def test_labels_are_the_plurality_and_ties_go_to_the_lower_label() -> None:
    model = MODELS["labels only"]
    rows = {"y": torch.full((400,), -1)}
    prediction = predict(model, rows, NO_REALS.discrete, method="sample", num_chains=4, num_steps=3, generator=seeded())
    votes = (4 * prediction.probs["y"]).round()
    assert torch.equal(prediction.labels["y"], torch.tensor([row.index(max(row)) for row in votes.tolist()]))
    assert torch.equal(prediction.labels["bits"], (prediction.probs["bits"] > 0.5).long())
    ties = (votes == votes.amax(dim=1, keepdim=True)).sum(dim=1) > 1
    assert bool(ties.any()) and bool((prediction.probs["bits"] == 0.5).any())


def test_chains_of_the_vote_start_from_the_noise_of_the_model() -> None:
    """After one step of a random-scan Gibbs kernel at most one of five variables has left its start."""
    parameters = {name: value.double() for name, value in Noise.uniform(SPACE).parameters.items()}
    parameters["bits"] = torch.ones(2, dtype=torch.float64)
    model = Model(make(discrete="gibbs").config, energy=MODELS["concat"].energy, noise=Noise(SPACE, parameters))
    prediction = predict(
        model, {"x": torch.zeros(50, 2)}, "bits", method="sample", num_chains=1, num_steps=1, generator=seeded()
    )
    assert bool((prediction.labels["bits"].sum(dim=1) >= 1).all())


@pytest.mark.parametrize("method", ["gibbs", "sample"])
def test_equal_generators_give_equal_predictions(method: Literal["gibbs", "sample"]) -> None:
    model, values = MODELS["concat"], {"x": torch.randn(5, 2, generator=seeded())}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, two, other = (
        predict(model, values, "y", method=method, num_chains=3, num_steps=2, generator=seeded(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.probs["y"], two.probs["y"]) and not torch.equal(one.probs["y"], other.probs["y"])


@pytest.mark.parametrize("method", ["gibbs", "sample"])
@pytest.mark.parametrize("discrete", ["gibbs-with-gradients", "gibbs"])
def test_memory_of_the_chains_is_bounded(method: Literal["gibbs", "sample"], discrete: str) -> None:
    model = make(Space(x=Continuous(2), y=Categorical(20), flag=Binary()), discrete=discrete)
    sizes: list[int] = []
    model.energy.net[-1].register_forward_hook(lambda *arguments: sizes.append(len(arguments[-1])))  # type: ignore[index,union-attr]
    values = {"x": torch.tensor([[0.0, NAN]]).expand(30, 2)}
    prediction = predict(
        model, values, "flag", method=method, num_chains=2, num_steps=3, generator=seeded(), max_evaluations=100
    )
    assert prediction.labels["flag"].shape == (30,)
    assert 0 < max(sizes) <= 100


# Missing reals.


class Linear(nn.Module):
    """f(x, y) = b.y - (x - m_y)^2 / (2 s^2), per real: given part of x, labels and the rest of x are known exactly."""

    space = Space(x=Continuous(2), y=Categorical(3))
    log_weights = torch.tensor([0.0, 0.4, -0.3], dtype=torch.float64)
    means = torch.tensor([[-1.0, 0.0], [0.0, 0.8], [0.9, -0.5]], dtype=torch.float64)
    scale = 0.9

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, position: Position) -> Tensor:
        x, y = position["x"], position["y"]
        return y @ self.log_weights - ((x - y @ self.means) / self.scale).square().sum(dim=1) / 2


@pytest.mark.parametrize("method", ["gibbs", "sample"])
def test_missing_reals_are_averaged_over(method: Literal["gibbs", "sample"]) -> None:
    """p(y | x_0) is softmax(b_y - (x_0 - m_y0)^2 / (2 s^2)). 400 replicates, each class tested at 1e-6."""
    config = make(Linear.space, continuous="mala", step_size=0.9).config
    noise = Noise(Linear.space, {n: v.double() for n, v in Noise.uniform(Linear.space).parameters.items()})
    model = Model(config, energy=Linear(), noise=noise)
    values = {"x": torch.tensor([[0.5, NAN]]).expand(400, 2)}
    prediction = predict(model, values, "y", method=method, num_chains=10, num_steps=60, generator=seeded())
    truth = (Linear.log_weights - ((0.5 - Linear.means[:, 0]) / Linear.scale).square() / 2).softmax(dim=0)
    assert bool((p_values_of_replicates(prediction.probs["y"], truth) > 1e-6).all())


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "colour"}, "no discrete block 'colour'; this space has 'bits', 'y', 'group', 'flag'"),
        ({"target": "x"}, "no discrete block 'x'"),
        ({"method": "vote"}, "method must be 'exact', 'gibbs' or 'sample', got 'vote'"),
        ({"method": "gibbs"}, "method 'gibbs' draws random numbers; pass a generator"),
        ({"method": "sample"}, "method 'sample' draws random numbers; pass a generator"),
        (
            {"values": {"x": [[0.0, 1.0], [NAN, 1.0]]}},
            "block 'x': has missing entries in row 1; .* Use method 'gibbs' or 's",
        ),
        ({"values": {"y": [1]}}, "block 'x': has missing entries in row 0"),
        ({"values": {"x": [[0.0, 1.0]], "y": [3]}}, "block 'y' .*label 3 in row 0"),
        ({"values": {"x": torch.empty(0, 2)}}, "at least one row, .* got 0 rows"),
        ({"method": "gibbs", "generator": seeded(), "num_steps": 0}, "num_steps >= 1, got 2 rows, 10 and 0"),
        ({"method": "sample", "generator": seeded(), "num_chains": 0}, "num_steps >= 1, got 2 rows, 0 and 200"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    arguments = {"values": {"x": [[0.0, 1.0], [1.0, 0.0]]}, "target": "y"} | arguments
    with pytest.raises(ValueError, match=message):
        predict(MODELS["concat"], arguments.pop("values"), arguments.pop("target"), **arguments)


def test_more_configurations_than_can_be_enumerated_are_refused_unless_they_are_known() -> None:
    space = Space(x=Continuous(), bits=Binary(24), y=Categorical(3))
    model = make(space)
    with pytest.raises(
        ValueError, match=f"{2**24 * 3} configurations .* too many to enumerate .*use method 'gibbs' or 's"
    ):
        predict(model, {"x": [0.0]}, "y")
    known = {"x": [0.0], "bits": torch.ones(1, 24)}
    assert predict(model, known | {"y": [2]}, "bits").labels["bits"].tolist() == [[1] * 24]
    prediction = predict(model, known, "y")  # only y is free
    torch.testing.assert_close(prediction.probs["y"].sum(), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_an_f_that_is_not_finite_is_refused_by_its_row(value: float) -> None:
    class Broken(Linear):
        def forward(self, position: Position) -> Tensor:
            return torch.where(position["x"][:, 0] == 7, value, super().forward(position))

    model = Model(make(Linear.space).config, energy=Broken())
    x = torch.zeros(9, 2)
    x[6] = 7.0
    for max_evaluations in (65_536, 6):  # all rows at once, and two at a time
        with pytest.raises(FloatingPointError, match=f"its maximum over all configurations is {value} in row 6"):
            predict(model, {"x": x}, "y", max_evaluations=max_evaluations)


# Diagnostics.


@pytest.mark.parametrize("method", ["gibbs", "sample"])
def test_standard_errors_of_chains_cover_the_exact_marginals(method: Literal["gibbs", "sample"]) -> None:
    """200 equal rows, each with 40 chains of its own; false alarm below 4e-4 (fixed seed)."""
    model = MODELS["labels only"]
    row = {"y": torch.tensor([-1]), "bits": torch.tensor([[1, -1]]), "group": torch.tensor([[0, -1]])}
    rows = {name: value.repeat(NUM_SEEDS, *[1] * (value.ndim - 1)) for name, value in row.items()}
    exact, of_exact = predict(model, row, "y", diagnostics=True)
    assert bool(of_exact.exact.all()) and not bool(of_exact.standard_error["y"].any()) and of_exact.r_hat is None
    prediction, found = predict(
        model, rows, "y", method=method, num_chains=40, num_steps=12, generator=seeded(), diagnostics=True
    )
    estimates, errors, truth = (
        prediction.probs["y"][:, 1],
        found.standard_error["y"][:, 1],
        float(exact.probs["y"][0, 1]),
    )
    require_coverage(estimates, errors, truth)
    expect_no_coverage(estimates, errors, truth, factor=0.6)
    assert not bool(found.exact.any()) and bool((found.ess == 40).all())
    assert found.r_hat is not None and 0.9 < found.r_hat < 1.6  # 12 steps are few
    assert (set(found.accept_rate) == set()) == (method == "gibbs")
    assert all(0 < rate <= 1 for rate in found.accept_rate.values())


@pytest.mark.parametrize("method", ["exact", "gibbs", "sample"])
def test_diagnostics_do_not_change_the_answer_and_know_what_is_known(
    method: Literal["exact", "gibbs", "sample"],
) -> None:
    model = MODELS["concat"]
    values = values_of(model, 5, missing_rate=0.5)
    known = values_of(model, 5, missing_rate=0.0)
    values = {name: torch.cat([value[:3], known[name][3:]]) for name, value in values.items()}
    ask = {"method": method, "num_chains": 1, "num_steps": 4, "max_evaluations": 30}
    plain = predict(model, values, "group", generator=seeded(), **ask)  # type: ignore[arg-type]
    prediction, found = predict(model, values, "group", generator=seeded(), diagnostics=True, **ask)  # type: ignore[arg-type,misc]
    assert_same(prediction, plain, atol=0)
    assert found.exact.tolist() == [method == "exact"] * 3 + [True, True]
    assert found.ess.tolist() == [math.inf if each else 1.0 for each in found.exact.tolist()]
    assert bool((found.standard_error["group"][:3] == (0 if method == "exact" else math.inf)).all())
