"""Specification of `SwendsenWang`: the cluster algorithm where f fits, and exact for any f and couplings."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space, sample
from jointebm.energies import IsingEnergy
from jointebm.kernels import ChromaticGibbs, Gibbs, Kernel, LogDensity, SwendsenWang, evaluate
from jointebm.spaces.space import Position
from jointebm.testing import detailed_balance_residual, stationarity_residual, target_probs, transition_matrix
from support.mutants import altered
from support.oracles import Counted, Passes, RandomLogDensity, clamp_patterns, labels_of

Pair = tuple[int, int, float]


class Tied:
    """f = sum of J_vw [y_v = y_w] over pairs + fields of single labels, at random, with labels counted over blocks."""

    def __init__(self, space: Space, pairs: list[Pair], *, field: float = 0.7, seed: int = 0) -> None:
        self.space, self.pairs = space, pairs
        counts = [count for name in space.discrete for count in space.num_classes(name)]
        generator = torch.Generator().manual_seed(seed)
        shape = (len(counts), max(counts))
        self.fields = field * torch.randn(shape, generator=generator, dtype=torch.float64)

    def __call__(self, position: Position) -> Tensor:
        parts = []  # per variable, probabilities of its classes, (N, K)
        for name in self.space.discrete:
            flat = position[name].flatten(1)
            if isinstance(self.space[name], Binary):
                parts += [torch.stack([1 - bit, bit], dim=1) for bit in flat.unbind(1)]
            else:
                parts += flat.split(list(self.space.num_classes(name)), dim=1)
        total = sum((part @ field[: part.shape[1]] for part, field in zip(parts, self.fields, strict=True)), 0)
        for one, other, strength in self.pairs:
            total = total + strength * (parts[one] * parts[other]).sum(dim=1)
        if "x" in position:
            total = total + position["x"].sum(dim=1) * parts[0][:, -1]
        return total  # type: ignore[return-value]


def grid(rows: int, columns: int, strength: float) -> list[Pair]:
    number = torch.arange(rows * columns).reshape(rows, columns)
    down, right = (number[:-1], number[1:]), (number[:, :-1], number[:, 1:])
    return [
        (int(one), int(other), strength)
        for parts in (down, right)
        for one, other in zip(parts[0].flatten(), parts[1].flatten(), strict=True)
    ]


BITS = [(0, 1, 0.9), (1, 2, -1.3), (0, 2, 0.6)]  # a circle that no state satisfies
GRAPHS: dict[str, Tied] = {
    "pair": Tied(Space(y=Binary(2)), [(0, 1, 0.8)]),
    "pair that differs": Tied(Space(y=Binary(2)), [(0, 1, -0.8)]),
    "triangle": Tied(Space(y=Binary(3)), [(0, 1, 0.8), (1, 2, 0.5), (0, 2, 1.1)]),
    "triangle of mixed signs": Tied(Space(y=Binary(3)), BITS),
    "2 x 2 grid without fields": Tied(Space(y=Binary((2, 2))), grid(2, 2, 0.9), field=0.0),
    "Potts triangle": Tied(Space(y=Categorical(3, (3,))), [(0, 1, 0.8), (1, 2, 0.5), (0, 2, 1.1)]),
    "Potts pair and one apart": Tied(Space(y=Categorical(3, (3,))), [(0, 2, 1.2)]),
    "ragged": Tied(Space(y=Categorical((2, 3, 2, 3))), [(0, 2, -0.9), (1, 3, 0.8)]),
    "bits and two classes": Tied(
        Space(bits=Binary(2), x=Continuous(2), y=Categorical(2, (2,))), [(0, 2, 0.8), (1, 2, -0.6), (2, 3, 0.7)]
    ),
}


def given(space: Space) -> dict[str, Any]:
    return {"x": [0.4, -0.1]} if "x" in space else {}


def verified(f: LogDensity, space: Space) -> SwendsenWang:
    generator = torch.Generator().manual_seed(0)
    position, _ = space.clamp(None, num_chains=3, generator=generator, dtype=torch.float64)
    return SwendsenWang.verified(space, f, position, generator=generator)


def matrix_by_definition(f: Tied, num: int) -> Tensor:
    """Every set of ties and every state of its clusters, one by one (Swendsen & Wang 1987, with fields)."""
    counts = [count for name in f.space.discrete for count in f.space.num_classes(name)]
    states = list(product(*(range(count) for count in counts)))
    number = {state: place for place, state in enumerate(states)}
    assert len(states) == num
    extra = torch.zeros_like(f.fields)
    if "x" in f.space:
        extra[0, counts[0] - 1] = sum(given(f.space)["x"])
    fields = (f.fields + extra).tolist()
    matrix = torch.zeros(num, num, dtype=torch.float64)
    for state in states:
        can = [(v, w, 1 - math.exp(-abs(j))) for v, w, j in f.pairs if (state[v] == state[w]) == (j > 0)]
        for tied in product((False, True), repeat=len(can)):
            prob, label = 1.0, list(range(len(counts)))
            for (v, w, p), yes in zip(can, tied, strict=True):
                prob *= p if yes else 1 - p
                if yes:
                    label = [label[v] if each == label[w] else each for each in label]
            clusters = [[v for v in range(len(counts)) if label[v] == each] for each in sorted(set(label))]
            options = []
            for cluster in clusters:
                count = counts[cluster[0]]
                logs = [sum(fields[v][(state[v] + s) % count] for v in cluster) for s in range(count)]
                weights = torch.tensor(logs, dtype=torch.float64).softmax(0).tolist()
                options.append(list(enumerate(weights)))
            for shifts in product(*options):
                end, total = list(state), prob
                for cluster, (shift, weight) in zip(clusters, shifts, strict=True):
                    total *= weight
                    for v in cluster:
                        end[v] = (state[v] + shift) % counts[v]
                matrix[number[state], number[tuple(end)]] += total
    return matrix


@pytest.mark.parametrize("name", GRAPHS)
def test_a_verified_step_is_the_algorithm_of_swendsen_and_wang_with_fields(name: str) -> None:
    f = GRAPHS[name]
    kernel = verified(f, f.space)
    matrix, position = transition_matrix(kernel, f, f.space, given(f.space))
    torch.testing.assert_close(matrix, matrix_by_definition(f, len(matrix)), rtol=0, atol=1e-12)
    assert detailed_balance_residual(matrix, target_probs(f, position)) < 1e-12


@pytest.mark.slow
def test_a_grid_of_six_spins_in_fields() -> None:
    f = Tied(Space(y=Binary((2, 3))), grid(2, 3, 0.9))
    matrix, position = transition_matrix(verified(f, f.space), f, f.space)
    torch.testing.assert_close(matrix, matrix_by_definition(f, 64), rtol=0, atol=1e-12)
    assert detailed_balance_residual(matrix, target_probs(f, position)) < 1e-12


@pytest.mark.parametrize("name", ["triangle of mixed signs", "Potts triangle", "bits and two classes"])
def test_whatever_is_clamped_f_is_stationary_and_clamped_neighbours_are_fields(name: str) -> None:
    f = GRAPHS[name]
    kernel = verified(f, f.space)
    _, position = transition_matrix(Gibbs(f.space), f, f.space, given(f.space))
    for free in clamp_patterns(f.space, position).values():
        matrix, _ = transition_matrix(kernel, f, f.space, given(f.space), free=free)
        assert stationarity_residual(matrix, target_probs(f, position)) < 1e-12
    alone = torch.tensor([True] + [False] * (f.space["y"].num_variables - 1))
    if name != "bits and two classes":  # one free label among clamped ones is drawn from its conditional
        one, _ = transition_matrix(kernel, f, f.space, free={"y": alone})
        other, _ = transition_matrix(Gibbs(f.space), f, f.space, free={"y": alone})
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


SMALL = Space(bits=Binary(2), y=Categorical(3, (2,)))
WRONG = torch.tensor([[0.0, -0.7, 0, 0], [-0.7, 0, 0, 0], [0, 0, 0, 1.1], [0, 0, 1.1, 0]])


def test_any_f_is_stationary_with_any_couplings_whatever_is_clamped() -> None:
    """f is not linear in labels, and every label meets every other."""
    f, kernel = RandomLogDensity(SMALL, 1), SwendsenWang(SMALL, WRONG)
    position = SMALL.configurations(dtype=torch.float64)
    probs = target_probs(f, position)
    for free in clamp_patterns(SMALL, position).values():
        matrix, _ = transition_matrix(kernel, f, SMALL, free=free)
        assert detailed_balance_residual(matrix, probs) < 1e-12


def test_a_verified_kernel_corrects_for_any_other_log_density() -> None:
    fits = Tied(SMALL, [(0, 1, -0.7), (2, 3, 1.1)])
    kernel, f = verified(fits, SMALL), RandomLogDensity(SMALL, 1)
    matrix, position = transition_matrix(kernel, f, SMALL)
    assert stationarity_residual(matrix, target_probs(f, position)) < 1e-12
    object.__setattr__(kernel, "verified_for", f)  # without the check, it would not
    matrix, _ = transition_matrix(kernel, f, SMALL)
    assert stationarity_residual(matrix, target_probs(f, position)) > 1e-3


def test_smaller_couplings_are_partial_decoupling() -> None:
    """The rest of the couplings is left to the correction, which then rejects some."""
    f = GRAPHS["triangle of mixed signs"]
    kernel = SwendsenWang(f.space, 0.5 * verified(f, f.space).couplings)
    matrix, position = transition_matrix(kernel, f, f.space)
    assert detailed_balance_residual(matrix, target_probs(f, position)) < 1e-12
    chain = evaluate(f, position)
    _, info = kernel.step(f, chain, free={"y": torch.tensor(True)}, generator=torch.Generator().manual_seed(0))
    assert 0 < float(info.accept_prob.min()) < 1 - 1e-6


def test_couplings_of_f_without_correction_accept_everything() -> None:
    for f in GRAPHS.values():
        kernel = SwendsenWang(f.space, verified(f, f.space).couplings)
        position = f.space.clamp(given(f.space), num_chains=50, generator=torch.Generator(), dtype=torch.float64)[0]
        free = {name: torch.ones(50, *f.space[name].variable_shape, dtype=torch.bool) for name in f.space.discrete}
        _, info = kernel.step(f, evaluate(f, position), free=free, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(info.accept_prob, torch.ones(50, dtype=torch.float64), rtol=0, atol=1e-12)


def test_found_couplings_are_those_of_f() -> None:
    for f in GRAPHS.values():
        found, expected = verified(f, f.space).couplings, torch.zeros_like(verified(f, f.space).couplings)
        for one, other, strength in f.pairs:
            expected[one, other] = expected[other, one] = strength
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    space = Space(spins=Binary((2, 4)))  # on a side of two, a pair is joined twice
    found = verified(IsingEnergy(space, coupling=-0.3).double(), space).couplings
    assert sorted({round(float(each), 5) for each in found.flatten()}) == [-1.2, -0.6, 0.0]


def test_costs_one_evaluation_and_none_if_all_is_clamped() -> None:
    f = GRAPHS["Potts triangle"]
    counted = Counted(f, Passes())
    generator = torch.Generator().manual_seed(0)
    kernel, position = verified(f, f.space), f.space.configurations(dtype=torch.float64)
    chain = evaluate(counted, position)
    counted.passes.take()
    kernel.step(counted, chain, free={"y": torch.tensor(True)}, generator=generator)
    assert counted.passes.take() == (1, 1)
    same, info = kernel.step(counted, chain, free={"y": torch.tensor(False)}, generator=generator)
    assert same is chain and not bool(info.accepted.any()) and counted.passes.take() == (0, 0)


def test_a_magnetised_grid_turns_over_where_single_labels_do_not() -> None:
    """At J = .7 single labels keep their sign for longer than any run; a cluster of nearly all turns at every other step."""
    space = Space(spins=Binary((8, 8)))
    energy = IsingEnergy(space, coupling=0.7)
    signs = {}
    for make in (ChromaticGibbs.verified, SwendsenWang.verified):
        generator = torch.Generator().manual_seed(0)
        kernel: Kernel = make(space, energy, {"spins": torch.zeros(2, 8, 8)}, generator=generator)
        start = {"spins": torch.ones(400, 8, 8)}
        end = sample(energy, space, kernel, num_chains=400, num_steps=5, init=start, generator=generator)
        signs[type(kernel)] = float((2 * end.values["spins"].float() - 1).mean(dim=(1, 2)).sign().mean())
    assert signs[ChromaticGibbs] > 0.99
    assert abs(signs[SwendsenWang]) < 5 / math.sqrt(400)  # five standard errors: a false alarm in 2 million


def test_refuses_what_has_no_ties() -> None:
    bits, classes = Space(y=Binary(3)), Space(y=Categorical(3, (2,)))
    cases: list[tuple[LogDensity, Space, str]] = [
        (lambda p: p["y"].prod(dim=1), bits, "second derivatives of f in the labels are not constant"),
        (lambda p: p["y"].sum(dim=1) ** 2, bits, "f is not linear in variable 0 of block 'y'"),
        (lambda p: -0.5 * (p["y"][:, 0] * p["y"][:, 1]).sum(dim=1), classes, "coupling -0.5 ties variable 0"),
        (lambda p: p["y"][:, 0, 0] * p["y"][:, 1, 1], classes, "does not ask only whether they are equal"),
    ]
    for f, space, message in cases:
        with pytest.raises(ValueError, match=message):
            verified(f, space)
    space = Space(x=Continuous(), y=Binary(2))
    with pytest.raises(ValueError, match="or their couplings depend on other blocks"):
        verified(lambda p: p["x"] * p["y"][:, 0] * p["y"][:, 1], space)
    with pytest.raises(ValueError, match="got 1 row to look at f, expected at least 2"):
        SwendsenWang.verified(bits, lambda p: p["y"].sum(dim=1), {"y": torch.zeros(1, 3)}, generator=torch.Generator())


def test_refuses_couplings_that_tie_nothing() -> None:
    bits, ragged = Space(y=Binary(2)), Space(y=Categorical((2, 3)))
    pair = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    cases: list[tuple[Space, Tensor, str]] = [
        (
            bits,
            torch.zeros(3, 3),
            r"got couplings of shape \(3, 3\) and torch.float32, expected floats of shape \(2, 2\)",
        ),
        (bits, pair.triu(), "finite and symmetric"),
        (bits, torch.eye(2), "zeros on the diagonal"),
        (bits, pair * math.inf, "finite and symmetric"),
        (ragged, pair, "variable 0 of block 'y' with 2 classes to variable 1 of block 'y' with 3"),
        (Space(y=Categorical(3, (2,))), -pair, "two classes where a coupling is negative"),
    ]
    for space, couplings, message in cases:
        with pytest.raises(ValueError, match=message):
            SwendsenWang(space, couplings)
    with pytest.raises(ValueError, match="there is no discrete block to move"):
        SwendsenWang(Space(x=Continuous()), pair)


FAULTS = {
    "ties with half the probability": {"torch.stack([-strengths.abs(),": "torch.stack([-strengths.abs() / 2,"},
    "ties pairs without their gain": {"(equal == (self.couplings > 0)) &": ""},
    "sign of the coupling ignored": {"equal == (self.couplings > 0)": "equal == (self.couplings > -9)"},
    "fields ignored": {"fields - fields[:, :1], -torch.inf)": "0 * fields[:, :1], -torch.inf)"},
    "what ties give is not taken from the fields": {"return spread - pulled": "return spread + 0 * pulled"},
    "pairs pull one side alone": {
        "self.couplings.repeat(2), 0)": "torch.cat([self.couplings, 0 * self.couplings]), 0)"
    },
    "only the root has a field": {
        "torch.zeros_like(gains).scatter_add(2, root[:, None].expand_as(gains), gains)": "gains"
    },
    "clusters are pairs that touch": {"components(ties.pairs": "once(ties.pairs"},
    "clamped labels move": {
        "movable = columns.join_free(free, len(chain.f))": "movable = columns.join_free(free, len(chain.f)) | True"
    },
    "clamped neighbours give no field": {
        "torch.where(movable[:, ends] & movable[:, others], ": "torch.where(True | movable[:, ends], "
    },
}
CORRECTIONS = {
    "f missing": {"proposal.f - chain.f + rest": "rest"},
    "ties that are not drawn missing": {"+ rest + gained": "+ gained"},
    "reverse draw missing": {"(pick(log_q_reverse, back) - pick(log_q, drawn))": "(-pick(log_q, drawn))"},
    "draws missing": {"+ rest + gained": "+ rest"},
    "reverse with the same shift": {"-drawn)": "drawn)"},
    "stale score in the reverse": {"columns.join(proposal.score)": "columns.join(chain.score)"},
}
ONCE = """
def once(pairs, bonds, num):
    root = torch.arange(num).expand(len(bonds), num).clone()
    for number, (one, other) in enumerate(pairs.T.tolist()):
        root[:, other] = torch.where(bonds[:, number], torch.minimum(root[:, other], root.new_tensor(one)), root[:, other])
    return root


