"""Any function as target: an Ising ring, and a mixture of two Gaussians with its label, given x or not."""

import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space, kernels, sample
from jointebm.spaces.space import Position

# Ten spins on a ring that prefer to agree: a log-density without network or training.
ring = Space(spins=Binary(10))


def ising(position: Position) -> Tensor:
    spins = 2 * position["spins"] - 1
    return 0.8 * (spins * spins.roll(1, dims=1)).sum(dim=1)


generator = torch.Generator().manual_seed(0)
kernel = kernels.GibbsWithGradients(ring)
samples = sample(ising, ring, kernel, num_chains=2000, num_steps=300, generator=generator)
spins = 2 * samples.values["spins"].double() - 1
agreement = (spins * spins.roll(1, dims=1)).mean()
t = torch.tanh(torch.tensor(0.8, dtype=torch.float64))
exact = (t + t**9) / (1 + t**10)  # the ring's correlation of neighbours, from its transfer matrix
print(f"neighbours agree: {agreement:.3f}, exact {exact:.3f}")
assert abs(agreement - exact) < 0.03

# A label and a real: p(y) = 1/3, 2/3 and x | y = N(-2, 1), N(2, 1); either may be given.
pair = Space(x=Continuous(), y=Categorical(2))


def mixture(position: Position) -> Tensor:
    prior = position["y"] @ torch.tensor([1 / 3, 2 / 3]).log()
    return prior - 0.5 * (position["x"] - 4 * position["y"][:, 1] + 2).square()


both = kernels.Cycle((kernels.Gibbs(pair), kernels.MALA(block="x", step_size=1.0)))
for x in (-1.0, 0.0, 0.5):
    given = sample(mixture, pair, both, num_chains=4000, num_steps=50, given={"x": x}, generator=generator)
    share = given.values["y"].double().mean()
    exact = torch.sigmoid(torch.tensor(4 * x) + torch.log(torch.tensor(2.0)))
    print(f"p(y = 1 | x = {x:4.1f}) = {share:.3f}, exact {exact:.3f}")
    assert abs(share - exact) < 0.04
