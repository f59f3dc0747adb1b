"""Specification of `jointebm.kernels.chain`: f and score of a chain are those of its position, always, at least cost."""

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import MLP, BilinearEnergy, ConcatEnergy, ConvEncoder, JEMEnergy
from jointebm.kernels import (
    MALA,
    Chain,
    ChromaticGibbs,
    Cycle,
    Gibbs,
    GibbsWithGradients,
    Kernel,
    Langevin,
    LogDensity,
    SwendsenWang,
    evaluate,
    evaluate_candidates,
    scored,
    settle,
)
from jointebm.spaces.space import Position
from support.oracles import Counted, Passes, RandomLogDensity, count_passes

SPACE = Space(x=Continuous((8, 8)), a=Categorical(4), group=Categorical((2, 3)), bits=Binary(2))
WIDTH_X, WIDTH_Y = 64, 4 + 5 + 2


class EncodedBits(nn.Module):
    """A log-density whose encoder reads a discrete block and whose head reads the rest."""

    encoded_blocks = ("bits",)

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(2, 5), nn.Linear(WIDTH_X + 4 + 5, 5)

    def encode(self, position: Position) -> Tensor:
        return torch.tanh(self.inner(position["bits"]))

    def head(self, features: Tensor, position: Position) -> Tensor:
        others = torch.cat([position["x"].flatten(1), position["a"], position["group"]], dim=1)
        pull = 0.1 * position["x"].square().sum(dim=(1, 2))
        return torch.sum(features * self.outer(others), dim=1) - pull

    def forward(self, position: Position) -> Tensor:
        return self.head(self.encode(position), position)


ENERGIES: dict[str, Callable[[], nn.Module]] = {
    "concat": lambda: ConcatEnergy(SPACE, MLP(WIDTH_X + WIDTH_Y, (16, 16)), scale={"x": 0.5, "a": 2.0}),
    "concat-encoder": lambda: ConcatEnergy(SPACE, MLP(8 + WIDTH_Y, (16, 16)), encoder=ConvEncoder((2, 2, 2), 2)),
    "bilinear": lambda: BilinearEnergy(SPACE, MLP(WIDTH_X, (16,), 6), MLP(WIDTH_Y, (16,), 6)),
    "jem": lambda: JEMEnergy(SPACE, MLP(8, (16,), WIDTH_Y), encoder=ConvEncoder((2, 2, 2), 2)),
    "encoded-bits": EncodedBits,
}
every_energy = pytest.mark.parametrize("form", ENERGIES)


def make(form: str) -> nn.Module:
    torch.manual_seed(0)
    return ENERGIES[form]().double()


def hidden(energy: nn.Module) -> LogDensity:
    """The same function, without saying that it has an encoder."""
    return lambda position: energy(position)


