"""The site: every page is in its contents, every public name has an entry with an example that runs, and errors are real."""

import ast
import doctest
import importlib
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

import jointebm

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PART = re.compile(r"<!-- site: (\w+) ?(\S*) -->")
MAX_CLICKS = 3
SOURCES = sorted(Path(jointebm.__file__).parent.rglob("*.py"))


def extension(name: str) -> ModuleType:
    """A module of docs/extensions."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(DOCS / "extensions"))
        return importlib.import_module(name)


public_names, command_reference = extension("public_names"), extension("command_reference")
rewritten, as_restructured_text = (
    extension("repository_links").rewritten,
    extension("docstring_text").as_restructured_text,
)
NAMES = [(package, name) for package, names in public_names.packages().items() for name in names]


def contents_of(page: Path) -> set[Path]:
    """Pages in the tables of contents of a page."""
    found = set()
    for block in TREE.findall(page.read_text()):
        for line in filter(None, (line.strip() for line in block.splitlines())):
            if part := PART.fullmatch(line):
                found |= set(DOCS.glob(part[2])) - {page}
            elif not line.startswith(":"):
                target = re.sub(r"^.*<(.*)>$", r"\1", line)
                found.add((page.parent / f"{target}.md").resolve())
    return found


def links_of(page: Path) -> set[Path]:
    """Pages that the text of a page links to, or its tables of contents."""
    links = re.findall(r"\]\(([^)\s#]+\.md)", page.read_text())
    return {(page.parent / link).resolve() for link in links} | contents_of(page)


def test_every_page_is_in_the_contents_once() -> None:
    listed = [target for page in PAGES for target in contents_of(page)]
    assert sorted(listed) == sorted(set(PAGES) - {DOCS / "index.md"})


def test_everything_is_within_three_clicks_of_the_start_page() -> None:
    near, found = {DOCS / "index.md": 0}, [DOCS / "index.md"]
    while found:
        page = found.pop(0)
        for target in (links_of(page) & set(PAGES)) - near.keys():
            near[target] = near[page] + 1
            found.append(target)
    assert {page for page in PAGES if near.get(page, 99) > MAX_CLICKS} == set()
    for name, word in (("tables", "JointEBM("), ("arrays", "Space("), ("images", "pretrained:")):
        page = DOCS / "start" / f"{name}.md"
        assert near[page] == 1 and word in "".join(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S))


def test_every_package_has_its_reference() -> None:
    parts = [PART.findall(page.read_text()) for page in (DOCS / "reference").glob("*.md")]
    assert sorted(argument for part in parts for kind, argument in part if kind == "names") == sorted(
        public_names.packages()
    )
    assert sum(kind == "commands" for part in parts for kind, _ in part) == 1


@pytest.mark.parametrize(("package", "name"), NAMES, ids=lambda each: each)
def test_a_public_name_has_an_entry_with_an_example(package: str, name: str) -> None:
    home = public_names.homes()[f"{package}.{name}"]
    text = public_names.docstring_of(package, name)
    assert home.rpartition(".")[0] in public_names.packages() or home in public_names.packages()
    assert re.search(r"^Example:\n    >>> ", text, re.MULTILINE), f"{package}.{name}: no example"
    assert re.match(r"\S", text), f"{package}.{name}: no first sentence"


def constants() -> Iterator[tuple[str, str, int, str]]:
    """(module, name, line, docstring) of every assignment followed by a docstring with an example."""
    for path in SOURCES:
        body = ast.parse(path.read_text()).body
        for first, second in pairwise(body):
            is_text = isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant)
            if isinstance(first, ast.Assign | ast.AnnAssign) and is_text and ">>>" in str(second.value.value):
                parts = path.relative_to(ROOT / "src").with_suffix("").parts
                target = first.targets[0] if isinstance(first, ast.Assign) else first.target
                yield ".".join(parts).removesuffix(".__init__"), ast.unparse(target), second.lineno, second.value.value


@pytest.mark.parametrize(("module", "name", "line", "text"), list(constants()), ids=lambda each: str(each)[:40])
def test_the_example_of_a_constant_runs(module: str, name: str, line: int, text: str) -> None:
    """Python keeps no docstring of a constant, so that pytest does not find its example."""
    names = dict(vars(importlib.import_module(module)))
    test = doctest.DocTestParser().get_doctest(text, names, f"{module}.{name}", module, line)
    printed: list[str] = []
    assert doctest.DocTestRunner().run(test, out=printed.append).failed == 0, "".join(printed)


def test_examples_of_constants_are_found() -> None:
    assert {("jointebm.data.registry", "DATASETS"), ("jointebm.spaces.blocks", "Block")} <= {
        each[:2] for each in constants()
    }


def test_the_command_line_has_every_command_and_option() -> None:
    from typer.main import get_command

    from jointebm.cli import app

    text = command_reference.reference()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        section = text.partition(f"## `jointebm {name}`\n")[2].partition("\n## ")[0]
        options = {opt for each in command.params if each.param_type_name == "option" for opt in each.opts}
        assert all(len(re.split(r"(?<!\\)\|", line)) == 5 for line in section.splitlines() if line.startswith("|"))
        assert options - {"--help"} <= set(re.findall(r"--?[\w-]+", section)), name


def messages() -> set[str]:
    """Texts in the sources, with ... for what is filled in."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_the_errors_that_are_explained_are_those_of_the_library() -> None:
    headings = re.findall(r"^### `(.*)`$", (DOCS / "faq.md").read_text(), re.MULTILINE)
    assert len(headings) > 20
    known = messages()
    patterns = {text: ".*".join(map(re.escape, text.split("..."))) for text in headings}
    assert [text for text, each in patterns.items() if not any(re.search(each, message) for message in known)] == []


