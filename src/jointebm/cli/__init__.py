"""The command line: `jointebm recipes | data | train | fit | evaluate | sample | predict | impute | score | figures`."""

from jointebm.cli.main import app, main

__all__ = ["app", "main"]
