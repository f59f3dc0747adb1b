"""Specification of draws made ahead: the choices are those of `draws.choose`, to the last bit of the uniform."""

import pytest
import torch
from torch import Tensor

from jointebm.randomness import draws
from jointebm.randomness.tapes import MAX_UNROLLED, Tape

LARGEST = 1 - 2.0**-24  # the largest float32 that uniform_ can return


@pytest.mark.parametrize("num_classes", [2, 3, MAX_UNROLLED, MAX_UNROLLED + 1])
@pytest.mark.parametrize("shape", [(), (4,)])
def test_a_tape_chooses_as_the_inverse_of_the_distribution_function(num_classes: int, shape: tuple[int, ...]) -> None:
    """In double precision, where no uniform of the sample lies within rounding of a boundary."""
    generator = torch.Generator().manual_seed(0)
    log_weights = torch.randn(500, num_classes, *shape, generator=generator, dtype=torch.float64)
    uniforms = torch.rand(500, 1, *shape, generator=generator, dtype=torch.float64)
    chosen = Tape([uniforms]).choose(log_weights)
    cumulative = log_weights.softmax(dim=1).cumsum(dim=1)
    assert (chosen == (cumulative[:, :-1] <= uniforms).sum(dim=1)).all() and chosen.dtype == torch.int64
    assert (draws.choose_by(log_weights, lambda _: uniforms) == chosen).all()


@pytest.mark.parametrize("uniform", [0.0, LARGEST])
@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_classes_of_weight_zero_are_never_chosen(num_classes: int, uniform: float) -> None:
    """At both ends of the uniform, for totals that round to either side of one."""
    log_weights = torch.randn(20_000, num_classes, generator=torch.Generator().manual_seed(0))
    log_weights[:, 0 if uniform == 0 else -1] = -torch.inf
    first = torch.full((20_000, 1), uniform)

    def uniform_like(_: Tensor) -> Tensor:
        return first

    for chosen in (Tape([first]).choose(log_weights), draws.choose_by(log_weights, uniform_like)):
        assert (chosen == (1 if uniform == 0 else num_classes - 2)).all()
