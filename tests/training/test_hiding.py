"""Specification of `hide`: the requested entries are missing in training, and all others are unchanged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jointebm import Binary, Space
from jointebm.cli import main
from jointebm.data import ArrayDataset, Toy, digits
from jointebm.recipes import override
from jointebm.recipes.catalogue import find
from jointebm.runs.training_run import resume, train
from jointebm.training.hiding import hide
from jointebm.training.train_config import Hiding
from jointebm.training.trainer import Metrics

DIGITS = digits()
NUM_ROWS = len(DIGITS.train["digit"])


def hidden(**fields: object) -> ArrayDataset:
    data = hide(DIGITS, Hiding(**fields))  # type: ignore[arg-type]
    assert isinstance(data, ArrayDataset)
    return data


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_hiding_nothing_returns_the_data_set_itself() -> None:
    assert hide(DIGITS, Hiding()) is DIGITS
    assert hide(DIGITS, Hiding(hiding_seed=7)) is DIGITS
    assert hide(Toy(), Hiding()) == Toy()


@pytest.mark.parametrize("num", [1, 5, 20])
def test_labels_per_class_shows_that_many_labels_of_each_class(num: int) -> None:
    data = hidden(labels_per_class=num)
    assert np.bincount(DIGITS.train["digit"][data.observed["digit"]]).tolist() == [num] * 10
    assert data.labelled_numbers().tolist() == np.flatnonzero(data.observed["digit"]).tolist()
    more = hidden(labels_per_class=num + 1)
    assert bool((data.observed["digit"] <= more.observed["digit"]).all())


def test_labels_and_pixels_are_hidden_independently_at_their_rates() -> None:
    data = hidden(observe_labels=0.1, observe_reals=0.3)
    for name, rate in (("digit", 0.1), ("image", 0.3)):
        mask = data.observed[name]
        assert mask.shape == DIGITS.train[name].shape
        assert abs(mask.mean() - rate) < 6 * np.sqrt(rate * (1 - rate) / mask.size)
    assert bool((hidden(observe_labels=0.1).observed["digit"] <= hidden(observe_labels=0.2).observed["digit"]).all())
    assert not hidden(observe_labels=0.0).observed["digit"].any()


def test_the_hidden_entries_depend_on_their_own_seed_alone() -> None:
    one, other, third = (hidden(labels_per_class=5, hiding_seed=seed).observed["digit"] for seed in (0, 0, 1))
    assert np.array_equal(one, other) and not np.array_equal(one, third)


def test_observed_entries_keep_their_values_and_noise_and_hidden_ones_are_nan() -> None:
    data = hidden(labels_per_class=5, observe_reals=0.5)
    seen, whole = data.rows(300, generator=seeded()), DIGITS.rows(300, generator=seeded())
    assert seen.numbers is not None and whole.numbers is not None and torch.equal(seen.numbers, whole.numbers)
    for name in DIGITS.space:
        known = DIGITS.space[name].expand(torch.from_numpy(data.observed[name][seen.numbers.numpy()]))
        known = known.expand_as(seen.position[name])
        assert torch.equal(seen.position[name][known], whole.position[name][known])
        assert bool(seen.position[name][~known].isnan().all()) and bool((~known).any())
    batch = data.batch(300, generator=seeded())
    assert all(torch.equal(batch[name].nan_to_num(), seen.position[name].nan_to_num()) for name in batch)
    assert all(torch.equal(data.test()[name], DIGITS.test()[name]) for name in DIGITS.space)


def test_rows_and_batch_draw_the_same_rows() -> None:
    batch, rows = DIGITS.batch(50, generator=seeded()), DIGITS.rows(50, generator=seeded())
    assert all(torch.equal(batch[name], rows.position[name]) for name in batch)
    assert rows.numbers is not None
    labels = torch.from_numpy(DIGITS.train["digit"])[rows.numbers]
    assert torch.equal(rows.position["digit"].argmax(dim=1), labels)


def test_labelled_rows_have_a_label_and_all_reals() -> None:
    data = hidden(labels_per_class=5)
    drawn = data.labelled(400, generator=seeded())
    assert drawn.numbers is not None and set(drawn.numbers.tolist()) == set(data.labelled_numbers().tolist())
    assert not any(bool(value.isnan().any()) for value in drawn.position.values())
    with pytest.raises(ValueError, match="no training row has both a label and all reals; hide fewer entries"):
        hidden(observe_reals=0.5).labelled(4, generator=seeded())
    assert len(DIGITS.labelled_numbers()) == NUM_ROWS


@pytest.mark.parametrize(
    ("data", "fields", "words"),
    [
        (Toy(), {"observe_labels": 0.5}, "rows are drawn afresh in every batch, so no entries can be hidden"),
        (DIGITS, {"labels_per_class": 1000}, "labels_per_class: got 1000, but class 0 of block 'digit' has"),
        (hidden(labels_per_class=5), {"labels_per_class": 2}, "entries are hidden already; hide them once"),
    ],
)
def test_impossible_hiding_is_refused(data: ArrayDataset, fields: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        hide(data, Hiding(**fields))  # type: ignore[arg-type]


def test_labels_per_class_is_refused_for_several_labels_per_row() -> None:
    space = Space(bits=Binary(2))
    rows = {"bits": np.zeros((4, 2), dtype=np.uint8)}
    data = ArrayDataset("bits", space, rows, rows, white=1, noise_width=0.0)
    with pytest.raises(ValueError, match="expected data with one label per row, got blocks 'bits'; set observe_labels"):
        hide(data, Hiding(labels_per_class=1))


# Runs.

TINY = override(
    find("digits"),
    [
        *(
            "num_iterations=12",
            "batch_size=16",
            "buffer_size=16",
            "num_steps=2",
            "energy.net.hidden=[8]",
            "energy.shared.net.hidden=[8]",
            "reference_labels=true",
            "reference=null",
            "warmup=0",
            "log_every=1",
        ),
        *("labels_per_class=5", "observe_reals=0.9", "checkpoint_every=4", "objective=maximum-likelihood"),
    ],
)


def test_a_run_records_its_hiding_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    def stop(metrics: Metrics) -> None:
        if metrics.iteration == 6:
            raise KeyboardInterrupt

    straight = train(TINY, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path / "stopped", on_metrics=stop)
    resumed = resume(tmp_path / "stopped")
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    recorded = json.loads((tmp_path / "straight" / "recipe.json").read_text())["train"]["hide"]
    assert recorded == {"labels_per_class": 5, "observe_labels": 1.0, "observe_reals": 0.9, "hiding_seed": 0}
    assert isinstance(straight.dataset, ArrayDataset) and not straight.dataset.observed  # evaluation sees all entries
    assert "Fields of the recipe were changed" in (tmp_path / "straight" / "model" / "README.md").read_text()


def test_a_run_that_sees_only_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="block 'image': nothing of it is observed in a batch"):
        train(override(TINY, ["observe_reals=0"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_fields_that_hide_labels_are_set_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = ("labels_per_class=3", "observe_labels=0.5")
    small = ("num_iterations=2", "batch_size=16", "buffer_size=64", "num_test_steps=2", "num_test_chains=2")
    fields = (*small, "label=null", "num_components=2", *hidden)  # few labels leave no components for each class
    out = tmp_path / "run"
    assert main(["train", "digits", *(f"--set={field}" for field in fields), "--out", str(out), "--json"]) == 0
    recorded = json.loads((out / "recipe.json").read_text())["train"]["hide"]
    assert (recorded["labels_per_class"], recorded["observe_labels"]) == (3, 0.5)
    assert json.loads(capsys.readouterr().out)["rows"] == 359
    assert main(["train", "toy", "--set=observe_labels=0.5", "--out", str(tmp_path / "toy")]) == 2
    assert "drawn afresh in every batch" in capsys.readouterr().err
