"""Descriptions: frozen, strictly typed plain data that a recipe or a model folder is made of."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Config"]


class Config(BaseModel):
    """Base of every description: immutable, no unknown fields, no silent conversion of types, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
