"""Specification of the objective "conditional": p(y | x) alone, by chains of y that stay with their row."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space, TrainConfig, Trainer
from jointebm.data.datasets import Batch
from jointebm.energies import PerPlace, StructuredEnergy, Transitions
from jointebm.kernels import MALA, Chain, Cycle, Gibbs, Info, Kernel, LogDensity, evaluate
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Mask, Position
from jointebm.training.objectives import Conditional, conditional_likelihood
from support.resumed_runs import assert_same, stepwise

SPACE = Space(x=Continuous((3, 2)), y=Categorical(2, (3,)))
CONFIG = TrainConfig(
    num_iterations=9,
    batch_size=4,
    num_steps=1,
    learning_rate=0.03,
    buffer_size=6,
    replacement_rate=0.0,
    objective=Conditional(),
)
SWEEPS = Gibbs(SPACE, scan="systematic")


def energy(seed: int = 0) -> StructuredEnergy:
    generator = torch.Generator().manual_seed(seed)
    made = StructuredEnergy(SPACE, PerPlace(nn.Linear(2, 2)), Transitions(2)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(generator=generator)
    return made


class Rows:
    """A table of rows; a batch is drawn with replacement, or all of them in order."""

    def __init__(self, num: int, *, seed: int = 0, in_order: bool = False) -> None:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(num, 3, 2, generator=generator, dtype=torch.float64)
        y = torch.randint(2, (num, 3), generator=generator)
        self.position, self.in_order = SPACE.encode({"x": x, "y": y}, dtype=torch.float64)[0], in_order

    def __call__(self, num: int, *, generator: torch.Generator) -> Batch:
        numbers = torch.randint(len(self.position["x"]), (num,), generator=generator)
        numbers = torch.arange(num) if self.in_order else numbers
        return Batch({name: value[numbers] for name, value in self.position.items()}, numbers)


def trainer_of(rows: Any, *, model: nn.Module | None = None, kernel: Kernel = SWEEPS, **fields: Any) -> Trainer:
    config = CONFIG.model_copy(update=fields)
    return Trainer(model or energy(), SPACE, rows, kernel=kernel, config=config, seed=0)


class Places(Kernel):
    """A kernel that puts the y of every chain where it is told."""

    uses_score = False
    adjusted = False

    def __init__(self, y: Tensor) -> None:
        self.y = y

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:  # noqa: ARG002
        assert free.keys() == {"y"}
        moved = evaluate(log_density, {**chain.position, "y": self.y}, with_score=False)
        return moved, Info(torch.ones_like(chain.f), torch.ones_like(chain.f, dtype=torch.bool))


def gradient(model: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def test_the_expected_gradient_is_that_of_the_enumerated_conditional_likelihood() -> None:
    """Row by row: the step's gradient at every y of the chain, weighted by p(y | x), which is exact."""
    states = Space(y=SPACE["y"]).configurations(dtype=torch.float64)["y"]  # (8, 3, 2)
    for seed in range(3):
        rows, model = Rows(1, seed=seed, in_order=True), energy()
        conditional_likelihood(model, SPACE, rows.position).backward()
        expected = gradient(model)
        x = rows.position["x"].expand(8, 3, 2)
        probs = model({"x": x, "y": states}).softmax(dim=0).detach()
        found = torch.zeros_like(expected)
        for prob, state in zip(probs, states, strict=True):
            made = energy()
            trainer_of(rows, model=made, kernel=Places(state[None]), batch_size=1).step()
            found += prob * gradient(made)
        assert float(expected.abs().max()) > 0.1
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


class Flips(Kernel):
    """Turns every free label over: a chain's y says how often its row was visited."""

    uses_score = False
    adjusted = False

    def __init__(self) -> None:
        self.seen: list[Position] = []

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:  # noqa: ARG002
        assert bool(free["y"].all()) and "x" not in free
        chain = evaluate(log_density, {**chain.position, "y": 1 - chain.position["y"]}, with_score=False)
        self.seen.append(chain.position)
        return chain, Info(torch.ones_like(chain.f), torch.ones_like(chain.f, dtype=torch.bool))


