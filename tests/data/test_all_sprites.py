"""Specification of dSprites with all attributes: three shapes as drawn by a second implementation, their rows and split."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Outline

from jointebm.data import AllSprites, all_sprites, open_dataset
from jointebm.data.all_sprites import NUM_HELD_OUT
from jointebm.data.dsprites import OFFICIAL_FILE, halved, render
from jointebm.data.sprite_shapes import HALF_SIDE, HEART_RADII, SHAPES, draw_sprites
from support.mutants import altered

DATA = os.environ.get("JOINTEBM_DATA")
REFERENCE = Path(DATA or ".", "dsprites_reference.npz")
SIZES = (1, 3, 6, 40, 32, 32)


def some_latents(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, SIZES, size=(num, 6))


def by_polygons(latents: np.ndarray) -> np.ndarray:
    """A second implementation for squares and hearts: polygons of matplotlib, turned by complex numbers."""
    square = HALF_SIDE * np.array([1 + 1j, 1 - 1j, -1 - 1j, -1 + 1j])
    angles = np.linspace(0, np.pi, 12 * 200 + 1)
    radii = np.interp(angles, np.linspace(0, np.pi, 13), HEART_RADII)
    half = radii * (np.sin(angles) + 1j * np.cos(angles))  # from the tip, which points down, over the right
    heart = np.concatenate([half, -half.conj()[::-1]])
    pixels = (np.arange(64) + 1j * np.arange(64)[:, None]).ravel()
    images = []
    for _, shape, scale, orientation, pos_x, pos_y in latents:
        outline = (0.5 + 0.1 * scale) * np.exp(-2j * np.pi * orientation / 39) * (square if shape == 0 else heart)
        outline = outline + 15.5 + 32 * pos_x / 31 + 1j * (15.5 + 32 * pos_y / 31)
        polygon = Outline(np.stack([outline.real, outline.imag], axis=1), closed=False)
        images.append(polygon.contains_points(np.stack([pixels.real, pixels.imag], axis=1)).reshape(64, 64))
    return halved(np.array(images, np.uint8))


def test_ellipses_are_those_of_the_other_recipes() -> None:
    latents = some_latents(400)
    latents[:, 1] = SHAPES.index("ellipse")
    assert np.array_equal(draw_sprites(latents), halved(render(latents)))


def differing(latents: np.ndarray, drawn: np.ndarray) -> int:
    """Pixels of 64 x 64 that differ from the polygons, at most."""
    return int(abs(drawn.astype(int) - by_polygons(latents)).sum())


def test_squares_and_hearts_are_those_of_a_second_implementation() -> None:
    """Pixels within rounding of an edge may differ: at most 2 of the 45,000 that are on."""
    latents = some_latents(200, seed=1)
    latents[:, 1] = np.arange(200) % 2 * 2
    assert differing(latents, draw_sprites(latents)) <= 2


def test_images_are_the_same_in_parts_and_in_bounds() -> None:
    """The largest sprites in the outermost places are drawn whole."""
    latents = some_latents(1_100, seed=2)
    assert np.array_equal(draw_sprites(latents), np.concatenate([draw_sprites(latents[:7]), draw_sprites(latents[7:])]))
    corner = np.array(
        [[0, shape, 5, turn, x, y] for shape in range(3) for turn in range(40) for x, y in ((0, 0), (31, 31))]
    )
    images = draw_sprites(corner).astype(int)
    assert not images[:, [0, -1]].any() and not images[:, :, [0, -1]].any()
    areas = images.reshape(3, -1, 32 * 32).sum(axis=2)
    expected = [(2 * HALF_SIDE) ** 2, np.pi * 12.76 * 7.22]
    for area, exact in zip(areas, expected, strict=False):
        assert abs(area - exact).max() < 0.09 * exact  # an upright square gains or loses half a pixel on each side


def test_a_square_looks_alike_after_a_quarter_turn_and_an_ellipse_after_a_half() -> None:
    """39 steps are a turn, so that quarters fall between steps; the nearest step differs in few pixels."""
    drawn = {shape: draw_sprites(np.array([[0, shape, 5, turn, 16, 16] for turn in range(40)])) for shape in range(3)}
    for images in drawn.values():
        assert np.array_equal(images[0], images[39])
    away = {
        (shape, step): int(abs(images[step].astype(int) - images[0]).sum())
        for shape, images in drawn.items()
        for step in (10, 20)
    }  # in pixels of 64 x 64, of about 369, 290 and 226 that are on
    assert max(away[0, 10], away[0, 20], away[1, 20]) <= 38 and min(away[1, 10], away[2, 10], away[2, 20]) > 80


@pytest.mark.skipif(not REFERENCE.is_file(), reason="JOINTEBM_DATA is not set, or holds no dsprites_reference.npz")
def test_official_squares_and_hearts_are_matched_as_closely_as_documented() -> None:
    with np.load(REFERENCE, allow_pickle=False) as file:
        images = file["imgs"][~file["ellipse"]]
    wrong: dict[int, list[tuple[int, int]]] = {0: [], 2: []}
    for image in images:
        rows, columns = image.nonzero()
        middle = [(axis.mean() - 15.5) * 31 / 32 for axis in (columns, rows)]
        places = [np.clip([np.floor(p), np.ceil(p)], 0, 31).astype(int) for p in middle]
        found = []
        for shape in (0, 2):
            tried = [
                (0, shape, scale, turn, x, y)
                for scale in range(6)
                for turn in range(40)
                for x in places[0]
                for y in places[1]
            ]
            away = abs(draw_sprites(np.array(tried)).astype(int) - halved(image[None])).sum(axis=(1, 2))
            found.append((int(away.min()), shape))
        least, shape = min(found)
        wrong[shape].append((least, int(image.sum())))
    assert len(wrong[0]) == 15 and sum(least == 0 for least, _ in wrong[0]) == 13 and max(wrong[0])[0] <= 2
    hearts = np.array(wrong[2])
    assert len(hearts) == 11 and hearts[:, 0].sum() < 0.06 * hearts[:, 1].sum()


# Rows.


def test_rows_show_their_labels() -> None:
    data = AllSprites(noise_sd=0.0)
    position = data.batch(50, generator=torch.Generator().manual_seed(0))
    values = data.space.decode(position)
    names = ["shape", "scale", "orientation", "horizontal", "vertical"]
    latents = np.stack([np.zeros(50, int), *[values[name].numpy() for name in names]], axis=1)
    assert np.array_equal(values["image"].numpy() * 4, draw_sprites(latents))


def test_every_attribute_is_uniform() -> None:
    """20,000 rows without images; six standard errors, a false alarm in one seed of 4 million over 113 counts."""
    data = AllSprites()
    object.__setattr__(data, "images", Blank())
    batch = data.batch(20_000, generator=torch.Generator().manual_seed(0))
    for name in data.space.discrete:
        counts, classes = batch[name].sum(dim=0), batch[name].shape[1]
        assert float((counts - 20_000 / classes).abs().max()) < 6 * (20_000 / classes) ** 0.5


class Blank:
    """Images of one pixel."""

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        return np.zeros((len(numbers), 32, 32), np.uint8)[:, :32, :32]


def keys(values: dict[str, torch.Tensor]) -> set[tuple[int, ...]]:
    names = ["shape", "scale", "orientation", "horizontal", "vertical"]
    return set(zip(*[values[name].tolist() for name in names], strict=True))


def test_test_and_validation_rows_are_apart_and_training_draws_neither() -> None:
    data = AllSprites(noise_sd=0.0)
    test, validation = data.test(), data.validation()
    assert len(keys(test)) == len(keys(validation)) == NUM_HELD_OUT and not keys(test) & keys(validation)
    seen: set[tuple[int, ...]] = set()
    object.__setattr__(data, "images", Blank())
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        seen |= keys(data.space.decode(data.batch(10_000, generator=generator)))
    assert len(seen) > 45_000 and not seen & (keys(test) | keys(validation))


def test_noise_has_the_standard_deviation_asked_for_and_is_fresh() -> None:
    """51,200 pixels; five standard errors."""
    clean, noisy = AllSprites(noise_sd=0.0), AllSprites(noise_sd=0.5)
    assert noisy.without_noise() == clean
    first, second = (noisy.test()["image"] for _ in range(2))
    assert torch.equal(first, second)
    residual = (first - clean.test()["image"])[:50]
    assert abs(float(residual.std()) - 0.5) < 5 * 0.5 / (2 * residual.numel()) ** 0.5
    generator = torch.Generator().manual_seed(0)
    rows = noisy.batch(64, generator=generator), noisy.batch(64, generator=generator)
    assert not torch.equal(rows[0]["image"], rows[1]["image"])


def test_the_official_file_gives_its_own_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the official form with two positions, whose images are the negatives of drawn ones."""
    import importlib

    module = importlib.import_module("jointebm.data.all_sprites")
    official = importlib.import_module("jointebm.data.dsprites")
    small = {"color": 1, "shape": 3, "scale": 6, "orientation": 40, "posX": 3, "posY": 2}
    monkeypatch.setattr(module, "LATENTS", small)
    monkeypatch.setattr(module, "NUM_HELD_OUT", 100)
    monkeypatch.setattr(module, "_ORDERS", [])
    images = np.random.default_rng(0).integers(0, 2, (4_320, 64, 64), dtype=np.uint8)
    path = tmp_path / OFFICIAL_FILE
    np.savez_compressed(path, imgs=images)
    content = path.read_bytes()
    monkeypatch.setattr(
        official, "OFFICIAL_BLOB", hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    )
    data = all_sprites(tmp_path)
    assert data.images is not None and np.array_equal(data.images, halved(images))
    test = AllSprites(noise_sd=0.0, images=data.images).test()
    latents = [test[name].numpy() for name in ("shape", "scale", "orientation", "horizontal", "vertical")]
    numbers = np.ravel_multi_index((np.zeros(100, int), *latents), tuple(small.values()))
    assert np.array_equal(test["image"].numpy() * 4, halved(images)[numbers])
    path.write_bytes(content + b"x")
    with pytest.raises(ValueError, match="not the official file"):
        all_sprites(tmp_path)


