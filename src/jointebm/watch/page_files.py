"""The files of the page, read once: a request names one of them, and opens none."""

from functools import cache
from pathlib import Path

__all__ = ["PAGE_TYPES", "page_files"]

PAGE_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    "": "text/plain",
}


@cache
def page_files() -> dict[str, tuple[bytes, str]]:
    """Content and media type of each file, by its path on the page.

    Example:
        >>> page_files()["/"][1]
        'text/html'
    """
    folder = Path(__file__).with_name("page")
    found = {f"/{file.relative_to(folder).as_posix()}": _read(file) for file in folder.rglob("*") if file.is_file()}
    return {"/": found["/index.html"], **found}


def _read(file: Path) -> tuple[bytes, str]:
    return file.read_bytes(), PAGE_TYPES[file.suffix]
