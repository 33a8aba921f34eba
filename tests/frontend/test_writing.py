import pytest

from router.frontend.writing import interim_head, refusal, response_head, switch_head
from router.proxy.reply import bad_request


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((200, [b"X: 1"], 5, 1, True, False), b"HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 5\r\n\r\n"),
        ((200, [], -1, 1, True, True), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ((204, [], -2, 1, True, False), b"HTTP/1.1 204 No Content\r\n\r\n"),
        ((200, [], 0, 1, False, False), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        ((200, [], 0, 0, True, False), b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"),
        ((200, [], -1, 0, False, False), b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n"),
        ((999, [], 0, 1, True, False), b"HTTP/1.1 999 status code 999\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_response_head(arguments: tuple[int, list[bytes], int, int, bool, bool], expected: bytes) -> None:
    for _ in range(2):
        assert response_head(*arguments) == expected


def test_lines_given_are_left_as_they_are() -> None:
    lines = [b"X: 1"]
    response_head(200, lines, 5, 1, False, False)

    assert lines == [b"X: 1"]


def test_interim_head() -> None:
    assert interim_head(103, [b"Link: x"]) == b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    assert interim_head(100, []) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_switch_head() -> None:
    expected = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    assert switch_head([b"Upgrade: websocket"]) == expected


@pytest.mark.parametrize(
    ("status", "cause", "status_line"),
    [
        (505, "unsupported protocol version", b"505 HTTP Version Not Supported: unsupported protocol version"),
        (400, "missing required Host header", b"400 Bad Request: missing required Host header"),
        (400, "invalid URL escape", b"400 Bad Request"),
        (501, "Unsupported transfer encoding", b"501 Not Implemented"),
    ],
)
def test_refusal_says_what_is_wrong_in_its_status_line(status: int, cause: str, status_line: bytes) -> None:
    answer = bad_request(status, cause)
    head, _, body = refusal(answer, b"Date: d").partition(b"\r\n\r\n")

    assert body == answer.body
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 " + status_line,
        b"Content-Type: text/plain; charset=utf-8",
        b"Date: d",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
    ]
