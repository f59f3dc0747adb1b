"""What is learned of a class is learned, in part, of its neighbours along a column, or of all rare levels."""

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
    root = torch.block_diag(smoothing((0, 1, 2, 3, 4)).float(), torch.eye(3))
    assert torch.allclose(residual.embedding.detach(), root @ latent.detach(), atol=1e-6)
    (((root @ latent) * weight).sum() ** 2).backward()
    ((residual.embedding * weight).sum() ** 2).backward()
    assert torch.allclose(curves.vectors.grad, latent.grad, rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]
    assert residual.embedding.grad is None and not list(curves.along.parameters())


def test_rare_levels_start_near_a_shared_vector_by_their_rows() -> None:
    """Levels of 12 and 10 rows have vectors of their own, one without rows is the shared one."""
    levels = rare_levels(LEVELS, 20)
    assert levels is not None
    assert levels.shared.square()[[0, 1, 11, 18, 19]].tolist() == pytest.approx([0, 1 / 4, 1 / 2, 0, 1 / 1.01])
    assert (levels.own.square() + levels.shared.square()).tolist() == pytest.approx([1.0] * 20)
    free = torch.randn(20, 4096, generator=generator())
    shared = levels.start(free)
    assert shared.square().mean().item() == pytest.approx(1, abs=0.1)
    made = levels.forward(free, shared)
    assert torch.equal(made[[0, 18]], free[[0, 18]])
    alike = torch.nn.functional.cosine_similarity(made, shared[None])
    assert alike[19] > 0.99 and alike[1] < alike[11] < alike[19] and alike[[0, 18]].abs().max() < 0.1


def test_columns_with_few_rare_levels_share_nothing() -> None:
    assert (
        rare_levels(torch.arange(15).repeat(3), 15) is None and rare_levels(torch.arange(16).repeat(3), 16) is not None
    )
    assert rare_levels(torch.arange(500).repeat_interleave(10), 500) is None


def test_gradients_of_what_rare_levels_share_are_those_of_autograd() -> None:
    """Beside an ordered column."""
    codes = torch.stack([LEVELS, LEVELS.clamp(max=4)], dim=1)
    residual = Residual((20, 5), width=8, num_layers=1)
    residual.initialise(generator())
    curves = Curves(residual, (None, (0, 1, 1, 2, 3)), codes)
    weight = torch.randn(25, 8, generator=generator(3))
    shared = curves.along.shared[0]
    wanted = torch.autograd.grad(((curves.along(curves.vectors)) * weight).sum() ** 2, [curves.vectors, shared])
    ((residual.embedding * weight).sum() ** 2).backward()
    for found, expected in zip((curves.vectors.grad, shared.grad), wanted, strict=True):
        assert found is not None and torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_vectors_that_were_trained_are_found_again_in_columns_of_both_kinds() -> None:
    codes = torch.stack([LEVELS, LEVELS.clamp(max=4)], dim=1)
    bins = (None, (0, 1, 1, 2, 3))
    vectors = torch.randn(25, 8, generator=generator())
    free = AlongColumns(vectors, (0, 20, 25), bins, codes).solved(vectors)
    along = AlongColumns(free, (0, 20, 25), bins, codes)
    assert not torch.allclose(free, vectors, atol=0.1) and torch.allclose(along(free), vectors, atol=1e-5)


def test_s_can_be_inverted_so_that_any_vectors_can_be_learned() -> None:
    assert all(torch.linalg.eigvalsh(smoothing(tuple(range(count)))).min() > 0.1 for count in (1, 2, 48, 300))


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
