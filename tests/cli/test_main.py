"""Every command: help, exit codes, and one line for each error."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import jointebm
from jointebm import load
from jointebm.data import Toy
from support.command_line import Result, Trained, assert_refused, run, snapshot

COMMANDS = ("fit", "impute", "score", "recipes", "data", "train", "evaluate", "figures", "predict", "sample")


def test_help_and_version_are_printed_to_standard_output() -> None:
    assert run("--version") == (0, f"jointebm {jointebm.__version__}\n", "")
    for arguments in ((), ("--help",)):
        result = run(*arguments)
        assert result.code == 0 and result.err == "" and all(name in result.out for name in COMMANDS)
    assert "--given" in run("sample", "--help").out


def test_help_version_and_recipes_do_not_import_torch() -> None:
    """Importing torch takes several times as long as all else that these commands do."""
    asks = [["--help"], ["--version"], ["recipes"], ["recipes", "toy"], *([name, "--help"] for name in COMMANDS)]
    script = f"""
import sys
from jointebm.cli import main
for ask in {asks!r}:
    assert main(ask) == 0
    assert "torch" not in sys.modules, ask
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_the_package_runs_as_a_module_and_completes_words() -> None:
    module = [sys.executable, "-m", "jointebm"]
    shown = subprocess.run([*module, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"jointebm {jointebm.__version__}\n"
    words = {"_JOINTEBM_COMPLETE": "complete_bash", "COMP_WORDS": "jointebm tr", "COMP_CWORD": "1"}
    completed = subprocess.run(module, env=os.environ | words, capture_output=True, text=True, check=False)
    assert completed.stdout.split() == ["train"]
    wrong = subprocess.run([*module, "train", "nope"], capture_output=True, text=True, check=False)
    assert_refused(Result(wrong.returncode, wrong.stdout, wrong.stderr), "'nope'")


def test_threads_sets_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        assert run("train", "nothing", "--threads", before + 1).code == 2
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_pretrained_names_a_model_of_the_package(toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(toy.run / "model").save(here / "pretrained" / "small")
    monkeypatch.setattr("jointebm.inference.pretrained.files", lambda package: {"jointebm": here}[package])
    assert run("sample", "pretrained:small", "--num", 2, "--json").json["num"] == 2
    assert_refused(run("sample", "pretrained:large"), "pretrained:large", "available: small")
    assert_refused(run("sample", "pretrained:../small"), "pretrained:../small", "available: small")
    assert_refused(run("sample", "nothing"), "nothing: no such folder", "one of small")


# What the library refuses is tested there; here is what the command line adds, and one case of each kind.
WRONG: dict[str, tuple[str, list[str]]] = {
    "unknown command": ("trian toy", ["'trian'", "Did you mean 'train'?", "--help"]),
    "unknown option": ("train toy --sed 3", ["--sed", "--seed", "'jointebm train --help'"]),
    "no argument": ("evaluate", ["MODEL", "--help"]),
    "one argument too many": ("evaluate TOY again", ["again"]),
    "unknown recipe": ("train nope", ["'nope'", "toy, digits, mnist"]),
    "no value": ("train toy --set num_iterations", ["'num_iterations'", "key=value"]),
    "unknown block to scale": ("""train toy --set scale={"z":2}""", ["'z'", "'point'"]),
    "negative seed": ("train toy --seed -1", ["--seed", "'-1'", "from 0"]),
    "missing data folder": ("train toy --data nowhere", ["--data", "nowhere", "JOINTEBM_DATA"]),
    "run folder that exists": ("train toy --out TOY", ["TOY: exists", "choose another"]),
    "missing model": ("evaluate nowhere", ["nowhere: no such folder", "model folder", "pretrained:NAME"]),
    "folder without a model": ("evaluate .", [".: holds neither config.json nor model/config.json"]),
    "config.json that is none": ("evaluate bad_config", ["bad_config/config.json: not a model configuration"]),
    "weights that are none": ("evaluate bad_weights", ["bad_weights/model.safetensors: not a safetensors file"]),
    "unknown pretrained model": ("sample pretrained:nope", ["pretrained:nope", "available: "]),
    "unknown decoder": ("evaluate TOY --methods exact,best", ["'best'", "sample, gibbs, exact"]),
    "more rows than there are": ("evaluate TOY --rows 61", ["--rows 61", "60 test rows"]),
    "no images to compare with": ("evaluate TOY --ood", ["data 'toy'", "Fashion-MNIST", "28 x 28 pixels"]),
    "label that is no number": ("sample TOY --given left=yes", ["'left=yes'", "neither a number nor a list"]),
    "list that is not closed": ("sample TOY --given point=[1,2", ["'point=[1,2'", "neither a number nor a list"]),
    "list too deep": (f"sample TOY --given point={'[' * 9999}{']' * 9999}", ["neither a number nor a list"]),
    "no pair": ("sample TOY --given left", ["'left'", "block=value"]),
    "block given twice": ("sample TOY --given left=1 --given left=0", ["duplicate block 'left'"]),
    "missing file": ("sample TOY --given point=@no.npz", ["no.npz: no such file"]),
    "file without the block": ("sample TOY --given left=@points.npz", ["left=@points.npz", "it has 'point'"]),
    "rows that are not as many as samples": (
        "sample TOY --given point=@points.npz --num 7",
        ["--num 7", "holds 30 rows"],
    ),
    "files of different lengths": (
        "sample TOY --given point=@points.npz --given left=[0,1]",
        ["different numbers of rows, [2, 30]"],
    ),
    "existing output": ("sample TOY --out points.npz", ["points.npz: exists", "choose another name"]),
    "existing picture": ("sample TOY --out picture.npz", ["picture.png: exists"]),
    "output of another kind": ("sample TOY --out s.txt", ["s.txt", "'.txt'", ".npz"]),
    "samples beyond counting": (f"sample TOY --num {10**30}", ["--num", "1000000000"]),
    "no steps to keep": ("sample TOY --steps 5 --thin 6", ["--thin 6", "5 steps"]),
    "text instead of npz": ("predict TOY note.txt", ["note.txt: not an npz file", "numpy.savez"]),
    "rows of an unknown block": ("predict TOY strange.npz", ["'strange'", "'point'"]),
    "nothing to predict": ("predict TOY all.npz", ["no label is missing", "--target"]),
    "unknown method": ("predict TOY points.npz --method best", ["--method", "'best'", "'exact', 'gibbs', 'sample'"]),
    "predictions of another kind": ("predict TOY points.npz --out p.json", ["'.json'", ".npz or .csv"]),
}


@pytest.fixture(scope="module")
def corner(toy: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the wrong commands name."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "TOY").symlink_to(toy.run)
    (folder / "note.txt").write_text("nothing\n")
    (folder / "picture.png").write_text("nothing\n")
    values = {name: value.numpy() for name, value in Toy(num_test=30).test().items()}
    point = values["point"]
    np.savez(folder / "points.npz", point=point)
    np.savez(folder / "all.npz", **values)  # type: ignore[arg-type]
    np.savez(folder / "left.npz", left=values["left"])
    np.savez(folder / "gap.npz", point=np.where(np.arange(30)[:, None] == 1, np.nan, point))
    np.savez(folder / "strange.npz", strange=point)
    for name, file in (("bad_config", "config.json"), ("bad_weights", "model.safetensors")):
        load(toy.run / "model").save(folder / name)
        (folder / name / file).write_text("{}")
    return folder


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_changes_nothing(case: str, corner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words, fragments = WRONG[case]
    monkeypatch.chdir(corner)
    before = snapshot(corner)
    assert_refused(run(*words.split()), *fragments)
    assert snapshot(corner) == before


def test_an_error_is_one_line_whatever_it_quotes(here: Path) -> None:
    assert_refused(run("evaluate", here / "no\nwhere"), "no where: no such folder")


def test_running_out_of_memory_is_one_line_and_a_bug_is_not_hidden(
    toy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(error: Exception) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise error

        return fail

    full = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
    for error in (full, MemoryError()):
        monkeypatch.setattr("jointebm.cli.blocks.sample_run.begin_sampling", failing(error))
        result = run("sample", toy.run)
        assert result.code == 1 and result.err == (
            "jointebm: error: not enough memory; ask for fewer samples, chains or rows at once\n"
        )
    monkeypatch.setattr("jointebm.cli.blocks.sample_run.begin_sampling", failing(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        run("sample", toy.run)


def test_ctrl_c_during_evaluation_is_one_line(toy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jointebm.cli.blocks.evaluate.evaluate_model", interrupted)
    assert run("evaluate", toy.run) == (130, "", "jointebm: interrupted\n")
