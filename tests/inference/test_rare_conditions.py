"""Rare conditions cost no more than common ones: nothing is rejected, so their probability does not enter.

On the toy space, with the true density tilted so that a condition has probability 1e-6.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from jointebm import Model, sample
from jointebm.data.toy import attributes_of, centers, nearest_mode
from jointebm.sampling.samples import Samples
from jointebm.spaces.space import Position
from support.true_toy import TrueEnergy, toy_model

RARE = 1e-6
NUM = 400


class Tilted(nn.Module):
    """The true density with bottom = 1 made rare: p(bottom = 1) = 1e-6, all else given `bottom` as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.true = TrueEnergy()
        self.shift = math.log(RARE / (1 - RARE))

    def forward(self, position: Position) -> Tensor:
        return self.true(position) + self.shift * position["bottom"][:, 1]


def drawn(model: Model, given: dict[str, int]) -> Samples:
    generator = torch.Generator().manual_seed(0)
    ask = {"num_chains": NUM, "num_steps": 200, "given": given, "init": model.noise, "generator": generator}
    return sample(model, model.space, model.kernel, **ask)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", range(8))
def test_every_sample_meets_the_rare_condition_at_its_mode(mode: int) -> None:
    given = {name: int(label) for name, label in attributes_of(torch.tensor(mode)).items()}
    samples = drawn(toy_model(Tilted()), given)
    assert all(bool((samples.values[name] == label).all()) for name, label in given.items())
    assert bool((nearest_mode(samples.values["point"]) == mode).float().mean() > 0.99)
    error = 0.354 / NUM**0.5  # standard error of the mean of independent chains
    assert float((samples.values["point"].mean(dim=0) - centers()[mode]).abs().max()) < 6 * error


@pytest.mark.parametrize("given", [{"bottom": 1}, {"bottom": 1, "left": 0}, {"bottom": 1, "diagonal": 1, "left": 1}])
def test_the_same_seed_draws_the_same_samples_however_rare_the_condition_is(given: dict[str, int]) -> None:
    """What is clamped adds a constant to f, and a kernel sees differences only: the same moves, the same acceptances."""
    common, rare = drawn(toy_model(TrueEnergy()), given), drawn(toy_model(Tilted()), given)
    for name in common.values:
        torch.testing.assert_close(rare.values[name], common.values[name], rtol=0, atol=1e-3)
    assert rare.accept_rate == pytest.approx(common.accept_rate, abs=1e-4)
    assert rare.num_steps == common.num_steps == 200
