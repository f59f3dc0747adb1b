"""`jointebm predict` with models of blocks."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jointebm import load, predict
from jointebm.data import Toy
from support.command_line import Trained, run


@pytest.fixture
def rows(here: Path) -> dict[str, np.ndarray]:
    values = {name: value.numpy() for name, value in Toy(num_test=30).test().items()}
    np.savez("points.npz", point=values["point"])
    np.savez("all.npz", **values)  # type: ignore[arg-type]
    np.savez("some.npz", point=values["point"], bottom=values["bottom"], left=np.full(30, -1))
    assert here.exists()
    return values


@pytest.mark.parametrize("method", ["exact", "gibbs", "sample"])
def test_predictions_are_those_of_the_library(toy: Trained, rows: dict[str, np.ndarray], method: Any) -> None:
    model = load(toy.run / "model")
    result = run("predict", toy.run, "points.npz", "--method", method, "--seed", 2, "--json").json
    generator = torch.Generator().manual_seed(2)
    expected = predict(model, {"point": rows["point"]}, Toy().space.discrete, method=method, generator=generator)
    assert (result["rows"], result["method"]) == (30, method)
    assert result["labels"] == {name: labels.tolist() for name, labels in expected.labels.items()}
    assert result["probs"] == {name: probs.tolist() for name, probs in expected.probs.items()}


def test_only_targets_are_predicted_and_known_labels_are_used(toy: Trained, rows: dict[str, np.ndarray]) -> None:
    model = load(toy.run / "model")
    result = run("predict", toy.run, "some.npz", "--json").json
    assert result["labels"].keys() == {"left", "diagonal"}  # bottom is known
    known = {"point": rows["point"], "bottom": rows["bottom"]}
    assert result["probs"]["left"] == predict(model, known, "left").probs["left"].tolist()
    assert run("predict", toy.run, "some.npz", "--target", "left", "--json").json["labels"].keys() == {"left"}


def test_known_labels_of_a_target_are_ignored(toy: Trained, rows: dict[str, np.ndarray]) -> None:
    model = load(toy.run / "model")
    result = run("predict", toy.run, "all.npz", "--target", "left", "--json")
    assert result.err == "jointebm: block 'left': ignoring its labels in all.npz, since all are known\n"
    known = {name: value for name, value in rows.items() if name != "left"}
    assert result.json["probs"]["left"] == predict(model, known, "left").probs["left"].tolist()


def test_predictions_are_written_as_npz_and_as_csv(toy: Trained, rows: dict[str, np.ndarray]) -> None:
    for name in ("p.npz", "p.csv"):
        assert run("predict", toy.run, "points.npz", "--out", name).code == 0
    expected = predict(load(toy.run / "model"), {"point": rows["point"]}, Toy().space.discrete)
    arrays = np.load("p.npz", allow_pickle=False)
    with open("p.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 30 and len(arrays.files) == 6
    for name in Toy().space.discrete:
        assert (arrays[f"labels_{name}"] == expected.labels[name].numpy()).all()
        assert (arrays[f"probs_{name}"] == expected.probs[name].numpy()).all()
        assert [int(row[name]) for row in table] == expected.labels[name].tolist()
        for label in (0, 1):
            column = [float(row[f"{name}={label}"]) for row in table]
            assert column == expected.probs[name][:, label].tolist()


def test_predict_prints_labels_with_their_probability(toy: Trained, rows: dict[str, np.ndarray]) -> None:
    out = run("predict", toy.run, "points.npz", "--target", "left").out
    expected = predict(load(toy.run / "model"), {"point": rows["point"]}, "left")
    label = int(expected.labels["left"][0])
    assert f"{label} ({float(expected.probs['left'][0, label]):.3f})" in out and "10 more rows" in out
