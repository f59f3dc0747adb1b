"""Comparison of answers: the numbers, texts and tensors in them, with their places."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from support.pretend_device import away

__all__ = ["assert_alike", "leaves"]


def assert_alike(found: Any, expected: Any) -> None:
    """On the CPU, and equal up to the rounding of products: whole numbers, labels and texts exactly."""
    for (name, value), (_, wanted) in zip(leaves(found), leaves(expected), strict=True):
        if isinstance(value, Tensor):
            assert not away(value), name
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5, equal_nan=True, msg=name)
        elif isinstance(value, float):
            assert value == pytest.approx(wanted, rel=1e-4, abs=1e-5, nan_ok=True), name
        else:
            assert value == wanted, name


def leaves(answer: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Whatever an answer of mappings, sequences and dataclasses holds, in order."""
    if isinstance(answer, Mapping):
        for name, value in answer.items():
            yield from leaves(value, f"{place}.{name}")
    elif isinstance(answer, list | tuple):
        for number, value in enumerate(answer):
            yield from leaves(value, f"{place}.{number}")
    elif dataclasses.is_dataclass(answer):
        for each in dataclasses.fields(answer):
            yield from leaves(getattr(answer, each.name), f"{place}.{each.name}")
    else:
        yield place, answer
