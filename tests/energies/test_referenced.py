"""Specification of `Referenced`: log q at the start, one value by both paths, rebuilt from plain data."""

import math

import pytest
import torch
from torch import nn

from jointebm import Binary, Categorical, Continuous, Space, kernels
from jointebm.energies import BilinearSpec, ConcatSpec, JEMSpec, MLPSpec, Referenced, ReferencedSpec, start_at_zero
from jointebm.references import Marginals, Mixture
from jointebm.references.reference_specs import MixtureSpec

SPACE = Space(x=Continuous(2), bit=Binary(), y=Categorical(3))
NET = MLPSpec(hidden=(8,))
RESIDUALS = (ConcatSpec(net=NET), BilinearSpec(g=NET, h=NET, num_features=4), JEMSpec(net=NET))


def shaken(energy: nn.Module) -> nn.Module:
    for parameter in energy.parameters():
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    return energy


@pytest.mark.parametrize("spec", RESIDUALS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("reference", [Mixture(SPACE, 3), Marginals(SPACE, 2)], ids=["mixture", "marginals"])
def test_it_starts_at_log_q_and_both_paths_agree(spec: ConcatSpec, reference: Mixture | Marginals) -> None:
    energy = Referenced(reference, start_at_zero(spec.build(SPACE))).double()
    position = {n: v.double() for n, v in reference.draw(50, torch.Generator().manual_seed(0)).items()}
    torch.testing.assert_close(energy(position), reference.log_prob(position), rtol=0, atol=1e-12)
    shaken(energy.residual)
    assert energy.encoded_blocks == ("x",)
    encoded, plain = kernels.evaluate(energy, position), kernels.evaluate(lambda each: energy(each), position)
    torch.testing.assert_close(encoded.f, plain.f, rtol=0, atol=1e-10)
    for name in SPACE:
        torch.testing.assert_close(encoded.score[name], plain.score[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("with_labels", [True, False])
def test_a_spec_rebuilds_it(with_labels: bool) -> None:
    spec = ReferencedSpec(reference=MixtureSpec(num_components=3), residual=RESIDUALS[0], with_labels=with_labels)
    energy = spec.build(SPACE)
    again = ReferencedSpec.model_validate_json(spec.model_dump_json()).build(SPACE)
    again.load_state_dict(energy.state_dict())
    position = energy.reference.draw(5, torch.Generator().manual_seed(0))
    assert torch.equal(again(position), energy(position)) and again.with_labels == with_labels


def test_a_module_without_output_layers_is_refused() -> None:
    with pytest.raises(TypeError, match="Dropout does not name its output layers"):
        start_at_zero(nn.Dropout())


@pytest.mark.parametrize("spec", RESIDUALS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("reference", [Mixture(SPACE, 3), Marginals(SPACE, 2)], ids=["mixture", "marginals"])
def test_without_labels_of_the_reference_they_are_uniform_at_the_start(
    spec: ConcatSpec, reference: Mixture | Marginals
) -> None:
    for name, value in reference.named_buffers():  # components that differ in labels and reals
        if name.endswith(("log_probs", "means")):
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(1)))
    energy = Referenced(reference, start_at_zero(spec.build(SPACE)), with_labels=False).double()
    position = {n: v.double() for n, v in reference.draw(50, torch.Generator().manual_seed(0)).items()}
    hidden = {**position, **{name: torch.full_like(position[name], torch.nan) for name in ("bit", "y")}}
    torch.testing.assert_close(energy(position), reference.log_prob(hidden) - math.log(6), rtol=0, atol=1e-12)
    shaken(energy.residual)
    torch.testing.assert_close(
        energy(position) - energy.residual(position), reference.log_prob(hidden) - math.log(6), rtol=0, atol=1e-12
    )
    encoded, plain = kernels.evaluate(energy, position), kernels.evaluate(lambda each: energy(each), position)
    torch.testing.assert_close(encoded.f, plain.f, rtol=0, atol=1e-10)
    for name in SPACE:
        torch.testing.assert_close(encoded.score[name], plain.score[name], rtol=0, atol=1e-10)