def test_the_registry_draws_images_without_a_file() -> None:
    data = open_dataset("dsprites-full")
    assert isinstance(data, AllSprites) and data.images is None and data.noise_sd == 0.5


def test_the_true_density_is_that_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few positions, image by image and pixel by pixel, whole and half."""
    import importlib

    module = importlib.import_module("jointebm.data.all_sprites")
    monkeypatch.setattr(module, "LATENTS", {**module.LATENTS, "posX": 2, "posY": 3, "orientation": 2})
    monkeypatch.setattr(module, "_ORDERS", [])
    data = AllSprites(noise_sd=0.7).with_all_images()
    assert data.images is not None and len(data.images) == 3 * 6 * 2 * 2 * 3 and data.with_all_images() is data
    x = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for missing in (0, 16):
        x[:, :missing] = torch.nan
        table = data.table(x)
        for y in ((0, 0, 0, 0, 0), (2, 5, 1, 1, 2), (1, 3, 1, 0, 1)):
            picture = torch.from_numpy(draw_sprites(np.array([[0, *y]]))[0]) / 4
            of_pixels = torch.distributions.Normal(picture.double(), torch.tensor(0.7, dtype=torch.float64))
            expected = of_pixels.log_prob(x[1].nan_to_num())[missing:].sum()
            assert abs(float(table[1][y]) - float(expected) + np.log(216)) < 1e-9
    x[0, 20, 20] = torch.nan
    for wrong, rows in ((data, x), (AllSprites(), x[1:])):
        with pytest.raises(ValueError, match=r"needs all images in memory, and rows that miss the same pixels"):
            wrong.table(rows)


FAULTS = {
    "turned the other way": {"dy * np.cos(angle) - dx": "dy * np.cos(angle) + dx"},
    "size ignored": {") / size\n    v": ")\n    v"},
    "hearts upside down": {"np.arctan2(abs(u), v)": "np.arctan2(abs(u), -v)"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_renderer_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    module = importlib.import_module("jointebm.data.sprite_shapes")
    latents = some_latents(60, seed=1)
    latents[:, 1] = np.arange(60) % 2 * 2
    monkeypatch.setattr(module, "outline_value", altered(module.outline_value, FAULTS[fault]))
    assert differing(latents, draw_sprites(latents)) > 100
