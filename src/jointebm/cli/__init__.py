"""The command line `jointebm`."""

from jointebm.cli.main import app, main

__all__ = ["app", "main"]
