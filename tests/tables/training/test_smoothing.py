"""What is learned of a class is learned, in part, of its neighbours; what a rare level says is learned of its rows."""

import pytest
import torch

from jointebm.tables.answers.table_model import TableModel
from jointebm.tables.density.energy import Residual
from jointebm.tables.training.smoothing import AlongColumns, Curves, rare_levels, smoothing
from jointebm.tables.training.table_config import TableConfig
from support.tiny_tables import generator

ROWS = torch.tensor([12, *[3] * 10, *[1] * 7, 10, 0])
LEVELS = torch.arange(20).repeat_interleave(ROWS)


def fresh(num_classes: tuple[int, ...], bins: tuple[tuple[int, ...] | None, ...]) -> tuple[Residual, Curves]:
    residual = Residual(num_classes, width=256, num_layers=1)
    residual.initialise(generator())
    return residual, Curves(residual, bins, torch.stack([torch.arange(1200) % count for count in num_classes], dim=1))


def test_neighbours_start_alike_in_ordered_columns_only() -> None:
    residual, _ = fresh((40, 40), (tuple(range(40)), None))
    steps = [residual.of_column(column).detach().diff(dim=0).square().mean() for column in range(2)]
    spreads = [residual.of_column(column).detach().square().mean() for column in range(2)]
    assert steps[0] / spreads[0] < 0.2 and steps[1] / spreads[1] > 1.8
    assert spreads[0] == pytest.approx(spreads[1].item(), rel=0.3)


def test_the_gradient_of_v_is_that_of_the_vectors_through_s() -> None:
    """Against automatic differentiation of the loss as a function of V."""
    residual, curves = fresh((5, 3), ((0, 1, 2, 3, 4), None))
    weight = torch.randn(8, 256, generator=generator(3))
    latent = curves.vectors.detach().clone().requires_grad_()
    root = torch.block_diag(smoothing((0, 1, 2, 3, 4), torch.full((5,), 240)).float(), torch.eye(3))
    assert torch.allclose(residual.embedding.detach(), root @ latent.detach(), atol=1e-6)
    (((root @ latent) * weight).sum() ** 2).backward()
    ((residual.embedding * weight).sum() ** 2).backward()
    assert torch.allclose(curves.vectors.grad, latent.grad, rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]
    assert residual.embedding.grad is None


def test_rare_levels_are_those_of_few_rows_where_there_are_many_of_them() -> None:
    levels = rare_levels(LEVELS, 20)
    assert levels is not None
    assert levels.are_rare.tolist() == [False, *[True] * 17, False, True]  # 12 and 10 rows are enough
    assert levels.are_unseen.nonzero().tolist() == [[19]]
    assert (
        rare_levels(torch.arange(15).repeat(3), 15) is None and rare_levels(torch.arange(16).repeat(3), 16) is not None
    )
    assert (
        rare_levels(torch.full((400,), -1), 16) is not None and rare_levels(torch.arange(500).repeat(10), 500) is None
    )


def test_rare_levels_start_like_missing_entries_and_frequent_ones_where_they_were() -> None:
    """Of a column without order; the ordered column beside it has as few rows."""
    residual = Residual((20, 20), width=8, num_layers=1)
    residual.initialise(generator())
    codes = torch.stack([LEVELS, LEVELS], dim=1)
    along, before = AlongColumns(residual.offsets, (None, range(20)), codes), residual.embedding.detach().clone()
    residual.embedding.data.copy_(along.fresh(residual.embedding))
    assert torch.equal(residual.embedding[20:], before[20:]) and torch.equal(
        residual.embedding[[0, 18]], before[[0, 18]]
    )
    rare, missing = torch.tensor([[7, 3], [19, 3]]), torch.tensor([[-1, 3]])
    assert torch.equal(residual.summed(rare), residual.summed(missing).expand(2, -1))


