"""The mixture of products over codes and reals: normalised, marginalised and drawn exactly."""

import contextlib
import itertools

import pytest
import torch

from jointebm.randomness.row_streams import RowStream
from jointebm.randomness.waiting import unread_values
from jointebm.references.layout import Constraints, MixedRows
from jointebm.references.product_mixture import ProductMixture
from references.small_spaces import SPACE, STEP, agree, all_codes, generator, grid, outcomes, random_mixture

MIXTURE = random_mixture().products
EVERYTHING, _ = grid()
KNOWN = MixedRows(torch.tensor([[1, 0, 2]]), torch.tensor([[0.5, -1.0]], dtype=torch.float64))
SUBSETS = list(itertools.product([False, True], repeat=5))  # missing bit, group, group, a, b


def with_missing(missing: tuple[bool, ...]) -> MixedRows:
    codes, reals = torch.tensor([missing[:3]]), torch.tensor([missing[3:]])
    return MixedRows(KNOWN.codes.masked_fill(codes, -1), KNOWN.reals.masked_fill(reals, torch.nan))


@pytest.fixture(scope="module")
def density() -> torch.Tensor:
    """Of all configurations at all nodes."""
    return MIXTURE(*EVERYTHING).exp()


@pytest.mark.parametrize("missing", SUBSETS)
def test_every_marginal_is_a_sum_and_an_integral(density: torch.Tensor, missing: tuple[bool, ...]) -> None:
    known = with_missing(missing)
    summed = density[agree(EVERYTHING, known)].sum() * STEP ** sum(missing[3:])
    assert MIXTURE(*known).item() == pytest.approx(summed.log().item(), abs=1e-10)
    if all(missing):
        assert summed.item() == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("missing", [each for each in SUBSETS if any(each)])
