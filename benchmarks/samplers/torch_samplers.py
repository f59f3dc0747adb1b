"""Samplers of ebmkit and torchebm, each as a function that advances all chains by some steps.

Legend: V discrete variables, K classes, D reals, T states, N chains.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import ebm.samplers as ebm_samplers
import numpy as np
import torch
from ebm.nets import RBM
from sampler_targets import Mixed, Pairwise, States, config_labels, full_arrays, log_densities
from torch import Tensor, nn
from torchebm.core import BaseModel
from torchebm.samplers import HamiltonianMonteCarlo

__all__ = ["MIXED", "PAIRWISE"]

Advance = Callable[[], States]

WARM_UP = 500
CHUNK = 64


class Grid(nn.Module):
    """Energy of bits (N, rows, columns) or classes (N, rows, columns, K) on a torus; theirs are not periodic."""

    def __init__(self, target: Pairwise) -> None:
        super().__init__()
        self.bits = target.num_classes[0] == 2
        self.coupling = float(target.weights[0, 1, 1])

    def forward(self, y: Tensor) -> Tensor:
        y = 2 * y - 1 if self.bits else y
        pairs = y * (y.roll(1, dims=1) + y.roll(1, dims=2))
        return -self.coupling * pairs.flatten(1).sum(dim=1)


class Dense(nn.Module):
    """Energy of bits (N, V) or of one-hot classes (N, V, K) that interact in pairs."""

    def __init__(self, target: Pairwise) -> None:
        super().__init__()
        count = target.num_classes[0]
        num, drop = len(target.num_classes), count == 2
        width = 1 if drop else count
        matrix, vector = np.zeros((num, width, num, width)), np.zeros((num, width))
        vector += target.unary[:, 1:] - target.unary[:, :1] if drop else target.unary
        for (v, w), table in zip(target.pairs, target.weights, strict=True):
            part = table
            if drop:
                vector[v] += table[1, 0] - table[0, 0]
                vector[w] += table[0, 1] - table[0, 0]
                part = np.array([[table[1, 1] - table[1, 0] - table[0, 1] + table[0, 0]]])
            matrix[v, :, w] += part
            matrix[w, :, v] += part.T
        self.matrix = torch.tensor(matrix.reshape(num * width, -1), dtype=torch.float32)
        self.vector = torch.tensor(vector.reshape(-1), dtype=torch.float32)

    def forward(self, y: Tensor) -> Tensor:
        y = y.flatten(1)
        return -0.5 * ((y @ self.matrix) * y).sum(dim=1) - y @ self.vector


def ebmkit_gradients(target: Pairwise, num_chains: int, seed: int) -> Advance:
    """Gibbs-with-Gradients."""
    torch.manual_seed(seed)
    count, grid = target.num_classes[0], target.shape == "grid"
    energy = Grid(target) if grid else Dense(target)
    shape = target.sides if grid else (len(target.num_classes),)
    labels = torch.randint(count, (num_chains, *shape))
    sampler = ebm_samplers.GibbsWithGradients() if count == 2 else ebm_samplers.CategoricalGibbsWithGradients()
    state = labels.float() if count == 2 else nn.functional.one_hot(labels, count).float()

    def advance() -> States:
        nonlocal state
        kept = sampler.sample(energy, state, steps=CHUNK, return_trajectory=True)[1:]
        state = kept[-1]
        return _labelled((kept if count == 2 else kept.argmax(dim=-1)).reshape(CHUNK, num_chains, -1))

    return advance


def ebmkit_blocks(target: Pairwise, num_chains: int, seed: int) -> Advance:
    """Block Gibbs of their restricted Boltzmann machine; hidden bits are drawn given the visible ones."""
    torch.manual_seed(seed)
    dense, visible = Dense(target), target.sides[0]
    machine = RBM(*target.sides)
    with torch.no_grad():
        machine.W.copy_(dense.matrix[:visible, visible:].T)
        machine.b.copy_(dense.vector[:visible])
        machine.c.copy_(dense.vector[visible:])
    state, sampler = torch.bernoulli(torch.full((num_chains, visible), 0.5)), ebm_samplers.GibbsSampler(1)

    def advance() -> States:
        nonlocal state
        kept = sampler.sample(machine, state, steps=CHUNK, return_trajectory=True)[1:]
        state = kept[-1]
        given = kept @ dense.matrix[:visible, visible:] + dense.vector[visible:]
        return _labelled(torch.cat([kept, torch.bernoulli(given.sigmoid())], dim=2))

    return advance


def _labelled(labels: Tensor) -> States:
    return States(labels.numpy().astype(np.uint8), np.zeros((*labels.shape[:2], 0), np.float32))


class Marginal(BaseModel):
    """Energy of x with y summed out, and draws of y given x."""

    def __init__(self, target: Mixed) -> None:
        super().__init__()
        self.target, self.configs = target, config_labels(target.num_classes)
        self.arrays = {name: torch.tensor(value) for name, value in full_arrays(target).items()}

    def forward(self, x: Tensor) -> Tensor:
        return -log_densities(self.target, torch, self.arrays, x).logsumexp(dim=1)

    def states(self, x: Tensor) -> States:
        """With labels drawn, from x (T, N, D)."""
        f = log_densities(self.target, torch, self.arrays, x.flatten(0, 1))
        drawn = torch.multinomial(f.softmax(dim=1), 1).reshape(x.shape[:2])
        return States(self.configs[drawn.numpy()].astype(np.uint8), x.numpy())


def ebmkit_marginal(target: Mixed, num_chains: int, seed: int, make: Callable[[], Any]) -> Advance:
    """A sampler of theirs on x with y summed out; it warms up at the first call."""
    torch.manual_seed(seed)
    energy, sampler = Marginal(target), make()
    state = sampler.sample(energy, torch.randn(num_chains, target.num_reals), steps=WARM_UP)
    # `sample` would warm up, and make new replicas, again; so their transitions are called one by one.
    if isinstance(sampler, ebm_samplers.AdaptiveMALA):

        def step(x: Tensor) -> Tensor:
            return sampler._transition(energy, x)[0].detach()
    else:

        def step(x: Tensor) -> Tensor:
            return sampler.step(energy, x).detach()

    def advance() -> States:
        nonlocal state
        kept = []
        with torch.enable_grad():
            for _ in range(CHUNK):
                state = step(state)
                kept.append(state)
        return energy.states(torch.stack(kept))

    return advance


def torchebm_hmc(target: Mixed, num_chains: int, seed: int) -> Advance:
    """HMC on x with y summed out. They do not adapt: the largest of six step sizes that accepts 60% is taken."""
    torch.manual_seed(seed)
    energy = Marginal(target)
    x = torch.randn(num_chains, target.num_reals)
    for step_size in (1.0, 0.5, 0.25, 0.1, 0.05, 0.02):
        sampler = HamiltonianMonteCarlo(model=energy, step_size=step_size, n_leapfrog_steps=5)
        x, diagnostics = sampler.sample(x, n_steps=WARM_UP // 6, n_samples=num_chains, return_diagnostics=True)
        if float(diagnostics["acceptance_rate"].mean()) > 0.6:
            break

    def advance() -> States:
        nonlocal x
        kept = sampler.sample(x, n_steps=CHUNK, n_samples=num_chains, return_trajectory=True)
        x = kept[:, -1]
        return energy.states(kept.movedim(0, 1).contiguous())

    return advance


PAIRWISE = {"ebmkit": {"block Gibbs": ebmkit_blocks, "Gibbs-with-Gradients": ebmkit_gradients}}
MIXED = {
    "ebmkit": {
        "AdaptiveMALA, y summed out": partial(
            ebmkit_marginal, make=partial(ebm_samplers.AdaptiveMALA, warmup=WARM_UP, precondition=True)
        ),
        "ParallelTempering, y summed out": partial(
            ebmkit_marginal, make=lambda: ebm_samplers.ParallelTempering(ebm_samplers.MALA(0.3), (1.0, 3.0, 9.0, 27.0))
        ),
    },
    "torchebm": {"HMC(5), y summed out": torchebm_hmc},
}
