"""Specification of `Watch` and of what `Trainer` does about divergence: nothing is learned from it, nothing is hidden."""

import itertools
import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jointebm import Categorical, Continuous, Space, TrainConfig, Trainer
from jointebm.energies import MLP, ConcatEnergy
from jointebm.kernels import MALA, Chain, Cycle, Gibbs, GibbsWithGradients, Info, Kernel, Langevin, LogDensity
from jointebm.randomness.draws import Generator
from jointebm.recipes import override
from jointebm.recipes.catalogue import find
from jointebm.runs.training_run import train
from jointebm.spaces.space import Mask, Position
from jointebm.training import divergence
from jointebm.training.block_problem import BlockAttempt, BlockProblem, BlockRows
from jointebm.training.divergence import Diverged, Intervention, Scales
from jointebm.training.watch import Moved, Watch

SPACE = Space(x=Continuous(2), y=Categorical(3))
NUM_ITERATIONS = 14
CONFIG = TrainConfig(
    num_iterations=NUM_ITERATIONS,
    batch_size=8,
    num_steps=3,
    learning_rate=1e-3,
    buffer_size=20,
    snapshot_every=2,
    replacement_rate=0.2,
)
KERNELS: dict[str, Kernel] = {
    "gradients + langevin": Cycle((GibbsWithGradients(SPACE), Langevin(block="x", step_size=0.1))),
    "gibbs + mala": Cycle((Gibbs(SPACE), MALA(block="x", step_size=0.1))),
}


def random_batch(num: int, *, generator: torch.Generator) -> dict[str, Tensor]:
    labels = torch.randint(3, (num,), generator=generator)
    return {"x": labels[:, None] + torch.randn(num, 2, generator=generator), "y": torch.eye(3)[labels]}


class _Gradient(torch.autograd.Function):
    """The identity, whose gradient in one row is replaced."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, row: int, gradient: float) -> Tensor:
        ctx.row, ctx.gradient = row, gradient
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        spoiled = gradients[0].clone()
        spoiled[ctx.row % len(spoiled)] = ctx.gradient
        return spoiled, None, None


class Faulty(nn.Module):
    """A network that does as it is told at one evaluation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = ConcatEnergy(SPACE, MLP(5, (8,)))
        self.fault, self.row, self.value, self.calls_left = "", 0, 0.0, -1
        self.num_calls = 0

    def arm(self, fault: str, row: int, value: float, call: int) -> None:
        self.fault, self.row, self.value, self.calls_left = fault, row, value, call

    def forward(self, position: Position) -> Tensor:
        self.num_calls += 1
        self.calls_left -= 1
        if self.calls_left != -1:
            return self.network(position)
        if self.fault in ("x", "y"):
            spoiled = _Gradient.apply(position[self.fault], self.row, self.value)
            return self.network({**position, self.fault: spoiled})
        f = self.network(position)
        if self.fault == "parameters":
            return _Gradient.apply(f, self.row, self.value)
        if self.fault == "data":  # the first half of the batch that both phases share
            return f + self.value * (torch.arange(len(f)) < len(f) // 2)
        f = f.clone()
        f[self.row % len(f)] = self.value
        return f


@dataclass
class Spoils(Kernel):
    """A kernel that spoils one row of what another did, once."""

    kernel: Kernel
    block: str = ""
    row: int = 0
    value: float = math.nan
    steps_left: int = 0
    uses_score: bool = field(default=True, init=False)
    adjusted: bool = field(default=False, init=False)

    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Any]:
        chain, infos = self.kernel.step(log_density, chain, free=free, generator=generator)
        self.steps_left -= 1
        if self.steps_left != 0:
            return chain, infos
        if self.block == "accept_prob":
            spoiled = infos[0].accept_prob.clone()
            spoiled[self.row] = self.value
            return chain, (Info(spoiled, infos[0].accepted), *infos[1:])
        value = chain.position[self.block].clone()
        value[self.row] = self.value
        return chain._replace(position={**chain.position, self.block: value}), infos


