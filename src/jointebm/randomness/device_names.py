"""The names of devices, for settings; nothing here imports torch."""

from typing import Literal

__all__ = ["DeviceName"]

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
