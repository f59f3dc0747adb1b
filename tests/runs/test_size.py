"""Specification of `check_size`: runs that exceed the memory are refused before any allocation, and no others."""

import os
from pathlib import Path

import pytest
import torch

from jointebm.data import Toy
from jointebm.energies import ConcatEnergy, ConcatSpec
from jointebm.recipes import Recipe, override
from jointebm.recipes.catalogue import find
from jointebm.runs.size import check_size
from jointebm.runs.training_run import train
from jointebm.spaces.space import Space

SPACE = Toy().space
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def toy(*assignments: str) -> Recipe:
    return override(find("toy"), assignments)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "hidden=[1000000000,1000000000]",
            r"its network of 1000000011000000001 parameters .* at least 48428774413 GB, but this machine has \d+ GB; choose",
        ),
        (
            "buffer_size=1000000000000000",
            r"its replay buffer of 8000000000000000 numbers need at least .* GB, but this",
        ),
        (
            "hidden=[100000000000000000000]",
            "widths up to 100000000000000000000, cannot be built for data 'toy': .*size",
        ),
        (
            "hidden=[4000000000,4000000000]",
            "widths up to 4000000000, cannot be built for data 'toy': Storage size calculation overflowed",
        ),
        (
            f"hidden={[1] * 1001}".replace(" ", ""),
            "energy.net.hidden has 1001 layers, expected at most 1000; choose fewer",
        ),
    ],
    ids=["widths", "buffer", "beyond 64 bits", "a product beyond 64 bits", "layers"],
)
def test_a_recipe_that_exceeds_the_memory_is_refused_before_any_allocation(
    assignment: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"recipe 'toy': .*{message}") as caught:
        train(toy(assignment), tmp_path / "run")
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_the_limit_is_the_memory_of_this_machine() -> None:
    width = sum(torch.Size(block.position_shape).numel() for block in SPACE.values())
    parameters = sum(parameter.numel() for parameter in toy().energy.build(SPACE).parameters())
    fitting = (MEMORY - 4 * 13 * parameters) // (4 * 3 * width)  # slots
    check_size(toy(f"buffer_size={fitting}"), SPACE)
    gigabytes = f"need at least {-(-MEMORY // 2**30)} GB, but this machine has {MEMORY // 2**30} GB"
    with pytest.raises(ValueError, match=gigabytes):
        check_size(toy(f"buffer_size={fitting + 1}"), SPACE)


@pytest.mark.parametrize("error", [RuntimeError, TypeError, OverflowError])
def test_a_network_that_fails_for_another_reason_is_not_called_too_large(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(self: ConcatSpec, space: Space) -> ConcatEnergy:  # noqa: ARG001
        raise error("expected 3 channels, got 1\nand more")

    monkeypatch.setattr(ConcatSpec, "build", build)
    with pytest.raises(ValueError, match=r"cannot be built for data 'toy': expected 3 channels, got 1$") as caught:
        check_size(toy("hidden=[7,9]"), SPACE)
    assert "widths up to 9" in str(caught.value)
    assert not any(word in str(caught.value) for word in ("GB", "layers", "smaller"))


def test_a_network_that_does_not_fit_the_data_keeps_its_own_message() -> None:
    with pytest.raises(ValueError, match=r"needs images of shape \(32, 32\) .*, but block 'point' has shape \(2,\)"):
        check_size(find("dsprites_paper"), SPACE)