def test_draws_have_the_exact_conditional(density: torch.Tensor, missing: tuple[bool, ...]) -> None:
    """All outcomes of the choices; the normals stand at 0 and 1, which gives each outcome's mean and deviation."""
    known, codes = with_missing(missing), all_codes(SPACE)
    nothing = Constraints((None,) * 3, None)
    possible = agree(EVERYTHING, known)
    posterior, rows = density[possible] / density[possible].sum(), MixedRows(*(part[possible] for part in EVERYTHING))
    probs, moments = torch.zeros(len(codes), dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    at_zero = outcomes(lambda stream: MIXTURE.draw_rows(known, nothing, stream), 1)
    at_one = outcomes(lambda stream: MIXTURE.draw_rows(known, nothing, stream), 1, normal=1.0)
    for (prob, drawn), (_, shifted) in zip(at_zero, at_one, strict=True):
        probs += prob * (codes == drawn.codes).all(dim=1)
        mean, sd = drawn.reals[0], shifted.reals[0] - drawn.reals[0]
        moments += prob * torch.stack([mean, mean**2 + sd**2])
    expected = torch.stack([posterior[(rows.codes == code).all(dim=1)].sum() for code in codes])
    assert (probs - expected).abs().max() < 1e-10
    expected_moments = torch.stack([posterior @ rows.reals, posterior @ rows.reals**2])
    assert (moments - expected_moments).abs().max() < 1e-9


def test_without_reading_what_is_missing_rows_have_the_same_log_density_and_score() -> None:
    """Rows whole, with any entries missing, and empty, in one batch; on an accelerator and in traced steps."""
    known = [with_missing(missing) for missing in SUBSETS]
    rows = MixedRows(*(torch.cat(parts) for parts in zip(*known, strict=True)))
    results = []
    for how in (contextlib.nullcontext(), unread_values()):
        reals = rows.reals.clone().requires_grad_()
        with how:
            log_density = MIXTURE(rows.codes, reals)
        results.append((log_density, torch.autograd.grad(log_density.sum(), reals)[0]))
    for read, unread in zip(*results, strict=True):
        assert (read - unread).abs().max() < 1e-12


def test_classes_of_a_column_are_those_of_whole_rows() -> None:
    rows = MixedRows(all_codes(SPACE), torch.randn(12, 2, generator=generator(), dtype=torch.float64))
    for column, count in enumerate(MIXTURE.num_classes):
        others = rows.codes.clone()
        others[:, column] = -1
        found = MIXTURE.of_classes(MIXTURE.components(others, rows.reals), column)
        for code in range(count):
            others[:, column] = code
            assert (found[:, code] - MIXTURE(others, rows.reals)).abs().max() < 1e-13


@pytest.mark.parametrize("num_components", [1, 3, 16, 33])
def test_a_row_has_the_same_bits_in_every_batch(num_components: int) -> None:
    made = random_mixture(num_components=num_components).float().products
    num = 61
    codes = torch.stack([torch.randint(-1, count, (num,), generator=generator(count)) for count in (2, 2, 3)], dim=1)
    reals = torch.randn(num, 2, generator=generator())
    reals[torch.rand(num, 2, generator=generator(1)) < 0.3] = torch.nan
    order, keys = torch.randperm(num, generator=generator()), torch.arange(num)
    evidence = (torch.randn(num, 2, generator=generator(2)), None, torch.randn(3, generator=generator(3)))
    bounds = (torch.full((num, 2), -0.5), torch.rand(num, 2, generator=generator(4)))

    def answers(rows: torch.Tensor) -> list[torch.Tensor]:
        some, known = MixedRows(codes[rows], reals[rows]), (evidence[0][rows], *evidence[1:])
        constraints = Constraints(known, (bounds[0][rows], bounds[1][rows]))
        drawn = made.draw_rows(some, constraints, RowStream(keys[rows], seed=0))
        one_hot = torch.rand(num, 7, generator=generator(5))[rows]
        return [made(*some), made.components_of_one_hot(one_hot, some.reals), made.given(some, constraints), *drawn]

    whole = answers(keys)
    for rows in (order, order[:7], order[:1]):
        for found, expected in zip(answers(rows), whole, strict=True):
            assert torch.equal(found.nan_to_num(nan=99), expected[rows].nan_to_num(nan=99))


def test_one_hot_codes_give_the_same_components() -> None:
    codes = torch.cartesian_prod(*[torch.arange(-1, count) for count in MIXTURE.num_classes])
    reals = torch.randn(len(codes), 2, generator=generator(), dtype=torch.float64)
    reals[::3, 0] = torch.nan
    classes = torch.cat([torch.arange(count) for count in MIXTURE.num_classes])
    columns = torch.arange(3).repeat_interleave(torch.tensor(MIXTURE.num_classes))
    one_hot = (codes[:, columns] == classes).double()
    assert (MIXTURE.components_of_one_hot(one_hot, reals) - MIXTURE.components(codes, reals)).abs().max() < 1e-13


def test_rows_in_parts_have_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    reals = torch.randn(50, 2, generator=generator(), dtype=torch.float64)
    whole = MIXTURE.of_reals(reals)
    monkeypatch.setattr("jointebm.references.product_mixture.ENTRIES_AT_ONCE", 40)
    assert torch.equal(MIXTURE.of_reals(reals), whole)


def test_a_narrow_component_far_from_zero_loses_nothing_in_single_floats() -> None:
    """A product of matrices, x^2 / s^2 - 2 x m / s^2 + m^2 / s^2, is off by tens of nats here."""
    made = ProductMixture((), num_reals=1)
    made.means.fill_(1000.0)
    made.log_sds.fill_(-4.0)
    reals = torch.tensor([[1000.0], [1000.0625]])
    found = made(torch.empty(2, 0, dtype=torch.int64), reals)
    expected = torch.distributions.Normal(1000.0, torch.tensor(-4.0).exp()).log_prob(reals[:, 0])
    assert (found - expected).abs().max() < 1e-5
