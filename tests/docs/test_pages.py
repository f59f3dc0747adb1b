"""Every page: its Python runs, its shell lines name real commands, its links and paths lead to files."""

import re
import shlex
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest
from pandas.util import hash_pandas_object

from jointebm.estimators import JointEBM

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
OWN = re.compile(r"https://github\.com/jointebm/jointebm/(?:blob|raw|tree)/main/")
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path, language: str) -> list[str]:
    return [block for found, block in FENCE.findall(page.read_text()) if found == language]


def prose_of(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def shell_lines() -> list[tuple[str, str]]:
    """(page, command) for each line of `jointebm` that is indented or in a block of shell."""
    found = []
    for page in PAGES:
        indented = re.findall(r"^    (jointebm .*)$", prose_of(page), re.MULTILINE)
        fenced = [
            line for block in blocks_of(page, "sh") for line in block.splitlines() if line.startswith("jointebm ")
        ]
        found += [(name_of(page), line) for line in (*indented, *fenced)]
    return found


def links_of(page: Path) -> list[str]:
    text = prose_of(page)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """Names of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def fit_once() -> Iterator[None]:
    """A fit that two pages show is done once: equal parameters and rows give equal models."""
    fit, fitted = JointEBM.fit, {}

    def remembered(self: JointEBM, X: object) -> JointEBM:  # noqa: N803
        if not isinstance(X, pd.DataFrame):
            return fit(self, X)
        key = f"{self.get_params()} {list(X.columns)} {hash_pandas_object(X).to_numpy().tobytes()!r}"
        if key not in fitted:
            fitted[key] = vars(fit(self, X))
        vars(self).update(deepcopy(fitted[key]))
        return self

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(JointEBM, "fit", remembered)
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("fit_once")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page, "python")], ids=name_of)
def test_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks share one namespace, in their order; files they write go to a temporary folder."""
    monkeypatch.chdir(tmp_path)
    text, namespace = page.read_text(), {"__name__": "page"}
    blocks = [match for match in FENCE.finditer(text) if match[1] == "python"]
    for match in blocks:
        line = text.count("\n", 0, match.start(2))
        exec(compile("\n" * line + match[2], name_of(page), "exec"), namespace)  # noqa: S102
    assert len(blocks) == len(blocks_of(page, "python")) and len(namespace) > 2  # all of them ran, and made something


def test_readme_has_python_for_both_kinds_of_model() -> None:
    code = "".join(blocks_of(ROOT / "README.md", "python"))
    assert "JointEBM(" in code and "Space(" in code


@pytest.mark.parametrize(("page", "line"), shell_lines())
def test_shell_line_names_a_real_command_with_real_options(page: str, line: str) -> None:
    from typer.main import get_command

    from jointebm.cli import app

    _, name, *words = shlex.split(line, comments=True)
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert used <= known, f"{page}: {sorted(used - known)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_into_the_repository_lead_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in links_of(page):
        path, _, anchor = OWN.sub("", link).partition("#")
        if path.startswith(("http:", "https:")):
            continue
        base = ROOT if OWN.match(link) else page.parent
        target = (base / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def test_links_of_the_readme_are_absolute() -> None:
    """The page is also shown by package indexes, where relative links lead nowhere."""
    assert [link for link in links_of(ROOT / "README.md") if not link.startswith("https://")] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_paths_named_on_a_page_exist(page: Path) -> None:
    """From the root anywhere on a page; in backticks, Python files also from the package or the tests."""
    text = page.read_text()
    named = set(re.findall(r"(?<![\w/.-])((?:src|tests|benchmarks|examples|tools|docs)/[\w./*-]*[\w*/])", text))
    files = {path for path in re.findall(r"`([\w*-]+(?:/[\w*-]+)+\.py)`", text) if path not in named}
    roots = (ROOT, ROOT / "src" / "jointebm", ROOT / "tests")
    patterns = {path: path.replace("NAME", "*") + "*" if "NAME" in path else path.rstrip("/") for path in named}
    missing = [path for path, pattern in patterns.items() if not any(ROOT.glob(pattern))]
    missing += [path for path in files if not any(any(root.glob(path)) for root in roots)]
    assert sorted(missing) == []


def test_readme_is_at_most_120_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
