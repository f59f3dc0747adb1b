"""Kernels of jointebm for the targets, each as a function that advances all chains by some steps.

Legend: V discrete variables, D reals, T states, N chains.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from sampler_targets import Mixed, Pairwise, States, full_arrays, log_density
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space, kernels, load
from jointebm.energies import IsingEnergy
from jointebm.references import Mixture
from jointebm.sampling.sample import begin_sampling

__all__ = ["MIXED", "PAIRWISE", "energy_of", "space_of"]

Advance = Callable[[], States]
MakeKernel = Callable[[Any, Space, Callable[[Any], Tensor], torch.Generator], kernels.Kernel]

WARM_UP = 500
CHUNK = 64
NUM_ROWS = 1000  # of data, for kernels that learn where classes are


class Potts(nn.Module):
    """J times the number of equal neighbours on a torus."""

    def __init__(self, coupling: float) -> None:
        super().__init__()
        self.coupling = nn.Parameter(torch.tensor(coupling))

    def forward(self, position: dict[str, Tensor]) -> Tensor:
        y = position["y"]  # (N, rows, columns, K)
        return self.coupling * (y * (y.roll(1, dims=1) + y.roll(1, dims=2))).sum(dim=(1, 2, 3))


class Quadratic(nn.Module):
    """Any pairwise target: y A y / 2 + u y over one-hot columns, one per bit."""

    def __init__(self, target: Pairwise) -> None:
        super().__init__()
        first = np.cumsum([0, *(1 if count == 2 and self.bits(target) else count for count in target.num_classes)])
        matrix, vector = np.zeros((first[-1], first[-1])), np.zeros(first[-1])
        drop = 1 if self.bits(target) else 0  # class 0 of a bit has no column
        for v, count in enumerate(target.num_classes):
            vector[first[v] : first[v + 1]] = target.unary[v, drop:count] - (target.unary[v, 0] if drop else 0)
        for (v, w), table in zip(target.pairs, target.weights, strict=True):
            part = table[: target.num_classes[v], : target.num_classes[w]]
            if drop:
                vector[first[v]] += part[1, 0] - part[0, 0]
                vector[first[w]] += part[0, 1] - part[0, 0]
                part = part[1:, 1:] - part[1:, :1] - part[:1, 1:] + part[:1, :1]
            matrix[first[v] : first[v + 1], first[w] : first[w + 1]] += part
            matrix[first[w] : first[w + 1], first[v] : first[v + 1]] += part.T
        self.matrix = nn.Parameter(torch.tensor(matrix, dtype=torch.float32))
        self.vector = nn.Parameter(torch.tensor(vector, dtype=torch.float32))

    @staticmethod
    def bits(target: Pairwise) -> bool:
        """Whether all variables are bits."""
        return set(target.num_classes) == {2}

    def forward(self, position: dict[str, Tensor]) -> Tensor:
        y = position["y"].flatten(1)
        return 0.5 * ((y @ self.matrix) * y).sum(dim=1) + y @ self.vector


class Layers(nn.Module):
    """A restricted Boltzmann machine, as one matrix product."""

    def __init__(self, target: Pairwise) -> None:
        super().__init__()
        visible = target.sides[0]
        full = Quadratic(target)
        self.weight = nn.Parameter(full.matrix.detach()[:visible, visible:].clone())
        self.bias = nn.Parameter(full.vector.detach().clone())

    def forward(self, position: dict[str, Tensor]) -> Tensor:
        y, num = position["y"], len(self.weight)
        return ((y[:, :num] @ self.weight) * y[:, num:]).sum(dim=1) + y @ self.bias


class MixedEnergy(nn.Module):
    """A mixed target, by the formula that the peers have too."""

    def __init__(self, target: Mixed) -> None:
        super().__init__()
        self.target = target
        for name, value in full_arrays(target).items():
            self.register_buffer(name.replace(".", "_"), torch.tensor(value))
        self.names = tuple(full_arrays(target))

    def arrays(self) -> dict[str, Tensor]:
        return {name: getattr(self, name.replace(".", "_")) for name in self.names}

    def forward(self, position: dict[str, Tensor]) -> Tensor:
        x, y = position["x"], position["y"]
        if self.target.kind == "conditional":  # bits
            y = torch.stack([1 - y, y], dim=2).flatten(1)
        return log_density(self.target, torch, self.arrays(), x, y.flatten(1))


def space_of(target: Pairwise | Mixed) -> Space:
    """The space: reals under x, labels under y."""
    counts = target.num_classes
    if isinstance(target, Mixed):
        labels = Binary(len(counts)) if target.kind == "conditional" else Categorical(counts[0], (len(counts),))
        return Space(x=Continuous(target.num_reals), y=labels)
    shape = target.sides if target.shape == "grid" else (len(counts),)
    if set(counts) == {2}:
        return Space(y=Binary(shape))
    return Space(y=Categorical(counts[0], shape) if len(set(counts)) == 1 else Categorical(counts))


def energy_of(target: Pairwise | Mixed) -> nn.Module:
    """f as a user would write it."""
    if isinstance(target, Mixed):
        return MixedEnergy(target)
    if target.shape == "grid":
        coupling = float(target.weights[0, 1, 1])
        return IsingEnergy(space_of(target), coupling=coupling) if target.num_classes[0] == 2 else Potts(coupling)
    return Layers(target) if target.shape == "layers" else Quadratic(target)


def ours(target: Pairwise | Mixed, num_chains: int, seed: int, make: MakeKernel, *, compiled: bool = True) -> Advance:
    """Adapts the kernel where it has something to adapt, and compiles its steps."""
    generator = torch.Generator().manual_seed(seed)
    space, energy = space_of(target), energy_of(target).eval()
    kernel = make(target, space, energy, generator)
    position, _ = space.clamp(None, num_chains=num_chains, generator=generator)
    if "x" in position:
        position["x"] = torch.randn(position["x"].shape, generator=generator)
    if any(isinstance(part, (kernels.MALA, kernels.HMC, kernels.DMALA)) for part in kernels.parts_of(kernel)):
        chain = kernels.evaluate(energy, position)
        kernel, chain, _ = kernels.adapt(kernel, energy, chain, num_steps=WARM_UP, generator=generator)
        position = dict(chain.position)
    state = begin_sampling(
        energy, space, kernel, num_chains=num_chains, given=None, init=position, generator=generator, thin=1
    )
    if compiled:
        state.compile()

    def advance() -> States:
        state.run(len(state.accept_probs) + CHUNK)
        kept, state.kept = state.kept, []
        joined = {name: torch.cat([chain.position[name] for chain in kept]) for name in space}
        labels = joined["y"].to(torch.uint8) if isinstance(space["y"], Binary) else space.decode(joined)["y"]
        labels = labels.reshape(CHUNK, num_chains, -1)
        reals = joined["x"].reshape(CHUNK, num_chains, -1) if "x" in space else torch.zeros(CHUNK, num_chains, 0)
        return States(labels.numpy().astype(np.uint8), reals.numpy())

    return advance


def chromatic(_: Any, space: Space, energy: Any, generator: torch.Generator) -> kernels.Kernel:
    """Block Gibbs over colours that are found."""
    rows, _ = space.clamp(None, num_chains=4, generator=generator)
    return kernels.ChromaticGibbs.verified(space, energy, rows, generator=generator)


def clusters(_: Any, space: Space, energy: Any, generator: torch.Generator) -> kernels.Kernel:
    """Cluster moves with couplings that are found."""
    rows, _ = space.clamp(None, num_chains=4, generator=generator)
    return kernels.SwendsenWang.verified(space, energy, rows, generator=generator)


def dmala(_: Any, space: Space, *__: Any) -> kernels.Kernel:
    """All labels proposed together."""
    return kernels.DMALA(space, 0.5)


def gibbs_with_gradients(_: Any, space: Space, *__: Any) -> kernels.Kernel:
    """The paper's kernel for labels."""
    return kernels.GibbsWithGradients(space)


