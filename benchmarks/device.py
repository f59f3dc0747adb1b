"""A device against the CPU: equal answers, joint steps per second, time to accuracy, memory. One table for each.

    python benchmarks/device.py --device cuda --data DIR      # under 8 minutes
    python benchmarks/device.py --device cpu --seconds 20     # anywhere, without MNIST and Adult

Half of --seconds goes to training: each recipe for an equal share, its accuracy scored on the way. --data is the folder of
the data files, with `mnist/` and the tables of benchmarks/tables; what is missing there is left out, and a line says so.
"""

import argparse
import itertools
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jointebm import Model, Trainer, recipes
from jointebm.data.registry import open_dataset
from jointebm.evaluation.accuracy import evaluate_model
from jointebm.inference.model_loading import load_model
from jointebm.inference.pretrained import find_model
from jointebm.kernels import evaluate
from jointebm.randomness.devices import place_of
from jointebm.runs.training_run import initial_model
from jointebm.sampling.sample import run_chain

MODELS = ("toy", "mnist")  # pretrained, for correctness and steps
BATCHES = (100, 1_000, 10_000, 100_000)  # chains
RECIPES = ("toy_any", "mnist")
MAX_ROWS = 2_000  # of the test, that a score on the way asks
LOOKS = 8  # scores of a training
WARM_UP = 3  # steps, or iterations, that are not timed
ADULT = {"num_visits": 30}  # of JointEBM, where the time is short


def wait(place: torch.device) -> None:
    """Waits for all that was queued, so that a clock tells the truth."""
    if place.type == "cuda":
        torch.cuda.synchronize()
    elif place.type == "mps":
        torch.mps.synchronize()


def peak_mb(place: torch.device) -> float:
    """Peak memory since the last call on a CUDA device; of the process from its start elsewhere."""
    if place.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peak = torch.cuda.max_memory_allocated() / 2**20
    torch.cuda.reset_peak_memory_stats()
    return peak


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints a table in Markdown."""
    print(f"\n### {title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(f'{cell:.3g}' if isinstance(cell, float) else str(cell) for cell in row)} |", flush=True)


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """In units of the largest entry that is expected."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def correctness(place: torch.device) -> list[list[Any]]:
    """f, scores, chains of equal draws and answers of the same models on the device and on the CPU."""
    rows = []
    for name in MODELS:
        of_cpu, of_device = (load_model(find_model(f"pretrained:{name}"), device=each) for each in ("cpu", place))
        position = of_cpu.noise.draw(256, generator=torch.Generator().manual_seed(0))
        starts = [{n: value.to(model.device) for n, value in position.items()} for model in (of_cpu, of_device)]
        chains = [
            evaluate(model, start, with_score=True) for model, start in zip((of_cpu, of_device), starts, strict=True)
        ]
        rows.append([name, "f", largest_difference(chains[1].f, chains[0].f)])
        for block in of_cpu.space.continuous:
            scores = [chain.score[block] for chain in chains if chain.score is not None]
            rows.append([name, f"score of {block}", largest_difference(scores[1], scores[0])])
        # Draws of the CPU for both: chains part where a rounding changes an acceptance.
        ends = [moved(model, start, 10) for model, start in zip((of_cpu, of_device), starts, strict=True)]
        for block in of_cpu.space.discrete:
            equal = (ends[0][block] == ends[1][block].cpu()).reshape(len(ends[0][block]), -1).all(dim=1).double().mean()
            rows.append([name, f"chains with an equal {block} after 10 steps", float(equal)])
    values = {"point": torch.tensor([[-3.0, 0.0], [torch.nan, 1.0], [2.0, torch.nan]])}
    answers = [load_model(find_model("pretrained:toy_any"), device=each).log_density(values) for each in ("cpu", place)]
    rows.append(["toy_any", "log-density of parts", largest_difference(answers[1], answers[0])])
    return rows


def moved(model: Model, start: Mapping[str, Tensor], num_steps: int) -> Mapping[str, Tensor]:
    """Where chains are after some steps with the draws of a generator of the CPU."""
    chain = evaluate(model, start, with_score=model.kernel.uses_score)
    free = {name: torch.ones((), dtype=torch.bool, device=model.device) for name in model.space}
    steps = run_chain(model, model.kernel, chain, free=free, generator=torch.Generator().manual_seed(1))
    for chain, _ in itertools.islice(steps, num_steps):
        pass
    return chain.position


