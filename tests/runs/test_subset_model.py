"""Specification of runs of a model of any subset: their rows, their base, and the normalised model at the end."""

import json
import math
from pathlib import Path

import pytest
import torch

from jointebm import Model, load
from jointebm.data import AllSprites, Toy, digits
from jointebm.energies import AnySubsetEnergy, PictureEnergy
from jointebm.recipes import override
from jointebm.recipes.catalogue import find
from jointebm.runs.subset_model import noise_free
from jointebm.runs.training_run import initial_model, resume, train
from jointebm.training.trainer import Metrics

TINY = override(
    find("toy_any"),
    [
        *("num_iterations=12", "batch_size=16", "hidden=[8]", "num_levels=20", "log_every=1", "checkpoint_every=5"),
        *("warmup=0", "snapshot_every=4"),
    ],
)


def test_rows_come_without_the_noise_that_the_objective_adds() -> None:
    assert noise_free(digits(pixels=True), find("digits_any")).stored.noise_sd == 0  # type: ignore[union-attr]
    assert noise_free(digits(pixels=True), find("digits")).stored.noise_sd == 0.1  # type: ignore[union-attr]
    toy = Toy()
    assert noise_free(toy, find("toy_any")) is toy


def test_a_lowest_level_that_is_not_the_noise_of_the_data_is_refused() -> None:
    recipe = override(find("digits_any"), ["min_noise=0.2"])
    with pytest.raises(
        ValueError, match=r"energy.min_noise is 0\.2, but rows of data 'digits-pixels' have normal noise"
    ):
        noise_free(digits(pixels=True), recipe)


def test_before_training_it_is_the_normal_base_of_the_training_rows() -> None:
    energy = initial_model(TINY, Toy(), seed=0).energy
    assert isinstance(energy, AnySubsetEnergy)
    rows = Toy().batch(10_000, generator=torch.Generator().manual_seed(2))["point"]
    torch.testing.assert_close(energy.mean, rows.mean(dim=0))
    expected = torch.distributions.Normal(energy.mean, (energy.variance + 0.05**2).sqrt()).log_prob(rows).sum(dim=1)
    table = energy.table(rows, torch.full_like(rows, 0.05))
    torch.testing.assert_close(table.logsumexp(dim=1), expected)


def test_an_interrupted_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    straight = train(TINY, tmp_path / "straight", seed=3)

    def stop(metrics: Metrics) -> None:
        if metrics.iteration == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path / "resumed", seed=3, on_metrics=stop)
    resumed = resume(tmp_path / "resumed")
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert straight.model.log_normalizer == resumed.model.log_normalizer
    lines = (tmp_path / "resumed" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == list(range(1, 13))


def test_the_saved_model_answers_and_says_what_it_is(tmp_path: Path) -> None:
    run = train(TINY, tmp_path / "run", seed=0)
    model = load(tmp_path / "run")
    assert isinstance(model, Model) and model.log_normalizer is not None
    assert model.log_normalizer.method == "noise-level path" and abs(model.log_normalizer.value) < 1
    alone = {"point": [[math.nan, 1.0], [0.3, math.nan]]}
    assert torch.equal(model.predict(alone, "left").probs["left"], run.model.predict(alone, "left").probs["left"])
    assert model.log_density(alone).shape == (2,)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    for words in ("terms of the loss at the end | score", "log Z of f", "one pass of the network", "deviation 0.05"):
        assert words in card
    assert "chains after training" not in card and "None" not in card


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["objective=summed"], "objective 'denoising' and energy of kind 'any-subset' or 'caption' belong together"),
        (["continuous=langevin"], "for kernel.continuous mala at kernel.temperature 1; got langevin at 1"),
        (['terms=["conditional"]'], "takes neither a reference nor terms"),
        (["reference=mixture"], "takes neither a reference nor terms"),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(assignments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(find("toy_any"), assignments)


def test_an_energy_without_levels_cannot_denoise() -> None:
    with pytest.raises(ValueError, match="belong together; got objective 'denoising' and kind 'concat'"):
        override(find("toy_paper"), ["objective=denoising"])


def test_pictures_come_without_the_noise_that_the_energy_adds() -> None:
    sprites = AllSprites()
    assert noise_free(sprites, find("dsprites_full")).noise_sd == 0 and sprites.noise_sd == 0.5
    with pytest.raises(
        ValueError, match=r"energy.noise_sd is 0\.2, but rows of data 'dsprites-full' have normal noise"
    ):
        noise_free(sprites, override(find("dsprites_full"), ["noise_sd=0.2"]))


@pytest.mark.slow
def test_a_short_run_learns_pictures_of_all_labels(tmp_path: Path) -> None:
    """Squared error of 100 held-out pictures after 150 iterations; that of a blank picture is 39, and 13 was measured."""
    run = train(override(find("dsprites_full"), ["num_iterations=150"]), tmp_path / "run")
    rows, _ = run.model.space.encode({name: value[:100] for name, value in AllSprites(noise_sd=0.0).test().items()})
    assert isinstance(run.model.energy, PictureEnergy)
    with torch.no_grad():
        error = (run.model.energy.picture(rows) - rows["image"]).square().sum(dim=(1, 2)).mean()
    assert float(error) < 20 < 35 < float(rows["image"].square().sum(dim=(1, 2)).mean())
