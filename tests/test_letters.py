"""Specification of the handwritten words and of the noisy ellipses: what is read is what the file holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jointebm.data import segmentation
from jointebm.data.letters import BLANK, NUM_PLACES, letters


def words(num_words: int = 40, seed: int = 0) -> dict[str, Any]:
    """A file's arrays: letters are noisy copies of 26 patterns, words repeat 4 different ones."""
    generator = np.random.default_rng(seed)
    patterns = generator.integers(0, 2, (26, 128), dtype=np.uint8)
    vocabulary = [generator.integers(0, 26, length) for length in (3, 5, 8, NUM_PLACES)]
    chosen = [vocabulary[each] for each in generator.integers(0, 4, num_words)]
    labels = np.concatenate(chosen).astype(np.uint8)
    pixels = patterns[labels] ^ (generator.random((len(labels), 128)) < 0.1).astype(np.uint8)
    return {
        "pixels": np.packbits(pixels, axis=1),
        "labels": labels,
        "lengths": np.array([len(word) for word in chosen], np.int16),
        "folds": (np.arange(num_words) % 10).astype(np.uint8),
    }


def write(folder: Path, arrays: dict[str, Any]) -> Path:
    np.savez(folder / "letters.npz", **arrays)
    return folder


def test_words_are_the_letters_of_the_file_in_order_and_blank_after_their_end(tmp_path: Path) -> None:
    arrays = words()
    data = letters(write(tmp_path, arrays), fold=3)
    ends = arrays["lengths"].cumsum()
    bits = np.unpackbits(arrays["pixels"], axis=1).reshape(-1, 16, 8)
    rows = {True: iter(range(4)), False: iter(range(36))}
    for word, (end, length) in enumerate(zip(ends, arrays["lengths"], strict=True)):
        trained = arrays["folds"][word] == 3
        part, row = data.train if trained else data.held_out, next(rows[bool(trained)])
        assert (part["letters"][row, :length] == arrays["labels"][end - length : end]).all()
        assert (part["image"][row, :length] == bits[end - length : end]).all()
        assert (part["letters"][row, length:] == BLANK).all() and not part["image"][row, length:].any()
    assert len(data.train["letters"]) == 4 and len(data.held_out["letters"]) == 36


def test_positions_are_the_pixels_themselves(tmp_path: Path) -> None:
    data = letters(write(tmp_path, words()))
    position = data.space.encode(data.test())[0]
    assert torch.equal(position["image"], torch.tensor(data.held_out["image"]).float())
    assert position["letters"].shape == (36, NUM_PLACES, BLANK + 1)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"folds": None}, "holds no array 'folds'"),
    ({"labels": np.zeros(3, np.uint8)}, r"expected whole numbers pixels \(L, 16\)"),
    ({"lengths": np.full(40, 0.5)}, "expected whole numbers"),
    ({"lengths": np.full(40, 15, np.int16)}, "lengths must lie in 1 .. 14 and sum to"),
    ({"folds": np.zeros(40, np.uint8)}, "fold 0 holds 40 of 40 words"),
    ({"folds": np.ones(40, np.uint8)}, "fold 0 holds 0 of 40 words"),
]


@pytest.mark.parametrize(("changed", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_file_that_holds_something_else_is_refused_by_name(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    arrays = {name: array for name, array in (words() | changed).items() if array is not None}
    with pytest.raises(ValueError, match=rf"letters\.npz: {message}"):
        letters(write(tmp_path, arrays))


def test_labels_beyond_the_alphabet_are_refused(tmp_path: Path) -> None:
    arrays = words()
    arrays["labels"][7] = 26
    with pytest.raises(ValueError, match=r"labels must lie in 0 .. 25, got \d+ .. 26"):
        letters(write(tmp_path, arrays))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"letters\.npz"):
        letters(tmp_path)
    with pytest.raises(FileNotFoundError, match="pass --data DIR or set JOINTEBM_DATA"):
        letters(None)


# Segmentation.


def test_a_mask_is_what_is_at_least_half_ellipse() -> None:
    data = segmentation(None, noise_sd=0.5)
    for part in (data.train, data.held_out):
        assert (part["mask"] == (part["image"] / 4 >= 0.5)).all()
    assert len(data.train["mask"]) == 46_652 and len(data.held_out["mask"]) == 2_500
    noise = data.test()["image"] - torch.tensor(data.held_out["image"]) / 4  # 2,560,000 numbers
    # Five standard errors: false alarms in one of a million.
    assert abs(float(noise.mean())) < 5 * 0.5 / noise.numel() ** 0.5
    assert abs(float(noise.std()) - 0.5) < 5 * 0.5 / (2 * noise.numel()) ** 0.5
