"""Specification of the answers about captions, by enumeration of all 27 captions of a small space."""

import pytest
import torch
from torch import Tensor, nn

from jointebm import Categorical, Continuous, KernelSpec, Model, ModelConfig, Space
from jointebm.energies import CaptionSpec

SPACE = Space(image=Continuous((8, 8)), caption=Categorical(3, (3,)))
ALL = torch.cartesian_prod(*[torch.arange(3)] * 3)  # (27, 3)
SPEC = CaptionSpec(channels=(4, 8), width=8, min_noise=0.1, max_noise=10.0, num_levels=4)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    energy = SPEC.build(SPACE)
    for parameter in energy.parameters():
        nn.init.normal_(parameter, std=0.2)
    energy.chain.words.data *= 12  # so that captions differ
    kernel = KernelSpec(discrete="gibbs", continuous="mala", step_size=0.05)
    config = ModelConfig(
        name="tiny", data="toy", space=SPACE.config, energy=SPEC, kernel=kernel, num_chains=2, num_steps=2
    )
    return Model(config, energy=energy).eval()


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1))


def by_enumeration(model: Model, image: Tensor) -> Tensor:
    """log p(caption | image), (27,)."""
    log_p = model.log_density({"image": image.expand(27, 8, 8), "caption": ALL})
    return log_p.log_softmax(dim=0)


def test_log_density_of_parts_is_normalised_over_captions(model: Model, image: Tensor) -> None:
    half = image.clone()
    half[:, 4:] = torch.nan
    for x in (image, half):
        whole = model.log_density({"image": x[0].expand(27, 8, 8), "caption": ALL}).logsumexp(dim=0)
        torch.testing.assert_close(whole, model.log_density({"image": x[:1]})[0], rtol=1e-4, atol=1e-4)


def test_a_missing_word_is_answered_by_its_exact_probabilities(model: Model, image: Tensor) -> None:
    given = torch.tensor([[1, -1, 2], [-1, 0, 0]])
    found = model.predict({"image": image, "caption": given}, "caption")
    for row, place in ((0, 1), (1, 0)):
        agrees = ((given[row] == ALL) | (given[row] < 0)).all(dim=1)
        p = by_enumeration(model, image[row])[agrees].softmax(dim=0)
        torch.testing.assert_close(found.probs["caption"][row, place], p, rtol=1e-4, atol=1e-5)
        assert found.labels["caption"][row].tolist() == ALL[agrees][p.argmax()].tolist()


def test_the_caption_is_the_most_probable_of_those_drawn(model: Model, image: Tensor) -> None:
    """24 draws miss a caption of probability .15 with probability .02; the draws of a prediction are fixed."""
    found = model.predict({"image": image}, "caption")
    for row in range(2):
        log_p = by_enumeration(model, image[row])
        assert float(log_p.exp().max()) > 0.15
        assert found.labels["caption"][row].tolist() == ALL[log_p.argmax()].tolist()
    torch.testing.assert_close(found.probs["caption"].sum(dim=2), torch.ones(2, 3))


def test_known_words_and_pixels_keep_their_bits(model: Model, image: Tensor) -> None:
    half = image.clone()
    half[:, :, 4:] = torch.nan
    given = torch.tensor([[2, -1, -1], [-1, 1, -1]])
    completions = model.impute({"image": half, "caption": given}, num=3)
    for each in completions:
        assert torch.equal(each["image"][:, :, :4], half[:, :, :4])
        assert bool(((each["caption"] == given) | (given < 0)).all()) and bool((each["caption"] >= 0).all())
    assert not torch.equal(completions[0]["image"], completions[1]["image"])


def test_equal_questions_have_equal_answers(model: Model, image: Tensor) -> None:
    first, second = (model.predict({"image": image}, "caption") for _ in range(2))
    assert torch.equal(first.probs["caption"], second.probs["caption"])


def test_samples_from_nothing_have_both(model: Model) -> None:
    drawn = model.sample(3, diagnostics=True)
    assert drawn.value["image"].shape == (3, 8, 8) and drawn.value["caption"].shape == (3, 3)
    assert set(drawn.diagnostics.accept_rate) == {"path", "Gibbs", "MALA"}
