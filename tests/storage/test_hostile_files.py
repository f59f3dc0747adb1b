"""Untrusted files: nothing in them is executed, and each malformed one gives one line, soon and in little memory."""

import ast
import gzip
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jointebm
from jointebm import Model
from jointebm.inference.model_loading import load_model
from jointebm.storage.idx import read_idx
from jointebm.storage.npz import read_arrays, read_rows
from jointebm.storage.untrusted import MAX_QUOTED, quoted, read_json
from support import forked, malformed
from support.forked import Outcome
from support.malformed import Case

SECONDS, MEGABYTES = 5, 200
CASES = [pytest.param(case, id=f"{case.reader}: {case.name}") for case in malformed.cases()]


# The corpus.


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Outcome]:
    """All cases, run one after the other in forks of one fresh process."""
    paths = os.pathsep.join([str(Path(forked.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", forked.__file__, tmp_path_factory.mktemp("corpus")],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {(reader, name): Outcome(*outcome) for reader, name, outcome in lines}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_malformed_file_gives_one_line_soon_and_in_little_memory(
    case: Case, outcomes: dict[tuple[str, str], Outcome]
) -> None:
    outcome = outcomes[case.reader, case.name]
    assert (outcome.code, outcome.out) == (2, ""), outcome
    assert outcome.err.startswith("jointebm: error: ") and outcome.err.count("\n") == 1, outcome.err
    assert outcome.err[:-1].isprintable() and len(outcome.err) < 1000, outcome.err
    assert case.file in outcome.err and case.words in outcome.err, outcome.err
    assert outcome.seconds < SECONDS and outcome.megabytes < MEGABYTES, outcome


def test_the_corpus_has_at_least_60_cases_each_with_its_own_name() -> None:
    names = [(case.reader, case.name) for case in malformed.cases()]
    assert len(set(names)) == len(names) >= 60


def test_a_case_that_crashes_or_takes_memory_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taking(_: object) -> int:
        assert len(bytearray(250 << 20)) > 0
        return 2

    def raising(_: object) -> int:
        raise RecursionError("too deep")

    monkeypatch.setattr(forked, "main", taking)
    assert forked.run_forked(tmp_path, []).megabytes > MEGABYTES
    monkeypatch.setattr(forked, "main", raising)
    assert forked.run_forked(tmp_path, [])[:3] == (70, "", "RecursionError: too deep\n")
    monkeypatch.setattr(forked, "main", lambda _: os.kill(os.getpid(), 9))
    assert forked.run_forked(tmp_path, []).code == -9


def test_the_objects_in_the_corpus_end_the_process_that_unpickles_them(tmp_path: Path) -> None:
    next(case for case in malformed.cases() if case.name == "array: objects").put(tmp_path)
    code = "import numpy, sys; numpy.load(sys.argv[1], allow_pickle=True)['point']"
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "rows.npz"], check=False).returncode == 77


# The source.

UNSAFE_MODULES = {
    *("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml", "imp", "runpy")
}
UNSAFE_NAMES = {"eval", "exec", "compile", "__import__"}
UNSAFE_CALLS = {
    *(
        "importlib.import_module",
        "import_module",
        "torch.load",
        "torch.save",
        "torch.jit.load",
        "torch.hub.load",
        "os.system",
    )
}
SAFE_IMPORTLIB = {"importlib.metadata", "importlib.resources"}


def violations(source: str) -> list[str]:
    """Parts of a source that could execute what it reads."""
    found = []
    tree = ast.parse(source)
    parameters = {each.arg for each in ast.walk(tree) if isinstance(each, ast.arg)}
    called = {ast.unparse(each.func) for each in ast.walk(tree) if isinstance(each, ast.Call)}
    fields = {ast.unparse(each.target) for each in ast.walk(tree) if isinstance(each, ast.AnnAssign)}
    own = (parameters | fields) - called  # a flag of that name, which nothing calls
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            names = [module] if module else [alias.name for alias in node.names]
            found += [name for name in names if name.split(".")[0] in UNSAFE_MODULES]
            found += [name for name in names if name.split(".")[0] == "importlib" and name not in SAFE_IMPORTLIB]
            found += [f"{module}.{alias.name}" for alias in node.names if module == "torch" and alias.name == "load"]
            found += [f"{module}.{alias.name}" for alias in node.names if module == "numpy" and alias.name == "load"]
        elif isinstance(node, ast.Name) and node.id in UNSAFE_NAMES - own:  # called, or given another name
            found.append(node.id)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in UNSAFE_CALLS:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "np.load",
            "numpy.load",
            "np.lib.format.read_array",
        ):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            found += [] if keywords.get("allow_pickle") == "False" else [ast.unparse(node)]
    return found


