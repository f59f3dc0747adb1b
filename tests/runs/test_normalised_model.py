"""Specification of a recipe's reference: fitted before training, resumed bit for bit, and a normalised model at the end."""

import json
import math
from pathlib import Path

import pytest
import torch

from jointebm import ConvergenceWarning, Model, load
from jointebm.data import Toy, digits
from jointebm.data.validation_split import split_rows
from jointebm.energies import ConcatSpec, ConvSpec, JEMSpec, MLPSpec, ReferencedSpec
from jointebm.recipes import override
from jointebm.recipes.catalogue import find
from jointebm.references import Mixture
from jointebm.runs.training_run import initial_model, resume, train
from jointebm.training.trainer import Metrics

# One component is far from eight modes, so that chains with weights take over from draws of the reference.
TINY = override(
    find("toy"),
    [
        *("num_components=1", "max_rows=500", "num_iterations=40", "batch_size=16", "buffer_size=32", "num_steps=1"),
        *("hidden=[8]", "learning_rate=0.05", "warmup=0", "ema_decay=0", "log_every=1", "checkpoint_every=7"),
    ],
)

UNWEIGHTED = ["weighted=false", "reference_labels=false", "num_iterations=100", "learning_rate=0.02"]


def quadrature(model: Model) -> tuple[float, float]:
    """log Z of F, and the total variation of p(x) to the truth, on a grid of 161^2 points with all labels summed."""
    axis = torch.linspace(-6, 6, 161, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis).float()
    log_cell = 2 * float((axis[1] - axis[0]).log())
    ours, true = [], []
    with torch.no_grad():
        for bits in range(8):
            names = ("bottom", "left", "diagonal")
            labels = {name: torch.full((len(points),), bits >> k & 1) for k, name in enumerate(names)}
            position = model.space.encode({"point": points, **labels})[0]
            ours.append(model(position).double())
            true.append(Toy().log_density(position).double())
    marginals = [torch.stack(each).logsumexp(dim=0) + log_cell for each in (ours, true)]
    log_z = float(marginals[0].logsumexp(dim=0))
    p, truth = (marginals[0] - log_z).exp(), marginals[1].exp()
    return log_z, 0.5 * float((p - truth).abs().sum())


def test_before_training_the_model_is_the_reference_of_its_training_rows() -> None:
    model = initial_model(TINY, Toy(), seed=0)
    split = split_rows(Toy())
    some = {name: value[:500] for name, value in split.rows.items()}
    mixture = Mixture.fit(Toy().space, some, 1, generator=torch.Generator().manual_seed(0))
    assert isinstance(model.config.energy, ReferencedSpec) and model.config.energy.residual == TINY.energy
    assert torch.equal(model(split.held_out), mixture.log_prob(split.held_out))


