"""Warnings as lines on standard error, whose remedies are options of the command."""

import warnings

from jointebm.cli.console import say
from jointebm.sampling.diagnostics import ConvergenceWarning, Remedy

__all__ = ["say_warnings"]


def say_warnings() -> None:
    """Shows warnings as lines on standard error until a block of `warnings.catch_warnings` ends; remedies are options."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        say(message.told(_as_options) if isinstance(message, ConvergenceWarning) else str(message))

    warnings.showwarning = show


def _as_options(remedy: Remedy) -> str:
    """The options that change these parameters: those of a fit lie within `training`."""
    of_fit = remedy.get("training", {})
    changes = [f"{value} --{name.replace('_', '-')}" for name, value in remedy.items() if name != "training"]
    changes += [f"{value} {name} (--set {name}=...)" for name, value in of_fit.items() if isinstance(value, str)]
    settings = [f"--set {name}={value}" for name, value in of_fit.items() if not isinstance(value, str)]
    return " or ".join([*changes, " ".join(settings)] if settings else changes)
