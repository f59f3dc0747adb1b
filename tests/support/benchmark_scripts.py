"""Loads a script of benchmarks/tables."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "tables"


SMALL = {"NUM_SAMPLES": 60, "NUM_ROWS": 60, "NUM_DRAWS": 6, "SIZES": (2, 3), "COMPONENTS": (2, 3)}


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A benchmark under its own module name (`coverage` is also a package), with small constants."""
    monkeypatch.syspath_prepend(str(FOLDER))  # scripts import one another
    spec = spec_from_file_location(f"table_benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    small = SMALL | ({"SIZES": (100, 40)} if name in ("coverage", "queries") else {})
    for constant in small.keys() & vars(module).keys():
        monkeypatch.setattr(module, constant, small[constant])
    return module
