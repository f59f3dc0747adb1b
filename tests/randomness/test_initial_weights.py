"""`torch.nn` draws from the generator it is given, with the bits of the global one, and the global one stays as it was."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from jointebm.energies import AnySubsetSpec, ConcatSpec, LevelConvSpec, MLPSpec
from jointebm.randomness.initial_weights import DrawsFrom
from jointebm.spaces import Categorical, Continuous, Space

SPACE = Space(image=Continuous((8, 8)), digit=Categorical(10))
SPECS = (
    ConcatSpec(net=MLPSpec(hidden=(16, 16))),
    AnySubsetSpec(net=LevelConvSpec(channels=(4, 8), hidden=(16,)), min_noise=0.1, max_noise=10.0),
)
DRAWS: dict[str, Callable[[], list[Tensor]]] = {
    "weights": lambda: [each for spec in SPECS for each in spec.build(SPACE).state_dict().values()],
    "layers": lambda: [nn.Conv2d(2, 3, 3).weight, nn.Embedding(4, 3).weight, nn.LSTM(2, 3).weight_hh_l0],
    "dropout": lambda: [nn.Dropout(0.3)(torch.ones(50)), nn.Dropout2d(0.3)(torch.ones(5, 6, 2, 2))],
}


@pytest.mark.parametrize("name", DRAWS)
def test_bits_are_those_of_the_global_generator_which_stays_as_it_was(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected, after = DRAWS[name](), torch.get_rng_state()
        torch.manual_seed(6)
        before, generator = torch.get_rng_state(), torch.Generator().manual_seed(5)
        with DrawsFrom(generator):
            found = DRAWS[name]()
        assert torch.equal(torch.get_rng_state(), before) and torch.equal(generator.get_state(), after)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_generator_that_is_given_is_kept() -> None:
    outer = torch.Generator().manual_seed(0)
    state = outer.get_state()
    with DrawsFrom(outer):
        found = torch.empty(3).normal_(generator=torch.Generator().manual_seed(1))
    assert torch.equal(found, torch.empty(3).normal_(generator=torch.Generator().manual_seed(1)))
    assert torch.equal(outer.get_state(), state)


def test_an_operation_that_takes_no_generator_is_refused() -> None:
    with DrawsFrom(torch.Generator()), pytest.raises(RuntimeError, match=r"aten.rand.default draws from the global"):
        torch.rand(3)
