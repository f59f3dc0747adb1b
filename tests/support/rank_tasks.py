"""What the processes of a test do."""

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from jointebm import TrainConfig, Trainer, objectives
from jointebm.data.datasets import Batch
from jointebm.energies import MLP, ConcatEnergy
from jointebm.energies.referenced import Referenced
from jointebm.kernels import MALA, Cycle, Gibbs
from jointebm.recipes import Recipe
from jointebm.references import Mixture
from jointebm.runs import training_run
from jointebm.storage import checkpoint
from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.training.table_config import TableConfig
from jointebm.training.block_problem import BlockAttempt, BlockProblem, BlockRows
from jointebm.training.dealing import gathered
from jointebm.training.divergence import Diverged
from jointebm.training.loop import Loop
from jointebm.training.loss_inputs import LossInputs
from jointebm.training.training_state import Descent
from jointebm.training.world import Parcel, World
from support.resumed_runs import SPACE
from support.slowed_saves import digest, slow_down_saves

KERNEL = Cycle((Gibbs(SPACE), MALA(block="x", step_size=0.3)))
NUM_ROWS = 60
CONFIG = TrainConfig(
    num_iterations=50,
    batch_size=25,
    num_steps=1,
    learning_rate=1e-3,
    buffer_size=45,
    snapshot_every=10,
    replacement_rate=0.2,
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return ConcatEnergy(SPACE, MLP(5, (8,)))


def weighted_network(dtype: torch.dtype = torch.float32) -> Referenced:
    """An energy far from its reference, so that weights are uneven."""
    module = network()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2.0)
    return Referenced(Mixture(SPACE), module).to(dtype)


def batch(num: int, *, generator: torch.Generator) -> dict[str, Tensor]:
    labels = torch.randint(3, (num,), generator=generator)
    return {"x": labels[:, None] + torch.randn(num, 2, generator=generator), "y": torch.eye(3)[labels]}


class Incomplete:
    """Rows of this process, a third of whose reals are missing."""

    def __init__(self, world: World) -> None:
        rows = batch(NUM_ROWS, generator=torch.Generator().manual_seed(5))
        rows["x"][torch.rand(NUM_ROWS, 2, generator=torch.Generator().manual_seed(6)) < 0.3] = torch.nan
        self.rows = {name: value[world.rank :: world.size] for name, value in rows.items()}

    def __call__(self, num: int, *, generator: torch.Generator) -> Batch:
        numbers = torch.randint(len(self.rows["x"]), (num,), generator=generator)
        return Batch({name: value[numbers] for name, value in self.rows.items()}, numbers)


def trainer_of(world: World, case: str, **changes: Any) -> Trainer:
    module = weighted_network() if case == "weighted" else network()
    rows = Incomplete(world) if case == "incomplete" else batch
    return Trainer(
        module, SPACE, rows, kernel=KERNEL, config=CONFIG.model_copy(update=changes), seed=3, world=world
    )  # fmt: skip


def trained(world: World, case: str) -> dict[str, Any]:
    """50 steps: what is equal in all processes, what is not, and the metrics."""
    trainer = trainer_of(world, case)
    metrics = [each._replace(seconds=0.0) for each in trainer.run()]
    state = trainer.state()
    whole = gathered(state, world)
    return {
        "shared": digest({name: tensor for name, tensor in state.tensors.items() if name in whole.tensors}),
        "own": digest(whole.parts[world.rank] if whole.parts else {}),
        "num_slots": trainer.buffer.size,
        "plain": {name: value for name, value in state.plain.items() if name not in ("seconds", "metrics")},
        "metrics": metrics,
    }


