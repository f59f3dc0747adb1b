"""Specification of dSprites: the official ellipses, the same rows from either source, and splits as documented."""

import hashlib
import importlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from jointebm.data import ArrayDataset, dsprites
from jointebm.data.dsprites import OFFICIAL_FILE, chosen_latents, find_official, halved, render, sprites, twins
from jointebm.data.registry import DATASETS, open_dataset
from jointebm.spaces.transforms import Identity, Logit

module = importlib.import_module("jointebm.data.dsprites")  # its name in the package is that of the function
DATA = os.environ.get("JOINTEBM_DATA")
REFERENCE = Path(DATA or ".", "dsprites_reference.npz")
ALL_ORIENTATIONS = np.arange(40)


@pytest.fixture(scope="module")
def rendered() -> np.ndarray:
    return sprites(None)


@pytest.fixture(scope="module")
def twin_free() -> ArrayDataset:
    return dsprites(None)


@pytest.fixture(scope="module")
def random_split() -> ArrayDataset:
    data = open_dataset("dsprites-random")
    assert isinstance(data, ArrayDataset)
    return data


# The renderer.


def by_foci(latents: np.ndarray) -> np.ndarray:
    """A second implementation: the distances of a pixel from the two foci add up to at most the major axis."""
    images = np.zeros((len(latents), 64, 64), dtype=np.uint8)
    for image, (_, _, scale, orientation, pos_x, pos_y) in zip(images, latents, strict=True):
        size, angle = 0.5 + 0.1 * scale, 2 * np.pi * orientation / 39
        center = complex(15.5 + 32 * pos_x / 31, 15.5 + 32 * pos_y / 31)
        focus = size * np.sqrt(12.76**2 - 7.22**2) * np.exp(-1j * angle)
        pixels = np.arange(64) + 1j * np.arange(64)[:, None]
        image[abs(pixels - center - focus) + abs(pixels - center + focus) <= 2 * 12.76 * size] = 1
    return images


def some_latents(num: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, list(module.LATENTS.values()), size=(num, 6))


def test_a_pixel_is_on_if_its_centre_is_inside_the_ellipse() -> None:
    latents = some_latents(500)
    assert np.array_equal(render(latents), by_foci(latents))


def reference() -> tuple[np.ndarray, np.ndarray]:
    """Official ellipses, and which of them are known to be in orientation 5: the notebook's last nine images."""
    if DATA is None or not REFERENCE.is_file():
        pytest.skip("JOINTEBM_DATA is not set, or holds no dsprites_reference.npz: no official images to compare with")
    with np.load(REFERENCE, allow_pickle=False) as file:
        images, is_ellipse = file["imgs"], file["ellipse"]
    return images[is_ellipse], np.flatnonzero(is_ellipse) >= 34


def best_overlap(image: np.ndarray, orientations: np.ndarray) -> tuple[float, int]:
    """Intersection over union with the best rendering, in any scale, and the number of pixels that differ."""
    rows, columns = image.nonzero()
    pos_x, pos_y = (round((axis.mean() - 15.5) * 31 / 32) for axis in (columns, rows))
    candidates = [(0, 1, scale, orientation, pos_x, pos_y) for scale in range(6) for orientation in orientations]
    drawn = render(np.array(candidates))
    overlaps = (drawn & image).sum(axis=(1, 2)) / (drawn | image).sum(axis=(1, 2))
    return float(overlaps.max()), int((drawn ^ image).sum(axis=(1, 2))[overlaps.argmax()])


def test_official_images_are_matched_as_closely_as_documented() -> None:
    images, _ = reference()
    found = [best_overlap(image, ALL_ORIENTATIONS) for image in images]
    overlap, num_differing = (np.array(each) for each in zip(*found, strict=True))
    assert len(overlap) == 17
    assert overlap.mean().round(4) == 0.9968 and overlap.min().round(4) == 0.9793
    assert (num_differing == 0).sum() == 13 and num_differing.sum() == 11


def test_orientation_turns_like_the_official_images() -> None:
    images, in_orientation_5 = reference()
    known = [best_overlap(image, np.array([5])) for image in images[in_orientation_5]]
    turned_back = [best_overlap(image, np.array([34])) for image in images[in_orientation_5]]
    assert len(known) == 4 and min(overlap for overlap, _ in known) > 0.99
    assert max(overlap for overlap, _ in turned_back) < 0.8


