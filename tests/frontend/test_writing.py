import pytest

from router.frontend.writing import interim_head, response_head, switch_head, version_not_supported


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


def test_other_version_is_refused_in_gorouters_words() -> None:
    head, _, body = version_not_supported(b"Date: d").partition(b"\r\n\r\n")

    assert body == b"505 HTTP Version Not Supported: unsupported protocol version"
    assert head.split(b"\r\n")[0] == b"HTTP/1.1 " + body
    assert b"Content-Length: %d" % len(body) in head
    assert head.endswith(b"Connection: close")
