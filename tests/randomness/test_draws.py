"""Specification of `jointebm.randomness.draws`: every draw has its stated distribution, to the last bit of the uniform."""

import math

import pytest
import torch
from torch import Tensor

from jointebm.randomness import draws
from jointebm.randomness.row_streams import RowStream
from support.oracles import chi_square_p_value

LARGEST_UNIFORM = 1 - 2.0**-24  # the largest float32 that uniform_ can return


def script_uniforms(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    monkeypatch.setattr(draws, "uniform", lambda like, generator: torch.full_like(like, value))  # noqa: ARG005


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("by_row", [False, True])
def test_choose_draws_with_the_probabilities_of_the_softmax(by_row: bool, dtype: torch.dtype) -> None:
    """Chi-square test; false-alarm rate 1e-4."""
    log_weights = torch.tensor([0.3, -torch.inf, 1.7, -2.0, 0.0, -torch.inf], dtype=dtype)
    num = 50_000
    generator = RowStream(torch.arange(num), seed=0) if by_row else torch.Generator().manual_seed(0)
    chosen = draws.choose(log_weights.expand(num, -1), generator)
    counts, expected = chosen.bincount(minlength=6), num * log_weights.double().softmax(dim=0)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    statistic = float(((counts - expected).square() / expected)[possible].sum())
    assert chi_square_p_value(statistic, int(possible.sum()) - 1) > 1e-4


def test_choose_draws_each_row_from_its_own_weights() -> None:
    log_weights = torch.full((5, 5), -torch.inf).fill_diagonal_(3.0)
    assert draws.choose(log_weights, torch.Generator()).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("u", [0.0, 0.1, 0.25, 0.4999, 0.5, 0.7499, 0.75, 0.9])
def test_choose_inverts_the_distribution_function(u: float, monkeypatch: pytest.MonkeyPatch) -> None:
    script_uniforms(monkeypatch, u)
    probs = torch.tensor([[0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    assert draws.choose(probs.log(), torch.Generator()).item() == math.floor(4 * u)


@pytest.mark.parametrize("u", [0.0, 2.0**-24, 0.5, LARGEST_UNIFORM])
@pytest.mark.parametrize("num_candidates", [3, 10, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_choose_never_takes_a_candidate_of_weight_zero(
    u: float, num_candidates: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_uniforms(monkeypatch, u)
    generator = torch.Generator().manual_seed(1)
    log_weights = 3 * torch.randn(500, num_candidates, generator=generator, dtype=dtype)
    positive = torch.rand(500, num_candidates, generator=generator) < 0.4
    positive[:, 1] = True
    positive[::2, 0] = False  # zero weights at the very ends are the hard case
    positive[::3, -1] = False
    chosen = draws.choose(log_weights.masked_fill(~positive, -torch.inf), generator)
    assert bool(positive.gather(1, chosen[:, None]).all())


@pytest.mark.parametrize("row", [[torch.nan, 0.0], [-torch.inf, -torch.inf], [torch.nan, torch.nan]])
def test_choose_gives_a_legal_index_in_a_row_without_distribution(row: list[float]) -> None:
    assert draws.choose(torch.tensor([row, [0.0, -torch.inf]]), torch.Generator())[0].item() in (0, 1)
    assert draws.choose(torch.tensor([row, [-torch.inf, 0.0]]), torch.Generator())[1].item() == 1


def test_accept_has_the_probability_of_the_ratio() -> None:
    """Chi-square test with one degree per ratio; false-alarm rate 1e-4."""
    ratios, num = torch.tensor([0.05, 0.3, 0.5, 0.95]), 50_000
    accepted = draws.accept(ratios.log().repeat(num), torch.Generator().manual_seed(2)).reshape(num, -1).sum(dim=0)
    statistic = float(((accepted - num * ratios).square() / (num * ratios * (1 - ratios))).sum())
    assert chi_square_p_value(statistic, len(ratios)) > 1e-4


@pytest.mark.parametrize("u", [0.0, 0.5, LARGEST_UNIFORM])
def test_accept_is_certain_from_a_ratio_of_one_and_never_takes_nan_or_zero(
    u: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_uniforms(monkeypatch, u)
    log_ratio = torch.tensor([0.0, 1e-30, 5.0, torch.inf, torch.nan, -torch.inf])
    assert draws.accept(log_ratio, torch.Generator()).tolist() == [True, True, True, True, False, False]


@pytest.mark.parametrize("draw", [draws.normal, draws.uniform])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_and_uniform_follow_the_shape_and_dtype_of_the_tensor(draw: object, dtype: torch.dtype) -> None:
    like = torch.zeros(3, 1, dtype=dtype).expand(3, 4)  # a stride of zero must not tie the draws
    drawn: Tensor = draw(like, torch.Generator().manual_seed(0))  # type: ignore[operator]
    assert drawn.shape == like.shape
    assert drawn.dtype == dtype
    assert len(set(drawn.flatten().tolist())) == 12


@pytest.mark.parametrize("draw", [draws.normal, draws.uniform])
def test_draws_do_not_depend_on_how_the_tensor_lies_in_memory(draw: object) -> None:
    like = torch.zeros(3, 4)
    first: Tensor = draw(like, torch.Generator().manual_seed(0))  # type: ignore[operator]
    second: Tensor = draw(torch.zeros(4, 3).T, torch.Generator().manual_seed(0))  # type: ignore[operator]
    assert torch.equal(first, second)


def test_the_same_seed_gives_the_same_draws_and_leaves_the_global_state_alone() -> None:
    before = torch.random.get_rng_state()
    log_weights = torch.zeros(20, 5)
    first, second = (
        [
            draws.normal(log_weights, generator),
            draws.uniform(log_weights, generator),
            draws.choose(log_weights, generator),
            draws.accept(log_weights[:, 0] - 1, generator),
        ]
        for generator in (torch.Generator().manual_seed(7), torch.Generator().manual_seed(7))
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_stream_answers_every_draw_in_place_of_a_generator() -> None:
    class Stream:
        def normal(self, like: Tensor) -> Tensor:
            return like + 1

        def uniform(self, like: Tensor) -> Tensor:
            return like + 2

        def choose(self, log_weights: Tensor) -> Tensor:
            return log_weights.argmax(dim=1)

        def accept(self, log_ratio: Tensor) -> Tensor:
            return log_ratio > 0

    zeros = torch.zeros(2)
    assert draws.normal(zeros, Stream()).tolist() == [1, 1]
    assert draws.uniform(zeros, Stream()).tolist() == [2, 2]
    assert draws.choose(torch.eye(2), Stream()).tolist() == [0, 1]
    assert draws.accept(zeros, Stream()).tolist() == [False, False]


def test_choices_of_several_variables_are_those_of_as_many_rows() -> None:
    log_weights = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0))
    together = draws.choose(log_weights, torch.Generator().manual_seed(1))
    apart = draws.choose(log_weights.movedim(1, 2).flatten(0, 1), torch.Generator().manual_seed(1))
    assert torch.equal(together, apart.reshape(6, 5))
