"""Specification of the structured energies as plain data: they survive a model folder."""

from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from jointebm import Binary, Categorical, Continuous, Model, Space, energies, load
from jointebm.energies import (
    ConvSpec,
    DeepSetSpec,
    EnergySpec,
    GridPairsSpec,
    IsingSpec,
    LabelProductsSpec,
    PerPixelSpec,
    PerPlaceSpec,
    StructuredSpec,
    TransitionsSpec,
)
from support.block_models import small_config

WORD = Space(image=Continuous((4, 3, 2)), letters=Categorical(5, (4,)))
STRIP = Space(image=Continuous((4, 8, 8)), digits=Categorical(5, (4,)))
GRID = Space(image=Continuous((6, 7)), mask=Binary((6, 7)))
SETS = Space(points=Continuous((5, 2)), kinds=Categorical(3, (5,)), members=Binary(5))
CASES: dict[str, tuple[EnergySpec, Space]] = {
    "words": (StructuredSpec(unary=PerPlaceSpec(hidden=(8,)), interaction=TransitionsSpec(reach=2)), WORD),
    "strips": (
        StructuredSpec(
            unary=PerPlaceSpec(hidden=(8,), encoder=ConvSpec(side=8, channels=(2, 3), halves_first=True)),
            interaction=LabelProductsSpec(num_terms=6),
        ),
        STRIP,
    ),
    "masks": (StructuredSpec(unary=PerPixelSpec(channels=4, num_layers=2), interaction=GridPairsSpec(width=5)), GRID),
    "single": (StructuredSpec(unary=PerPixelSpec(channels=4, num_layers=2)), GRID),
    "sets": (DeepSetSpec(phi=(8,), num_features=4, rho=(8,)), SETS),
    "ising": (IsingSpec(coupling=0.4, field=0.1), Space(spins=Binary((3, 4)))),
}
every_case = pytest.mark.parametrize(("spec", "space"), CASES.values(), ids=CASES)


@every_case
def test_a_model_survives_its_folder(spec: EnergySpec, space: Space, tmp_path: Path) -> None:
    assert TypeAdapter(EnergySpec).validate_json(spec.model_dump_json()) == spec
    torch.manual_seed(0)
    model = Model(small_config(space, energy=spec))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    again = load(model.save(tmp_path / "model")).eval()
    position, _ = space.clamp(None, num_chains=3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(again(position), model.eval()(position), rtol=0, atol=0)
    assert type(again.energy) is type(model.energy) and str(again.energy) == str(model.energy)


def test_a_spec_builds_the_module_written_by_hand() -> None:
    torch.manual_seed(0)
    built = CASES["masks"][0].build(GRID)
    torch.manual_seed(0)
    written = energies.StructuredEnergy(GRID, energies.PerPixel(4, num_layers=2), energies.GridPairs(width=5))
    assert str(built) == str(written)
    position, _ = GRID.clamp(None, num_chains=3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(built(position), written(position), rtol=0, atol=0)


@pytest.mark.parametrize("space", [Space(x=Continuous(), y=Categorical(3)), Space(y=Categorical(3, (4,)))], ids=str)
def test_a_space_without_sequences_is_refused(space: Space) -> None:
    with pytest.raises(
        ValueError, match="need one continuous and one categorical block with the same number of places"
    ):
        StructuredSpec(unary=PerPlaceSpec(hidden=(8,))).build(space)


def test_an_encoder_for_other_images_is_refused() -> None:
    spec = StructuredSpec(unary=PerPlaceSpec(hidden=(8,), encoder=ConvSpec(side=16, channels=(2, 3))))
    with pytest.raises(ValueError, match=r"images of shape \(16, 16\) at every place, but .* shape \(8, 8\)"):
        spec.build(STRIP)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "structured", "unary": {"kind": "per-pixel", "channels": 0, "num_layers": 1}},
        {"kind": "structured", "unary": {"kind": "per-pixel", "channels": 4, "num_layers": 65}},
        {"kind": "structured", "unary": {"kind": "per-place", "hidden": [0]}},
        {"kind": "ising", "coupling": float("nan")},
        {"kind": "deep-set", "phi": [4], "rho": [4]},
    ],
    ids=str,
)
def test_an_invalid_spec_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(EnergySpec).validate_python(fields)
