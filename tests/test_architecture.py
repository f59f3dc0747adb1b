"""The rules of docs/architecture.md: who may import whom, one name for one thing, and what nobody does."""

import ast
import subprocess
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import jointebm

ROOT = Path(jointebm.__file__).parent
# A folder imports from itself and from the folders before it.
FOLDERS = [
    *("importing", "randomness", "storage", "spaces", "references", "kernels", "energies", "data", "sampling"),
    *(
        "training",
        "testing",
        "inference",
        "evaluation",
        "recipes",
        "runs",
        "plots",
        "tables",
        "estimators",
        "watch",
        "cli",
    ),
]
# Within `tables` and `cli` as well.
PARTS = {
    "tables": ["codes", "relations", "density", "training", "frames", "files", "answers"],
    "cli": [
        *("console", "shared_errors", "options", "files", "processes", "progress"),
        *("blocks", "tables", "watching", "commands", "main"),
    ],
}
# A command bears the name of what it does, and a recipe that of its data: these two folders may repeat names of others.
NAMESAKES = ("cli/commands", "cli/blocks", "cli/tables", "recipes")
MAX_LINES = 350
MAX_ARGUMENTS = 8
DRAWS = {
    *("rand", "randn", "randint", "randperm", "multinomial", "bernoulli", "normal_", "uniform_"),
    *("rand_like", "randn_like"),
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("jointebm", *parts)).removesuffix(".__init__")


PATHS = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
MODULES = {name: ast.parse(path.read_text()) for name, path in PATHS.items()}
ENTRY = {"jointebm", "jointebm.__main__"}  # name what is public, from everywhere


def imports(module: str) -> set[str]:
    """Full names of all modules that a module imports, inside functions too."""
    names = set()
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else str(node.module) for name in below}
    return names


def calls(module: str) -> set[str]:
    """What a module calls, as written, such as torch.load."""
    return {ast.unparse(node.func) for node in ast.walk(MODULES[module]) if isinstance(node, ast.Call)}


def folder(module: str) -> str:
    return module.split(".")[1]


def defined(module: str) -> set[str]:
    """Public names that a module defines at its top level."""
    names = set()
    for node in MODULES[module].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def is_namesake(path: Path) -> bool:
    return path.relative_to(ROOT).as_posix().startswith(NAMESAKES)


def repeated(places: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: where for name, where in places.items() if len(where) > 1}


def test_the_root_holds_no_module_but_the_entries() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_imports_point_downwards() -> None:
    upwards = []
    for module in MODULES.keys() - ENTRY:
        for imported in imports(module) & MODULES.keys():
            below = imported not in ENTRY and FOLDERS.index(folder(imported)) <= FOLDERS.index(folder(module))
            upwards += [] if below else [f"{module} imports {imported}"]
    assert sorted(upwards) == []


def test_imports_point_downwards_within_tables_and_the_command_line() -> None:
    upwards = []
    for module in MODULES:
        order = PARTS.get(folder(module), []) if module.count(".") > 1 else []
        for imported in imports(module) & MODULES.keys():
            if order and imported.count(".") > 1 and folder(imported) == folder(module):
                here, there = (order.index(name.split(".")[2]) for name in (module, imported))
                upwards += [] if there <= here else [f"{module} imports {imported}"]
    assert sorted(upwards) == []


def test_no_import_cycle() -> None:
    graph = {module: imports(module) & MODULES.keys() - {module} for module in MODULES}
    assert set(TopologicalSorter(graph).static_order()) == MODULES.keys()  # a cycle raises CycleError


def test_a_file_name_stands_for_one_idea() -> None:
    places = defaultdict(list)
    for path in PATHS.values():
        if path.name not in ("__init__.py", "__main__.py") and not is_namesake(path):
            places[path.name].append(path.relative_to(ROOT).as_posix())
    assert repeated(places) == {}


def test_a_public_name_is_defined_once() -> None:
    places = defaultdict(list)
    for module, path in PATHS.items():
        if path.name != "__init__.py" and not is_namesake(path):
            for name in defined(module):
                places[name].append(module)
    assert repeated(places) == {}


def test_private_names_stay_in_their_module() -> None:
    taken = []
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jointebm"):
                taken += [
                    f"{module} imports {a.name}" for a in node.names if a.name.startswith("_") and a.name[1] != "_"
                ]
    assert taken == []


def test_files_are_short() -> None:
    lengths = {module: len(path.read_text().splitlines()) for module, path in PATHS.items()}
    assert {module: length for module, length in lengths.items() if length >= MAX_LINES} == {}


