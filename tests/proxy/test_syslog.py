import os
import re
import socket
from collections.abc import Iterator

import pytest

from router.proxy.syslog import SyslogWriter
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S, wait_until

MESSAGE = re.compile(
    rb"<14>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) (?P<host>\S+) (?P<app>\S+) (?P<pid>\d+) - "
    rb"\xef\xbb\xbf(?P<line>.*)",
    re.DOTALL,
)


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(PATIENCE_S)
        yield receiver


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        yield server


def writer_to(network: str, port: int, problems: list[str], truncate: int = 0) -> SyslogWriter:
    return SyslogWriter(network, "127.0.0.1", port, "vcap.gorouter", truncate, problems.append)


def read_lines(connection: socket.socket, count: int) -> list[bytes]:
    received = b""
    while received.count(b"\n") < count:
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return received.splitlines()


def test_a_line_is_a_datagram_with_the_documented_header(datagrams: socket.socket) -> None:
    writer = writer_to("udp", datagrams.getsockname()[1], [])
    writer.write(b"first line\n")
    writer.write(b"second line\n")
    writer.close()

    first, second = (MESSAGE.fullmatch(datagrams.recv(65536)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first["app"] == b"vcap.gorouter"
    assert first["host"] == socket.gethostname().encode()
    assert first["pid"] == b"%d" % os.getpid()
    assert (first["line"], second["line"]) == (b"first line", b"second line")


def test_lines_over_tcp_end_with_a_line_feed(listener: socket.socket) -> None:
    writer = writer_to("tcp", listener.getsockname()[1], [])
    writer.write(b"one\n")
    writer.write(b"two\n")
    writer.flush()
    connection, _ = listener.accept()
    with connection:
        lines = [MESSAGE.fullmatch(line) for line in read_lines(connection, 2)]
    writer.close()
    assert [line and line["line"] for line in lines] == [b"one", b"two"]


def test_lines_are_cut_to_the_configured_number_of_bytes(datagrams: socket.socket) -> None:
    writer = writer_to("udp", datagrams.getsockname()[1], [], truncate=5)
    writer.write(b"0123456789\n")
    writer.close()
    match = MESSAGE.fullmatch(datagrams.recv(65536))
    assert match is not None
    assert match["line"] == b"01234"


def test_lines_for_a_server_that_is_away_are_counted_and_reported() -> None:
    problems: list[str] = []
    port = free_port()
    writer = writer_to("tcp", port, problems)
    writer.write(b"lost\n")
    writer.flush()
    wait_until(lambda: bool(problems), "the loss is reported")
    assert f"syslog 127.0.0.1:{port}" in problems[0]
    assert "1 lines lost" in problems[0]
    assert writer.dropped == 1
    writer.close()


def test_a_server_that_comes_back_gets_the_lines_from_then_on(listener: socket.socket) -> None:
    problems: list[str] = []
    writer = writer_to("tcp", listener.getsockname()[1], problems)
    writer.write(b"before\n")
    writer.flush()
    connection, _ = listener.accept()
    read_lines(connection, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()

    def lost_one() -> bool:
        writer.write(b"meanwhile\n")
        writer.flush()
        return bool(problems)

    wait_until(lost_one, "the reset is noticed")
    writer.write(b"after\n")
    writer.flush()
    connection, _ = listener.accept()
    with connection:
        match = MESSAGE.fullmatch(read_lines(connection, 1)[0])
    writer.close()
    assert match is not None
    assert match["line"] in (b"meanwhile", b"after")


def test_a_datagram_refused_for_the_one_before_is_sent_again(datagrams: socket.socket) -> None:
    port = free_port()
    writer = writer_to("udp", port, [])
    writer.write(b"nobody there\n")
    writer.flush()
    wait_until(lambda: writer._waiting == 0, "the first one is out")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", port))
        receiver.settimeout(PATIENCE_S)
        writer.write(b"somebody there\n")
        writer.close()
        match = MESSAGE.fullmatch(receiver.recv(65536))
    assert match is not None
    assert match["line"] == b"somebody there"
