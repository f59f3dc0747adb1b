"""The service of a block model: four questions, each of which is a method of `Model`.

Legend: N rows.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from jointebm.inference.model import Model
from jointebm.storage.untrusted import quoted
from jointebm.watch.answered import Answered, diagnostics_as_json
from jointebm.watch.arrow_bodies import read_stream
from jointebm.watch.block_predictions import predicted_labels
from jointebm.watch.json_blocks import block_values, given_blocks, listed_values
from jointebm.watch.limits import Limits

__all__ = ["BlockService"]

_SEED = Field(0, ge=0, lt=2**63, description="of all draws")
_STEPS = Field(None, ge=0, description="kernel steps; null: those of the model")
_VALUES = Field(description="per block, nested lists of shape (N, *shape of the block); null is missing")


class BlockQuestionFields(BaseModel):
    """Base of the questions: no unknown fields, no silent conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SampleBlocks(BlockQuestionFields):
    """Draws rows given what is known."""

    num: int = Field(16, ge=1, description="rows N")
    given: dict[str, Any] = Field(
        default_factory=dict,
        description='per block, values that broadcast to (N, *shape); null is free. {"classes": [0, 1]} and {"low": 0, '
        '"high": null} stand for a set of classes and an interval, in models with a reference',
    )
    seed: int = _SEED
    num_steps: int | None = _STEPS


class PredictBlocks(BlockQuestionFields):
    """Predicts labels from whatever else is known of each row."""

    values: dict[str, Any] = _VALUES
    target: str | list[str] = Field(description="names of discrete blocks")
    seed: int = _SEED


class ImputeBlocks(BlockQuestionFields):
    """Draws the missing entries of each row."""

    values: dict[str, Any] = _VALUES
    num: int = Field(1, ge=1, description="completions of each row")
    seed: int = _SEED
    num_steps: int | None = _STEPS


class ScoreBlocks(BlockQuestionFields):
    """log p of what is known of each row, nats; needs a model whose log Z is known."""

    values: dict[str, Any] = _VALUES
    seed: int = _SEED


class BlockService:
    """Answers about one block model.

    Args:
        model: the model.
        limits: of questions.
    """

    questions: ClassVar[Mapping[str, type[BaseModel]]] = {
        "sample": SampleBlocks,
        "predict": PredictBlocks,
        "impute": ImputeBlocks,
        "score": ScoreBlocks,
    }

    def __init__(self, model: Model, limits: Limits) -> None:
        self._model, self._limits = model, limits

    def read_arrow(self, body: bytes) -> dict[str, Any]:
        """Columns of lists, one per block."""
        return {"values": read_stream(body, self._limits)}

    def as_json(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Nested lists by block."""
        return listed_values(rows)

    def answer(self, question: str, asked: Any) -> Answered:
        """Answers one question."""
        if isinstance(asked, SampleBlocks):
            return self._sample(asked)
        if isinstance(asked, PredictBlocks):
            return self._predict(asked)
        if isinstance(asked, ImputeBlocks):
            return self._impute(asked)
        assert isinstance(asked, ScoreBlocks), question
        return self._score(asked)

    def _sample(self, asked: SampleBlocks) -> Answered:
        self._limits.require_rows(asked.num)
        self._limits.require_steps(asked.num_steps)
        given = given_blocks(self._model.space, asked.given)
        found = self._model.sample(asked.num, given, asked.seed, num_steps=asked.num_steps, diagnostics=True)
        return Answered([found.value], {"diagnostics": diagnostics_as_json(found.diagnostics)})

    def _predict(self, asked: PredictBlocks) -> Answered:
        targets = [asked.target] if isinstance(asked.target, str) else asked.target
        if not targets:
            raise ValueError("target: names no block; name one or several")
        self._model.space.require(targets, discrete=True)
        values, num = self._rows(asked.values)
        for name in set(targets) - values.keys():
            values[name] = np.full((num, *self._model.space[name].variable_shape), -1)
        found = predicted_labels(self._model, values, targets, asked.seed)
        also = {
            "probs": listed_values(found.prediction.probs),
            "method": found.method,
            "diagnostics": diagnostics_as_json(found.diagnostics),
        }
        return Answered([found.prediction.labels], also)

    def _impute(self, asked: ImputeBlocks) -> Answered:
        values, num = self._rows(asked.values)
        self._limits.require_rows(num * asked.num)
        self._limits.require_steps(asked.num_steps)
        found = self._model.impute(values, asked.num, asked.seed, num_steps=asked.num_steps, diagnostics=True)
        return Answered(found.value, {"diagnostics": diagnostics_as_json(found.diagnostics)}, several=True)

    def _score(self, asked: ScoreBlocks) -> Answered:
        values, _ = self._rows(asked.values)
        found = self._model.log_density(values, seed=asked.seed, diagnostics=True)
        return Answered([{"log_density": found.value}], {"diagnostics": diagnostics_as_json(found.diagnostics)})

    def _rows(self, values: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], int]:
        """Arrays by block, and the number of their rows, which must be the same and within the limits."""
        arrays = block_values(self._model.space, values)
        sizes = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
        if len(set(sizes.values())) != 1 or 0 in sizes.values():
            raise ValueError(f"values: every block needs the same number of rows, 1 or more, got {quoted(repr(sizes))}")
        num = next(iter(sizes.values()))
        self._limits.require_rows(num)
        return arrays, num
