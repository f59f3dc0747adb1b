"""Specification of `Trainer`: reproducible, right in its numbers, convergent, and stopped by anything not finite."""

import copy
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jointebm import Categorical, Continuous, ReplayBuffer, Space, TrainConfig, Trainer
from jointebm.energies import MLP, ConcatEnergy
from jointebm.kernels import MALA, Chain, Cycle, Gibbs, GibbsWithGradients, Info, Kernel, Langevin, LogDensity, evaluate
from jointebm.randomness.draws import Generator
from jointebm.sampling.enumeration import evaluate_configurations
from jointebm.spaces.space import Mask, Position
from jointebm.training.label_terms import label_information, label_roughness
from jointebm.training.objectives import (
    ConditionalTerm,
    InformationTerm,
    MaximumLikelihood,
    Objective,
    RoughnessTerm,
    SummedOut,
    conditional_likelihood,
)
from support.tabulated_energies import Table, state

SPACE = Space(x=Continuous(2), y=Categorical(3))
KERNEL = Cycle((GibbsWithGradients(SPACE), Langevin(block="x", step_size=0.1)))
CONFIG = TrainConfig(num_iterations=5, batch_size=8, num_steps=3, learning_rate=1e-2, buffer_size=50, max_rollbacks=0)


def network(seed: int = 0) -> ConcatEnergy:
    generator = torch.Generator().manual_seed(seed)
    energy = ConcatEnergy(SPACE, MLP(5, (8,)))
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return energy


def random_batch(num: int, *, generator: torch.Generator) -> dict[str, Tensor]:
    labels = torch.randint(3, (num,), generator=generator)
    return {"x": labels[:, None] + torch.randn(num, 2, generator=generator), "y": torch.eye(3)[labels]}


def make(
    log_density: nn.Module | None = None,
    *,
    space: Space = SPACE,
    batch: Callable[..., Position] = random_batch,
    kernel: Kernel = KERNEL,
    config: TrainConfig = CONFIG,
    seed: int = 0,
) -> Trainer:
    return Trainer(log_density or network(), space, batch, kernel=kernel, config=config, seed=seed)