@lru_cache"""


def worst_residual(kernel_of: Callable[[], Kernel], f: LogDensity, space: Space) -> float:
    """The largest violation of stationarity under some clamps; infinite if a step does what no kernel may."""
    position = space.configurations(dtype=torch.float64)
    residuals = []
    for free in clamp_patterns(space, position).values():
        try:
            matrix, _ = transition_matrix(kernel_of(), f, space, free=free)
        except AssertionError:
            return math.inf
        residuals.append(stationarity_residual(matrix, target_probs(f, position)))
    return max(residuals)


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_verified_steps_are_found(name: str) -> None:
    changes = {**FAULTS[name], **({"@lru_cache": ONCE} if "once" in str(FAULTS[name]) else {})}
    kind = altered(SwendsenWang, changes)
    found = []
    for graph in ("triangle of mixed signs", "Potts triangle"):
        f = GRAPHS[graph]
        generator = torch.Generator().manual_seed(0)
        rows = f.space.clamp(None, num_chains=2, generator=generator, dtype=torch.float64)[0]
        kernel = kind.verified(f.space, f, rows, generator=generator)
        found.append(worst_residual(lambda kernel=kernel: kernel, f, f.space))  # type: ignore[misc]
    assert max(found) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", CORRECTIONS)
def test_faults_of_the_correction_are_found(name: str) -> None:
    kind, f = altered(SwendsenWang, CORRECTIONS[name]), RandomLogDensity(SMALL, 1)
    assert worst_residual(lambda: kind(SMALL, WRONG), f, SMALL) > 1e-4


def test_labels_of_every_kind_stay_one_hot() -> None:
    f = GRAPHS["ragged"]
    position, free = f.space.clamp(None, num_chains=100, generator=torch.Generator(), dtype=torch.float64)
    chain = evaluate(f, position)
    for _ in range(20):
        chain, _ = verified(f, f.space).step(f, chain, free=free, generator=torch.Generator().manual_seed(1))
    assert bool((labels_of(f.space, chain.position) >= 0).all())
    assert bool((chain.position["y"].sum(dim=1) == 4).all())
