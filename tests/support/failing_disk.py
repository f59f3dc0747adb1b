"""A disk that fails at one call to the operating system."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

CALLS = ("open", "fsync", "mkdir", "rename")


def fails_after(
    num_passing: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOSPC
) -> bool:
    """Acts while the disk fails at the call after so many, and tells whether the call came."""
    num_left = num_passing

    def wrap(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal num_left
            num_left -= 1
            if num_left == -1:
                raise OSError(number, os.strerror(number))
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrap(getattr(os, name)))
        try:
            act()
        except OSError as error:
            assert error.errno == number  # noqa: PT017  # it need not come
    return num_left < 0
