"""Specification of the energies: the paper's networks to the parameter, and the paper's forms to rounding."""

import itertools
import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, Space
from jointebm.energies import (
    MLP,
    BilinearEnergy,
    ConcatEnergy,
    ConcatSpec,
    ConvEncoder,
    ConvSpec,
    EnergySpec,
    JEMEnergy,
    JEMSpec,
    MLPSpec,
    start_at_zero,
)
from jointebm.spaces.space import Position

TOY = Space(point=Continuous(2), bottom=Categorical(2), left=Categorical(2), diagonal=Categorical(2))
MNIST = Space(image=Continuous((28, 28)), digit=Categorical(10))
DSPRITES = Space(image=Continuous((32, 32)), horizontal=Categorical(16), vertical=Categorical(16))

TOY_SPEC = ConcatSpec(net=MLPSpec(hidden=(256, 256, 256)))
MNIST_SPEC = ConcatSpec(net=MLPSpec(hidden=(1000, 500, 500, 250, 250, 250)))
DSPRITES_SPEC = ConcatSpec(net=MLPSpec(hidden=(256, 256), activation="silu"), encoder=ConvSpec(side=32))


def linear_layers(activation: str, *widths: int) -> list[str]:
    """Linear layers with an activation between them, as PyTorch prints them."""
    layers = [f"Linear(in_features={a}, out_features={b}, bias=True)" for a, b in itertools.pairwise(widths)]
    return [layer for each in layers for layer in (each, activation)][:-1]


DSPRITES_ENCODER = """
Conv2d(1, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
Conv2d(16, 32, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))
Conv2d(32, 64, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))
Conv2d(64, 128, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))
Conv2d(128, 16, kernel_size=(1, 1), stride=(1, 1))
"""


def test_the_papers_networks_have_the_layers_that_the_paper_prints() -> None:
    """App. B.1.1, B.2.2 and B.3.2; whether an activation works in place is no part of the function."""
    elu = "ELU(alpha=1.0)"
    assert [*map(str, TOY_SPEC.build(TOY).net)] == linear_layers(elu, 8, 256, 256, 256, 1)
    mnist = linear_layers(elu, 794, 1000, 500, 500, 250, 250, 250, 1)
    assert [*map(str, MNIST_SPEC.build(MNIST).net)] == mnist
    energy = DSPRITES_SPEC.build(DSPRITES)
    assert isinstance(energy.encoder, ConvEncoder)
    *stages, last = DSPRITES_ENCODER.strip().splitlines()
    encoder = [layer for stage in stages for layer in (stage, "SiLU()")] + [last, "Flatten(start_dim=1, end_dim=-1)"]
    assert [*map(str, energy.encoder)] == encoder
    assert [*map(str, energy.net)] == linear_layers("SiLU()", 288, 256, 256, 1)


# f(x, y) = net(concat(h(x), y)), computed as it is written.

MIXED = Space(bits=Binary((2, 2)), x=Continuous(3), group=Categorical((2, 3)), z=Continuous(), y=Categorical(4, 2))
ONE_IMAGE = Space(bit=Binary(), image=Continuous((8, 8)), y=Categorical(3))
NO_LABELS = Space(x=Continuous(3), z=Continuous())
NO_REALS = Space(bits=Binary(2), y=Categorical(3))
SCALES: list[dict[str, float]] = [{}, {"x": 0.125, "y": 10.0}, {"z": 3.0, "bits": 0.5, "group": 2.0, "x": 1.0}]


