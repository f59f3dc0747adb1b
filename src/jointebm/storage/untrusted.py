"""Files that a stranger may have written: their size is looked at before their content, and messages quote them safely."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError

from jointebm.storage.config import Config

__all__ = ["quoted", "read_config", "read_json"]

C = TypeVar("C", bound=Config)

MAX_JSON = 1 << 17  # a description of a thousand blocks; parsed, JSON takes up to a thousand times its size
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


def read_json(path: Path, what: str, *, max_bytes: int = MAX_JSON) -> dict[str, Any]:
    """Reads a JSON object that every parser would read alike: no key twice, no NaN, not nested too deeply.

    Args:
        path: the file.
        what: what it should be, for the message, such as "a model configuration".
        max_bytes: a longer file is refused before it is parsed.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is none, with the file and the reason.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise ValueError(f"longer than {max_bytes} bytes")
        parsed = json.loads(
            content.decode(), object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant
        )
        if not isinstance(parsed, dict):
            raise ValueError(f"expected an object in braces, got {type(parsed).__name__}")
    except RecursionError:
        raise ValueError(f"{path}: not {what}: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path}: not {what}: {quoted(error)}") from None
    return parsed


def read_config(path: Path, what: str, kind: type[C], *, version: int, max_bytes: int = MAX_JSON) -> C:
    """Reads a description from a JSON file.

    Args:
        path: the file.
        what: what it should be, for the message, such as "a model configuration".
        kind: of the description.
        version: of the layout; a file that names another one in `format` is refused.
        max_bytes: a longer file is refused before it is parsed.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not hold such a description, with the file and the first field that is wrong.
    """
    parsed = read_json(path, what, max_bytes=max_bytes)
    found = parsed.get("format", version)
    if found != version:
        raise ValueError(f"{path}: format {quoted(found)}; this version reads format {version}")
    try:
        return kind.model_validate_json(json.dumps(parsed))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'top level'}: {first['msg']}"
        raise ValueError(f"{path}: not {what}: {quoted(reason)}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique: dict[str, Any] = {}
    for name, value in pairs:
        if name in unique:
            raise ValueError(f"key {name!r} stands there twice")
        unique[name] = value
    return unique


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is more than a float can hold")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
