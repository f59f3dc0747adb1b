"""Specification of the report on captions: what is counted as true is what the grammar and the judge call true."""

import pytest
import torch

from jointebm import KernelSpec, Model, ModelConfig, load
from jointebm.data import CaptionedScenes
from jointebm.data.caption_grammar import caption_of, true_captions
from jointebm.energies import CaptionSpec
from jointebm.evaluation.caption_truth import are_true, caption_report, true_of_images, words_right

DATA = CaptionedScenes()
VALUES, OBJECTS = DATA.described(16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    spec = CaptionSpec(channels=(4, 8), width=8, min_noise=0.05, max_noise=10.0, num_levels=2)
    kernel = KernelSpec(discrete="gibbs", continuous="mala", step_size=0.02)
    config = ModelConfig(
        name="tiny", data="captions", space=DATA.space.config, energy=spec, kernel=kernel, num_chains=2, num_steps=1
    )
    return Model(config).eval()


def test_captions_of_the_data_are_true_of_their_rows_and_images_and_not_of_others() -> None:
    truths = [true_captions(each) for each in OBJECTS]
    assert are_true(VALUES["caption"], truths).tolist() == [1.0] * 16
    assert true_of_images(VALUES["image"], VALUES["caption"]).tolist() == [1.0] * 16
    long = torch.tensor([caption_of("a small bright square to the left of a big dim oval")]).expand(16, -1)
    assert float(true_of_images(VALUES["image"], long).mean()) < 0.2
    assert true_of_images(torch.zeros(16, 24, 24), VALUES["caption"]).tolist() == [0.0] * 16


def test_words_are_compared_with_the_nearest_true_caption() -> None:
    truths = [true_captions(each) for each in OBJECTS]
    assert words_right(VALUES["caption"], truths).tolist() == [1.0] * 16
    wrong = VALUES["caption"].clone()
    wrong[:, 0] = 3  # "and" begins no caption
    said = (wrong != 0).sum(dim=1)
    torch.testing.assert_close(words_right(wrong, truths), (said - 1) / said)


def test_an_untrained_model_says_nothing_true_and_every_caption_is_equally_likely(model: Model) -> None:
    found = caption_report(model, VALUES, OBJECTS, num_images=4, generator=torch.Generator().manual_seed(0))
    uniform = -12 * float(torch.tensor(26.0).log())
    for kind in ("one object", "two objects"):
        assert found.exact[kind] == found.drawn[kind] == found.images[kind] == found.halves[kind] == 0
        assert found.log_p[kind] == pytest.approx(uniform, abs=1e-3) and found.log_p_true[kind] > -8
        assert found.judged[kind] == 1 and 0 < found.words[kind] < 0.5
    assert sum(found.num.values()) == 16 and found.num_images == 4
    assert set(found.accept_rate) == {"path", "Gibbs", "MALA"}


def test_no_images_are_drawn_unless_asked(model: Model) -> None:
    found = caption_report(model, VALUES, OBJECTS, num_images=0, generator=torch.Generator().manual_seed(0))
    assert found.num_images == 0 and not found.images and not found.halves


def test_other_models_and_rows_of_one_kind_are_refused(model: Model) -> None:
    generator = torch.Generator()
    with pytest.raises(ValueError, match="caption_report: needs a model with a CaptionEnergy, got Referenced"):
        caption_report(load("pretrained:toy"), VALUES, OBJECTS, num_images=0, generator=generator)
    single = [each[:1] for each in OBJECTS]
    with pytest.raises(ValueError, match="needs rows with one and with two objects"):
        caption_report(model, VALUES, single, num_images=0, generator=generator)