def position_in(space: Space, num: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return space.clamp(None, num_chains=num, generator=generator, dtype=torch.float64)[0]


def columns(position: Position, names: tuple[str, ...], scale: dict[str, float]) -> Tensor:
    flat = [position[name].reshape(len(position[name]), -1) * scale.get(name, 1) for name in names]
    return torch.cat(flat, dim=1)


def perturbed(module: nn.Module) -> Any:
    """The module in float64 with weights drawn from a seed, large enough to bend every activation."""
    generator = torch.Generator().manual_seed(1)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("space", [MIXED, NO_LABELS, NO_REALS], ids=["mixed", "no labels", "no reals"])
def test_concat_is_the_network_of_the_scaled_columns(space: Space, scale: dict[str, float]) -> None:
    scale = {name: factor for name, factor in scale.items() if name in space}
    position = position_in(space)
    inputs = columns(position, (*space.continuous, *space.discrete), scale)
    net = perturbed(MLP(inputs.shape[1], (16, 8)))
    energy = ConcatEnergy(space, net, scale=scale)
    torch.testing.assert_close(energy(position), net(inputs).squeeze(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("space", [MIXED, NO_LABELS], ids=["mixed", "no labels"])
def test_the_output_scale_multiplies_f(space: Space) -> None:
    position = position_in(space)
    net = perturbed(MLP(columns(position, (*space.continuous, *space.discrete), {}).shape[1], (16,)))
    plain, scaled = ConcatEnergy(space, net), ConcatEnergy(space, net, output_scale=7.0)
    torch.testing.assert_close(scaled(position), 7 * plain(position))
    torch.testing.assert_close(scaled.head(scaled.encode(position), position), 7 * plain(position))


@pytest.mark.parametrize("scale", [{}, {"image": 0.25, "y": 6.0, "bit": 2.0}], ids=str)
@pytest.mark.parametrize("space", [ONE_IMAGE, Space(image=Continuous((8, 8)))], ids=["labels", "no labels"])
def test_concat_with_an_encoder_is_the_network_of_its_features_and_the_scaled_labels(
    space: Space, scale: dict[str, float]
) -> None:
    scale = {name: factor for name, factor in scale.items() if name in space}
    encoder = perturbed(ConvEncoder((4, 8), 2))
    position = position_in(space)
    h = encoder(position["image"] * scale.get("image", 1))  # (N, 32)
    inputs = torch.cat([h, columns(position, space.discrete, scale)], dim=1) if space.discrete else h
    net = perturbed(MLP(inputs.shape[1], (16,), activation="silu"))
    energy = ConcatEnergy(space, net, encoder=encoder, scale=scale)
    torch.testing.assert_close(energy(position), net(inputs).squeeze(1), rtol=0, atol=1e-12)


def test_the_encoder_sees_an_image_of_one_channel_and_its_features_are_flattened() -> None:
    encoder, image = perturbed(ConvEncoder((4, 8), 2)), position_in(ONE_IMAGE)["image"]
    expected = image.unsqueeze(1)
    for layer in encoder:
        expected = layer(expected)
    assert encoder(image).shape == (6, 2 * 4 * 4)
    torch.testing.assert_close(encoder(image), expected, rtol=0, atol=0)


@pytest.mark.parametrize("encoded", [False, True])
def test_head_reads_only_y_and_encode_only_x(encoded: bool) -> None:
    encoder = perturbed(ConvEncoder((4, 8), 2)) if encoded else None
    energy = ConcatEnergy(ONE_IMAGE, perturbed(MLP((32 if encoded else 64) + 4, (16,))), encoder=encoder)
    position = position_in(ONE_IMAGE)
    features = energy.encode({"image": position["image"]})
    labels = {name: position[name] for name in ONE_IMAGE.discrete}
    assert energy.encoded_blocks == ("image",)
    torch.testing.assert_close(energy.head(features, labels), energy(position), rtol=0, atol=0)


@pytest.mark.parametrize("space", [MIXED, NO_LABELS, NO_REALS], ids=["mixed", "no labels", "no reals"])
def test_the_last_layer_of_concat_runs_in_float32_under_autocast(space: Space) -> None:
    position = {name: value.float() for name, value in position_in(space).items()}
    width = columns(position, tuple(space), {}).shape[1]
    energy = ConcatEnergy(space, perturbed(MLP(width, (16, 16))).float())
    last = energy.net[-1]
    assert isinstance(last, nn.Linear)
    seen: list[Tensor] = []
    last.register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0], output]))
    with torch.autocast("cpu", torch.bfloat16):
        f = energy(position)
    hidden, _ = seen
    assert f.dtype == hidden.dtype == torch.float32
    assert torch.equal(hidden, hidden.bfloat16().float()), "the layers before the last run in bfloat16"
    assert torch.equal(f, (hidden @ last.weight.T + last.bias).squeeze(1))
    assert not torch.equal(f, f.bfloat16().float())


# The other forms, in closed form.


def test_bilinear_is_the_inner_product_of_both_networks() -> None:
    position, scale = position_in(MIXED), {"x": 0.5, "y": 3.0}
    x, y = columns(position, MIXED.continuous, scale), columns(position, MIXED.discrete, scale)
    g, h = perturbed(MLP(x.shape[1], (16,), 5)), perturbed(MLP(y.shape[1], (16,), 5))
    energy = BilinearEnergy(MIXED, g, h, scale=scale)
    torch.testing.assert_close(energy(position), torch.einsum("nd,nd->n", g(x), h(y)), rtol=0, atol=1e-12)


