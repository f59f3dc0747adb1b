"""The tables of the benchmarks as frames: numbers as numbers, everything else as text, empty entries missing."""

from pathlib import Path

import numpy as np
import pandas as pd


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """One `NAME.csv.gz`."""
    return pd.read_csv(folder / f"{name}.csv.gz")


def adult(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The official split: 32,561 training rows, and the 15,060 test rows of 16,281 without missing entries."""
    train, test = read_table(folder, "adult_train"), read_table(folder, "adult_test")
    return train, test.dropna().reset_index(drop=True)


def split(frame: pd.DataFrame, *, test_share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows of a table without an official split."""
    order = np.random.default_rng(seed).permutation(len(frame))
    num_test = round(test_share * len(frame))
    parts = frame.iloc[order[num_test:]], frame.iloc[order[:num_test]]
    return parts[0].reset_index(drop=True), parts[1].reset_index(drop=True)


def train_and_test(folder: Path, name: str, *, num_adult: tuple[int, int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Adult's own split, some rows of each part; of other tables 30% of the rows are test rows."""
    if name != "adult":
        return split(read_table(folder, name), test_share=0.3, seed=0)
    parts = zip(adult(folder), num_adult, strict=True)
    train, test = (frame.sample(size, random_state=0).reset_index(drop=True) for frame, size in parts)
    return train, test


def with_holes(frame: pd.DataFrame, share: float, *, seed: int) -> pd.DataFrame:
    """Hides a share of all entries at random; whole numbers become floats, as in any frame with missing entries."""
    hidden = np.random.default_rng(seed).random(frame.shape) < share
    return frame.astype(dict.fromkeys(numbers(frame), float)).mask(hidden)


def numbers(frame: pd.DataFrame) -> list[str]:
    """Names of the columns of numbers."""
    return [name for name in frame if pd.api.types.is_numeric_dtype(frame[name])]
