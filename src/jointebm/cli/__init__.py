"""The command line: `jointebm recipes | train | evaluate | sample | predict | figures`."""

from jointebm.cli.app import main

__all__ = ["main"]
