"""`tools/phrases.py`: what it finds, where, and what it leaves alone."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "phrases.py"


def run(root: Path) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("The kernel holds still.", "holds still"),
        ("There is none.", "There is none"),
        ("A sampler that goes astray.", "goes astray"),
        ("It was learned by heart.", "by heart"),
        ("'a' stands there twice", "stands there"),
        ("no recipe of that name", "of that name"),
    ],
)
def test_a_phrase_is_named_with_file_and_line(tmp_path: Path, text: str, phrase: str) -> None:
    write(tmp_path / "src" / "package" / "module.py", f'"""Statement."""\n\n# {text}\n')
    code, lines = run(tmp_path)
    assert code == 1 and len(lines) == 1
    assert lines[0].startswith(f"src/package/module.py:3: unclear phrase '{phrase}'; write: ")


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/deep/page.md", "src/card.md"])
def test_every_page_is_read(tmp_path: Path, page: str) -> None:
    write(tmp_path / page, "Drawn anew.\n")
    assert run(tmp_path) == (1, [f"{page}:1: unclear phrase 'anew'; write: again, or a verb with re-"])


def test_a_phrase_that_runs_over_a_line_break_is_found_where_it_begins(tmp_path: Path) -> None:
    write(tmp_path / "src" / "module.py", "# A run that goes\n# on with another.\n")
    code, lines = run(tmp_path)
    assert code == 1 and lines[0].startswith("src/module.py:1: unclear phrase 'goes on with'")


def test_words_that_only_contain_a_phrase_pass(tmp_path: Path) -> None:
    write(tmp_path / "docs" / "page.md", "A manewver, for nothingness: the best byheart.\n")
    assert run(tmp_path) == (0, [])


def test_long_lines_are_found_in_pages_only(tmp_path: Path) -> None:
    write(tmp_path / "docs" / "page.md", "x" * 120 + "\n" + "x" * 121 + "\n")
    write(tmp_path / "src" / "module.py", "x" * 200 + "\n")
    assert run(tmp_path) == (1, ["docs/page.md:2: 121 characters; at most 120"])


def test_a_table_has_at_most_six_columns(tmp_path: Path) -> None:
    def table(columns: int) -> str:
        return "\n".join("|" + cell * columns for cell in ("a|", "---|", " 1 |")) + "\n"

    write(tmp_path / "docs" / "narrow.md", table(6))
    write(tmp_path / "docs" / "wide.md", table(7))
    assert run(tmp_path) == (1, ["docs/wide.md:2: a table of 7 columns; at most 6"])
