"""Specification of `PairwiseSums`: f, its score and its sweeps from sums over pairs; refused where f is more than that."""

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import GridPairs, IsingEnergy
from jointebm.kernels import ChromaticGibbs, Cycle, Gibbs, LogDensity, evaluate, pairwise_sums
from jointebm.kernels.columns import columns_of
from jointebm.kernels.pairwise_sums import PairwiseSums, Pull
from jointebm.spaces.space import Position
from jointebm.testing import stationarity_residual, target_probs, transition_matrix
from support.mutants import altered
from support.oracles import Counted, Passes, clamp_patterns, gibbs_matrices

MIXED = Space(bits=Binary(2), y=Categorical(3), group=Categorical((2, 3)))


class Quadratic:
    """f = 3 + b y + y A y / 2 at random over all columns, where variables of one colour and classes of one do not meet."""

    def __init__(self, space: Space, reach: int = 99) -> None:
        self.columns = columns_of(space, space.discrete, torch.device("cpu"))
        variable, num = self.columns.variable, len(self.columns.variable)
        generator = torch.Generator().manual_seed(0)
        matrix = torch.randn(num, num, generator=generator, dtype=torch.float64)
        apart = (variable[:, None] - variable).abs()
        self.matrix = (matrix + matrix.T) * (apart > 0) * (apart <= reach)
        self.vector = torch.randn(num, generator=generator, dtype=torch.float64)

    def __call__(self, position: Position) -> Tensor:
        y = self.columns.join(position)
        dtype = y.dtype
        return 3 + y @ self.vector.to(dtype) + 0.5 * ((y @ self.matrix.to(dtype)) * y).sum(dim=1)


def rows(space: Space, num: int = 3) -> dict[str, Tensor]:
    return space.clamp(None, num_chains=num, generator=torch.Generator().manual_seed(0), dtype=torch.float64)[0]


def found(f: LogDensity, space: Space) -> PairwiseSums | None:
    return PairwiseSums.found(f, space, rows(space), generator=torch.Generator().manual_seed(1))


