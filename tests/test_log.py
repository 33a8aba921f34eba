import json
import os
import subprocess
import sys
from typing import Any

import pytest

from router.log import DEBUG, ERROR, INFO, LEVELS, WARN, Logger, fatal, rfc3339_nanoseconds


class Lines(list[bytes]):
    """A sink that keeps lines."""

    def parsed(self) -> list[dict[str, Any]]:
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in self)
        return [json.loads(line) for line in self]


def logger(lines: Lines, level: int = INFO, *, rfc3339: bool = True) -> Logger:
    return Logger("src", level, rfc3339=rfc3339, sink=lines.append)


def test_line_is_one_compact_object() -> None:
    lines = Lines()
    logger(lines).info("hello", port=80, text='q"\n')
    [line] = lines.parsed()

    assert list(line) == ["log_level", "timestamp", "message", "source", "data"]
    assert (line["log_level"], line["message"], line["source"]) == (INFO, "hello", "src")
    assert line["data"] == {"port": 80, "text": 'q"\n'}
    assert lines[0].startswith(b'{"log_level":1,"timestamp":"')


def test_lines_below_the_level_are_dropped() -> None:
    for level, expected in ((DEBUG, [0, 1, 2, 3]), (INFO, [1, 2, 3]), (WARN, [2, 3]), (ERROR, [3])):
        lines = Lines()
        one = logger(lines, level)
        one.debug("d")
        one.info("i")
        one.warn("w")
        one.error("e")

        assert [line["log_level"] for line in lines.parsed()] == expected


def test_names_of_levels_above_error_mean_error() -> None:
    assert {LEVELS[name] for name in ("error", "dpanic", "panic", "fatal")} == {ERROR}


def test_children_extend_the_source_and_share_the_level() -> None:
    lines = Lines()
    parent = logger(lines)
    child = parent.child("proxy").child("x")
    child.level = WARN
    parent.info("dropped")
    child.error("kept")

    assert parent.level == WARN
    assert [line["source"] for line in lines.parsed()] == ["src.proxy.x"]


def test_time_may_be_a_number() -> None:
    lines = Lines()
    logger(lines, rfc3339=False).info("m")

    assert isinstance(lines.parsed()[0]["timestamp"], float)


def test_time_has_nine_digits_and_a_literal_z() -> None:
    text = rfc3339_nanoseconds(1_700_000_000_000_000_042)

    assert text.endswith(".000000042Z")
    assert len(text) == len("2023-11-14T22:13:20.000000042Z")


class Odd:
    def __str__(self) -> str:
        return "odd one"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(Odd(), "odd one"), (ValueError("v"), "v"), (b"bytes", "Ynl0ZXM="), ("\udc80", "'\\udc80'")],
)
def test_any_value_can_be_logged(value: object, shown: str) -> None:
    lines = Lines()
    logger(lines).info("m", value=value)

    assert lines.parsed()[0]["data"] == {"value": shown}


def test_value_that_cannot_be_written_is_shown_by_its_repr() -> None:
    class Bad:
        def __str__(self) -> str:
            raise ValueError("no text")

        def __repr__(self) -> str:
            return "<bad>"

    lines = Lines()
    logger(lines).info("m", value=Bad())

    assert lines.parsed()[0]["data"] == {"value": "<bad>"}


def test_fatal_logs_and_leaves() -> None:
    lines = Lines()
    with pytest.raises(SystemExit) as caught:
        fatal(logger(lines), "cannot", error="e")

    assert caught.value.code == 1
    assert lines.parsed()[0]["data"] == {"error": "e"}


def test_closed_stdout_is_no_reason_to_stop() -> None:
    code = "import os; os.close(1)\nfrom router.log import Logger\nLogger().info('m')"

    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False).returncode == 0


def test_lines_go_to_stdout_at_once() -> None:
    code = "import os\nfrom router.log import Logger\nLogger().info('first')\nos._exit(0)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)

    assert json.loads(done.stdout)["message"] == "first"


SHOUT = """
import sys
from router.log import Logger
logger = Logger()
for number in range(2000):
    logger.info("m" * 100)
sys.stderr.write("done\\n")
sys.stdin.readline()
logger.info("last")
"""


def test_lines_nobody_reads_are_lost_without_holding_the_process_up_and_counted() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", SHOUT], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.read(5) == b"done\n"
        # Somebody reads again.
        first = process.stdout.read(32768)
        rest, _ = process.communicate(b"go on\n", timeout=60)
    taken = [json.loads(line) for line in (first + rest).splitlines()]

    assert [line["message"] for line in taken[-2:]] == ["last", "log-lines-lost"]
    assert len(taken) - 2 + taken[-1]["data"]["lines"] == 2000
