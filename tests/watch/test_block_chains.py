"""Chains of a block model: clamped cells keep their values, and the copied lines give the same chains again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jointebm import Binary, Categorical, Continuous, KernelSpec, Model, Space, load
from jointebm.data import Toy
from jointebm.energies import PictureSpec
from jointebm.kernels import evaluate
from jointebm.watch.block_chains import NUM_WATCHED, BlockChains
from jointebm.watch.block_predictions import BlockQuestion
from jointebm.watch.live_probs import live_probs
from jointebm.watch.packed_frames import unpack_frame
from support.block_models import small_config
from support.command_line import run
from support.watched import Frame, run_text

Play = Callable[[BlockChains], object]


def chains_of(model: Model, source: str = "pretrained:toy", rows: Any = None, changes: int = 500) -> BlockChains:
    return BlockChains(model, source=source, rows=rows, changes=changes)


def frame_of(chains: BlockChains, *, with_probs: bool = False) -> Frame:
    return Frame(*unpack_frame(chains.frame(with_probs=with_probs)))


def steps(chains: BlockChains, num: int) -> None:
    for _ in range(num):
        chains.step()


def started(chains: BlockChains) -> BlockChains:
    """Chains at the end of their path, if they have one."""
    while chains.chain is None:
        chains.step()
    return chains


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, str]:
    """A model of every kind of block, without a reference, and its folder."""
    space = Space(
        x=Continuous(3), bits=Binary(2), y=Categorical(3), group=Categorical((2, 4)), image=Continuous((5, 6))
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model(small_config(space))
    folder = model.save(tmp_path_factory.mktemp("small") / "small")
    return load(folder), str(folder)  # type: ignore[return-value]


def repeat(text: str, path: Path) -> dict[str, Any]:
    """Runs copied Python, and returns its `values`."""
    return dict(run_text(text, path)["values"])


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(np.asarray(first[name]), np.asarray(second[name])) for name in first
    )


IMAGE = [0.5] * 13 + [None] * 17
STORIES: dict[str, Play] = {
    "own start": lambda chains: steps(chains, 4),
    "no step": lambda chains: steps(chains, 0),
    "clamped first": lambda chains: (chains.clamp({"y": [2], "x": [0.25, None, None]}), steps(chains, 3)),
    "other seed": lambda chains: (chains.restart(start="", seed=7, row=0), steps(chains, 3)),
    "clamped and freed": lambda chains: (
        steps(chains, 2),
        chains.clamp({"y": [2]}),
        steps(chains, 2),
        chains.clamp({"bits": [None, 1], "group": [1, None]}),
        chains.clamp({}),  # two changes without a step between them
        steps(chains, 3),
    ),
    "painted": lambda chains: (steps(chains, 1), chains.clamp({"image": IMAGE}), steps(chains, 2)),
    "noise": lambda chains: (chains.restart(start="noise", seed=3, row=0), steps(chains, 2)),
    "restarted while clamped": lambda chains: (
        chains.clamp({"y": [0]}),
        steps(chains, 2),
        chains.restart(start="", seed=1, row=0),
        steps(chains, 2),
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_the_copied_python_gives_the_same_values(small: tuple[Model, str], story: str, tmp_path: Path) -> None:
    model, source = small
    chains = chains_of(model, source)
    STORIES[story](chains)
    assert equal(repeat(chains.copied()["python"], tmp_path), chains.values())


@pytest.mark.parametrize("story", ["own start", "no step", "clamped first", "other seed"])
def test_the_copied_command_writes_the_same_values(
    small: tuple[Model, str], story: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    model, source = small
    chains = chains_of(model, source)
    STORIES[story](chains)
    program, *words = shlex.split(chains.copied()["shell"])
    monkeypatch.chdir(tmp_path)
    assert program == "jointebm"
    assert run(*words).code == 0
    assert equal(dict(np.load("view.npz")), chains.values())


def test_a_command_that_the_command_line_lacks_is_python(small: tuple[Model, str]) -> None:
    model, source = small
    chains = chains_of(model, source)
    STORIES["clamped and freed"](chains)
    copied = chains.copied()
    assert copied["shell"].startswith("python3 - <<'END'\n" + copied["python"])


def test_chains_of_q_and_of_a_row_are_repeated_too(tmp_path: Path) -> None:
    model, rows = load("pretrained:toy"), Toy(num_test=20).test()
    chains = chains_of(model, rows=rows)  # type: ignore[arg-type]
    chains.clamp({"left": [1]})
    steps(chains, 3)
    assert equal(repeat(chains.copied()["python"], tmp_path), chains.values())
    chains.restart(start="row", seed=5, row=17)
    assert equal({"left": chains.values()["left"]}, {"left": torch.ones(NUM_WATCHED, dtype=torch.int64)})  # clamped
    assert torch.equal(chains.values()["point"], rows["point"][17].expand(NUM_WATCHED, 2))
    steps(chains, 2)
    assert equal(repeat(chains.copied()["python"], tmp_path), chains.values())


def test_a_model_of_any_subset_takes_its_path_and_is_repeated(tmp_path: Path) -> None:
    model = load("pretrained:toy_any")
    model.energy.num_levels = 12
    chains = chains_of(model, "pretrained:toy_any")  # type: ignore[arg-type]
    chains.clamp({"point": [1.5, None], "left": [0]})
    shown = [frame_of(chains)]
    with pytest.raises(ValueError, match="on their path"):
        chains.copied()
    while chains.chain is None:
        chains.step()
        shown.append(frame_of(chains))
    assert [frame.header["level"]["number"] for frame in shown[:-1]] == list(range(12))
    assert all((frame.arrays["value:point"][:, 0] == np.float32(1.5)).all() for frame in shown)
    steps(chains, 2)
    text = chains.copied()["python"].replace("generator =", "model.energy.num_levels = 12\ngenerator =")
    assert equal(repeat(text, tmp_path), chains.values())
    chains.clamp({})  # the path depends on what is clamped, so it starts again
    assert chains.chain is None


def test_a_model_of_pictures_starts_at_exact_draws_and_answers_by_exact_sums(tmp_path: Path) -> None:
    space = Space(image=Continuous((4, 4)), shape=Categorical(3), right=Categorical(4), down=Categorical(4))
    spec = PictureSpec(side=4, rows="down", columns="right", noise_sd=0.3)
    config = small_config(space, energy=spec, kernel=KernelSpec(discrete="pairs", step_size=0.1))
    model, generator = Model(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.energy.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    source = str(model.save(tmp_path / "pictures"))
    chains = chains_of(load(source), source)  # type: ignore[arg-type]
    assert chains.view()["starts"][0] == {"id": "exact", "label": "exact draws"}
    assert chains.view()["log_normalizer"] == 0.0
    chains.clamp({"shape": [2], "image": [0.5, *[None] * 15]})
    assert chains.chain is not None
    image, labels = chains.values()["image"].flatten(1), chains.values()["shape"]
    assert (labels == 2).all() and (image[:, 0] == 0.5).all()
    picture = chains.model.energy.picture(chains.chain.position).detach()  # type: ignore[operator]
    assert float((image - picture.flatten(1))[:, 1:].std()) == pytest.approx(0.3, rel=0.23)  # 5 standard errors
    steps(chains, 2)
    assert equal(repeat(chains.copied()["python"], tmp_path), chains.values())
    given = {"shape": np.array(2), "image": np.array([[0.5, *[np.nan] * 3], *[[np.nan] * 4] * 3])}
    answer = BlockQuestion(chains.model, given, ["right"], seed=0).answer()
    exact = chains.model.predict({name: value[None] for name, value in given.items()}, "right").probs["right"][0]
    assert (answer["method"], answer["ess"]) == ("exact sum", None)
    assert answer["probs"]["right"][0] == pytest.approx(exact.tolist(), abs=1e-6)


def test_clamped_cells_are_equal_in_200_frames(small: tuple[Model, str]) -> None:
    model, source = small
    chains = chains_of(model, source)
    given = {"x": [None, -0.125, None], "bits": [1, None], "y": [1], "image": IMAGE}
    steps(chains, 3)
    chains.clamp(given)
    moved = False
    for _ in range(200):
        chains.step()
        arrays = frame_of(chains).arrays
        for name, values in given.items():
            known = np.array([value is not None for value in values])
            expected = np.array([value for value in values if value is not None])
            assert (arrays[f"value:{name}"][:, known] == expected).all(), name
        moved |= bool((arrays["value:x"][:, 0] != arrays["value:x"][0, 0]).any())
    assert moved


def test_live_probabilities_are_the_conditionals_of_the_model(small: tuple[Model, str]) -> None:
    model, _ = small
    chains = chains_of(model)
    position = chains.chain.position  # type: ignore[union-attr]
    labels = {name: value.clone() for name, value in model.space.decode(position).items()}
    for name in model.space.discrete:
        found = live_probs(model, evaluate(model, position), name)
        for variable, count in enumerate(model.space.num_classes(name)):
            f = []
            for value in range(count):  # every class in turn, by the model itself
                changed = labels[name].reshape(NUM_WATCHED, -1).clone()
                changed[:, variable] = value
                rows = {**labels, name: changed.reshape(labels[name].shape)}
                f.append(model(model.space.encode(rows)[0]))
            expected = torch.stack(f, dim=1).softmax(dim=1).mean(dim=0)
            assert torch.allclose(torch.tensor(found[variable]), expected, atol=1e-6)


def test_visits_count_every_state_since_the_last_change(small: tuple[Model, str]) -> None:
    chains = chains_of(small[0])
    steps(chains, 2)
    chains.clamp({"y": [2]})
    counted = {
        name: np.zeros((len(classes), max(classes)))
        for name, classes in zip(("bits", "y", "group"), ((2, 2), (3,), (2, 4)), strict=True)
    }
    for _ in range(5):
        chains.step()
        for name, table in counted.items():
            for variable, column in enumerate(chains.values()[name].reshape(NUM_WATCHED, -1).T):
                table[variable] += np.bincount(column, minlength=table.shape[1])
    for name, found in frame_of(chains).header["visits"].items():
        for shares, expected in zip(found, counted[name], strict=True):
            assert shares == expected[: len(shares)].tolist()


@pytest.mark.parametrize(
    "given",
    [
        {"z": [1]},
        {"y": [3]},
        {"y": [0.5]},
        {"y": [0, 1]},
        {"y": "one"},
        {"y": [[]]},
        {"x": [1.0, 2.0]},
        {"x": [1e400, 0, 0]},
        {"x": {"low": 0}},
        {"x": None},
        {"image": [[0.5] * 6] * 4},
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_changes_nothing(small: tuple[Model, str], given: Any) -> None:
    chains = chains_of(small[0])
    steps(chains, 1)
    before = chains.values()
    with pytest.raises(ValueError, match="block"):
        chains.clamp(given)
    assert equal(before, chains.values())
    assert chains.question().given == {}  # type: ignore[union-attr]


@pytest.mark.parametrize("first", [{}, {"left": 1}], ids=["free", "clamped"])
@pytest.mark.parametrize("num_steps", [0, 2])
def test_a_value_at_which_f_is_not_finite_changes_nothing(
    first: dict[str, Any], num_steps: int, tmp_path: Path
) -> None:
    """A clamped label or not, before the first step or after it, with a change that no step has seen."""
    chains = chains_of(load("pretrained:toy"))  # type: ignore[arg-type]
    steps(chains, num_steps)
    chains.clamp(first)
    with pytest.raises(FloatingPointError, match=r"log-density|log-weight"):
        chains.clamp({"point": [1e30, 0.0]})
    assert chains.question().given.keys() == first.keys()  # type: ignore[union-attr]
    steps(chains, 3)
    assert equal(repeat(chains.copied()["python"], tmp_path), chains.values())


def test_rows_and_seeds_out_of_range_are_refused(small: tuple[Model, str]) -> None:
    chains = chains_of(small[0], rows={name: value[:4] for name, value in chains_of(small[0]).values().items()})
    for row in (-1, 4):
        with pytest.raises(ValueError, match="4 test rows"):
            chains.restart(start="row", seed=0, row=row)
        with pytest.raises(ValueError, match="4 test rows"):
            chains.row_values(row)
    for seed in (-1, 2**63):
        with pytest.raises(ValueError, match="seed"):
            chains.restart(start="", seed=seed, row=0)
    assert len(chains.row_values(3)["image"]) == 30


def test_too_many_changes_are_not_copied(small: tuple[Model, str]) -> None:
    chains = chains_of(small[0], changes=3)
    for label in (0, 1, 2):
        chains.clamp({"y": [label]})
        chains.step()
    chains.copied()
    chains.clamp({})
    with pytest.raises(ValueError, match="more than 3 changes"):
        chains.copied()
