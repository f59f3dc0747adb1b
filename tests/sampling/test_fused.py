"""Specification of fused steps: the draws and, up to rounding, the states of the steps that they replace."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space, sample, sample_trajectory
from jointebm.energies import MLP, ConcatEnergy, ConvEncoder, IsingEnergy
from jointebm.kernels import (
    DMALA,
    HMC,
    MALA,
    ChromaticGibbs,
    Cycle,
    Gibbs,
    GibbsWithGradients,
    HammingBall,
    Info,
    Jump,
    Kernel,
    Langevin,
    Lazy,
    LogDensity,
    MixedHMC,
    ReplicaExchange,
    ShiftedGibbs,
    SwendsenWang,
    evaluate,
)
from jointebm.randomness.draws import choose, normal, uniform
from jointebm.randomness.row_streams import RowStream
from jointebm.randomness.tapes import Requests, Tape, draw_ahead
from jointebm.references import Marginals, Mixture, Reference
from jointebm.sampling import fused
from jointebm.sampling.fused import fuse_steps
from jointebm.sampling.sample import begin_sampling
from jointebm.spaces.space import Position
from support.oracles import RandomLogDensity

SPACE = Space(x=Continuous(2), y=Categorical((2, 3)), bits=Binary(3))
COLOURS = {"y": torch.arange(2), "bits": torch.tensor([0, 1, 0])}
PAIRS = torch.zeros(5, 5)  # of y, then of bits
PAIRS[2, 3] = PAIRS[3, 2] = 0.7
PAIRS[0, 4] = PAIRS[4, 0] = -0.4
KERNELS: dict[str, Kernel] = {
    "Langevin": Langevin("x", 0.1),
    "MALA": MALA("x", torch.tensor([0.3, 0.5])),
    "HMC": HMC("x", 0.2, num_leapfrog=2),
    "Gibbs": Gibbs(SPACE),
    "systematic Gibbs": Gibbs(SPACE, scan="systematic"),
    "Gibbs-with-Gradients": GibbsWithGradients(SPACE),
    "ChromaticGibbs": ChromaticGibbs(SPACE, COLOURS),
    "DMALA": DMALA(SPACE, 0.3),
    "HammingBall": HammingBall(SPACE, 2, 2),
    "MixedHMC": MixedHMC(SPACE, HMC("x", 0.1, num_leapfrog=2), 2),
    "ShiftedGibbs": ShiftedGibbs(SPACE, "y", torch.arange(10.0).reshape(5, 2)),
    "SwendsenWang": SwendsenWang(SPACE, PAIRS),
    "Lazy": Lazy(MALA("x", 0.4), 0.5),
    "a cycle that ends with a score": Cycle((GibbsWithGradients(SPACE), MALA("x", 0.4))),
    "a cycle that ends without": Cycle((MALA("x", 0.4), Gibbs(SPACE))),
}


@pytest.fixture
def traced_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are traced, and the trace runs as it is: compilers take long, and what they are given is tested here.

    A call makes two steps, the fewest that hand a chain on within a call, since tracing takes as long as there are steps.
    """
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)  # noqa: ARG005
    monkeypatch.setattr(fused, "STEPS_PER_CALL", 2)


