"""Files that a stranger may have written: bounded in size, parsed without running anything, quoted safely in messages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from jointebm.storage.config import Config

__all__ = ["MAX_JSON", "quoted", "read_config", "read_json", "reason_of"]

_C = TypeVar("_C", bound=Config)
_T = TypeVar("_T")

MAX_JSON = 1 << 17  # bytes; a description of a thousand blocks
MAX_QUOTED = 300


def quoted(content: object) -> str:
    """Text for a message: one line, cut if it is long, and with nothing in it that a terminal would act on.

    Example:
        >>> quoted("a block\\nnamed \\x1b[2J")
        'a block named \\\\x1b[2J'
    """
    text = " ".join(str(content).split())
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


def reason_of(error: ValidationError) -> str:
    """The first field that is wrong, and why, as one line for a message."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    return quoted(f"{'.'.join(map(str, first['loc'])) or 'top level'}: {message}")


def read_json(path: Path, what: str, *, max_bytes: int = MAX_JSON) -> dict[str, Any]:
    """Reads a JSON object from a file, which is refused before it is parsed if it is longer than `max_bytes`.

    A ValueError names the file, what it should be, such as "a model configuration", and what is wrong with it.
    """
    return _parsed(path, what, TypeAdapter(dict[str, Any]).validate_json, max_bytes)


def read_config(path: Path, what: str, kind: type[_C], *, max_bytes: int = MAX_JSON) -> _C:
    """Reads a description of a kind from a JSON file, as `read_json` does; an error names the first wrong field."""
    return _parsed(path, what, kind.model_validate_json, max_bytes)


def _parsed(path: Path, what: str, parse: Callable[[bytes], _T], max_bytes: int) -> _T:
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{path}: not {what}: longer than {max_bytes} bytes")
    try:
        return parse(content)
    except ValidationError as error:
        raise ValueError(f"{path}: not {what}: {reason_of(error)}") from None
