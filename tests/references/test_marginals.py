"""Independent marginals: exact, fast on images, and no narrower than stated."""

import math

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load, save
from scipy import integrate, stats

from jointebm.randomness.row_streams import RowStream
from jointebm.references import Marginals, ReferenceSpec
from jointebm.references.reference_specs import spec_of
from jointebm.spaces import Binary, Categorical, Continuous, Space
from references.small_spaces import generator, outcomes

SPACE = Space(bit=Binary(), a=Continuous(), group=Categorical((2, 3)))


def random_marginals(num_gaussians: int = 3) -> Marginals:
    drawn, made = generator(), Marginals(SPACE, num_gaussians).double()
    for part in made.log_probs.split([2, 2, 3]):
        part.copy_(torch.randn(part.shape, generator=drawn, dtype=torch.float64).log_softmax(dim=0))
    made.log_weights.copy_(torch.randn(made.log_weights.shape, generator=drawn, dtype=torch.float64).log_softmax(dim=0))
    made.means.copy_(torch.randn(made.means.shape, generator=drawn, dtype=torch.float64))
    made.log_sds.copy_(torch.randn(made.means.shape, generator=drawn, dtype=torch.float64) / 3)
    return made


MARGINALS = random_marginals()
VALUES = {"bit": [0, 1, -1], "a": [0.3, math.nan, -2.0], "group": [[1, 2], [-1, 0], [-1, -1]]}


def density(a: float) -> float:
    weights, means, sds = MARGINALS.log_weights[:, 0].exp(), MARGINALS.means[:, 0], MARGINALS.log_sds[:, 0].exp()
    return float(sum(w * stats.norm.pdf(a, m, s) for w, m, s in zip(weights, means, sds, strict=True)))


def classes(column: int) -> torch.Tensor:
    return MARGINALS.log_probs.split([2, 2, 3])[column].exp()


def test_the_log_density_is_a_sum_over_observed_variables() -> None:
    found = MARGINALS.log_prob(SPACE.encode(VALUES, dtype=torch.float64)[0])
    expected = [
        classes(0)[0] * classes(1)[1] * classes(2)[2] * density(0.3),
        classes(0)[1] * classes(2)[0],
        density(-2.0),
    ]
    assert (found.exp() - torch.tensor([float(each) for each in expected])).abs().max() < 1e-7
    assert found[2].exp().item() == pytest.approx(density(-2.0), abs=1e-12)
    assert integrate.quad(density, -30, 30, points=[0])[0] == pytest.approx(1, abs=1e-8)


def test_draws_given_evidence_are_exact() -> None:
    """All outcomes of the choices; the real by its distribution function, false alarm below 1e-6."""
    known = SPACE.encode({"group": [[-1, 1]]}, dtype=torch.float64)[0]
    evidence = {"group": torch.tensor([-torch.inf, 0.0, 9.0, 9.0, -torch.inf]), "bit": torch.tensor([[0.0, 1.0]])}
    probs = torch.zeros(2, 2, 3, dtype=torch.float64)
    for prob, drawn in outcomes(lambda stream: MARGINALS.complete(known, stream, evidence), 1):
        labels = SPACE.decode(drawn)
        if prob > 0:
            probs[(int(labels["bit"]), *labels["group"][0].tolist())] += prob[0]
    tilted = classes(0) * torch.tensor([0.0, 1.0]).double().exp()
    assert (probs[:, 1, 1] - tilted / tilted.sum()).abs().max() < 1e-12
    num = 20_000
    known = {name: part.expand(num, *part.shape[1:]) for name, part in known.items()}
    for low, high in ((-math.inf, math.inf), (0.2, 1.5)):
        bounds = {"a": torch.tensor([low, high])}
        drawn = MARGINALS.complete(known, RowStream(torch.arange(num), seed=1), bounds)["a"]
        weights, means, sds = MARGINALS.log_weights[:, 0].exp(), MARGINALS.means[:, 0], MARGINALS.log_sds[:, 0].exp()

        def below(x: torch.Tensor) -> torch.Tensor:
            return (weights * torch.special.ndtr((torch.as_tensor(x)[..., None] - means) / sds)).sum(dim=-1)  # noqa: B023

        ends = below(torch.tensor([low, high], dtype=torch.float64))
        pvalue = stats.kstest(drawn.numpy(), lambda x: ((below(x) - ends[0]) / (ends[1] - ends[0])).numpy()).pvalue  # noqa: B023
        assert pvalue > 1e-6


@pytest.mark.parametrize("low", [-math.inf, 0.2])
def test_conditionals_are_ratios_of_marginals(low: float) -> None:
    whole = SPACE.encode({"bit": [1], "a": [0.3], "group": [[1, 2]]}, dtype=torch.float64)[0]
    free = {"a": torch.tensor([True]), "group": torch.tensor([[False, True]])}
    mass = integrate.quad(density, max(low, -40), 40, points=[0.0, 0.5], epsabs=1e-13)[0]
    evidence = {
        "a": torch.tensor([low, math.inf], dtype=torch.float64),
        "group": torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0]),
    }
    tilted = classes(2) * torch.tensor([0.0, 1.0, 2.0]).double().exp()
    expected = density(0.3) / mass * float(tilted[2] / tilted.sum())
    assert MARGINALS.log_conditional(whole, free, evidence).exp().item() == pytest.approx(expected, abs=1e-10)
    plain = MARGINALS.log_conditional(whole, free).exp().item()
    assert plain == pytest.approx(density(0.3) * float(classes(2)[2]), abs=1e-12)
    assert MARGINALS.log_conditional(whole, free, {"a": torch.tensor([0.4, 1.0])}).item() == -math.inf


