"""Specification of `ShiftedGibbs`: exact Gibbs of a label that takes x along, for any shift."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import MLP, ConcatEnergy, ConvEncoder
from jointebm.kernels import Chain, Gibbs, Info, Kernel, LogDensity, ShiftedGibbs, evaluate
from jointebm.randomness.draws import Generator, choose
from jointebm.spaces.space import Mask, Position
from jointebm.testing import invariance_test, stationarity_residual, transition_matrix
from support.exact_references import random_reference
from support.oracles import (
    Counted,
    Passes,
    RandomLogDensity,
    Script,
    count_passes,
    labels_of,
    random_scan_matrix,
    variables_of,
)

SPACES = {
    "bit": Space(x=Continuous(2), y=Binary()),
    "classes": Space(x=Continuous(2), y=Categorical(3)),
    "bits": Space(x=Continuous(2), y=Binary(2)),
    "ragged": Space(x=Continuous(2), y=Categorical((2, 3))),
    "one class": Space(x=Continuous(2), y=Categorical((1, 2))),
}


def draw_shift(space: Space, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(space.num_classes("y")), 2, generator=generator, dtype=torch.float64)


def closed_states(space: Space, shift: Tensor, free_x: Tensor) -> dict[str, Tensor]:
    """Three places with every configuration: what no step leaves. Row z S + c is place z with configuration c."""
    y = space.configurations(dtype=torch.float64)
    labels, counts = labels_of(space, y), space.num_classes("y")
    first = [sum(counts[:v]) for v in range(len(counts))]
    moved = sum((shift[first[v] + labels[:, v]] for v in range(len(counts))), torch.zeros(()))  # (S, 2)
    places = torch.randn(3, 1, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = (places + torch.where(free_x, moved, 0)).reshape(-1, 2)
    return {"x": x, "y": y["y"].repeat(3, *[1] * (y["y"].ndim - 1))}


def exact_matrix(kernel: Kernel, f: LogDensity, space: Space, position: Position, free: Mask) -> Tensor:
    """The matrix of one step among closed states, from the script of all its outcomes, shape (S, S)."""
    num = len(position["x"])
    matrix, chain = torch.zeros(num, num, dtype=torch.float64), evaluate(f, position, with_score=False)
    counts = space.num_classes("y")
    for variable, label in product(range(len(counts)), range(max(counts))):
        script = Script(choices=[torch.full((num,), variable), torch.full((num,), label)])
        moved, _ = kernel.step(f, chain, free=free, generator=script)
        of_variable, of_label = (weights.softmax(dim=1) for weights in script.log_weights)
        probs = of_variable[:, variable] * of_label[:, label]
        there = (moved.position["x"][:, None] - position["x"]).abs().sum(dim=2) < 1e-9
        there &= (moved.position["y"].reshape(num, 1, -1) == position["y"].reshape(1, num, -1)).all(dim=2)
        possible = probs > 0
        assert bool((there.sum(dim=1) == 1)[possible].all()), "a step leaves the closed states"
        arrived = there.double().argmax(dim=1)
        assert bool(((moved.f - chain.f[arrived]).abs() < 1e-9)[possible].all()), "a stale f"
        matrix.index_put_((torch.arange(num)[possible], arrived[possible]), probs[possible], accumulate=True)
    return matrix


def patterns(space: Space) -> Iterator[dict[str, Tensor]]:
    """Every mask of both reals and of all discrete variables, but for those that clamp all of the latter."""
    num = space["y"].num_variables
    for bits in product([False, True], repeat=2 + num):
        if any(bits[2:]):
            yield {"x": torch.tensor(bits[:2]), "y": torch.tensor(bits[2:]).reshape(space["y"].variable_shape)}


def residual(kernel: Kernel, space: Space, shift: Tensor, free: Mask) -> float:
    f, position = RandomLogDensity(space, 3), closed_states(space, shift, free["x"])
    matrix = exact_matrix(kernel, f, space, position, free)
    probs = f(position).softmax(dim=0)
    flow = probs[:, None] * matrix
    return max(float((flow - flow.T).abs().max()), float((matrix.sum(dim=1) - 1).abs().max()))


@pytest.mark.parametrize("name", SPACES)
def test_satisfies_detailed_balance_for_any_shift_whatever_is_clamped(name: str) -> None:
    space = SPACES[name]
    for seed in (0, 1):
        shift = draw_shift(space, seed)
        for free in patterns(space):
            assert residual(ShiftedGibbs(space, "y", shift), space, shift, free) <= 1e-12


def test_draws_from_the_conditional_of_the_formula() -> None:
    """One variable, all free: p(k) is the softmax over k of f(x - m(y) + m(k), k)."""
    space = SPACES["classes"]
    shift, f = draw_shift(space), RandomLogDensity(space, 0)
    position = {
        "x": torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        "y": torch.eye(3, dtype=torch.float64)[[0, 1, 2, 1, 0]],
    }
    script = Script(choices=[torch.zeros(5, dtype=torch.int64), torch.tensor([2, 2, 2, 0, 0])])
    chain = evaluate(f, position)
    free = {name: torch.tensor(True) for name in space}
    moved, _ = ShiftedGibbs(space, "y", shift).step(f, chain, free=free, generator=script)
    for row, old in enumerate([0, 1, 2, 1, 0]):
        places = position["x"][row] - shift[old] + shift
        expected = f({"x": places, "y": torch.eye(3, dtype=torch.float64)}).softmax(dim=0)
        torch.testing.assert_close(script.log_weights[1][row].softmax(dim=0), expected, rtol=1e-12, atol=1e-12)
        new = [2, 2, 2, 0, 0][row]
        torch.testing.assert_close(moved.position["x"][row], places[new], rtol=0, atol=1e-14)
        assert int(moved.position["y"][row].argmax()) == new
    assert torch.equal(moved.position["x"][[2, 4]], position["x"][[2, 4]])  # the same class: not a bit changes


def test_with_x_clamped_it_is_random_scan_gibbs() -> None:
    space = Space(y=Categorical((2, 3)), x=Continuous(2))
    f, shift, given = RandomLogDensity(space, 0), draw_shift(space), {"x": [0.3, -1.0]}
    matrix, position = transition_matrix(ShiftedGibbs(space, "y", shift), f, space, given)
    expected, _ = transition_matrix(Gibbs(space), f, space, given)
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)
    free = {"y": torch.tensor([False, True])}
    matrix, _ = transition_matrix(ShiftedGibbs(space, "y", shift), f, space, given, free=free)
    torch.testing.assert_close(matrix, random_scan_matrix(f, space, position, free), rtol=0, atol=1e-12)


# Faults.


@dataclass(frozen=True)
class FaultyShiftedGibbs(Kernel):
    """A second `ShiftedGibbs`, over labels, with a fault."""

    space: Space
    shift: Tensor
    fault: str = ""

    uses_score = False
    adjusted = False

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        labels, num = labels_of(self.space, chain.position), len(chain.f)
        counts = torch.tensor(self.space.num_classes("y"))
        may_move = variables_of(self.space, free, num)
        movable, rows = may_move.any(dim=1), torch.arange(num)
        weights = torch.where(may_move | ~movable[:, None], 0.0, -torch.inf).double()
        variable = choose(weights, generator)
        first = (counts.cumsum(0) - counts)[variable]
        if self.fault == "shift of another variable":
            first = torch.zeros_like(first)
        old, f, places = labels[rows, variable], [], []
        for k in range(int(counts.max())):
            new = labels.clone()
            new[rows, variable] = torch.minimum(torch.tensor(k), counts[variable] - 1)
            towards = self.shift[first + new[rows, variable]]
            back = torch.zeros_like(towards) if self.fault == "does not shift back" else self.shift[first + old]
            change = -(towards - back) if self.fault == "sign flipped" else towards - back
            if self.fault != "clamp ignored":
                change = torch.where(free["x"], change, 0)
            x = chain.position["x"] + change
            values = {"y": new.reshape(num, *self.space["y"].variable_shape)}
            place = {"x": x, "y": self.space.encode(values, dtype=torch.float64)[0]["y"]}
            seen = {**place, "x": chain.position["x"]} if self.fault == "f at the old x" else place
            f.append(log_density(seen).masked_fill(k >= counts[variable], -torch.inf))
            places.append(place)
        log_probs = torch.stack(f, dim=1)
        chosen = choose(log_probs, generator)
        position = {
            name: torch.stack([place[name] for place in places], dim=1)[rows, chosen] for name in chain.position
        }
        return Chain(position, log_density(position), None), Info(movable.double(), movable)


FAULTS = ("does not shift back", "sign flipped", "clamp ignored", "f at the old x", "shift of another variable")


def passes_exact_tests(faulty: str | None) -> bool:
    space = SPACES["ragged"]
    shift = draw_shift(space)
    kernel = ShiftedGibbs(space, "y", shift) if faulty is None else FaultyShiftedGibbs(space, shift, faulty)
    try:
        return all(residual(kernel, space, shift, free) <= 1e-12 for free in patterns(space))
    except AssertionError:
        return False


def test_the_copy_that_mutants_are_made_from_is_right() -> None:
    assert passes_exact_tests(None)
    assert passes_exact_tests("")


@pytest.mark.parametrize("fault", FAULTS)
def test_mutants_are_rejected(fault: str) -> None:
    assert not passes_exact_tests(fault)


@pytest.mark.parametrize("clamped", [False, True])
def test_leaves_a_mixed_density_invariant(clamped: bool) -> None:
    """False-alarm rate 1e-4 each; m is not where the classes are."""
    space = Space(x=Continuous(2), y=Categorical(3))
    target, generator = random_reference(space, 2, spread=2), torch.Generator().manual_seed(0)
    draws, shift = target.draw(6000, generator), draw_shift(space, 5)
    free = {"x": torch.ones(2, dtype=torch.bool), "y": torch.tensor(True)}
    if clamped:
        free = {"x": torch.rand(6000, 2, generator=generator) < 0.5, "y": torch.rand(6000, generator=generator) < 0.7}

    def test(kernel: Kernel) -> bool:
        return invariance_test(
            kernel, target.log_prob, space, draws, num_steps=8, generator=generator, alpha=1e-4, free=free
        ).rejected

    assert not test(ShiftedGibbs(space, "y", shift))
    if not clamped:
        assert test(FaultyShiftedGibbs(space, shift, "does not shift back"))
        assert test(FaultyShiftedGibbs(space, shift, "f at the old x"))


def test_one_step_finds_the_weights_of_classes_that_lie_far_apart() -> None:
    """Exactly, when classes have one shape: the label is an independent draw. 4,000 chains: standard error .007."""
    space = Space(x=Continuous(), y=Categorical(3))
    weights, means = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.0, 12.0, 24.0])

    def f(position: Position) -> Tensor:
        return position["y"] @ weights.log() - 0.5 * (position["x"] - position["y"] @ means).square()

    generator = torch.Generator().manual_seed(0)
    rows = {"x": torch.cat([torch.randn(50, generator=generator) + mean for mean in means])}
    rows["y"] = torch.eye(3).repeat_interleave(50, dim=0)
    kernel = ShiftedGibbs.from_data(space, rows, "y")
    chain = evaluate(f, {"x": torch.randn(4000, generator=generator), "y": torch.eye(3)[[0] * 4000]})
    chain, info = kernel.step(f, chain, free={name: torch.tensor(True) for name in space}, generator=generator)
    # m is off by about .14, which moves the log-odds of a chain by as much; over chains it averages out
    assert float((chain.position["y"].mean(dim=0) - weights).abs().max()) < 4 * 0.0075
    assert bool((info.accept_prob == 1).all())


def test_from_data_ignores_missing_entries_and_names_no_class_without_rows() -> None:
    space = Space(x=Continuous(2), y=Categorical((2, 3)), z=Continuous())
    nan = torch.nan
    values = {"x": [[1, nan], [3, 5.0], [8, 7.0], [nan, 9.0]], "y": [[0, 0], [0, 1], [1, -1], [-1, 0]], "z": [nan] * 4}
    position, _ = space.encode(values)
    shift = ShiftedGibbs.from_data(space, position, "y").shift
    torch.testing.assert_close(shift["x"], torch.tensor([[2.0, 5.0], [8.0, 7.0], [1.0, 9.0], [3.0, 5.0], [4.0, 7.0]]))
    torch.testing.assert_close(shift["z"], torch.zeros(5))


def test_costs_one_batch_of_evaluations_and_no_backward_pass() -> None:
    space = SPACES["classes"]
    counted = Counted(RandomLogDensity(space, 0), Passes())
    chain = evaluate(counted, closed_states(space, draw_shift(space), torch.tensor([True, True])))
    counted.passes.take()
    free = {name: torch.tensor(True) for name in space}
    ShiftedGibbs(space, "y", draw_shift(space)).step(counted, chain, free=free, generator=torch.Generator())
    assert counted.passes.take() == (1, 0)


def test_keeps_the_encoding_of_a_clamped_image_and_replaces_that_of_a_free_one() -> None:
    torch.manual_seed(0)
    space, generator = Space(x=Continuous((8, 8)), y=Categorical(3)), torch.Generator().manual_seed(0)
    energy = ConcatEnergy(space, MLP(8 + 3, (16,)), encoder=ConvEncoder((2, 2, 2), 2))
    passes = count_passes(energy.encoder)  # type: ignore[arg-type]
    position, free = space.clamp(None, num_chains=6, generator=generator)
    kernel = ShiftedGibbs(space, "y", torch.randn(3, 8, 8, generator=generator))
    chain = evaluate(energy, position, with_score=False)
    passes.take()
    moved, _ = kernel.step(energy, chain, free={"y": free["y"]}, generator=generator)
    assert passes.take() == (0, 0) and moved.encoding is chain.encoding
    moved, _ = kernel.step(energy, chain, free=free, generator=generator)
    assert passes.take()[0] == 1
    torch.testing.assert_close(moved.f, evaluate(energy, moved.position, with_score=False).f)
    right, following = evaluate(energy, moved.position), evaluate(energy, moved.position, previous=moved)
    assert right.score is not None and following.score is not None
    torch.testing.assert_close(following.score["x"], right.score["x"])


def test_names_what_does_not_fit() -> None:
    space = Space(x=Continuous(2), y=Categorical(3), z=Continuous())
    with pytest.raises(ValueError, match=r"must be finite and of shape \(3, 2\)"):
        ShiftedGibbs(space, "y", {"x": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="must be finite"):
        ShiftedGibbs(space, "y", {"z": torch.tensor([0.0, torch.nan, 0.0])})
    with pytest.raises(ValueError, match="pass a mapping"):
        ShiftedGibbs(space, "y", torch.zeros(3, 2))
    with pytest.raises(ValueError, match="no discrete block 'x'"):
        ShiftedGibbs(space, "x", {"z": torch.zeros(3)})
    with pytest.raises(ValueError, match="make the kernel from this space"):
        ShiftedGibbs(space, "y", {"x": torch.zeros(3, 2)}).require(Space(x=Continuous(3), y=Categorical(3)))


def test_stationary_in_a_cycle_over_two_blocks() -> None:
    """Blocks without continuous companions in the shift are left alone; the matrix is that of `Gibbs` on one block."""
    space = Space(y=Categorical(3), b=Binary(), x=Continuous(2))
    f, given = RandomLogDensity(space, 1), {"x": [0.1, 0.2]}
    matrix, position = transition_matrix(ShiftedGibbs(space, "y", {"x": torch.zeros(3, 2)}), f, space, given)
    assert stationarity_residual(matrix, f(position).softmax(dim=0)) <= 1e-12
    expected, _ = transition_matrix(Gibbs(space, ("y",)), f, space, given)
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)
