"""Recipes: frozen descriptions of a run, and changes of single fields by name."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from jointebm.energies import ConcatSpec, EnergySpec, ReferencedSpec
from jointebm.energies.caption_specs import LEVEL_KINDS
from jointebm.kernels import KernelSpec
from jointebm.references import ReferenceFit
from jointebm.storage.config import Config
from jointebm.training.train_config import TrainConfig

__all__ = ["Recipe", "RecipeField", "override", "recipe_fields"]


class Recipe(Config):
    """A complete training run, except for its seed and its folder.

    Example:
        >>> from jointebm import recipes
        >>> toy = recipes.toy()
        >>> shorter = toy.model_copy(update={"train": toy.train.model_copy(update={"num_iterations": 10})})
        >>> shorter.train.num_iterations, shorter.data
        (10, 'toy')
    """

    name: str = Field(description="name of the recipe")
    summary: str = Field(description="one sentence on it")
    data: str = Field(description="name of the data")
    energy: EnergySpec = Field(description="the network")
    reference: ReferenceFit | None = Field(
        None,
        description="q, fitted to the training rows, to whose log-density the network is added: mixture or marginals; "
        "null: none, f is not normalised",
    )
    reference_labels: bool = Field(
        True,
        description="with a reference, whether log q(y | x) is part of f; else the network alone tells labels apart",
    )
    kernel: KernelSpec = Field(description="kernel of the chains, in training and afterwards")
    train: TrainConfig = Field(description="how to train")
    calibration_rows: int = Field(
        0, ge=0, description="training rows for temperature scaling of f after training; 0 leaves f unscaled"
    )
    num_test_chains: int = Field(10, ge=1, description="chains of the sample-based vote")
    num_test_steps: int = Field(200, ge=1, description="kernel steps from noise at test time")

    @model_validator(mode="after")
    def _scale_can_change(self) -> Self:
        if self.calibration_rows and not isinstance(self.energy, ConcatSpec):
            raise ValueError(
                f"calibration_rows {self.calibration_rows} scales f by energy.output_scale, which kind {self.energy.kind!r} "
                "lacks; set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _reference_fits(self) -> Self:
        if isinstance(self.energy, ReferencedSpec):
            raise ValueError(
                "energy is the network alone; give it the residual, and say in `reference` how its reference is fitted"
            )
        if self.reference is None:
            if not self.reference_labels or not self.train.weighted:
                raise ValueError(
                    f"reference_labels {self.reference_labels} and train.weighted {self.train.weighted} say how a "
                    "reference is used, but this recipe has no reference; set both to true first, or set one"
                )
            return self
        if self.kernel.temperature != 1 or self.kernel.continuous != "mala":
            raise ValueError(
                "with a reference x and y have one density, for kernel.continuous mala at kernel.temperature 1; got "
                f"{self.kernel.continuous} at {self.kernel.temperature:g}; set these, or reference=null first"
            )
        if self.train.objective.keeps_row_chains:
            raise ValueError(
                f"with a reference chains carry weights, but objective {self.train.objective.name!r} keeps a chain for "
                "each row; set another objective, or reference=null first"
            )
        if self.calibration_rows:
            raise ValueError(
                f"calibration_rows {self.calibration_rows} would scale f, but with a reference f is a log-density, and "
                "its calibration is reported in the card; set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _denoises_any_subset(self) -> Self:
        denoises = self.train.objective.name == "denoising"
        if denoises != (self.energy.kind in LEVEL_KINDS):
            raise ValueError(
                f"objective 'denoising' and energy of kind {' or '.join(map(repr, LEVEL_KINDS))} belong together; got "
                f"objective {self.train.objective.name!r} and kind {self.energy.kind!r}"
            )
        if not denoises:
            return self
        if self.kernel.temperature != 1 or self.kernel.continuous != "mala":
            raise ValueError(
                "with objective 'denoising' x and y have one density, for kernel.continuous mala at kernel.temperature 1; "
                f"got {self.kernel.continuous} at {self.kernel.temperature:g}"
            )
        if self.reference is not None or self.train.terms:
            raise ValueError(
                "objective 'denoising' takes neither a reference nor terms; set reference=null and terms=[]"
            )
        return self


class RecipeField(NamedTuple):
    """A field that can be set: its dotted path, value and meaning.

    Example:
        >>> from jointebm import recipes
        >>> field = recipe_fields(recipes.toy())[-1]
        >>> field.path, field.description
        ('num_test_steps', 'kernel steps from noise at test time')
    """

    path: str
    value: Any
    description: str


def recipe_fields(recipe: Recipe) -> list[RecipeField]:
    """All settable fields of a recipe, nested ones by their dotted path.

    Example:
        >>> from jointebm import recipes
        >>> [field.path for field in recipe_fields(recipes.toy())][-2:]
        ['num_test_chains', 'num_test_steps']
    """
    fixed = ("name", "summary", "data")
    return [field for field in _walk(recipe, "") if field.path not in fixed and not field.path.endswith("kind")]


def _walk(config: BaseModel, prefix: str) -> Iterator[RecipeField]:
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        if name == "reference":  # set by its kind, and has fields of its own
            yield RecipeField(f"{prefix}{name}", None if value is None else value.kind, info.description or "")
        if isinstance(value, BaseModel):
            yield from _walk(value, f"{prefix}{name}.")
        if isinstance(value, BaseModel) or name == "reference":
            continue
        # An objective is set by its name, and has fields of its own; terms are set as JSON, or by their names.
        plain = config.model_dump(mode="json")[name] if name in ("objective", "terms") else value
        named = isinstance(plain, dict) and "name" in plain
        yield RecipeField(f"{prefix}{name}", plain["name"] if named else plain, info.description or "")
        if named:
            meanings = type(value).__pydantic_fields__
            for part in plain.keys() - {"name"}:
                yield RecipeField(f"{prefix}{name}.{part}", plain[part], meanings[part].description or "")


def override(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """Changes fields by `key=value`; a key is the last part of the path of a field, or the whole path if ambiguous.

    Args:
        recipe: the recipe to start from.
        assignments: such as "num_iterations=100" or "energy.net.hidden=[64,64]"; values are JSON; bare words are strings.

    Raises:
        ValueError: an unknown or ambiguous key, or a value of the wrong type.

    Example:
        >>> from jointebm import recipes
        >>> override(recipes.toy(), ["num_iterations=7"]).train.num_iterations
        7
    """
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise ValueError(f"--set {assignment!r}: expected key=value, such as num_iterations=100")
        field = _find(recipe, key)
        recipe = _replace(recipe, field.path.split("."), text, key)
    return recipe


def _find(recipe: Recipe, key: str) -> RecipeField:
    fields, key = recipe_fields(recipe), key.removesuffix(".name")  # train.objective.name is train.objective
    found = [field for field in fields if field.path == key] or [
        field for field in fields if field.path.rpartition(".")[2] == key
    ]
    if not found:
        names = ", ".join(field.path.rpartition(".")[2] for field in fields)
        raise ValueError(f"--set {key}: unknown field of recipe {recipe.name!r}; available: {names}")
    if len(found) > 1:
        raise ValueError(f"--set {key}: ambiguous; write {' or '.join(field.path for field in found)}")
    return found[0]


def _replace(recipe: Recipe, path: Sequence[str], text: str, key: str) -> Recipe:
    plain = json.loads(recipe.model_dump_json())
    parent = plain
    for name in path[:-1]:
        parent = parent[name]
    before = parent[path[-1]]
    try:
        parent[path[-1]] = json.loads(text)
    except json.JSONDecodeError:
        parent[path[-1]] = text
    if isinstance(before, dict) and parent[path[-1]] == before.get("name", before.get("kind", ...)):
        parent[path[-1]] = before  # the same objective or reference keeps its fields
    try:
        return Recipe.model_validate_json(json.dumps(plain))
    except ValidationError as error:
        raise ValueError(
            f"--set {key}: got {text!r}; {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        ) from None