def test_chains_stay_with_their_row_and_x_is_that_of_the_row() -> None:
    flips, rows = Flips(), Rows(6)
    trainer = trainer_of(rows, kernel=flips, num_iterations=15)
    start = trainer.buffer.position["y"].double().clone()
    list(trainer.run())
    visits = torch.zeros(6, dtype=torch.int64)
    for batch in flips.seen:
        visited = [int((rows.position["x"] == x).all(dim=(1, 2)).nonzero()[0]) for x in batch["x"]]
        for row, y in zip(visited, batch["y"], strict=True):
            assert torch.equal(y, 1 - start[row] if visits[row] % 2 == 0 else start[row])
        visits[visited] += 1  # a row that comes twice in a batch is one visit
    assert int(visits.min()) > 2
    labels = trainer.buffer.position["y"].double()
    assert torch.equal(labels, torch.where((visits % 2 == 1)[:, None, None], 1 - start, start))


def test_it_recovers_a_model_that_is_known() -> None:
    """Labels drawn exactly from a model; the fit explains them as well as the model that they came from."""
    truth, rows = energy(), Rows(2000, in_order=True)
    states = Space(y=SPACE["y"]).configurations(dtype=torch.float64)["y"]
    x = rows.position["x"]
    f = torch.stack([truth({"x": x, "y": y.expand(2000, 3, 2)}) for y in states], dim=1)
    drawn = torch.multinomial(f.softmax(dim=1).detach(), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    rows.position["y"] = states[drawn]
    best = float(conditional_likelihood(truth, SPACE, rows.position).detach())
    fields = {"num_iterations": 100, "batch_size": 2000, "buffer_size": 2000, "decay": "cosine", "learning_rate": 0.1}
    trainer = trainer_of(rows, model=energy(5), ema_decay=0.9, **fields)
    before = float(conditional_likelihood(trainer.average, SPACE, rows.position).detach())
    list(trainer.run())
    assert float(conditional_likelihood(trainer.average, SPACE, rows.position).detach()) < best + 0.01 < before


def test_a_run_that_is_interrupted_comes_to_the_same_end() -> None:
    kernel = Cycle((SWEEPS, MALA(block="x", step_size=0.1)))
    states = stepwise(trainer_of(Rows(6), kernel=kernel))
    for state in states[::3]:
        resumed = trainer_of(Rows(6), kernel=kernel)
        resumed.restore(state)
        list(resumed.run())
        assert_same(resumed.state(), states[-1])


def test_rows_that_cannot_be_told_apart_or_lack_an_x_are_refused() -> None:
    rows = Rows(7)
    with pytest.raises(ValueError, match="a chain for each row in the 6 slots of the buffer, but there is a row 6"):
        list(trainer_of(rows).run())
    with pytest.raises(ValueError, match="but rows have no numbers; draw a Batch with the numbers of its rows"):
        trainer_of(lambda num, generator: rows(num, generator=generator).position).step()
    rows.position["x"][:, 1, 1] = math.nan
    with pytest.raises(ValueError, match="objective 'conditional' needs every real, but some are missing"):
        trainer_of(rows).step()


def test_without_x_it_is_the_likelihood() -> None:
    space, bias = Space(y=Binary()), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(bias.weight)
    data = torch.tensor([1.0, 1.0, 1.0, 0.0] * 100)

    class Logit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = bias

        def forward(self, position: Position) -> Tensor:
            return self.bias(position["y"][:, None])[:, 0]

    config = CONFIG.model_copy(
        update={"num_iterations": 200, "batch_size": 400, "buffer_size": 400, "decay": "cosine", "ema_decay": 0.98}
    )
    batch = Batch({"y": data}, torch.arange(400))
    trainer = Trainer(Logit(), space, lambda num, generator: batch, kernel=Gibbs(space), config=config, seed=0)  # noqa: ARG005
    list(trainer.run())
    # The noise of 400 chains, averaged over 50 iterations, has a standard deviation of about .03 at a rate of .03.
    assert abs(float(trainer.average.bias.weight.detach()) - math.log(3)) < 0.15
