"""Files that appear whole or not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from jointebm.storage.atomic import new_file


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def write(content: bytes, then: Callable[[], object]) -> None:
        with new_file(tmp_path / "a.npz") as file:
            file.write(content)
            then()

    def disk_full() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(b"half", disk_full)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileExistsError):
        write(b"mine", lambda: (tmp_path / "a.npz").write_text("theirs"))  # somebody else was faster
    assert (tmp_path / "a.npz").read_text() == "theirs" and len(list(tmp_path.iterdir())) == 1
