"""Every tutorial: its cells run in order, as plain Python, from data that comes with the package."""

import re
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHORTER = {  # what the test runs instead; `make docs` runs the notebooks as they are
    "several_processes": ("num_iterations=400", "num_iterations=100"),
    "table_with_missing_entries": ('"num_visits": 100', '"num_visits": 30'),
}
NOTEBOOKS = [page for page in sorted(FOLDER.glob("*.md")) if CELL.search(page.read_text())]


def test_there_are_five_notebooks() -> None:
    assert len(NOTEBOOKS) == 5


@pytest.mark.slow
@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_cells_of_a_notebook_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells share one namespace; files they write go to a temporary folder, and no data are found elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOINTEBM_DATA", raising=False)
    text, namespace = page.read_text(), {"__name__": "__main__"}
    if page.stem in SHORTER:
        longer, shorter = SHORTER[page.stem]
        assert text.count(longer) == 1
        text = text.replace(longer, shorter)
    for cell in CELL.finditer(text):
        line = text.count("\n", 0, cell.start(1))
        exec(compile("\n" * line + cell[1], str(page), "exec"), namespace)  # noqa: S102
    assert len(namespace) > 5 and not any(name.startswith("matplotlib.pyplot") for name in sys.modules)


@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_a_notebook_names_its_kernel_and_leads_on(page: Path) -> None:
    text = page.read_text()
    assert text.startswith("---\njupytext:\n") and "\nkernelspec:\n" in text
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert links and all((page.parent / link).is_file() for link in links if not link.startswith("https:"))
