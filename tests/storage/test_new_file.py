"""Files that appear whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from jointebm.storage.atomic import new_file


def test_a_file_appears_whole_or_not_at_all(here: Path) -> None:
    def write(content: bytes, then: Callable[[], object]) -> None:
        with new_file(here / "a.npz") as file:
            file.write(content)
            then()

    def disk_full() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(b"half", disk_full)
    assert list(here.iterdir()) == []
    with pytest.raises(FileExistsError):
        write(b"mine", lambda: (here / "a.npz").write_text("theirs"))  # somebody else was faster
    assert (here / "a.npz").read_text() == "theirs" and len(list(here.iterdir())) == 1
