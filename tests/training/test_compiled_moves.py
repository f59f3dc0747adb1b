"""Specification of `TrainConfig(compile=...)`: compiled steps of chains are the steps, with the parameters of the moment."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from jointebm import Categorical, Continuous, Space, TrainConfig, Trainer, recipes
from jointebm.energies import MLP, ConcatEnergy, Referenced
from jointebm.kernels import MALA, Cycle, GibbsWithGradients, Langevin, Lazy, evaluate
from jointebm.references import Mixture
from jointebm.spaces.space import Position
from jointebm.training.compiled_moves import CompiledMoves
from jointebm.training.objectives import SummedOut
from jointebm.training.phases import move
from support.command_line import TINY, assert_refused
from support.command_line import run as command

NARROW = Space(x=Continuous(2), y=Categorical(3))
WIDE = Space(x=Continuous(40), y=Categorical(3))  # its first layer is split: the energy has an encoder
CONFIG = TrainConfig(
    num_iterations=4, batch_size=8, num_steps=7, learning_rate=1e-2, buffer_size=20, replacement_rate=0.3
)


class Calls(list[int]):
    """How often each compiled function was called, in place of a compiler: the trace runs as it is."""

    def compile(self, graph: Any, **options: Any) -> Any:  # noqa: ARG002
        number = len(self)
        self.append(0)

        def counted(*tensors: Tensor) -> Any:
            self[number] += 1
            return graph(*tensors)

        return counted


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    found = Calls()
    monkeypatch.setattr(torch, "compile", found.compile)
    return found


def batch_of(space: Space) -> Any:
    def batch(num: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        labels = torch.randint(3, (num,), generator=generator)
        width = space["x"].position_shape[0]
        return {"x": labels[:, None] + torch.randn(num, width, generator=generator), "y": torch.eye(3)[labels]}

    return batch


def energy_of(space: Space, seed: int = 0) -> ConcatEnergy:
    generator = torch.Generator().manual_seed(seed)
    energy = ConcatEnergy(space, MLP(space["x"].position_shape[0] + 3, (8,)))
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return energy


def make(case: str, *, compile: Any, seed: int = 0, **changes: Any) -> Trainer:
    space = WIDE if case in ("encoder", "bfloat16") else NARROW
    x = Langevin("x", 0.1) if case in ("plain", "bfloat16") else MALA("x", 0.3)
    labels: Any = GibbsWithGradients(space)
    kernel = Cycle((Lazy(labels, 0.5) if case == "lazy" else labels, x))
    energy: nn.Module = energy_of(space, seed)
    if case == "reference":
        reference = Mixture.fit(space, batch_of(space)(50, generator=torch.Generator()), 2, generator=torch.Generator())
        energy, changes = Referenced(reference, energy), {"replacement_rate": 0.0, "objective": SummedOut()} | changes
    if case == "bfloat16":
        changes = {"precision": "bfloat16"} | changes
    config = CONFIG.model_copy(update={"compile": compile, **changes})
    trainer = Trainer(energy, space, batch_of(space), kernel=kernel, config=config, seed=seed)
    if case == "reference":  # chains move at once
        state = trainer.state()
        trainer.restore(state._replace(tensors={**state.tensors, "weights.draws_afresh": torch.tensor(False)}))
    return trainer


@pytest.mark.parametrize("case", ["plain", "MALA", "lazy", "encoder", "reference", "bfloat16"])
def test_compiled_training_is_training(case: str, calls: Calls) -> None:
    """Seven steps a move: two calls of three, and one eager step. Parameters change by a third on the way."""
    eager, compiled = make(case, compile=False, learning_rate=0.1), make(case, compile=True, learning_rate=0.1)
    before = [parameter.detach().clone() for parameter in eager.log_density.parameters()]
    for one, other in zip(eager.run(), compiled.run(), strict=True):
        assert one.f_negative == pytest.approx(other.f_negative, rel=1e-4, abs=1e-5)
        assert one.accept_rate == pytest.approx(other.accept_rate, rel=1e-4)
    assert calls == [1 + 2 * CONFIG.num_iterations]  # compiled once
    assert torch.equal(eager.generator.get_state(), compiled.generator.get_state()), "not the same draws"
    moved = [float((a - b).detach().abs().max()) for a, b in zip(before, eager.log_density.parameters(), strict=True)]
    assert max(moved) > 0.3
    for name, value in eager.state().tensors.items():
        if value.is_floating_point():
            torch.testing.assert_close(compiled.state().tensors[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_steps", [1, 2, 5, 11])
def test_as_many_steps_as_possible_are_compiled(num_steps: int, calls: Calls) -> None:
    list(make("plain", compile=True, num_steps=num_steps).run())
    of_a_move = {1: 1, 2: 1, 5: 1, 11: 2}[num_steps]  # of one, two, five and five steps
    assert calls == [1 + of_a_move * CONFIG.num_iterations]


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("at", [1, 3])
def test_a_compiled_run_resumes_bit_for_bit(at: int) -> None:
    straight = make("MALA", compile=True)
    for _ in range(at):
        straight.step()
    checkpoint = copy.deepcopy(straight.state())
    expected = [metrics._replace(seconds=0) for metrics in straight.run()]
    resumed = make("MALA", compile=True, seed=8)
    resumed.step()
    resumed.restore(checkpoint)
    assert [metrics._replace(seconds=0) for metrics in resumed.run()] == expected
    (one, other) = (trainer.state().tensors for trainer in (straight, resumed))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Branching(nn.Module):
    """f that takes another path where a sum is positive: its steps cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, position: Position) -> Tensor:
        x = position["x"]
        return -self.scale * x.square().sum(dim=1) * (1 if float(x.detach().sum()) > 0 else 2)


