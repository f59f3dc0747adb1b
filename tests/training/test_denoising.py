"""Specification of `Denoising`: the true log-density of every part at every noise level is a stationary point and a minimum.

Expectations over data and noise are Gauss-Hermite sums, exact for the polynomials of normal data, so nothing is statistical
but the shares of drawn parts.
"""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from jointebm import Categorical, Continuous, KernelSpec, Space
from jointebm.energies import AnySubsetSpec, ConcatSpec, LevelMLPSpec, MLPSpec
from jointebm.spaces.space import Position
from jointebm.training.denoising import denoising_terms
from jointebm.training.divergence import Diverged
from jointebm.training.loss_inputs import LossInputs
from jointebm.training.objectives import Denoising
from jointebm.training.train_config import TrainConfig
from jointebm.training.trainer import Trainer
from jointebm.training.visible_parts import DrawnLevels, draw_levels, random_parts
from support.closed_form_subsets import CLASSES, NUM_FEATURES, ClosedForm, FixedDraws, grid

F64 = torch.float64
MEANS = torch.tensor([[0.5, -1.0], [-0.7, 0.3], [1.5, 1.0]], dtype=F64)
COVARIANCES = torch.tensor([[[1.0, 0.6], [0.6, 2.0]], [[0.5, -0.2], [-0.2, 0.7]], [[1.5, 0.0], [0.0, 0.3]]], dtype=F64)
# Levels of the two groups, and which reals belong to the second.
PATTERNS = {
    "one level": ((0.4, 0.4), (False, False)),
    "two levels": ((0.1, 1.7), (False, True)),
    "one real missing": ((0.6, math.inf), (False, True)),
}
every_pattern = pytest.mark.parametrize("pattern", PATTERNS)


def drawn_levels(pattern: str, num: int) -> DrawnLevels:
    levels, second = PATTERNS[pattern]
    return DrawnLevels(torch.tensor(levels, dtype=F64).log().expand(num, 2), torch.tensor(second).expand(num, 2))


class Expected:
    """Expectations of the terms over normal data of one label and over noise, at an energy."""

    def __init__(self, pattern: str, *, shown: bool = True, num_nodes: int = 5) -> None:
        nodes, self.weights = grid(num_nodes, 4)  # two axes of data, two of noise
        self.pattern, self.shown, self.nodes = pattern, shown, nodes

    def terms(self, energy: ClosedForm) -> Tensor:
        """Expectation of score and level term, shape (2,), summed over labels by their shares."""
        total = torch.zeros(2, dtype=F64)
        for label, (mean, covariance) in enumerate(zip(MEANS, COVARIANCES, strict=True)):
            x = mean + self.nodes[:, :2] @ torch.linalg.cholesky(covariance).T
            position = {"x": x, "y": torch.eye(CLASSES, dtype=F64)[[label] * len(x)]}
            draws = FixedDraws(self.nodes[:, 2:], 0.0 if self.shown else 0.99)
            found = denoising_terms(energy, position, drawn_levels(self.pattern, len(x)), draws)
            total = total + energy.log_shares[label].exp() * torch.stack(
                [self.weights @ found.score, self.weights @ found.level]
            )
        return total

    def gradients(self, energy: ClosedForm) -> Tensor:
        """Of either term with respect to the weights of the features, shape (2, features)."""
        return torch.stack(
            [torch.autograd.grad(term, energy.weights, retain_graph=True)[0] for term in self.terms(energy)]
        )


def true_energy() -> ClosedForm:
    return ClosedForm(MEANS, COVARIANCES)


def wrong_energy(feature: int, by: float = 0.1) -> ClosedForm:
    energy = true_energy()
    with torch.no_grad():
        energy.weights[feature] = by
    return energy


@every_pattern
def test_the_true_density_given_labels_is_a_stationary_point_of_either_term(pattern: str) -> None:
    assert float(Expected(pattern).gradients(true_energy()).abs().max()) < 1e-10


@every_pattern
@pytest.mark.parametrize(("feature", "term"), [(1, 0), (2, 0), (3, 1)], ids=["tilt", "width", "scale"])
def test_a_wrong_density_is_not_stationary_and_has_a_larger_loss(pattern: str, feature: int, term: int) -> None:
    """The score sees a tilt and a width; the level term sees a constant that differs between levels."""
    expected, wrong = Expected(pattern), wrong_energy(feature)
    assert float(expected.gradients(wrong)[term].abs().max()) > 1e-4
    excess = expected.terms(wrong)[term] - expected.terms(true_energy())[term]
    assert float(excess.detach()) > 1e-5


