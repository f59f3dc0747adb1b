"""Names of devices on this machine, states of generators between devices, and answers on the CPU."""

from typing import NamedTuple

import pytest
import torch

from jointebm.randomness.devices import on_cpu, place_of, resume_generator
from jointebm.randomness.draws import normal, shuffled, uniform
from support.pretend_device import PLACE, away, pretended


@pytest.mark.parametrize(("found", "place"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_cuda_where_there_is_one(found: bool, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    assert place_of("auto") == torch.device(place)


def test_auto_never_takes_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert place_of("auto", wide=False) == torch.device("cpu")
    assert place_of("mps", wide=False) == torch.device("mps")


def test_a_missing_cuda_device_is_named_with_what_was_found_and_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device 'cuda': torch .* finds no CUDA device; pass device='cpu' or 'auto'"):
        place_of("cuda")


@pytest.mark.parametrize(("found", "message"), [(False, "finds no Apple GPU"), (True, "has no float64")])
def test_mps_is_refused_where_it_is_missing_or_too_narrow(
    found: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: found)
    with pytest.raises(ValueError, match=f"device 'mps': .*{message}.*device='cpu'"):
        place_of("mps")


def test_an_unknown_device_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"device: got 'gpu', expected one of 'auto', 'cpu', 'cuda', 'mps'"):
        place_of("gpu")  # type: ignore[arg-type]


def test_a_state_of_the_same_device_continues_and_of_another_one_is_hashed() -> None:
    with pretended():
        there, other, again = (torch.Generator(PLACE).manual_seed(seed) for seed in (1, 2, 3))
        here = torch.Generator().manual_seed(1)
        assert resume_generator(other, there.get_state())
        assert torch.equal(uniform(torch.empty(3), other), uniform(torch.empty(3), there))
        assert not resume_generator(other, here.get_state())
        assert not resume_generator(again, here.get_state())
        assert torch.equal(uniform(torch.empty(3), other), uniform(torch.empty(3), again))
        assert not resume_generator(here, there.get_state())


def test_draws_are_made_where_the_generator_is_and_land_where_they_are_needed() -> None:
    with pretended():
        for generator in (torch.Generator().manual_seed(0), torch.Generator(PLACE).manual_seed(0)):
            assert [away(normal(torch.empty(2, device=place), generator)) for place in (PLACE, "cpu")] == [True, False]
        assert away(shuffled(3, torch.Generator(PLACE)))


class Pair(NamedTuple):
    first: torch.Tensor
    others: list[dict[str, torch.Tensor]]


def test_every_tensor_of_an_answer_comes_to_the_cpu() -> None:
    with pretended():
        there = torch.ones(2, device=PLACE)
        found = on_cpu((Pair(there, [{"y": there}]), "text"))
        assert isinstance(found[0], Pair)
        assert not away(found[0].first)
        assert not away(found[0].others[0]["y"])
        assert found[1] == "text"


def test_the_pretended_device_refuses_what_an_accelerator_refuses() -> None:
    """Otherwise tests on it would prove nothing."""
    with pretended(has_float64=False) as mode:
        there, here = torch.ones(3, device=PLACE), torch.ones(3)
        for mixed in (lambda: there + here, lambda: here[there.long()], lambda: torch.stack([there, here])):
            with pytest.raises(RuntimeError, match="one device"):
                mixed()
        with pytest.raises(RuntimeError, match="generator"):
            there.uniform_(generator=torch.Generator())
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        with pytest.raises(TypeError, match="float64"):
            there.double()
        assert mode.num_reads == 0
        assert float(there.sum()) == 3
        assert there[there > 0].tolist() == [1, 1, 1]
        assert mode.num_reads == 2
        assert (there + 1).tolist() == [2, 2, 2]
