"""Names of columns inside the text of a relation, such as 'total = a + b'."""

import json
import re

from jointebm.tables.codes.codec import Name

__all__ = ["written_name"]

_PLAIN = re.compile(r"[^\s\"=<>&]+( [^\s\"=<>&+-]+)*")


def written_name(name: Name) -> str:
    """A name as it stands in the text of a relation: in double quotes if it holds signs or looks like a number.

    Example:
        >>> written_name("net pay"), written_name("a + b"), written_name(3)
        ('net pay', '"a + b"', '3')
    """
    if isinstance(name, int):
        return str(name)
    plain = _PLAIN.fullmatch(name) and name not in ("+", "-", "->") and not name.replace(".", "", 1).isdigit()
    return name if plain else json.dumps(name, ensure_ascii=False)
