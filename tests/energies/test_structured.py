"""Specification of structured energies: each equals its formula, and a chain its forward-backward."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from jointebm import Binary, Categorical, Continuous, KernelSpec, Space, kernels
from jointebm.energies import GridPairs, LabelProducts, PerPixel, PerPlace, StructuredEnergy, Transitions
from jointebm.testing import stationarity_residual, target_probs, transition_matrix

WORD = Space(strokes=Continuous((4, 5)), letters=Categorical(3, (4,)))
GRID = Space(image=Continuous((3, 4)), mask=Binary((3, 4)))


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in double precision with normal weights."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, generator=generator)
    return module


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def word_energy(reach: int = 1) -> StructuredEnergy:
    return StructuredEnergy(WORD, drawn(PerPlace(nn.Linear(5, 3))), drawn(Transitions(3, reach=reach)))


# The formula.


@pytest.mark.parametrize("reach", [1, 2, 3, 9])
def test_f_of_a_sequence_is_its_letters_and_its_transitions_one_by_one(reach: int) -> None:
    energy, strokes = word_energy(reach), normal(1, 4, 5)
    logits = energy.unary(strokes)[0]
    weight = energy.interaction.weight
    states = Space(letters=WORD["letters"]).configurations(dtype=torch.float64)
    f = energy({"strokes": strokes.expand(81, 4, 5), **states})
    for value, word in zip(f, itertools.product(range(3), repeat=4), strict=True):
        expected = sum(logits[place, letter] for place, letter in enumerate(word))
        for first, second in itertools.combinations(range(4), 2):
            if second - first <= reach:
                expected = expected + weight[second - first - 1, word[first], word[second]]
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("width", [3, 5, 9])
def test_pairs_on_a_grid_are_counted_once_and_mirror_one_another(width: int) -> None:
    pairs = drawn(GridPairs(width=width))
    y = (normal(5, 3, 4) > 0).double()
    spins = 2 * y - 1
    coupling = dict(zip(pairs.offsets, pairs.weight, strict=True))
    expected = torch.zeros(5, dtype=torch.float64)
    pixels = list(itertools.product(range(3), range(4)))
    for (a, b), (c, d) in itertools.combinations(pixels, 2):  # in reading order: the second comes after the first
        if max(abs(c - a), abs(d - b)) <= width // 2:
            expected = expected + coupling[c - a, d - b] * spins[:, a, b] * spins[:, c, d]
    torch.testing.assert_close(pairs(y), expected, rtol=0, atol=1e-12)
    assert len(coupling) == width * width // 2


def test_products_of_labels_equal_their_formula() -> None:
    products = drawn(LabelProducts(4, 3, num_terms=5))
    states = Space(letters=WORD["letters"]).configurations(dtype=torch.float64)["letters"]
    for value, word in zip(products(states), itertools.product(range(3), repeat=4), strict=True):
        terms = [products.factors[place, letter] for place, letter in enumerate(word)]
        expected = (products.weight * terms[0] * terms[1] * terms[2] * terms[3]).sum()
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)


def test_enough_products_are_any_function_of_the_labels() -> None:
    """81 random products span all functions of 81 words, among them the rule that a sum is a multiple of three."""
    products = drawn(LabelProducts(4, 3, num_terms=81))
    states = Space(letters=WORD["letters"]).configurations(dtype=torch.float64)["letters"]
    rule = (states.argmax(dim=2).sum(dim=1) % 3 == 0).double()
    with torch.no_grad():
        terms = torch.stack([products.factors[place, letters] for place, letters in enumerate(states.argmax(dim=2).T)])
        products.weight.copy_(torch.linalg.solve(terms.prod(dim=0), rule))
    torch.testing.assert_close(products(states), rule, rtol=0, atol=1e-8)


def test_a_rule_on_the_sum_is_a_mean_of_few_products() -> None:
    """Multiples of m = 2: half of 1 + prod_t (-1)^(y_t), two terms for any number of labels."""
    products = LabelProducts(4, 3, num_terms=2).double()
    with torch.no_grad():
        products.factors[..., 0], products.factors[..., 1] = 1.0, torch.tensor([1.0, -1.0, 1.0])
        products.weight.fill_(0.5)
    states = Space(letters=WORD["letters"]).configurations(dtype=torch.float64)["letters"]
    rule = (states.argmax(dim=2).sum(dim=1) % 2 == 0).double()
    torch.testing.assert_close(products(states), rule, rtol=0, atol=1e-12)


def test_without_an_interaction_labels_are_independent_given_x() -> None:
    """Of a binary label the probability is the sigmoid of its number: the classifier of single pixels."""
    energy = StructuredEnergy(GRID, drawn(PerPixel(2, num_layers=2)))
    images = normal(1, 3, 4)
    mask = Space(mask=GRID["mask"]).configurations(dtype=torch.float64)["mask"]
    probs = energy({"image": images.expand(len(mask), 3, 4), "mask": mask}).softmax(dim=0)
    torch.testing.assert_close(
        torch.tensordot(probs, mask, dims=1), energy.unary(images)[0].sigmoid(), rtol=0, atol=1e-12
    )


def test_a_step_that_moves_labels_runs_the_encoder_once() -> None:
    energy, calls = word_energy(), []
    energy.unary.register_forward_hook(lambda *_: calls.append(1))
    position = {"strokes": normal(2, 4, 5), "letters": nn.functional.one_hot(torch.zeros(2, 4).long(), 3).double()}
    chain, generator = kernels.evaluate(energy, position), torch.Generator().manual_seed(0)
    kernel = kernels.Cycle((kernels.GibbsWithGradients(WORD), kernels.Gibbs(WORD)))
    for _ in range(5):
        chain, _ = kernel.step(energy, chain, free={"letters": torch.tensor(True)}, generator=generator)
    assert len(calls) == 1
    torch.testing.assert_close(chain.f, energy(chain.position), rtol=0, atol=1e-12)


# A chain, exactly.


def forward_backward(logits: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """log Z and the marginals (T, C) of a chain with logits (T, C) and transitions (C, C)."""
    forward, backward = [logits[0]], [torch.zeros_like(logits[0])]
    for place in logits[1:]:
        forward.append(place + (forward[-1][:, None] + weight).logsumexp(dim=0))
    for place in reversed(logits[1:]):
        backward.append((weight + place + backward[-1]).logsumexp(dim=1))
    log_z = forward[-1].logsumexp(dim=0)
    return log_z, (torch.stack(forward) + torch.stack(backward[::-1]) - log_z).exp()


def test_enumeration_agrees_with_forward_backward() -> None:
    energy, strokes = word_energy(), normal(1, 4, 5)
    log_z, marginals = forward_backward(energy.unary(strokes)[0], energy.interaction.weight[0])
    letters = Space(letters=WORD["letters"])
    states = letters.configurations(dtype=torch.float64)
    f = energy({"strokes": strokes.expand(81, 4, 5), **states})
    torch.testing.assert_close(f.logsumexp(dim=0), log_z, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        torch.tensordot(f.softmax(dim=0), states["letters"], dims=1), marginals, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("kind", [kernels.GibbsWithGradients, kernels.Gibbs])
def test_kernels_leave_a_word_given_its_image_and_one_letter_invariant(kind: type) -> None:
    given = {"strokes": normal(4, 5), "letters": [-1, 2, -1, -1]}
    moved, positions = transition_matrix(kind(WORD), word_energy(2), WORD, given=given)
    assert len(moved) == 27
    assert stationarity_residual(moved, target_probs(word_energy(2), positions)) < 1e-12


@pytest.mark.parametrize("given", [{}, {"letters": [-1, 2, -1, -1]}], ids=["x", "x and a letter"])
def test_pairs_cross_a_rule_that_single_letters_cannot_cross(given: dict[str, list[int]]) -> None:
    """Sums are multiples of three but for e^-40: the second largest eigenvalue of the moves is 1, or well below."""
    energy = StructuredEnergy(WORD, drawn(PerPlace(nn.Linear(5, 3))), drawn(LabelProducts(4, 3, num_terms=81)))
    states = Space(letters=WORD["letters"]).configurations(dtype=torch.float64)["letters"].argmax(dim=2)
    with torch.no_grad():
        terms = torch.stack([energy.interaction.factors[place, letters] for place, letters in enumerate(states.T)])
        broken = (states.sum(dim=1) % 3 != 0).double()
        energy.interaction.weight.copy_(torch.linalg.solve(terms.prod(dim=0), -40 * broken))
    gaps = []
    for kind in ("gibbs", "pairs"):
        (kernel,) = KernelSpec(discrete=kind, step_size=0.1).build_discrete(WORD)
        moved, positions = transition_matrix(kernel, energy, WORD, given={"strokes": normal(4, 5), **given})
        assert stationarity_residual(moved, target_probs(energy, positions)) < 1e-12
        gaps.append(1 - float(torch.linalg.eigvals(moved).abs().sort().values[-2]))
    assert gaps[0] < 1e-8 and gaps[1] > 1e-2


# What the parts promise.


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_a_pixel_depends_on_the_square_that_the_layers_reach(num_layers: int) -> None:
    image = normal(1, 15, 15).requires_grad_()
    drawn(PerPixel(3, num_layers=num_layers))(image)[0, 7, 7].backward()
    reached = image.grad[0].nonzero()
    assert reached.min() == 7 - num_layers and reached.max() == 7 + num_layers


def test_every_place_has_the_same_network() -> None:
    net = drawn(PerPlace(nn.Sequential(nn.Flatten(), nn.Linear(6, 3))))
    sequences = normal(2, 4, 3, 2)
    expected = torch.stack([net.net(sequences[:, place]) for place in range(4)], dim=1)
    torch.testing.assert_close(net(sequences), expected, rtol=0, atol=1e-12)


def test_interactions_start_at_zero() -> None:
    assert Transitions(3)(torch.eye(3)[None]).item() == GridPairs(width=3)(torch.ones(1, 4, 4)).item() == 0
    products = LabelProducts(3, 3, num_terms=4)
    h = products(torch.eye(3)[None])
    h.sum().backward()
    assert h.item() == 0 and products.weight.grad.abs().min() > 0  # it can leave 0


def test_mismatched_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="needs one continuous and one discrete block, got Space"):
        StructuredEnergy(Space(x=Continuous(), a=Binary(), b=Binary()), nn.Identity())
    energy = StructuredEnergy(WORD, PerPlace(nn.Linear(5, 2)))
    with pytest.raises(ValueError, match="unary gives 8 numbers per row, but block 'letters' has 12 columns"):
        energy({"strokes": torch.zeros(1, 4, 5), "letters": torch.zeros(1, 4, 3)})
    with pytest.raises(ValueError, match="num_classes and num_terms must be at least 1, got 4, 3 and 0"):
        LabelProducts(4, 3, num_terms=0)
    with pytest.raises(ValueError, match="Transitions: reach must be at least 1, got 0"):
        Transitions(3, reach=0)
    with pytest.raises(ValueError, match="PerPixel: num_layers must be at least 1, got 0"):
        PerPixel(3, num_layers=0)
    for width in (4, 1):
        with pytest.raises(ValueError, match=f"GridPairs: width must be odd and at least 3, got {width}"):
            GridPairs(width=width)
