"""Specification of `GibbsWithGradients`: exact in every small space, whatever is clamped, and cheap."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import Chain, GibbsWithGradients, Info, Kernel, LogDensity, evaluate, settle
from jointebm.kernels.columns import columns_of
from jointebm.randomness.draws import Generator
from jointebm.spaces.space import Mask, Position
from jointebm.testing import transition_matrix
from support.exact_matrices import matrix_error
from support.oracles import (
    MIXED,
    SMALL_SPACES,
    Counted,
    Passes,
    RandomLogDensity,
    Script,
    SmallSpace,
    clamp_patterns,
    gwg_matrix,
    gwg_proposal,
)

every_space = pytest.mark.parametrize("small", SMALL_SPACES, ids=str)


def all_free(space: Space) -> dict[str, Tensor]:
    return {name: torch.tensor(True) for name in space}


@every_space
def test_is_reversible_and_equals_equations_4_and_5_written_as_loops_whatever_is_clamped(small: SmallSpace) -> None:
    f = RandomLogDensity(small.space, 2)
    assert matrix_error(GibbsWithGradients(small.space), f, small, gwg_matrix) <= 1e-12


class Settling(Kernel):
    """The kernel in a run, which settles its masks."""

    uses_score = adjusted = True

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def step(
        self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator
    ) -> tuple[Chain, Info | tuple[Any, ...]]:
        return self.kernel.step(log_density, chain, free=settle(free), generator=generator)


@every_space
def test_settled_masks_change_nothing(small: SmallSpace) -> None:
    """Where nothing is clamped, a step then leaves masks out of its operations."""
    f, kernel = RandomLogDensity(small.space, 2), GibbsWithGradients(small.space)
    _, position = transition_matrix(kernel, f, small.space, small.given)
    for free in clamp_patterns(small.space, position).values():
        matrices = [
            transition_matrix(each, f, small.space, small.given, free=free)[0] for each in (kernel, Settling(kernel))
        ]
        torch.testing.assert_close(*matrices, rtol=0, atol=1e-14)


@pytest.mark.parametrize("space", [Space(a=Binary(3), b=Categorical((2, 3, 4))), Space(b=Categorical((2, 3)))], ids=str)
def test_gains_of_few_columns_are_those_of_many(space: Space) -> None:
    """Sums over the columns of a variable by a product of matrices, and by indices where columns are many."""
    columns, generator = columns_of(space, space.discrete, torch.device("cpu")), torch.Generator().manual_seed(0)
    y = columns.join(space.clamp(None, num_chains=50, generator=generator)[0])
    score = torch.randn(y.shape, generator=generator)
    gains = columns.above_current(y, score)
    assert columns.dense_pull is not None
    assert torch.equal(gains, columns._replace(dense_pull=None).above_current(y, score))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gains, columns.above_current(y, score))
    bits = columns.is_binary
    assert torch.equal(gains[:, bits], ((1 - 2 * y) * score)[:, bits])
    assert not bool(gains[(y > 0.5) & ~bits].any())


def test_naming_blocks_is_clamping_the_others() -> None:
    space, f = MIXED.space, RandomLogDensity(MIXED.space, 7)
    named, _ = transition_matrix(GibbsWithGradients(space, blocks=("group", "bits")), f, space)
    free = {"bits": torch.tensor(True), "group": torch.tensor(True)}
    clamped, _ = transition_matrix(GibbsWithGradients(space), f, space, free=free)
    torch.testing.assert_close(named, clamped, rtol=0, atol=1e-14)


def test_reports_the_acceptance_probability_of_each_chain() -> None:
    space, f = Space(bits=Binary(2)), RandomLogDensity(Space(bits=Binary(2)), 8)
    position = space.configurations(dtype=torch.float64)
    free = all_free(space)
    script = Script(choices=[torch.zeros(4, dtype=torch.int64)], accepts=[False])
    chain, info = GibbsWithGradients(space).step(f, evaluate(f, position), free=free, generator=script)
    q, values = gwg_proposal(f, space, position, free), f(position).tolist()
    flipped = [2, 3, 0, 1]  # the first bit
    expected = [
        min(1.0, float(torch.tensor(values[j] - values[i]).exp()) * q[j][i] / q[i][j]) for i, j in enumerate(flipped)
    ]
    assert info.accept_prob.tolist() == pytest.approx(expected, rel=1e-6)
    assert not bool(info.accepted.any())
    assert torch.equal(chain.position["bits"], position["bits"])


def test_costs_one_evaluation_a_step_and_none_when_everything_is_clamped() -> None:
    space, generator = Space(y=Categorical(3), bits=Binary(2)), torch.Generator().manual_seed(0)
    counted = Counted(RandomLogDensity(space, 0), Passes())
    position, _ = space.clamp(None, num_chains=5, generator=generator, dtype=torch.float64)
    chain = evaluate(counted, position)
    assert counted.passes.take() == (1, 1)
    for _ in range(3):
        chain, _ = GibbsWithGradients(space).step(counted, chain, free=all_free(space), generator=generator)
    assert counted.passes.take() == (3, 3)
    clamped = {"y": torch.zeros(5, dtype=torch.bool), "bits": torch.tensor(False)}
    for free in (clamped, {}):
        same, info = GibbsWithGradients(space).step(counted, chain, free=free, generator=generator)
        assert same is chain
        assert not bool(info.accepted.any())
    assert counted.passes.take() == (0, 0)


class Operations(TorchDispatchMode):
    """Counts the operations that compute: a view of a tensor is none."""

    VIEWS = ("view", "expand", "unsqueeze", "squeeze", "slice", "select", "detach", "alias", "split_with_sizes")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += function.overloadpacket.__name__ not in (*self.VIEWS, "lift_fresh")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("space", "most"), [(Space(y=Binary(16)), 28), (Space(y=Categorical(3, 5)), 40), (Space(y=Categorical((2, 3))), 40)]
)
def test_a_step_takes_few_operations_besides_the_evaluation(space: Space, most: int) -> None:
    """About 100 without ways of their own for bits and for equal numbers of classes; each costs microseconds."""

    def f(position: Position) -> Tensor:
        return position["y"].flatten(1).sum(dim=1)

    position, masks = space.clamp(None, num_chains=8, generator=torch.Generator().manual_seed(0))
    kernel, chain, generator, free = GibbsWithGradients(space), evaluate(f, position), torch.Generator(), settle(masks)
    kernel.step(f, chain, free=free, generator=generator)  # makes the tables of columns
    with Operations() as of_step:
        kernel.step(f, chain, free=free, generator=generator)
    with Operations() as of_evaluation:
        evaluate(f, position)
    assert of_step.count - of_evaluation.count <= most


def test_a_chain_without_a_score_is_scored_first() -> None:
    space, f = Space(y=Categorical(3)), RandomLogDensity(Space(y=Categorical(3)), 0)
    position, free = space.clamp(None, num_chains=50, generator=torch.Generator(), dtype=torch.float64)
    with_score, without = evaluate(f, position), evaluate(f, position, with_score=False)
    one, two = (
        GibbsWithGradients(space).step(f, chain, free=free, generator=torch.Generator().manual_seed(0))[0]
        for chain in (with_score, without)
    )
    assert torch.equal(one.position["y"], two.position["y"])
    assert torch.equal(one.f, two.f)


def test_a_proposal_where_the_log_density_is_not_a_number_is_never_accepted() -> None:
    space = Space(y=Categorical(3))

    def log_density(position: Position) -> Tensor:
        return torch.where(position["y"][:, 2] > 0.5, torch.nan, position["y"][:, 1])

    chain = evaluate(log_density, {"y": torch.eye(3)[[0, 1] * 100]})
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        chain, _ = GibbsWithGradients(space).step(log_density, chain, free=all_free(space), generator=generator)
    assert not bool(chain.position["y"][:, 2].any())


@pytest.mark.parametrize("slope", [torch.inf, -torch.inf, torch.nan])
def test_a_clamped_label_stays_where_the_score_of_all_others_is_infinite(slope: float) -> None:
    """Where no legal move has a weight."""
    space = Space(bits=Binary(3), y=Categorical(2))

    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(context, bits):  # type: ignore[no-untyped-def]  # noqa: ARG004
            return bits.new_zeros(len(bits))

        @staticmethod
        def backward(context, grad):  # type: ignore[no-untyped-def]  # noqa: ARG004
            return torch.tensor([1.0, slope, slope]).expand(len(grad), 3)

    def steep(position: Position) -> Tensor:
        return Steep.apply(position["bits"])

    free = {"bits": torch.tensor([False, True, True]), "y": torch.tensor(False)}
    position, _ = space.clamp(None, num_chains=50, generator=torch.Generator().manual_seed(0))
    chain, _ = GibbsWithGradients(space).step(steep, evaluate(steep, position), free=free, generator=torch.Generator())
    assert torch.equal(chain.position["bits"][:, 0], position["bits"][:, 0])
    assert torch.equal(chain.position["y"], position["y"])


def test_refuses_blocks_that_do_not_exist_or_are_not_discrete() -> None:
    space = Space(x=Continuous(2), y=Categorical(3))
    with pytest.raises(ValueError, match="no discrete block 'z'; this space has 'y'"):
        GibbsWithGradients(space, blocks=("z",))
    with pytest.raises(ValueError, match="no discrete block 'x'"):
        GibbsWithGradients(space, blocks=("x",))
    with pytest.raises(ValueError, match="there is no discrete block to move"):
        GibbsWithGradients(Space(x=Continuous(2)))