def test_what_cannot_be_compiled_trains_as_before_with_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    space, states = Space(x=Continuous(2)), []
    for compiled in (False, True):
        config = CONFIG.model_copy(update={"compile": compiled})
        trainer = Trainer(
            Branching(),
            space,
            lambda num, *, generator: {"x": torch.randn(num, 2, generator=generator)},
            kernel=MALA("x", 0.1),
            config=config,
            seed=0,
        )
        list(trainer.run())
        states.append(trainer.state().tensors)
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("jointebm")]
    assert len(lines) == 1 and lines[0].endswith("steps are not compiled")


class ReadsItsScale(nn.Module):
    """f whose parameter is read outside of torch: a trace would keep the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.scale = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor([1.5]))

    def forward(self, position: Position) -> Tensor:
        shifted = position["x"] - self.mean
        return -float(self.scale.detach().numpy()[0]) * shifted.square().sum(dim=1)


def test_a_parameter_that_is_read_outside_of_torch_is_not_compiled(
    calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    energy, x = ReadsItsScale(), torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    moves, free = CompiledMoves(energy, MALA("x", 0.1), 2), {"x": torch.tensor([True])}
    assert moves.steps(evaluate(energy, {"x": x}), free=free, generator=torch.Generator()) is None
    assert calls == [] and "outside of torch" in caplog.text


def test_parameters_that_are_other_tensors_are_read(calls: Calls) -> None:
    """As where a module is given new parameters or buffers: a constant of the trace would be the tensor of before."""
    energy, generator = energy_of(NARROW), torch.Generator().manual_seed(0)
    chain = evaluate(energy, NARROW.clamp(None, num_chains=8, generator=generator)[0])
    free = {"x": torch.ones(8, 2, dtype=torch.bool), "y": torch.ones(8, dtype=torch.bool)}
    kernel = Cycle((GibbsWithGradients(NARROW), Langevin("x", 0.1)))
    steps = CompiledMoves(energy, kernel, 2).steps(chain, free=free, generator=generator)
    assert steps is not None and calls == [1]
    for module in energy.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(2 * parameter.detach()))
    chains, _ = steps(evaluate(energy, chain.position), generator)
    torch.testing.assert_close(chains[-1].f, evaluate(energy, chains[-1].position).f, rtol=1e-5, atol=1e-6)


class Quartic(nn.Module):
    """f whose score is so steep far from 0 that Langevin steps overshoot more and more."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, position: Position) -> Tensor:
        return -self.scale * position["x"].pow(4).sum(dim=1)


