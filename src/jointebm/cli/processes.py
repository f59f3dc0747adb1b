"""Commands that `torchrun` runs in several processes: the first one prints and writes."""

from collections.abc import Iterator
from contextlib import contextmanager

from jointebm.cli.console import exit_code
from jointebm.randomness.device_names import DeviceName
from jointebm.training.process_group import processes
from jointebm.training.world import FailedElsewhere, World

__all__ = ["joined"]


@contextmanager
def joined(device: DeviceName) -> Iterator[World]:
    """The processes of a command. Where all end together, after Ctrl-C or divergence, the first one says so alone."""
    with processes(device) as world:
        try:
            yield world
        except FloatingPointError:
            if world.rank == 0:
                raise
            raise FailedElsewhere from None
        except KeyboardInterrupt as reason:
            if world.rank == 0:
                raise
            raise FailedElsewhere(exit_code(reason)) from None
