"""Specification of the recipes: the tables of the paper, field by field, and overrides by name and type."""

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from jointebm import recipes
from jointebm.data.registry import DATASETS
from jointebm.energies import ConcatSpec, ConvSpec, MLPSpec, ReferencedSpec
from jointebm.recipes import Recipe, override, recipe_fields
from jointebm.recipes.catalogue import RECIPES, find
from jointebm.references import MarginalsFit, MixtureFit, ReferenceFit
from jointebm.references.reference_specs import MixtureSpec
from jointebm.training.objectives import SummedOut

every_recipe = pytest.mark.parametrize("name", RECIPES)

# Tables 1-3, row by row; App. B for what the tables leave out.
PAPER = ("toy_paper", "mnist_paper", "dsprites_paper")
ROWS: dict[str, tuple[Any, Any, Any]] = {
    "train.learning_rate": (1e-4, 1e-4, 1e-5),
    "train.warmup": (1000, 10_000, 10_000),
    "train.batch_size": (1000, 100, 100),
    "train.num_iterations": (5500, 110_000, 180_000),
    "kernel.step_size": (0.1, 3e-3, 3e-3),
    "kernel.temperature": (0.5, 1.5e-6, 4.5e-7),
    "train.num_steps": (20, 40, 40),
    "energy.net.hidden": ((256, 256, 256), (1000, 500, 500, 250, 250, 250), (256, 256)),  # B.1.1, B.2.2, B.3.2
    "energy.net.activation": ("elu", "elu", "silu"),
}
ENCODER = {
    "energy.encoder.side": 32,  # B.3.2
    "energy.encoder.channels": (16, 32, 64, 128),
    "energy.encoder.out_channels": 16,
    "energy.encoder.activation": "silu",
    "energy.encoder.halves_first": False,
}
ENCODERS: dict[str, dict[str, Any]] = {"dsprites_paper": ENCODER}
# Common to all runs of the paper: Algorithm 1 with one move of y and one of x, Eq. 2, constant rate, float32.
EVERYWHERE: dict[str, Any] = {
    "train.buffer_size": 10_000,
    "train.replacement_rate": 0.05,
    "num_test_steps": 200,
    "num_test_chains": 10,
    "train.ema_decay": 0.99,
    "energy.scale": {},
    "energy.output_scale": 1.0,
    "reference": None,
    "reference_labels": True,
    "train.weighted": True,
    "calibration_rows": 0,
    "kernel.discrete": "gibbs-with-gradients",
    "kernel.discrete_moves": 1,
    "kernel.discrete_rate": 1.0,
    "kernel.continuous": "langevin",
    "train.beta_1": 0.9,
    "train.decay": "constant",
    "train.noise_labels": "frequency",
    "train.noise_reals": "range",
    "train.objective": "maximum-likelihood",
    "train.terms": [],
    "train.completion_steps": None,
    "train.hide.labels_per_class": None,
    "train.hide.observe_labels": 1.0,
    "train.hide.observe_reals": 1.0,
    "train.hide.hiding_seed": 0,
    "train.precision": "float32",
}
# These do not change a run that does not diverge, or say where it runs.
OURS = {"train.compile", "train.device", "train.log_every", "train.max_rollbacks", "train.snapshot_every"}


@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_of_the_paper_equals_its_table(name: str) -> None:
    actual = {field.path: field.value for field in recipe_fields(find(name)) if not ours(field.path)}
    column = {path: row[PAPER.index(name)] for path, row in ROWS.items()}
    assert actual == EVERYWHERE | column | ENCODERS.get(name, {"energy.encoder": None})


def ours(path: str) -> bool:
    return path in OURS or "checkpoint" in path


@every_recipe
def test_a_recipe_is_found_by_name_and_names_known_data(name: str) -> None:
    recipe = find(name)
    assert recipe.name == name and recipe == RECIPES[name]() and recipe.data in DATASETS and recipe.summary
    assert getattr(recipes, name)() == recipe


@every_recipe
def test_a_recipe_round_trips_through_json(name: str) -> None:
    recipe = find(name)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@every_recipe
def test_every_field_has_a_description_and_can_be_set_to_its_value(name: str) -> None:
    recipe = find(name)
    for field in recipe_fields(recipe):
        assert field.description, field.path
        text = field.value if isinstance(field.value, str) else json.dumps(field.value)
        assert override(recipe, [f"{field.path}={text}"]) == recipe


def test_a_recipe_is_frozen_and_refuses_unknown_fields() -> None:
    recipe = find("toy")
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.num_iterations = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Recipe.model_validate_json(json.dumps(json.loads(recipe.model_dump_json()) | {"epochs": 3}))


def test_an_unknown_recipe_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match=f"unknown recipe 'cifar'; available: {', '.join(RECIPES)}"):
        find("cifar")


# Overrides.


def value_of(recipe: Recipe, path: str) -> Any:
    return {field.path: field.value for field in recipe_fields(recipe)}[path]


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("num_iterations=7", "train.num_iterations", 7),
        ("train.num_iterations=7", "train.num_iterations", 7),
        ("learning_rate=1", "train.learning_rate", 1.0),
        ("learning_rate=3e-5", "train.learning_rate", 3e-5),
        ("objective=conditional", "train.objective", "conditional"),
        ('objective="conditional"', "train.objective", "conditional"),
        ("train.objective.name=conditional", "train.objective", "conditional"),
        ('terms=["roughness"]', "train.terms", [{"weight": 1.0, "radius": 1.0, "name": "roughness"}]),
        ("hidden=[64,32]", "energy.net.hidden", (64, 32)),
        ('scale={"point": 2}', "energy.scale", {"point": 2.0}),
        ("continuous=mala", "kernel.continuous", "mala"),
        ("num_test_steps=5", "num_test_steps", 5),
    ],
)
def test_a_field_is_set_by_the_last_part_of_its_path_or_the_whole_path(assignment: str, path: str, value: Any) -> None:
    before, after = find("toy_paper"), override(find("toy_paper"), [assignment])
    assert value_of(after, path) == value and type(value_of(after, path)) is type(value)
    others = {field.path: field.value for field in recipe_fields(before) if field.path != path}
    assert others == {field.path: field.value for field in recipe_fields(after) if field.path != path}