def steps_per_second(place: torch.device, seconds: float) -> list[list[Any]]:
    """Joint steps of the trained kernels, by the number of chains."""
    rows, each = [], seconds / (len(MODELS) * len(BATCHES))
    for name in MODELS:
        model = load_model(find_model(f"pretrained:{name}"), device=place)
        for batch in BATCHES:
            peak_mb(place)
            generator = torch.Generator(place).manual_seed(0)
            position = model.noise.draw(batch, generator=generator)
            chain = evaluate(model, position, with_score=model.kernel.uses_score)
            free = {block: torch.ones((), dtype=torch.bool, device=place) for block in model.space}
            steps = run_chain(model, model.kernel, chain, free=free, generator=generator)
            for _ in itertools.islice(steps, WARM_UP):
                pass
            wait(place)
            started, num = time.perf_counter(), 0
            while num == 0 or time.perf_counter() - started < each:
                next(steps)
                num += 1
                if num % 10 == 0:
                    wait(place)
            wait(place)
            rate = num / (time.perf_counter() - started)
            rows.append([name, batch, rate, rate * batch, peak_mb(place)])
    return rows


def scores_on_the_way(recipe: recipes.Recipe, data: Path | None, place: torch.device, seconds: float) -> Iterator[Any]:
    """Trains, and yields (iterations, seconds of training, accuracy) at equal times of training."""
    dataset = open_dataset(recipe.data, data)
    test = {name: value[:MAX_ROWS] for name, value in dataset.test().items()}
    model = initial_model(recipe, dataset, seed=0)
    trainer = Trainer(
        model.energy, dataset.space, dataset.rows, kernel=model.kernel, config=recipe.train, seed=0, device=place
    )
    for look in range(1, LOOKS + 1):
        while trainer.seconds < look * seconds / LOOKS and trainer.iteration < recipe.train.num_iterations:
            trainer.step()
        average = Model(model.config, energy=trainer.average, noise=trainer.noise).eval()
        generator = torch.Generator().manual_seed(0)
        accuracy, _ = evaluate_model(average, test, methods=("exact",), generator=generator)
        yield trainer.iteration, trainer.seconds, accuracy["exact"].mean
        if trainer.iteration == recipe.train.num_iterations:
            return


def time_to_accuracy(names: Sequence[str], data: Path | None, place: torch.device, seconds: float) -> list[list[Any]]:
    """Accuracy on test rows against seconds of training, of recipes and of Adult."""
    rows: list[list[Any]] = []
    for name in names:
        peak_mb(place)
        recipe = getattr(recipes, name)()
        try:
            scores = list(scores_on_the_way(recipe, data, place, seconds / (len(names) + 1)))
        except FileNotFoundError as error:
            print(f"left out: {name}: {error}", flush=True)
            continue
        memory = peak_mb(place)
        rows += [[name, iterations, spent, accuracy, memory] for iterations, spent, accuracy in scores]
    if data is None or not (data / "tables").is_dir():
        print("left out: adult: no folder of tables in --data", flush=True)
        return rows
    return rows + adult(data, place)


def adult(data: Path, place: torch.device) -> list[list[Any]]:
    """A fit of the table Adult, and the accuracy of its predicted income."""
    sys.path.insert(0, str(Path(__file__).parent / "tables"))
    from tables_data import train_and_test  # of the benchmarks of tables

    from jointebm import JointEBM

    train, test = train_and_test(data / "tables", "adult", num_adult=(6_000, MAX_ROWS))
    target = train.columns[-1]
    started = time.perf_counter()
    model = JointEBM(device=place, training=ADULT).fit(train)
    spent = time.perf_counter() - started
    predicted = model.predict(test.drop(columns=[target]), target)
    accuracy = float((predicted == test[target].to_numpy()).mean())
    return [["adult", "-", spent, accuracy, peak_mb(place)]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--seconds", type=float, default=400.0, help="of steps and training together")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    given = parser.parse_args(arguments)
    place = place_of(given.device, wide=False)
    name = torch.cuda.get_device_name() if place.type == "cuda" else place.type
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    table("The device and the CPU", ["model", "compared", "relative difference, or share"], correctness(place))
    heads = ["model", "chains", "steps per second", "chain steps per second", "peak MB"]
    table("Joint steps", heads, steps_per_second(place, given.seconds / 4))
    heads = ["trained", "iterations", "seconds of training", "accuracy", "peak MB"]
    table("Time to accuracy", heads, time_to_accuracy(given.recipes, given.data, place, given.seconds / 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
