"""Specification of resuming: an interrupted and resumed run equals the uninterrupted one bit for bit, except the seconds."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm import Trainer
from jointebm.recipes import override
from jointebm.recipes.catalogue import find
from jointebm.runs import training_run as runs
from jointebm.runs.training_run import resume, train
from jointebm.storage import checkpoint
from jointebm.storage.atomic import lock
from jointebm.training.trainer import Metrics
from support.resumed_runs import (
    CONFIG,
    DIVERGES,
    KERNELS,
    NUM,
    SPACE,
    Diverging,
    Sound,
    assert_same,
    stepwise,
    stops_after,
    through_disk,
)


def random_batch(num: int, *, generator: torch.Generator) -> dict[str, Tensor]:
    labels = torch.randint(3, (num,), generator=generator)
    return {"x": labels[:, None] + torch.randn(num, 2, generator=generator), "y": torch.eye(3)[labels]}


def make(kernel: str, network: type[Sound]) -> Trainer:
    log_density = network()
    trainer = Trainer(log_density, SPACE, random_batch, kernel=KERNELS[kernel], config=CONFIG, seed=7)
    if isinstance(log_density, Diverging):
        object.__setattr__(log_density, "trainer", trainer)
    return trainer


@pytest.mark.slow
def test_a_trainer_resumed_from_any_step_reaches_the_same_end(tmp_path: Path) -> None:
    """From every step of a run with restarted chains and a rollback: resumed from disk and trained to the end."""
    states = stepwise(make("gibbs + mala", Diverging))
    actions = [intervention["action"] for intervention in states[-1].plain["interventions"]]
    assert actions == ["restarted chains"] * 3 + ["rolled back"]
    assert {state.iteration for state in states} == set(range(1, NUM + 1)) and len(states) == NUM + DIVERGES - 30
    for index, state in enumerate(states):
        resumed = make("gibbs + mala", Diverging)
        resumed.restore(through_disk(state, tmp_path / "checkpoints"))
        torch.rand(3)  # the global generator has no effect
        metrics = list(resumed.run())
        assert_same(resumed.state(), states[-1])
        assert len(metrics) == len(states) - index - 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_trainer_resumed_after_each_step_reaches_the_same_end(kernel: str, tmp_path: Path) -> None:
    """One session per step, each with a fresh trainer, compared with the uninterrupted run after each."""
    states = stepwise(make(kernel, Sound))
    trainer = make(kernel, Sound)
    for state in states:
        trainer.step()
        assert_same(trainer.state(), state)
        left, trainer = trainer, make(kernel, Sound)
        trainer.restore(through_disk(left.state(), tmp_path / "checkpoints"))
    assert len(states) == NUM


# Runs.

TINY = override(
    find("toy"),
    [
        *(f"num_iterations={NUM}", "batch_size=8", "buffer_size=16", "num_steps=1", "hidden=[4]", "warmup=5"),
        *("decay=cosine", "replacement_rate=0.2", "discrete=gibbs", "continuous=mala", "log_every=1"),
        *("snapshot_every=5", "checkpoint_every=30", "max_rollbacks=100"),
    ],
)


@pytest.fixture
def easily_alarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lowers the thresholds of divergence, so that healthy runs roll back."""
    monkeypatch.setattr("jointebm.training.divergence.SETTLED", 10)
    monkeypatch.setattr("jointebm.training.divergence.MAX_GROWTH", 0.8)


def lines_of(path: Path) -> bytes:
    """metrics.jsonl with its seconds set to zero."""
    return re.sub(rb'"seconds": [0-9.e-]+', b'"seconds": 0', (path / "metrics.jsonl").read_bytes())


@pytest.mark.slow
@pytest.mark.usefixtures("easily_alarmed")
def test_a_run_interrupted_anywhere_and_resumed_writes_the_same_files(tmp_path: Path) -> None:
    num_calls: list[Metrics] = []
    straight = train(TINY, tmp_path / "straight", seed=3, on_metrics=num_calls.append)
    assert b"rolled back" in lines_of(straight.path) and len(num_calls) > NUM
    for stop in (1, 2, 29, 30, 50, 99, 100, len(num_calls)):
        path = tmp_path / f"{stop}"
        with pytest.raises(KeyboardInterrupt):
            train(TINY, path, seed=3, on_metrics=stops_after(stop))
        assert not (path / "model").exists()
        resumed = resume(path)
        assert lines_of(path) == lines_of(straight.path), stop
        for name in ("config.json", "model.safetensors"):
            assert (path / "model" / name).read_bytes() == (straight.path / "model" / name).read_bytes()
        assert resumed.metrics._replace(seconds=0) == straight.metrics._replace(seconds=0)
        newest = checkpoint.newest(path / "checkpoints").checkpoint
        assert newest is not None and newest.plain["recipe"] == json.loads(TINY.model_dump_json())


