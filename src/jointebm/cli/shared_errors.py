"""Errors that every process of `torchrun` meets are printed once, by the first process."""

import os
from datetime import timedelta

__all__ = ["is_told_by_first"]

LONGEST_WAIT = timedelta(seconds=10)  # for the first process to meet the same error


def is_told_by_first(message: str) -> bool:
    """Whether this is another process than the first one of `torchrun`, and the first one fails with the same message.

    The first process leaves its message in the store of `torchrun`, which outlives it; the others compare theirs. Without
    such a store, or where the first process says nothing within 10 seconds, every process prints its own message.

    Args:
        message: of the error that ends this process.

    Example:
        >>> is_told_by_first("unknown recipe 'x'")  # a single process
        False
    """
    names = ("RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE")
    rank, address, port, has_store = (os.environ.get(name, "") for name in names)
    if has_store != "True" or not rank or not address or not port.isdigit():
        return False
    # A single process that fails does not wait for this import.
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    key = f"jointebm/error/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    try:
        store = TCPStore(address, int(port), is_master=False, timeout=LONGEST_WAIT)
        if rank == "0":
            store.set(key, message)
            return False
        return store.get(key).decode() == message
    except RuntimeError:  # no store there, or no message in time
        return False
