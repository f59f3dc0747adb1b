"""Models on the Hub: pushed and loaded again through the real library, which talks to a stand-in on this machine."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

import jointebm
from jointebm import JointEBM
from jointebm.storage import hub as storage_hub
from jointebm.storage.hub import is_hub_name
from support.hub_server import Hub, serving, sha

FILES = ["README.md", "config.json", "model.safetensors"]
QUICK = {"num_visits": 0, "rows_per_component": 20, "prior_strength": 0.1}
TABLE = pd.DataFrame({"size": [1.0, 1.2, 5.0, 5.2] * 20, "kind": ["cat", "cat", "dog", "dog"] * 20})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.chdir(tmp_path)
    with serving(Hub()) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        template = f"{served.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "")
        yield served


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def pushed(hub: Hub, files: dict[str, bytes], name: str = "some/one") -> str:
    hub.repositories[name] = [files]
    return name


def toy_files() -> dict[str, bytes]:
    return files_of(Path(jointebm.__file__).parent / "pretrained" / "toy")


def test_a_block_model_comes_back_with_every_bit(hub: Hub) -> None:
    model = jointebm.load("pretrained:toy")
    address = model.push_to_hub("someone/my-toy", private=True, message="First", token="hf_secret")
    assert address.endswith(f"/someone/my-toy/commit/{sha('someone/my-toy', 0)}")
    assert hub.private == {"someone/my-toy"} and set(hub.tokens) == {"Bearer hf_secret"}
    assert sorted(hub.repositories["someone/my-toy"][0]) == FILES
    loaded = jointebm.load("someone/my-toy")
    assert loaded.config == model.config
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())


def test_a_table_model_comes_back_and_its_card_has_front_matter(hub: Hub) -> None:
    model = JointEBM(training=QUICK, random_state=0).fit(TABLE)
    model.push_to_hub("someone/animals")
    card = hub.repositories["someone/animals"][0]["README.md"].decode()
    assert card.startswith("---\nlicense: unknown\nlibrary_name: jointebm\ntags:\n- energy-based-model\n")
    for loaded in (jointebm.load("someone/animals"), JointEBM.load("someone/animals")):
        assert isinstance(loaded, JointEBM)
        assert (loaded.score_samples(TABLE) == model.score_samples(TABLE)).all()


@pytest.mark.usefixtures("hub")
def test_a_second_push_replaces_files_and_a_revision_finds_the_first() -> None:
    jointebm.load("pretrained:toy").push_to_hub("someone/m")
    jointebm.load("pretrained:digits").push_to_hub("someone/m")
    assert jointebm.load("someone/m").config.name == "digits"
    assert jointebm.load("someone/m", revision=sha("someone/m", 0)).config.name == "toy"
    with pytest.raises(FileNotFoundError, match="someone/m: no revision 'nowhere' on the Hub"):
        jointebm.load("someone/m", revision="nowhere")


def test_a_folder_on_this_machine_comes_first(hub: Hub) -> None:
    pushed(hub, {"config.json": b"", "model.safetensors": b""}, "runs/toy")
    jointebm.load("pretrained:toy").save(Path("runs/toy"))
    hub.asked.clear()
    assert jointebm.load("runs/toy").config.name == "toy" and hub.asked == []
    with pytest.raises(ValueError, match="revision 'main' is for models on the Hub"):
        jointebm.load("runs/toy", revision="main")


def test_files_of_a_stranger_are_checked_like_any_others(hub: Hub) -> None:
    files = toy_files()
    config = json.loads(files["config.json"])
    config["kernel"]["step_size"] = -1
    name = pushed(hub, {**files, "config.json": json.dumps(config).encode()})
    with pytest.raises(ValueError, match=r"config.json: .*step_size"):
        jointebm.load(name)
    name = pushed(hub, {**files, "model.safetensors": files["model.safetensors"][:-8]}, "some/torn")
    with pytest.raises(ValueError, match="not a safetensors file"):
        jointebm.load(name)


def test_nothing_but_the_files_of_a_model_is_downloaded(hub: Hub, tmp_path: Path) -> None:
    name = pushed(hub, {**toy_files(), "model.py": b"raise SystemExit", "weights.pkl": b"cos\nsystem\n"})
    jointebm.load(name)
    assert not [asked for asked in hub.asked if asked.endswith((".py", ".pkl"))]
    assert sorted({path.name for path in (tmp_path / "cache").rglob("snapshots/*/*")}) == FILES


def test_sizes_are_checked_before_anything_is_downloaded(hub: Hub) -> None:
    name = pushed(hub, toy_files())
    hub.sizes["model.safetensors"] = 1 << 40
    with pytest.raises(ValueError, match=r"some/one: its files have .* bytes, and at most 4294967296 are downloaded"):
        jointebm.load(name)
    assert not [asked for asked in hub.asked if "/resolve/" in asked]


def test_what_is_no_model_is_refused_in_one_line(hub: Hub) -> None:
    pushed(hub, {"pytorch_model.bin": b"x"})
    with pytest.raises(FileNotFoundError, match=r"some/one: this repository misses config\.json and model.safetensors"):
        jointebm.load("some/one")
    with pytest.raises(FileNotFoundError, match="no/body: no such folder, and no such model on the Hub") as found:
        jointebm.load("no/body")
    assert "\n" not in str(found.value)


def test_without_a_connection_the_cached_copy_is_taken(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    name = pushed(hub, toy_files())
    assert jointebm.load(name).config.name == "toy"
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert jointebm.load(name).config.name == "toy"
    with pytest.raises(OSError, match=r"some/other: the Hub cannot be reached .* and no copy is cached"):
        jointebm.load("some/other")


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=r"someone/m: no such folder; .* pip install 'jointebm\[hub\]'"):
        jointebm.load("someone/m")
    with pytest.raises(ImportError, match=r"push_to_hub: someone/m: .* pip install 'jointebm\[hub\]'"):
        jointebm.load("pretrained:toy").push_to_hub("someone/m")


@pytest.mark.parametrize(
    "name", ["a/b/c", "/a/b", "./a", "../a", "a/..", "a", "a/b c", "a/b\n", "http://a/b", "a\\b/c"]
)
def test_other_texts_are_paths_and_ask_no_server(name: str, hub: Hub) -> None:
    assert not is_hub_name(name)
    with pytest.raises(FileNotFoundError):
        jointebm.load(name)
    assert hub.asked == [] and storage_hub.FILES == ("config.json", "model.safetensors", "README.md")