SOURCES = sorted(Path(jointebm.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(Path(jointebm.__file__).parent)))
def test_no_source_can_execute_what_it_reads(path: Path) -> None:
    """Lazy imports import by name, but only modules of this package."""
    allowed = {"importlib", "importlib.util"} if path.parent.name == "importing" else set()
    assert set(violations(path.read_text())) == allowed


PLANTED = [
    *("import pickle", "from pickle import loads", "def f():\n    import marshal as m", "import shelve, json"),
    *("from joblib import load", "import yaml", "import importlib", "from importlib import import_module"),
    *("import importlib.util", "value = eval(text)", "exec(text)", "run = compile", "__import__(name)"),
    *("torch.load(path)", "read = torch.load", "from torch import load", "torch.load(path, weights_only=True)"),
    *("np.load(path)", "np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=trusted)"),
    "from numpy import load",
]


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_call_that_executes_is_found(planted: str) -> None:
    source = SOURCES[len(planted) % len(SOURCES)].read_text()
    assert len(violations(f"{source}\n{planted}\n")) >= 1


def test_safe_calls_are_not_found() -> None:
    safe = [
        "from importlib.metadata import version",
        "re.compile('a')",
        "np.load(path, allow_pickle=False)",
        "net.eval()",
    ]
    assert violations("\n".join(safe)) == []


# Messages and JSON.


@given(st.text(st.characters(codec=None), max_size=2 * MAX_QUOTED))
@settings(max_examples=200, derandomize=True, deadline=None, database=None)
def test_a_quote_is_one_short_printable_line(text: str) -> None:
    shown = quoted(text)
    assert shown.isprintable() and len(shown) <= MAX_QUOTED + 3


def test_short_printable_text_is_quoted_unchanged() -> None:
    assert quoted("block 'größe': 1 of 2") == "block 'größe': 1 of 2"


def test_json_is_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2.5, "\\u00e9", null, {"b": true}], "b": {"a": 1}}')
    assert read_json(path, "anything") == {"a": [1, 2.5, "é", None, {"b": True}], "b": {"a": 1}}


# Fuzz targets: good files with a few bytes changed are read, or refused with the name of the file.

FAST = settings(
    max_examples=100,
    derandomize=True,
    deadline=SECONDS * 1000,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LONG = settings(FAST, max_examples=20_000, derandomize=False)


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with up to four changes: bits flipped, bytes overwritten, cut, repeated, taken out, or put in."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        size = draw(st.sampled_from([1, 2, 4, 8, 33]))
        kind = draw(st.sampled_from(["flip", "overwrite", "cut", "repeat", "take out", "put in"]))
        if kind == "flip" and content:
            content = content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]
        elif kind == "overwrite":
            content = content[:at] + draw(BYTES) + content[at + size :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "repeat":
            content = content[: at + size] + content[at:]
        elif kind == "take out":
            content = content[:at] + content[at + size :]
        else:
            content = content[:at] + draw(BYTES) + content[at:]
    return content


BYTES = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(
        [b"\xff" * 4, b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7, b"1e999", b"NaN", b"-1", b"[" * 2000, b'"', b"}"]
    ),
)


def check_idx(path: Path) -> None:
    array = read_idx(path)
    assert array.dtype == np.uint8 and 1 <= array.ndim <= 4 and array.size >= 1


