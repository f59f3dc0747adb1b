"""Training of blocks on another device: nothing is made elsewhere, and the bits are those of the CPU."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Metrics, Space, TrainConfig, Trainer, kernels
from jointebm.data.datasets import Batch
from jointebm.energies import ConcatSpec, MLPSpec
from jointebm.energies.referenced import Referenced, start_at_zero
from jointebm.randomness.devices import Device
from jointebm.randomness.initial_weights import DrawsFrom
from jointebm.references import Mixture
from support.pretend_device import PLACE, away, pretended

SPACE = Space(x=Continuous(2), y=Categorical((2, 3)), b=Binary(2))
ON_CPU = ("generator", "data_generator", "adam.")  # states of generators; torch keeps the step of Adam there


def rows(num: int, generator: torch.Generator, *, missing: bool) -> Batch:
    labels = [torch.randint(0, 2, (num, 2), generator=generator) for _ in range(2)]
    values = {"x": torch.randn(num, 2, generator=generator), "y": labels[0], "b": labels[1]}
    if missing:
        values["x"][:3, 0], values["y"][2:5, 1] = torch.nan, -1
    return Batch(SPACE.encode(values)[0], torch.randint(0, 50, (num,), generator=generator))


def trainer(place: Device, *, missing: bool = False, mixture: bool = False, **changes: Any) -> Trainer:
    own = torch.Generator().manual_seed(9)  # on an accelerator data have a generator of their own
    with DrawsFrom(torch.Generator().manual_seed(0)):
        energy: torch.nn.Module = ConcatSpec(net=MLPSpec(hidden=(8,))).build(SPACE)
    if mixture:
        known = rows(80, torch.Generator().manual_seed(4), missing=False).position
        reference = Mixture.fit(SPACE, known, 3, generator=torch.Generator().manual_seed(0))
        energy = Referenced(reference, start_at_zero(energy))
    fixed = {"num_iterations": 2, "batch_size": 10, "num_steps": 2, "learning_rate": 1e-2, "buffer_size": 50}
    config = TrainConfig(**fixed | {"warmup": 2, "snapshot_every": 1} | changes)

    def batch(num: int, *, generator: torch.Generator) -> Batch:
        assert generator.device.type == "cpu"
        return rows(num, own, missing=missing)

    kernel = kernels.Cycle((kernels.Gibbs(SPACE), kernels.MALA("x", 0.3)))
    return Trainer(energy, SPACE, batch, kernel=kernel, config=config, seed=1, device=place, labelled=batch)


def trained(place: Device, **changes: Any) -> tuple[Trainer, list[Metrics]]:
    made = trainer(place, **changes)
    return made, list(made.run())


def numbers(made: Trainer) -> dict[str, Tensor]:
    return {n: t.cpu() for n, t in made.state().tensors.items() if "generator" not in n}


CASES: dict[str, dict[str, Any]] = {
    "maximum likelihood": {},
    "missing entries": {"missing": True},
    "summed out": {"objective": "summed", "missing": True},
    "conditional": {"objective": "conditional"},
    "terms": {"terms": ("conditional", "information", "roughness")},
    "weighted chains": {"mixture": True, "missing": True},
    "unweighted chains": {"mixture": True, "weighted": False},
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_training_stays_on_its_device_and_has_the_bits_of_the_cpu(changes: dict[str, Any]) -> None:
    expected, on_cpu = trained("cpu", **changes)
    with pretended():
        made, found = trained(PLACE, **changes)
        for name, tensor in made.state().tensors.items():
            assert away(tensor) or tensor.ndim == 0 or name.startswith(ON_CPU) or "adam." in name, name
        kept = numbers(made)
    assert kept.keys() == numbers(expected).keys()
    for name, tensor in numbers(expected).items():
        assert torch.equal(kept[name], tensor), name
    assert [each._replace(seconds=0) for each in found] == [each._replace(seconds=0) for each in on_cpu]


def test_an_iteration_reads_as_often_for_many_steps_as_for_few() -> None:
    """So no step waits for the device."""

    def reads(num_steps: int) -> int:
        with pretended() as mode:
            made = trainer(PLACE, num_steps=num_steps)
            before = mode.num_reads
            made.step()
            return mode.num_reads - before

    assert reads(5) == reads(1) > 0


def test_unweighted_training_needs_no_float64() -> None:
    with pretended(has_float64=False):
        made, _ = trained(PLACE)
        assert away(made.buffer.position["x"])


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [("cpu", PLACE), (PLACE, "cpu"), (PLACE, PLACE)])
def test_a_state_moves_between_devices_which_is_said(first: Device, second: Device) -> None:
    with pretended():
        made, _ = trained(first, missing=True, mixture=True)
        state, resumed = made.state(), trainer(second, missing=True, mixture=True, num_iterations=3)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            resumed.restore(state._replace(tensors={n: t.cpu() for n, t in state.tensors.items()}))
        assert [("another kind of device" in str(each.message)) for each in told] == [True] * (first != second)
        assert all(each.filename == __file__ for each in told)
        assert numbers(resumed).keys() == numbers(made).keys()
        assert all(torch.equal(tensor, numbers(made)[name]) for name, tensor in numbers(resumed).items())
        for _ in resumed.run():
            pass
        assert resumed.iteration == 3


def test_the_configuration_names_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    make: Callable[[], Trainer] = lambda: trainer(None, device="cuda")  # type: ignore[arg-type,assignment]  # noqa: E731
    with pytest.raises(ValueError, match="finds no CUDA device"):
        make()
