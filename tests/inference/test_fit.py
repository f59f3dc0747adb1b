"""Specification of `fit` and of the answers of a model with a reference."""

import json
import math
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

import jointebm
from jointebm import Binary, Categorical, Continuous, Model, Space, Trainer
from jointebm.energies import MLP, ConcatEnergy
from jointebm.inference.importance import mass_of_known
from jointebm.sampling.enumeration import evaluate_all_configurations
from jointebm.spaces.transforms import Logit

MIXED = Space(point=Continuous(2), group=Categorical((2, 3, 7)), bits=Binary((5,)))
SMALL = Space(x=Continuous(), y=Categorical(3), bit=Binary())


def mixed_values(num: int = 300) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(2, (num,), generator=generator)
    group = torch.stack([first, (first + (torch.rand(num, generator=generator) < 0.2)) % 3, 3 * first], dim=1)
    bits = (torch.rand(num, 5, generator=generator) < 0.2 + 0.6 * first[:, None]).long()
    point = 100 + 30 * first[:, None] + 3 * torch.randn(num, 2, generator=generator)
    return {"point": point, "group": group, "bits": bits}


def with_missing(values: dict[str, Tensor]) -> dict[str, Tensor]:
    holes = {name: value.clone() for name, value in values.items()}
    holes["point"][::7, 1] = math.nan
    holes["group"][::5, 0] = -1
    holes["bits"][3::9, 2] = -1
    return holes