def test_rare_levels_move_four_times_as_fast_and_those_without_rows_stay() -> None:
    """Against automatic differentiation, beside an ordered column."""
    codes = torch.stack([LEVELS, LEVELS.clamp(max=4)], dim=1)
    bins = (None, (0, 1, 1, 2, 3))
    residual = Residual((20, 5), width=8, num_layers=1)
    residual.initialise(generator())
    curves, along = Curves(residual, bins, codes), AlongColumns(residual.offsets, bins, codes)
    weight = torch.randn(25, 8, generator=generator(3))
    free = curves.vectors.detach().clone().requires_grad_()
    ((along(free) * weight).sum() ** 2).backward()
    ((residual.embedding * weight).sum() ** 2).backward()
    found = curves.vectors.grad
    assert found is not None and free.grad is not None and torch.allclose(found, free.grad, rtol=1e-4, atol=1e-4)
    before = residual.embedding.detach().clone()
    with torch.no_grad():
        curves.vectors += 0.5
    curves.give_vectors()
    steps = (residual.embedding - before)[:20, 0].tolist()
    assert steps == pytest.approx([0.5, *[2.0] * 17, 0.5, 0.5], abs=1e-5) and not found[19].any()  # it has no gradient


def test_vectors_that_were_trained_are_found_again_in_columns_of_both_kinds() -> None:
    codes = torch.stack([LEVELS, LEVELS.clamp(max=4)], dim=1)
    along = AlongColumns((0, 20, 25), (None, (0, 1, 1, 2, 3)), codes)
    vectors = torch.randn(25, 8, generator=generator())
    free = along.solved(vectors)
    assert not torch.allclose(free[:20], vectors[:20]) and not torch.allclose(free[20:], vectors[20:])
    assert torch.allclose(along(free), vectors, atol=1e-5)


def test_a_class_of_many_rows_has_a_vector_of_its_own() -> None:
    """4,500 rows: u = .9^2. It and its neighbours share as much as before."""
    codes = torch.cat([torch.full((4500,), 2), torch.tensor([0, 1, 3, 4, -1])])[:, None]
    along, bins = AlongColumns((0, 5), ((0, 1, 2, 3, 4),), codes), (0, 1, 2, 3, 4)
    root, few = along(torch.eye(5)).double(), smoothing(bins, torch.zeros(5))
    own = root @ root.T - few @ few.T
    assert own[2, 2].item() == pytest.approx(0.81, abs=1e-4)
    assert (own - torch.diag(own.diagonal())).abs().max() < 1e-4 and own.diagonal()[[0, 1, 3, 4]].abs().max() < 1e-4


def test_s_can_be_inverted_so_that_any_vectors_can_be_learned() -> None:
    assert all(
        torch.linalg.eigvalsh(smoothing(tuple(range(count)), torch.zeros(count))).min() > 0.1
        for count in (1, 2, 48, 300)
    )


@pytest.mark.slow
def test_numbers_of_many_rows_that_determine_a_level_leave_no_row_with_another_one() -> None:
    """4,000 rows of a number of 16 values, each with a level of its own, in no order, beside two columns of noise."""
    number = torch.randint(16, (4000, 1), generator=generator(1))
    level = torch.randperm(16, generator=generator(2))[number]
    codes = torch.cat([number, level, torch.randint(6, (4000, 2), generator=generator(3))], dim=1)
    config = TableConfig(width=64, num_visits=40, max_components=1, precision="float32")
    energy = TableModel.fit(
        codes, (16, 16, 6, 6), bins=(tuple(range(16)), None, None, None), config=config, seed=0
    ).energy
    other = 1 - energy.of_classes(codes[:500], 0).softmax(dim=1).gather(1, codes[:500, :1]).mean()
    assert other < 0.1  # .19 where neighbours share all


@pytest.mark.slow
def test_few_rows_show_how_two_numbers_depend_only_if_neighbours_are_alike() -> None:
    """300 rows of two columns of 24 codes on a noisy diagonal, beside six columns of noise: 12 rows for each code."""
    first = torch.randint(24, (300, 1), generator=generator(1))
    second = (first + torch.randint(-3, 4, (300, 1), generator=generator(2))).clamp(0, 23)
    codes = torch.cat([first, second, torch.randint(24, (300, 6), generator=generator(3))], dim=1)
    config = TableConfig(width=64, num_visits=60, precision="float32")
    rows = torch.full((24, 8), 12)
    rows[:, 0] = torch.arange(24)
    errors = []
    for bins in (tuple(range(24)), None):
        energy = TableModel.fit(codes, (24,) * 8, bins=(bins,) * 8, config=config, seed=0).energy
        guess = energy.of_classes(rows, 1).detach().softmax(dim=1) @ torch.arange(24.0)
        errors.append(float((guess - torch.arange(24)).square().mean()))
    assert errors[0] < 12 and errors[1] > 30  # the variance of a uniform code is 48