def draw(num_chains: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return SPACE.clamp(None, num_chains=num_chains, generator=generator, dtype=torch.float64)[0]


def assert_true(log_density: LogDensity, chain: Chain, *, score: bool = True) -> None:
    """f, and the score if it is there, are those of a fresh evaluation."""
    fresh = evaluate(log_density, chain.position)
    torch.testing.assert_close(chain.f, fresh.f, rtol=1e-10, atol=1e-11)
    if score and chain.score is not None:
        assert fresh.score is not None
        assert set(chain.score) == set(fresh.score) == set(chain.position)
        for name in chain.position:
            torch.testing.assert_close(chain.score[name], fresh.score[name], rtol=1e-10, atol=1e-11)


def test_evaluate_gives_f_and_its_gradient_with_respect_to_every_block() -> None:
    def log_density(position: Position) -> Tensor:
        return position["x"].pow(3).sum(dim=1) * position["y"][:, 1]

    position = {"x": torch.tensor([[1.0, 2.0], [3.0, 0.0]]), "y": torch.tensor([[0.0, 1.0], [0.0, 2.0]])}
    chain = evaluate(log_density, position)
    assert chain.score is not None
    assert chain.f.tolist() == [9, 54]
    assert chain.score["x"].tolist() == [[3, 12], [54, 0]]
    assert chain.score["y"].tolist() == [[0, 9], [0, 27]]
    assert all(chain.position[name] is value and not value.requires_grad for name, value in position.items())
    assert not chain.f.requires_grad


def test_the_score_is_zero_where_f_depends_on_nothing() -> None:
    position = {"x": torch.ones(3, 2), "y": torch.ones(3)}
    for log_density in (lambda p: p["x"][:, 0], lambda p: torch.zeros(3)):  # noqa: ARG005
        chain = evaluate(log_density, position)
        assert chain.score is not None
        assert not bool(chain.score["y"].any())
        assert chain.score["x"].shape == (3, 2)


def test_evaluate_without_score_runs_no_backward_pass_and_scored_adds_it() -> None:
    counted = Counted(RandomLogDensity(SPACE, 0), Passes())
    chain = evaluate(counted, draw(3), with_score=False)
    assert (chain.score, counted.passes.take()) == (None, (1, 0))
    chain = scored(counted, chain, "test")
    assert counted.passes.take() == (1, 1)
    assert scored(counted, chain, "test") is chain
    assert_true(counted, chain)


def test_evaluate_works_under_no_grad_and_leaves_parameters_without_gradients() -> None:
    energy = make("concat-encoder")
    with torch.no_grad():
        chain = evaluate(energy, draw(3))
        assert chain.score is not None
        assert bool(chain.score["x"].any())
    assert all(parameter.grad is None for parameter in energy.parameters())


@pytest.mark.parametrize("form", ["concat-encoder", "plain"])
def test_a_log_density_of_the_wrong_shape_is_an_error_that_names_both_shapes(form: str) -> None:
    def log_density(position: Position) -> Tensor:
        return position["x"].flatten(1)

    energy = make(form) if form != "plain" else None
    if energy is not None:
        energy.head = lambda features, position: features  # type: ignore[assignment]  # noqa: ARG005
    with pytest.raises(ValueError, match=r"returned shape \(3, \d+\), expected one number per chain, \(3,\)"):
        evaluate(energy or log_density, draw(3))


@every_energy
def test_an_encoded_energy_gives_the_f_and_score_of_the_plain_function(form: str) -> None:
    energy, position = make(form), draw(5)
    chain, plain = evaluate(energy, position), evaluate(hidden(energy), position)
    assert chain.encoding is not None
    assert_true(hidden(energy), chain)
    assert_true(energy, plain)


@every_energy
def test_an_encoding_is_reused_only_for_the_very_same_tensors(form: str) -> None:
    energy, position = make(form), draw(5)
    chain = evaluate(energy, position)
    encoded = str(energy.encoded_blocks[0])  # type: ignore[index]
    elsewhere = draw(5, seed=1)
    same = evaluate(energy, {**elsewhere, encoded: position[encoded]}, previous=chain)
    moved = evaluate(energy, elsewhere, previous=chain)
    assert same.encoding is chain.encoding
    assert moved.encoding is not chain.encoding
    assert_true(hidden(energy), same)
    assert_true(hidden(energy), moved)


@every_energy
def test_candidates_are_evaluated_as_the_plain_function_would(form: str) -> None:
    energy, position = make(form), draw(3)
    candidates = {
        name: torch.stack([draw(3, seed=k)[name] for k in range(4)], dim=1)  # (N, K, *position_shape)
        for name in ("a", "bits")
    }
    expected = torch.stack(
        [energy({**position, "a": candidates["a"][:, k], "bits": candidates["bits"][:, k]}) for k in range(4)], dim=1
    )
    torch.testing.assert_close(evaluate_candidates(energy, position, candidates), expected, rtol=1e-12, atol=1e-12)
    only_a = {"a": candidates["a"]}
    expected = torch.stack([energy({**position, "a": candidates["a"][:, k]}) for k in range(4)], dim=1)
    torch.testing.assert_close(evaluate_candidates(energy, position, only_a), expected, rtol=1e-12, atol=1e-12)
    features = energy.encode(position)  # type: ignore[operator]
    again = evaluate_candidates(energy, position, only_a, features=features)
    torch.testing.assert_close(again, expected, rtol=1e-12, atol=1e-12)


@every_energy
@pytest.mark.parametrize("share", ["encoding", "nothing"])
def test_mixing_two_chains_row_by_row_is_evaluating_the_mixed_position(form: str, share: str) -> None:
    energy, accepted = make(form), torch.tensor([True, False, False, True])
    old = evaluate(energy, draw(4))
    position = draw(4, seed=1)
    if share == "encoding":
        position |= {name: old.position[name] for name in energy.encoded_blocks}  # type: ignore[union-attr]
    mixed = evaluate(energy, position, previous=old).where(accepted, old)
    for name in SPACE:
        rows = [(position if row else old.position)[name][i] for i, row in enumerate(accepted.tolist())]
        assert torch.equal(mixed.position[name], torch.stack(rows))
    assert_true(hidden(energy), mixed)
    kept = [name for name in SPACE if position[name] is old.position[name]]
    assert all(mixed.position[name] is old.position[name] for name in kept)


@every_energy
@pytest.mark.parametrize("scored_first", [True, False])
def test_mixing_a_chain_without_score_leaves_the_score_to_be_evaluated(form: str, scored_first: bool) -> None:
    energy, accepted = make(form), torch.tensor([True, False, False, True])
    old = evaluate(energy, draw(4), with_score=scored_first)
    new = evaluate(energy, draw(4, seed=1), previous=old, with_score=not scored_first)
    mixed = new.where(accepted, old)
    assert mixed.score is None
    assert_true(hidden(energy), scored(energy, mixed, None))


def test_settle_leaves_out_what_is_clamped_entirely() -> None:
    free = {"a": torch.tensor([True, False]), "b": torch.zeros(3, dtype=torch.bool), "c": torch.tensor(True)}
    assert set(settle(free)) == {"a", "c"}


def test_an_encoder_runs_backward_only_when_its_score_is_read_and_then_once() -> None:
    energy = make("concat-encoder")
    passes = count_passes(energy.encoder)  # type: ignore[arg-type]
    chain = evaluate(energy, draw(4))
    assert chain.score is not None
    assert chain.score["a"].shape == (4, 4)
    assert passes.take() == (1, 0)
    assert [chain.score["x"].shape, chain.score["x"].shape] == [(4, 8, 8)] * 2
    assert passes.take() == (0, 1)


@pytest.mark.parametrize(
    ("kernel", "forward"),
    [
        (GibbsWithGradients(SPACE, blocks=("a",)), 0),
        (Gibbs(SPACE, blocks=("a", "group")), 0),
        (Langevin("x", 0.1), 0),
        (MALA("x", 0.1), 0),
        (Gibbs(SPACE, blocks=("bits",), scan="systematic"), 2),  # one batch of candidates for each of two bits
        (GibbsWithGradients(SPACE, blocks=("bits",)), 1),
    ],
)
def test_an_encoder_runs_only_for_moves_of_what_it_reads(kernel: Kernel, forward: int) -> None:
    energy = make("encoded-bits")
    passes = count_passes(energy.inner)  # type: ignore[arg-type]
    chain = evaluate(energy, draw(4))
    passes.take()
    kernel.step(energy, chain, free={name: torch.tensor(True) for name in SPACE}, generator=torch.Generator())
    assert passes.forward == forward


def kernels_of(rng: random.Random) -> list[Kernel]:
    step_size = rng.choice([0.05, 0.3])
    return [
        GibbsWithGradients(SPACE),
        GibbsWithGradients(SPACE, blocks=("a", "bits")),
        Gibbs(SPACE),
        Gibbs(SPACE, blocks=("bits",)),
        Gibbs(SPACE, blocks=("group", "a"), scan="systematic"),
        Langevin("x", step_size),
        MALA("x", step_size, temperature=0.7),
        Cycle((GibbsWithGradients(SPACE), MALA("x", step_size))),
        Cycle((Gibbs(SPACE), Cycle((MALA("x", step_size), Gibbs(SPACE))), GibbsWithGradients(SPACE))),
    ]


def masks_of(num_chains: int, rng: random.Random) -> dict[str, Tensor]:
    """Everything free, some of everything, x clamped, or single rows clamped, at random."""
    generator = torch.Generator().manual_seed(rng.randrange(1000))
    free = {}
    for name, block in SPACE.items():
        shape = (num_chains, *block.variable_shape)
        free[name] = {
            "all": torch.tensor(True),
            "some": torch.rand(shape, generator=generator) < 0.5,
            "rows": (torch.rand(num_chains, generator=generator) < 0.5)
            .reshape(-1, *[1] * len(block.variable_shape))
            .expand(shape),
            "none": torch.zeros(shape, dtype=torch.bool),
        }[rng.choice(["all", "some", "rows", "none"])]
    return free


@every_energy
@pytest.mark.parametrize("seed", range(3))
def test_f_and_score_stay_true_and_clamped_entries_stay_put_over_long_random_mixes_of_kernels(
    form: str, seed: int
) -> None:
    """Kernels and masks change at random; the score is read only now and then, so that laziness is tested too."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    energy, chain = make(form), None
    plain = hidden(energy)
    chain = evaluate(energy, draw(6, seed), with_score=rng.random() < 0.5)
    for _ in range(60):
        kernel, free = rng.choice(kernels_of(rng)), masks_of(6, rng)
        before = chain
        for _ in range(rng.choice([1, 3])):
            chain, _ = kernel.step(energy, chain, free=free, generator=generator)
        assert_true(plain, chain, score=rng.random() < 0.4)
        for name in SPACE:
            held = ~SPACE[name].expand(free[name].expand(6, *SPACE[name].variable_shape))
            held = held.expand_as(before.position[name])
            assert torch.equal(chain.position[name][held], before.position[name][held])


class TwoEncoded(nn.Module):
    """A log-density whose encoder reads two continuous blocks."""

    encoded_blocks = ("x", "z")
    space = Space(x=Continuous(2), z=Continuous(3), y=Categorical(4))

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(5, 6), nn.Linear(4, 6)

    def encode(self, position: Position) -> Tensor:
        joined = torch.cat([position["x"], position["z"]], dim=1)
        return torch.cat([torch.tanh(self.inner(joined)), joined], dim=1)

    def head(self, features: Tensor, position: Position) -> Tensor:
        return (features[:, :6] * self.outer(position["y"])).sum(dim=1) - features[:, 6:].square().sum(dim=1)

    def forward(self, position: Position) -> Tensor:
        return self.head(self.encode(position), position)


@pytest.mark.parametrize("moves", [Langevin, MALA])
@pytest.mark.parametrize("block", ["x", "z"])
def test_an_encoding_is_not_reused_when_one_of_two_encoded_blocks_has_moved(
    block: str, moves: type[Langevin] | type[MALA]
) -> None:
    torch.manual_seed(0)
    energy, space = TwoEncoded().double(), TwoEncoded.space
    generator = torch.Generator().manual_seed(0)
    position, free = space.clamp(None, num_chains=20, generator=generator, dtype=torch.float64)
    chain = evaluate(energy, position)
    for kernel in (moves(block, 0.3), Gibbs(space), moves(block, 0.3), GibbsWithGradients(space)):
        moved, info = kernel.step(energy, chain, free=free, generator=generator)
        assert bool(info.accepted.any())
        assert_true(hidden(energy), moved)
        chain = moved


# Energies without a gradient.


def without_gradient(position: Position) -> Tensor:
    return -position["x"].detach().square().flatten(1).sum(dim=1)


def by_labels_only(position: Position) -> Tensor:
    return position["a"] @ position["a"].new_tensor([0.0, 1.0, 2.0, 3.0])


class DetachedInput(nn.Module):
    """Requires a gradient, but only with respect to its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(()))

    def forward(self, position: Position) -> Tensor:
        return -self.slope * position["x"].detach().square().flatten(1).sum(dim=1)