def check_model(path: Path) -> None:
    model = load_model(path.parent)
    assert isinstance(model, Model) and all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())
    position = model.noise.draw(2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model(position).shape == (2,)


def check_arrays(path: Path) -> None:
    arrays = read_arrays(path)
    assert arrays and all(array.dtype.kind in "biuf" for array in arrays.values())


def check_rows(path: Path) -> None:
    """The reader of official files, which knows shape and type beforehand; it gives the right numbers or none."""
    (found,) = read_rows(path, "point", np.array([0, 2]), shape=(3, 2), dtype=np.float32)
    assert found.shape == (2, 2) and found.tolist() in ([[0, 1], [4, 5]], [[0, 0], [0, 0]])


def rows(method: int) -> bytes:
    arrays = {
        "point": malformed.npy(np.arange(6, dtype=np.float32).reshape(3, 2)),
        "left": malformed.npy(np.array([0, 1, -1])),
    }
    return malformed.npz(method=method, **arrays)


IDX = malformed.idx((2, 3, 4), bytes(range(24)))
TARGETS: dict[str, tuple[str, bytes, Callable[[Path], None]]] = {
    "idx": ("array", IDX, check_idx),
    "idx in gzip": ("array.gz", gzip.compress(IDX, mtime=0), check_idx),
    "config": ("model/config.json", malformed.good()["model/config.json"], check_model),
    "weights": ("model/model.safetensors", malformed.good()["model/model.safetensors"], check_model),
    "npz": ("rows.npz", rows(0), check_arrays),
    "npz, deflated": ("rows.npz", rows(8), check_arrays),
    "npz, by rows": ("rows.npz", rows(0), check_rows),
    "npz, deflated, by rows": ("rows.npz", rows(8), check_rows),
}


@contextmanager
def in_little_memory() -> Iterator[None]:
    """Fails if memory rises by more than the limit at any time within."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = forked.kilobytes("VmRSS")
    yield
    assert (forked.kilobytes("VmHWM") - before) / 1000 < MEGABYTES


def read_or_refused(path: Path, check: Callable[[Path], None]) -> str:
    """ "read", or "refused" (soon, in one line that names the file), or else a fault of the refusal."""
    started, message = time.monotonic(), ""
    try:
        check(path)
    except (ValueError, OSError) as error:
        message = str(error)
    if time.monotonic() - started > SECONDS:
        return f"took too long: {message}"
    if not message:
        return "read"
    return "refused" if str(path.parent) in message and "\n" not in message and len(message) < 1000 else message


def fuzz(target: str, folder: Path, profile: settings) -> Counter[str]:
    """Outcomes of mutated files, counted."""
    name, good, check = TARGETS[target]
    outcomes: Counter[str] = Counter()
    malformed.write_good(folder)
    path = folder / name

    @profile
    @given(mutated(good))
    def read(content: bytes) -> None:
        path.write_bytes(content)
        outcome = read_or_refused(path, check)
        outcomes[outcome] += 1
        assert outcome in ("read", "refused"), outcome

    path.write_bytes(good)
    check(path)
    with in_little_memory():
        read()
    return outcomes


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_with_a_few_bytes_changed_is_read_or_refused_by_name(target: str, tmp_path: Path) -> None:
    outcomes = fuzz(target, tmp_path, FAST)
    assert outcomes.keys() <= {"read", "refused"} and outcomes.total() >= FAST.max_examples
    assert outcomes["refused"] > outcomes.total() / 2  # most changes do harm


@pytest.mark.parametrize(
    "case", [case for case in malformed.cases() if case.reader == "values"], ids=lambda case: case.name
)
def test_the_reader_of_rows_refuses_them_by_name_too(case: Case, tmp_path: Path) -> None:
    case.put(tmp_path)
    is_sound = case.name in ("a label out of range", "a bomb")  # the array that is read is
    with in_little_memory():
        assert read_or_refused(tmp_path / "rows.npz", check_rows) == ("read" if is_sound else "refused")


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_many_files_with_a_few_bytes_changed_are_read_or_refused_by_name(target: str, tmp_path: Path) -> None:
    outcomes = fuzz(target, tmp_path, LONG)
    assert outcomes.keys() <= {"read", "refused"} and outcomes.total() >= LONG.max_examples
