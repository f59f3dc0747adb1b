"""Specification of weighted chains: importance sampling where nothing moves, and right gradients where chains lag."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space, TrainConfig, Trainer
from jointebm.energies import MLP, ConcatEnergy, Referenced, start_at_zero
from jointebm.kernels import MALA, Chain, Cycle, Gibbs, Info, Jump, Kernel, Langevin, LogDensity, parts_of
from jointebm.randomness.draws import Generator
from jointebm.references import Mixture
from jointebm.sampling.enumeration import evaluate_all_configurations
from jointebm.spaces.space import Mask, Position
from jointebm.training import block_problem, negative_phase
from jointebm.training.block_problem import BlockProblem
from jointebm.training.chain_weights import ChainWeights, Resampled, resampled
from jointebm.training.objectives import Conditional, MaximumLikelihood, SummedOut

NUM_SEEDS = 400
BITS = Space(bits=Binary(3))
MIXED = Space(x=Continuous(), y=Categorical(3))
CONFIG = TrainConfig(
    num_iterations=10, batch_size=400, num_steps=1, learning_rate=1e-2, buffer_size=400, replacement_rate=0.0
)


@dataclass(frozen=True)
class Identity(Kernel):
    """Moves nothing, which leaves every density invariant."""

    uses_score = False
    adjusted = True

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        del log_density, free, generator
        return chain, Info(torch.ones_like(chain.f), torch.ones_like(chain.f, dtype=torch.bool))


class OfBits(nn.Module):
    """One number for each of the eight states."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(8))

    def forward(self, position: Position) -> Tensor:
        return self.table[BITS.configuration_index(position)]


