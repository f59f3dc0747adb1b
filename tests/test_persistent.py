"""Specification of conditional training with persistent labels."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space, kernels
from jointebm.energies import PerPlace, StructuredEnergy, Transitions
from jointebm.objectives import conditional_likelihood
from jointebm.persistent import fit_conditional

SPACE = Space(x=Continuous((3, 2)), y=Categorical(2, (3,)))
FREE = {"y": torch.ones(1, 3, dtype=torch.bool)}


def energy(seed: int = 0) -> StructuredEnergy:
    torch.manual_seed(seed)
    made = StructuredEnergy(SPACE, PerPlace(nn.Linear(2, 2)), Transitions(2))
    nn.init.normal_(made.interaction.weight)
    return made


def rows(num: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = {"x": torch.randn(num, 3, 2, generator=generator), "y": torch.randint(2, (num, 3), generator=generator)}
    return SPACE.encode(values)[0]


def fit(made: nn.Module, data: dict[str, Tensor], **changed: Any) -> list[Any]:
    options = {
        "free": FREE,
        "kernel": kernels.Gibbs(SPACE, scan="systematic"),
        "optimizer": torch.optim.SGD(made.parameters(), lr=0.0),
        "num_iterations": 1,
        "batch_size": len(data["x"]),
        "num_steps": 1,
        "generator": torch.Generator().manual_seed(0),
    }
    start = changed.pop("start", {"y": data["y"]})
    return list(fit_conditional(made, data, start, **(options | changed)))


def test_the_gradient_is_that_of_the_enumerated_conditional_likelihood() -> None:
    """40,000 chains of 20 sweeps; the largest of 10 z-scores is above 5 in one of 170,000 seeds."""
    made, data = energy(), rows(40_000)
    conditional_likelihood(made, SPACE, data).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in made.parameters()])
    fit(made, data, num_steps=20)
    found = torch.cat([parameter.grad.flatten() for parameter in made.parameters()])
    # A gradient of f has entries of standard deviation below 3: sums of three places with inputs of variance 1.
    assert ((found - expected).abs() * math.sqrt(40_000) / 3).max() < 5
    assert expected.abs().max() > 0.1


def test_it_recovers_a_model_that_is_known() -> None:
    """Labels drawn exactly from a model; the fit explains them as well as the model that they came from."""
    truth, data = energy(), rows(4000)
    states = Space(y=SPACE["y"]).configurations()["y"]  # (8, 3, 2)
    f = torch.stack([truth({"x": data["x"], "y": y.expand(4000, 3, 2)}) for y in states], dim=1)
    drawn = torch.multinomial(f.softmax(dim=1).detach(), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    data["y"] = states[drawn]
    best = float(conditional_likelihood(truth, SPACE, data).detach())
    made = StructuredEnergy(SPACE, PerPlace(nn.Linear(2, 2)), Transitions(2))
    optimizer = torch.optim.Adam(made.parameters(), 0.03)
    fit(made, data, optimizer=optimizer, num_iterations=200, batch_size=400, start={"y": rows(4000, 2)["y"]})
    assert float(conditional_likelihood(made, SPACE, data).detach()) < best + 0.01


def test_chains_stay_with_their_row_and_what_is_not_free_with_the_data() -> None:
    """A kernel that counts visits: each row's chain goes on where it was, and x and clamped labels never move."""
    seen: list[dict[str, Tensor]] = []

    class Flip:
        uses_score = False

        def step(self, log_density: Any, chain: Any, *, free: Any, generator: Any) -> Any:  # noqa: ARG002
            moved = torch.where(free["y"][..., None], 1 - chain.position["y"], chain.position["y"])
            chain = kernels.evaluate(log_density, {**chain.position, "y": moved}, with_score=False)
            seen.append({"x": chain.position["x"], "y": moved})
            return chain, kernels.Info(torch.ones_like(chain.f), torch.ones_like(chain.f, dtype=torch.bool))

    data, made = rows(6), energy()
    free = {"y": torch.tensor([True, False, True]).expand(6, 3)}
    fit(made, data, kernel=Flip(), free=free, num_iterations=9, batch_size=4, start={"y": data["y"].clone()})
    visits = torch.zeros(6, dtype=torch.int64)
    for batch in seen:
        for x, y in zip(batch["x"], batch["y"], strict=True):
            row = int((data["x"] == x).all(dim=(1, 2)).nonzero()[0])
            visits[row] += 1
            expected = data["y"][row].clone()
            if visits[row] % 2:
                expected[[0, 2]] = 1 - expected[[0, 2]]
            assert torch.equal(y, expected)
    assert visits.sum() == 36 and visits.min() > 1


def test_the_same_generator_gives_the_same_parameters() -> None:
    ends = []
    for _ in range(2):
        made = energy()
        fit(made, rows(20), optimizer=torch.optim.Adam(made.parameters(), 0.01), num_iterations=5, batch_size=7)
        ends.append(torch.cat([parameter.flatten() for parameter in made.parameters()]))
    assert torch.equal(*ends)


def test_what_cannot_be_trained_is_refused() -> None:
    data, made = rows(5), energy()
    with pytest.raises(ValueError, match=r"batch_size must lie in 1 .. 5, the number of rows, got 6"):
        fit(made, data, batch_size=6)
    with pytest.raises(ValueError, match="block 'y' is free; give its chains a start"):
        fit(made, data, start={})
    before = [parameter.clone() for parameter in made.parameters()]
    broken = {**data, "x": data["x"].index_fill(0, torch.tensor([2]), torch.inf)}
    with pytest.raises(FloatingPointError, match="the loss is nan in iteration 1; try a smaller learning rate"):
        fit(made, broken, optimizer=torch.optim.SGD(made.parameters(), lr=1.0))
    assert all(torch.equal(one, two) for one, two in zip(before, made.parameters(), strict=True))


def test_binary_labels_of_one_variable_reach_the_logit() -> None:
    space, bias = Space(y=Binary()), nn.Parameter(torch.zeros(()))
    data = {"y": torch.tensor([1.0, 1.0, 1.0, 0.0] * 100)}
    fits = fit_conditional(
        lambda position: bias * position["y"],
        data,
        {"y": torch.zeros(400)},
        free={"y": torch.tensor(True)},
        kernel=kernels.Gibbs(space),
        optimizer=torch.optim.SGD([bias], lr=0.5),
        num_iterations=300,
        batch_size=400,
        num_steps=1,
        generator=torch.Generator().manual_seed(0),
    )
    path = torch.tensor([float(bias.detach()) for _ in fits])
    # Fluctuates around log 3 with a standard deviation of about .06; the mean of 200 correlated values, well below.
    assert abs(path[100:].mean() - math.log(3)) < 0.06
