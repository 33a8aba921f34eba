import os
import threading
from pathlib import Path

import pytest

from router.proxy import log_writer
from router.proxy.log_writer import LogWriter
from tests.support.waiting import wait_until


class Problems(list[str]):
    """What went wrong, as told by the writer's thread."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def test_lines_reach_the_file_with_the_flush(file: Path) -> None:
    writer = LogWriter(str(file), Problems().append)
    writer.write(b"one\n")
    writer.write(b"two\n")
    assert file.read_bytes() == b""

    writer.flush()
    wait_until(lambda: file.read_bytes() == b"one\ntwo\n", "lines are written")
    writer.close()


def test_file_is_appended_to_and_readable_by_others(file: Path) -> None:
    file.write_bytes(b"old\n")
    for line in (b"one\n", b"two\n"):
        writer = LogWriter(str(file), Problems().append)
        writer.write(line)
        writer.close()

    assert file.read_bytes() == b"old\none\ntwo\n"


def test_new_file_has_mode_0644(file: Path) -> None:
    before = os.umask(0)
    try:
        LogWriter(str(file), Problems().append).close()
    finally:
        os.umask(before)

    assert file.stat().st_mode & 0o777 == 0o644


def test_large_batch_is_written_without_waiting_for_the_flush(file: Path) -> None:
    writer = LogWriter(str(file), Problems().append)
    lines = [b"%06d %b\n" % (number, b"x" * 100) for number in range(1000)]
    for line in lines:
        writer.write(line)

    wait_until(lambda: file.stat().st_size > 0, "first batch")
    writer.close()
    assert file.read_bytes() == b"".join(lines)


def test_rotation_loses_and_repeats_no_line(file: Path) -> None:
    writer = LogWriter(str(file), Problems().append)
    writer.write(b"before\n")
    rotated = file.rename(file.with_suffix(".1"))
    writer.reopen()
    writer.write(b"after\n")
    writer.close()

    assert rotated.read_bytes() == b"before\n"
    assert file.read_bytes() == b"after\n"


def test_file_that_cannot_be_reopened_keeps_the_old_one(file: Path) -> None:
    problems = Problems()
    writer = LogWriter(str(file), problems.append)
    moved = file.rename(file.with_suffix(".1"))
    file.mkdir()
    writer.reopen()
    writer.write(b"line\n")
    writer.close()

    assert moved.read_bytes() == b"line\n"
    assert problems == [f"{file}: Is a directory; still writing to the old file"]


def test_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        LogWriter(str(tmp_path / "missing" / "access.log"), Problems().append)


def test_full_disk_loses_lines_and_says_so() -> None:
    problems = Problems()
    writer = LogWriter("/dev/full", problems.append)
    writer.write(b"line\n")
    writer.write(b"line\n")
    writer.flush()
    wait_until(lambda: writer.dropped == 2, "lines are counted as lost")
    writer.close()

    assert problems == ["/dev/full: No space left on device; 2 lines lost"]


def test_writer_that_cannot_write_holds_up_nobody_and_drops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "_WAITING_BYTES", 1_000_000)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = LogWriter(str(pipe), Problems().append)
    for _ in range(4000):
        writer.write(b"x" * 999 + b"\n")
    writer.flush()
    dropped = writer.dropped
    received = 0

    def read_all() -> None:
        nonlocal received
        while piece := os.read(reader, 65536):
            received += len(piece)

    os.set_blocking(reader, True)
    thread = threading.Thread(target=read_all)
    thread.start()
    writer.close()
    thread.join()
    os.close(reader)

    assert 0 < dropped < 4000
    assert received == (4000 - dropped) * 1000