class Slopes(nn.Module):
    """b_y x + a_y; on top of N(0, 1) and uniform labels, x given y is N(b_y, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.slopes, self.offsets = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))

    def forward(self, position: Position) -> Tensor:
        return position["x"] * (position["y"] @ self.slopes) + position["y"] @ self.offsets


def problem_of(
    space: Space,
    residual: nn.Module,
    kernel: Kernel,
    rows: Position,
    *,
    seed: int,
    config: TrainConfig = CONFIG,
    weighted: bool = True,
) -> BlockProblem:
    energy = Referenced(Mixture(space), residual)
    generator = torch.Generator().manual_seed(seed)
    problem = BlockProblem(
        energy,
        space,
        kernel=kernel,
        config=config,
        generator=generator,
        data_generator=generator,
        batch=lambda num, **_: {name: value.expand(num, *value.shape[1:]) for name, value in rows.items()},
        labelled=None,
        reference=energy.reference if weighted else None,
    )
    problem.draws_afresh = False
    if not weighted:
        problem.buffer.position = energy.reference.draw(config.buffer_size, generator)
    return problem


ROW = {"bits": torch.zeros(1, 3)}


def test_with_identity_kernels_the_estimator_is_importance_sampling_to_the_last_bit() -> None:
    residual = OfBits()
    config = CONFIG.model_copy(update={"batch_size": 50, "buffer_size": 50})
    problem = problem_of(BITS, residual, Identity(), ROW, seed=0, config=config)
    start = {name: value.clone() for name, value in problem.buffer.position.items()}
    steps = torch.Generator().manual_seed(1)
    for iteration in range(20):
        drawn = problem.draw()
        attempt = problem.attempt(drawn, "iteration")
        weights = attempt.negative.reweighted
        assert weights is not None
        z = {name: value[drawn.chains.slots] for name, value in start.items()}  # draws of q
        f, log_q = problem.module(z).detach(), Mixture(BITS).log_prob(z)
        assert torch.equal(weights.log_weights, f.double() - log_q.double()), iteration
        assert float(weights.share) > 0.5
        (gradient,) = torch.autograd.grad(attempt.loss, residual.table)
        rows = torch.cat([torch.zeros(50, dtype=torch.int64), BITS.configuration_index(z)])
        w = (f.double() - log_q.double()).softmax(dim=0).float()
        expected = torch.zeros(8).index_add_(0, rows, torch.cat([torch.full((50,), -1 / 50), w]))
        assert torch.allclose(gradient, expected, atol=1e-7)
        problem.commit(drawn, attempt)
        with torch.no_grad():
            residual.table += 0.1 * torch.randn(8, generator=steps)


PATH = 1.5 * torch.tensor([2.0, -1.0, 0.5, 0.0, -2.0, 1.0, 0.0, 1.5])


def bias_of_bits(
    *,
    num_seeds: int = 100,
    weighted: bool = True,
    kind: type[BlockProblem] = BlockProblem,
) -> Tensor:
    """Bias of the negative phase in standard errors, (8,), after changes of F along a path with a slow kernel in between."""
    gradients = []
    for seed in range(num_seeds):
        residual = OfBits()
        problem = problem_of(BITS, residual, Gibbs(BITS), ROW, seed=seed, weighted=weighted)
        problem.__class__ = kind
        for step in range(1, 7):
            drawn = problem.draw()
            attempt = problem.attempt(drawn, "iteration")
            if step == 6:
                gradients.append(torch.autograd.grad(attempt.loss, residual.table)[0])
            problem.commit(drawn, attempt)
            with torch.no_grad():
                residual.table.copy_(PATH * min(step, 5) / 5)
    estimates = torch.stack(gradients).double()
    exact = PATH.double().softmax(dim=0) - torch.eye(8)[0].double()
    return (estimates.mean(dim=0) - exact) / (estimates.std(dim=0) / math.sqrt(num_seeds))


@pytest.mark.slow
def test_the_weighted_gradient_is_right_where_chains_lag_behind_and_the_unweighted_one_is_not() -> None:
    assert float(bias_of_bits(num_seeds=NUM_SEEDS).abs().max()) < 3
    assert float(bias_of_bits(num_seeds=NUM_SEEDS, weighted=False).abs().max()) > 10


@pytest.mark.slow
def test_the_gradient_stays_right_where_chains_are_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negative_phase, "resampled", always_resampled)
    assert float(bias_of_bits().abs().max()) < 3


def always_resampled(log_weights: Tensor, generator: Generator, *, min_share: float) -> Resampled:
    del min_share
    return resampled(log_weights, generator, min_share=1.0)


def not_updated(self: ChainWeights, f: Tensor) -> Tensor:
    del f
    return self.log_weights


def not_reset(log_weights: Tensor, generator: Generator, *, min_share: float) -> Resampled:
    chosen = always_resampled(log_weights, generator, min_share=min_share)
    return chosen._replace(log_weights=log_weights[chosen.origins])


class AfterTheMove(BlockProblem):
    """Takes the change of F where the chains are after their move."""

    def _negative(self, chains, positive, where):  # type: ignore[no-untyped-def]
        table = self.module.residual.table
        old = getattr(self, "old", torch.zeros_like(table))
        moved = self._moved(chains.position, positive, where)
        states = BITS.configuration_index(moved.chain.position)
        self.old = table.detach().clone()
        log_weights = chains.weights.log_weights + (self.old - old)[states].double()
        chosen = resampled(log_weights, self._generator)
        chain = Chain(
            {n: v[chosen.origins] for n, v in moved.chain.position.items()}, moved.chain.f[chosen.origins], None
        )
        weights = negative_phase.Reweighted(
            chain.position, chain.f, chosen.log_weights, chosen.share, chosen.log_weights.logsumexp(dim=0)
        )
        return negative_phase.Negative(moved._replace(chain=chain), weights)


@pytest.mark.slow
def test_a_weight_that_is_not_updated_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChainWeights, "updated", not_updated)
    assert float(bias_of_bits().abs().max()) > 10


@pytest.mark.slow
def test_resampling_without_a_reset_of_the_weights_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negative_phase, "resampled", not_reset)
    assert float(bias_of_bits().abs().max()) > 10


@pytest.mark.slow
def test_a_weight_that_is_updated_after_the_move_is_caught() -> None:
    assert float(bias_of_bits(kind=AfterTheMove).abs().max()) > 10


SLOPES, OFFSETS = torch.tensor([1.5, -1.0, 0.0]), torch.tensor([-1.5, 0.5, 0.3])
POINT = {"x": torch.zeros(1), "y": torch.eye(3)[:1]}


def bias_of_summed(share: float, num_seeds: int = 100) -> Tensor:
    """Bias of the gradient of `SummedOut`, (3,), in standard errors."""
    config = CONFIG.model_copy(update={"objective": SummedOut(sampled_share=share)})
    kernel, gradients = Cycle((MALA(block="x", step_size=0.3),)), []
    for seed in range(num_seeds):
        residual = Slopes()
        problem = problem_of(MIXED, residual, kernel, POINT, seed=seed, config=config)
        for step in range(1, 7):
            drawn = problem.draw()
            attempt = problem.attempt(drawn, "iteration")
            if step == 6:
                gradients.append(torch.autograd.grad(attempt.loss, residual.slopes)[0])
            problem.commit(drawn, attempt)
            with torch.no_grad():
                residual.slopes.copy_(SLOPES * min(step, 5) / 5)
                residual.offsets.copy_(OFFSETS * min(step, 5) / 5)
    estimates = torch.stack(gradients).double()
    slopes = SLOPES.double()
    exact = (OFFSETS.double() + slopes.square() / 2).softmax(dim=0) * slopes  # E[x 1(y)]; x of the row is 0
    return (estimates.mean(dim=0) - exact) / (estimates.std(dim=0) / math.sqrt(num_seeds))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_gradient_with_labels_summed_out_is_right(share: float) -> None:
    assert float(bias_of_summed(share).abs().max()) < 3


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_weights_that_ignore_the_own_label_of_a_chain_are_caught(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_all_labels(log_density: LogDensity, position: Position, *, with_score: bool) -> Chain:
        del with_score
        f = evaluate_all_configurations(log_density, MIXED, position)[0].logsumexp(dim=1) - math.log(3)
        return Chain(position, f.detach(), None)

    monkeypatch.setattr(negative_phase, "evaluate", of_all_labels)
    assert float(bias_of_summed(share).abs().max()) > 10


def trainer_of(
    residual: nn.Module, kernel: Kernel, config: TrainConfig, *, batch: Callable[..., Position] | None = None
) -> Trainer:
    def rows(num: int, generator: torch.Generator) -> Position:
        labels = torch.randint(3, (num,), generator=generator)
        return {"x": 3.0 * labels + torch.randn(num, generator=generator), "y": torch.eye(3)[labels]}

    data = rows(500, torch.Generator().manual_seed(0))
    reference = Mixture.fit(MIXED, data, 1, generator=torch.Generator())
    return Trainer(Referenced(reference, residual), MIXED, batch or rows, kernel=kernel, config=config, seed=0)


def residual_network() -> nn.Module:
    torch.manual_seed(0)
    return start_at_zero(ConcatEnergy(MIXED, MLP(4, (16,))))


LOCAL = Cycle((Gibbs(MIXED), MALA(block="x", step_size=0.5)))
SHORT = TrainConfig(num_iterations=120, batch_size=64, num_steps=2, learning_rate=2e-2, buffer_size=128)


def test_the_trainer_draws_from_the_reference_while_ess_allows_and_says_what_it_chose() -> None:
    trainer = trainer_of(residual_network(), LOCAL, SHORT)
    metrics = list(trainer.run())
    chosen = [each.negatives for each in metrics]
    assert chosen[0] == "draws" and chosen[-1] == "chains"
    assert chosen == sorted(chosen, reverse=True)  # one change, from draws to chains
    first = metrics[0]
    assert first.ess == pytest.approx(64) and first.log_normalizer == pytest.approx(0, abs=1e-5)
    assert first.log_likelihood == pytest.approx(first.f_positive, abs=1e-5) and first.accept_rate == ()
    assert len(metrics[-1].accept_rate) == 3  # jump, Gibbs, MALA
    assert all(each.ess >= 32 for each in metrics if each.negatives == "draws")


@pytest.mark.slow
def test_a_resumed_run_with_weights_has_the_same_bits() -> None:
    whole, first = (trainer_of(residual_network(), LOCAL, SHORT) for _ in range(2))
    for _ in range(100):
        first.step()
    rest = trainer_of(residual_network(), LOCAL, SHORT)
    rest.restore(first.state())
    for _ in range(100):
        whole.step()
    for _ in range(15):
        assert whole.step()._replace(seconds=0) == rest.step()._replace(seconds=0)
    left, right = whole.state().tensors, rest.state().tensors
    assert "weights.log_weights" in left and left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.slow
def test_log_z_of_the_chains_is_that_of_quadrature() -> None:
    config = SHORT.model_copy(update={"num_iterations": 150, "batch_size": 256, "buffer_size": 512})
    trainer = trainer_of(residual_network(), LOCAL, config)
    metrics = list(trainer.run())
    grid = torch.linspace(-15, 25, 4001)
    with torch.no_grad():
        f, _ = evaluate_all_configurations(trainer.log_density, MIXED, {"x": grid})
    exact = float(f.double().logsumexp(dim=(0, 1))) + math.log(0.01)
    estimates = torch.tensor([each.log_normalizer for each in metrics[-10:]])
    assert metrics[-1].negatives == "chains"
    assert abs(float(estimates.mean()) - exact) < 0.2


def test_a_kernel_that_is_not_adjusted_and_an_objective_of_rows_are_refused() -> None:
    langevin = Cycle((Gibbs(MIXED), Langevin(block="x", step_size=0.1)))
    with pytest.raises(ValueError, match=r"Langevin is not adjusted.*use MALA"):
        trainer_of(residual_network(), langevin, SHORT)
    config = SHORT.model_copy(update={"objective": Conditional()})
    energy = Referenced(Mixture(MIXED), residual_network())
    with pytest.raises(ValueError, match="keeps a chain of y for each row"):
        Trainer(energy, MIXED, lambda **_: {}, kernel=LOCAL, config=config, seed=0, reference=energy.reference)


def test_the_kernel_gets_one_jump() -> None:
    reference = Mixture(MIXED)
    jumping = negative_phase.with_jumps(LOCAL, reference)
    assert [type(part).__name__ for part in parts_of(jumping)] == ["Jump", "Gibbs", "MALA"]
    assert negative_phase.with_jumps(jumping, reference) is jumping
    assert isinstance(parts_of(jumping)[0], Jump)


def test_maximum_likelihood_without_weights_is_that_with_equal_ones() -> None:
    inputs = block_problem.LossInputs({"x": torch.arange(4.0)}, {"x": torch.arange(5.0)})
    plain = MaximumLikelihood().loss(lambda position: position["x"], inputs).loss
    equal = MaximumLikelihood().loss(lambda position: position["x"], inputs._replace(log_weights=torch.full((5,), 7.0)))
    assert torch.allclose(plain, equal.loss)


def test_chains_without_weights_start_at_the_reference_and_need_no_adjusted_kernel() -> None:
    q = Mixture(MIXED)
    q.products.means.fill_(50.0)
    energy = Referenced(q, start_at_zero(ConcatEnergy(MIXED, MLP(4, (8,)))))
    config = CONFIG.model_copy(update={"weighted": False, "replacement_rate": 0.5})
    kernel = Cycle((Gibbs(MIXED), Langevin("x", 0.1)))

    def batch(num: int, generator: Generator) -> Position:
        return {"x": 40 + torch.randn(num, generator=generator), "y": torch.eye(3)[torch.zeros(num, dtype=torch.int64)]}

    trainer = Trainer(energy, MIXED, batch, kernel=kernel, config=config, seed=0)
    assert trainer.kernel is kernel and trainer.buffer.weights is None
    start = trainer.buffer.position["x"].clone()
    assert abs(float(start.mean()) - 50) < 0.5  # 10 standard errors; noise of the batch would be at 40
    metrics = trainer.step()
    assert metrics.ess is None and metrics.negatives is None and metrics.log_normalizer is None
    assert abs(float(trainer.buffer.position["x"].mean()) - 50) < 0.5
    other = Trainer(copy.deepcopy(energy), MIXED, batch, kernel=kernel, config=config, seed=1)
    other.restore(trainer.state())
    assert other.step()._replace(seconds=0) == trainer.step()._replace(seconds=0)
