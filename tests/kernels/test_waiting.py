"""No step reads a value from the device: such a read waits for all that was queued."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import (
    DMALA,
    HMC,
    MALA,
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
    ShiftedGibbs,
    evaluate,
)
from jointebm.kernels.kernel import unread_masks
from jointebm.randomness.draws import Generator, normal
from jointebm.spaces.space import Position
from support.exact_references import Components, random_reference

SPACE = Space(x=Continuous(3), y=Categorical((2, 3)), bits=Binary((2, 2)))
COLOURS = {"y": torch.arange(2), "bits": torch.tensor([[0, 1], [1, 0]])}
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
    "Lazy": Lazy(Gibbs(SPACE), 0.5),
    "a cycle": Cycle((GibbsWithGradients(SPACE), MALA("x", 0.1), Gibbs(SPACE))),
}


def log_density(position: Position) -> Tensor:
    y, bits = position["y"].sum(dim=1), position["bits"].sum(dim=(1, 2))
    return -0.5 * (position["x"] - y[:, None]).square().sum(dim=1) + y * bits


def begun(device: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    position, free = SPACE.clamp(None, num_chains=8, generator=torch.Generator().manual_seed(0))
    return ({n: p.to(device) for n, p in position.items()}, {n: m.to(device) for n, m in free.items()})


class Unread(Components):
    """The reference of exact tests, but for the question whether a real is missing, which it does not ask."""

    def _filled(self, position: Position, component: Tensor, generator: Generator) -> dict[str, Tensor]:
        filled = {}
        for name, value in position.items():
            drawn = self.centres[name][component]
            if not self.space[name].discrete:
                drawn = drawn + self.scale * normal(drawn, generator)
            filled[name] = torch.where(value.isnan(), drawn, value)
        return filled


def reference(device: str) -> Unread:
    table = random_reference(SPACE, 0)
    centres = {name: centre.float().to(device) for name, centre in table.centres.items()}
    return Unread(SPACE, table.log_weights.float().to(device), centres)


MADE: dict[str, Callable[[str], Kernel]] = {
    **{name: (lambda _, kernel=kernel: kernel) for name, kernel in KERNELS.items()},
    "Jump": lambda device: Jump(reference(device)),
    "Jump of some blocks": lambda device: Jump(reference(device), ("y",)),
    "ReplicaExchange": lambda device: ReplicaExchange(reference(device), (0, 0.5, 1), MALA("x", 0.1)),
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

    with unread_masks():
        step()
        assert reads_of(step) == 0


@pytest.mark.parametrize("name", MADE)
def test_a_step_runs_where_nothing_can_be_read(name: str) -> None:
    """Tensors of the meta device have no values, and reading one raises. The tables are made there, too."""
    kernel, f, position, free = prepared(name, "meta")
    moved, _ = kernel.step(f, evaluate(f, position), free=free, generator=torch.Generator())
    assert {n: p.shape for n, p in moved.position.items()} == {n: p.shape for n, p in position.items()}


def test_the_count_sees_what_reads() -> None:
    x = torch.ones(3)
    assert reads_of(lambda: bool(x.any())) == 1
    assert reads_of(lambda: x.nonzero()) == 1
    assert reads_of(lambda: x.unique()) == 1
    assert reads_of(lambda: x[x > 0]) == 1
    assert reads_of(lambda: x.repeat_interleave(torch.tensor([1, 0, 2]))) == 1
    assert reads_of(lambda: x + 1) == 0