ONE_LABEL = Space(x=Continuous(3), y=Categorical(4))


def jem_f(energy: JEMEnergy, x: Tensor) -> Tensor:
    """f at every class, shape (N, K)."""
    eye = torch.eye(4, dtype=x.dtype)
    return torch.stack([energy({"x": x, "y": eye[[k] * len(x)]}) for k in range(4)], dim=1)


def test_jem_with_one_label_is_a_softmax_classifier_and_a_logsumexp_density() -> None:
    net, x = perturbed(MLP(3, (16,), 4)), position_in(ONE_LABEL)["x"]
    energy = JEMEnergy(ONE_LABEL, net, scale={"x": 0.5})
    f, logits = jem_f(energy, x), net(0.5 * x)
    torch.testing.assert_close(f, logits, rtol=0, atol=1e-12)  # Eq. 11, and by it Eqs. 10, 12, 13


def test_jem_with_several_labels_makes_them_independent_given_x() -> None:
    position = position_in(MIXED, num=3)
    x = columns(position, MIXED.continuous, {})
    net = perturbed(MLP(x.shape[1], (16,), 4 + 5 + 8))
    energy = JEMEnergy(MIXED, net)
    discrete = Space(**{name: MIXED[name] for name in MIXED.discrete})
    configurations = discrete.configurations(dtype=torch.float64)
    reals = {name: position[name] for name in MIXED.continuous}
    for row in range(3):
        repeated = {
            name: value[row].expand(discrete.num_configurations, *value.shape[1:]) for name, value in reals.items()
        }
        p = energy({**repeated, **configurations}).softmax(dim=0)
        marginals = torch.einsum("s,sm->m", p, columns(configurations, discrete.discrete, {}))
        logits = net(x[row])
        bits, group, labels = logits[:4].sigmoid(), logits[4:9].split([2, 3]), logits[9:].reshape(2, 4)
        expected = torch.cat([bits, *(part.softmax(dim=0) for part in group), labels.softmax(dim=1).flatten()])
        torch.testing.assert_close(marginals, expected, rtol=0, atol=1e-12)


def test_jem_with_an_encoder_classifies_its_features() -> None:
    space = Space(image=Continuous((8, 8)), y=Categorical(3))
    encoder, net, position = perturbed(ConvEncoder((4, 8), 2)), perturbed(MLP(32, (16,), 3)), position_in(space)
    energy = JEMEnergy(space, net, encoder=encoder, scale={"image": 0.5})
    expected = (net(encoder(0.5 * position["image"])) * position["y"]).sum(dim=1)
    torch.testing.assert_close(energy(position), expected, rtol=0, atol=1e-12)


def x_alone() -> ConcatEnergy:
    return perturbed(ConcatEnergy(Space(x=ONE_LABEL["x"]), MLP(3, (8,)), output_scale=100.0))