# The images.


def test_the_images_are_ellipses_in_eight_orientations_in_the_official_order() -> None:
    latents = chosen_latents()
    assert latents.shape == (49_152, 6) and (latents[:, :2] == (0, 1)).all()
    assert np.unique(latents[:, 3]).tolist() == [0, 9, 10, 19, 20, 29, 30, 39]
    rows = np.ravel_multi_index(tuple(latents.T), (1, 3, 6, 40, 32, 32))
    assert (np.diff(rows) > 0).all() and rows[0] == 6 * 40 * 1024
    assert [len(np.unique(column)) for column in latents.T] == [1, 1, 6, 8, 32, 32]


def test_halving_keeps_the_mean_of_two_by_two_pixels(rendered: np.ndarray) -> None:
    rows = np.arange(0, 49_152, 4_801)
    large = render(chosen_latents()[rows])
    means = large.reshape(len(rows), 32, 2, 32, 2).mean(axis=(2, 4))
    assert np.array_equal(rendered[rows] / 4, means)
    assert rendered.dtype == np.uint8 and np.unique(rendered).tolist() == [0, 1, 2, 3, 4]
    assert halved(np.eye(4, dtype=np.uint8)[None]).tolist() == [[[2, 0], [0, 2]]]


def test_few_images_besides_orientations_0_and_39_are_twins(rendered: np.ndarray) -> None:
    latents, groups = chosen_latents(), twins(rendered)
    by_latents = rendered.reshape(6, 8, 1024, 32, 32)
    assert np.array_equal(by_latents[:, 0], by_latents[:, 7])
    assert (rendered[groups] == rendered).all()
    first = np.flatnonzero(groups == np.arange(len(groups)))
    assert len({rendered[row].tobytes() for row in first}) == len(first)
    twin = np.flatnonzero(groups != np.arange(len(groups)))
    assert (
        latents[twin][:, [2, 4, 5]] == latents[groups[twin]][:, [2, 4, 5]]
    ).all()  # twins have the same place and scale
    assert (latents[twin, 3] == 39).sum() == 6 * 1024 and len(twin) < 6 * 1024 + 100


# The data sets.