def verified(f: LogDensity, space: Space) -> ChromaticGibbs:
    return ChromaticGibbs.verified(space, f, rows(space), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("reach", [1, 99])
def test_sums_are_f_and_its_score(reach: int) -> None:
    f = Quadratic(MIXED, reach)
    sums = found(f, MIXED)
    assert sums is not None
    chain = evaluate(f, MIXED.configurations(dtype=torch.float64))
    y, score = f.columns.join(chain.position), f.columns.join(chain.score)  # type: ignore[arg-type]
    torch.testing.assert_close(sums.score(y), score, rtol=0, atol=1e-12)
    torch.testing.assert_close(sums.at(y, score), chain.f, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reach", [0, 1, 3, 8, 99])
def test_a_pull_reads_neighbours_one_by_one_or_as_a_product(reach: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one where many columns are read; else side by side, with others among them, or strewn."""
    space = Space(y=Binary(60))
    sums = found(Quadratic(space, reach), space)
    assert sums is not None
    y = torch.rand(7, 60, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    some = [torch.arange(60), torch.tensor([0, 1]), torch.tensor([59]), torch.tensor([20]), torch.tensor([5, 50])]
    for cost in (100, 4):
        monkeypatch.setattr(pairwise_sums, "GATHER_COST", cost)
        pulls = [Pull.of(sums, wanted) for wanted in some]
        for wanted, pull in zip(some, pulls, strict=True):
            torch.testing.assert_close(pull.score(y), sums.score(y)[:, wanted], rtol=0, atol=1e-12)
            sources = int((sums.matrix[:, wanted] != 0).any(dim=1).sum())
            most = int((sums.matrix[:, wanted] != 0).sum(dim=0).max())
            assert pull.slots == (most * cost <= sources)
            assert pull.run is None or pull.run[1] - pull.run[0] == len(pull.sources) <= 2 * sources
        strewn = [not pull.slots and pull.run is None for pull in pulls]
        assert strewn == [reach in (1, 3, 8) and number == 4 for number in range(5)]
    assert pulls[0].slots == (reach <= 3)


def test_f_that_is_more_than_sums_is_not_known() -> None:
    bits = Space(y=Binary(4))
    kinks: list[LogDensity] = [
        lambda p: p["y"].prod(dim=1),
        lambda p: p["y"].sum(dim=1).tanh(),
        lambda p: p["y"][:, 0] + (p["y"].sum(dim=1) - 3.9).relu(),  # flat at the points, and not at (1, 1, 1, 1)
    ]
    assert all(found(f, bits) is None for f in kinks)
    own = torch.tensor([0.0, 1.0, 2.0])  # each row has a field of its own
    assert found(lambda p: own * p["y"][:, 0] + p["y"][:, 1] * p["y"][:, 2], bits) is None
    assert found(lambda p: p["x"] * p["y"][:, 0], Space(x=Continuous(), y=Binary(4))) is None
    flat = found(lambda p: p["y"].sum(dim=1), bits)
    assert flat is not None and not bool(flat.matrix.any())


@pytest.mark.parametrize("name", ["ragged", "grid", "pixels two apart"])
def test_sweeps_without_evaluations_are_products_of_conditionals_whatever_is_clamped(name: str) -> None:
    pixels = GridPairs(width=3).double()
    torch.nn.init.normal_(pixels.weight, generator=torch.Generator().manual_seed(0))
    ising = Space(spins=Binary((2, 4)))
    cases: dict[str, tuple[Space, LogDensity]] = {
        "ragged": (MIXED, Quadratic(MIXED, 1)),
        "grid": (ising, IsingEnergy(ising, coupling=0.4, field=0.2).double()),
        "pixels two apart": (Space(y=Binary((2, 3))), lambda p: pixels(p["y"])),
    }
    space, f = cases[name]
    kernel, position = verified(f, space), space.configurations(dtype=torch.float64)
    assert kernel.sums is not None
    number = torch.cat([kernel.colours[each].flatten() for each in kernel.blocks])
    for free in clamp_patterns(space, position).values():
        matrix, _ = transition_matrix(kernel, f, space, free=free)
        assert stationarity_residual(matrix, target_probs(f, position)) < 1e-12
        single, expected = gibbs_matrices(f, space, position, free), torch.eye(len(matrix), dtype=torch.float64)
        for variable in number.argsort(stable=True).tolist():
            expected = expected @ single[variable]
        torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-12)


def test_a_step_evaluates_nothing_and_any_other_f_is_evaluated() -> None:
    f, passes = Quadratic(MIXED, 1), Passes()
    counted = Counted(f, passes)
    kernel, (position, free) = (
        verified(counted, MIXED),
        MIXED.clamp(None, num_chains=4, generator=torch.Generator(), dtype=torch.float64),
    )
    chain = evaluate(counted, position)
    passes.take()
    kernel.step(counted, chain, free=free, generator=torch.Generator())
    assert passes.take() == (0, 0)
    other = Counted(f, passes)
    kernel.step(other, evaluate(other, position), free=free, generator=torch.Generator())
    assert passes.take() == (3, 3)  # the chain, and two colours


def test_a_long_run_in_single_precision_does_not_drift() -> None:
    """f and score are sums at the position each time, and not what was carried along."""
    space = Space(y=Binary(40))
    f, generator = Quadratic(space), torch.Generator().manual_seed(0)
    position, free = space.clamp(None, num_chains=20, generator=generator)
    kernel = Cycle((ChromaticGibbs.verified(space, f, position, generator=generator), Gibbs(space)))
    chain = evaluate(f, position)
    for _ in range(50):
        chain, _ = kernel.step(f, chain, free=free, generator=generator)
    chain, _ = kernel.kernels[0].step(f, chain, free=free, generator=generator)
    expected = evaluate(f, chain.position)
    torch.testing.assert_close(chain.f, expected.f, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(chain.score["y"], expected.score["y"], rtol=1e-5, atol=1e-4)  # type: ignore[index]


FAULTS = {
    "neighbours of the colour before are stale": {
        "table.movable(unclamped), pull.score(y)": "table.movable(unclamped), pull.score(start)"
    },
    "the score is that of the colours, not of the end": {
        "known.colours[0].pull.score(y)": "known.colours[0].pull.score(start)"
    },
    "columns stay sorted by colour": {"values if self.back is None else values[:, self.back]": "values"},
    "f is that of the start": {"known.sums.at(y, score)": "known.sums.at(start, score)"},
    "clamp ignored": {"own = table.movable(unclamped)": "own = table.movable(unclamped | True)"},
    "known for any f": {"self.sums is not None and log_density is self.verified_for": "self.sums is not None"},
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(name: str) -> None:
    start = {"    own = y  #": "    own = start = y  #"}
    kind, f = altered(ChromaticGibbs, FAULTS[name] | start), Quadratic(MIXED, 1)
    other = Quadratic(MIXED, 1)
    other.vector = -other.vector
    kernel = kind.verified(MIXED, f, rows(MIXED), generator=torch.Generator().manual_seed(1))
    position, worst = MIXED.configurations(dtype=torch.float64), 0.0
    for target in (f, other):
        for free in clamp_patterns(MIXED, position).values():
            try:
                matrix, _ = transition_matrix(kernel, target, MIXED, free=free)
            except AssertionError:
                return
            worst = max(worst, stationarity_residual(matrix, target_probs(target, position)))
    assert worst > 1e-3