def run(f: LogDensity, space: Space, kernel: Kernel, **options: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    settings: dict[str, Any] = {"num_chains": 20, "num_steps": 5, "generator": generator, **options}
    return sample_trajectory(f, space, kernel, **settings), generator.get_state()


def assert_same(f: LogDensity, space: Space, kernel: Kernel, **options: Any) -> None:
    """Five steps: two calls of two, and a step that is left."""
    (eager, one), (compiled, other) = (run(f, space, kernel, compile=each, **options) for each in (False, True))
    assert torch.equal(one, other), "not the same draws"
    for name in space:
        torch.testing.assert_close(compiled.values[name], eager.values[name], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(compiled.f, eager.f, rtol=1e-6, atol=1e-8)
    assert compiled.samples.accept_rate == pytest.approx(eager.samples.accept_rate, rel=1e-5)
    assert compiled.samples.num_steps == eager.samples.num_steps == options.get("num_steps", 5)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What this library logged; torch logs on its own."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("jointebm")]


def start(space: Space) -> Position:
    """In float64, so that a tie does not turn a decision."""
    return space.clamp(None, num_chains=20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)[0]


@pytest.mark.usefixtures("traced_alone")
@pytest.mark.parametrize("name", KERNELS)
def test_traced_steps_are_the_steps(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert_same(RandomLogDensity(SPACE, 0), SPACE, KERNELS[name], init=start(SPACE))
    assert logged(caplog) == []


def some_reference(kind: str) -> Reference:
    q = (Mixture(SPACE, 3) if kind == "Mixture" else Marginals(SPACE, 2)).double()
    with torch.no_grad():
        for buffer in q.buffers():
            buffer += 0.3 * torch.randn(buffer.shape, generator=torch.Generator().manual_seed(5), dtype=buffer.dtype)
    return q


@pytest.mark.usefixtures("traced_alone")
@pytest.mark.parametrize("kind", ["Mixture", "Marginals"])
def test_traced_jumps_are_the_jumps(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Alone, with moves that read the score, and of some blocks; F is log q + residual."""
    q, tilt = some_reference(kind), RandomLogDensity(SPACE, 0)

    def f(position: Position) -> Tensor:
        return q.log_prob(position) + 0.3 * tilt(position)

    for kernel in (Jump(q), Cycle((Jump(q), MALA("x", 0.4))), Jump(q, ("y",))):
        assert_same(f, SPACE, kernel, init=start(SPACE))
    assert_same(f, SPACE, Jump(q), init=start(SPACE), given={"y": [1, -1], "x": [0.2, torch.nan]})
    assert logged(caplog) == []


@pytest.mark.usefixtures("traced_alone")
def test_traced_replicas_are_the_replicas(caplog: pytest.LogCaptureFixture) -> None:
    exchange = ReplicaExchange(some_reference("Mixture"), (0, 0.4, 1), Cycle((Gibbs(SPACE), MALA("x", 0.4))))
    init = exchange.replicate(start(SPACE))
    assert_same(exchange.target(RandomLogDensity(SPACE, 0)), exchange.space, exchange, init=init)
    assert logged(caplog) == []


@pytest.mark.usefixtures("traced_alone")
@pytest.mark.parametrize("given", [{"x": [0.3, torch.nan]}, {"y": [1, 2]}, {"x": [0.3, 0.1]}])
def test_given_values_stay(given: dict[str, Any]) -> None:
    kernel = Cycle((GibbsWithGradients(SPACE), MALA("x", 0.4)))
    assert_same(RandomLogDensity(SPACE, 0), SPACE, kernel, init=start(SPACE), given=given, thin=3)
    trajectory, _ = run(RandomLogDensity(SPACE, 0), SPACE, kernel, init=start(SPACE), given=given, compile=True)
    for name, values in given.items():
        expected = torch.tensor(values, dtype=trajectory.values[name].dtype)
        known = ~expected.isnan() if expected.is_floating_point() else torch.ones_like(expected, dtype=torch.bool)
        assert bool((trajectory.values[name] == expected)[..., known].all())


@pytest.mark.usefixtures("traced_alone")
def test_an_encoder_is_traced_along() -> None:
    torch.manual_seed(0)
    space = Space(x=Continuous((8, 8)), y=Categorical(3))
    energy = ConcatEnergy(space, MLP(8 + 3, (16,)), encoder=ConvEncoder((2, 2, 2), 2)).double()
    for kernel in (Cycle((GibbsWithGradients(space), MALA("x", 0.3))), GibbsWithGradients(space)):
        assert_same(energy, space, kernel, init=start(space))


@pytest.mark.usefixtures("traced_alone")
def test_the_score_that_is_handed_on_is_that_of_the_position() -> None:
    f = RandomLogDensity(SPACE, 0)
    chain = evaluate(f, start(SPACE))
    free = {name: torch.ones(20, *SPACE[name].variable_shape, dtype=torch.bool) for name in SPACE}
    generator = torch.Generator().manual_seed(0)
    steps = fuse_steps(f, KERNELS["a cycle that ends with a score"], chain, free=free, generator=generator)
    assert steps is not None
    chains, accept_probs = steps(chain, generator)
    assert len(chains) == steps.num_steps and accept_probs.shape == (steps.num_steps, 2, 20)
    expected = evaluate(f, chains[-1].position)
    torch.testing.assert_close(chains[-1].f, expected.f)
    assert chains[-1].score is not None and expected.score is not None
    for name in SPACE:
        torch.testing.assert_close(chains[-1].score[name], expected.score[name])


@pytest.mark.usefixtures("traced_alone")
def test_progress_and_interrupts_see_every_step() -> None:
    seen: list[int] = []
    state = begin_sampling(
        RandomLogDensity(SPACE, 0),
        SPACE,
        KERNELS["MALA"],
        num_chains=20,
        given=None,
        init=start(SPACE),
        generator=torch.Generator().manual_seed(0),
        thin=1,
    )
    state.compile()
    state.run(6, seen.append)
    state.run(11, seen.append)
    assert seen == list(range(1, 12))
    assert state.samples().num_steps == 11 and len(state.kept) == 11


def test_a_tape_hands_out_the_draws_of_a_generator() -> None:
    log_weights = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))

    def draws(generator: Any) -> list[Tensor]:
        return [
            normal(torch.empty(3, 2), generator),
            choose(log_weights, generator),
            uniform(torch.empty(5, dtype=torch.float64), generator),
            choose(log_weights[:, :, None].expand(-1, -1, 3), generator),
        ]

    direct = draws(torch.Generator().manual_seed(0))
    noted = Requests(torch.Generator().manual_seed(0))
    of_requests = draws(noted)
    of_tape = draws(Tape(draw_ahead(noted.made, torch.Generator().manual_seed(0))))
    for one, two, three in zip(direct, of_requests, of_tape, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


def verified(kind: Any, coupling: float, side: int) -> tuple[IsingEnergy, Space, Kernel]:
    space = Space(spins=Binary((side, side)))
    energy = IsingEnergy(space, coupling=coupling, field=0.1).double()
    rows = {"spins": torch.zeros(2, side, side, dtype=torch.float64)}
    return energy, space, kind.verified(space, energy, rows, generator=torch.Generator().manual_seed(0))


@pytest.mark.usefixtures("traced_alone")
@pytest.mark.parametrize("kind", [ChromaticGibbs, SwendsenWang])
def test_traced_steps_of_verified_kernels_are_the_steps(kind: Any) -> None:
    energy, space, kernel = verified(kind, 0.4, 4)
    assert_same(energy, space, kernel, init=start(space))


class Branching(nn.Module):
    """f that takes another path where a sum is positive: such steps cannot be traced."""

    def forward(self, position: Position) -> Tensor:
        x = position["x"]
        return -x.square().sum(dim=1) if float(x.detach().sum()) > 0 else -2 * x.square().sum(dim=1)


def test_what_cannot_be_compiled_runs_as_before_with_one_log_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, kernel = Space(x=Continuous(2)), MALA("x", 0.3)
    (eager, _), (compiled, _) = (run(Branching(), space, kernel, compile=each) for each in (False, True))
    assert torch.equal(eager.values["x"], compiled.values["x"])
    assert len(logged(caplog)) == 1 and logged(caplog)[0].endswith("steps are not compiled")

    def no_compiler(*arguments: Any, **options: Any) -> Any:  # noqa: ARG001
        raise RuntimeError("no working C++ compiler\nin many lines")

    caplog.clear()
    monkeypatch.setattr(torch, "compile", no_compiler)
    f = RandomLogDensity(space, 0)
    (eager, _), (compiled, _) = (run(f, space, kernel, compile=each, init=start(space)) for each in (False, True))
    assert torch.equal(eager.values["x"], compiled.values["x"])
    assert logged(caplog) == ["compile: RuntimeError: no working C++ compiler; steps are not compiled"]
    caplog.clear()
    stream = RowStream(torch.arange(20), seed=0)
    samples = sample(f, space, kernel, num_chains=20, num_steps=2, init=start(space), generator=stream, compile=True)
    assert samples.num_steps == 2
    assert logged(caplog) == ["compile: draws from a RowStream cannot be made ahead; steps are not compiled"]


WEIGHTS = torch.tensor([3.0, -3.0, 2.0], dtype=torch.float64)


def by_numpy(position: Position) -> Tensor:
    return torch.from_numpy(position["bits"].detach().numpy() @ WEIGHTS.numpy())


def by_lists(position: Position) -> Tensor:
    rows = position["bits"].tolist()
    return torch.tensor([sum(a * b for a, b in zip(row, WEIGHTS.tolist(), strict=True)) for row in rows]).double()


def by_torch(position: Position) -> Tensor:
    return position["bits"].detach() @ WEIGHTS


class Rounding(Kernel):
    """Flips a bit where another one, read outside of torch, is on."""

    uses_score, adjusted = False, False

    def step(self, log_density: LogDensity, chain: Any, *, free: Any, generator: Any) -> Any:  # noqa: ARG002
        y = chain.position["bits"].clone()
        y[:, 0] = torch.from_numpy(y[:, 1].numpy().round()) * uniform(y[:, 0], generator).round()
        return evaluate(log_density, {"bits": y}, with_score=False), Info(torch.ones_like(y[:, 0]), y[:, 0] > 0)


@pytest.mark.usefixtures("traced_alone")
@pytest.mark.parametrize("compiles", [False, True])
def test_values_that_leave_torch_are_noticed(compiles: bool, caplog: pytest.LogCaptureFixture) -> None:
    """They would be constants of the trace: f and proposals of the chains at the start, for ever."""
    space = Space(bits=Binary(3))
    cases = [(by_numpy, Gibbs(space)), (by_lists, Gibbs(space)), (by_numpy, Jump(Marginals(space, 2).double()))]
    cases = [(by_torch, kernel) for _, kernel in cases] if compiles else [*cases, (by_torch, Rounding())]
    for f, kernel in cases:
        caplog.clear()
        assert_same(f, space, kernel, init=start(space))
        assert [line.split(";")[-1] for line in logged(caplog)] == ([] if compiles else [" steps are not compiled"])


SCRIPT = """
import logging, sys, torch
logging.basicConfig(format="LOG %(message)s")
from jointebm import Continuous, Space, kernels, sample
from jointebm.sampling import fused
fused.STEPS_PER_CALL = 2  # half the time of the compiler
def f(position): return -0.5 * position["x"].square().sum(dim=1) + position["x"][:, 0].tanh()
ends = []
for compiled in (False, True):
    generator = torch.Generator().manual_seed(0)
    start = {"x": torch.zeros(8, 3, dtype=torch.float64)}
    samples = sample(f, Space(x=Continuous(3)), kernels.MALA("x", 0.5), num_chains=8, num_steps=5, init=start,
                     generator=generator, compile=compiled)
    ends.append(samples.values["x"])
torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)
print("same", torch.equal(*ends))
"""


VERIFIED = """
import logging, torch
logging.basicConfig(format="LOG %(message)s")
from jointebm import Binary, Space, kernels, sample
from jointebm.energies import IsingEnergy
from jointebm.sampling import fused
fused.STEPS_PER_CALL = 1  # a quarter of the time of the compiler
space = Space(spins=Binary((4, 4)))
energy, rows = IsingEnergy(space, coupling=0.4, field=0.1).double(), {"spins": torch.zeros(2, 4, 4).double()}
for kind in (kernels.ChromaticGibbs, kernels.SwendsenWang):
    kernel, ends = kind.verified(space, energy, rows, generator=torch.Generator().manual_seed(0)), []
    for compiled in (False, True):
        generator = torch.Generator().manual_seed(0)
        start = {"spins": torch.zeros(50, 4, 4).double()}
        samples = sample(energy, space, kernel, num_chains=50, num_steps=3, init=start, generator=generator,
                         compile=compiled)
        ends.append((samples.values["spins"], generator.get_state()))
    print(kind.__name__, all(torch.equal(*pair) for pair in zip(*ends)))
"""


def in_a_process(cache: Path, script: str = SCRIPT, **environment: str) -> tuple[str, list[str]]:
    """What a process prints, and its log lines of this library."""
    settings = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    settings |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", **environment}  # no further processes
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=settings)
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if line.startswith("LOG compile")]


@pytest.mark.slow
def test_a_cold_cache_a_broken_one_and_a_missing_compiler(tmp_path: Path) -> None:
    """Each in a process of its own. With a compiler nothing is logged; a broken entry is made again or logged."""
    cache = tmp_path / "cache"
    for _ in range(2):
        assert in_a_process(cache)[1] == []
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(b"broken" + path.read_bytes()[: path.stat().st_size // 2])
    assert len(in_a_process(cache)[1]) <= 1
    printed, logged = in_a_process(tmp_path / "other", CXX="/nowhere/c++")
    assert printed == "same True\n" and len(logged) == 1 and logged[0].endswith("steps are not compiled")


@pytest.mark.slow
def test_compiled_steps_of_verified_kernels_reach_the_same_labels(tmp_path: Path) -> None:
    """Bit for bit: in float64 no draw lies at a tie."""
    printed, logged = in_a_process(tmp_path, VERIFIED)
    assert printed == "ChromaticGibbs True\nSwendsenWang True\n" and logged == []
