"""Specification of `CaptionEnergy`, by enumeration of all 27 captions of a small space and by finite differences.

Statistical tests allow five standard errors (a false alarm in 10^6 each) at fixed seeds.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from jointebm import Categorical, Continuous, Space
from jointebm.energies import CaptionEnergy, CaptionSpec
from jointebm.randomness.draws import choose
from jointebm.spaces.space import Position
from jointebm.training.denoising import denoising_terms
from jointebm.training.visible_parts import DrawnLevels
from support.closed_form_subsets import FixedDraws

F64 = torch.float64
WORDS, PLACES, PIXELS = 3, 3, 64
SPACE = Space(image=Continuous((8, 8)), caption=Categorical(WORDS, (PLACES,)))
ALL = torch.eye(WORDS, dtype=F64)[torch.cartesian_prod(*[torch.arange(WORDS)] * PLACES)]  # (27, 3, 3)
MISSING = torch.full((PLACES, WORDS), torch.nan, dtype=F64)


@pytest.fixture(scope="module")
def energy() -> CaptionEnergy:
    torch.manual_seed(0)
    built = CaptionSpec(channels=(4, 8), width=8, min_noise=0.1, max_noise=10.0).build(SPACE).double()
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.2)
    return built


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(PIXELS, generator=torch.Generator().manual_seed(1), dtype=F64)


def word(number: int) -> Tensor:
    return torch.eye(WORDS, dtype=F64)[number]


def caption(*words: int) -> Tensor:
    """One-hot words; -1 is missing."""
    return torch.stack([word(number) if number >= 0 else MISSING[0] for number in words])


def levels(num: int) -> Tensor:
    """One noise level for the upper half of each image, another for a quarter, and a quarter that is missing."""
    noise = torch.full((num, PIXELS), 0.3, dtype=F64)
    noise[:, 32:48] = 2.0
    noise[:, 48:] = torch.inf
    return noise


def known(energy: CaptionEnergy, image: Tensor, captions: Tensor) -> Tensor:
    reals = image.expand(len(captions), -1)
    return energy.density(reals, levels(len(captions)), {"caption": captions}).known.detach()


def test_f_summed_over_all_captions_is_f_of_the_image_alone(energy: CaptionEnergy, image: Tensor) -> None:
    found = energy.density(image[None], levels(1), {"caption": MISSING[None]})
    torch.testing.assert_close(known(energy, image, ALL).logsumexp(dim=0), found.reals[0])
    torch.testing.assert_close(found.known, found.reals)
    assert float(known(energy, image, ALL).std()) > 0.1  # captions differ


@pytest.mark.parametrize("num_known", [1, 2])
def test_f_summed_over_the_last_words_is_f_of_the_first_ones(
    energy: CaptionEnergy, image: Tensor, num_known: int
) -> None:
    first = ALL.clone()
    first[:, num_known:] = torch.nan
    same = (ALL[:, :num_known] == ALL[5, :num_known]).all(dim=(1, 2))
    total = known(energy, image, ALL[same]).logsumexp(dim=0)
    torch.testing.assert_close(known(energy, image, first[5:6])[0], total)


def test_f_of_any_words_is_normalised_over_them(energy: CaptionEnergy, image: Tensor) -> None:
    """Also where a word in the middle is missing."""
    captions = torch.stack([caption(a, -1, b) for a in range(WORDS) for b in range(WORDS)])
    alone = energy.density(image[None], levels(1), {"caption": MISSING[None]}).reals[0].detach()
    torch.testing.assert_close(known(energy, image, captions).logsumexp(dim=0), alone)


def test_a_word_depends_on_the_words_before_it_alone(energy: CaptionEnergy, image: Tensor) -> None:
    features = energy.features(image[None], levels(1))
    before = energy.word_log_probs(features, caption(0, 1, 2)[None])
    after = energy.word_log_probs(features, caption(0, 2, 0)[None])
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert float((before[:, 2] - after[:, 2]).abs().max().detach()) > 1e-3
    first = energy.word_log_probs(features, caption(1, 1, 2)[None])
    assert float((before[:, 1] - first[:, 1]).abs().max().detach()) > 1e-3


def test_f_of_nothing_is_zero_and_missing_pixels_do_not_count(energy: CaptionEnergy, image: Tensor) -> None:
    nothing = torch.full((1, PIXELS), torch.inf, dtype=F64)
    assert abs(float(energy.density(image[None], nothing, {"caption": MISSING[None]}).known.detach())) < 1e-12
    other = image.clone()
    other[48:] = 5.0
    assert torch.equal(known(energy, image, ALL), known(energy, other, ALL))


def test_a_real_fades_to_a_missing_one_as_its_noise_grows(energy: CaptionEnergy, image: Tensor) -> None:
    """The rest is of order one over the noise level, and the log-density of the real itself."""
    gaps = []
    for level in (1e2, 1e4):
        noise = levels(1)
        noise[:, 48:] = level
        total = energy.variance[48:] + level**2
        own = (-0.5 * ((image[48:] - energy.mean[48:]).square() / total + (2 * math.pi * total).log())).sum()
        noisy = energy.density(image[None], noise, {"caption": ALL[:1]}).known[0] - own
        gaps.append(abs(float((noisy - known(energy, image, ALL[:1])[0]).detach())))
    assert gaps[1] < 1e-4 and gaps[1] < 0.02 * gaps[0]


def test_f_of_a_position_is_that_of_a_whole_image_at_the_lowest_level(energy: CaptionEnergy, image: Tensor) -> None:
    position: Position = {"image": image.reshape(1, 8, 8), "caption": ALL[7:8]}
    lowest = torch.full((1, PIXELS), 0.1, dtype=F64)
    torch.testing.assert_close(energy(position), energy.density(image[None], lowest, position).known)


def test_scores_of_pixels_and_words_are_finite_differences(energy: CaptionEnergy, image: Tensor) -> None:
    x, words, h = image[None].clone().requires_grad_(), ALL[4:5].clone().requires_grad_(), 1e-6

    def f(at: Tensor, said: Tensor) -> Tensor:
        return energy.density(at, levels(1), {"caption": said}).known[0]

    of_pixels, of_words = torch.autograd.grad(f(x, words), [x, words])
    for pixel in (0, 20, 40, 60):
        step = torch.zeros(1, PIXELS, dtype=F64)
        step[0, pixel] = h
        slope = (f(x + step, words) - f(x - step, words)).detach() / (2 * h)
        assert float(of_pixels[0, pixel]) == pytest.approx(float(slope), abs=1e-6)
    assert float(of_pixels[0, 60]) == 0  # it is missing
    for place, number in ((0, 1), (1, 2), (2, 0)):
        change = torch.zeros_like(words)
        change[0, place, number] = h
        slope = (f(x, words + change) - f(x, words - change)).detach() / (2 * h)
        assert float(of_words[0, place, number]) == pytest.approx(float(slope), abs=1e-6)


def test_the_terms_of_denoising_are_their_formulas_by_finite_differences(energy: CaptionEnergy, image: Tensor) -> None:
    """One level for all pixels, words partly missing."""
    n, level, h = torch.randn(1, PIXELS, dtype=F64, generator=torch.Generator().manual_seed(3)), 0.7, 1e-5
    position: Position = {"image": image.reshape(1, 8, 8), "caption": caption(2, -1, 1)[None]}
    drawn = DrawnLevels(torch.full((1, 2), math.log(level), dtype=F64), torch.zeros(1, PIXELS).bool())
    found = denoising_terms(energy, position, drawn, FixedDraws(n, 0.0))
    x = image[None] + level * n

    def f(at: Tensor, s: float) -> Tensor:
        return energy.density(at, torch.full_like(at, s), position).known.detach()

    slopes = torch.stack([(f(x + h * e, level) - f(x - h * e, level)) / (2 * h) for e in torch.eye(PIXELS, dtype=F64)])
    torch.testing.assert_close(found.score, 0.5 * (level * slopes.T + n).square().sum(dim=1), rtol=1e-6, atol=1e-6)
    by_level = (f(x, level * math.exp(h)) - f(x, level * math.exp(-h))) / (2 * h)
    error = by_level - n.square().sum() + PIXELS
    torch.testing.assert_close(found.level, error.square() / (2 * PIXELS), rtol=1e-5, atol=1e-6)
    both = energy.density(x, torch.full_like(x, level), position)
    torch.testing.assert_close(found.label, both.reals - both.known)


def shares(energy: CaptionEnergy, image: Tensor) -> Tensor:
    """p(caption | image) under F by enumeration, (27,)."""
    position: Position = {"image": image.reshape(1, 8, 8).expand(27, 8, 8), "caption": ALL}
    return energy(position).detach().softmax(dim=0)


def frequencies(drawn: Tensor) -> Tensor:
    numbers = drawn.argmax(dim=2) @ torch.tensor([9, 3, 1])
    return torch.bincount(numbers, minlength=27).double() / len(drawn)


@pytest.mark.parametrize("words", [(-1, -1, -1), (1, -1, -1), (-1, 2, 0), (2, 1, -1), (-1, 0, -1)])
def test_missing_words_are_drawn_from_f(energy: CaptionEnergy, image: Tensor, words: tuple[int, ...]) -> None:
    """The last case has a known word after a missing one and two missing ones: 64 weighted candidates each."""
    num = 3000
    given = caption(*words)
    position: Position = {"image": image.reshape(1, 8, 8).expand(num, 8, 8), "caption": given.expand(num, 3, 3)}
    drawn = energy.draw_labels(position, torch.Generator().manual_seed(5))["caption"]
    agrees = ((given == ALL) | given.isnan()).all(dim=(1, 2))
    p = torch.where(agrees, shares(energy, image), 0)
    p = p / p.sum()
    error = (frequencies(drawn) - p).abs()
    assert bool((error <= 5 * (p * (1 - p) / num).sqrt() + (0.005 if words == (-1, 0, -1) else 0)).all())


def test_weights_of_candidates_estimate_the_probability_of_the_known_words(
    energy: CaptionEnergy, image: Tensor
) -> None:
    given, num = caption(-1, -1, 1), 20_000
    features = energy.encode({"image": image.reshape(1, 8, 8)})
    drawn = energy.draw_captions(features, given[None], num, torch.Generator().manual_seed(0))
    weights = drawn.log_weights[0].exp()
    expected = float(shares(energy, image)[ALL[:, 2, 1] == 1].sum())
    assert abs(float(weights.mean()) - expected) < 5 * float(weights.std()) / num**0.5
    assert float(weights.std()) > 1e-3


def drawn_by_whole_captions(
    energy: CaptionEnergy, features: Tensor, given: Tensor, num: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draws word after word as the definition says, each time from the probabilities of all places of all captions."""
    words, rows = given.repeat_interleave(num, dim=0), features.repeat_interleave(num, dim=0)
    log_weights = torch.zeros(len(words), dtype=F64)
    for place in range(PLACES):
        log_p = energy.word_log_probs(rows, words)[:, place].detach()
        chosen = torch.eye(WORDS, dtype=F64)[choose(log_p, generator)]
        hidden = words[:, place, :1].isnan()
        log_weights += torch.where(hidden[:, 0], 0.0, (log_p * words[:, place].nan_to_num()).sum(dim=1))
        words[:, place] = torch.where(hidden, chosen, words[:, place])
    return words, log_weights