@pytest.mark.usefixtures("calls")
def test_chains_that_diverge_within_compiled_steps_are_noticed() -> None:
    energy, kernel, start = Quartic(), Langevin("x", 0.1), {"x": torch.tensor([[0.1], [100.0]])}
    for compiled in (None, CompiledMoves(energy, kernel, 5)):
        generator = torch.Generator().manual_seed(0)
        free = {"x": torch.tensor([[True]])}
        moved = move(energy, kernel, start, free=free, num_steps=5, generator=generator, compiled=compiled)
        assert moved.finite.tolist() == [True, False]


def test_auto_compiles_long_runs_and_the_default_none() -> None:
    assert not CONFIG.compiles and not CONFIG.model_copy(update={"num_iterations": 10**6}).compiles
    paper = recipes.toy_paper()
    assert paper.train.compile == "auto" and paper.train.compiles
    assert not recipes.override(paper, ["num_iterations=100"]).train.compiles
    assert not recipes.override(paper, ["compile=false"]).train.compiles
    assert TrainConfig.model_validate_json(paper.train.model_dump_json()).compile == "auto"
    for wrong in ("always", 1, None):
        with pytest.raises(ValidationError):
            TrainConfig.model_validate({**json.loads(CONFIG.model_dump_json()), "compile": wrong})


def test_the_command_line_says_whether_to_compile_and_the_run_records_it(tmp_path: Path, calls: Calls) -> None:
    for option, expected in (("--compile", True), ("--no-compile", False)):
        out = tmp_path / option
        assert command("train", "toy_paper", *TINY, option, "--out", out, "--json").code == 0
        assert json.loads((out / "recipe.json").read_text())["train"]["compile"] is expected
    assert calls == [1 + 3]  # two steps a move, in one call
    assert_refused(command("train", "--resume", tmp_path / "--compile", "--no-compile"), "leave out --compile")


SCRIPT = """
import logging, torch
logging.basicConfig(format="LOG %(message)s")
from jointebm import Continuous, Space, TrainConfig, Trainer, kernels
class Bumps(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor([0.5, -0.5]))
    def forward(self, position):
        return -0.5 * position["x"].square().sum(dim=1) + (position["x"] * self.slope).sum(dim=1).tanh()
def rows(num, *, generator): return {"x": 1 + torch.randn(num, 2, generator=generator)}
def trained(compiled, state=None, num=4):
    config = TrainConfig(num_iterations=num, batch_size=8, num_steps=5, learning_rate=0.1, buffer_size=20, compile=compiled)
    trainer = Trainer(Bumps(), Space(x=Continuous(2)), rows, kernel=kernels.MALA("x", 0.5), config=config, seed=0)
    if state is not None:
        trainer.restore(state)
    list(trainer.run())
    return trainer
eager, compiled = trained(False), trained(True)
slopes = [each.log_density.slope.detach() for each in (eager, compiled)]
torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-6)
resumed = trained(True, trained(True, num=2).state())
print("same", torch.equal(*slopes), "resumed", torch.equal(resumed.log_density.slope, compiled.log_density.slope))
"""


def in_a_process(cache: Path, **environment: str) -> tuple[str, list[str]]:
    """What a process prints, and its log lines of this library."""
    settings = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    settings |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, env=settings)
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if line.startswith("LOG compile")]


@pytest.mark.slow
def test_training_with_a_cold_cache_a_warm_one_and_no_compiler(tmp_path: Path) -> None:
    """Compiled code reads parameters that change; what a run continues does not depend on the cache."""
    for _ in range(2):
        printed, logged = in_a_process(tmp_path / "cache")
        assert printed.endswith("resumed True\n") and logged == []
    printed, logged = in_a_process(tmp_path / "other", CXX="/nowhere/c++")
    assert printed == "same True resumed True\n"
    assert len(logged) == 3 and all(line.endswith("steps are not compiled") for line in logged)  # of three trainers
