"""Specification of the transforms: bijections, with an inverse that is exact up to rounding."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jointebm import Continuous
from jointebm.spaces.transforms import TRANSFORMS, Identity, Logit

reproducible = settings(max_examples=200, derandomize=True, deadline=None, database=None)
shares = st.floats(0, 1)
margins = st.sampled_from([1e-6, 1e-3, 0.1, 0.4])


def double(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


@reproducible
@given(shares, margins)
def test_logit_is_the_papers_formula(value: float, margin: float) -> None:
    p = value * (1 - 2 * margin) + margin  # App. B.2.1
    expected = math.log(p / (1 - p))
    assert float(Logit(margin).forward(double(value))) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@reproducible
@given(shares, margins)
def test_inverse_undoes_forward(value: float, margin: float) -> None:
    logit = Logit(margin)
    assert float(logit.inverse(logit.forward(double(value)))) == pytest.approx(value, rel=0, abs=1e-14)


def test_inverse_does_not_clip_a_position_beyond_the_margin() -> None:
    values = Logit(0.1).inverse(torch.tensor([-50.0, 50.0], dtype=torch.float64))
    torch.testing.assert_close(values, torch.tensor([-0.125, 1.125], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("margin", [1e-9, 1e-6, 1e-3, 0.1, 0.4])
def test_every_position_decodes_to_a_value_that_encodes_to_a_finite_position(margin: float, dtype: torch.dtype) -> None:
    block = Continuous((), Logit(margin))
    position = torch.cat([torch.linspace(-60, 60, 2401, dtype=dtype), torch.tensor([-1e6, 1e6], dtype=dtype)])
    values = block.decode(position)
    again, observed = block.encode("share", values, dtype)
    assert bool(again.isfinite().all() and observed.all())
    slack = 2 * block.transform.slack * torch.finfo(dtype).eps + 4 * torch.finfo(dtype).eps / (1 - 2 * margin)
    torch.testing.assert_close(block.decode(again), values, rtol=0, atol=slack)


def test_logit_of_the_ends_is_finite_in_float32() -> None:
    position = Logit().forward(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(position, torch.tensor([-13.8155, 13.8155]), rtol=0, atol=0.1)  # spacing of p near 1
    torch.testing.assert_close(Logit().inverse(position), torch.tensor([0.0, 1.0]), rtol=0, atol=2e-7)


def test_identity_returns_its_argument() -> None:
    values = torch.tensor([1.0, math.nan])
    assert Identity().forward(values) is values
    assert Identity().inverse(values) is values


@pytest.mark.parametrize("margin", [0.0, 0.5, -1e-6, math.nan])
def test_a_margin_outside_its_range_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match=r"Logit: margin must lie in \(0, 0.5\), got"):
        Logit(margin)


@pytest.mark.parametrize("transform", [Identity(), Logit(), Logit(0.1)])
def test_name_and_fields_rebuild_a_transform(transform: Identity | Logit) -> None:
    assert TRANSFORMS[transform.name](**vars(transform)) == transform
