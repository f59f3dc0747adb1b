"""The README's Python runs as it stands, and its shell lines name real commands and options."""

import re
import shlex
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_every_python_block_of_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})  # noqa: S102


@pytest.mark.parametrize("line", re.findall(r"^    (jointebm .*)$", README, re.MULTILINE))
def test_every_command_of_the_readme_exists_with_its_options(line: str) -> None:
    from typer.main import get_command

    from jointebm.cli import app

    _, name, *words = shlex.split(line, comments=True)
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    used = {word for word in words if word.startswith("--")}
    assert used <= known


def test_every_relative_link_of_the_readme_leads_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (Path(__file__).parents[2] / target).exists()] == []
