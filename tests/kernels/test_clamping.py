"""Specification of masks, for every kernel: clamped entries keep their bits, and rows with nothing free do nothing."""

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.kernels import (
    MALA,
    ChromaticGibbs,
    Cycle,
    Gibbs,
    GibbsWithGradients,
    Kernel,
    Langevin,
    Lazy,
    SwendsenWang,
    evaluate,
)
from jointebm.spaces.space import Position
from support.oracles import RandomLogDensity

SPACE = Space(bits=Binary(2), x=Continuous((2, 2)), y=Categorical(3), group=Categorical((2, 3)))
LABELS = RandomLogDensity(Space(**{name: SPACE[name] for name in SPACE.discrete}), seed=9)
COLOURS = {"bits": torch.tensor([0, 1]), "y": torch.tensor(0), "group": torch.tensor([1, 0])}
PAIRS = torch.zeros(5, 5)  # of bits, y and group
PAIRS[0, 1] = PAIRS[1, 0] = PAIRS[0, 3] = PAIRS[3, 0] = -0.6
PAIRS[2, 4] = PAIRS[4, 2] = 0.8
KERNELS: dict[str, Kernel] = {
    "Gibbs": Gibbs(SPACE),
    "systematic Gibbs": Gibbs(SPACE, scan="systematic"),
    "Gibbs-with-Gradients": GibbsWithGradients(SPACE),
    "chromatic Gibbs": ChromaticGibbs(SPACE, COLOURS),
    "Swendsen-Wang": SwendsenWang(SPACE, PAIRS),
    "MALA": MALA("x", 0.8),
    "Langevin": Langevin("x", 0.3),
    "lazy": Lazy(Gibbs(SPACE), 0.7),
    "cycle": Cycle((GibbsWithGradients(SPACE), MALA("x", 0.3), Gibbs(SPACE))),
}


def log_density(position: Position) -> Tensor:
    f = LABELS({name: position[name].double() for name in SPACE.discrete})
    return f.to(position["x"].dtype) - (position["x"] - position["y"][:, :2, None]).square().sum(dim=(1, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", KERNELS)
def test_clamped_entries_keep_their_bits_over_many_steps(name: str, dtype: torch.dtype) -> None:
    kernel, generator = KERNELS[name], torch.Generator().manual_seed(0)
    start, free = SPACE.clamp(None, num_chains=200, generator=generator, dtype=dtype)
    start["x"][0] = -0.0
    free = {block: torch.rand(mask.shape, generator=generator) < 0.5 for block, mask in free.items()}
    for mask in free.values():
        mask[:20] = False
    chain = evaluate(log_density, start)
    for _ in range(100):
        chain, info = kernel.step(log_density, chain, free=free, generator=generator)
        if kernel.adjusted and name != "cycle":
            assert not bool(info.accepted[:20].any()) and not bool(info.accept_prob[:20].any())  # type: ignore[union-attr]
        if name.endswith("Gibbs") and "chromatic" not in name:
            movable = torch.cat([free[each].reshape(200, -1) for each in SPACE.discrete], dim=1).any(dim=1)
            assert torch.equal(info.accept_prob, movable.to(dtype))  # type: ignore[union-attr]
    torch.testing.assert_close(chain.f, log_density(chain.position), rtol=1e-5, atol=1e-4)
    for block in SPACE:
        end, clamped = chain.position[block], ~SPACE[block].expand(free[block]).expand_as(start[block])
        assert torch.equal(end[clamped], start[block][clamped])
        assert torch.equal(end[clamped].signbit(), start[block][clamped].signbit())
    moved = {block for block in SPACE if not torch.equal(chain.position[block], start[block])}
    assert moved == (set(SPACE) if name == "cycle" else {"x"} if name in ("MALA", "Langevin") else set(SPACE.discrete))