@pytest.mark.parametrize(
    ("link", "path", "expected"),
    [
        ("[a](../CONTRIBUTING.md#rules)", "docs/x.md", "[a](/contributing.md#rules)"),
        ("[a](../examples)", "docs/x.md", "[a](https://github.com/jointebm/jointebm/tree/main/examples)"),
        ("[a](../../README.md#r)", "docs/b/x.md", "[a](https://github.com/jointebm/jointebm/blob/main/README.md#r)"),
        ("[a](docs/scale.md)", "CHANGELOG.md", "[a](/scale.md)"),
        ("[a](https://github.com/jointebm/jointebm/blob/main/docs/x.md#y)", "README.md", "[a](/x.md#y)"),
        ("[a]: https://github.com/jointebm/jointebm/raw/main/docs/figures/x.png", "README.md", "[a]: /figures/x.png"),
        ("[a](https://example.org/docs/x.md) [b](#c)", "docs/x.md", "[a](https://example.org/docs/x.md) [b](#c)"),
        ("```\n[a](../CONTRIBUTING.md)\n```", "docs/x.md", "```\n[a](../CONTRIBUTING.md)\n```"),
    ],
)
def test_links_lead_where_the_site_has_them(link: str, path: str, expected: str) -> None:
    assert rewritten(link, path) == expected


def test_docstrings_are_read_as_text_formulas_and_examples() -> None:
    text = "Moves *x*.\n\n    f = |x|\n\nEnds_ here:\n- one\n\nArgs:\n    x_: `a*b`, >= 0.\n\n"
    text += "Example:\n    >>> a * b\n    '|'"
    assert list(as_restructured_text(text.split("\n"))) == [
        *(r"Moves \*x\*.", "", "", "::", "", "    f = |x|", "", r"Ends\_ here:", "", "- one", "", "Args:"),
        *(r"    x\_: `a*b`, >= 0.", "", "Example:", "    >>> a * b", "    '|'"),
    ]


def test_the_public_names_are_those_of_the_packages() -> None:
    assert {"jointebm.kernels", "jointebm.estimators", "jointebm.training.objectives"} <= public_names.packages().keys()
    assert public_names.homes()["jointebm.Space"] == "jointebm.spaces.Space"
    assert "sphinx" not in sys.modules  # the names need no extra