def same_bits(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# Reproducibility.


@pytest.mark.parametrize("objective", [MaximumLikelihood(), SummedOut()])
def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(objective: Objective) -> None:
    config = CONFIG.model_copy(update={"objective": objective, "replacement_rate": 0.5})
    states, metrics = [], []
    for seed in (3, 3, 4):
        trainer = make(config=config, seed=seed)
        metrics.append([each._replace(seconds=0) for each in trainer.run()])
        states.append(state(trainer))
    assert same_bits(states[0], states[1]) and metrics[0] == metrics[1]
    assert not same_bits(states[0], states[2])


def test_training_neither_reads_nor_moves_the_global_generators() -> None:
    models = network(), network()
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    one = make(models[0])
    list(one.run())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    torch.manual_seed(1)
    two = make(models[1])
    list(two.run())
    assert same_bits(state(one), state(two))


def test_run_yields_every_iteration_once_and_goes_on_where_it_was() -> None:
    trainer = make()
    first = trainer.step()
    rest = list(trainer.run())
    assert [metrics.iteration for metrics in [first, *rest]] == [1, 2, 3, 4, 5]
    assert list(trainer.run()) == []
    assert all(earlier.seconds <= later.seconds for earlier, later in itertools.pairwise(rest))
    straight = make()
    list(straight.run())
    assert same_bits(state(trainer), state(straight))


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_trainer_restored_from_the_state_of_another_goes_on_bit_for_bit(at: int) -> None:
    config = CONFIG.model_copy(update={"warmup": 3, "decay": "cosine", "replacement_rate": 0.5})
    straight = make(config=config)
    for _ in range(at):
        straight.step()
    checkpoint = copy.deepcopy(straight.state())
    expected = [metrics._replace(seconds=0) for metrics in straight.run()]
    resumed = make(network(seed=7), config=config, seed=8)  # nothing of its own is left
    resumed.step()
    resumed.restore(checkpoint)
    assert [metrics._replace(seconds=0) for metrics in resumed.run()] == expected
    assert same_bits(state(resumed), state(straight)) and len(expected) == 5 - at


def test_the_state_of_another_run_is_refused_by_tensor() -> None:
    checkpoint = make(config=CONFIG.model_copy(update={"buffer_size": 51})).state()
    with pytest.raises(ValueError, match=r"tensor 'buffer.x' does not fit this run; resume it with its own recipe"):
        make().restore(checkpoint)


# The optimizer.


class OneParameter(nn.Module):
    """f = -theta (sum of x): its gradient has the same sign at every step of `opposed`, so Adam's steps are known."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, position: Position) -> Tensor:
        return -self.theta * position["x"].sum(dim=1)


@dataclass(frozen=True)
class Places(Kernel):
    """A kernel that puts every chain where it is told."""

    position: dict[str, Tensor]
    accept_prob: float = 1.0
    calls: list[dict[str, Tensor]] = field(default_factory=list)

    uses_score = False
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:  # noqa: ARG002
        self.calls.append(dict(free))
        moved = evaluate(log_density, {**chain.position, **self.position}, with_score=False)
        return moved, Info(torch.full_like(chain.f, self.accept_prob), torch.ones_like(chain.f, dtype=torch.bool))


def constant_batch(num: int, *, generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG001
    return {"x": torch.ones(num, 2, dtype=torch.float64), "y": torch.eye(3, dtype=torch.float64)[[0] * num]}


OPPOSED = Places({"x": torch.full((8, 2), -1.0, dtype=torch.float64)})  # gradient of the loss: 2 - (-2) = 4


def steps_of(config: TrainConfig) -> tuple[list[float], list[float], Trainer]:
    """How far Adam went in each iteration, and the learning rates that were reported."""
    trainer = make(OneParameter(), batch=constant_batch, kernel=OPPOSED, config=config)
    positions, rates = [0.0], []
    for metrics in trainer.run():
        positions.append(trainer.log_density.theta.item())
        rates.append(metrics.learning_rate)
    return [before - after for before, after in itertools.pairwise(positions)], rates, trainer


def test_the_learning_rate_rises_linearly_over_the_warmup_and_then_stays() -> None:
    steps, rates, _ = steps_of(CONFIG.model_copy(update={"num_iterations": 7, "warmup": 4, "learning_rate": 0.1}))
    expected = [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1]
    assert rates == pytest.approx(expected, rel=1e-12)
    assert steps == pytest.approx(expected, rel=1e-6)  # a constant gradient makes Adam step by the rate


def test_without_a_warmup_the_learning_rate_is_constant_from_the_start() -> None:
    steps, rates, _ = steps_of(CONFIG.model_copy(update={"num_iterations": 3, "learning_rate": 0.1}))
    assert rates == [0.1] * 3 and steps == pytest.approx([0.1] * 3, rel=1e-6)


def test_the_cosine_falls_from_the_full_rate_towards_zero() -> None:
    config = {"num_iterations": 6, "warmup": 2, "learning_rate": 0.1, "decay": "cosine"}
    steps, rates, _ = steps_of(CONFIG.model_copy(update=config))
    expected = [0.1 * min(1, (i + 1) / 2) * (1 + math.cos(math.pi * i / 6)) / 2 for i in range(6)]
    assert rates == pytest.approx(expected, rel=1e-12) and steps == pytest.approx(expected, rel=1e-6)


def test_adam_has_the_papers_parameters() -> None:
    optimizer = make().optimizer
    assert isinstance(optimizer, torch.optim.Adam)
    group = optimizer.param_groups[0]
    assert group["betas"] == (0.9, 0.999) and group["weight_decay"] == 0  # App. B: "default parameters"


def test_the_average_starts_at_the_parameters_and_follows_its_closed_form() -> None:
    def batch(num: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        return {name: value.double() for name, value in random_batch(num, generator=generator).items()}

    trainer = make(network().double(), batch=batch)
    expected = {name: value.clone() for name, value in trainer.log_density.state_dict().items()}
    assert all(torch.equal(trainer.average.state_dict()[name], value) for name, value in expected.items())
    for _ in trainer.run():
        for name, theta in trainer.log_density.state_dict().items():
            expected[name] = 0.99 * expected[name] + 0.01 * theta  # App. B, Exponential Moving Average
    for name, value in trainer.average.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-14)
    assert not torch.equal(trainer.average.net[0].weight, trainer.log_density.net[0].weight)


def test_the_decay_of_the_average_can_be_chosen() -> None:
    _, _, trainer = steps_of(CONFIG.model_copy(update={"num_iterations": 2, "learning_rate": 0.1, "ema_decay": 0.5}))
    assert trainer.average.theta.item() == pytest.approx(0.5 * (0.5 * 0 + 0.5 * -0.1) + 0.5 * -0.2, rel=1e-6)


# The metrics.


@pytest.mark.parametrize("objective", [MaximumLikelihood(), SummedOut()])
def test_the_metrics_are_those_of_the_iteration(objective: Literal[MaximumLikelihood(), SummedOut()]) -> None:
    config = TrainConfig(
        num_iterations=3, batch_size=6, num_steps=2, learning_rate=0.1, buffer_size=6, warmup=4, objective=objective
    )
    generator = torch.Generator().manual_seed(0)
    placed = {name: value.double() for name, value in random_batch(6, generator=generator).items()}
    kernel = Cycle((Places(placed, 0.25), Places(placed, 0.75)))
    model = network().double()
    trainer = make(model, batch=constant_batch, kernel=kernel, config=config)
    data = constant_batch(6, generator=generator)
    for iteration in (1, 2, 3):
        model.zero_grad()
        f_positive, f_negative = model(data).mean(), model(placed).mean()
        marginal = evaluate_configurations(model, placed, SPACE.configurations(dtype=torch.float64)).logsumexp(dim=1)
        ((f_negative if not objective.sums_labels_out else marginal.mean()) - f_positive).backward()
        squares = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
        metrics = trainer.step()
        assert metrics.iteration == trainer.iteration == iteration
        assert metrics.f_positive == pytest.approx(f_positive.item(), abs=1e-12)
        assert metrics.f_negative == pytest.approx(f_negative.item(), abs=1e-12)
        assert metrics.energy_gap == pytest.approx(f_positive.item() - f_negative.item(), abs=1e-12)
        assert metrics.grad_norm == pytest.approx(math.sqrt(squares), abs=1e-12)
        assert metrics.accept_rate == pytest.approx((0.25, 0.75))
        assert (metrics.chain_low, metrics.chain_high) == (float(placed["x"].min()), float(placed["x"].max()))
        assert metrics.learning_rate == pytest.approx(0.1 * iteration / 4)


def test_a_space_without_reals_has_no_chain_range() -> None:
    space = Space(y=Categorical(3))
    trainer = make(
        ConcatEnergy(space, MLP(3, (4,))),
        space=space,
        batch=lambda num, generator: {"y": random_batch(num, generator=generator)["y"]},
        kernel=Gibbs(space),
    )
    metrics = trainer.step()
    assert (metrics.chain_low, metrics.chain_high) == (0.0, 0.0)


def test_the_kernel_makes_the_steps_of_the_configuration_with_everything_free() -> None:
    kernel = Places({"x": torch.arange(16.0).reshape(8, 2)})
    trainer = make(kernel=kernel)
    list(trainer.run())
    assert len(kernel.calls) == CONFIG.num_iterations * CONFIG.num_steps
    for free in kernel.calls:
        assert {name: tuple(mask.shape) for name, mask in free.items()} == {"x": (8, 2), "y": (8,)}
        assert all(bool(mask.all()) for mask in free.values())


# The replay buffer.

DESTINATION = {"x": 7 + torch.arange(16.0).reshape(8, 2) / 100, "y": torch.eye(3)[[2] * 8]}


def assert_chains_return_to_the_buffer_whole() -> None:
    trainer = make(kernel=Places(DESTINATION), config=CONFIG.model_copy(update={"replacement_rate": 0.0}))
    trainer.buffer.position["y"][:] = torch.eye(3)[0]
    trainer.step()
    moved = (trainer.buffer.position["x"] >= 7).all(dim=1)
    assert int(moved.sum()) == 8, "x did not come back"
    assert torch.equal(trainer.buffer.position["y"][:, 2] == 1, moved), "y did not come back"


def test_both_halves_of_every_chain_return_to_the_buffer() -> None:
    assert_chains_return_to_the_buffer_whole()


def test_the_check_finds_a_trainer_that_drops_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug of the authors' code, planted."""

    def write(self: ReplayBuffer, slots: Tensor, position: Position, weights: object = None) -> None:  # noqa: ARG001
        self.position["x"][slots] = position["x"]

    monkeypatch.setattr(ReplayBuffer, "write", write)
    with pytest.raises(AssertionError, match="y did not come back"):
        assert_chains_return_to_the_buffer_whole()


def test_chains_go_on_from_the_buffer() -> None:
    trainer = make(kernel=Cycle((Places({}),)), config=CONFIG.model_copy(update={"replacement_rate": 0.0}))
    before = {name: value.clone() for name, value in trainer.buffer.position.items()}
    list(trainer.run())  # a kernel that does not move leaves the buffer as it was
    assert all(torch.equal(trainer.buffer.position[name], before[name]) for name in SPACE)


def test_bfloat16_is_for_evaluations_only() -> None:
    trainer = make(config=CONFIG.model_copy(update={"precision": "bfloat16"}))
    seen: list[torch.dtype] = []
    trainer.log_density.net[1].register_forward_hook(lambda *arguments: seen.append(arguments[-1].dtype))
    list(trainer.run())
    assert set(seen) == {torch.bfloat16}
    assert {value.dtype for name, value in state(trainer).items() if not name.endswith("step")} == {torch.float32}


# Nothing that is not finite gets into the parameters.


class Injected(nn.Module):
    """A network whose f is replaced in the rows where x[0] is 50, and whose gradient may be broken."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.network, self.value, self.breaks_gradient = network(), value, False
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, position: Position) -> Tensor:
        f = self.network(position) + self.offset
        if self.breaks_gradient:
            f = f + _NotANumberBackwards.apply(self.offset)
        return torch.where(position["x"][:, 0] == 50, self.value, f)


class _NotANumberBackwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # noqa: ARG004
        return torch.zeros_like(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return torch.full_like(gradients[0], math.nan)


@dataclass(frozen=True)
class Sets(Kernel):
    """A kernel that sets one entry of a block of row 5, from the second iteration on."""

    block: str
    value: float
    trainer: list[Trainer]

    uses_score = False
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:  # noqa: ARG002
        position = dict(chain.position)
        if self.trainer[0].iteration == 1:
            changed = position[self.block].clone()
            changed[5, 0] = self.value
            position[self.block] = changed
        moved = evaluate(log_density, position, with_score=False)
        return moved, Info(torch.ones_like(chain.f), torch.ones_like(chain.f, dtype=torch.bool))


@dataclass(frozen=True)
class Reports(Kernel):
    """A kernel that stands still and reports an acceptance probability of NaN in row 5, in the second iteration."""

    trainer: list[Trainer]

    uses_score = False
    adjusted = False

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:  # noqa: ARG002
        accept_prob = torch.ones_like(chain.f)
        if self.trainer[0].iteration == 1:
            accept_prob[5] = math.nan
        return chain, Info(accept_prob, accept_prob == 1)


def assert_stops(trainer: Trainer, *parts: str, arm: Callable[[], None] = lambda: None) -> None:
    """Without rollbacks, the second iteration raises, naming the parts, and leaves no trace."""
    assert trainer.config.max_rollbacks == 0
    trainer.step()
    before = state(trainer)
    arm()
    with pytest.raises(FloatingPointError, match=re.escape(parts[0])) as error:
        trainer.step()
    assert [part for part in parts if part not in str(error.value)] == []
    assert trainer.iteration == 1
    assert same_bits(state(trainer), before), "something was learned from numbers that are not finite"


def spoiled_batch(block: str, value: float) -> Callable[..., Position]:
    """Batches whose row 3 holds a value in the second iteration; the first call is for the noise."""
    calls: list[int] = []

    def batch(num: int, *, generator: torch.Generator) -> Position:
        position = random_batch(num, generator=generator)
        calls.append(num)
        if len(calls) == 3:
            position[block][3, 0] = value
        return position

    return batch


NOT_FINITE = pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])


@NOT_FINITE
def test_an_f_of_the_data_that_is_not_finite_stops_the_run(value: float) -> None:
    trainer = make(Injected(value), batch=spoiled_batch("x", 50.0))
    assert_stops(trainer, f"f is {value} in row 3", "positive phase", "iteration 2")


@NOT_FINITE
@pytest.mark.parametrize("objective", [MaximumLikelihood(), SummedOut()])
def test_an_f_of_the_chains_that_is_not_finite_stops_the_run(value: float, objective: Objective) -> None:
    trainers: list[Trainer] = []
    trainer = make(
        Injected(value), kernel=Sets("x", 50.0, trainers), config=CONFIG.model_copy(update={"objective": objective})
    )
    trainers.append(trainer)
    assert_stops(trainer, f"f is {value} in row 5", "negative phase", "iteration 2")


@NOT_FINITE
@pytest.mark.parametrize("block", ["x", "y"])
def test_a_chain_that_is_not_finite_stops_the_run(value: float, block: str) -> None:
    trainers: list[Trainer] = []
    trainer = make(Injected(), kernel=Sets(block, value, trainers))
    trainers.append(trainer)
    assert_stops(trainer, f"block {block!r}: not finite in row 5", "negative phase", "iteration 2")


@NOT_FINITE
def test_a_real_of_the_data_that_is_not_finite_stops_the_run(value: float) -> None:
    trainer = make(batch=spoiled_batch("x", value))
    assert_stops(trainer, "block 'x': not finite in row 3", "positive phase", "iteration 2")


def test_a_missing_label_of_the_data_stops_the_run() -> None:
    trainer = make(batch=spoiled_batch("y", math.nan))
    assert_stops(trainer, "block 'y': not finite in row 3", "positive phase", "iteration 2")


def test_a_missing_entry_stops_the_run_even_where_f_does_not_look_at_it() -> None:
    class LooksAtLabels(OneParameter):
        def forward(self, position: Position) -> Tensor:
            return self.theta.float() * position["y"][:, 0]

    trainer = make(LooksAtLabels(), batch=spoiled_batch("x", math.nan), kernel=Gibbs(SPACE))
    assert_stops(trainer, "block 'x': not finite in row 3", "positive phase", "iteration 2")


def test_a_proposal_that_is_not_a_number_stops_the_run() -> None:
    trainers: list[Trainer] = []
    trainer = make(kernel=Reports(trainers))
    trainers.append(trainer)
    assert_stops(trainer, "not a number at a proposal", "negative phase", "iteration 2")


def test_a_gradient_that_is_not_finite_stops_the_run() -> None:
    model = Injected()
    trainer = make(model)
    assert_stops(
        trainer,
        "gradient: not finite in parameter 'offset'",
        "iteration 2",
        arm=lambda: setattr(model, "breaks_gradient", True),
    )


def test_a_loss_that_overflows_stops_the_run() -> None:
    class Huge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.theta, self.offset = nn.Parameter(torch.zeros(())), 0.0

        def forward(self, position: Position) -> Tensor:
            return self.theta * position["x"][:, 0] + self.offset

    model = Huge()
    # Every f is finite; their sums are not.
    assert_stops(make(model), "loss: nan", "iteration 2", arm=lambda: setattr(model, "offset", 3e38))


# Training finds the maximum-likelihood parameters where they are known.


COUNTS = torch.tensor([[128.0, 64.0, 32.0], [64.0, 96.0, 128.0]])  # of 512 rows
ROWS = COUNTS.flatten().long()
INDEX = torch.arange(6).repeat_interleave(ROWS)
TABLE_DATA = {"a": (INDEX // 3).float(), "b": torch.eye(3)[INDEX % 3]}


FIT = TrainConfig(
    num_iterations=500,
    batch_size=512,
    num_steps=2,
    learning_rate=0.02,
    buffer_size=512,
    replacement_rate=0.0,
    ema_decay=0.98,
)


def all_rows(data: Position) -> Callable[..., Position]:
    """Every batch is the whole data set, so that only the negative phase is random."""
    return lambda num, generator: data  # noqa: ARG005


@pytest.mark.slow
def test_with_y_summed_out_labels_alone_are_fitted_exactly() -> None:
    """Without reals the sum leaves no noise at all: training is plain gradient descent on the likelihood."""
    config = FIT.model_copy(
        update={"learning_rate": 0.1, "decay": "cosine", "objective": SummedOut(), "ema_decay": 0.0}
    )
    trainer = make(Table(), space=Table.space, batch=all_rows(TABLE_DATA), kernel=Gibbs(Table.space), config=config)
    list(trainer.run())
    fitted = trainer.average.theta.detach().flatten().softmax(dim=0)
    torch.testing.assert_close(fitted, (COUNTS / 512).flatten(), rtol=0, atol=1e-5)


def standard_error(fisher: Tensor, *, correlation: float) -> Tensor:
    """Standard errors of the averaged parameters that `FIT` moves around the maximum of the likelihood.

    Near it the iteration is theta' = theta - a D (F (theta - theta*) + noise / sqrt(N)), with F the Fisher information,
    which is also the covariance of one chain's gradient, and D = 1 / sqrt(F_ii / N) Adam's preconditioner. In the limit
    of small a, the covariance S of theta solves D F S + S F D = a D F D / N, so S = a D / (2 N). Theta returns at the rate
    k = a D F, so a moving average with mu = 1 - g keeps the share g / (g + k) of S. `correlation` is what correlated
    chains multiply the noise's variance by.
    """
    a, num_chains, g = FIT.learning_rate, FIT.batch_size, 1 - FIT.ema_decay
    preconditioner = (num_chains / fisher).sqrt()
    kept = g / (g + a * preconditioner * fisher)
    return (correlation * kept * a * preconditioner / (2 * num_chains)).sqrt()


@pytest.mark.slow
def test_persistent_gibbs_chains_fit_the_frequencies() -> None:
    """Within 6 standard errors: a false alarm in fewer than 6 * 2e-9 of all seeds, if the errors are normal."""
    kernel = Gibbs(Table.space, scan="systematic")
    trainer = make(Table(), space=Table.space, batch=all_rows(TABLE_DATA), kernel=kernel, config=FIT)
    list(trainer.run())
    p = (COUNTS / 512).flatten()
    error = standard_error(p * (1 - p), correlation=1.5)
    theta = trainer.average.theta.detach().flatten()
    difference = (theta - theta.mean()) - (p.log() - p.log().mean())
    assert bool((difference.abs() < 6 * error).all())
    assert (
        float(error.max()) < 0.2 and float((p.log() - p.log().mean()).abs().max()) > 0.6
    )  # the tolerance says something


class Mixture(nn.Module):
    """f(x, y) = b_y - (x - m_y)^2 / 2: class k has probability softmax(b)_k and x | k is N(m_k, 1)."""

    space = Space(x=Continuous(), y=Categorical(3))

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.means = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))

    def forward(self, position: Position) -> Tensor:
        return position["y"] @ self.bias - (position["x"] - position["y"] @ self.means).square() / 2


@pytest.mark.slow
@pytest.mark.parametrize("objective", [MaximumLikelihood(), SummedOut()])
def test_persistent_mala_and_gibbs_chains_fit_a_mixed_gaussian(objective: Objective) -> None:
    """Within 6 standard errors: a false alarm in fewer than 6 * 2e-9 of all seeds, if the errors are normal."""
    labels = torch.arange(3).repeat_interleave(torch.tensor([256, 128, 128]))
    quantiles = torch.cat([torch.special.ndtri((torch.arange(num) + 0.5) / num) for num in (256, 128, 128)])
    means = torch.tensor([-1.0, 0.5, 1.5])
    data = {"x": means[labels] + quantiles, "y": torch.eye(3)[labels]}  # class means are `means` exactly
    config = FIT.model_copy(update={"num_steps": 4, "objective": objective})
    kernel = Cycle((Gibbs(Mixture.space), MALA(block="x", step_size=1.2)))
    trainer = make(Mixture(), space=Mixture.space, batch=all_rows(data), kernel=kernel, config=config)
    list(trainer.run())
    p = torch.tensor([0.5, 0.25, 0.25])
    correlation = 2.0  # 4 steps apart, the chains' statistics have autocorrelation below 1/3: (1 + r) / (1 - r) < 2
    error_bias = standard_error(p * (1 - p), correlation=correlation)
    error_means = standard_error(p, correlation=correlation)
    bias, fitted = trainer.average.bias.detach(), trainer.average.means.detach()
    assert bool(((bias - bias.mean()) - (p.log() - p.log().mean())).abs().lt(6 * error_bias).all())
    assert bool((fitted - means).abs().lt(6 * error_means).all())
    assert float(error_bias.max()) < 0.02 and float(error_means.max()) < 0.02


# What is refused.


@pytest.mark.parametrize(
    "fields",
    [
        {"num_iterations": 0},
        {"batch_size": 1.5},
        {"learning_rate": 0.0},
        {"learning_rate": math.inf},
        {"ema_decay": 1.0},
        {"replacement_rate": 1.1},
        {"warmup": -1},
        {"objective": "contrastive"},
        {"clip": 1.0},
        {"num_steps": "3"},
    ],
    ids=str,
)
def test_a_configuration_out_of_range_is_refused(fields: dict[str, Any]) -> None:
    sound = CONFIG.model_dump()
    TrainConfig(**sound)
    with pytest.raises(ValueError, match=next(iter(fields))):
        TrainConfig(**(sound | fields))


def test_a_batch_with_an_unknown_block_is_refused() -> None:
    with pytest.raises(ValueError, match="no block 'z'; this space has 'x', 'y'"):
        make(batch=lambda num, generator: random_batch(num, generator=generator) | {"z": torch.zeros(num)})


def test_a_batch_without_one_of_the_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="batch: lacks block 'y'; it holds 'x'"):
        make(batch=lambda num, generator: {"x": torch.randn(num, 2, generator=generator)})


def test_a_batch_larger_than_the_buffer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size 8 is more than buffer_size 4, .*set a larger buffer_size first"):
        TrainConfig(**(CONFIG.model_dump() | {"buffer_size": 4}))
    assert TrainConfig(**(CONFIG.model_dump() | {"buffer_size": 8})).buffer_size == 8


@pytest.mark.parametrize("objective", [MaximumLikelihood(), SummedOut()])
def test_the_conditional_term_is_added_with_its_weight(objective: Literal[MaximumLikelihood(), SummedOut()]) -> None:
    """The step is undone by hand: what Adam saw is the gradient without the term, plus the weighted term's."""
    gradients: list[Tensor] = []
    for weight in (0.0, 0.7):
        model = network().double()
        placed = {name: value.double() for name, value in random_batch(8, generator=torch.Generator()).items()}
        config = CONFIG.model_copy(
            update={"objective": objective, "terms": (ConditionalTerm(weight=weight),) if weight else ()}
        )
        trainer = make(model, batch=constant_batch, kernel=Places(placed), config=config)
        trainer.step()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    model = network().double()
    data = constant_batch(8, generator=torch.Generator())
    conditional_likelihood(model, SPACE, data).backward()
    term = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert len(term) == len(gradients[0]) and float(term.norm()) > 1e-2
    torch.testing.assert_close(gradients[1] - gradients[0], 0.7 * term, rtol=0, atol=1e-12)


@pytest.mark.parametrize("objective", [MaximumLikelihood(), SummedOut()])
def test_the_information_of_labels_is_added_with_its_weight(
    objective: Literal[MaximumLikelihood(), SummedOut()],
) -> None:
    """As above: what Adam descends is less by the weighted gradient of the information."""

    def batch(num: int, *, generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG001
        return {
            "x": torch.linspace(-2, 2, 2 * num, dtype=torch.float64).reshape(num, 2),
            "y": torch.eye(3).double()[[0] * num],
        }

    gradients: list[Tensor] = []
    for weight in (0.0, 0.7):
        model = network().double()
        placed = {name: value.double() for name, value in random_batch(8, generator=torch.Generator()).items()}
        config = CONFIG.model_copy(
            update={"objective": objective, "terms": (InformationTerm(weight=weight),) if weight else ()}
        )
        make(model, batch=batch, kernel=Places(placed), config=config).step()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    model = network().double()
    label_information(model, SPACE, batch(8, generator=torch.Generator())).backward()
    term = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert len(term) == len(gradients[0]) and float(term.norm()) > 1e-4
    torch.testing.assert_close(gradients[0] - gradients[1], 0.7 * term, rtol=0, atol=1e-12)


@pytest.mark.parametrize("objective", [MaximumLikelihood(), SummedOut()])
def test_the_roughness_of_labels_is_added_with_its_weight(objective: Literal[MaximumLikelihood(), SummedOut()]) -> None:
    """As above. All x are 0 and y has two classes in a linear f, so the roughness is the same for every draw."""
    space = Space(x=Continuous(2), y=Categorical(2))

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([[0.5, -1.0], [2.0, 0.3]], dtype=torch.float64))

        def forward(self, position: Position) -> Tensor:
            return (position["x"] @ self.w * position["y"]).sum(dim=1)

    def batch(num: int, *, generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG001
        return {"x": torch.zeros(num, 2, dtype=torch.float64), "y": torch.eye(2, dtype=torch.float64)[[0] * num]}

    gradients = []
    for weight in (0.0, 0.7):
        model = Linear()
        placed = {"x": torch.ones(8, 2, dtype=torch.float64), "y": torch.eye(2, dtype=torch.float64)[[1] * 8]}
        config = CONFIG.model_copy(
            update={"objective": objective, "terms": (RoughnessTerm(weight=weight, radius=0.4),) if weight else ()}
        )
        make(model, space=space, batch=batch, kernel=Places(placed), config=config).step()
        assert model.w.grad is not None
        gradients.append(model.w.grad)
    model = Linear()
    rows = batch(8, generator=torch.Generator())
    label_roughness(model, space, rows, radius=0.4, generator=torch.Generator().manual_seed(1)).backward()
    assert model.w.grad is not None and float(model.w.grad.norm()) > 1e-2
    torch.testing.assert_close(gradients[1] - gradients[0], 0.7 * model.w.grad, rtol=0, atol=1e-12)


def test_the_noise_is_fitted_as_the_configuration_says() -> None:
    ranges, moments = (
        make(config=CONFIG.model_copy(update={"noise_reals": reals})).noise.parameters for reals in ("range", "moments")
    )
    for name in SPACE.continuous:
        assert not torch.equal(ranges[name], moments[name])
        batch = random_batch(CONFIG.batch_size, generator=torch.Generator().manual_seed(0))[name]
        torch.testing.assert_close(moments[name].mean(dim=0), batch.mean(dim=0))


def spoiled(**blocks: Tensor) -> Callable[..., Position]:
    return lambda num, generator: random_batch(num, generator=generator) | blocks


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ({"x": torch.zeros(8, 2)}, TypeError, r"batch: got a dict, expected a function \(num, \*, generator\)"),
        (lambda num, generator: [1], TypeError, r"batch: drew a list, expected a position"),  # noqa: ARG005
        (
            spoiled(y=torch.zeros(8, dtype=torch.int64)),
            ValueError,
            r"batch: block 'y': got torch.int64 of shape \(8,\), expected floats of shape \(N, 3\); space.encode",
        ),
        (spoiled(x=torch.zeros(8)), ValueError, r"block 'x': got torch.float32 of shape \(8,\), expected .* \(N, 2\)"),
        (
            spoiled(x=torch.full((8, 2), torch.nan)),
            ValueError,
            r"block 'x' has missing entries, but its rows have no numbers, .*; draw a Batch\(position, numbers\)",
        ),
    ],
    ids=["a dict", "a list", "labels", "a wrong shape", "missing entries"],
)
def test_data_of_the_wrong_form_are_refused_in_a_line(batch: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make(batch=batch)
    assert "\n" not in str(caught.value)
