"""Specification of `jointebm.runs.sampling_run`: a chain that was written down goes on bit for bit."""

import pytest
import torch

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.randomness.draws import Generator
from jointebm.energies import MLP, ConcatEnergy, ConvEncoder
from jointebm.kernels import MALA, Chain, Cycle, Gibbs, GibbsWithGradients, Kernel, Langevin, LogDensity, evaluate
from jointebm.runs.sampling_run import chain_from_tensors, chain_tensors
from jointebm.sampling.sample import begin_sampling, sample

IMAGES = Space(x=Continuous((8, 8)), a=Categorical(4), group=Categorical((2, 3)), bits=Binary(2))


def image_energy() -> ConcatEnergy:
    torch.manual_seed(1)
    return ConcatEnergy(IMAGES, MLP(8 + 11, (8,)), encoder=ConvEncoder((2, 2, 2), 2))


KERNELS: dict[str, Kernel] = {
    "gradients + mala": Cycle((GibbsWithGradients(IMAGES), MALA(block="x", step_size=0.5))),
    "mala + gradients": Cycle((MALA(block="x", step_size=0.5), GibbsWithGradients(IMAGES))),
    "gibbs + mala": Cycle((Gibbs(IMAGES), MALA(block="x", step_size=0.5))),
    "langevin + gibbs": Cycle((Langevin(block="x", step_size=0.1), Gibbs(IMAGES))),
    "gradients": GibbsWithGradients(IMAGES),
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("energy", ["encoder", "plain"])
def test_a_chain_made_again_from_its_tensors_goes_on_bit_for_bit(energy: str, kernel: str) -> None:
    """After every one of ten steps; with an encoder, whose backward pass may still be to come."""
    torch.manual_seed(1)
    log_density: LogDensity = image_energy() if energy == "encoder" else ConcatEnergy(IMAGES, MLP(64 + 11, (8,)))
    steps = KERNELS[kernel]
    generator: Generator = torch.Generator().manual_seed(0)
    position = {"x": torch.rand(6, 8, 8), "a": torch.eye(4)[[0, 1, 2, 3, 0, 1]]}
    position |= {"group": torch.eye(6)[:, :5].new_zeros(6, *IMAGES["group"].position_shape), "bits": torch.zeros(6, 2)}
    position = IMAGES.clamp(None, num_chains=6, generator=generator)[0] | {"x": position["x"]}
    free = {name: torch.ones(6, *block.variable_shape, dtype=torch.bool) for name, block in IMAGES.items()}
    chain = evaluate(log_density, position, with_score=steps.uses_score)
    again = chain
    for step in range(10):
        state = generator.get_state()
        chain, _ = steps.step(log_density, chain, free=free, generator=generator)
        generator.set_state(state)
        again, _ = steps.step(log_density, again, free=free, generator=generator)
        assert_same_chains(chain, again)
        again = chain_from_tensors(log_density, {name: t.clone() for name, t in chain_tensors(again).items()})
        assert (again.score is None) == (chain.score is None) and (again.encoding is None) == (chain.encoding is None)


def assert_same_chains(one: Chain, other: Chain) -> None:
    """Compared without asking for a score that nobody has asked for."""
    tensors, others = chain_tensors(one), chain_tensors(other)
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())


def test_sampling_goes_on_where_an_interrupted_session_left_it() -> None:
    log_density, kernel = image_energy(), KERNELS["gradients + mala"]
    whole = sample(
        log_density,
        IMAGES,
        kernel,
        num_chains=6,
        num_steps=9,
        given={"a": 1},
        generator=torch.Generator().manual_seed(2),
    )
    sampling = begin_sampling(
        *(log_density, IMAGES, kernel),
        num_chains=6,
        given={"a": 1},
        init=None,
        generator=torch.Generator().manual_seed(2),
    )
    assert [sampling.run(num_steps) for num_steps in (4, 4, 9)] == [False] * 3
    samples = sampling.samples(False)
    assert samples.accept_rate == whole.accept_rate and samples.num_steps == 9
    assert all(torch.equal(value, whole.values[name]) for name, value in samples.values.items())