def gradient_and_that_of_the_union(
    world: World, objective: Any, weighted: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The gradient of one step, and that of the loss of all rows and chains, computed at once; float64."""
    module: nn.Module = weighted_network(torch.float64) if weighted else network().double()
    generator = torch.Generator().manual_seed(world.rank)
    config = CONFIG.model_copy(update={"objective": objective, "noise_reals": "moments"})

    def wide(num: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        return {name: value.double() for name, value in batch(num, generator=generator).items()}

    problem = BlockProblem(
        module,
        SPACE,
        kernel=KERNEL,
        config=config,
        generator=generator,
        data_generator=generator,
        batch=wide,
        labelled=None,
        reference=module.reference if isinstance(module, Referenced) else None,
        world=world,
    )
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    descent = Descent(torch.optim.SGD(module.parameters(), lr=1.0), lambda _: 1.0, get_ema_multi_avg_fn(0.9))
    attempt = Loop(problem, descent, snapshot_every=10, max_rollbacks=0, world=world).step().attempt
    found = {name: before[name] - parameter.detach() for name, parameter in module.named_parameters()}

    weights = attempt.negative.reweighted
    own = {f"+{name}": value for name, value in attempt.positive.position.items()}
    own |= {f"-{name}": value for name, value in attempt.negative.moved.chain.position.items()}
    own |= {} if weights is None else {"weights": weights.log_weights}
    parts = [parcel.tensors for parcel in world.gathered(Parcel(None, own))]
    union = {name: torch.cat([part[name] for part in parts]) for name in own}
    positive, negative = ({name: union[f"{sign}{name}"] for name in SPACE} for sign in "+-")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(before[name])
    module.zero_grad()
    inputs = LossInputs(positive, negative, SPACE, generator=generator, log_weights=union.get("weights"))
    objective.loss(module, inputs).loss.backward()
    expected = {name: parameter.grad for name, parameter in module.named_parameters()}
    assert len(positive["x"]) == config.batch_size
    return ({n: g.tolist() for n, g in found.items()}, {n: g.tolist() for n, g in expected.items() if g is not None})


class Troubled:
    """Makes attempts of one process raise, at one iteration and as long as the learning rate was not halved."""

    def __init__(self, trainer: Trainer, world: World, kind: Any, *, rank: int, iteration: int) -> None:
        self._trainer, self._kind, self._iteration = trainer, kind, iteration
        self._attempt = BlockProblem.attempt
        if world.rank == rank:
            problem = trainer._problem
            problem.attempt = self  # type: ignore[method-assign]
            self._problem = problem

    def __call__(self, drawn: BlockRows, where: str) -> BlockAttempt:
        attempt = self._attempt(self._problem, drawn, where)
        if self._trainer.iteration == self._iteration and not self._trainer.interventions:
            chains = torch.arange(len(drawn.chains.slots)) < 2 if self._kind in ("chain", "proposal") else None
            raise Diverged(self._kind, f"injected {self._kind} in {where}", chains)
        return attempt


def in_trouble(world: World, kind: str, case: str = "plain") -> dict[str, Any]:
    """30 steps, in which process 1 alone sees a sign of divergence at iteration 23."""
    trainer = trainer_of(world, case, num_iterations=30)
    Troubled(trainer, world, kind, rank=1, iteration=23)
    told, parameters = [], []
    try:
        for metrics in trainer.run():
            told.append(metrics.iteration)
            parameters.append(digest(trainer.log_density.state_dict()))
    except Diverged as error:
        return {"error": str(error), "told": told, "parameters": parameters}
    return {
        "error": "",
        "told": told,
        "parameters": parameters,
        "interventions": [each._asdict() for each in trainer.interventions],
    }


def with_a_nan_row(world: World) -> None:
    """Training whose process 1 draws a row that is not finite, at iteration 5."""
    draws = 0

    def rows(num: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        nonlocal draws
        draws += 1
        drawn = batch(num, generator=generator)
        if world.rank == 1 and draws == 6:  # the first draw fits the noise
            drawn["x"][2, 0] = torch.inf
        return drawn

    for _ in Trainer(network(), SPACE, rows, kernel=KERNEL, config=CONFIG, seed=3, world=world).run():
        pass


def with_a_killed_process(world: World) -> None:
    """Training whose process 1 is killed at iteration 5."""
    for metrics in trainer_of(world, "plain", num_iterations=100_000).run():
        if world.rank == 1 and metrics.iteration == 5:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_before_it_joins(
    *arguments: Any, joins: Callable[..., None] = dist.init_process_group, **options: Any
) -> None:
    """Stands for `init_process_group`: process 1 is killed, and the others wait three seconds."""
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    joins(*arguments, **options | {"timeout": timedelta(seconds=3)})


def meetings(world: World) -> dict[str, Any]:
    """One of each."""
    long = {"rank": world.rank, "text": "x" * (10_000 * world.rank), "unknown": float("nan")}
    shared, own, unused = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    shared.grad = torch.tensor([1.0, 10.0]) * (world.rank + 1)
    if world.rank == 1:
        own.grad = torch.tensor([3.0, 4.0])
    world.sum_gradients([shared, own, unused])
    parcels = world.gathered(Parcel({"rank": world.rank}, {"numbers": torch.arange(world.rank + 1)}))
    made = world.from_first(
        lambda: Parcel([1.5, None], {"flag": torch.tensor(True)}), pack=lambda p: p, unpack=lambda p: p
    )
    return {
        "told": [(each["rank"], len(each["text"]), each["unknown"] != each["unknown"]) for each in world.tell(long)],
        "largest": world.largest(7 * world.rank),
        "gradients": [each.grad if each.grad is None else each.grad.tolist() for each in (shared, own, unused)],
        "gathered": [(each.plain["rank"], each.tensors["numbers"].tolist()) for each in parcels],
        "made": (made.plain, bool(made.tensors["flag"])),
        "shares": [world.share(total, "rows") for total in (0, 3, 7)],
    }


def from_first_fails(world: World) -> None:
    """The first process cannot make what all need."""

    def make() -> None:
        raise OSError(28, "No space left on device", "checkpoints")

    world.from_first(make)


def run(world: World, recipe: Recipe, path: Path, stop_at: int | None, stopper: int) -> dict[str, Any]:
    """Trains a run, or resumes it if its folder exists; Ctrl-C in one process after an iteration stops all."""

    def stop(metrics: Any) -> None:
        if world.rank == stopper and metrics.iteration == stop_at:
            signal.raise_signal(signal.SIGINT)

    warnings: list[str] = []
    if world.from_first(path.exists):
        done = training_run.resume(path, on_metrics=stop, on_damage=warnings.append, world=world)
    else:
        done = training_run.train(recipe, path, seed=3, on_metrics=stop, world=world)
    return {
        "model": digest(done.model.state_dict()),
        "metrics": done.metrics._replace(seconds=0.0),
        "warnings": warnings,
    }


def dealt_out(world: World, path: Path, case: str) -> dict[str, Any]:
    """Restores a checkpoint; returns the chains and completions of all processes, and then trains on."""
    loaded = checkpoint.newest(path).checkpoint
    assert loaded is not None
    trainer = trainer_of(world, case)
    trainer.restore(loaded)
    whole = gathered(trainer.state(), world)
    parts = whole.parts or (whole.tensors,)
    found = {
        "chains": sorted(row for part in parts for row in part["buffer.x"].tolist()),
        "sizes": [len(part["buffer.x"]) for part in parts],
        "completions": _completions(parts),
    }
    for _ in range(3):
        trainer.step()
    return {**found, "shared": digest(trainer.log_density.state_dict())}


def _completions(parts: Any) -> dict[int, list[float]]:
    """Completions of reals by the number of the row in all of the data."""
    found = {}
    for rank, part in enumerate(parts):
        for number, row in zip(part.get("completions.rows.x", []), part.get("completions.position.x", []), strict=True):
            found[int(number) * len(parts) + rank] = row.tolist()
    return found


def saved_after(world: World, path: Path, case: str, num: int, **changes: Any) -> dict[str, Any]:
    """Trains for some steps, and writes a checkpoint."""
    trainer = trainer_of(world, case, **changes)
    for _ in range(num):
        trainer.step()
    state = gathered(trainer.state(), world)
    world.from_first(lambda: str(checkpoint.write(path, state, keep=1)))
    parts = state.parts or (state.tensors,)
    chains = sorted(row for part in parts for row in part["buffer.x"].tolist())
    return {"chains": chains, "completions": _completions(parts)}


def resumed(world: World, path: Path, case: str, num: int) -> tuple[str, str]:
    """The state after 20 steps, without and with an interruption after some of them."""
    changes: dict[str, Any] = {"num_iterations": 20, "snapshot_every": 5}
    straight = trainer_of(world, case, **changes)
    for _ in straight.run():
        pass
    saved_after(world, path, case, num, **changes)
    loaded = checkpoint.newest(path).checkpoint
    assert loaded is not None
    trainer = trainer_of(world, case, **changes)
    trainer.restore(loaded)
    assert trainer.iteration == num
    for _ in trainer.run():
        pass
    both = [digest(each.state().tensors) for each in (straight, trainer)]
    return both[0], both[1]


def fitted_table(
    world: World, codes: Tensor, num_classes: tuple[int, ...], config: TableConfig, run: Path | None, stop_at: int
) -> dict[str, Any]:
    """Fits a table; Ctrl-C in process 1 at a look stops all."""
    told: list[float] = []

    def tell(progress: Any) -> None:
        told.append(progress.log_likelihood)
        if world.rank == world.size - 1 and len(told) == stop_at:
            signal.raise_signal(signal.SIGINT)

    model = TableModel.fit(
        codes, num_classes, config=config, seed=0, run=run, on_progress=tell, world=world
    )  # fmt: skip
    assert model.report is not None
    return {
        "f": model.energy(torch.cartesian_prod(*[torch.arange(count) for count in num_classes])).tolist(),
        "state": digest(model.state_dict()),
        "report": model.report.model_dump(),
        "told": told,
    }


def fitted_tables(world: World, num: int, num_classes: tuple[int, ...], config: TableConfig, run: Path) -> None:
    """Fits a table of its own in each process."""
    columns = [
        torch.randint(count, (num,), generator=torch.Generator().manual_seed(world.rank)) for count in num_classes
    ]
    TableModel.fit(torch.stack(columns, dim=1), num_classes, config=config, seed=0, run=run, world=world)


OBJECTIVES: dict[str, Callable[[], Any]] = {
    "maximum likelihood": objectives.MaximumLikelihood,
    "labels summed out": lambda: objectives.SummedOut(sampled_share=0.3),
}


def without_sum(self: Any, parameters: Any) -> None:
    """Planted: gradients are not summed."""


def own_weights(attempt: Any, accounts: Any, world: World) -> Tensor:
    """Planted: weights are normalised in each process."""
    told = [account["numbers"] for account in accounts]
    return attempt.loss * (told[world.rank]["rows"] / sum(numbers["rows"] for numbers in told))


def own_trouble(accounts: Any, trouble: Diverged | None, world: World) -> None:
    """Planted: every process recovers from its own signs alone."""
    if trouble is not None:
        raise trouble
    own = accounts[world.rank]
    accounts[:] = [each if each["numbers"] is not None else own for each in accounts]


def resumed_slowly(world: World, path: Path, log: Path, seed: int) -> None:
    """Resumes a run whose saves are slow; the first process logs start, digest and end of each."""

    def tell(line: str) -> None:
        with log.open("a") as file:
            file.write(line)

    slow_down_saves(tell, seed)
    training_run.resume(path, world=world)