def centers(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of the centres of gravity, in pixels of the large images."""
    weights, places = images.sum(axis=(1, 2)), 2 * np.arange(32) + 0.5
    return images.sum(axis=1) @ places / weights, images.sum(axis=2) @ places / weights


@pytest.mark.parametrize("split", ["twin_free", "random_split"])
def test_the_split_covers_all_images_and_labels_are_their_bins(
    split: str, rendered: np.ndarray, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(split)
    assert len(data.train["image"]) == 46_652 and len(data.held_out["image"]) == 2_500
    together = {name: np.concatenate([data.train[name], data.held_out[name]]) for name in data.space}

    def counted(images: np.ndarray) -> dict[bytes, int]:
        content, counts = np.unique([hashlib.sha256(image.tobytes()).digest() for image in images], return_counts=True)
        return dict(zip(content.tolist(), counts.tolist(), strict=True))

    assert counted(together["image"]) == counted(rendered)
    for labels, center in zip(("horizontal", "vertical"), centers(together["image"][::7]), strict=True):
        assert (together[labels][::7] == np.round((center - 15.5) * 31 / 32) // 2).all()
        assert np.bincount(together[labels]).tolist() == [49_152 // 16] * 16


def share_with_twin(data: ArrayDataset) -> float:
    """Share of the test rows whose image is, byte for byte, a training image."""
    known = {image.tobytes() for image in data.train["image"]}
    return float(np.mean([image.tobytes() in known for image in data.held_out["image"]]))


def test_no_test_image_of_the_twin_free_split_is_a_training_image(twin_free: ArrayDataset) -> None:
    assert share_with_twin(twin_free) == 0


def test_the_random_split_has_the_documented_share_of_twins(random_split: ArrayDataset) -> None:
    assert round(share_with_twin(random_split), 3) == 0.230
    assert "23.0%" in str(dsprites.__doc__)


def test_the_random_split_is_the_same_on_every_machine(random_split: ArrayDataset) -> None:
    places = random_split.held_out["horizontal"].tobytes() + random_split.held_out["vertical"].tobytes()
    assert hashlib.sha256(places).hexdigest() == RANDOM_SPLIT


RANDOM_SPLIT = "c9b0cc5b1112e13f52bbba12c2bf174dc02911f394118c70c8c05d03a12c75c1"


@pytest.mark.parametrize(
    ("name", "transform", "noise"),
    [
        ("dsprites", Logit(margin=1e-6), (1 / 8, 0.0)),
        ("dsprites-pixels", Identity(), (0.0, 0.1)),
        ("dsprites-random", Logit(margin=1e-6), (1 / 8, 0.0)),
    ],
)
def test_the_names_differ_in_split_transform_and_noise_only(
    name: str, transform: object, noise: tuple[float, float], monkeypatch: pytest.MonkeyPatch, rendered: np.ndarray
) -> None:
    monkeypatch.setattr(module, "sprites", lambda data_dir: rendered)  # noqa: ARG005  # to save time
    data = open_dataset(name)
    assert isinstance(data, ArrayDataset) and data.name == name and name in DATASETS
    assert data.space["image"].transform == transform  # type: ignore[union-attr]
    assert (list(data.space), data.white) == (["image", "horizontal", "vertical"], 4)
    assert (data.noise_width, data.noise_sd) == noise
    assert [data.space[label].num_classes for label in data.space.discrete] == [16, 16]  # type: ignore[union-attr]
    batch = data.batch(8, generator=torch.Generator().manual_seed(0))
    assert batch["image"].shape == (8, 32, 32) and bool(batch["image"].isfinite().all())


# The official file.

SMALL = {"color": 1, "shape": 3, "scale": 6, "orientation": 40, "posX": 3, "posY": 2}


def all_latents() -> np.ndarray:
    return np.stack(np.unravel_index(np.arange(4_320), tuple(SMALL.values())), axis=1)


def all_images() -> np.ndarray:
    """Ellipses at their latents, and their negatives elsewhere."""
    return render(all_latents()) ^ (all_latents()[:, 1] != 1)[:, None, None].astype(np.uint8)


def write(folder: Path, **arrays: np.ndarray) -> Path:
    """Writes a file of the official form; `metadata` holds an object, which must not be read."""
    path = folder / OFFICIAL_FILE
    path.parent.mkdir(exist_ok=True)
    metadata = np.array({"title": "dSprites"}, dtype=object)
    np.savez_compressed(path, allow_pickle=True, metadata=metadata, **arrays)
    return path


def pin(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = path.read_bytes()
    object_id = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()  # what git hash-object prints
    monkeypatch.setattr(module, "OFFICIAL_BLOB", object_id)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer positions, so that the official file is small."""
    monkeypatch.setattr(module, "LATENTS", SMALL)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("folder", ["dsprites", "."])
def test_the_official_file_gives_the_same_rows_as_the_renderer(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sprites(tmp_path)
    path = write(tmp_path / folder, imgs=all_images())
    pin(path, monkeypatch)
    assert find_official(tmp_path) == path and find_official(None) is None
    assert expected.shape == (6 * 8 * 6, 32, 32) and np.array_equal(sprites(tmp_path), expected)


WRONG: dict[str, tuple[Callable[[], dict[str, np.ndarray]], str]] = {
    "grey levels to 255": (
        lambda: {"imgs": all_images() * 255},
        "'imgs' has a pixel of 255; expected zeros and ones",
    ),
    "too few images": (
        lambda: {"imgs": all_images()[:-1]},
        "array 'imgs' is uint8 of shape (4319, 64, 64); expected uint8 of (4320, 64, 64). Remove it to render the images",
    ),
    "images of reals": (
        lambda: {"imgs": all_images().astype(np.float32)},
        "array 'imgs' is float32",
    ),
    "objects": (
        lambda: {"imgs": np.array([{}], dtype=object)},
        "array 'imgs' holds Python objects, which are never read",
    ),
    "no images": (lambda: {"latents_classes": all_latents()}, "holds no array 'imgs'"),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("case", WRONG)
def test_a_file_other_than_the_official_one_is_refused_in_one_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, message = WRONG[case]
    path = write(tmp_path, **arrays())
    pin(path, monkeypatch)
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the message is compared below
        sprites(tmp_path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.usefixtures("small")
def test_a_well_formed_file_with_other_bytes_is_refused(tmp_path: Path) -> None:
    write(tmp_path, imgs=all_images())
    with pytest.raises(
        ValueError, match=r"git object id is [0-9a-f]{40}, expected d98996d3.*Remove it to render the images"
    ):
        sprites(tmp_path)