@pytest.mark.slow
def test_a_killed_run_with_weighted_chains_resumes_bit_for_bit(tmp_path: Path) -> None:
    seen: list[Metrics] = []
    straight = train(TINY, tmp_path / "straight", seed=3, on_metrics=seen.append)
    assert seen[20].negatives == seen[-1].negatives == "chains"

    def die(metrics: Metrics) -> None:
        if metrics.iteration == 30:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(TINY, tmp_path / "killed", seed=3, on_metrics=die)
    resumed = resume(tmp_path / "killed")
    for name in ("config.json", "model.safetensors"):
        assert (resumed.path / "model" / name).read_bytes() == (straight.path / "model" / name).read_bytes(), name
    kept = [json.loads(line) | {"seconds": 0} for line in (resumed.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["log_normalizer"] for line in kept] == [metrics.log_normalizer for metrics in seen]


@pytest.mark.slow
def test_a_trained_model_is_normalised_and_its_card_says_so(tmp_path: Path) -> None:
    """log Z against quadrature, within five standard errors and .01 for the grid; a false alarm in 10^6."""
    run = train(override(TINY, ["num_components=4", "max_rows=1000"]), tmp_path / "run")
    model = load(run.path)
    assert isinstance(model, Model) and model.log_normalizer is not None and model.report is not None
    error = model.log_normalizer.standard_error
    assert error is not None
    log_z, _ = quadrature(model)
    assert abs(model.log_normalizer.value - log_z) < 5 * error + 0.01
    assert abs(log_z) > 0.05  # training moved it away from the reference, whose log Z is 0
    rows = Toy().space.decode(split_rows(Toy()).held_out)
    assert float(model.log_density(rows).mean()) == pytest.approx(model.report.held_out.value, abs=1e-3)
    card = (run.path / "model" / "README.md").read_text()
    assert str(model.log_normalizer) in card and str(model.report) in card and "temperature scaling" not in card


@pytest.mark.slow
def test_a_model_of_unweighted_chains_is_bracketed_by_annealing_and_sampled_as_it_was_trained(tmp_path: Path) -> None:
    """The estimates from both ends against quadrature, five standard errors apart at most; a false alarm in 10^5."""
    run = train(override(TINY, UNWEIGHTED), tmp_path / "run")
    model = load(run.path)
    assert isinstance(model, Model) and model.log_normalizer is not None and model.diagnostics is not None
    assert run.metrics.negatives is None and run.metrics.log_normalizer is None  # no weights in training
    assert set(model.diagnostics.accept_rate) == {"GibbsWithGradients", "MALA"}  # and no jumps afterwards
    assert not model.config.weighted and not model.config.energy.with_labels  # type: ignore[union-attr]
    found = model.log_normalizer
    assert found.method == "annealed importance sampling" and found.upper is not None
    assert found.standard_error is not None
    log_z, _ = quadrature(model)
    assert abs(log_z) > 0.05
    assert found.value - 5 * found.standard_error - 0.01 < log_z < found.value + 5 * found.standard_error + 0.01


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:fit. log Z is")  # over many reals its two ends are apart, as the recipe says
def test_the_recipe_of_one_density_of_images_runs_on_small_ones(tmp_path: Path) -> None:
    """mnist_joint with the bundled digits: components of each class, labels by the residual, chains that do not collapse."""
    encoder = ConvSpec(side=8, channels=(8,), out_channels=4, halves_first=True)
    net = MLPSpec(hidden=(16,))
    shared = ConcatSpec(net=net, encoder=encoder, output_scale=10.0)
    residual = JEMSpec(net=net, encoder=encoder, logit_scale=5.0, shared=shared)
    joint = find("mnist_joint").model_copy(update={"data": "digits", "energy": residual})
    tiny = ["num_components=20", "num_iterations=60", "batch_size=32", "buffer_size=64", "warmup=0", "num_steps=1"]
    tiny += ["learning_rate=0.01", "ema_decay=0.9"]
    run = train(override(joint, tiny), tmp_path / "run")
    model = load(run.path)
    assert isinstance(model, Model) and isinstance(model.reference, Mixture)
    classes = model.reference.products.log_probs.exp()  # (10, 20)
    assert torch.equal(classes.argmax(dim=0), torch.arange(10).repeat_interleave(2)) and float(classes.amin()) > 0
    split = split_rows(digits())
    rows = model.space.decode(split.held_out)
    of_q = model.reference.log_prob({**split.held_out, "digit": torch.full_like(split.held_out["digit"], torch.nan)})
    uniform = of_q - math.log(10) + model.energy.residual(split.held_out)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(model(split.held_out), uniform, rtol=1e-5, atol=1e-3)
    accuracy = (model.predict({"image": rows["image"]}, "digit").labels["digit"] == rows["digit"]).double().mean()
    assert float(accuracy) > 0.5  # of 144 rows; by chance .1 +- .025
    with pytest.warns(ConvergenceWarning):
        drawn = model.sample(30, {"digit": 3}, num_steps=1)
    assert len(drawn["image"].flatten(1)[:, :5].unique(dim=0)) == 30
    apart = torch.cdist(drawn["image"].flatten(1), drawn["image"].flatten(1)) + 9 * torch.eye(30)
    assert float(apart.min()) > 0.3  # different draws of q, not one start moved a little


def test_the_shipped_toy_model_is_the_true_density_within_a_fiftieth() -> None:
    model = load("pretrained:toy")
    assert isinstance(model, Model) and model.log_normalizer is not None
    log_z, distance = quadrature(model)
    assert abs(model.log_normalizer.value - log_z) < 0.005
    assert distance < 0.02


def test_the_shipped_digits_model_is_more_likely_than_its_reference_and_its_report_is_its_own() -> None:
    model = load("pretrained:digits")
    assert isinstance(model, Model) and model.report is not None and model.reference is not None
    held_out = split_rows(digits()).held_out
    ours = model.log_density(model.space.decode(held_out)).mean()
    theirs = model.reference.log_prob(held_out).mean()
    assert float(ours) == pytest.approx(model.report.held_out.value, abs=1e-3)
    assert float(theirs) == pytest.approx(model.report.held_out_reference.value, abs=1e-3)
    assert ours > theirs + 2  # nats per row, of the same 144 rows
    found = model.log_normalizer
    assert found is not None and found.upper is not None and abs(found.value - found.upper) < 0.2
    assert model.report.calibration_factor == 1 and not model.report.mode_failures


def test_a_card_of_two_temperatures_claims_no_joint_density(tmp_path: Path) -> None:
    assignments = [
        "reference=null",
        "temperature=0.5",
        "num_iterations=2",
        "batch_size=8",
        "buffer_size=8",
        "hidden=[4]",
    ]
    card = (train(override(find("toy"), assignments), tmp_path / "run").path / "model" / "README.md").read_text()
    assert "log sum_y exp f is not the log p(x)" in card and "log Z" not in card
