"""Imports the members of a package when they are first asked for (PEP 562).

The command line and the recipes need no torch, and importing it takes longer than all else that they do.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any

__all__ = ["lazy_members"]


def lazy_members(
    package: str, names: Sequence[str], modules: Sequence[str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package, which also reach its submodules.

    Members are searched for by `__all__` in the modules, in this order, or in the package's own modules.

    Example:
        >>> import jointebm.kernels
        >>> get, _ = lazy_members("jointebm.kernels", ["MALA"])
        >>> get("MALA")
        <class 'jointebm.kernels.mala.MALA'>
    """

    def get(name: str) -> Any:
        member = _find(package, name, names, modules)
        setattr(sys.modules[package], name, member)
        return member

    def list_names() -> list[str]:
        return sorted({name for name in vars(sys.modules[package]) if name.startswith("__")} | set(names))

    return get, list_names


def _find(package: str, name: str, names: Sequence[str], modules: Sequence[str] | None) -> Any:
    if not name.startswith("_") and find_spec(f"{package}.{name}"):
        return import_module(f"{package}.{name}")
    if name in names:
        own = (f"{package}.{module.name}" for module in iter_modules(sys.modules[package].__path__))
        for path in modules or own:
            module = import_module(path)
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
