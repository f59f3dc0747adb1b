"""Runs the command line: `python -m jointebm`."""

import sys

from jointebm.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
