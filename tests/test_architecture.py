"""The import table of docs/architecture.md: who may import whom, and what nobody does."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import jointebm

ROOT = Path(jointebm.__file__).parent
# From the top down. A module imports from layers below its own, and from its own; parts that share a line do not meet.
LAYERS: list[list[set[str]]] = [
    [
        {
            "cli",
            "recipes",
            "runs",
            "run_folder",
            "run_size",
            "resuming",
            "provenance",
            "judge",
            "plots",
        }
    ],  # shell
    [{"estimators"}],  # facade
    [
        {
            "models",
            "checkpoint",
            "chains",
            "divergence",
            "training",
            "phases",
            "metrics",
            "train_config",
            "learner",
            "recovery",
            "conditioning",
            "conditions",
            "evaluation",
            "outliers",
            "partly_given",
            "label_scale",
            "tables",
        }
    ],  # work
    [{"sampling", "buffer", "completions", "objectives", "unlabelled", "exact", "testing"}],  # chains
    [{"kernels"}, {"energies"}, {"data"}],  # parts
    [
        {
            "config",
            "interrupts",
            "draws",
            "streams",
            "transforms",
            "blocks",
            "spaces",
            "noise",
            "untrusted",
            "npz",
            "weights",
        }
    ],  # ground
]
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "torch.save", "torch.hub.load"}
DRAWS = {
    "rand",
    "randn",
    "randint",
    "randperm",
    "multinomial",
    "bernoulli",
    "normal_",
    "uniform_",
    "rand_like",
    "randn_like",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("jointebm", *parts)).removesuffix(".__init__")


MODULES = {name_of(path): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


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


def place(module: str) -> tuple[int, int]:
    """Layer and part of a module."""
    top = module.split(".")[1]
    places = [(i, j) for i, layer in enumerate(LAYERS) for j, part in enumerate(layer) if top in part]
    assert places, f"{module} has no layer; give it one in docs/architecture.md and here"
    return places[0]


def test_imports_point_downwards() -> None:
    upwards = []
    for module in MODULES.keys() - {"jointebm"}:  # the package itself names what is public, from everywhere
        layer, part = place(module)
        for imported in imports(module) & MODULES.keys():
            below = imported != "jointebm" and (place(imported)[0] > layer or place(imported) == (layer, part))
            upwards += [] if below else [f"{module} imports {imported}"]
    assert upwards == []


def test_there_is_no_import_cycle() -> None:
    graph = {module: imports(module) & MODULES.keys() - {module} for module in MODULES}
    assert set(TopologicalSorter(graph).static_order()) == MODULES.keys()  # a cycle raises CycleError


def test_only_plots_knows_matplotlib() -> None:
    assert {module for module in MODULES if any(name.split(".")[0] == "matplotlib" for name in imports(module))} <= {
        "jointebm.plots.style"
    }


def test_only_the_estimators_know_scikit_learn_and_only_the_border_knows_frames() -> None:
    def knowing(libraries: set[str]) -> set[str]:
        return {module for module in MODULES if {name.split(".")[0] for name in imports(module)} & libraries}

    below_the_shell = {module for module in MODULES if module != "jointebm" and place(module)[0] > 0}
    assert {module.split(".")[1] for module in knowing({"sklearn"}) & below_the_shell} <= {"estimators"}
    assert knowing({"narwhals", "pandas", "polars", "pyarrow"}) & below_the_shell <= {
        "jointebm.tables.frames.reading",
        "jointebm.tables.frames.writing",
    }


def test_nothing_that_is_read_is_ever_executed() -> None:
    for module, tree in MODULES.items():
        assert imports(module) & UNSAFE_MODULES == set() == calls(module) & UNSAFE_CALLS, module
        keywords = [keyword for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords]
        assert {ast.unparse(each.value) for each in keywords if each.arg == "allow_pickle"} <= {"False"}, module


def test_no_exception_is_swallowed_by_its_base() -> None:
    for module, tree in MODULES.items():
        for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)):
            caught = {"BaseException"} if handler.type is None else {ast.unparse(n) for n in ast.walk(handler.type)}
            goes_on = not isinstance(handler.body[-1], ast.Raise)
            assert not (caught & {"BaseException", "Exception"} and goes_on), f"{module}:{handler.lineno}"


def test_random_numbers_are_drawn_in_one_place() -> None:
    drawing = {module for module in MODULES for call in calls(module) if call.rpartition(".")[2] in DRAWS}
    assert drawing == {"jointebm.randomness.draws"}


def test_importing_the_package_imports_no_optional_library() -> None:
    script = """
import sys, jointebm
optional = {"typer", "rich", "matplotlib", "sklearn", "pandas", "narwhals", "polars", "pyarrow"} & sys.modules.keys()
assert not optional, f"import jointebm imports {optional}"
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


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
import jointebm
for module in sys.argv[1:]:
    importlib.import_module(module)
after = state()
changed = [name for name in before if before[name] != after[name]]
assert not changed, f"importing changed {changed}"
"""
    below_the_shell = [module for module in MODULES if module != "jointebm" and place(module)[0] > 0]
    assert subprocess.run([sys.executable, "-c", script, *below_the_shell], check=False).returncode == 0
