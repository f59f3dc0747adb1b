"""The present rows of a table model as Python and as a shell command, which give the same rows."""

import json
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from jointebm.tables.codes.codec import Name

__all__ = ["TableHistory", "table_python", "table_shell"]


class TableHistory(NamedTuple):
    """What decides the rows of a page.

    Args:
        source: name of the model, as `jointebm.load` takes it.
        num_rows: rows.
        seed: of all draws.
        first: number of the first row.
        given: as `JointEBM.sample` takes it.
    """

    source: str
    num_rows: int
    seed: int
    first: int
    given: Mapping[Name, Any]


def table_python(history: TableHistory) -> str:
    """Python that leaves the rows of the view in `rows`.

    Example:
        >>> print(table_python(TableHistory("pets", 16, 0, 32, {"kind": "cat", "size": (1.0, None)})))
        import jointebm
        <BLANKLINE>
        model = jointebm.load('pets')
        rows = model.sample(16, given={'kind': 'cat', 'size': (1.0, None)}, seed=0, first=32)
        <BLANKLINE>
    """
    asked = f"{history.num_rows}, given={dict(history.given)!r}, seed={history.seed}, first={history.first}"
    return f"import jointebm\n\nmodel = jointebm.load({history.source!r})\nrows = model.sample({asked})\n"


def table_shell(history: TableHistory) -> str:
    """A shell command that prints the rows of the view as CSV: `jointebm sample`, or Python where that cannot.

    Example:
        >>> print(table_shell(TableHistory("pets", 16, 0, 16, {"kind": ["cat", "dog"], "age": (1, None)})), end="")
        jointebm sample pets --num 32 --given '"kind"={"cat","dog"}' --given '"age"=1..' --seed 0 | tail -n 16
    """
    if not all(isinstance(name, str) for name in history.given):
        return f"python3 - <<'END'\n{table_python(history)}print(rows)\nEND\n"
    words = ["jointebm", "sample", history.source, "--num", str(history.first + history.num_rows)]
    for name, said in history.given.items():
        words += ["--given", f"{json.dumps(name, ensure_ascii=False)}={_said(said)}"]
    cut = f" | tail -n {history.num_rows}" if history.first else ""
    return f"{shlex.join([*words, '--seed', str(history.seed)])}{cut}\n"


def _said(said: Any) -> str:
    """A value, values or an interval in the grammar of `--given`."""
    if said is None:
        return "missing"
    if isinstance(said, tuple):
        low, high = ("" if end is None else str(end) for end in said)
        return f"{low}..{high}"
    if isinstance(said, list):
        return f"{{{','.join(map(_said, said))}}}"
    return json.dumps(said, ensure_ascii=False) if isinstance(said, str) else str(said)
