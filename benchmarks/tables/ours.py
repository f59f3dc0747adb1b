"""Our model of a table, fitted once with all defaults and saved; and its codes, which the baselines use."""

from pathlib import Path

import numpy as np
import pandas as pd
from parts import Parts

from jointebm.estimators import JointEBM
from jointebm.tables.codes.codec import Unseen
from jointebm.tables.frames.reading import read_frame
from jointebm.tables.frames.writing import write_frame


def run_fit(parts: Parts, part: str, train: pd.DataFrame, folder: Path, *, unseen: Unseen = "error") -> None:
    """Fits and saves the model, unless it is saved already; reports the log score of held-out rows.

    With all defaults, but without relations: every column has codes of its own, which the baselines use.
    """

    def fit() -> dict[str, float]:
        scores: list[float] = []
        model = JointEBM(unseen=unseen, relations=None)
        model.fit(train, on_progress=lambda progress: scores.append(progress.log_score))
        model.save(folder)
        return {"held_out_log_score": max(scores, default=float("nan"))}

    if not folder.exists():
        parts.run(part, "JointEBM", fit)


def frame_of_codes(model: JointEBM, codes: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """Rows of codes as values, drawn within their codes."""
    uniforms = np.random.default_rng(seed).random(codes.shape)
    return write_frame(model.codec_.decode(codes, uniforms), model.frame_schema_)


def codes_of(model: JointEBM, frame: pd.DataFrame, *, unseen: Unseen = "error") -> np.ndarray:
    """Rows as codes, -1 is missing."""
    return model.codec_.encode(read_frame(frame).table, unseen=unseen)
