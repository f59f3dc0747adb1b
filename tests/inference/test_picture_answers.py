"""Specification of the answers of pictures from any part of a row: by enumeration of all labels, exactly."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm import Categorical, Continuous, KernelSpec, Model, Space, predict
from jointebm.energies import PictureEnergy, PictureSpec
from jointebm.inference import picture_answers
from jointebm.inference.model_config import ModelConfig
from support.mutants import altered

SPACE = Space(image=Continuous((2, 2)), kind=Categorical(3), right=Categorical(2), down=Categorical(2))
SIZES = (3, 2, 2)


@pytest.fixture(scope="module")
def model() -> Model:
    spec = PictureSpec(side=2, rows="down", columns="right", noise_sd=0.5)
    config = ModelConfig(
        name="pictures",
        data="none",
        space=SPACE.config,
        energy=spec,
        kernel=KernelSpec(discrete="pairs", step_size=0.1),
    )
    model, generator = Model(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.energy.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator))
    return model.double()


NAN, HIDDEN = float("nan"), -1
ROWS = {
    "image": torch.tensor([[[0.3, -0.2], [1.0, 0.1]], [[NAN, NAN], [0.7, 0.0]], [[NAN, NAN], [NAN, NAN]]]).double(),
    "kind": torch.tensor([HIDDEN, 2, HIDDEN]),
    "right": torch.tensor([HIDDEN, HIDDEN, 1]),
    "down": torch.tensor([HIDDEN, 0, HIDDEN]),
}


@torch.no_grad()
def log_joint(model: Model, row: int) -> Tensor:
    """log p(known pixels, y) at all labels, (3, 2, 2), minus infinity where known labels disagree; pixel by pixel."""
    out = torch.full(SIZES, -torch.inf, dtype=torch.float64)
    image, energy = ROWS["image"][row], model.energy
    for y in product(*map(range, SIZES)):
        known = [int(ROWS[name][row]) for name in ("kind", "right", "down")]
        if any(k not in (HIDDEN, each) for k, each in zip(known, y, strict=True)):
            continue
        position = {
            name: torch.eye(size, dtype=torch.float64)[[k]]
            for name, size, k in zip(("kind", "right", "down"), SIZES, y, strict=True)
        }
        mean = energy.picture(position)[0]  # type: ignore[operator]
        total = float(energy.log_prior(position))  # type: ignore[operator]
        for place in product(range(2), range(2)):
            if not math.isnan(float(image[place])):
                z = (float(image[place]) - float(mean[place])) / 0.5
                total += -0.5 * z * z - math.log(0.5 * math.sqrt(2 * math.pi))
        out[y] = total
    return out


def test_densities_and_probabilities_of_any_part_are_sums_over_labels(model: Model) -> None:
    log_p, answer = model.log_density(ROWS), model.predict(ROWS, ["down", "kind"])
    joint = predict(model, ROWS, ["right", "kind"], method="exact")
    for row in range(3):
        expected = log_joint(model, row)
        assert abs(float(log_p[row] - expected.flatten().logsumexp(dim=0))) < 1e-10
        p = expected.flatten().softmax(dim=0).reshape(SIZES)
        torch.testing.assert_close(answer.probs["down"][row], p.sum(dim=(0, 1)), rtol=0, atol=1e-10)
        torch.testing.assert_close(answer.probs["kind"][row], p.sum(dim=(1, 2)), rtol=0, atol=1e-10)
        best = torch.unravel_index(p.argmax(), SIZES)
        assert [int(joint.labels[name][row]) for name in ("kind", "right")] == [int(best[0]), int(best[1])]
    assert answer.probs["down"][1].tolist() == [1.0, 0.0]
    _, found = model.predict(ROWS, ["down", "kind"], diagnostics=True)
    assert bool(found.exact.all()) and {n: each.shape for n, each in found.standard_error.items()} == {
        n: each.shape for n, each in answer.probs.items()
    }
    assert not any(bool(each.any()) for each in found.standard_error.values())


def test_rows_in_pieces_have_the_same_answers(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.predict(ROWS, "kind").probs["kind"]
    monkeypatch.setattr(picture_answers, "NUMBERS_PER_PIECE", 1)
    torch.testing.assert_close(model.predict(ROWS, "kind").probs["kind"], whole)


def worst_z(model: Model, drawn: dict[str, Tensor], row: int) -> float:
    """Largest standard score of the frequencies of all labels, and of the means of missing pixels given the labels."""
    num, p = len(drawn["kind"]), log_joint(model, row).flatten().softmax(dim=0)
    index = (drawn["kind"] * 2 + drawn["right"]) * 2 + drawn["down"]
    counts = torch.bincount(index, minlength=12)
    assert not bool(counts[p == 0].any())
    possible = (p > 0) & (p < 1)
    scores = ((counts - num * p) / (num * p * (1 - p)).sqrt())[possible]
    position = {
        name: torch.nn.functional.one_hot(drawn[name], size).double()
        for name, size in zip(("kind", "right", "down"), SIZES, strict=True)
    }
    missing = ROWS["image"][row].isnan()
    if not bool(missing.any()):
        return float(scores.abs().max())
    residual = (drawn["image"] - model.energy.picture(position))[:, missing].detach() / 0.5  # type: ignore[operator]
    of_pixels = [
        residual.mean(dim=0).abs().max() * num**0.5,
        (residual.square().mean(dim=0) - 1).abs().max() * (num / 2) ** 0.5,
    ]
    return float(torch.stack([scores.abs().max(), *of_pixels]).max())


@pytest.mark.parametrize("row", range(3))
def test_completions_are_exact_draws_and_keep_what_is_known(model: Model, row: int) -> None:
    """20,000 draws; a score above 5 is a false alarm in one seed of 50,000, over 20 numbers."""
    given = {name: value[[row]] for name, value in ROWS.items()}
    draws = model.impute(given, num=20_000, seed=1)
    drawn = {name: torch.cat([each[name] for each in draws]) for name in given}
    assert worst_z(model, drawn, row) < 5
    known = ~ROWS["image"][row].isnan()
    assert bool((drawn["image"][:, known] == ROWS["image"][row][known]).all())


def test_samples_given_any_labels_are_exact_draws(model: Model) -> None:
    drawn, how = model.sample(20_000, given={"right": 1}, seed=2, diagnostics=True)
    assert worst_z(model, drawn, 2) < 5 and bool(how.exact.all()) and set(drawn["right"].tolist()) == {1}


FAULTS: dict[str, dict[str, str]] = {
    "known labels ignored": {"table = table + agrees": "table = table + 0 * agrees.nan_to_num(neginf=0.0)"},
    "marginal of another label": {"axis = 1 + space.discrete.index(name)": "axis = 3"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str, model: Model) -> None:
    energy, position = model.energy, SPACE.encode(ROWS, dtype=torch.float64)[0]
    assert isinstance(energy, PictureEnergy)
    wrong: Any = altered(picture_answers.picture_prediction, FAULTS[fault])
    for row in range(3):
        p = log_joint(model, row).flatten().softmax(dim=0).reshape(SIZES)
        try:
            found = wrong(energy, SPACE, {n: v[[row]] for n, v in position.items()}, ["right"]).probs["right"][0]
        except RuntimeError:  # shapes do not fit
            return
        if float((found - p.sum(dim=(0, 2))).abs().max()) > 1e-3:
            return
    pytest.fail("the fault was not found")


def test_it_is_saved_and_loaded(model: Model, tmp_path: Any) -> None:
    from jointebm import load

    model.float().save(tmp_path / "model")
    back = load(tmp_path / "model")
    torch.testing.assert_close(back.log_density(ROWS), model.log_density(ROWS))
    model.double()