def test_jem_with_a_shared_energy_is_that_of_x_and_a_classifier() -> None:
    net, shared, x = perturbed(MLP(3, (16,), 4)), x_alone(), position_in(ONE_LABEL)["x"]
    energy = JEMEnergy(ONE_LABEL, net, scale={"x": 0.5}, logit_scale=3.0, shared=shared)
    expected = shared({"x": x})[:, None] + (3 * net(0.5 * x)).log_softmax(dim=1) + math.log(4)
    torch.testing.assert_close(jem_f(energy, x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(jem_f(JEMEnergy(ONE_LABEL, net, logit_scale=3.0), x), 3 * net(x), rtol=0, atol=1e-12)
    start_at_zero(energy)
    assert bool((jem_f(energy, x).abs() < 1e-12).all())


def test_a_shared_energy_is_what_is_left_when_several_labels_are_summed_out() -> None:
    position = position_in(MIXED, num=3)
    reals = Space(**{name: MIXED[name] for name in MIXED.continuous})
    width = columns(position, MIXED.continuous, {}).shape[1]
    shared = perturbed(ConcatEnergy(reals, MLP(width, (8,)), output_scale=100.0))
    energy = JEMEnergy(MIXED, perturbed(MLP(width, (16,), 4 + 5 + 8)), shared=shared)
    configurations = Space(**{name: MIXED[name] for name in MIXED.discrete}).configurations(dtype=torch.float64)
    num = len(next(iter(configurations.values())))
    for row in range(3):
        x = {name: position[name][row : row + 1] for name in MIXED.continuous}
        repeated = {name: value.expand(num, *value.shape[1:]) for name, value in x.items()}
        log_mean = energy({**repeated, **configurations}).logsumexp(dim=0) - math.log(num)
        torch.testing.assert_close(log_mean, shared(x)[0], rtol=0, atol=1e-10)


def test_the_last_layers_of_jem_with_a_shared_energy_keep_their_precision_under_autocast() -> None:
    energy = JEMEnergy(ONE_LABEL, perturbed(MLP(3, (16,), 4)).float(), logit_scale=100.0, shared=x_alone().float())
    position = {name: value.float() for name, value in position_in(ONE_LABEL).items()}
    with torch.autocast("cpu", torch.bfloat16):
        features = energy.encode(position)
    assert features.dtype == torch.float32
    assert not bool((features == features.to(torch.bfloat16).float()).all(dim=0).any())  # rounding is off by nats here


# What is refused.

NO_ENDS = "must be an nn.Sequential that starts and ends with nn.Linear, got .*write a module"
BOTH_KINDS = "needs continuous and discrete blocks, got Space"
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: ConcatEnergy(NO_REALS, nn.Linear(5, 1)), NO_ENDS),  # type: ignore[arg-type]
    (lambda: ConcatEnergy(NO_REALS, nn.Sequential()), NO_ENDS),
    (lambda: ConcatEnergy(NO_REALS, nn.Sequential(nn.ELU(), nn.Linear(5, 1))), NO_ENDS),
    (lambda: ConcatEnergy(NO_REALS, nn.Sequential(nn.Linear(5, 1), nn.ELU())), NO_ENDS),
    (lambda: ConcatSpec(net=MLPSpec(hidden=())).build(TOY), "a single linear layer, in which x and y do not interact"),
    (lambda: ConcatEnergy(TOY, MLP(8, (4,), 3)), "the last layer gives 3 numbers per row, but f is one number"),
    (lambda: ConcatEnergy(ONE_LABEL, MLP(6, (4,))), r"takes 6 columns, but the space has 3 continuous \+ 4 discrete"),
    (lambda: ConcatEnergy(ONE_LABEL, MLP(8, (4,))), r"takes 8 columns, but the space has 3 continuous \+ 4 discrete"),
    (lambda: ConcatEnergy(TOY, MLP(8, (16,)), output_scale=-1.0), "output_scale must be positive and finite, got -1"),
    (
        lambda: ConcatEnergy(MIXED, MLP(8, (4,)), encoder=ConvEncoder()),
        r"ConcatEnergy: .*one continuous block, got \('x'",
    ),
    (lambda: JEMEnergy(MIXED, MLP(8, (4,), 17), encoder=ConvEncoder()), "JEMEnergy: .*exactly one continuous block"),
    (lambda: BilinearEnergy(NO_LABELS, MLP(4, (4,)), MLP(4, (4,))), f"BilinearEnergy: {BOTH_KINDS}"),
    (lambda: BilinearEnergy(NO_REALS, MLP(4, (4,)), MLP(4, (4,))), f"BilinearEnergy: {BOTH_KINDS}"),
    (lambda: JEMEnergy(ONE_LABEL, nn.Linear(3, 4), shared=nn.Identity()), "ends with nn.Linear, got Linear"),
    (lambda: JEMEnergy(ONE_LABEL, MLP(3, (4,), 4), logit_scale=0.0), "logit_scale must be positive and finite, got 0"),
    (lambda: JEMEnergy(NO_LABELS, MLP(4, (4,))), f"JEMEnergy: {BOTH_KINDS}"),
    (lambda: JEMEnergy(NO_REALS, MLP(4, (4,))), f"JEMEnergy: {BOTH_KINDS}"),
    (lambda: ConcatEnergy(ONE_LABEL, MLP(7, (4,)), scale={"colour": 2.0}), "no block 'colour'; this space has 'x'"),
    (lambda: BilinearEnergy(ONE_LABEL, MLP(3, (4,)), MLP(4, (4,)), scale={"colour": 2.0}), "no block 'colour'"),
    (lambda: JEMEnergy(ONE_LABEL, MLP(3, (4,), 4), scale={"y": 2.0}), "no continuous block 'y'; this space has 'x'"),
    (lambda: MLP(2, (4,), activation="relu"), "activation: expected one of elu, silu, got 'relu'"),  # type: ignore[arg-type]
    (lambda: ConvSpec(side=12), "side 12 does not halve 3 times, .* multiple of 8, or fewer channels"),
    (lambda: ConvSpec(side=12, channels=()), "at least 1 item"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_does_not_fit_together_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("width", [35, 37])
def test_concat_refuses_an_encoder_of_another_width_rather_than_drop_or_share_columns(width: int) -> None:
    energy = ConcatEnergy(ONE_IMAGE, MLP(width, (4,)).double(), encoder=ConvEncoder((4, 8), 2).double())
    with pytest.raises(ValueError, match=f"first layer takes {width} columns, but the encoder gives 32 and the .* 4"):
        energy(position_in(ONE_IMAGE))


@pytest.mark.parametrize("spec", [ConcatSpec, JEMSpec])
@pytest.mark.parametrize("shape", [(2,), (8, 8), (1, 16, 16)], ids=str)
def test_an_encoder_of_another_side_than_the_image_is_refused_with_both_shapes(
    spec: Any, shape: tuple[int, ...]
) -> None:
    space = Space(image=Continuous(shape), y=Categorical(3))
    message = rf"shape \(16, 16\) \(side 16\), but block 'image' has shape {re.escape(str(shape))}"
    with pytest.raises(ValueError, match=message):
        spec(net=MLPSpec(hidden=(4,)), encoder=ConvSpec(side=16)).build(space)


def test_an_encoder_that_halves_first_has_one_stage_more_and_says_how_wide_it_is() -> None:
    spec = ConvSpec(side=12, channels=(3, 5), out_channels=7, halves_first=True)
    encoder = spec.build()
    assert [(c.kernel_size, c.stride) for c in encoder if isinstance(c, nn.Conv2d)] == [
        ((4, 4), (2, 2)),
        ((4, 4), (2, 2)),
        ((1, 1), (1, 1)),
    ]
    assert encoder(torch.zeros(2, 12, 12)).shape == (2, spec.num_features) == (2, 7 * 3 * 3)
    with pytest.raises(
        ValidationError, match=r"side 12 does not halve 3 times, once for each of the 3 channels; give a"
    ):
        ConvSpec(side=12, channels=(3, 5, 5), halves_first=True)


# Specs.


def test_a_spec_builds_the_module_written_by_hand() -> None:
    encoder = ConvSpec(side=8, channels=(4, 8), out_channels=2)
    written = ConcatEnergy(
        ONE_IMAGE, MLP(36, (16,), activation="silu"), encoder=ConvEncoder((4, 8), 2), scale={"image": 0.5}
    )
    built = ConcatSpec(net=MLPSpec(hidden=(16,), activation="silu"), encoder=encoder, scale={"image": 0.5}).build(
        ONE_IMAGE
    )
    assert str(built) == str(written)
    position = position_in(ONE_IMAGE)
    torch.testing.assert_close(perturbed(built)(position), perturbed(written)(position), rtol=0, atol=0)


SOUND: dict[str, Any] = {"kind": "concat", "net": {"hidden": [4], "activation": "elu"}, "scale": {"x": 2.0}}
UNSOUND: list[dict[str, Any]] = [
    {"net": {"hidden": [0]}},
    {"net": {"hidden": [4.5]}},
    {"net": {"hidden": ["4"]}},
    {"net": {"hidden": [4], "activation": "relu"}},
    {"net": {}},
    {"scale": {"x": math.nan}},
    {"scale": {"x": "2"}},
    {"depth": 3},
    {"kind": "transformer"},
    {"kind": "bilinear"},
]


@pytest.mark.parametrize("fields", UNSOUND, ids=str)
def test_a_spec_with_an_unknown_field_or_a_value_of_the_wrong_type_is_refused(fields: dict[str, Any]) -> None:
    specs = TypeAdapter(EnergySpec)
    specs.validate_json(json.dumps(SOUND))
    with pytest.raises(ValidationError):
        specs.validate_json(json.dumps(SOUND | fields))


def test_a_spec_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TOY_SPEC.net = MLPSpec(hidden=(1,))  # type: ignore[misc]