class DetachedEncoder(EncodedBits):
    def encode(self, position: Position) -> Tensor:
        return super().encode(position).detach()


COLOURS = {"a": torch.tensor(0), "bits": torch.tensor([0, 1])}
PAIR = torch.zeros(5, 5)  # of a, group and bits
PAIR[3, 4] = PAIR[4, 3] = 0.5


@pytest.mark.parametrize("before", [(), (Gibbs(SPACE, ("bits",)),)], ids=["first", "after another"])
@pytest.mark.parametrize(
    ("kernel", "log_density", "name"),
    [
        (Langevin("x", 0.1), without_gradient, "without_gradient"),
        (MALA("x", 0.1), without_gradient, "without_gradient"),
        (GibbsWithGradients(SPACE), without_gradient, "without_gradient"),
        (ChromaticGibbs(SPACE, COLOURS), without_gradient, "without_gradient"),
        (SwendsenWang(SPACE, PAIR), without_gradient, "without_gradient"),
        (Langevin("x", 0.1), by_labels_only, "by_labels_only"),
        (MALA("x", 0.1), by_labels_only, "by_labels_only"),
        (Cycle((GibbsWithGradients(SPACE), MALA("x", 0.1))), by_labels_only, "by_labels_only"),
        (Langevin("x", 0.1), DetachedInput(), "DetachedInput"),
    ],
)
def test_a_kernel_that_needs_a_score_refuses_an_energy_that_has_none(
    kernel: Kernel, before: tuple[Kernel, ...], log_density: LogDensity, name: str
) -> None:
    """Taken for zero, the score would let chains diffuse for ever (variance 102 instead of 1 after 400 steps)."""
    free, chain = {n: torch.tensor(True) for n in SPACE}, evaluate(log_density, draw(4))
    with pytest.raises(
        ValueError, match=rf"\w+: needs the score, but f of {name} has no gradient with respect to .*block"
    ):
        Cycle((*before, kernel)).step(log_density, chain, free=free, generator=torch.Generator())


def test_discrete_moves_go_on_where_f_does_not_depend_on_some_block() -> None:
    """A label that f ignores is uniform; its score of zero is right, and so are the moves that follow it."""
    chain, free = evaluate(by_labels_only, draw(2000)), {name: torch.tensor(True) for name in SPACE}
    kernel, generator = GibbsWithGradients(SPACE), torch.Generator().manual_seed(0)
    for _ in range(30):
        chain, info = kernel.step(by_labels_only, chain, free=free, generator=generator)
    assert bool(info.accepted.any())
    assert abs(float(chain.position["bits"].mean()) - 0.5) < 0.05  # over 6 standard errors of 4,000 bits


def test_an_encoder_without_a_gradient_is_refused_for_the_blocks_that_it_reads() -> None:
    torch.manual_seed(0)
    energy = DetachedEncoder().double()
    chain, free = evaluate(energy, draw(4)), {name: torch.tensor(True) for name in SPACE}
    assert chain.score is not None
    assert chain.score.constant == {"bits"}
    assert not bool(chain.score["bits"].any())
    Langevin("x", 0.1).step(energy, chain, free=free, generator=torch.Generator())
