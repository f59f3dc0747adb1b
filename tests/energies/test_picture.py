"""Specification of pictures: their formula, their normaliser, all labels at once, missing pixels, and draws."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from jointebm import Binary, Categorical, Continuous, Space, kernels, testing
from jointebm.energies import JEMSpec, MLPSpec, PictureEnergy, PictureSpec
from jointebm.training.objectives import LossInputs, Normalised
from support.mutants import altered

SPACE = Space(
    image=Continuous((2, 3)), kind=Categorical(2), right=Categorical(3), size=Categorical(2), down=Categorical(2)
)
PIXEL = Space(image=Continuous((1, 1)), down=Categorical(2), right=Categorical(3))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(space: Space, seed: int = 0) -> PictureEnergy:
    """An energy with random parameters."""
    energy = PictureEnergy(space, side=2, rows="down", columns="right", noise_sd=0.7).double()
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return energy


def labels(space: Space) -> list[dict[str, Tensor]]:
    """One-hot labels of every combination, in the order of the blocks."""
    ranges = [range(space.num_classes(name)[0]) for name in space.discrete]
    return [
        {
            name: torch.eye(space.num_classes(name)[0], dtype=torch.float64)[[k]]
            for name, k in zip(space.discrete, each, strict=True)
        }
        for each in product(*ranges)
    ]


@torch.no_grad()
def by_formula(energy: PictureEnergy, image: Tensor, y: dict[str, Tensor]) -> float:
    """log p(y) + log p(x | y), pixel by pixel, with loops."""
    total = sum(float(energy.logits[name].log_softmax(0)[int(y[name].argmax())]) for name in y)
    number = 0
    for name in SPACE.discrete:
        if name not in ("down", "right"):
            number = number * y[name].shape[1] + int(y[name].argmax())
    v, u = int(y["down"].argmax()), int(y["right"].argmax())
    for h, w in product(*map(range, image.shape)):
        mean = sum(
            float(energy.spread_rows[v, h, k] * energy.templates[number, k, m] * energy.spread_columns[u, w, m])
            for k, m in product(range(2), range(2))
        )
        if not math.isnan(float(image[h, w])):
            total += float(-0.5 * ((image[h, w] - mean) / 0.7) ** 2 - math.log(0.7 * math.sqrt(2 * math.pi)))
    return total


def images(num: int, seed: int = 1) -> Tensor:
    return torch.randn(num, 2, 3, generator=seeded(seed), dtype=torch.float64)


@torch.no_grad()
def distance(energy: PictureEnergy) -> float:
    """Largest difference of f and of its table from the formula, over images with and without missing pixels."""
    x = images(3)
    x[1, 0, 1] = x[2, 1, 0] = x[2, 0, 2] = torch.nan
    every = labels(SPACE)
    table = energy.table(x).flatten(1)
    worst = 0.0
    for row, (column, y) in product(range(3), enumerate(every)):
        expected = by_formula(energy, x[row], y)
        found = float(energy({"image": x[[row]], **y}))
        worst = max(worst, abs(found - expected), abs(float(table[row, column].nan_to_num(1e9)) - expected))
    return worst


def test_f_and_its_table_are_the_formula() -> None:
    assert distance(make(SPACE)) < 1e-10


FAULTS = {
    "missing pixels count as 0": {"columns = self.spread_columns[:, pattern]": "columns = self.spread_columns"},
    "sizes of another mask": {"sizes[mask]": "sizes[mask - 1]"},
    "blocks in another order": {"[1 + names.index(name) for name in self.num_classes]": "[1, 2, 3, 4]"},
    "no prior": {"f = f + log_p.": "f = f + 0 * log_p."},
    "constant of all pixels": {"seen.to(x).sum(dim=(1, 2)) * self": "seen[0].numel() * self"},
    "only one pattern of rows": {"total = total + left": "total = 0 * total + left"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_table_are_found(fault: str) -> None:
    energy = make(SPACE)
    energy.__class__ = altered(PictureEnergy, FAULTS[fault])
    try:
        found = distance(energy)
    except RuntimeError:  # shapes do not fit
        return
    assert found > 1e-3


@torch.no_grad()
def quadrature(energy: PictureEnergy) -> tuple[Tensor, Tensor, list[dict[str, Tensor]]]:
    """exp F of a single pixel on a fine grid, (grid, labels), its spacing, and the labels."""
    grid = torch.linspace(-60, 60, 12_001, dtype=torch.float64)
    every = labels(PIXEL)
    f = torch.stack([energy({"image": grid.reshape(-1, 1, 1), **repeated(y, len(grid))}) for y in every], dim=1)
    return f.exp(), grid[1] - grid[0], every


def repeated(y: dict[str, Tensor], num: int) -> dict[str, Tensor]:
    return {name: value.expand(num, -1) for name, value in y.items()}


def test_f_is_normalised_and_labels_have_their_marginals() -> None:
    energy = make(PIXEL)
    p, spacing, every = quadrature(energy)
    of_labels = p.sum(dim=0) * spacing
    assert abs(float(of_labels.sum()) - 1) < 1e-10
    prior = torch.cat([energy.log_prior(y) for y in every]).exp().detach()
    torch.testing.assert_close(of_labels, prior, rtol=0, atol=1e-10)


def test_the_truth_is_stationary_for_the_objective_and_another_density_is_not() -> None:
    """Expected gradient of the loss under p(x, y) of the energy, by quadrature and enumeration."""
    energy = make(PIXEL)
    p, spacing, every = quadrature(energy)
    grid = torch.linspace(-60, 60, 12_001, dtype=torch.float64).reshape(-1, 1, 1)
    f = torch.cat([energy({"image": grid, **repeated(y, len(grid))}) for y in every])
    weights = (p * spacing).T.flatten().detach()
    other = weights.roll(1500)
    worst = []
    for weight in (weights, other):
        gradients = torch.autograd.grad(-(weight * f).sum(), list(energy.parameters()), retain_graph=True)
        worst.append(max(float(each.abs().max()) for each in gradients))
    assert worst[0] < 1e-8 < 1e-2 < worst[1]


def test_the_loss_is_minus_the_mean_of_f_and_has_its_gradient() -> None:
    energy = make(SPACE)
    rows = {"image": images(4), **{n: torch.cat([labels(SPACE)[k][n] for k in (0, 5, 9, 23)]) for n in SPACE.discrete}}
    phases = Normalised().loss(energy, LossInputs(rows, {}))
    torch.testing.assert_close(phases.loss, -energy(rows).mean())
    assert len(phases.negative) == 0 and Normalised.needs_chains is False
    (found,) = torch.autograd.grad(phases.loss, energy.templates)
    with torch.no_grad():
        for place in ((0, 0, 0), (3, 1, 0)):
            values = []
            for change in (1e-5, -1e-5):
                energy.templates[place] += change
                values.append(float(Normalised().loss(energy, LossInputs(rows, {})).loss))
                energy.templates[place] -= change
            assert abs((values[0] - values[1]) / 2e-5 - float(found[place])) < 1e-7


def test_missing_pixels_give_no_gradient_and_no_nan() -> None:
    energy = make(SPACE)
    image = images(1)
    image[0, 0, 0] = torch.nan
    f = energy({"image": image, **labels(SPACE)[0]})
    gradients = torch.autograd.grad(f.sum(), list(energy.parameters()), allow_unused=True)
    assert all(bool(each.isfinite().all()) for each in gradients if each is not None)


def test_an_energy_that_is_not_normalised_is_refused() -> None:
    other = JEMSpec(net=MLPSpec(hidden=(4,))).build(PIXEL)
    rows = {"image": torch.zeros(1, 1, 1), "down": torch.eye(2)[[0]], "right": torch.eye(3)[[0]]}
    with pytest.raises(ValueError, match=r"needs an energy whose log Z is 0 for all parameters, got JEMEnergy"):
        Normalised().loss(other, LossInputs(rows, {}))


def test_draws_have_the_mean_and_noise_of_the_picture() -> None:
    """24 labels x 6 pixels, 4,000 draws each; five standard errors are a false alarm in one seed of 6,000."""
    energy = make(SPACE)
    for y in labels(SPACE):
        drawn = energy.draw(repeated(y, 4_000), generator=seeded(3))
        mean = energy.picture(y)[0].detach()
        assert float((drawn.mean(dim=0) - mean).abs().max()) < 5 * 0.7 / 4_000**0.5
        assert float((drawn.std(dim=0) - 0.7).abs().max()) < 5 * 0.7 / 8_000**0.5


@pytest.mark.parametrize("kind", ["gibbs", "gibbs-with-gradients", "pairs"])
def test_kernels_of_labels_leave_p_of_y_given_half_an_image_invariant(kind: str) -> None:
    """By the transition matrix; the table of the energy is the target."""
    energy = make(SPACE)
    image = images(1)
    image[0, 1] = torch.nan
    y = Space(**{name: SPACE[name] for name in SPACE.discrete})
    moves = {
        "gibbs": kernels.Gibbs(y),
        "gibbs-with-gradients": kernels.GibbsWithGradients(y),
        "pairs": kernels.HammingBall(y, radius=2, num_variables=2),
    }

    def given_image(position: dict[str, Tensor]) -> Tensor:
        return energy({"image": image.expand(len(position["down"]), -1, -1), **position})

    matrix, _ = testing.transition_matrix(moves[kind], given_image, y)
    p = energy.table(image).flatten().softmax(dim=0)
    torch.testing.assert_close(p @ matrix, p, rtol=0, atol=1e-9)


def test_matrices_start_as_translations() -> None:
    """A template whose middle is 1 gives a spot at each place, from a quarter of the image on, in equal steps."""
    space = Space(image=Continuous((32, 32)), down=Categorical(5), right=Categorical(5))
    energy = PictureEnergy(space, side=9, rows="down", columns="right", noise_sd=1.0)
    with torch.no_grad():
        energy.templates[:, 4, 4] = 1.0
    pictures = energy.picture({"down": torch.eye(5), "right": torch.eye(5).flip(0)})
    mass = pictures.sum(dim=2) / pictures.sum(dim=(1, 2))[:, None]
    centres = (mass @ torch.arange(32.0)).detach()
    torch.testing.assert_close(centres, 7.75 + 15.5 * torch.arange(5) / 4, rtol=0, atol=0.2)
    across = pictures.sum(dim=1) / pictures.sum(dim=(1, 2))[:, None]
    torch.testing.assert_close((across @ torch.arange(32.0)).detach(), centres.flip(0))


@pytest.mark.parametrize(
    "space",
    [
        Space(image=Continuous((4, 4)), down=Categorical(2)),
        Space(image=Continuous(4), down=Categorical(2), right=Categorical(2)),
        Space(image=Continuous((4, 4)), down=Categorical(2), right=Categorical(2), bits=Binary((3,))),
        Space(image=Continuous((4, 4)), more=Continuous(), down=Categorical(2), right=Categorical(2)),
    ],
)
def test_other_spaces_are_refused(space: Space) -> None:
    spec = PictureSpec(side=2, rows="down", columns="right", noise_sd=1.0)
    with pytest.raises(ValueError, match=r"PictureEnergy: needs one image and single categorical blocks"):
        spec.build(space)