@pytest.mark.slow
@every_pattern
def test_with_labels_summed_out_the_true_marginal_is_stationary(pattern: str) -> None:
    """The log of a mixture is no polynomial: 14 nodes per axis leave an error of a few 10^-4."""
    expected = Expected(pattern, shown=False, num_nodes=14)
    at_truth = expected.gradients(true_energy()).abs().max()
    assert float(at_truth) < 3e-3
    assert float(expected.gradients(wrong_energy(2)).abs().max()) > 20 * float(at_truth)


def test_the_label_term_is_the_cross_entropy_and_is_stationary_at_the_truth() -> None:
    """One real at two noise levels, 200 nodes for x + noise, which is normal: exact to quadrature."""
    means, covariances = MEANS[:, :1], COVARIANCES[:, :1, :1]
    energy = ClosedForm(means, covariances)
    nodes, weights = grid(60, 2)
    gradient, entropy = torch.zeros(NUM_FEATURES, dtype=F64), 0.0
    for label in range(CLASSES):
        x = means[label] + covariances[label, 0].sqrt() * nodes[:, :1]
        position = {"x": x, "y": torch.eye(CLASSES, dtype=F64)[[label] * len(x)]}
        drawn = DrawnLevels(torch.full((len(x), 2), math.log(0.3), dtype=F64), torch.zeros(len(x), 1).bool())
        found = denoising_terms(energy, position, drawn, FixedDraws(nodes[:, 1:], 0.0))
        term = energy.log_shares[label].exp() * (weights @ found.label)
        entropy += float(term.detach())
        gradient += torch.autograd.grad(term, energy.weights, retain_graph=True)[0]
    assert float(gradient.abs().max()) < 1e-6
    assert 0.5 < entropy < -float((energy.log_shares.exp() * energy.log_shares).sum())


@pytest.fixture
def network() -> tuple[nn.Module, Position]:
    torch.manual_seed(0)
    space = Space(x=Continuous(3), y=Categorical(CLASSES))
    energy = AnySubsetSpec(net=LevelMLPSpec(hidden=(8, 8)), min_noise=0.1, max_noise=10.0).build(space).double()
    for parameter in energy.parameters():
        nn.init.normal_(parameter, std=0.3)
    rows = torch.randn(6, 3, dtype=F64)
    rows[0, 1] = torch.nan
    labels = torch.eye(CLASSES, dtype=F64)[torch.tensor([0, 1, 2, 0, 1, 2])]
    labels[3] = torch.nan
    return energy, {"x": rows, "y": labels}


@pytest.mark.parametrize("shown", [True, False])
def test_the_terms_are_their_formulas_by_finite_differences(network: tuple[nn.Module, Position], shown: bool) -> None:
    energy, position = network
    missing = torch.tensor([[0.3, math.inf], [0.3, 2.0], [0.2, 0.2], [1.0, math.inf], [0.1, 5.0], [4.0, 4.0]]).double()
    second = torch.tensor(
        [[False, True, True], [True, False, False], [False] * 3, [True, False, False]] + [[False] * 3] * 2
    )
    n = torch.randn(6, 3, dtype=F64)
    found = denoising_terms(energy, position, DrawnLevels(missing.log(), second), FixedDraws(n, 0.0 if shown else 0.99))
    agreement = energy.label_table(position).log()

    def f(x: Tensor, levels: Tensor) -> Tensor:
        noise = torch.where(second, levels[:, 1:], levels[:, :1])
        noise = torch.where(position["x"].isnan(), torch.inf, noise)
        table = energy.table(x, noise)
        return (table + agreement if shown else table).logsumexp(dim=1).detach()

    noise = torch.where(second, missing[:, 1:], missing[:, :1])
    visible = noise.isfinite() & ~position["x"].isnan()
    x = torch.where(visible, position["x"].nan_to_num() + torch.where(visible, noise, 0) * n, 0.0)
    h, score, level = 1e-5, torch.zeros(6, dtype=F64), torch.zeros(6, dtype=F64)
    for axis in range(3):
        step = h * torch.eye(3, dtype=F64)[axis]
        slope = (f(x + step, missing) - f(x - step, missing)) / (2 * h)
        score += torch.where(visible[:, axis], 0.5 * (noise[:, axis] * slope + n[:, axis]).square(), 0)
    for group, members in enumerate((~second, second)):
        factor = torch.ones(2, dtype=F64)
        factor[group] = math.exp(h)
        slope = (f(x, missing * factor) - f(x, missing / factor)) / (2 * h)
        d = (members & visible).sum(dim=1)
        error = slope - (n.square() * (members & visible)).sum(dim=1) + d
        level += torch.where(d > 0, error.square() / (2 * d.clamp(min=1)), 0)
    torch.testing.assert_close(found.score, score, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found.level, level, rtol=1e-6, atol=1e-7)
    log_p = (energy.table(x, torch.where(visible, noise, torch.inf)) + agreement).logsumexp(dim=1)
    total = energy.table(x, torch.where(visible, noise, torch.inf)).logsumexp(dim=1)
    torch.testing.assert_close(found.label, total - log_p)
    assert float(found.label[3].detach()) == 0.0  # its label is missing


