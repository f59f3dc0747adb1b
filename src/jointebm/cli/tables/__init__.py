"""What the commands do with tables: files of them in and out, in parts, by several processes; needs the extra `tables`."""

from importlib.util import find_spec

__all__: list[str] = []

if not all(find_spec(name) for name in ("sklearn", "narwhals", "pandas", "pyarrow")):
    raise ImportError("tables need scikit-learn, narwhals, pandas and pyarrow: pip install 'jointebm[tables]'")