def test_an_objective_is_set_by_its_name_or_field_by_field() -> None:
    summed = override(find("mnist"), ["objective=summed"])
    assert summed == find("mnist")  # the same objective keeps its fields
    assert override(summed, ["sampled_share=0.5"]).train.objective == SummedOut(sampled_share=0.5)
    assert override(summed, ["train.objective.sampled_share=0.5"]).train.objective == SummedOut(sampled_share=0.5)
    as_json = override(find("toy_paper"), ['objective={"name": "summed", "sampled_share": 0.1}'])
    assert as_json.train.objective == SummedOut(sampled_share=0.1)
    with pytest.raises(ValueError, match="got 'gan'; unknown name 'gan'; known: maximum-likelihood, summed"):
        override(summed, ["objective=gan"])
    with pytest.raises(ValueError, match="--set sampled_share: unknown field"):
        override(find("toy_paper"), ["sampled_share=0.5"])  # its objective has none


def test_later_assignments_win_and_none_changes_nothing() -> None:
    recipe = find("toy")
    assert override(recipe, []) == recipe
    assert override(recipe, ["batch_size=3", "num_steps=2", "batch_size=4"]).train.batch_size == 4


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("num_iterations=many", "--set num_iterations: got 'many'; Input should be a valid integer"),
        ("num_iterations=0", "--set num_iterations: got '0'; Input should be greater than or equal to 1"),
        ("learning_rate=Infinity", "--set learning_rate: got 'Infinity'; Input should be a finite number"),
        ("hidden=64", "--set hidden: got '64'; Input should be a valid array"),
        (
            "batch_size=20000",
            "--set batch_size: got '20000'; batch_size 20000 is more than buffer_size 10000",
        ),
        ("decay=linear", "--set decay: got 'linear'; Input should be 'constant' or 'cosine'"),
        ("epochs=3", "--set epochs: unknown field of recipe 'toy_paper'; available: hidden, activation,"),
        ("train.step_size=3", "--set train.step_size: unknown field of recipe 'toy_paper'"),
        ("name=mine", "--set name: unknown field of recipe 'toy_paper'"),
        ("num_iterations", "--set 'num_iterations': expected key=value, such as num_iterations=100"),
    ],
)
def test_an_invalid_assignment_is_refused_by_key_and_value(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        override(find("toy_paper"), [assignment])


def test_an_ambiguous_key_is_refused_with_both_fields() -> None:
    energy = ConcatSpec(net=MLPSpec(hidden=(8,)), encoder=ConvSpec(side=8))
    recipe = find("toy").model_copy(update={"energy": energy})
    with pytest.raises(ValueError, match=r"ambiguous; write energy.net.activation or energy.encoder.activation"):
        override(recipe, ["activation=elu"])
    assert override(recipe, ["energy.encoder.activation=elu"]).energy.encoder.activation == "elu"  # type: ignore[union-attr]


# The reference.


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["reference.num_components=4"], MixtureFit(num_components=(4,))),
        (["num_components=[4,8]"], MixtureFit(num_components=(4, 8))),
        (["reference=mixture", "max_rows=50"], MixtureFit(num_components=(8,), max_rows=50)),
        (["reference=marginals", "num_gaussians=2"], MarginalsFit(num_gaussians=2)),
        (["reference=null", "reference=mixture"], MixtureFit()),
        (["label=left"], MixtureFit(num_components=(8,), label="left")),
        (["reference=null", "temperature=0.5"], None),
    ],
)
def test_a_reference_is_set_by_its_kind_and_its_fields(assignments: list[str], expected: ReferenceFit | None) -> None:
    assert override(find("toy"), assignments).reference == expected


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("reference=flow", "does not match any of the expected tags: 'mixture', 'marginals'"),
        ("num_components=0", "greater than or equal to 1"),
        ("num_components=[]", "at least 1 item"),
        (
            "temperature=0.5",
            "x and y have one density, for kernel.continuous mala at kernel.temperature 1; got mala at 0.5",
        ),
        ("continuous=langevin", "got langevin at 1"),
        ("objective=conditional", "objective 'conditional' keeps a chain for each row"),
        ("calibration_rows=5", "its calibration is reported in the card; set it to 0"),
    ],
)
def test_what_a_reference_excludes_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        override(find("toy"), [assignment])


@pytest.mark.parametrize("assignment", ["weighted=false", "reference_labels=false"])
def test_what_says_how_a_reference_is_used_needs_one(assignment: str) -> None:
    assert override(find("toy"), [assignment]) != find("toy")
    with pytest.raises(ValueError, match="say how a reference is used, but this recipe has no reference"):
        override(find("mnist"), [assignment])


def test_an_energy_with_a_reference_of_its_own_is_refused() -> None:
    energy = ReferencedSpec(reference=MixtureSpec(num_components=2), residual=find("toy").energy)
    with pytest.raises(ValidationError, match="energy is the network alone"):
        Recipe.model_validate({**dict(find("toy")), "energy": energy})
