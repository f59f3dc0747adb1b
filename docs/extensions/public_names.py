"""Every public name of every package, from its `__all__`, with its docstring."""

import ast
import importlib
import inspect
import pkgutil
import types
from functools import cache
from itertools import pairwise

import jointebm

MODULES_OF_NAMES = ("jointebm.training.objectives",)  # modules that are public names themselves
RE_EXPORTING = "jointebm"  # what it names from elsewhere has its entry on the page of its package


def packages() -> dict[str, tuple[str, ...]]:
    """Public names of each package that has any, by its name."""
    found = ["jointebm", *(each.name for each in pkgutil.walk_packages(jointebm.__path__, "jointebm.") if each.ispkg)]
    names = {package: importlib.import_module(package).__all__ for package in (*found, *MODULES_OF_NAMES)}
    return {package: tuple(listed) for package, listed in names.items() if listed}


@cache
def homes() -> dict[str, str]:
    """Full name of the entry of each public name, by its full name."""
    entries: dict[int, str] = {}
    found = {}
    for package, names in sorted(packages().items(), key=lambda each: each[0] == RE_EXPORTING):
        for name in names:
            member, full = getattr(importlib.import_module(package), name), f"{package}.{name}"
            if isinstance(member, types.ModuleType):
                found[full] = member.__name__
            elif is_documented(member):
                found[full] = entries.setdefault(id(member), full)
            else:
                found[full] = full
    return found


def docstring_of(package: str, name: str) -> str:
    """The docstring of a public name; that of a constant is the text below its assignment."""
    member = getattr(importlib.import_module(package), name)
    if is_documented(member):
        return inspect.getdoc(member) or ""
    module = importlib.import_module(package)
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            module = importlib.import_module(str(node.module))
    return _below_assignment(ast.parse(inspect.getsource(module)).body, name)


def is_documented(member: object) -> bool:
    """Whether Python keeps the docstring of such an object."""
    return inspect.isclass(member) or inspect.isroutine(member) or isinstance(member, types.ModuleType)


def _below_assignment(body: list[ast.stmt], name: str) -> str:
    for first, second in pairwise(body):
        targets = first.targets if isinstance(first, ast.Assign) else [getattr(first, "target", None)]
        named = name in {getattr(target, "id", None) for target in targets}
        if named and isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant):
            return inspect.cleandoc(str(second.value.value))
    return ""
