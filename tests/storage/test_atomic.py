"""Atomic files and folders: whole or not at all at every failing call, nothing overwritten, and one module that renames."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jointebm.storage import atomic
from support.failing_disk import fails_after


def file(path: Path) -> None:
    with atomic.new_file(path) as target:
        target.write(b"new")


def folder(path: Path) -> None:
    with atomic.new_folder(path) as scratch:
        atomic.write_file(scratch / "a", b"new")
        atomic.write_file(scratch / "b", b"new")


def replaced_file(path: Path) -> None:
    atomic.replace_file(path, b"new")


def replaced_folder(path: Path) -> None:
    with atomic.replace_folder(path) as scratch:
        atomic.write_file(scratch / "a", b"new")


def content(path: Path) -> dict[str, bytes]:
    return {str(found.relative_to(path)): found.read_bytes() for found in path.rglob("*") if found.is_file()}


@pytest.mark.parametrize("write", [file, folder])
def test_a_new_path_appears_whole_or_not_at_all_whichever_call_fails(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "whole" / "x")
    whole = content(tmp_path / "whole")
    for num_passing in range(100):
        place = tmp_path / f"{num_passing}"
        place.mkdir()
        if not fails_after(num_passing, lambda place=place: write(place / "x"), monkeypatch):  # type: ignore[misc]
            assert content(place) == whole and num_passing > 1
            return
        assert content(place) in ({}, whole) and all(path.name == "x" for path in place.iterdir())
    pytest.fail("never got through")


@pytest.mark.parametrize("write", [replaced_file, replaced_folder])
def test_a_replaced_path_is_the_old_or_the_new_one_whichever_call_fails(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for num_passing in range(100):
        place = tmp_path / f"{num_passing}"
        place.mkdir()
        if write is replaced_file:
            (place / "x").write_bytes(b"old")
        else:
            (place / "x").mkdir()
            (place / "x" / "a").write_bytes(b"old")
        failed = fails_after(num_passing, lambda place=place: write(place / "x"), monkeypatch)  # type: ignore[misc]
        found = content(place)
        assert found.get("x", found.get("x/a")) in (b"old", b"new")
        assert not any(name.startswith(".") for name in found)
        if not failed:
            assert b"new" in found.values() and num_passing > 1
            return
    pytest.fail("never got through")


@pytest.mark.parametrize("write", [file, folder])
def test_nothing_is_overwritten_even_if_it_appears_meanwhile(write: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"theirs")
    with pytest.raises(FileExistsError, match="x: exists"):
        write(tmp_path / "x")
    (tmp_path / "x").unlink()
    new = atomic.new_file if write is file else atomic.new_folder
    with pytest.raises(OSError, match=r"exists|Not a directory"), new(tmp_path / "x"):
        (tmp_path / "x").write_bytes(b"theirs")
    assert content(tmp_path) == {"x": b"theirs"}


def test_a_removed_folder_is_gone_and_a_half_removed_one_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "x")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: (path / "a").unlink())  # killed in the middle
        atomic.remove_folder(tmp_path / "x")
    assert not (tmp_path / "x").exists() and content(tmp_path) != {}
    atomic.sweep_folder(tmp_path)
    assert content(tmp_path) == {}


def test_an_ending_that_is_not_allowed_is_named_without_an_option_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^.*drawn\.txt: ends in '\.txt', expected \.npz or \.csv$") as raised:
        atomic.check_new(tmp_path / "drawn.txt", ".npz", ".csv")
    assert "--" not in str(raised.value)
