"""Handwritten words: an image per letter, and a sequence of correlated labels.

Legend: L letters of the file, N words, T places of a word.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jointebm.data.datasets import ArrayDataset
from jointebm.spaces.blocks import Categorical, Continuous
from jointebm.spaces.space import Space
from jointebm.spaces.transforms import Identity
from jointebm.storage.npz import read_arrays

__all__ = ["BLANK", "LETTERS_FILE", "NUM_PLACES", "letters", "spell"]

LETTERS_FILE = "letters.npz"
NUM_PLACES = 14
BLANK = 26  # the label of a place after the end of a word
SHAPE = (16, 8)


def letters(data_dir: Path | None, *, fold: int = 0, dropout: float = 0.5) -> ArrayDataset:
    """6,877 handwritten words of 3 to 14 letters without their initial capital: one fold for training, nine for testing.

    All words are padded to 14 places, with an empty image and the label `BLANK`. Word lengths are known, so clamp the
    blanks. There are 55 distinct words, in many hands, and every fold has all of them.

    Args:
        data_dir: the folder that holds `letters.npz`, with the arrays `pixels` (L, 16) of packed bits, `labels` (L,)
            0 .. 25, and `lengths` (N,) and `folds` (N,) 0 .. 9 of the words.
        fold: number of the training fold.
        dropout: probability that a pixel is dropped at a visit: memorised images leave no errors for neighbouring letters to
            correct.

    Returns:
        Blocks `image` (14, 16, 8), 0 or 1 (in training 0 or 1 / (1 - dropout)), and `letters` (14,), 27 classes.

    Raises:
        FileNotFoundError: the file is missing; names the place searched.
        ValueError: the file holds other arrays, or the fold does not exist.

    References:
        Kassel 1995. Taskar et al. 2003, Max-margin Markov networks.

    Example:
        >>> letters(None)  # letters(Path("data")) reads data/letters.npz
        Traceback (most recent call last):
        FileNotFoundError: letters: no data folder; pass --data DIR or set JOINTEBM_DATA to the folder that holds letters.npz
    """
    if data_dir is None:
        raise FileNotFoundError(
            f"letters: no data folder; pass --data DIR or set JOINTEBM_DATA to the folder that holds {LETTERS_FILE}"
        )
    path = data_dir / LETTERS_FILE
    arrays = read_arrays(path)
    _check(path, arrays)
    lengths = arrays["lengths"].astype(np.int64)
    place = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)  # (L,)
    word = np.repeat(np.arange(len(lengths)), lengths)
    images = np.zeros((len(lengths), NUM_PLACES, *SHAPE), np.uint8)
    labels = np.full((len(lengths), NUM_PLACES), BLANK, np.uint8)
    images[word, place] = np.unpackbits(arrays["pixels"], axis=1).reshape(-1, *SHAPE)
    labels[word, place] = arrays["labels"]
    trained = arrays["folds"] == fold
    if not trained.any() or trained.all():
        raise ValueError(
            f"{path}: fold {fold} holds {trained.sum()} of {len(trained)} words; expected some but not all"
        )
    return ArrayDataset(
        name="letters",
        space=Space(image=Continuous((NUM_PLACES, *SHAPE), Identity()), letters=Categorical(BLANK + 1, (NUM_PLACES,))),
        train={"image": images[trained], "letters": labels[trained]},
        held_out={"image": images[~trained], "letters": labels[~trained]},
        white=1,
        noise_width=0.0,
        dropout=dropout,
        judge=None,
        figures=None,
    )


def spell(labels: npt.ArrayLike) -> list[str]:
    """Words as text.

    Args:
        labels: shape (N, T), 0 .. 25 and `BLANK`, which is skipped.

    Example:
        >>> spell([[25, 4, 17, 14, 26, 26]])
        ['zero']
    """
    return ["".join(chr(ord("a") + label) for label in word if label != BLANK) for word in np.asarray(labels).tolist()]


def _check(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Raises unless these are packed letters, their labels, and lengths and folds of the words they form."""
    missing = {"pixels", "labels", "lengths", "folds"} - arrays.keys()
    if missing:
        raise ValueError(f"{path}: lacks array {sorted(missing)[0]!r}; expected pixels, labels, lengths and folds")
    pixels, labels, lengths, folds = (arrays[name] for name in ("pixels", "labels", "lengths", "folds"))
    found = {name: (array.dtype.kind, array.shape) for name, array in arrays.items()}
    sound = pixels.dtype == np.uint8 and all(array.dtype.kind in "iu" for array in (labels, lengths, folds))
    sound = sound and pixels.shape == (len(labels), 16) and labels.ndim == lengths.ndim == 1
    if not sound or folds.shape != lengths.shape:
        raise ValueError(
            f"{path}: expected whole numbers pixels (L, 16) of 8 bits, labels (L,), lengths (N,) and folds (N,), got {found}"
        )
    if not len(lengths) or lengths.min() < 1 or lengths.max() > NUM_PLACES or int(lengths.sum()) != len(labels):
        raise ValueError(f"{path}: lengths must lie in 1 .. {NUM_PLACES} and sum to the {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= BLANK:
        raise ValueError(f"{path}: labels must lie in 0 .. {BLANK - 1}, got {labels.min()} .. {labels.max()}")