def gibbs_and(move: Callable[[], kernels.Kernel], scan: Any, _: Any, space: Space, *__: Any) -> kernels.Kernel:
    """Gibbs of labels and a gradient move of reals."""
    return kernels.Cycle((kernels.Gibbs(space, scan=scan), move()))


def with_data(jump: bool, target: Any, space: Space, _: Any, generator: torch.Generator) -> kernels.Kernel:
    """Knows 1,000 rows of data: jumps from a mixture fitted to them, or shifts reals with labels."""
    if target.kind == "toy":
        model = load("pretrained:toy")
        rows = model.sample(NUM_ROWS, seed=1)
        values = {"x": rows["point"], "y": torch.stack([rows[n] for n in ("bottom", "left", "diagonal")], dim=1)}
    else:
        label = torch.multinomial(torch.tensor(target.arrays["log_w"]).exp(), NUM_ROWS, True, generator=generator)
        means = torch.tensor(target.arrays["means"], dtype=torch.float32)[label]
        values = {"x": means + torch.randn(NUM_ROWS, 2, generator=generator), "y": label[:, None]}
    move = kernels.MALA("x", 0.5)
    position, _ = space.encode(values)
    if jump:
        reference = Mixture.fit(space, position, 8 if target.kind == "toy" else 4, generator=generator)
        return kernels.Cycle((kernels.Jump(reference), move))
    return kernels.Cycle((kernels.ShiftedGibbs.from_data(space, position, "y"), move))


def mala() -> kernels.Kernel:
    return kernels.MALA("x", 0.3)


def hmc() -> kernels.Kernel:
    return kernels.HMC("x", 0.3, num_leapfrog=5)


PAIRWISE: dict[str, Callable[..., Advance]] = {
    "ChromaticGibbs": partial(ours, make=chromatic),
    "SwendsenWang": partial(ours, make=clusters, compiled=False),  # gathers, which compiling does not make faster
    "DMALA": partial(ours, make=dmala),
    "GWG, not compiled": partial(ours, make=gibbs_with_gradients, compiled=False),
}
MIXED: dict[str, Callable[..., Advance]] = {
    "Gibbs, MALA": partial(ours, make=partial(gibbs_and, mala, "random")),
    "Gibbs, HMC": partial(ours, make=partial(gibbs_and, hmc, "random")),
    "Gibbs sweep, HMC": partial(ours, make=partial(gibbs_and, hmc, "systematic")),
    "ShiftedGibbs, MALA": partial(ours, make=partial(with_data, False)),
    "Jump, MALA": partial(ours, make=partial(with_data, True)),
}
