"""`jointebm sample` with models of blocks: files, summaries, and resumed chains."""

from pathlib import Path

import numpy as np
import pytest
import torch

import jointebm
from jointebm import load
from jointebm.cli.progress import StepProgress
from jointebm.data import Toy, digits
from jointebm.inference.chain_starts import chain_starts
from jointebm.storage import atomic, checkpoint
from jointebm.storage.checkpoint import Checkpoint
from support.block_models import small_config
from support.command_line import Trained, assert_refused, interrupt_after, run, snapshot


def test_sample_writes_values_per_block_and_a_picture(toy: Trained, here: Path) -> None:
    result = run("sample", toy.run, "--given", "bottom=1,point=[nan,0.25]", "--num", 9, "--out", "s.npz", "--json")
    assert result.code == 0, result.err
    with np.load("s.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert {name: array.shape for name, array in arrays.items()} == {
        "point": (9, 2),
        **dict.fromkeys(Toy().space.discrete, (9,)),
    }
    assert (arrays["bottom"] == 1).all() and (arrays["point"][:, 1] == np.float32(0.25)).all()
    assert len(np.unique(arrays["point"][:, 0])) == 9
    assert Path("s.png").read_bytes().startswith(b"\x89PNG")
    summary = result.json
    assert (summary["out"], summary["picture"], summary["num"]) == ("s.npz", "s.png", 9)
    assert summary["counts"] == {n: np.bincount(arrays[n], minlength=2).tolist() for n in Toy().space.discrete}
    position, _ = Toy().space.encode(arrays)
    with torch.no_grad():
        assert summary["mean_f"] == pytest.approx(float(load(toy.run / "model")(position).mean()), rel=1e-5)
    assert summary["accept_rate"].keys() == {"Jump", "GibbsWithGradients", "MALA(point)"}
    assert sorted(path.name for path in here.iterdir()) == ["s.npz", "s.png"]


def test_samples_are_those_of_the_library_with_the_same_seed(toy: Trained, here: Path) -> None:
    model = load(toy.run / "model")
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert run("sample", toy.run, "--num", 4, "--steps", 3, "--seed", seed, "--out", f"{name}.npz").code == 0
    expected = model.sample(4, seed=5, num_steps=3)
    a, b, c = (np.load(here / f"{name}.npz")["point"] for name in "abc")
    assert (a == expected["point"].numpy()).all() and (a == b).all() and not (a == c).any()


def test_thin_keeps_states_on_the_way_and_ends_where_sampling_ends(toy: Trained, here: Path) -> None:
    ask = ("sample", toy.run, "--num", 3, "--steps", 6)
    assert run(*ask, "--out", "end.npz").code == 0
    assert run(*ask, "--out", "way.npz", "--thin", 2).code == 0
    end, way = np.load(here / "end.npz"), np.load(here / "way.npz")
    assert way["point"].shape == (3, 3, 2) and way["left"].shape == (3, 3)
    assert all((way[name][-1] == end[name]).all() for name in end.files)
    assert not (way["point"][0] == end["point"]).any()


def test_given_arrays_are_clamped_bit_for_bit_and_their_nans_are_filled(digits_model: Path, here: Path) -> None:
    image = digits().test()["image"][:5].numpy()
    holes = image.copy()
    holes[:, 3:] = np.nan
    np.savez("half.npz", image=holes)
    result = run("sample", digits_model, "--given", "image=@half.npz,digit=4", "--out", "full.npz", "--json")
    assert result.code == 0 and result.json["num"] == 5 and result.json["counts"]["digit"][4] == 5
    full = np.load("full.npz")
    assert (full["image"][:, :3] == image[:, :3]).all() and np.isfinite(full["image"]).all()
    assert not (full["image"][:, 3:] == image[:, 3:]).any()
    assert (here / "full.png").exists()
    # One row is given to every chain.
    np.savez("one.npz", image=holes[:1])
    result = run("sample", digits_model, "--given", "image=@one.npz", "--num", 3, "--out", "three.npz")
    assert result.code == 0 and (np.load("three.npz")["image"][:, :3] == image[:1, :3]).all()


