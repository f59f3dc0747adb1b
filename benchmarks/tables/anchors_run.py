"""Runs an anchor of `anchors.py` in its own environment, and reads its answer from files."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd


def log_scores_of(python: Path, anchor: str, files: Mapping[str, np.ndarray], *, threads: int) -> np.ndarray:
    """Log-probabilities of test codes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "codes.npz", **files)
        _run(python, anchor, folder, threads)
        return np.load(folder / "log_scores.npy")


def samples_of(python: Path, anchor: str, train: pd.DataFrame, num: int, *, threads: int) -> pd.DataFrame:
    """Fits a generator and returns its samples."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train.to_parquet(folder / "train.parquet")
        (folder / "num_samples.txt").write_text(str(num))
        _run(python, anchor, folder, threads)
        return pd.read_parquet(folder / "samples.parquet")


def draws_of(
    python: Path, anchor: str, train: pd.DataFrame, holes: pd.DataFrame, *, num_draws: int, threads: int
) -> list[pd.DataFrame]:
    """Fits an imputer and returns its draws: the rows with missing entries, imputed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train.reset_index(drop=True).to_parquet(folder / "train.parquet")
        holes.reset_index(drop=True).to_parquet(folder / "holes.parquet")
        (folder / "num_draws.txt").write_text(str(num_draws))
        _run(python, anchor, folder, threads)
        return [pd.read_parquet(folder / f"draw-{draw}.parquet") for draw in range(num_draws)]


def _run(python: Path, anchor: str, folder: Path, threads: int) -> None:
    script = Path(__file__).with_name("anchors.py")
    limits = {
        "OMP_NUM_THREADS": str(threads),
        "NUMBA_NUM_THREADS": str(threads),
        "TQDM_DISABLE": "1",
        "PYTHONWARNINGS": "ignore",
    }
    subprocess.run([python, script, anchor, folder], check=True, env=os.environ | limits)
