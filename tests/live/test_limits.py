"""Behaviour 5: heads beyond their limits cost an answer, and no more time or memory than their bytes are worth."""

from collections.abc import Iterator

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.processes import cpu_seconds, resident_bytes
from tests.support.rawclient import BadResponse, RawClient
from tests.support.recorder import RecordingBackend

MEBIBYTE = 1 << 20


@pytest.fixture
def client(live: Live) -> Iterator[RawClient]:
    with live.client() as connected:
        yield connected


@pytest.fixture(scope="module")
def limited(start_live: StartLive) -> Live:
    return start_live({"max_request_header_bytes": 4096, "max_request_headers": 20})


def head(host: str, *fields: str, path: str = "/") -> bytes:
    return "".join(
        [f"GET {path} HTTP/1.1\r\nHost: {host}\r\n", *(f"{field}\r\n" for field in fields), "\r\n"]
    ).encode()


def status_and_end(client: RawClient) -> int:
    """Return the status of an answer behind which the connection is closed."""
    status = client.read_response().status
    assert client.is_closed_by_peer()
    return status


@pytest.mark.parametrize("size", [64, 1000, 16_000, 65_000, 500_000, 1_000_000])
def test_head_below_the_limit_passes(size: int, live: Live, client: RawClient, backend: RecordingBackend) -> None:
    host = live.route(backend)
    for fields in ([f"X-A: {'a' * size}"], [f"X-{number}: {'b' * 50}" for number in range(size // 70)]):
        client.send(head(host, *fields))
        assert client.read_response().status == 200
    assert backend.requests[0].header("X-A") == "a" * size


@pytest.mark.parametrize("size", [MEBIBYTE, 2 * MEBIBYTE])
@pytest.mark.parametrize("shape", ["one field", "many fields", "target"])
def test_head_above_the_limit_is_431(
    shape: str, size: int, live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    shapes = {
        "one field": head(host, "X-A: " + "a" * size),
        "many fields": head(host, *(["X-A: " + "a" * 1000] * (size // 1000))),
        "target": head(host, path="/" + "a" * size),
    }
    client.send(shapes[shape])
    assert status_and_end(client) in (431, 414)
    assert backend.requests == []


def test_endless_head_is_refused_before_its_end(live: Live, client: RawClient, backend: RecordingBackend) -> None:
    host = live.route(backend)
    client.send(head(host)[:-2] + b"X-A: " + b"a" * (3 * MEBIBYTE))
    assert status_and_end(client) == 431
    assert backend.requests == []


def test_endless_request_line_is_refused_before_its_end(live: Live, client: RawClient) -> None:
    client.send(b"GET /" + b"a" * (3 * MEBIBYTE))
    assert status_and_end(client) in (431, 414, 400)


def test_configured_size_is_the_limit(limited: Live, backend: RecordingBackend) -> None:
    host = limited.route(backend)
    # The size is counted as len(method)+len(uri)+len(protocol)+4 + len(host)+8 + each name and value and 4.
    room = 4096 - (3 + 1 + 8 + 4 + len(host) + 8) - (3 + 4)
    for size, status in ((room - 1, 200), (room, 431), (room + 1, 431), (room * 2, 431)):
        with limited.client() as client:
            client.send(head(host, "X-A: " + "a" * size))
            response = client.read_response()
            assert response.status == status
            if status == 431:
                assert response.header("X-Cf-Routererror") == "max-request-size-exceeded"
                assert (response.body, response.header("Connection")) == (b"", "close")
                assert client.is_closed_by_peer()
    assert len(backend.requests) == 1


def test_configured_count_is_the_limit(limited: Live, backend: RecordingBackend) -> None:
    host = limited.route(backend)
    for count, status in ((10, 200), (18, 200), (21, 431), (40, 431)):
        with limited.client() as client:
            client.send(head(host, *(f"X-{number}: 1" for number in range(count))))
            response = client.read_response()
            assert response.status == status
            if status == 431:
                assert response.header("X-Cf-Routererror") == "max-request-size-exceeded"
    assert len(backend.requests) == 2


def test_unknown_route_with_a_large_head_is_404(limited: Live) -> None:
    """The limit is looked at after the route."""
    with limited.client() as client:
        client.send(head("nobody.test", "X-A: " + "a" * 5000))
        assert client.read_response().status in (404, 431)


def test_large_trailers_count_as_head(live: Live, client: RawClient, backend: RecordingBackend) -> None:
    host = live.route(backend)
    client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".encode())
    client.send(b"X-A: " + b"a" * (2 * MEBIBYTE))
    try:
        assert client.read_response().status in (400, 431)
    except BadResponse:
        pass
    assert backend.mark().strict(may_be_cut=True) == []


@pytest.mark.parametrize("extension", [b";" + b"a" * 100_000, b";a=b" * 30_000])
def test_large_chunk_extensions_are_refused(
    extension: bytes, live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    client.send(b"1" + extension + b"\r\nx\r\n0\r\n\r\n")
    assert client.read_response().status == 400


def test_many_small_chunk_extensions_are_refused_in_sum(
    live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    client.send((b"1;" + b"a" * 4000 + b"\r\nx\r\n") * 500 + b"0\r\n\r\n")
    assert client.read_response().status == 400


@pytest.mark.slow
def test_head_of_64_kib_may_come_byte_by_byte(start_live: StartLive, backend: RecordingBackend) -> None:
    """Each byte costs a read, not another scan of all before it: a quadratic scan would take minutes."""
    patient = start_live({"read_header_timeout": "10m"})
    host = patient.route(backend)
    worker = patient.router.worker
    before = cpu_seconds(worker)
    with patient.client() as client:
        client.send_bytewise(head(host, "X-A: " + "a" * 65_000))
        assert client.read_response().status == 200
    assert cpu_seconds(worker) - before < 30


def test_memory_for_huge_heads_is_bounded_and_given_back(live: Live, backend: RecordingBackend) -> None:
    host = live.route(backend)
    worker = live.router.worker
    with live.client() as client:
        assert client.get(host=host).status == 200
    before = resident_bytes(worker)
    clients = [live.client() for _ in range(20)]
    for each in clients:
        each.send(head(host)[:-2] + b"X-A: " + b"a" * 900_000)
    with live.client() as client:
        assert client.get(host=host).status == 200
        assert resident_bytes(worker) - before < 20 * 2 * MEBIBYTE + 20 * MEBIBYTE
    for each in clients:
        each.close()