def test_functions_take_few_arguments() -> None:
    """But for entry points that a user configures: constructors, commands, and public functions of the package."""
    many = []
    for module, tree in MODULES.items():
        if module.startswith("jointebm.cli.commands"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name != "__init__":
                arguments = node.args
                names = [a.arg for a in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
                count = len([name for name in names if name not in ("self", "cls")])
                if count > MAX_ARGUMENTS and node.name not in (*dir(jointebm), *dir(jointebm.testing)):
                    many.append(f"{module}.{node.name}: {count}")
    assert many == []


def test_tests_mirror_the_folders() -> None:
    tests = Path(__file__).parent
    here = {path.relative_to(tests).parts[0] for path in tests.rglob("test_*.py") if path.parent != tests}
    assert here <= {*FOLDERS, "benchmarks", "docs", "page", "tools"}
    assert set(FOLDERS) <= here


def test_only_plots_imports_matplotlib() -> None:
    assert {module for module in MODULES if any(name.split(".")[0] == "matplotlib" for name in imports(module))} <= {
        "jointebm.plots.style"
    }


def test_only_the_estimators_import_scikit_learn_and_only_the_border_imports_frames() -> None:
    def importing(libraries: set[str]) -> set[str]:
        return {module for module in MODULES if {name.split(".")[0] for name in imports(module)} & libraries}

    assert {folder(module) for module in importing({"sklearn"})} <= {"estimators", "cli"}
    watch = "jointebm.watch.arrow_bodies"  # bodies of requests
    borders = ("jointebm.tables.frames.", "jointebm.tables.files.", "jointebm.cli.", "jointebm.estimators", watch)
    assert {m for m in importing({"narwhals", "pandas", "polars", "pyarrow"}) if not m.startswith(borders)} == set()


def test_only_watch_imports_a_web_server() -> None:
    libraries = {"starlette", "uvicorn", "websockets", "anyio"}
    importing = {module for module in MODULES if {name.split(".")[0] for name in imports(module)} & libraries}
    assert {folder(module) for module in importing} == {"watch"}


def test_only_one_module_asks_the_hub() -> None:
    libraries = {"huggingface_hub", "httpx2"}
    importing = {module for module in MODULES if {name.split(".")[0] for name in imports(module)} & libraries}
    assert importing == {"jointebm.storage.hub"}


def test_no_exception_is_swallowed_by_its_base() -> None:
    for module, tree in MODULES.items():
        for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)):
            caught = {"BaseException"} if handler.type is None else {ast.unparse(n) for n in ast.walk(handler.type)}
            continues = not isinstance(handler.body[-1], ast.Raise)
            assert not (caught & {"BaseException", "Exception"} and continues), f"{module}:{handler.lineno}"


def test_only_the_command_line_catches_an_interrupt() -> None:
    catching = set()
    for module, tree in MODULES.items():
        for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type):
            names = {ast.unparse(n) for n in ast.walk(handler.type) if isinstance(n, ast.Name | ast.Attribute)}
            if names & {"KeyboardInterrupt", "Terminated"} and not isinstance(handler.body[-1], ast.Raise):
                catching.add(folder(module))
    assert catching <= {"cli"}


def test_random_numbers_are_drawn_in_one_place() -> None:
    drawing = {module for module in MODULES for call in calls(module) if call.rpartition(".")[2] in DRAWS}
    assert drawing == {"jointebm.randomness.draws"}


def test_files_get_their_names_in_one_place() -> None:
    naming = {"os.rename", "os.renames", "os.replace", "os.link", "os.fsync", "tempfile.mkstemp", "tempfile.mkdtemp"}
    assert {module for module in MODULES if calls(module) & naming} == {"jointebm.storage.atomic"}


def test_importing_the_package_imports_no_optional_library() -> None:
    script = """
import sys, jointebm
optional = {"typer", "rich", "matplotlib", "sklearn", "pandas", "narwhals", "polars", "pyarrow", "starlette"}
optional |= {"huggingface_hub", "httpx2"}
optional &= sys.modules.keys()
assert not optional, f"import jointebm imports {optional}"
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.slow
def test_importing_changes_nothing_outside() -> None:
    """Compared in a fresh process, after the libraries that we stand on have been imported."""
    script = """
import importlib, json, narwhals, os, pydantic, random, safetensors.torch, signal, sklearn.base, sys, warnings
import numpy as np, torch, torch.optim.swa_utils, torch.utils._contextlib

def state():
    return {
        "torch": torch.get_rng_state().tolist(), "numpy": repr(np.random.get_state()), "random": random.getstate(),
        "dtype": torch.get_default_dtype(), "threads": torch.get_num_threads(), "grad": torch.is_grad_enabled(),
        "matmul": torch.get_float32_matmul_precision(), "print": repr(vars(torch._tensor_str.PRINT_OPTS)),
        "deterministic": torch.are_deterministic_algorithms_enabled(), "warnings": list(warnings.filters),
        "environment": dict(os.environ), "folder": os.getcwd(), "errors": np.geterr(), "hook": sys.excepthook,
        "interrupt": signal.getsignal(signal.SIGINT), "path": list(sys.path),
    }

before = state()
import pytest

import jointebm
for module in sys.argv[1:]:
    importlib.import_module(module)
after = state()
changed = [name for name in before if before[name] != after[name]]
assert not changed, f"importing changed {changed}"
"""
    below = [m for m in MODULES.keys() - ENTRY if folder(m) not in ("cli", "plots")]
    assert subprocess.run([sys.executable, "-c", script, *sorted(below)], check=False).returncode == 0
