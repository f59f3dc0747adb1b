"""The command line: `jointebm recipes | data | train | evaluate | sample | predict | figures`."""

from jointebm.cli.commands import app, main

__all__ = ["app", "main"]
