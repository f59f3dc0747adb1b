"""Whether values may be read: to read one from an accelerator waits for all that was queued there, and stops a trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

__all__ = ["may_read", "unread_values"]


def may_read(values: Tensor) -> bool:
    """Whether a step may read entries of a tensor: not on an accelerator, where that waits, nor while it is traced."""
    return values.device.type == "cpu" and not _UNREAD.get()


@contextmanager
def unread_values() -> Iterator[None]:
    """Steps within read no values, so that the operations of a step do not depend on them."""
    token = _UNREAD.set(True)
    try:
        yield
    finally:
        _UNREAD.reset(token)


_UNREAD = ContextVar("jointebm_unread_values", default=False)
