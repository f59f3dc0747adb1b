"""Specification of `Jump`: whole rows or blocks from a reference, accepted so that the target stays."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space, sample
from jointebm.energies import MLP, ConcatEnergy, ConvEncoder
from jointebm.kernels import MALA, Chain, Cycle, Info, Jump, Kernel, LogDensity, evaluate
from jointebm.randomness.draws import Generator, accept
from jointebm.references import Mixture
from jointebm.spaces.space import Mask, Position
from jointebm.testing import (
    detailed_balance_residual,
    invariance_test,
    stationarity_residual,
    target_probs,
    transition_matrix,
)
from support.exact_matrices import matrix_error
from support.exact_references import Components, TwoTables, gaussians, random_reference
from support.oracles import (
    MIXED,
    SMALL_SPACES,
    Counted,
    Passes,
    RandomLogDensity,
    SmallSpace,
    clamp_patterns,
    labels_of,
    variables_of,
)

every_space = pytest.mark.parametrize("small", SMALL_SPACES, ids=str)
BITS = Space(bits=Binary(2), y=Categorical(3))
MODES = Space(x=Continuous(2))


def jump_matrix(f: LogDensity, q: Components, space: Space, position: Position, free: Mask) -> Tensor:
    """By its definition, pair by pair; `free` is one mask per row, shape (S, V)."""
    labels, log_f, log_q = labels_of(space, position).tolist(), f(position), q.log_prob(position)
    may_move = variables_of(space, free, len(labels)).tolist()
    matrix = torch.zeros(len(log_f), len(log_f), dtype=torch.float64)
    for i, own in enumerate(labels):
        reach = [
            j for j, o in enumerate(labels) if all(m or a == b for m, a, b in zip(may_move[i], own, o, strict=True))
        ]
        total = log_q[reach].logsumexp(dim=0)
        for j in reach:
            ratio = (log_f[j] - log_q[j]) - (log_f[i] - log_q[i])
            if j != i:
                matrix[i, j] = (log_q[j] - total + ratio.clamp(max=0)).exp()
        matrix[i, i] = 1 - matrix[i].sum()
    return matrix


def full_masks(space: Space, pattern: Mask, num: int) -> dict[str, Tensor]:
    none = torch.tensor(False)
    return {name: pattern.get(name, none).expand(num, *space[name].variable_shape) for name in space}


@pytest.mark.slow
@every_space
def test_satisfies_detailed_balance_whatever_is_clamped(small: SmallSpace) -> None:
    f, kernel = RandomLogDensity(small.space, 0), Jump(random_reference(small.space, 1))
    assert matrix_error(kernel, f, small) <= 1e-12


@pytest.mark.parametrize("name", ["bits", "ragged", "one-class-block", "continuous-between"])
def test_is_the_independence_kernel_of_the_definition(name: str) -> None:
    small = next(small for small in SMALL_SPACES if small.name == name)
    f, q = RandomLogDensity(small.space, 2), random_reference(small.space, 3)
    _, position = transition_matrix(Jump(q), f, small.space, small.given)
    for free in clamp_patterns(small.space, position).values():
        matrix, _ = transition_matrix(Jump(q), f, small.space, small.given, free=free)
        free = full_masks(small.space, free, len(matrix))
        torch.testing.assert_close(matrix, jump_matrix(f, q, small.space, position, free), rtol=0, atol=1e-12)


@pytest.mark.parametrize("blocks", [("bits",), ("group", "y"), ("bits", "y", "group")])
def test_moves_only_the_blocks_it_names(blocks: tuple[str, ...]) -> None:
    f, q, space = RandomLogDensity(MIXED.space, 4), random_reference(MIXED.space, 5), MIXED.space
    matrix, position = transition_matrix(Jump(q, blocks), f, space)
    free = full_masks(space, {name: torch.tensor(True) for name in blocks}, len(matrix))
    torch.testing.assert_close(matrix, jump_matrix(f, q, space, position, free), rtol=0, atol=1e-12)
    assert stationarity_residual(matrix, target_probs(f, position)) <= 1e-12


def test_every_pattern_of_free_variables_leaves_the_target_invariant() -> None:
    f, q = RandomLogDensity(BITS, 6), random_reference(BITS, 7)
    for number in range(8):
        free = {"bits": torch.tensor([bool(number & 1), bool(number & 2)]), "y": torch.tensor(bool(number & 4))}
        matrix, position = transition_matrix(Jump(q), f, BITS, free=free)
        assert detailed_balance_residual(matrix, target_probs(f, position)) <= 1e-12


def test_draws_from_the_target_itself_are_always_accepted() -> None:
    q = random_reference(BITS, 8)
    matrix, position = transition_matrix(Jump(q), lambda p: q.log_prob(p) + 3, BITS)
    torch.testing.assert_close(matrix, target_probs(q.log_prob, position).expand_as(matrix), rtol=0, atol=1e-12)


def test_a_reference_whose_conditionals_do_not_agree_with_its_density_does_no_harm() -> None:
    f, q = RandomLogDensity(BITS, 11), TwoTables(random_reference(BITS, 12), random_reference(BITS, 13))
    for bits, y in (([True, True], True), ([True, False], True), ([True, True], False)):
        free = {"bits": torch.tensor(bits), "y": torch.tensor(y)}
        matrix, position = transition_matrix(Jump(q), f, BITS, free=free)
        assert detailed_balance_residual(matrix, target_probs(f, position)) <= 1e-12
        if not all(bits):  # log q of whole rows would not do
            matrix, position = transition_matrix(FaultyJump(q, "log q of whole rows"), f, BITS, free=free)
            assert stationarity_residual(matrix, target_probs(f, position)) > 1e-3


# Continuous blocks and faults.


@dataclass(frozen=True)
class FaultyJump(Kernel):
    """A second `Jump`, with a fault."""

    reference: Components | TwoTables
    fault: str = ""

    uses_score = False
    adjusted = False

    @torch.no_grad()
    def step(self, log_density: LogDensity, chain: Chain, *, free: Mask, generator: Generator) -> tuple[Chain, Info]:
        q, old = self.reference, chain.position
        free = full_masks(q.space, free, len(chain.f))
        if self.fault == "clamp ignored":
            free = {name: torch.ones_like(mask) for name, mask in free.items()}
        missing = {name: torch.where(q.space[name].expand(free[name]), torch.nan, value) for name, value in old.items()}
        new = q.complete(missing, generator)
        if self.fault == "proposal ignores what is clamped":
            fresh = q.draw(len(chain.f), generator)
            new = {name: torch.where(q.space[name].expand(free[name]), fresh[name], old[name]) for name in old}
        f = log_density(new)
        of_q = {"q of the wrong block": dict.fromkeys(list(free)[:1], torch.tensor(True))}.get(self.fault, free)
        forth, back = q.log_conditional(new, of_q), q.log_conditional(old, of_q)
        if self.fault == "log q of whole rows":
            forth, back = q.log_prob(new), q.log_prob(old)
        if self.fault == "log q missing":
            forth = back = torch.zeros_like(f)
        if self.fault == "log q inverted":
            forth, back = back, forth
        ratio = (f - forth) - (chain.f - back)
        movable = torch.stack([mask.reshape(len(f), -1).any(dim=1) for mask in free.values()]).any(dim=0)
        accepted = accept(ratio, generator) & movable
        if self.fault == "never rejects":
            accepted = movable
        position = {
            name: torch.where(accepted.reshape(-1, *[1] * (value.ndim - 1)), new[name], value)
            for name, value in old.items()
        }
        kept = chain.f if self.fault == "stale f" else torch.where(accepted, f, chain.f)
        return Chain(position, kept, None), Info(ratio.clamp(max=0).exp(), accepted)


FAULTS = (
    "log q missing",
    "log q inverted",
    "q of the wrong block",
    "clamp ignored",
    "proposal ignores what is clamped",
    "never rejects",
    "stale f",
)


def passes_exact_tests(kernel: Kernel, f: LogDensity) -> bool:
    for number in (7, 5, 2, 6):
        free = {"bits": torch.tensor([bool(number & 1), bool(number & 2)]), "y": torch.tensor(bool(number & 4))}
        try:
            matrix, position = transition_matrix(kernel, f, BITS, free=free)
        except AssertionError:
            return False
        if stationarity_residual(matrix, target_probs(f, position)) > 1e-12:
            return False
    return True


def test_the_copy_that_mutants_are_made_from_is_right() -> None:
    f, q = RandomLogDensity(BITS, 9), random_reference(BITS, 10)
    assert passes_exact_tests(FaultyJump(q), f)
    assert passes_exact_tests(Jump(q), f)


@pytest.mark.parametrize("fault", FAULTS)
def test_mutants_are_rejected(fault: str) -> None:
    f, q = RandomLogDensity(BITS, 9), random_reference(BITS, 10)
    assert not passes_exact_tests(FaultyJump(q, fault), f)


@pytest.mark.parametrize("clamped", [False, True])
def test_leaves_a_mixed_density_invariant(clamped: bool) -> None:
    """False-alarm rate 1e-4 each; the reference has other weights, places and labels than the target."""
    space = Space(x=Continuous(2), y=Categorical(3))
    target, q = random_reference(space, 2, spread=2), random_reference(space, 3, spread=2)
    generator = torch.Generator().manual_seed(0)
    draws = target.draw(6000, generator)
    free = None
    if clamped:
        free = {
            "x": torch.rand(6000, 2, generator=generator) < 0.6,
            "y": torch.rand(6000, generator=generator) < 0.5,
        }

    def test(kernel: Kernel) -> bool:
        return invariance_test(
            kernel, target.log_prob, space, draws, num_steps=8, generator=generator, alpha=1e-4, free=free
        ).rejected

    assert not test(Jump(q))
    assert test(FaultyJump(q, "log q missing"))
    assert clamped or test(FaultyJump(q, "q of the wrong block"))


def test_clamped_entries_keep_their_bits_and_rows_with_nothing_free_do_not_move() -> None:
    space = Space(x=Continuous(3), y=Categorical((2, 3)))
    f, q, generator = RandomLogDensity(space, 0), random_reference(space, 1), torch.Generator().manual_seed(0)
    chain = evaluate(f, q.draw(200, generator))
    free = {"x": torch.rand(200, 3, generator=generator) < 0.5, "y": torch.rand(200, 2, generator=generator) < 0.5}
    free["x"][:20] = free["y"][:20] = False
    moved, info = Jump(q).step(f, chain, free=free, generator=generator)
    for name in space:
        held = ~space[name].expand(free[name])
        assert torch.equal(moved.position[name][held], chain.position[name][held])
    assert not info.accepted[:20].any() and float(info.accept_prob[:20].sum()) == 0
    assert info.accepted[20:].float().mean() > 0.2
    right = evaluate(f, moved.position)
    torch.testing.assert_close(moved.f, right.f)
    assert moved.score is not None and right.score is not None
    for name in space:
        torch.testing.assert_close(moved.score[name], right.score[name])


@pytest.mark.parametrize("with_score", [False, True])
def test_a_step_costs_one_evaluation(with_score: bool) -> None:
    f, q = RandomLogDensity(BITS, 0), random_reference(BITS, 1)
    counted = Counted(f, Passes())
    chain = evaluate(counted, q.draw(10, torch.Generator()), with_score=with_score)
    counted.passes.take()
    everything = {name: torch.tensor(True) for name in BITS}
    moved, _ = Jump(q).step(counted, chain, free=everything, generator=torch.Generator())
    assert counted.passes.take() == (1, int(with_score))
    assert (moved.score is not None) == with_score


def test_a_jump_of_the_label_keeps_the_encoding_of_the_image() -> None:
    torch.manual_seed(0)
    space = Space(image=Continuous((8, 8)), digit=Categorical(3))
    energy = ConcatEnergy(space, MLP(8 + 3, (16,)), encoder=ConvEncoder((2, 2, 2), 2))
    q = Mixture(space)
    chain = evaluate(energy, q.draw(6, torch.Generator().manual_seed(0)))
    free = {name: torch.tensor(True) for name in space}
    moved, _ = Jump(q, ("digit",)).step(energy, chain, free=free, generator=torch.Generator().manual_seed(1))
    assert moved.encoding is chain.encoding is not None
    moved, _ = Jump(q).step(energy, moved, free=free, generator=torch.Generator().manual_seed(1))
    right = evaluate(energy, moved.position)
    assert moved.score is not None and right.score is not None
    torch.testing.assert_close(moved.score["image"], right.score["image"])


def test_finds_the_weight_of_a_mode_in_which_no_chain_starts() -> None:
    """Field case: weights .2 and .8, 8 apart; every chain starts in the first. 1,000 chains: standard error .013."""

    def f(position: Position) -> Tensor:
        x = position["x"]
        one, other = -0.5 * x.square().sum(dim=1), -0.5 * (x - 8).square().sum(dim=1)
        return torch.logaddexp(one + torch.tensor(0.2).log(), other + torch.tensor(0.8).log())

    q = gaussians(MODES, [0.5, 0.5], [[0, 0], [8, 8]], 1.3)
    generator = torch.Generator().manual_seed(0)
    start = {"x": torch.randn(1000, 2, generator=generator, dtype=torch.float64)}
    local, crossing = (
        sample(f, MODES, kernel, num_chains=1000, num_steps=20, init=start, generator=generator)
        for kernel in (MALA("x", 1.2), Cycle((Jump(q), MALA("x", 1.2))))
    )
    assert float((local.values["x"][:, 0] > 4).double().mean()) == 0
    assert abs(float((crossing.values["x"][:, 0] > 4).double().mean()) - 0.8) < 4 * 0.0127
    assert crossing.accept_rate[0] > 0.4


def test_names_what_does_not_fit() -> None:
    q = random_reference(BITS, 0)
    with pytest.raises(ValueError, match="'z'"):
        Jump(q, ("z",))
    with pytest.raises(ValueError, match="names no block"):
        Jump(q, ())
    with pytest.raises(ValueError, match="Jump: was made for a block"):
        Jump(q).require(Space(bits=Binary(2), y=Categorical(4)))
    Jump(q).require(Space(bits=Binary(2), extra=Continuous(), y=Categorical(3)))


@pytest.mark.parametrize("of_chain", [torch.float32, torch.float64])
@pytest.mark.parametrize("of_reference", [torch.float32, torch.float64])
def test_chains_keep_their_precision_whatever_that_of_the_reference(
    of_chain: torch.dtype, of_reference: torch.dtype
) -> None:
    space, generator = Space(x=Continuous(2), y=Categorical((2, 3))), torch.Generator().manual_seed(0)
    q = Mixture(space, 2).to(of_reference)
    position, free = space.clamp(None, num_chains=20, generator=generator, dtype=of_chain)
    chain = evaluate(lambda p: -p["x"].square().sum(dim=1), position)
    moved, info = Jump(q).step(lambda p: -p["x"].square().sum(dim=1), chain, free=free, generator=generator)
    assert {moved.f.dtype, info.accept_prob.dtype, *(value.dtype for value in moved.position.values())} == {of_chain}
