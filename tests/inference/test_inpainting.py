"""In-painting and labels from a region, on stripes, where the answers are known."""

import pytest
import torch
from torch import Tensor

from jointebm.inference.inpainting import HALVES, NOTHING, WHOLE, Region, accuracy_given, inpaint, masked
from jointebm.plots import inpainting_figures
from support.generators import seeded
from support.stripes import real_stripes, stripes, stripes_model

TOP, BOTTOM, LEFT, RIGHT = HALVES


@pytest.mark.parametrize(
    ("region", "rows", "columns"),
    [
        (TOP, slice(0, 2), slice(None)),
        (BOTTOM, slice(2, 4), slice(None)),
        (LEFT, slice(None), slice(0, 3)),
        (RIGHT, slice(None), slice(3, 6)),
        (WHOLE, slice(None), slice(None)),
        (NOTHING, slice(0, 0), slice(None)),
        (Region("a corner", bottom=0.26, right=0.34), slice(0, 1), slice(0, 2)),
    ],
)
def test_a_region_is_its_rectangle(region: Region, rows: slice, columns: slice) -> None:
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[rows, columns] = True
    assert torch.equal(region.mask((4, 6)), expected)
    images = torch.rand(3, 4, 6, generator=seeded())
    seen = masked(images, region)
    assert torch.equal(seen.isnan(), ~expected.expand(3, 4, 6))
    assert torch.equal(seen[:, expected], images[:, expected])


def test_the_middle_row_of_an_odd_height_belongs_to_the_bottom_half() -> None:
    assert [region.mask((5, 1)).flatten().int().tolist() for region in (TOP, BOTTOM)] == [
        [1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1],
    ]


def assert_stripe(images: Tensor, row: int) -> None:
    """Pixels have a standard deviation of 1 / sqrt 2000; five of them."""
    torch.testing.assert_close(images, stripes(len(images), row), rtol=0, atol=6 / 2000**0.5)


@pytest.mark.parametrize("region", [*HALVES, NOTHING], ids=lambda region: region.text)
@pytest.mark.parametrize("row", [0, 1, 2, 3])
def test_given_the_label_the_rest_is_drawn_as_the_label_says_and_the_part_stays_bit_for_bit(
    region: Region, row: int
) -> None:
    values = {"image": stripes(8, row), "row": torch.full((8,), row), "sign": torch.tensor([0, 1] * 4)}
    drawn = inpaint(stripes_model(), values, "image", region, labels=True, generator=seeded())
    assert_stripe(drawn["image"], row)
    mask = region.mask((4, 6))
    assert torch.equal(drawn["image"][:, mask], values["image"][:, mask])
    assert not bool((drawn["image"][:, ~mask] == values["image"][:, ~mask]).any())
    assert torch.equal(drawn["row"], values["row"]) and torch.equal(drawn["sign"], values["sign"])


@pytest.mark.parametrize("row", [0, 1])
def test_the_rest_agrees_with_the_label_that_the_region_shows(row: int) -> None:
    values = {"image": stripes(8, row), "row": torch.full((8,), 3), "sign": torch.zeros(8, dtype=torch.int64)}
    drawn = inpaint(stripes_model(), values, "image", TOP, generator=seeded())
    assert_stripe(drawn["image"], row)
    assert drawn["row"].tolist() == [row] * 8  # its own, not the one in `values`, which is not given


def test_labels_are_right_where_shown_and_wrong_where_excluded() -> None:
    model, real = stripes_model(), real_stripes()
    assert accuracy_given(model, real, "image", WHOLE, generator=seeded())["row"] == 1.0
    assert accuracy_given(model, real, "image", LEFT, generator=seeded())["row"] == 1.0
    for region, shown in ((TOP, (0, 1)), (BOTTOM, (2, 3))):
        seen = torch.isin(real["row"], torch.tensor(shown))
        rows = {name: value[seen] for name, value in real.items()}
        assert accuracy_given(model, rows, "image", region, generator=seeded())["row"] == 1.0
        others = {name: value[~seen] for name, value in real.items()}
        wrong = {**others, "row": torch.full((len(others["row"]),), shown[0])}
        assert accuracy_given(model, wrong, "image", region, generator=seeded())["row"] == 0.0


def test_the_whole_image_is_enumerated_whatever_it_is_called() -> None:
    generator = seeded()
    before = generator.get_state()
    accuracy_given(stripes_model(), real_stripes(), "image", Region("all of it"), num_steps=1, generator=generator)
    assert torch.equal(generator.get_state(), before)  # nothing was drawn


def test_other_labels_are_given_on_request_only() -> None:
    """`sign` is a fair coin that nothing depends on, so its accuracy stays where it was; `row` is read off `others`."""
    model, real = stripes_model(), real_stripes()
    given = accuracy_given(model, real, "image", NOTHING, others=True, num_steps=5, generator=seeded())
    assert set(given) == {"row", "sign"} and given["row"] < 0.8  # 4 classes, nothing known of them


def test_figures_show_data_part_and_rest_and_accuracies_of_every_part() -> None:
    figures = inpainting_figures(stripes_model(), real_stripes(), "image", seeded(), num_images=4, num_rows=17)
    assert set(figures) == {"inpainting-top-half", "inpainting-left-half", "labels-from-part"}
    for name in ("top half", "left half"):
        (ax,) = figures[f"inpainting-{name.replace(' ', '-')}"].axes
        labels = [label.get_text() for label in ax.get_yticklabels()]
        assert labels == ["data", "given", f"given {name}", f"given {name}\nand labels"]
        picture = ax.images[0].get_array()
        assert picture is not None and bool(picture.mask.any())  # what is not given is left blank
    (ax,) = figures["labels-from-part"].axes
    named = [label.get_text() for label in ax.get_yticklabels()]
    assert named[0] == "no image, other labels" and named[-2:] == ["whole image", "whole image, other labels"]
    assert len(named) == 1 + 2 * 2 + 2
    rows = {bar.get_width() for bar in ax.containers[0]}  # of the first block, `row`
    assert max(rows) == 100.0