@pytest.fixture
def settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence, "SETTLED", 3)


def learned(trainer: Trainer) -> dict[str, Tensor]:
    """What a poisoned iteration could poison."""
    adam = trainer.optimizer.state_dict()["state"]
    return {
        **{f"parameter {n}": v.detach().clone() for n, v in trainer.log_density.state_dict().items()},
        **{f"average {n}": v.detach().clone() for n, v in trainer.average.state_dict().items()},
        **{f"adam {i} {n}": torch.as_tensor(v).clone() for i, s in adam.items() for n, v in s.items()},
    }


def same_bits(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


SITES = [
    *(("f of an evaluation of the chains", value) for value in (math.nan, math.inf)),
    *(("f of the phases", value) for value in (math.nan, math.inf, -math.inf, 1e38)),
    *((f"score of {block}", value) for block in ("x", "y") for value in (math.nan, math.inf)),
    *(("gradient of parameters", value) for value in (math.nan, -math.inf, 1e12)),
    *((f"chain's {block}", value) for block in ("x", "y") for value in (math.nan, math.inf)),
    ("acceptance", math.nan),
    ("data", math.nan),
    ("energy gap", 1e5),
    ("buffer", 0.0),
]


def inject(
    trainer: Trainer, network: Faulty, kernel: Spoils, site: str, value: float, draw: random.Random, phases: int
) -> None:
    """Spoils something of the next iteration, whose evaluation number `phases` is that of the loss, the last one."""
    row = draw.randrange(8)
    # Evaluations 0, 2, ... are of states and the rest of proposals: whose scores may never be used, and an infinite f of
    # which is a move that is accepted for sure.
    if site.startswith("f of an evaluation"):
        network.arm("f", row, value, draw.randrange(0, phases, 1 if math.isnan(value) else 2))
    elif site == "f of the phases":
        network.arm("f", row, value, phases)
    elif site.startswith("score of"):
        network.arm(site[-1], row, value, phases - 1 if site[-1] == "x" else draw.randrange(0, phases, 2))
    elif site == "gradient of parameters":
        network.arm("parameters", row, value, phases)
    elif site == "energy gap":
        network.arm("data", row, value, phases)
    elif site == "buffer":
        trainer.buffer.position["x"][:] = trainer.buffer.position["x"][0]
        trainer.buffer.noise.parameters["x"][:] = 0.5  # fresh chains too
        kernel.kernel = Gibbs(SPACE)  # nothing moves them apart again
    else:
        kernel.block = "accept_prob" if site == "acceptance" else site[-1]
        # Gibbs draws a label anew whatever it was, so only the last one is seen.
        kernel.row, kernel.value, kernel.steps_left = row, value, 3 if site[-1] == "y" else draw.randint(1, 3)


@pytest.mark.slow
@pytest.mark.usefixtures("settled_at_once")
@pytest.mark.parametrize("seed", range(200))
def test_of_200_injections_none_poisons_a_parameter_and_none_goes_unreported(seed: int) -> None:
    draw = random.Random(seed)
    site, value = SITES[seed % len(SITES)]
    inner = draw.choice(list(KERNELS.values()))
    if site.startswith(("score of", "f of an")):
        inner = KERNELS["gradients + langevin"]  # the other evaluates twice at some states, and uses f of one only
    at = draw.randrange(5, NUM_ITERATIONS)
    network, kernel = Faulty(), Spoils(inner)
    num_batches = itertools.count()
    spoil_data, num_calls = False, 0

    def batch(num: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        position = random_batch(num, generator=generator)
        if spoil_data and next(num_batches) == 0:
            position["x"][draw.randrange(num), draw.randrange(2)] = value
        return position

    trainer = Trainer(network, SPACE, batch, kernel=kernel, config=CONFIG, seed=seed)
    states = {0: learned(trainer)}
    told: list[Intervention] = []

    def look(intervention: Intervention) -> None:
        told.append(intervention)
        assert same_bits(learned(trainer), states[intervention.back_to]), "something was learned"
        if site == "buffer":  # mend what was broken
            kernel.kernel = inner

    trainer.on_intervention = look
    while trainer.iteration < NUM_ITERATIONS:
        if trainer.iteration == at and not told and not spoil_data:
            if site == "data":
                spoil_data = True
                with pytest.raises(Diverged, match=r"block 'x': not finite in row \d in the positive phase") as error:
                    trainer.step()
                assert error.value.kind == "data" and same_bits(learned(trainer), states[at])
                told.append(Intervention(at, "data", "restarted chains", 0, at, 1.0, ""))
                continue
            inject(trainer, network, kernel, site, value, draw, num_calls - 1)
        before = network.num_calls
        trainer.step()
        num_calls = network.num_calls - before
        states[trainer.iteration] = learned(trainer)
        assert all(bool(v.isfinite().all()) for v in states[trainer.iteration].values()), "a parameter is poisoned"
    assert [intervention.iteration for intervention in told] == [at], f"{site} {value} went unreported"
    assert all(bool(v.isfinite().all()) for v in trainer.buffer.position.values())


@pytest.mark.slow
def test_healthy_training_is_left_alone() -> None:
    """60 runs of 14 iterations without any intervention: false alarms are rarer than one in 300 iterations (p = .05)."""
    for seed in range(60):
        trainer = Trainer(Faulty(), SPACE, random_batch, kernel=KERNELS["gibbs + mala"], config=CONFIG, seed=seed)
        list(trainer.run())
        assert trainer.interventions == []


@pytest.mark.parametrize(("distance", "escapes"), [(9.9, False), (10.1, True)])
def test_chains_that_leave_the_range_of_the_data_far_behind_start_afresh(distance: float, escapes: bool) -> None:
    """What a slow explosion looks like: everything is finite, and nothing grows fast."""
    watch = Watch(SPACE, KERNELS["gibbs + mala"], Scales())
    data = {"x": torch.tensor([[-2.0, 0.0], [4.0, 1.0]]), "y": torch.eye(3)[:2]}  # the middle is 1, the half-width 3
    chains = {"x": torch.tensor([[0.0, 1.0], [1.0, 1 - 3 * distance]]), "y": torch.eye(3)[:2]}
    moved = Moved(Chain(chains, torch.zeros(2), None), torch.ones(2, 2), torch.ones(2, dtype=torch.bool))
    if not escapes:
        watch.check_chains(moved, data, "iteration 1")
        return
    with pytest.raises(Diverged, match=r"block 'x': 30.3 away from the middle of the data in row 1") as error:
        watch.check_chains(moved, data, "iteration 1")
    assert error.value.kind == "chain" and error.value.chains is not None
    assert error.value.chains.tolist() == [False, True]


def watch_many(watch: Watch, chains: Position, accept: float) -> Diverged | None:
    """Shows the same chains over and over; returns what is raised within 200 iterations."""
    data = random_batch(8, generator=torch.Generator().manual_seed(0))
    moved = Moved(
        Chain(chains, torch.zeros(8), None), torch.tensor([[1.0] * 8, [accept] * 8]), torch.ones(8, dtype=torch.bool)
    )
    try:
        for iteration in range(200):
            watch.check_chains(moved, data, f"iteration {iteration}")
    except Diverged as error:
        return error
    return None


def test_mala_that_hardly_accepts_is_found_and_gibbs_that_does_is_not_asked() -> None:
    chains = random_batch(8, generator=torch.Generator().manual_seed(1))
    error = watch_many(Watch(SPACE, KERNELS["gibbs + mala"], Scales()), chains, 0.001)
    assert error is not None and error.kind == "acceptance" and "set a smaller step_size" in str(error)
    assert watch_many(Watch(SPACE, KERNELS["gradients + langevin"], Scales()), chains, 0.001) is None


def test_chains_that_are_nearly_all_alike_are_found() -> None:
    chains = random_batch(8, generator=torch.Generator().manual_seed(1))
    alike = {"x": 1 + 0.1 * chains["x"], "y": chains["y"]}
    error = watch_many(Watch(SPACE, KERNELS["gibbs + mala"], Scales()), alike, 1.0)
    assert error is not None and error.kind == "buffer" and "nearly all are alike" in str(error)


def test_a_rollback_halves_the_rate_and_is_in_the_metrics_and_on_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = BlockProblem.attempt
    failures = iter([7])

    def fails_once(self: BlockProblem, drawn: BlockRows, where: str) -> BlockAttempt:
        if where == "iteration 8" and next(failures, None):
            raise Diverged("energy gap", "energy gap: injected")
        return attempt(self, drawn, where)

    monkeypatch.setattr(BlockProblem, "attempt", fails_once)
    settings = ["num_iterations=9", "batch_size=16", "buffer_size=32", "num_steps=1", "hidden=[4]", "warmup=0"]
    recipe = override(find("toy"), [*settings, "decay=constant", "log_every=1", "snapshot_every=2"])
    told: list[Intervention] = []
    run = train(recipe, tmp_path / "run", on_intervention=told.append)
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("event", line["iteration"]) for line in lines] == [*range(1, 8), "rolled back", *range(5, 10)]
    assert {line["learning_rate"] for line in lines[:7]} == {recipe.train.learning_rate}
    assert {line["learning_rate"] for line in lines[8:]} == {recipe.train.learning_rate / 2}
    assert (told[0].iteration, told[0].back_to, told[0].finding) == (7, 4, "energy gap: injected")
    card = (run.path / "model" / "README.md").read_text()
    assert "iteration 8: rolled back to 4, learning rate times 0.5 (energy gap: energy gap: injected)" in card


def test_mala_is_found_in_a_cycle_of_cycles() -> None:
    nested = Cycle((Cycle((Gibbs(SPACE), GibbsWithGradients(SPACE))), MALA(block="x", step_size=0.1)))
    watch = Watch(SPACE, nested, Scales())
    data = random_batch(8, generator=torch.Generator().manual_seed(0))
    rates = torch.tensor([[1.0] * 8, [0.0] * 8, [1.0] * 8])  # Gibbs-with-Gradients may well accept nothing
    moved = Moved(Chain(data, torch.zeros(8), None), rates, torch.ones(8, dtype=torch.bool))
    for iteration in range(200):
        watch.check_chains(moved, data, f"iteration {iteration}")
    with pytest.raises(Diverged) as error:  # noqa: PT012  # at any of them
        for iteration in range(200):
            watch.check_chains(moved._replace(accept_probs=rates.flip(0).roll(1, 0)), data, f"iteration {iteration}")
    assert error.value.kind == "acceptance"


def test_what_is_usual_is_that_of_healthy_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(Faulty(), SPACE, random_batch, kernel=KERNELS["gibbs + mala"], config=CONFIG, seed=0)
    trainer.step()
    before = trainer.state().plain["scales"]
    seen: list[dict[str, Any]] = []
    trainer.on_intervention = lambda _: seen.append(trainer.state().plain["scales"])
    attempt = BlockProblem.attempt

    def fails_at_first(self: BlockProblem, drawn: BlockRows, where: str) -> BlockAttempt:
        result = attempt(self, drawn, where)
        if not trainer.interventions:
            raise Diverged("chain", "chain: injected", torch.tensor([True] * 2 + [False] * 6))
        return result

    monkeypatch.setattr(BlockProblem, "attempt", fails_at_first)
    trainer.step()
    assert seen == [before] and trainer.interventions[0].num_chains == 2
    assert trainer.state().plain["scales"]["num_healthy"] == before["num_healthy"] + 1
