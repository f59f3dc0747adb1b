"""Models with finitely many outcomes, so that every sum over x and y can be taken."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import MLP, BilinearEnergy, ConcatEnergy, ConvEncoder, JEMEnergy


class Case(NamedTuple):
    """A model with a finite set of outcomes: its configurations, at every point of a grid if it has reals."""

    name: str
    space: Space
    model: nn.Module
    outcomes: dict[str, Tensor]
    data: dict[str, Tensor]


def make(name: str, space: Space, model: nn.Module, grid: dict[str, Tensor] | None = None) -> Case:
    generator = torch.Generator().manual_seed(0)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    outcomes = space.configurations(dtype=torch.float64)
    if grid is not None:
        num_points, num = len(next(iter(grid.values()))), space.num_configurations
        outcomes = {key: value.repeat(num_points, *[1] * (value.ndim - 1)) for key, value in outcomes.items()}
        outcomes |= {key: points.repeat_interleave(num, dim=0) for key, points in grid.items()}
    total = len(next(iter(outcomes.values())))
    rows = torch.randint(total, (7,), generator=generator)  # the data lie on the grid too
    return Case(name, space, model, outcomes, {key: value[rows] for key, value in outcomes.items()})


LABELS = Space(bits=Binary(2), y=Categorical(3), group=Categorical((2, 2)))
MIXED = Space(y=Categorical(3), x=Continuous(2), bit=Binary())
IMAGES = Space(image=Continuous((4, 4)), y=Categorical(3))
POINTS = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
PICTURES = torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
CASES = [
    make("labels only", LABELS, ConcatEnergy(LABELS, MLP(9, (6, 5)))),
    make("mixed", MIXED, ConcatEnergy(MIXED, MLP(6, (6, 5)), scale={"x": 0.5, "y": 2.0}), {"x": POINTS}),
    make("bilinear", MIXED, BilinearEnergy(MIXED, MLP(2, (6,), 3), MLP(4, (6,), 3)), {"x": POINTS}),
    make("jem", MIXED, JEMEnergy(MIXED, MLP(2, (6,), 4)), {"x": POINTS}),
    make(
        "encoder",
        IMAGES,
        ConcatEnergy(IMAGES, MLP(8 + 3, (6,)), encoder=ConvEncoder((2, 3), 2)),
        {"image": PICTURES},
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def gradient(loss: Tensor, case: Case) -> Tensor:
    """All parameters' gradients side by side."""
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(case.model.parameters()))])


def probs(case: Case) -> Tensor:
    """p of every outcome, shape (outcomes,)."""
    with torch.no_grad():
        return case.model(case.outcomes).softmax(dim=0)
