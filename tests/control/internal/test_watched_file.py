import os
from pathlib import Path

import pytest

from router.control.internal.watched_file import WatchedFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def rename_over(path: Path, contents: bytes) -> None:
    whole = path.with_suffix(".new")
    whole.write_bytes(contents)
    whole.replace(path)


def write_in_place(path: Path, contents: bytes) -> None:
    """The time of change moves on even where the clock of the file system is coarse."""
    before = os.stat(path).st_mtime_ns
    path.write_bytes(contents)
    os.utime(path, ns=(before + 1, before + 1))


def test_contents_are_returned_once(path: Path) -> None:
    path.write_bytes(b"one")
    file = WatchedFile(path)
    assert file.look() == b"one"
    assert file.look() is None


def test_file_put_in_place_by_renaming_is_read_at_once(path: Path) -> None:
    path.write_bytes(b"one")
    file = WatchedFile(path)
    file.look()
    rename_over(path, b"two")
    assert file.look() == b"two"
    rename_over(path, b"two")
    assert file.look() == b"two"


def test_file_that_is_being_written_is_read_when_it_has_not_changed_between_two_looks(path: Path) -> None:
    path.write_bytes(b"one")
    file = WatchedFile(path)
    file.look()
    write_in_place(path, b"")
    assert file.look() is None
    write_in_place(path, b"half")
    assert file.look() is None
    assert file.look() == b"half"
    assert file.look() is None


def test_missing_file_is_an_error_once_and_read_when_it_is_there(path: Path) -> None:
    file = WatchedFile(path)
    with pytest.raises(FileNotFoundError):
        file.look()
    assert file.look() is None
    path.write_bytes(b"one")
    assert file.look() == b"one"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.look()
    path.write_bytes(b"one")
    assert file.look() == b"one"


def test_directory_is_an_error_once(path: Path) -> None:
    path.mkdir()
    file = WatchedFile(path)
    with pytest.raises(IsADirectoryError):
        file.look()
    assert file.look() is None


def test_symbolic_link_is_followed_to_its_next_target(path: Path, tmp_path: Path) -> None:
    """As a Kubernetes volume replaces its files."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    path.symlink_to("one")
    file = WatchedFile(path)
    assert file.look() == b"one"
    path.unlink()
    path.symlink_to("two")
    assert file.look() == b"two"
