"""Specification of `suggest`: one kernel per kind of block, with the reason."""

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import MLP, ConcatEnergy, IsingEnergy
from jointebm.kernels import (
    MALA,
    ChromaticGibbs,
    Gibbs,
    GibbsWithGradients,
    Jump,
    LogDensity,
    SwendsenWang,
    suggest,
)
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


def test_labels_next_to_reals_are_swept_between_their_steps() -> None:
    """A random scan moves one of four labels per step of reals; with no reals, with one label and in training it stays."""
    mixed, labels, one = Space(x=Continuous(2), y=Binary(4)), Space(y=Binary(4)), Space(x=Continuous(2), y=Binary())
    for space, width, trains, scan in (
        (mixed, 6, False, "systematic"),
        (mixed, 6, True, "random"),
        (labels, 4, False, "random"),
        (one, 3, False, "random"),
    ):
        energy = ConcatEnergy(space, MLP(width, (8,)))
        found = suggest(space, energy, trains=trains)
        kernel = found.kernel.kernels[0]
        assert isinstance(kernel, Gibbs) and kernel.scan == scan
        cost = "a sweep moves all 4 between two steps of reals, in 4 batches"
        assert found.reasons[0].endswith(cost if scan == "systematic" else "a step moves one label, in one batch")

    def rounded(position: Position) -> Tensor:
        return position["x"].sum(dim=1) - position["y"].detach().square().sum(dim=1)

    for num_bits, scan in ((16, "systematic"), (17, "random"), (784, "random")):  # of 32 classes, and of more
        found = suggest(Space(x=Continuous(2), y=Binary(num_bits)), rounded)
        kernel = found.kernel.kernels[0]
        assert isinstance(kernel, Gibbs) and kernel.scan == scan
        assert (f"in {num_bits} batches" in found.reasons[0]) == (scan == "systematic")


def test_labels_that_meet_in_pairs_get_verified_colours() -> None:
    space = Space(spins=Binary((4, 4)))
    energy = IsingEnergy(space, coupling=0.3)
    (kernel,) = suggest(space, energy).kernel.kernels
    assert isinstance(kernel, ChromaticGibbs) and kernel.verified_for is energy


def ring(signs: list[float], strength: float, classes: int = 2) -> tuple[Space, LogDensity]:
    """Labels on a circle, each coupled with the next and the one after."""
    num = len(signs)
    space = Space(y=Binary(num) if classes == 2 else Categorical(classes, (num,)))

    def f(position: Position) -> Tensor:
        y = position["y"] if classes > 2 else torch.stack([1 - position["y"], position["y"]], dim=2)
        near = (y * y.roll(1, dims=1)).sum(dim=2) * torch.tensor(signs, dtype=y.dtype)
        return strength * (near.sum(dim=1) + (y * y.roll(2, dims=1)).sum(dim=(1, 2)))

    return space, f


def test_strong_couplings_get_clusters_as_well() -> None:
    """On four neighbours of which three pass on tanh(J / 2) each, clusters start at J = 2 artanh(1 / 3) = .693."""
    for strength, expected in ((0.69, [ChromaticGibbs]), (0.7, [ChromaticGibbs, SwendsenWang])):
        assert kinds(suggest(*ring([1.0] * 12, strength))) == expected
    space, f = ring([1.0] * 12, 0.7)
    suggestion = suggest(space, f)
    assert suggestion.reasons[1].startswith(
        "couplings are strong: the neighbours of a label but one pass on 1.01 of its"
    )
    assert suggestion.kernel.kernels[1].verified_for is f  # type: ignore[attr-defined]
    assert kinds(suggest(*ring([1.0] * 12, 0.9, classes=3))) == [ChromaticGibbs]  # 3 (e^.9 - 1) / (e^.9 + 2) = .98
    assert kinds(suggest(*ring([1.0] * 12, 0.95, classes=3))) == [ChromaticGibbs, SwendsenWang]
    assert kinds(suggest(space, f, trains=True)) == [Gibbs]


def test_clusters_are_not_suggested_where_couplings_contradict_one_another() -> None:
    """Signs of all near pairs flipped: a circle of two near pairs and one far pair still has two negative ones."""
    assert kinds(suggest(*ring([-1.0] * 12, 0.9))) == [ChromaticGibbs, SwendsenWang]
    assert kinds(suggest(*ring([-1.0] + [1.0] * 11, 0.9))) == [ChromaticGibbs]


def test_colours_are_not_looked_for_in_what_will_change() -> None:
    """An energy that starts at zero couples nothing yet."""
    space = Space(spins=Binary((4, 4)))
    energy = IsingEnergy(space, coupling=0.0)
    (kernel,) = suggest(space, energy).kernel.kernels
    assert isinstance(kernel, ChromaticGibbs) and int(kernel.colours["spins"].max()) == 0
    assert kinds(suggest(space, energy, trains=True)) == [Gibbs]


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
    (colours, clusters), (same_colours, same_clusters) = (each.kernel.kernels for each in (one, other))
    assert torch.equal(colours.colours["spins"], same_colours.colours["spins"])  # type: ignore[attr-defined]
    assert torch.equal(clusters.couplings, same_clusters.couplings)  # type: ignore[attr-defined]
