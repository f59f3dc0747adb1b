"""What the commands do with tables: files of them in and out, in parts, by several processes; needs the extra `tables`."""

from importlib.metadata import PackageNotFoundError, version

__all__: list[str] = []

try:
    for _package in ("scikit-learn", "narwhals", "pandas", "pyarrow"):
        version(_package)
except PackageNotFoundError as error:
    raise ImportError(
        "tables need scikit-learn, narwhals, pandas and pyarrow: pip install 'jointebm[tables]'"
    ) from error