def test_rows_beyond_the_share_have_the_label_term_alone(network: tuple[nn.Module, Position]) -> None:
    energy, position = network
    drawn = DrawnLevels(torch.zeros(6, 2, dtype=F64), torch.zeros(6, 3).bool())
    generator = torch.Generator().manual_seed(0)
    found = denoising_terms(energy, position, drawn, generator, num_scores=2)
    assert (len(found.score), len(found.level), len(found.label), len(found.f)) == (2, 2, 6, 6)


def test_the_loss_is_the_weighted_sum_of_its_parts(network: tuple[nn.Module, Position]) -> None:
    energy, position = network
    inputs = LossInputs(position, {}, energy.space, None, torch.Generator().manual_seed(0))
    phases = Denoising(score_weight=2.0, level_weight=3.0, label_weight=5.0).loss(energy, inputs)
    assert phases.parts is not None
    expected = 2 * phases.parts["score"] + 3 * phases.parts["level"] + 5 * phases.parts["label"]
    assert float(phases.loss.detach()) == pytest.approx(expected, rel=1e-12)


def test_an_energy_without_noise_levels_is_refused() -> None:
    space = Space(x=Continuous(), y=Categorical(2))
    energy = ConcatSpec(net=MLPSpec(hidden=(4,))).build(space)
    inputs = LossInputs({"x": torch.zeros(2), "y": torch.eye(2)}, {}, space, None, torch.Generator())
    with pytest.raises(TypeError, match="objective 'denoising': needs an energy that takes noise levels"):
        Denoising().loss(energy, inputs)


# Parts and levels.


def test_parts_of_images_are_whole_halves_rectangles_and_pixels() -> None:
    """Shares within five standard errors of a quarter each: a false alarm in 10^6."""
    num = 4000
    parts = random_parts(Space(image=Continuous((6, 8))), num, torch.Generator().manual_seed(0)).unflatten(1, (6, 8))
    top = torch.zeros(6, 8).bool()
    top[:3] = True
    left = torch.zeros(6, 8).bool()
    left[:, :4] = True
    halves = torch.stack([(parts == half).all(dim=(1, 2)) for half in (top, ~top, left, ~left)]).double().mean(dim=1)
    whole = float(parts.all(dim=(1, 2)).double().mean())
    assert float((halves - 1 / 16).abs().max()) < 5 * (1 / 16 / num) ** 0.5 + 0.01  # a rectangle may be a half too
    assert abs(whole - 0.25) < 5 * (0.1875 / num) ** 0.5 + 0.02  # pixels at a rate near 1 too
    assert 0.4 < float(parts.double().mean()) < 0.75


def test_levels_lie_in_their_bounds_in_the_three_patterns() -> None:
    """Shares within five standard errors: a false alarm in 10^6."""
    num, space = 4000, Space(x=Continuous(4))
    drawn = draw_levels(space, num, bounds=(0.1, 10.0), lowest_share=0.25, generator=torch.Generator().manual_seed(0))
    first, rest = drawn.log_levels.T
    assert bool(((first >= math.log(0.1) - 1e-6) & (first <= math.log(10) + 1e-6)).all())
    missing = rest.isinf()
    assert abs(float(missing.double().mean()) - 0.5) < 5 * (0.25 / num) ** 0.5
    assert bool((rest[~missing] <= math.log(10) + 1e-6).all())
    same = (first == rest) & ~missing
    assert abs(float(same.double().mean()) - 0.25) < 5 * (0.1875 / num) ** 0.5 + 0.01
    lowest = (first - math.log(0.1)).abs() < 1e-6
    assert abs(float(lowest.double().mean()) - (0.25 + 0.75 * 0.25)) < 5 * (0.25 / num) ** 0.5


