"""Specification of couplings and colours: found from f, and enough of them."""

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import GridPairs, IsingEnergy, Transitions
from jointebm.kernels.couplings import colour_apart, find_couplings
from jointebm.spaces.space import Position


def rows(space: Space, num: int = 3) -> dict[str, Tensor]:
    return space.clamp(None, num_chains=num, generator=torch.Generator().manual_seed(0), dtype=torch.float64)[0]


def couplings(f: object, space: Space, *blocks: str) -> Tensor:
    return find_couplings(f, space, blocks or space.discrete, rows(space), generator=torch.Generator().manual_seed(1))  # type: ignore[arg-type]


def test_neighbours_on_a_torus_are_coupled_and_nothing_else() -> None:
    space = Space(spins=Binary((4, 5)))
    found = couplings(IsingEnergy(space, coupling=0.4, field=0.3).double(), space)
    for one in range(20):
        for other in range(20):
            (a, b), (c, d) = divmod(one, 5), divmod(other, 5)
            down, right = (a - c) % 4, (b - d) % 5
            near = (down in (1, 3) and right == 0) or (down == 0 and right in (1, 4))
            assert bool(found[one, other]) == near


def test_pairs_of_classes_across_blocks_of_every_kind_are_found_through_reals() -> None:
    """f = x y1_2 bit + group1_0 group2_1: two pairs; x decides only how much the first weighs."""
    space = Space(bits=Binary(2), x=Continuous(), y=Categorical(3, (2,)), group=Categorical((2, 3)))

    def f(position: Position) -> Tensor:
        y, group = position["y"], position["group"]
        return position["x"] * y[:, 1, 2] * position["bits"][:, 0] + group[:, 0] * group[:, 3] + y[:, 0, 1]

    found = couplings(f, space)
    assert found.nonzero().tolist() == [[0, 3], [3, 0], [4, 5], [5, 4]]
    assert couplings(f, space, "y").nonzero().tolist() == []


def test_what_is_not_linear_in_one_variable_is_on_the_diagonal() -> None:
    space = Space(bits=Binary(3))
    found = couplings(lambda p: (p["bits"] @ torch.tensor([1.0, 2.0, 0.0]).double()).tanh(), space)
    assert found.int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("f", [lambda p: p["bits"].sum(dim=1), lambda p: 0 * p["x"]])
def test_f_without_second_derivatives_couples_nothing(f: object) -> None:
    assert not bool(couplings(f, Space(bits=Binary(3), x=Continuous())).any())


@pytest.mark.parametrize(
    ("name", "num_colours"),
    [("torus", 2), ("odd torus", 3), ("restricted Boltzmann machine", 2), ("chain of reach 2", 3)],
)
def test_colours_are_few_and_keep_couplings_apart(name: str, num_colours: int) -> None:
    torch.manual_seed(0)
    if "torus" in name:
        space = Space(spins=Binary((6, 6) if name == "torus" else (5, 5)))
        found = couplings(IsingEnergy(space, coupling=0.4).double(), space)
    elif name == "chain of reach 2":
        space, energy = Space(y=Categorical(3, (9,))), Transitions(3, reach=2).double()
        torch.nn.init.normal_(energy.weight)
        found = couplings(lambda p: energy(p["y"]), space)
    else:
        space = Space(hidden=Binary(4), visible=Binary(7))
        weight = torch.randn(7, 4, dtype=torch.float64)
        found = couplings(lambda p: ((p["visible"] @ weight) * p["hidden"]).sum(dim=1), space)
    colours = colour_apart(found)
    assert not bool((found & (colours[:, None] == colours)).any())
    assert sorted(set(colours.tolist())) == list(range(num_colours)) or (
        name == "odd torus" and int(colours.max()) <= 3
    )


def test_pixels_two_apart_get_the_colours_of_a_grid() -> None:
    space, energy = Space(y=Binary((5, 6))), GridPairs(width=5).double()
    torch.nn.init.ones_(energy.weight)
    found = couplings(lambda p: energy(p["y"]), space)
    colours = colour_apart(found)
    assert not bool((found & (colours[:, None] == colours)).any())
    assert int(colours.max()) + 1 <= 12  # nine are needed