@pytest.fixture(scope="module")
def mixed() -> Model:
    """Trained up to the first checks, which is enough for what its tests ask; `small` is trained to its end."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys.modules[jointebm.fit.__module__], "MAX_LOOKS_WITHOUT_GAIN", 1)
        return jointebm.fit(MIXED, with_missing(mixed_values()), seed=0)


@pytest.fixture(scope="module")
def small() -> Model:
    generator = torch.Generator().manual_seed(0)
    y = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 1000, replacement=True, generator=generator)
    x = 12.0 * y + torch.randn(1000, generator=generator) * (1 + y)
    bit = (torch.rand(1000, generator=generator) < 0.3 + 0.3 * (x > 12)).long()
    return jointebm.fit(SMALL, {"x": x, "y": y, "bit": bit}, seed=0)


@pytest.mark.slow
def test_the_calls_of_the_contract_run_as_written(mixed: Model) -> None:
    values = mixed_values(20)
    x, y, b = values["point"], values["group"], values["bits"]
    assert mixed.log_density({"point": x, "group": y, "bits": b}).shape == (20,)
    assert mixed.log_density({"group": y}).shape == (20,)
    drawn = mixed.sample(1000, given={"group": [1, -1, -1]}, seed=0)
    assert drawn["point"].shape == (1000, 2) and bool((drawn["group"][:, 0] == 1).all())
    probs = mixed.predict({"point": x}, "group").probs["group"]
    assert probs.shape == (20, 12) and torch.allclose(probs[:, :2].sum(dim=1), torch.ones(20), atol=1e-4)
    space = Space(point=Continuous(2), group=Categorical((2, 3, 7)), bits=Binary((5,)))
    k = jointebm.kernels
    kernel = k.Cycle(
        (
            k.GibbsWithGradients(space),
            k.Gibbs(space),
            k.Langevin(block="point", step_size=0.1),
            k.MALA(block="point", step_size=0.1),
        )
    )
    chain = k.evaluate(mixed, mixed.space.encode(values)[0])
    free = {name: torch.ones(20, *space[name].variable_shape, dtype=torch.bool) for name in space}
    chain, info = kernel.step(mixed, chain, free=free, generator=torch.Generator())
    assert len(info) == 4


@pytest.mark.slow
def test_a_conditional_sample_knows_the_reals_that_go_with_a_label(mixed: Model) -> None:
    for label, middle in ((0, 100.0), (1, 130.0)):
        point = mixed.sample(500, given={"group": [label, -1, -1]}, seed=1)["point"]
        assert abs(float(point.mean()) - middle) < 1.5


@pytest.mark.slow
def test_a_saved_model_gives_the_same_answers(mixed: Model, tmp_path: Path) -> None:
    again = jointebm.load(mixed.save(tmp_path / "model"))
    values = with_missing(mixed_values(30))
    assert torch.equal(again.log_density(values), mixed.log_density(values))
    assert torch.equal(again.sample(5, seed=3)["point"], mixed.sample(5, seed=3)["point"])
    assert again.config == mixed.config and again.report is not None
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["log_normalizer"]["value"] == mixed.log_normalizer.value
    card = (tmp_path / "model" / "README.md").read_text()
    assert "log Z of f" in card and "Held-out log-likelihood" in card


@pytest.mark.slow
def test_known_entries_of_imputed_rows_keep_their_bits(mixed: Model) -> None:
    values = with_missing(mixed_values(40))
    draws = mixed.impute(values, num=2)
    assert len(draws) == 2 and not torch.equal(draws[0]["point"], draws[1]["point"])
    for drawn in draws:
        for name, value in values.items():
            missing = value.isnan() if name == "point" else value < 0
            assert torch.equal(drawn[name][~missing], value[~missing])
            assert not bool((drawn[name].isnan() if name == "point" else drawn[name] < 0).any())


@pytest.mark.slow
def test_the_density_integrates_to_one_in_units_of_the_values(small: Model) -> None:
    grid = torch.linspace(-30, 60, 9001)
    total = small.log_density({"x": grid}).double().logsumexp(dim=0) + math.log(0.01)
    assert abs(float(total)) < 0.03 + 3 * (small.log_normalizer.standard_error or 0)


@pytest.mark.slow
def test_missing_entries_are_marginalised(small: Model) -> None:
    """Labels exactly; x by draws of the reference, against quadrature."""
    x = torch.tensor([-1.0, 11.0, 25.0])
    joint = torch.stack(
        [
            small.log_density({"x": x, "y": torch.full((3,), y), "bit": torch.full((3,), b)})
            for y in range(3)
            for b in (0, 1)
        ]
    )
    assert torch.allclose(joint.logsumexp(dim=0), small.log_density({"x": x}), atol=1e-4)
    grid = torch.linspace(-30, 60, 9001)
    for y in range(3):
        given = {"y": torch.full((9001,), y)}
        exact = small.log_density({"x": grid, **given}).double().logsumexp(dim=0) + math.log(0.01)
        assert abs(float(small.log_density({"y": [y]}, num_draws=4000)[0]) - float(exact)) < 0.05


@pytest.mark.slow
def test_predictions_are_the_marginals_of_the_same_density(small: Model) -> None:
    x = torch.tensor([-1.0, 11.0, 25.0])
    f, configurations = evaluate_all_configurations(small, small.space, {"x": small.space.encode({"x": x})[0]["x"]})
    exact = f.softmax(dim=1) @ configurations["y"]
    assert torch.allclose(small.predict({"x": x}, "y").probs["y"], exact, atol=1e-5)
    without_x = small.predict({"bit": [0, 1]}, "y", num_draws=20_000).probs["y"]
    shares = torch.stack([small.log_density({"y": [y, y], "bit": [0, 1]}, num_draws=20_000) for y in range(3)], dim=1)
    assert torch.allclose(without_x, shares.softmax(dim=1), atol=0.03)


@pytest.mark.slow
def test_sets_and_intervals_hold(small: Model) -> None:
    drawn = small.sample(2000, given={"y": {0, 2}, "x": (5.0, None)}, seed=0)
    assert set(drawn["y"].tolist()) <= {0, 2} and float(drawn["x"].min()) >= 5
    assert float((drawn["y"] == 2).float().mean()) > 0.95
    with pytest.raises(ValueError, match="expected some of the classes 0 to 2"):
        small.sample(2, given={"y": {3}})
    with pytest.raises(ValueError, match="low must be below high"):
        small.sample(2, given={"x": (5.0, 5.0)})


@pytest.mark.slow
def test_the_report_says_what_the_fit_reached(small: Model) -> None:
    report = small.report
    assert report is not None and report.failures == ()
    assert report.held_out.value >= report.held_out_reference.value
    assert all(abs(model - data) < 0.08 for model, data in report.component_weights)
    assert small.diagnostics is not None and small.diagnostics.r_hat is not None and small.diagnostics.r_hat < 1.1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the model, and of the trained energy whether it is the model's or not; training ends at the first check in vain."""
    module, trained = sys.modules[jointebm.fit.__module__], []
    train = module._train

    def noting(trainer: Trainer, best: object) -> None:
        train(trainer, best)
        trained.append((trainer.iteration, {**trainer.log_density.state_dict()}))

    monkeypatch.setattr(module, "MAX_LOOKS_WITHOUT_GAIN", 1)
    monkeypatch.setattr(module, "_train", noting)
    values = {name: value[:60] for name, value in mixed_values().items()}
    models = [jointebm.fit(MIXED, values, seed=4) for _ in range(2)]
    assert trained[0][0] == trained[1][0] > 0
    for a, b in ((models[0].state_dict(), models[1].state_dict()), (trained[0][1], trained[1][1])):
        assert all(torch.equal(left, right) for left, right in zip(a.values(), b.values(), strict=True))
    assert any(bool(value.any()) for name, value in trained[0][1].items() if "residual" in name)


