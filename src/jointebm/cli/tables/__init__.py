"""Commands for models of tables: files in, files out, in parts, with several processes. Needs the extra `tables`."""

from importlib.metadata import PackageNotFoundError, version

__all__: list[str] = []

try:
    for _package in ("scikit-learn", "narwhals", "pandas", "pyarrow"):
        version(_package)
except PackageNotFoundError as error:
    raise ImportError(
        "tables need scikit-learn, narwhals, pandas and pyarrow: pip install 'jointebm[tables]'"
    ) from error
