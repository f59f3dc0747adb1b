"""Descriptions: frozen, strictly typed plain data that recipes and model folders are made of."""

from pydantic import BaseModel, ConfigDict

__all__ = ["MAX_COUNT", "Config"]

MAX_COUNT = 1_000_000  # of chains, steps, draws, levels


class Config(BaseModel):
    """Base of every description: immutable, no unknown fields, no silent conversion of types, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