def test_the_score_is_the_slope() -> None:
    at = SPACE.encode({"bit": [1], "a": [0.3], "group": [[1, 2]]}, dtype=torch.float64)[0]
    at = {name: part.requires_grad_() for name, part in at.items()}
    slopes = dict(zip(at, torch.autograd.grad(MARGINALS.log_prob(at).sum(), list(at.values())), strict=True))
    values = [MARGINALS.log_prob(at | {"a": at["a"] + step}).item() for step in (1e-5, -1e-5)]
    assert slopes["a"].item() == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-7)
    assert slopes["bit"].item() == pytest.approx((classes(0)[1] / classes(0)[0]).log().item(), abs=1e-12)


def images(num: int = 400) -> tuple[Space, dict[str, torch.Tensor]]:
    space = Space(image=Continuous((6, 6)), digit=Categorical(10))
    values = {"image": torch.rand(num, 6, 6, generator=generator()) ** 4, "digit": torch.arange(num) % 10}
    values["image"][:, 0] = 0.0  # black in all rows
    values["image"][0, 0, 0] = 1.0  # but one
    return space, space.encode(values)[0]


def test_one_gaussian_has_the_moments_of_its_pixel_and_a_black_pixel_has_the_stated_deviation() -> None:
    space, position = images()
    fitted = Marginals.fit(space, position, prior_strength=1e-9, min_sd=0.1)
    x = position["image"].reshape(400, 36)
    assert (fitted.means[0] - x.mean(dim=0)).abs().max() < 1e-6
    assert (fitted.log_sds.exp()[0, 6:] - x.std(dim=0, correction=0)[6:]).abs().max() < 1e-6
    floor = 0.1 * x.var(dim=0, correction=0)
    assert bool((fitted.log_sds.exp()[0, 1:6] >= 0.02).all()) and bool(
        (fitted.log_sds.exp()[0, :6] <= floor.sqrt().max()).all()
    )
    assert (fitted.log_probs.exp() - 0.1).abs().max() < 1e-6


def test_more_gaussians_raise_the_likelihood_of_missing_and_observed_pixels() -> None:
    space, position = images()
    position["image"][torch.rand(400, 6, 6, generator=generator(1)) < 0.3] = torch.nan
    scores = [float(Marginals.fit(space, position, num).log_prob(position).mean()) for num in (1, 2, 4)]
    assert scores[0] + 1 < scores[1] and scores[1] + 1 < scores[2]


def test_two_gaussians_find_the_two_levels_of_a_pixel() -> None:
    """.8 and .2 of 4,000 entries, of which every other is fitted."""
    is_bright = torch.rand(4000, generator=generator()) < 0.2
    x = is_bright + 0.05 * torch.randn(4000, generator=generator(1))
    fitted = Marginals.fit(Space(x=Continuous()), {"x": x}, 2)
    assert fitted.log_weights.exp()[1, 0].item() == pytest.approx(is_bright[::2].double().mean().item(), abs=0.002)
    assert (fitted.means[:, 0] - torch.tensor([0.0, 1.0])).abs().max() < 0.02
    assert (fitted.log_sds.exp() - 0.05).abs().max() < 0.01


def test_em_climbs_the_likelihood() -> None:
    space, position = images()
    position["image"][:, 0] = torch.nan  # where the smallest deviation decides
    fits = [Marginals.fit(space, position, 3, prior_strength=1e-6, num_iterations=num) for num in range(1, 12)]
    scores = torch.stack([fit.log_prob(position).double().mean() for fit in fits])
    assert scores.diff().min() > -1e-5
    assert scores[-1] > scores[0] + 1


def test_a_fit_survives_a_round_trip_through_a_file() -> None:
    space, position = images()
    fitted = Marginals.fit(space, position, 2)
    rebuilt = TypeAdapter(ReferenceSpec).validate_json(spec_of(fitted).model_dump_json()).build(space)
    rebuilt.load_state_dict(load(save(fitted.state_dict())))
    assert torch.equal(rebuilt.log_prob(position), fitted.log_prob(position))
    first, second = (each.draw(9, generator(3)) for each in (fitted, rebuilt))
    assert all(torch.equal(first[name], second[name]) for name in space)


def test_observed_entries_keep_their_bits_and_rows_do_not_depend_on_their_batch() -> None:
    space, position = images()
    missing = torch.rand(400, 6, 6, generator=generator(1)) < 0.5
    known = {"image": position["image"].masked_fill(missing, torch.nan), "digit": torch.full((400, 10), torch.nan)}
    fitted, keys = Marginals.fit(space, position, 3), torch.arange(400)
    drawn = fitted.complete(known, RowStream(keys, seed=0))
    assert torch.equal(drawn["image"][~missing], position["image"][~missing])
    for rows in (torch.tensor([7]), torch.arange(390, 100, -3)):
        some = fitted.complete({name: part[rows] for name, part in known.items()}, RowStream(keys[rows], seed=0))
        assert all(torch.equal(some[name], drawn[name][rows]) for name in space)
        scores = fitted.log_prob({name: part[rows] for name, part in known.items()})
        assert torch.equal(scores, fitted.log_prob(known)[rows])


def test_settings_out_of_range_are_named() -> None:
    space, position = images(10)
    with pytest.raises(ValueError, match="num_gaussians is positive, got 0"):
        Marginals.fit(space, position, 0)
    with pytest.raises(ValueError, match=r"min_sd is positive, got 0\.0"):
        Marginals.fit(space, position, min_sd=0.0)
    with pytest.raises(ValueError, match="got no rows"):
        Marginals.fit(space, {name: part[:0] for name, part in position.items()})
