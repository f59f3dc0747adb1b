"""A run: a recipe trained into a folder that says all about it.

RUN/recipe.json      the recipe, every field
RUN/run.json         seed, versions, threads, seconds
RUN/metrics.jsonl    one line per `log_every` iterations
RUN/model/           the trained model, with averaged parameters
"""

import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from jointebm.data import Dataset, open_dataset
from jointebm.models import Model, ModelConfig
from jointebm.recipes import RECIPES, Recipe
from jointebm.training import Metrics, Trainer

__all__ = ["Run", "initial_model", "train"]


class Run(NamedTuple):
    """A finished run.

    Args:
        path: its folder.
        model: what it trained, as saved.
        dataset: what it was trained on.
        seconds: training time.
        metrics: of the last iteration.
    """

    path: Path
    model: Model
    dataset: Dataset
    seconds: float
    metrics: Metrics


def initial_model(recipe: Recipe, dataset: Dataset, *, seed: int) -> Model:
    """The model of a recipe before training, with weights drawn from the seed.

    Example:
        >>> from jointebm import recipes
        >>> from jointebm.data import Toy
        >>> sum(p.numel() for p in initial_model(recipes.toy_paper(), Toy(), seed=0).parameters())
        134145
    """
    config = ModelConfig(
        name=recipe.name,
        data=recipe.data,
        space=dataset.space.config,
        energy=recipe.energy,
        kernel=recipe.kernel,
        num_chains=recipe.num_test_chains,
        num_steps=recipe.num_test_steps,
    )
    # torch.nn draws initial weights from the global generator only; it is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Model(config)


def train(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    data_dir: Path | None = None,
    on_metrics: Callable[[Metrics], object] | None = None,
) -> Run:
    """Trains a recipe into a new folder.

    Args:
        recipe: what to train.
        out: the run's folder, which must not exist.
        seed: of the weights and of all draws; the same seed, versions and threads give the same model.
        data_dir: folder where data files lie; None is enough for embedded data.
        on_metrics: called after each iteration.

    Raises:
        FileExistsError: the folder exists.
        FloatingPointError: training diverged; the folder keeps the metrics up to there, and no model.
    """
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out}: exists; choose another folder or remove it")
    dataset = open_dataset(recipe.data, data_dir)
    model = initial_model(recipe, dataset, seed=seed)
    trainer = Trainer(model.energy, dataset.space, dataset.batch, kernel=model.kernel, config=recipe.train, seed=seed)
    out.mkdir(parents=True)
    (out / "recipe.json").write_text(recipe.model_dump_json(indent=2) + "\n")
    facts = {"recipe": recipe.name, "seed": seed, **environment()}
    _write_json(out / "run.json", facts)
    with (out / "metrics.jsonl").open("w") as file:
        for metrics in trainer.run():
            if metrics.iteration % recipe.train.log_every == 0 or metrics.iteration == recipe.train.num_iterations:
                file.write(json.dumps(metrics._asdict()) + "\n")
                file.flush()
            if on_metrics is not None:
                on_metrics(metrics)
    trained = Model(model.config, energy=trainer.average, noise=trainer.noise).eval()
    _write_json(out / "run.json", {**facts, "seconds": round(metrics.seconds, 1)})
    trained.save(out / "model", card=_card(recipe, facts, metrics))
    return Run(out, trained, dataset, metrics.seconds, metrics)


def environment() -> dict[str, Any]:
    """Versions and hardware that a result depends on."""
    return {
        "jointebm": version("jointebm"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _card(recipe: Recipe, facts: dict[str, Any], metrics: Metrics) -> str:
    command = f"jointebm train {recipe.name} --seed {facts['seed']}"
    original = RECIPES[recipe.name]() if recipe.name in RECIPES else None
    changed = (
        "" if recipe == original else "\n\nFields of the recipe were changed; `recipe.json` of the run holds them."
    )
    return f"""# {recipe.name}

{recipe.summary.capitalize()}. A joint energy-based model, log p(x, y) = f(x, y) - log Z, of the data `{recipe.data}`.

| | |
|---|---|
| command | `{command}` |
| iterations | {metrics.iteration} |
| training time | {metrics.seconds:.0f} s on {facts["threads"]} threads ({facts["machine"]}) |
| versions | jointebm {facts["jointebm"]}, torch {facts["torch"]}, Python {facts["python"]} |
| energy gap at the end | {metrics.energy_gap:.3f} nats |{changed}

Load it with `jointebm.load(folder)`. f is known up to a constant; its samples are those of a finite Markov chain.
"""
