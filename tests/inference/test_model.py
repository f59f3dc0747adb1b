"""Specification of `Model` and of the model folder: whole or not at all, and the same bits when read back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, KernelSpec, Model, ModelConfig, Noise, Space, load
from jointebm.energies import BilinearSpec, ConcatSpec, ConvSpec, EnergySpec, JEMSpec, MLPSpec
from jointebm.inference.model_loading import load_model
from jointebm.kernels import MALA, Cycle, Gibbs
from jointebm.spaces.transforms import Logit

SPACE = Space(image=Continuous((8, 8), Logit(0.01)), bit=Binary(2), y=Categorical(3), group=Categorical((2, 3)))
ENERGIES: dict[str, EnergySpec] = {
    "concat": ConcatSpec(net=MLPSpec(hidden=(8,)), scale={"y": 3.0}),
    "encoder": ConcatSpec(net=MLPSpec(hidden=(8,)), encoder=ConvSpec(side=8, channels=(4, 8), out_channels=2)),
    "bilinear": BilinearSpec(g=MLPSpec(hidden=(8,)), h=MLPSpec(hidden=(4,), activation="silu"), num_features=3),
    "jem": JEMSpec(net=MLPSpec(hidden=(8,))),
}
KERNEL = KernelSpec(discrete="gibbs", discrete_moves=2, continuous="mala", step_size=0.3, temperature=0.7)


def make(energy: str = "concat") -> Model:
    config = ModelConfig(
        name="test", data="none", space=SPACE.config, energy=ENERGIES[energy], kernel=KERNEL, num_chains=7, num_steps=9
    )
    batch, _ = SPACE.clamp(None, num_chains=20, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(config, noise=Noise.from_batch(SPACE, batch, labels="frequency"))


def positions(num: int = 5) -> dict[str, Tensor]:
    return SPACE.clamp(None, num_chains=num, generator=torch.Generator().manual_seed(1))[0]


# A model is a log-density.


@pytest.mark.parametrize("energy", ENERGIES)
def test_a_model_is_its_energy(energy: str) -> None:
    model, position = make(energy), positions()
    f = model.energy(position)
    assert torch.equal(model(position), f)
    assert model.encoded_blocks == ("image",)
    labels = {name: position[name] for name in SPACE.discrete}
    assert torch.equal(model.head(model.encode({"image": position["image"]}), labels), f)


def test_the_kernel_is_that_of_the_configuration() -> None:
    assert make().kernel == Cycle((Gibbs(SPACE), Gibbs(SPACE), MALA("image", 0.3, 0.7)))


def test_without_a_noise_chains_start_uniformly() -> None:
    model = Model(make().config)
    assert all(torch.equal(model.noise.parameters[name], Noise.uniform(SPACE).parameters[name]) for name in SPACE)


# Saved and loaded.


@pytest.mark.parametrize("energy", ENERGIES)
def test_loading_gives_back_every_bit(energy: str, tmp_path: Path) -> None:
    model = make(energy)
    assert model.save(tmp_path / "model") == tmp_path / "model"
    before = torch.get_rng_state()
    loaded = load(str(tmp_path / "model"))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.requires_grad for parameter in loaded.parameters())  # it can be trained further
    saved = model.state_dict()
    assert loaded.state_dict().keys() == saved.keys()
    assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items())
    assert loaded.config == model.config and loaded.space == model.space and not loaded.training
    assert torch.equal(loaded(positions()), model(positions()))


def test_the_dtype_survives(tmp_path: Path) -> None:
    model = make().double()
    loaded = load(model.save(tmp_path / "model"))
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float64}
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_the_folder_holds_a_configuration_tensors_and_a_card_and_nothing_else(tmp_path: Path) -> None:
    model = make()
    folder = model.save(tmp_path / "some" / "where", card="# A card\n")
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert [file.name for file in (tmp_path / "some").iterdir()] == ["where"]
    assert (folder / "README.md").read_text() == "# A card\n"
    card = (model.save(tmp_path / "model") / "README.md").read_text()
    assert card.startswith("---\n") and card.split("---\n")[2].lstrip().startswith("# test\n")
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == 1 and config["num_chains"] == 7 and Space.from_config(config["space"]) == SPACE
    assert load_file(folder / "model.safetensors").keys() == model.state_dict().keys()


# Whole or not at all.


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file"])
def test_nothing_is_overwritten(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
        if kind == "folder":
            (path / "precious.txt").write_text("precious")
    before = sorted(path.rglob("*"))
    with pytest.raises(FileExistsError, match=r"model: exists; choose another folder or remove it"):
        make().save(path)
    assert sorted(path.rglob("*")) == before and list(tmp_path.iterdir()) == [path]


# Folders that cannot be loaded; `tests/support/malformed.py` has more.


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    folder = make().save(tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"model/{name}: no such file; a model folder holds config.json and"):
        load_model(folder)


def one_block(**fields: Any) -> dict[str, Any]:
    return {"space": {"x": fields}}


def one_real(**transform: Any) -> dict[str, Any]:
    return one_block(kind="continuous", shape=[2], transform=transform)


ONE_BIT = one_block(kind="binary", shape=[])
ENCODER = {"kind": "concat", "net": {"hidden": [4]}, "encoder": {"side": 8}}
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("Space: needs at least one block", {"space": {}}),
    ("misses or does not know 'transform'", one_block(kind="continuous", shape=[2])),
    ("margin must lie in (0, 0.5), got 2", one_real(name="logit", margin=2)),
    ("unexpected keyword argument 'base'", one_real(name="logit", base=2)),
    ("whole numbers >= 1, got (0,)", one_block(kind="binary", shape=[0])),
    ("does not describe a model", one_block(kind="categorical", num_classes=None, shape=[])),
    ("an encoder needs exactly one continuous block", ONE_BIT | {"energy": ENCODER}),
]


@pytest.mark.parametrize(("reason", "change"), CHANGES, ids=[reason for reason, _ in CHANGES])
def test_an_invalid_configuration_is_refused_with_file_and_reason(
    reason: str, change: dict[str, Any], tmp_path: Path
) -> None:
    folder = make().save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=r"model/config.json: ") as error:
        load(folder)
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_an_energy_other_than_the_described_one_is_not_saved(tmp_path: Path) -> None:
    class Handmade(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, position: dict[str, Tensor]) -> Tensor:
            return self.weight * position["image"].flatten(1).sum(dim=1)

    model = Model(make().config, energy=Handmade())
    assert model(positions()).shape == (5,)
    with pytest.raises(ValueError, match=r"model: the energy is not the one that config\.energy describes"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
