"""Specification of `suggest`: one kernel per kind of block, with the reason."""

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import MLP, ConcatEnergy, IsingEnergy
from jointebm.kernels import MALA, ChromaticGibbs, Gibbs, GibbsWithGradients, Jump, suggest
from jointebm.references import Mixture
from jointebm.spaces.space import Position


def kinds(suggestion: object) -> list[type]:
    assert len(suggestion.kernel.kernels) == len(suggestion.reasons)  # type: ignore[attr-defined]
    return [type(part) for part in suggestion.kernel.kernels]  # type: ignore[attr-defined]


def test_a_network_of_few_labels_gets_gibbs_and_of_many_gradients() -> None:
    torch.manual_seed(0)
    for shape, kind in (((4,), Gibbs), ((40,), GibbsWithGradients)):
        space = Space(x=Continuous(2), y=Categorical(3, shape))
        energy = ConcatEnergy(space, MLP(2 + 3 * shape[0], (16,)))
        for parameter in energy.parameters():
            torch.nn.init.normal_(parameter)
        found = suggest(space, energy.double())
        assert kinds(found) == [kind, MALA]
        found.kernel.require(space)


def test_labels_that_meet_in_pairs_get_verified_colours() -> None:
    space = Space(spins=Binary((4, 4)))
    energy = IsingEnergy(space, coupling=0.4)
    (kernel,) = suggest(space, energy).kernel.kernels
    assert isinstance(kernel, ChromaticGibbs) and kernel.verified_for is energy


def test_pairs_of_all_labels_are_no_case_for_colours() -> None:
    space = Space(y=Binary(6))
    pairs = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).triu(1)

    def f(position: Position) -> Tensor:
        return ((position["y"] @ pairs) * position["y"]).sum(dim=1)

    assert kinds(suggest(space, f)) == [Gibbs]


def test_a_reference_jumps_first_and_moves_what_has_no_score() -> None:
    space = Space(x=Continuous(2), y=Binary())
    q = Mixture(space)

    def f(position: Position) -> Tensor:
        return (position["x"].detach().round() + position["y"][:, None].detach()).sum(dim=1)

    assert kinds(suggest(space, f, q)) == [Jump, Gibbs]
    assert kinds(suggest(space, q.log_prob, q)) == [Jump, Gibbs, MALA]
    with pytest.raises(ValueError, match="suggest: f has no gradient with respect to block 'x'"):
        suggest(space, f)


def test_the_same_question_has_the_same_answer() -> None:
    space = Space(spins=Binary((4, 6)))
    energy = IsingEnergy(space, coupling=0.4)
    one, other = suggest(space, energy), suggest(space, energy)
    assert one.reasons == other.reasons
    kernels = [each.kernel.kernels[0] for each in (one, other)]
    assert torch.equal(*(kernel.colours["spins"] for kernel in kernels))  # type: ignore[attr-defined]