def test_given_lists_reach_the_variables_of_a_shaped_block(here: Path) -> None:
    space = jointebm.Space(x=jointebm.Continuous(3), bits=jointebm.Binary(3), group=jointebm.Categorical((2, 5)))
    jointebm.Model(small_config(space)).save(here / "model")
    given = ("--given", "bits=[1,-1,0]", "--given", "group=[-1,4],x=[0.5,nan,-1e-3]")
    result = run("sample", here, *given, "--num", 64, "--steps", 5, "--out", "s.npz", "--json")
    counts = result.json["counts"]
    assert (counts["bits[0]"], counts["bits[2]"], counts["group[1]"]) == ([0, 64], [64, 0], [0, 0, 0, 0, 64])
    assert min(counts["bits[1]"]) > 0 and min(counts["group[0]"]) > 0
    x = np.load("s.npz")["x"]
    assert (x[:, [0, 2]] == np.float32([0.5, -1e-3])).all() and len(np.unique(x[:, 1])) == 64
    assert result.json["picture"] is None and "no picture: no block is an image" in result.err


def test_sample_without_out_prints_a_summary_and_writes_nothing(toy: Trained, here: Path) -> None:
    result = run("sample", toy.run, "--given", "left=0", "--num", 5)
    assert result.code == 0 and list(here.iterdir()) == []
    assert "5 samples after 4 steps" in result.out and "mean f" in result.out and "5 0" in result.out


