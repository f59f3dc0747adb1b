"""The provenance of a result: versions, hardware, and the card of a model."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

from jointebm.energies import CaptionSpec
from jointebm.inference.model_config import ModelConfig
from jointebm.randomness.devices import Device, place_of
from jointebm.recipes import Recipe
from jointebm.recipes.catalogue import RECIPES
from jointebm.storage.model_cards import front_matter
from jointebm.storage.untrusted import quoted
from jointebm.training.divergence import Intervention
from jointebm.training.trainer import Metrics

__all__ = ["card", "environment"]


def environment(device: Device = "cpu", num_processes: int = 1) -> dict[str, Any]:
    """Versions, hardware and processes that a result depends on."""
    place = place_of(device, wide=False)
    return {
        "jointebm": version("jointebm"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "processes": num_processes,
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
    }


def card(
    recipe: Recipe,
    facts: Mapping[str, Any],
    config: ModelConfig,
    metrics: Metrics,
    interventions: Sequence[Intervention],
) -> str:
    """The card of a trained model: Markdown under YAML front matter.

    The license of a new model is `unknown` until its owner writes one.
    """
    known = {name: quoted(facts.get(name, "unknown")) for name in ("threads", "machine", "jointebm", "torch", "python")}
    command = f"jointebm train {recipe.name} --seed {facts['seed']}"
    if facts.get("processes", 1) != 1:
        command = f"torchrun --nproc-per-node {quoted(facts['processes'])} -m {command}"
    original = RECIPES[recipe.name]() if recipe.name in RECIPES else None
    changed = (
        "" if recipe == original else "\n\nFields of the recipe were changed; `recipe.json` of the run lists them."
    )
    scaled = (
        f"\n| temperature scaling of f to the labels of {recipe.calibration_rows} training rows | times "
        f"{facts['inverse_temperature']:.3f} |"
        if recipe.calibration_rows
        else ""
    )
    one = recipe.kernel.temperature == 1
    density = "log p(x, y) = f(x, y) - log Z" if one else "a log-density f(x, y) for each of its temperatures"
    normalised = f"\n| log Z of f | {config.log_normalizer} |" if config.log_normalizer else ""
    normalised += f"\n| chains after training | {config.diagnostics} |" if config.diagnostics else ""
    end = f"| energy gap at the end | {metrics.energy_gap:.3f} nats |" if metrics.energy_gap is not None else ""
    if metrics.terms is not None:
        terms = ", ".join(f"{name} {value:.3f}" for name, value in metrics.terms.items())
        end = f"| terms of the loss at the end | {terms} |"
    summary = recipe.summary[0].upper() + recipe.summary[1:]
    return f"""{front_matter(recipe.data)}# {recipe.name}

{summary}. A joint energy-based model of the data `{recipe.data}`: {density}.

| | |
|---|---|
| command | `{command}` |
| iterations | {metrics.iteration} |
| training time | {metrics.seconds:.0f} s on {known["threads"]} threads ({known["machine"]}) |
| versions | jointebm {known["jointebm"]}, torch {known["torch"]}, Python {known["python"]} |
{end}
| interventions against divergence | {"<br>".join(map(str, interventions)) or "none"} |{normalised}{scaled}{changed}

{_meaning(recipe, config)}
"""


def _meaning(recipe: Recipe, config: ModelConfig) -> str:
    """What the model is a density of, and what its report says."""
    if config.report is not None:
        return (
            "Load it with `jointebm.load(folder)`. One density at temperature 1: `log_density` is log p in the units of the "
            "data, and `sample`, `predict` and `impute` are answers of the same p.\n\n## Report\n"
            f"{config.report}"
        )
    if isinstance(recipe.energy, CaptionSpec):
        return (
            "Load it with `jointebm.load(folder)`. `predict` of words and `log_density` of any part are one pass of the "
            "network and draws of words; `sample` and `impute` draw the image by a path over noise levels, corrected by "
            f"Metropolis steps. Rows are those of the data under normal noise of standard deviation "
            f"{recipe.energy.min_noise:g}."
        )
    if recipe.energy.kind == "any-subset":
        return (
            "Load it with `jointebm.load(folder)`. `predict` and `log_density` of any part of a row are one pass of the "
            "network; `sample` and `impute` draw the rest by a path over noise levels, corrected by Metropolis steps. "
            f"Rows are those of the data under normal noise of standard deviation {recipe.energy.min_noise:g}."
        )
    load = (
        "Load it with `jointebm.load(folder)`. f is known up to a constant; samples come from a Markov chain of finite "
        "length."
    )
    if recipe.kernel.temperature == 1:
        return load
    return (
        f"{load} x moves at temperature {recipe.kernel.temperature:g} and y at 1: samples, predictions and f belong to "
        "different densities, and log sum_y exp f is not the log p(x) of the samples."
    )