def test_rows_chosen_to_be_whole_are_visible_at_one_level() -> None:
    """Shares within five standard errors: a false alarm in 10^6."""
    num, space = 4000, Space(x=Continuous(4))
    shares = {"lowest_share": 0.0, "whole_share": 0.6, "generator": torch.Generator().manual_seed(0)}
    first, rest = draw_levels(space, num, bounds=(0.1, 10.0), **shares).log_levels.T  # type: ignore[arg-type]
    same = float((first == rest).double().mean())
    assert abs(same - (0.6 + 0.4 * 0.25)) < 5 * (0.25 / num) ** 0.5
    assert abs(float(rest.isinf().double().mean()) - 0.4 * 0.5) < 5 * (0.25 / num) ** 0.5


def test_hidden_labels_leave_the_label_term_of_what_is_left(network: tuple[nn.Module, Position]) -> None:
    """With labels of one part, a rate r hides a label with probability r, which is 1/2 on average."""
    energy, position = network
    many = {name: value[[1] * 4000] for name, value in position.items()}

    def label_term(hidden_share: float) -> float:
        inputs = LossInputs(many, {}, energy.space, None, torch.Generator().manual_seed(0))
        phases = Denoising(hidden_share=hidden_share, lowest_share=1.0, whole_share=0.999).loss(energy, inputs)
        assert phases.parts is not None
        return phases.parts["label"]

    full = label_term(0.0)
    assert full > 0.1
    # Nearly all rows are alike but for small noise; 4000 coins err by less than 5 sd, a false alarm in 10^6.
    assert abs(label_term(1.0) / full - 0.5) < 5 * 0.5 / 4000**0.5 + 0.02


# In the trainer.

SPACE = Space(x=Continuous(2), y=Categorical(CLASSES))


def rows(num: int, *, generator: torch.Generator) -> Position:
    y = torch.randint(CLASSES, (num,), generator=generator)
    return {"x": y[:, None] + torch.randn(num, 2, generator=generator), "y": torch.eye(CLASSES)[y]}


def a_trainer(batch: object = rows, **settings: object) -> Trainer:
    torch.manual_seed(0)
    energy = AnySubsetSpec(net=LevelMLPSpec(hidden=(16,)), min_noise=0.1, max_noise=10.0).build(SPACE)
    config = {"num_iterations": 20, "batch_size": 32, "num_steps": 1, "learning_rate": 1e-2, "snapshot_every": 3}
    kernel = KernelSpec(discrete="gibbs", continuous="mala", step_size=0.3).build(SPACE)
    return Trainer(
        energy,
        SPACE,
        batch,  # type: ignore[arg-type]
        kernel=kernel,
        config=TrainConfig(**{**config, "objective": Denoising(), **settings}),  # type: ignore[arg-type]
        seed=0,
    )


def test_training_resumes_bit_for_bit() -> None:
    whole = a_trainer()
    for _ in whole.run():
        pass
    begun = a_trainer()
    for _ in range(7):
        begun.step()
    resumed = a_trainer()
    resumed.restore(copy.deepcopy(begun.state()))
    for _ in resumed.run():
        pass
    assert whole.metrics is not None and resumed.metrics is not None
    assert whole.metrics._replace(seconds=0) == resumed.metrics._replace(seconds=0)
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name]), name


def test_metrics_have_terms_and_no_chains() -> None:
    trainer = a_trainer()
    metrics = trainer.step()
    assert metrics.terms is not None and set(metrics.terms) == {"score", "level", "label"}
    assert metrics.energy_gap is None and metrics.f_negative is None and metrics.accept_rate == ()
    assert trainer.buffer.size == 1


def test_missing_entries_need_no_completion() -> None:
    def with_gaps(num: int, *, generator: torch.Generator) -> object:
        from jointebm.data.datasets import Batch

        position = dict(rows(num, generator=generator))
        position["x"][::2, 0] = torch.nan
        position["y"][::3] = torch.nan
        return Batch(position, torch.arange(num))

    trainer = a_trainer(with_gaps)
    for _ in range(3):
        trainer.step()
    assert not trainer.completions.state()


def test_a_row_that_is_not_finite_stops_training() -> None:
    calls = []

    def infinite(num: int, *, generator: torch.Generator) -> Position:
        calls.append(num)
        position = dict(rows(num, generator=generator))
        if len(calls) > 1:  # the first batch fits the noise
            position["x"][3, 1] = torch.inf
        return position

    with pytest.raises(Diverged, match="row 3"):
        a_trainer(infinite).step()