def test_ctrl_c_without_out_prints_the_summary_of_the_steps_done(
    toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(3, monkeypatch)
    result = run("sample", toy.run, "--num", 2, "--steps", 50, "--json")
    assert result.code == 130 and result.err == (
        "jointebm: interrupted after 3 of 50 steps; without --out, nothing is saved\n"
    )
    assert result.json["interrupted"] and result.json["num_steps"] == 3 and list(here.iterdir()) == []


@pytest.fixture
def chains(toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of chains that were interrupted after 3 of 20 steps."""
    with monkeypatch.context() as patch:
        interrupt_after(3, patch)
        result = run("sample", toy.run, "--num", 5, "--steps", 20, "--given", "left=1", "--out", "s.npz", "--json")
    assert (result.code, result.json["interrupted"], result.json["num_steps"]) == (130, True, 3)
    next_step = f"resume with: jointebm sample --resume s.chains --threads {torch.get_num_threads()}"
    assert result.err == f"jointebm: interrupted after 3 of 20 steps; {next_step}\n"
    assert [path.name for path in here.iterdir()] == ["s.chains"]
    return Path("s.chains")


@pytest.mark.parametrize("thin", [(), ("--thin", 3)])
@pytest.mark.parametrize("every", [1, 7, 0])
@pytest.mark.parametrize("stops", [(1,), (3, 4), (2, 6, 20)])
def test_resumed_sampling_writes_the_file_of_an_uninterrupted_run(
    stops: tuple[int, ...],
    every: int,
    thin: tuple[object, ...],
    toy: Trained,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = ("sample", toy.run, "--num", 5, "--steps", 20, "--seed", 4, "--given", "left=1", *thin)
    whole = run(*ask, "--out", "whole.npz", "--json")
    words: tuple[object, ...] = (*ask, "--out", "s.npz")
    for stop in stops:
        with monkeypatch.context() as patch:
            interrupt_after(stop, patch)
            assert run(*words, "--checkpoint-every", every).code == 130
        assert [path.name for path in (here / "s.chains").iterdir() if path.is_dir()] == [f"{stop:09d}"]
        words = ("sample", "--resume", "s.chains")
    resumed = run(*words, "--checkpoint-every", every, "--json")
    assert resumed.code == 0, resumed.err
    for ending in (".npz", ".png"):
        assert (here / f"s{ending}").read_bytes() == (here / f"whole{ending}").read_bytes()
    ignored = dict.fromkeys(("out", "picture", "model"))
    assert resumed.json | ignored == whole.json | ignored
    assert sorted(path.name for path in here.iterdir()) == ["s.npz", "s.png", "whole.npz", "whole.png"]


def test_killed_sampling_resumes_from_its_last_checkpoint(
    toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kill -9` leaves chains on disk and no lock."""
    ask = ("sample", toy.run, "--num", 5, "--steps", 20, "--seed", 4)
    assert run(*ask, "--out", "whole.npz").code == 0
    with monkeypatch.context() as patch:
        interrupt_after(13, patch, RuntimeError("killed"))
        with pytest.raises(RuntimeError, match="killed"):
            run(*ask, "--out", "s.npz", "--checkpoint-every", 5)
    assert [path.name for path in (here / "s.chains").iterdir() if path.is_dir()] == ["000000010"]
    assert run("sample", "--resume", "s.chains").code == 0
    assert (here / "s.npz").read_bytes() == (here / "whole.npz").read_bytes()


@pytest.mark.parametrize("words", ["TOY", "--seed 0", "--given left=1", "--out s.npz"])
def test_resumed_sampling_takes_no_option_that_defines_the_run(words: str, chains: Path) -> None:
    before = snapshot(chains)
    option = "MODEL" if "TOY" in words else words.split()[0]
    assert_refused(run("sample", "--resume", chains, *words.split()), f"leave out {option}")
    assert snapshot(chains) == before


def test_resumed_sampling_refuses_changed_weights_and_other_folders(
    toy: Trained, chains: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("jointebm.cli.blocks.sample_run.weights_digest", lambda path: "0" * 64)  # noqa: ARG005
        assert_refused(run("sample", "--resume", chains), "model.safetensors: SHA-256 differs from that of the weights")
    assert_refused(run("sample", "--resume", "no.chains"), "no.chains: no such folder")
    (here / "empty.chains").mkdir()
    assert_refused(run("sample", "--resume", "empty.chains"), "empty.chains: holds no checkpoint")
    checkpoint.write(here / "empty.chains", Checkpoint(1, {}, {"model": "m"}), keep=1)
    assert_refused(run("sample", "--resume", "empty.chains"), "holds no chains of 'jointebm sample': ")
    assert_refused(run("sample", toy.run, "--out", "s.npz"), "s.chains: exists; resume it with", "--resume s.chains")
    assert_refused(run("sample"), "name a MODEL, or pass --resume FILE.chains")
    with atomic.lock(chains / "lock"):
        assert_refused(run("sample", "--resume", chains), "s.chains: another process is at work")
    (here / "s.npz").touch()
    assert_refused(run("sample", "--resume", chains), "s.npz: exists")


def test_chains_that_do_not_fit_the_model_are_refused_in_a_line(chains: Path) -> None:
    found = checkpoint.newest(chains).checkpoint
    assert found is not None
    for name, tensor in found.tensors.items():
        for wrong in ({}, {name: torch.zeros(3, 3, 3)}, {name: tensor, "more": tensor}, {name: tensor.short()}):
            tensors = {other: value for other, value in found.tensors.items() if other != name} | wrong
            checkpoint.write(chains, found._replace(tensors=tensors), keep=1)
            assert_refused(run("sample", "--resume", chains), "chains: ")


def test_a_damaged_checkpoint_of_chains_is_refused_in_a_line(chains: Path) -> None:
    file = chains / "000000003" / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert_refused(run("sample", "--resume", chains), "state.safetensors: damaged")


def test_sampling_does_not_touch_chains_of_another_process(
    toy: Trained, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process with the same --out wrote its chains while this one was at work."""
    show = StepProgress.show

    def other_process(self: StepProgress, num_done: int, figures: str = "") -> None:
        show(self, num_done, figures)
        (here / "s.chains").mkdir(exist_ok=True)
        (here / "s.chains" / "precious").write_text("theirs")

    monkeypatch.setattr(StepProgress, "show", other_process)
    assert run("sample", toy.run, "--num", 2, "--steps", 3, "--out", "s.npz").code == 0
    assert (here / "s.chains" / "precious").read_text() == "theirs" and (here / "s.npz").exists()


@pytest.mark.usefixtures("here")
def test_a_pretrained_model_is_called_by_its_name() -> None:
    asked = ("sample", "pretrained:toy", "--num", 2, "--steps", 1, "--json")
    assert run(*asked).json["model"] == "pretrained:toy"
    assert run(*asked, "--out", "s.npz").json["model"] == "pretrained:toy"


@pytest.mark.usefixtures("here")
def test_diagnostics_are_those_of_the_kept_states(toy: Trained) -> None:
    """The same with a file and without one."""
    model, generator = load(toy.run / "model"), torch.Generator().manual_seed(0)
    trajectory = jointebm.sample_trajectory(
        model,
        model.space,
        model.kernel,
        num_chains=5,
        num_steps=20,
        thin=2,
        init=chain_starts(model, 5, {}, generator),
        generator=generator,
    )
    expected = {name: each.ess_bulk for name, each in trajectory.convergence().items()}
    ask = ("sample", toy.run, "--num", 5, "--steps", 20, "--thin", 2, "--diagnostics")
    for more in ((), ("--out", "d.npz")):
        found = run(*ask, *more, "--json").json["convergence"]
        assert {name: each["ess_bulk"] for name, each in found.items()} == pytest.approx(
            expected, rel=1e-5, nan_ok=True
        )
        assert set(found["f"]) == {"mean", "standard_error", "r_hat", "ess_bulk", "ess_tail"}
    assert "convergence of" in run(*ask).out and "R-hat" in run(*ask).out
    assert "convergence" not in run(*ask[:-1], "--json").json
    for wrong in (("--steps", 20), ("--steps", 20, "--thin", 3)):
        assert_refused(run("sample", toy.run, *wrong, "--diagnostics"), "at least 8 are needed: pass --thin K")