@pytest.mark.slow
def test_an_energy_of_your_own_is_the_residual(tmp_path: Path) -> None:
    space = Space(x=Continuous(), y=Categorical(2))
    y = torch.arange(200) % 2
    x = torch.randn(200, generator=torch.Generator().manual_seed(0)) + 4 * y
    model = jointebm.fit(space, {"x": x, "y": y}, energy=ConcatEnergy(space, MLP(3, (8,))), seed=0)
    assert model.space == space
    with pytest.raises(ValueError, match="ConcatEnergy is a module of your own"):
        model.save(tmp_path / "model")


@pytest.mark.slow
def test_a_transform_adds_its_jacobian() -> None:
    space = Space(share=Continuous(transform=Logit(margin=1e-6)))
    share = torch.sigmoid(torch.randn(400, generator=torch.Generator().manual_seed(0)))
    model = jointebm.fit(space, {"share": share}, seed=0)
    grid = (torch.arange(10_000) + 0.5) / 10_000
    assert abs(float(model.log_density({"share": grid}).exp().double().mean()) - 1) < 0.01


@pytest.mark.slow
def test_a_model_without_a_reference_refuses_normalised_scores() -> None:
    mnist = jointebm.load("pretrained:mnist")
    with pytest.raises(ValueError, match="this model has no reference, so f is not normalised"):
        mnist.log_density({"image": torch.zeros(1, 28, 28)})
    assert mnist.predict({"image": torch.zeros(1, 28, 28)}, "digit").probs["digit"].shape == (1, 10)
    assert mnist.sample(3, {"digit": 1}, num_steps=2)["digit"].tolist() == [1, 1, 1]


@pytest.mark.slow
def test_too_few_draws_warn_with_the_remedy(small: Model) -> None:
    def shifted(position: dict[str, Tensor]) -> Tensor:
        return -1000 * (position["x"] - 3).square()

    position, generator = small.space.encode({"y": [0]})[0], torch.Generator().manual_seed(0)
    mass = mass_of_known(shifted, small.space, small.reference, position, num_draws=2, generator=generator)
    assert float(mass.ess[0]) < 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small.sample(100, seed=0)  # a good fit does not warn
    with pytest.raises(ValueError, match="got 5 rows; give at least 20"):
        jointebm.fit(SMALL, {"x": torch.zeros(5)})
