"""Small files of handwritten words."""

from pathlib import Path
from typing import Any

import numpy as np

from jointebm.data.letters import NUM_PLACES


def words(num_words: int = 40, seed: int = 0) -> dict[str, Any]:
    """The arrays of a file: letters are noisy copies of 26 patterns, words repeat 4 distinct ones."""
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
