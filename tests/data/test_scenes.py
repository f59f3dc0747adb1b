"""Specification of the scenes: what is drawn has the areas, shades and places that the captions speak of."""

import torch

from jointebm.data import CaptionedScenes
from jointebm.data.caption_grammar import true_captions
from jointebm.data.scenes import SHADES, draw_objects, draw_scenes

SCENES = draw_scenes(400, generator=torch.Generator().manual_seed(0))


def alone(number: int) -> torch.Tensor:
    """One object of every scene that has it."""
    rows = torch.ones(400).bool() if number == 0 else SCENES.two
    return draw_objects(
        *(part[rows, number] for part in (SCENES.kind, SCENES.radius, SCENES.x, SCENES.y)),
    )


def test_objects_have_the_area_and_the_centre_that_are_said() -> None:
    at = torch.arange(24) + 0.5
    drawn = alone(0)
    area = drawn.sum(dim=(1, 2))
    assert float((area / (2 * SCENES.radius[:, 0]).square() - 1).abs().max()) < 0.07
    for place, axis in ((SCENES.x, 1), (SCENES.y, 2)):
        assert float(((drawn.sum(dim=axis) @ at) / area - place[:, 0]).abs().max()) < 0.15


def test_wide_ellipses_are_wide_and_triangles_point_up() -> None:
    at = torch.arange(24) + 0.5
    drawn, kind = alone(0), SCENES.kind[:, 0]
    spread = [drawn.amax(dim=axis).sum(dim=1) for axis in (1, 2)]
    assert bool((spread[0] > spread[1])[kind == 1].all()) and bool((spread[0] < spread[1])[kind == 2].all())
    weights = drawn.sum(dim=2) / drawn.sum(dim=(1, 2))[:, None]
    down = at - (weights @ at)[:, None]
    skewness = (weights * down**3).sum(dim=1) / (weights * down**2).sum(dim=1) ** 1.5
    assert bool((skewness[kind == 3] < -0.4).all()) and float(skewness[kind == 0].abs().max()) < 0.15


def test_two_objects_lie_inside_the_image_and_share_no_pixel() -> None:
    first, second = alone(0), alone(1)
    assert float((first[SCENES.two] * second).abs().max()) == 0
    for drawn in (first, second):
        edge = torch.cat([drawn[:, [0, -1]].flatten(1), drawn[:, :, [0, -1]].flatten(1)], dim=1)
        assert float(edge.max()) <= 1 and float(drawn.flatten(1).amax(dim=1).min()) == 1


def test_scenes_have_one_or_two_objects_of_every_description() -> None:
    """Shares within five standard errors: a false alarm in 10^6."""
    assert abs(float(SCENES.two.double().mean()) - 0.5) < 5 * (0.25 / 400) ** 0.5
    single = ~SCENES.two
    described = 4 * SCENES.kind[:, 0] + 2 * SCENES.large[:, 0] + SCENES.bright[:, 0]
    assert len(described[single].unique()) == 16
    assert bool((SCENES.kind[single, 1] == 0).all()) and bool((SCENES.radius[single, 1] == 0).all())


def test_rows_have_one_of_their_true_captions_and_the_shades_that_are_said() -> None:
    data = CaptionedScenes().without_noise()
    values, objects = data.described(200, generator=torch.Generator().manual_seed(3))
    for image, words, things in zip(values["image"], values["caption"].tolist(), objects, strict=True):
        assert tuple(words) in true_captions(things)
        levels = {SHADES[thing.bright] for thing in things}
        assert float(image.max()) == max(levels) and float(image.min()) == 0


def test_test_rows_are_those_whose_objects_are_told_and_differ_from_validation_rows() -> None:
    data = CaptionedScenes()
    values, objects = data.test(), data.test_objects()
    assert all(
        tuple(words) in true_captions(each) for words, each in zip(values["caption"].tolist(), objects, strict=True)
    )
    assert torch.equal(values["image"], data.test()["image"])
    others, _ = data.validation()
    assert float((others["image"] - values["image"]).abs().flatten(1).sum(dim=1).min()) > 0
    noise = values["image"][values["image"].abs() < 0.2]
    assert abs(float(noise.double().std()) - data.noise_sd) < 0.005