@pytest.mark.usefixtures("easily_alarmed")
@pytest.mark.parametrize("checkpoint_every", [0, 7])
def test_a_killed_run_resumes_from_its_last_checkpoint(checkpoint_every: int, tmp_path: Path) -> None:
    """No final checkpoint, a torn last line of metrics, and lines after the last checkpoint."""
    recipe = override(TINY, [f"checkpoint_every={checkpoint_every}"])
    straight = train(recipe, tmp_path / "straight", seed=3)

    def die(metrics: Metrics) -> None:
        if metrics.iteration == 40:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(recipe, tmp_path / "killed", seed=3, on_metrics=die)
    with (tmp_path / "killed" / "metrics.jsonl").open("ab") as file:
        file.write(b'{"iteration": 4')
    resumed = resume(tmp_path / "killed")
    assert lines_of(resumed.path) == lines_of(straight.path)
    weights = [(run.path / "model" / "model.safetensors").read_bytes() for run in (straight, resumed)]
    assert weights[0] == weights[1]


# Refused.


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path / "run", on_metrics=stops_after(3))
    return tmp_path / "run"


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the plain state of the newest checkpoint, with valid checksums."""
    found = checkpoint.newest(path / "checkpoints").checkpoint
    assert found is not None
    change(found.plain)
    checkpoint.write(path / "checkpoints", found, keep=1)


@pytest.mark.parametrize(
    ("assignment", "field"),
    [
        ("learning_rate=0.5", "train.learning_rate"),
        ("hidden=[5]", "energy.net.hidden"),
        ("hidden=[1000000000000]", "energy.net.hidden"),
        ("num_iterations=101", "train.num_iterations"),
        ("buffer_size=17", "train.buffer_size"),
        ("discrete=gibbs-with-gradients", "kernel.discrete"),
    ],
)
def test_a_changed_recipe_is_refused_by_the_name_of_the_field(assignment: str, field: str, interrupted: Path) -> None:
    (interrupted / "recipe.json").write_text(override(TINY, [assignment]).model_dump_json())
    with pytest.raises(
        ValueError, match=rf"recipe.json: field '{field}' is .*, but the checkpoint of iteration 3 was"
    ) as e:
        resume(interrupted)
    assert "\n" not in str(e.value) and "restore that value, or train a new run" in str(e.value)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("recipe", "its recipe is not one of this version"),
        ("metrics_bytes", "lacks the length of metrics.jsonl"),
        ("seed", "seed is 0, but the checkpoint of iteration 3 was written with None"),
    ],
)
def test_a_checkpoint_without_a_field_of_runs_is_refused(interrupted: Path, key: str, words: str) -> None:
    rewrite(interrupted, lambda plain: plain.pop(key))
    with pytest.raises(ValueError, match=words):
        resume(interrupted)


def test_another_seed_is_refused_and_another_thread_count_reported(interrupted: Path) -> None:
    facts = json.loads((interrupted / "run.json").read_text())
    (interrupted / "run.json").write_text(json.dumps({**facts, "seed": 77}))
    with pytest.raises(ValueError, match=r"run.json: seed is 77, but the checkpoint of iteration 3 was written with 0"):
        resume(interrupted)
    (interrupted / "run.json").write_text(json.dumps({**facts, "threads": 99}))
    told: list[str] = []
    resume(interrupted, on_damage=told.append)
    assert len(told) == 1 and "started with threads 99, now" in told[0] and "the bits will differ" in told[0]


def test_a_checkpoint_with_valid_checksums_and_wrong_content_is_refused_in_one_line(interrupted: Path) -> None:
    found = checkpoint.newest(interrupted / "checkpoints").checkpoint
    assert found is not None
    for key in ("schedule", "scales", "snapshots", "interventions", "metrics", "recipe"):
        for wrong in (7, [7], {"a": 7}, "seven"):
            checkpoint.write(interrupted / "checkpoints", found._replace(plain={**found.plain, key: wrong}), keep=1)
            with pytest.raises((ValueError, TypeError), match="checkpoint") as caught:
                resume(interrupted)
            assert "\n" not in str(caught.value), key


def test_a_run_folder_without_machine_facts_is_resumed(interrupted: Path) -> None:
    (interrupted / "run.json").write_text('{"seed": 0}')
    run = resume(interrupted)
    card = (run.path / "model" / "README.md").read_text()
    assert "on unknown threads (unknown)" in card and "torch unknown" in card


def test_a_second_process_on_the_same_run_is_refused(interrupted: Path) -> None:
    with (
        lock(interrupted / "lock"),
        pytest.raises(BlockingIOError, match="run: another process is at work on this run"),
    ):
        resume(interrupted)


def test_with_every_checkpoint_damaged_the_run_does_not_restart(interrupted: Path) -> None:
    (interrupted / "checkpoints" / "000000003" / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"manifest.json: damaged: .*none of the 1 checkpoints is intact.*remove"):
        resume(interrupted)
    assert runs.recipe_of(interrupted) == TINY and not (interrupted / "model").exists()