def test_draws_word_by_word_are_those_from_whole_captions(energy: CaptionEnergy) -> None:
    """Of four images whose known words differ: the same words for the same draws, and the same weights."""
    images = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(2), dtype=F64)
    given = torch.stack([caption(-1, -1, -1), caption(2, -1, 1), caption(-1, 0, -1), caption(0, 1, 2)])
    features, num = energy.encode({"image": images}).detach(), 50
    words, log_weights = drawn_by_whole_captions(energy, features, given, num, torch.Generator().manual_seed(7))
    found = energy.draw_captions(features, given, num, torch.Generator().manual_seed(7))
    assert torch.equal(found.words.flatten(0, 1), words)
    torch.testing.assert_close(found.log_weights.flatten(), log_weights)
    log_p = energy.head(features.repeat_interleave(num, dim=0), {"caption": words}).unflatten(0, (4, num))
    torch.testing.assert_close(found.log_probs, (log_p - features[:, :1]).detach())
    assert float(found.log_probs.std()) > 0.1  # captions differ


def test_one_missing_word_is_weighted_by_f(energy: CaptionEnergy, image: Tensor) -> None:
    given = torch.stack([caption(-1, 2, 1), caption(0, -1, 1)])
    features = energy.encode({"image": image.reshape(1, 8, 8)}).detach().expand(2, -1)
    found = energy.draw_captions(features, given, 1, torch.Generator())
    log_p = energy.head(features.repeat_interleave(WORDS, dim=0), {"caption": found.words.flatten(0, 1)})
    torch.testing.assert_close(found.log_weights, (log_p.unflatten(0, (2, WORDS)) - features[:, :1]).detach())
    assert torch.equal(found.words.argmax(dim=3)[0], torch.tensor([[0, 2, 1], [1, 2, 1], [2, 2, 1]]))


@pytest.mark.parametrize(
    "space",
    [
        Space(image=Continuous((6, 6)), caption=Categorical(3, (3,))),
        Space(image=Continuous((8, 4)), caption=Categorical(3, (3,))),
        Space(image=Continuous((8, 8)), caption=Categorical(3)),
        Space(image=Continuous((8, 8)), caption=Categorical(3, (3,)), size=Categorical(2)),
    ],
)
def test_other_spaces_are_refused(space: Space) -> None:
    with pytest.raises(ValueError, match="CaptionEnergy: needs one block of square images"):
        CaptionSpec(channels=(4, 8), width=8, min_noise=0.1, max_noise=10.0).build(space)
