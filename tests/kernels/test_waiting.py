"""No step reads a value from the device: such a read waits for all that was queued."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import MLP, ConcatEnergy, IsingEnergy, Referenced
from jointebm.kernels import (
    DMALA,
    HMC,
    MALA,
    Chain,
    ChromaticGibbs,
    Cycle,
    Gibbs,
    GibbsWithGradients,
    HammingBall,
    Jump,
    Kernel,
    Langevin,
    Lazy,
    LogDensity,
    MixedHMC,
    ReplicaExchange,
    Score,
    ShiftedGibbs,
    SwendsenWang,
    evaluate,
)
from jointebm.randomness.waiting import unread_values
from jointebm.references import AnyOrder, Marginals, Mixture, Reference
from jointebm.spaces.space import Position

SPACE = Space(x=Continuous(3), y=Categorical((2, 3)), bits=Binary((2, 2)))
COLOURS = {"y": torch.arange(2), "bits": torch.tensor([[0, 1], [1, 0]])}
PAIRS = torch.zeros(6, 6)  # of y, then of bits
PAIRS[2, 3] = PAIRS[3, 2] = 0.7
PAIRS[0, 5] = PAIRS[5, 0] = -0.4
KERNELS: dict[str, Kernel] = {
    "Langevin": Langevin("x", 0.1),
    "MALA": MALA("x", torch.tensor([0.1, 0.2, 0.3])),
    "HMC": HMC("x", 0.1, num_leapfrog=3),
    "Gibbs": Gibbs(SPACE),
    "systematic Gibbs": Gibbs(SPACE, scan="systematic"),
    "Gibbs-with-Gradients": GibbsWithGradients(SPACE),
    "ChromaticGibbs": ChromaticGibbs(SPACE, COLOURS),
    "DMALA": DMALA(SPACE, 0.3),
    "HammingBall": HammingBall(SPACE, 2, 3),
    "MixedHMC": MixedHMC(SPACE, HMC("x", 0.1, num_leapfrog=2), 2),
    "ShiftedGibbs": ShiftedGibbs(SPACE, "y", torch.zeros(5, 3)),
    "SwendsenWang": SwendsenWang(SPACE, PAIRS),
    "Lazy": Lazy(Gibbs(SPACE), 0.5),
    "a cycle": Cycle((GibbsWithGradients(SPACE), MALA("x", 0.1), Gibbs(SPACE))),
}


def log_density(position: Position) -> Tensor:
    y, bits = position["y"].sum(dim=1), position["bits"].sum(dim=(1, 2))
    return -0.5 * (position["x"] - y[:, None]).square().sum(dim=1) + y * bits


def begun(device: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    position, free = SPACE.clamp(None, num_chains=8, generator=torch.Generator().manual_seed(0))
    return ({n: p.to(device) for n, p in position.items()}, {n: m.to(device) for n, m in free.items()})


def reference(kind: str, device: str) -> Reference:
    """One that nobody fitted: what a step reads does not depend on numbers."""
    if kind == "AnyOrder":
        discrete = Space(y=SPACE["y"], bits=SPACE["bits"])
        return AnyOrder.untrained(discrete, 2, width=32, num_layers=1).to(device)
    return (Mixture(SPACE, 3) if kind == "Mixture" else Marginals(SPACE, 2)).to(device)


def referenced(device: str) -> Referenced:
    return Referenced(Mixture(SPACE, 3), ConcatEnergy(SPACE, MLP(12, (8,)))).to(device)


MADE: dict[str, Callable[[str], Kernel]] = {
    **{name: (lambda _, kernel=kernel: kernel) for name, kernel in KERNELS.items()},
    **{
        f"Jump from {kind}": (lambda device, kind=kind: Jump(reference(kind, device)))
        for kind in ("Mixture", "Marginals", "AnyOrder")
    },
    "Jump of some blocks": lambda device: Jump(reference("Mixture", device), ("y",)),
    "ReplicaExchange": lambda device: ReplicaExchange(reference("Mixture", device), (0, 0.5, 1), MALA("x", 0.1)),
}


def prepared(name: str, device: str) -> tuple[Kernel, LogDensity, dict[str, Tensor], dict[str, Tensor]]:
    """The kernel, its log-density, positions and masks; those of replicas for `ReplicaExchange`."""
    kernel, (position, free) = MADE[name](device), begun(device)
    if isinstance(kernel, ReplicaExchange):
        return kernel, kernel.target(log_density), kernel.replicate(position), kernel.replicate(free)
    return kernel, log_density, position, free


class Reads(TorchDispatchMode):
    """Counts the operations whose result leaves the device or has a shape that depends on values."""

    NAMES = ("_local_scalar_dense", "nonzero", "is_nonzero", "_unique2", "unique_dim", "masked_select", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = function.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            isinstance(each, Tensor) and each.dtype == torch.bool
            for part in args
            if isinstance(part, list)
            for each in part
        )
        by_counts = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        self.count += name in self.NAMES or by_mask or by_counts
        return function(*args, **(kwargs or {}))


def reads_of(step: Callable[[], object]) -> int:
    with Reads() as reads:
        step()
    return reads.count


@pytest.mark.parametrize("name", MADE)
def test_a_step_reads_nothing(name: str) -> None:
    """As on an accelerator, where masks are not read; the tables of the kernel are made at its first step."""
    kernel, f, position, free = prepared(name, "cpu")
    chain, generator = evaluate(f, position), torch.Generator().manual_seed(0)

    def step() -> None:
        kernel.step(f, chain, free=free, generator=generator)

    with unread_values():
        step()
        assert reads_of(step) == 0


@pytest.mark.parametrize("name", MADE)
def test_a_step_runs_where_nothing_can_be_read(name: str) -> None:
    """Tensors of the meta device have no values, and reading one raises. The tables are made there, too."""
    kernel, f, position, free = prepared(name, "meta")
    moved, _ = kernel.step(f, evaluate(f, position), free=free, generator=torch.Generator())
    assert {n: p.shape for n, p in moved.position.items()} == {n: p.shape for n, p in position.items()}


@pytest.mark.parametrize("kernel", [GibbsWithGradients(SPACE), MALA("x", 0.1), Gibbs(SPACE)], ids=repr)
def test_a_step_on_a_density_with_a_reference_reads_nothing(kernel: Kernel) -> None:
    """F = log q + residual, as `jointebm.fit` makes it, whole and by its encoder."""
    generator, (position, free) = torch.Generator().manual_seed(0), begun("cpu")
    energy = referenced("cpu")
    for f in (energy, energy.forward):
        chain = evaluate(f, position)

        def step(f: LogDensity = f, chain: Chain = chain) -> None:
            kernel.step(f, chain, free=free, generator=generator)

        with unread_values():
            assert reads_of(step) == 0


@pytest.mark.parametrize("kind", [ChromaticGibbs, SwendsenWang])
def test_a_step_of_a_verified_kernel_reads_nothing(kind: type[ChromaticGibbs] | type[SwendsenWang]) -> None:
    space, generator = Space(spins=Binary((4, 4))), torch.Generator().manual_seed(0)
    energy = IsingEnergy(space, coupling=0.4)
    position, free = space.clamp(None, num_chains=8, generator=generator)
    kernel, chain = kind.verified(space, energy, position, generator=generator), evaluate(energy, position)

    def step() -> None:
        kernel.step(energy, chain, free=free, generator=generator)

    with unread_values():
        step()
        assert reads_of(step) == 0
    on_meta = {name: value.to("meta") for name, value in position.items()}
    masks = {name: mask.to("meta") for name, mask in free.items()}
    start = Chain(on_meta, chain.f.to("meta"), Score({"spins": on_meta["spins"]}))
    object.__setattr__(kernel, "verified_for", flat)
    moved, _ = kernel.step(flat, start, free=masks, generator=generator)
    assert moved.position["spins"].device.type == "meta"


def flat(position: Position) -> Tensor:
    return position["spins"].sum(dim=(1, 2))


def test_the_count_sees_what_reads() -> None:
    x = torch.ones(3)
    assert reads_of(lambda: bool(x.any())) == 1
    assert reads_of(lambda: x.nonzero()) == 1
    assert reads_of(lambda: x.unique()) == 1
    assert reads_of(lambda: x[x > 0]) == 1
    assert reads_of(lambda: x.repeat_interleave(torch.tensor([1, 0, 2]))) == 1
    assert reads_of(lambda: x + 1) == 0
