"""Prints hashes of kernels, trainers, samples, shipped models, runs and tables at fixed seeds, as JSON.

A change that should not change numbers prints the same before and after it: same versions, one thread, same machine.

    OMP_NUM_THREADS=1 python tools/fixed_seed_hashes.py > before.json
"""

import contextlib
import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import jointebm
from jointebm import (
    Binary,
    Categorical,
    ConcatEnergy,
    Continuous,
    JointEBM,
    Model,
    Space,
    TrainConfig,
    Trainer,
    energies,
    kernels,
    objectives,
    sample,
)
from jointebm.cli import main

SPACE = Space(x=Continuous(2), y=Categorical((3, 4)), b=Binary((2,)))
KERNELS = {
    "gibbs-with-gradients": kernels.GibbsWithGradients(SPACE),
    "gibbs": kernels.Gibbs(SPACE),
    "langevin": kernels.Langevin(block="x", step_size=0.1),
    "mala": kernels.MALA(block="x", step_size=0.4),
    "lazy": kernels.Lazy(kernels.GibbsWithGradients(SPACE), rate=0.5),
}
CYCLE = kernels.Cycle((KERNELS["gibbs"], KERNELS["mala"]))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def digest(*arrays: Tensor | np.ndarray | list[float]) -> str:
    total = hashlib.sha256()
    for array in arrays:
        plain = array.detach().contiguous().numpy() if isinstance(array, Tensor) else np.asarray(array)
        total.update(f"{plain.dtype}{plain.shape}".encode() + plain.tobytes())
    return total.hexdigest()[:16]


def weights(module: nn.Module) -> str:
    return digest(*(value for _, value in sorted(module.state_dict().items())))


def energy(seed: int = 0) -> ConcatEnergy:
    torch.manual_seed(seed)  # initial weights
    return ConcatEnergy(SPACE, energies.MLP(11, (16, 16)))


def batch(num: int, generator: torch.Generator) -> dict[str, Tensor]:
    y = torch.stack([torch.randint(count, (num,), generator=generator) for count in (3, 4)], dim=1)
    b = torch.randint(2, (num, 2), generator=generator)
    return SPACE.encode({"x": torch.randn(num, 2, generator=generator), "y": y, "b": b})[0]


def of_kernels() -> Iterator[tuple[str, str]]:
    f, start = energy(), batch(50, seeded(5))
    free = {name: torch.ones(50, *SPACE[name].variable_shape, dtype=torch.bool) for name in SPACE}
    for name, kernel in KERNELS.items():
        chain, generator = kernels.evaluate(f, start), seeded(1)
        for _ in range(5):
            chain, _ = kernel.step(f, chain, free=free, generator=generator)
        yield f"kernel {name}", digest(chain.f, *chain.position.values())


def of_trainers() -> Iterator[tuple[str, str]]:
    kernel = kernels.Cycle((KERNELS["gibbs-with-gradients"], KERNELS["mala"]))
    for objective in (objectives.MaximumLikelihood(), objectives.SummedOut()):
        config = TrainConfig(
            num_iterations=30, batch_size=64, num_steps=4, learning_rate=3e-3, buffer_size=200, decay="cosine",
            warmup=5, objective=objective,
        )  # fmt: skip
        trainer = Trainer(energy(), SPACE, batch, kernel=kernel, config=config, seed=0)
        norms = [metrics.grad_norm for metrics in trainer.run()]
        yield f"trainer {objective.name}", f"{weights(trainer.average)} {digest(norms)}"
        for given in (None, {"y": [1, 2]}, {"x": [0.5, torch.nan]}):
            samples = sample(
                trainer.average, SPACE, CYCLE, num_chains=40, num_steps=20, given=given, init=trainer.noise,
                generator=seeded(0),
            )  # fmt: skip
            yield f"sample {objective.name} given {given}", digest(*samples.values.values())


def of_shipped_models() -> Iterator[tuple[str, str]]:
    for name in ("toy", "mnist", "dsprites"):
        model = jointebm.load(f"pretrained:{name}")
        assert isinstance(model, Model)
        samples = sample(
            model, model.space, model.kernel, num_chains=8, num_steps=6, init=model.noise, generator=seeded(3)
        )
        yield f"pretrained:{name}", digest(samples.chain.f, *samples.values.values())


def of_runs() -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        for name, iterations in (("toy", 60), ("digits", 40)):
            out, printed = Path(folder) / name, io.StringIO()
            with contextlib.redirect_stdout(printed):
                fields = ["--set", f"train.num_iterations={iterations}", "--threads", "1"]
                assert main(["train", name, *fields, "--out", str(out)]) == 0
            model = jointebm.load(out)
            assert isinstance(model, Model)
            yield f"run {name}", weights(model)


def of_tables() -> Iterator[tuple[str, str]]:
    rng = np.random.default_rng(0)
    rare = rng.random(1500) < 0.3
    table = pd.DataFrame(
        {
            "number": (np.where(rare, 4, 0) + rng.normal(size=1500)).round(2),
            "word": np.where(rng.random(1500) < np.where(rare, 0.8, 0.2), "u", "v"),
            "count": rng.integers(0, 6, 1500),
        }
    )
    table.loc[rng.random(1500) < 0.2, "number"] = np.nan
    table.loc[rng.random(1500) < 0.2, "word"] = None
    model, rows = JointEBM(training={"num_visits": 5}, random_state=0).fit(table), table.head(40)
    given = {"number": (1, 3), "word": {"u"}}
    for name, frame in {
        "impute": model.impute(rows),
        "sample": model.sample(50),
        "given": model.sample(50, given=given),
    }.items():
        yield f"table {name}", hashlib.sha256(frame.to_csv().encode()).hexdigest()[:16]
    yield (
        "table answers",
        digest(model.predict_proba(rows, "word"), model.score_samples(rows), model.predict(rows, "number").to_numpy()),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    parts = (of_kernels, of_trainers, of_shipped_models, of_runs, of_tables)
    json.dump({name: value for part in parts for name, value in part()}, sys.stdout, indent=1)
    sys.stdout.write("\n")
