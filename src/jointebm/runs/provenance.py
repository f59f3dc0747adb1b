"""The provenance of a result: versions, hardware, and the card of a model."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

from jointebm.recipes import Recipe
from jointebm.recipes.catalogue import RECIPES
from jointebm.storage.untrusted import quoted
from jointebm.training.divergence import Intervention
from jointebm.training.trainer import Metrics

__all__ = ["card", "environment"]

ONE_LAW = "A joint energy-based model, log p(x, y) = f(x, y) - log Z,"
TWO_LAWS = (
    "An energy-based model f(x, y) whose chains move x at a temperature of its own: y given x has the law of f, x given y "
    "that of f / temperature, and no joint density has both. A model"
)
UNNORMALISED = "f is known up to a constant; samples come from a Markov chain of finite length."


def environment() -> dict[str, Any]:
    """Versions and hardware that a result depends on."""
    return {
        "jointebm": version("jointebm"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def card(
    recipe: Recipe,
    facts: Mapping[str, Any],
    metrics: Metrics,
    interventions: Sequence[Intervention],
    findings: str,
) -> str:
    """The card of a trained model: Markdown under YAML front matter, with the findings of the fit, if any.

    The license of a new model is `unknown` until its owner writes one.
    """
    known = {name: quoted(facts.get(name, "unknown")) for name in ("threads", "machine", "jointebm", "torch", "python")}
    command = f"jointebm train {recipe.name} --seed {facts['seed']}"
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
    joint = TWO_LAWS if recipe.kernel.temperature != 1 else ONE_LAW
    summary = recipe.summary[0].upper() + recipe.summary[1:]
    return f"""---
license: unknown
library_name: jointebm
tags:
- energy-based-model
- {json.dumps(recipe.data)}
---
# {recipe.name}

{summary}. {joint} of the data `{recipe.data}`.

| | |
|---|---|
| command | `{command}` |
| iterations | {metrics.iteration} |
| training time | {metrics.seconds:.0f} s on {known["threads"]} threads ({known["machine"]}) |
| versions | jointebm {known["jointebm"]}, torch {known["torch"]}, Python {known["python"]} |
| energy gap at the end | {metrics.energy_gap:.3f} nats |
| interventions against divergence | {"<br>".join(map(str, interventions)) or "none"} |{scaled}{changed}

Load it with `jointebm.load(folder)`. {findings or UNNORMALISED}
"""
