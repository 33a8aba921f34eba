"""Behaviour 8: backends that fail or lie. The client sees an error or a truncation, never a lie passed on."""

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.live.conftest import Live
from tests.support.rawclient import RawClient, Truncated
from tests.support.recorder import Conversation, MakeBackend, RecordingBackend, Script, answering
from tests.support.waiting import PATIENCE_S

BAD_GATEWAY = b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
OWN = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown"


def ok_with(*lines: bytes, body: bytes = b"ok") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *lines]) + b"\r\n\r\n" + body


INVALID_HEADS = {
    "no HTTP at all": b"garbage\r\n\r\n",
    "an SSH banner": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "empty lines": b"\r\n\r\n\r\n\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "two-digit status": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "four-digit status": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "status of letters": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "negative status": b"HTTP/1.1 -20 OK\r\nContent-Length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "version 2": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "version 0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "Icecast": b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
    "leading space": b" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "leading NUL": b"\0HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "tabs in the status line": b"HTTP/1.1\t200\tOK\r\nContent-Length: 0\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    "two lengths": ok_with(b"Content-Length: 2", b"Content-Length: 3"),
    "lengths in a list": ok_with(b"Content-Length: 2, 3"),
    "negative length": ok_with(b"Content-Length: -2"),
    "signed length": ok_with(b"Content-Length: +2"),
    "length of letters": ok_with(b"Content-Length: two"),
    "huge length": ok_with(b"Content-Length: 99999999999999999999"),
    "empty length": ok_with(b"Content-Length:"),
    "length and chunked": ok_with(
        b"Content-Length: 2", b"Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"
    ),
    "chunked and length": ok_with(
        b"Transfer-Encoding: chunked", b"Content-Length: 2", body=b"2\r\nok\r\n0\r\n\r\n"
    ),
    "two codings": ok_with(
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"
    ),
    "unknown coding": ok_with(b"Transfer-Encoding: xchunked", body=b"2\r\nok\r\n0\r\n\r\n"),
    "coding list": ok_with(b"Transfer-Encoding: gzip, chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
    "chunked then identity": ok_with(b"Transfer-Encoding: chunked, identity", body=b"2\r\nok\r\n0\r\n\r\n"),
    "coding in HTTP/1.0": ok_with(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n").replace(b"1.1", b"1.0"),
    "NUL in a value": ok_with(b"Content-Length: 2", b"X-A: 1\0"),
    "bare CR in a value": ok_with(b"Content-Length: 2", b"X-A: 1\r2"),
    "control byte in a value": ok_with(b"Content-Length: 2", b"X-A: \x01"),
    "no colon": ok_with(b"Content-Length: 2", b"X-A"),
    "space before the colon": ok_with(b"Content-Length : 2"),
    "empty name": ok_with(b"Content-Length: 2", b": 1"),
    "space in a name": ok_with(b"Content-Length: 2", b"X A: 1"),
    "NUL in a name": ok_with(b"Content-Length: 2", b"X\0A: 1"),
    "leading folded line": b"HTTP/1.1 200 OK\r\n X: 1\r\nContent-Length: 2\r\n\r\nok",
    "switch nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
}
AMBIGUOUS_HEADS = {
    "bare LF line ends": ok_with(b"Content-Length: 2").replace(b"\r\n", b"\n"),
    "one bare LF": ok_with(b"Content-Length: 2", b"X-A: 1").replace(b"2\r\n", b"2\n"),
    "obs-fold": ok_with(b"Content-Length: 2", b"X-A: 1\r\n 2"),
    "equal lengths twice": ok_with(b"Content-Length: 2", b"Content-Length: 2"),
    "latin-1 in a value": ok_with(b"Content-Length: 2", b"X-A: \xfc"),
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "empty reason": b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    "status 999": b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok",
    "leading CRLF": b"\r\n" + ok_with(b"Content-Length: 2"),
    "upgrade fields on 200": ok_with(b"Content-Length: 2", b"Connection: upgrade", b"Upgrade: websocket"),
    "forbidden trailer": ok_with(b"Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n"),
}
BROKEN_BODIES = {
    "chunk size of letters": b"xyz\r\nok\r\n0\r\n\r\n",
    "negative chunk size": b"-2\r\nok\r\n0\r\n\r\n",
    "0x chunk size": b"0x2\r\nok\r\n0\r\n\r\n",
    "overlong chunk size": b"1" + b"0" * 20 + b"\r\nok\r\n0\r\n\r\n",
    "chunk longer than its size": b"2\r\nokok\r\n0\r\n\r\n",
    "no CRLF after a chunk": b"2\r\nok0\r\n\r\n",
    "second chunk broken": b"2\r\nok\r\nzz\r\nok\r\n0\r\n\r\n",
    "malformed trailer": b"2\r\nok\r\n0\r\nX A: 1\r\n\r\n",
    "NUL in a trailer": b"2\r\nok\r\n0\r\nX: \0\r\n\r\n",
}


def first_then_own(first: bytes, *, then: Callable[[Conversation], None] = Conversation.wait_for_end) -> Script:
    """The first connection sends these bytes and goes on as told; all others answer 200 ``own``."""

    def script(conversation: Conversation) -> None:
        if conversation.number:
            answering(OWN)(conversation)
        conversation.read_request()
        conversation.send(first)
        then(conversation)

    return script


def finish(conversation: Conversation) -> None:
    """End with FIN."""


def reset(conversation: Conversation) -> None:
    conversation.reset()


@pytest.fixture
def fresh(live: Live) -> Iterator[RawClient]:
    with live.client() as client:
        yield client


@pytest.mark.parametrize("name", INVALID_HEADS)
def test_invalid_response_head_is_502_and_its_connection_is_not_used_again(
    name: str, live: Live, fresh: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(first_then_own(INVALID_HEADS[name]))
    host = live.route(backend)
    response = fresh.get(host=host)
    assert (response.status, response.body) == (502, BAD_GATEWAY)
    assert (response.header("X-Cf-Routererror") or "").startswith("endpoint_failure (")
    assert fresh.get(host=host).body == b"own"
    assert [len(conversation.requests) for conversation in backend.conversations] == [1, 1], "one attempt each"


@pytest.mark.parametrize("name", AMBIGUOUS_HEADS)
def test_ambiguous_response_head_is_502_or_made_clean(
    name: str, live: Live, fresh: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(first_then_own(AMBIGUOUS_HEADS[name]))
    host = live.route(backend)
    response = fresh.get(host=host)
    assert (response.status, response.body) in [(200, b"ok"), (999, b"ok"), (502, BAD_GATEWAY)]
    assert response.values("Upgrade") == []
    assert [key for key, _ in response.trailers] == []


@pytest.mark.parametrize("name", BROKEN_BODIES)
def test_broken_chunked_body_is_cut_off_at_the_client(
    name: str, live: Live, fresh: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(first_then_own(ok_with(b"Transfer-Encoding: chunked", body=BROKEN_BODIES[name])))
    host = live.route(backend)
    fresh.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    # Nothing of the response had left when the fault was found: a 502 is as honest as a truncation.
    try:
        assert fresh.read_response().status == 502
    except Truncated:
        pass
    with live.client() as other:
        assert other.get(host=host).body == b"own"


CUTS = {
    "length": ok_with(b"Content-Length: 10", body=b"01234"),
    "length, no byte": ok_with(b"Content-Length: 10", body=b""),
    "chunk": ok_with(b"Transfer-Encoding: chunked", body=b"a\r\n01234"),
    "between chunks": ok_with(b"Transfer-Encoding: chunked", body=b"5\r\n01234\r\n"),
    "before any chunk": ok_with(b"Transfer-Encoding: chunked", body=b""),
    "last chunk": ok_with(b"Transfer-Encoding: chunked", body=b"5\r\n01234\r\n0\r\n"),
    "trailers": ok_with(b"Transfer-Encoding: chunked", body=b"5\r\n01234\r\n0\r\nX: 1\r\n"),
}


@pytest.mark.parametrize("ending", [finish, reset], ids=["fin", "reset"])
@pytest.mark.parametrize("name", CUTS)
def test_end_before_the_announced_end_is_seen_by_the_client(
    name: str, ending: Callable[[Conversation], None], live: Live, fresh: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(first_then_own(CUTS[name], then=ending))
    host = live.route(backend)
    fresh.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    # 502 is right while nothing of the response has left the router.
    try:
        assert fresh.read_response().status == 502
    except Truncated:
        assert fresh.ended
    assert len(backend.requests) == 1, "no retry after the first response byte"
    with live.client() as other:
        assert other.get(host=host).body == b"own"


def test_response_cut_after_its_start_was_relayed_is_truncated(live: Live, make_backend: MakeBackend) -> None:
    relayed: list[Conversation] = []

    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(ok_with(b"Content-Length: 10", body=b"01234"))
        relayed.append(conversation)
        conversation.wait_for_end()

    backend = make_backend(script)
    host = live.route(backend)
    with live.client() as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        while client.read_line() != b"\r\n":
            pass
        assert client.read_exactly(5) == b"01234"
        backend.close()
        with pytest.raises(Truncated):
            client.read_exactly(1)


@pytest.mark.parametrize("ending", [finish, reset], ids=["fin", "reset"])
@pytest.mark.parametrize("length", [1, 8, 12, 16, 17, 30])
def test_head_cut_short_is_502_without_another_attempt(
    length: int, ending: Callable[[Conversation], None], live: Live, fresh: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(first_then_own(ok_with(b"Content-Length: 10")[:length], then=ending))
    host = live.route(backend)
    response = fresh.get(host=host)
    assert (response.status, response.body) == (502, BAD_GATEWAY)
    assert len(backend.requests) == 1


def test_body_that_ends_with_the_connection_comes_whole(
    live: Live, fresh: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(answering(ok_with(b"X-A: 1", body=b"until close"), close=True))
    host = live.route(backend)
    for _ in range(2):
        response = fresh.get(host=host)
        assert (response.body, response.framing) == (b"until close", "chunked")


def test_body_that_ends_with_a_reset_is_truncated(live: Live, fresh: RawClient, make_backend: MakeBackend) -> None:
    backend = make_backend(first_then_own(ok_with(b"X-A: 1", body=b"until"), then=reset))
    host = live.route(backend)
    fresh.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    try:
        assert fresh.read_response().status == 502
    except Truncated:
        assert fresh.ended


def test_http_1_0_backend_is_understood(live: Live, fresh: RawClient, make_backend: MakeBackend) -> None:
    backend = make_backend(answering(b"HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\nold", close=True))
    host = live.route(backend)
    for _ in range(2):
        response = fresh.get(host=host)
        assert (response.version, response.body, response.header("X-A")) == ("HTTP/1.1", b"old", "1")


def test_storm_of_interim_responses_ends_in_502(live: Live, fresh: RawClient, make_backend: MakeBackend) -> None:
    storm = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 10_000
    backend = make_backend(first_then_own(storm))
    host = live.route(backend)
    fresh.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    try:
        response = fresh.read_response()
        assert response.status == 502
        assert len(response.interim) < 1000
    except Truncated:
        assert fresh.ended
    with live.client() as other:
        assert other.get(host=host).body == b"own"


@pytest.mark.parametrize("shape", ["one long field", "many fields", "endless status line", "no line end"])
def test_response_head_without_bound_is_502(
    shape: str, live: Live, fresh: RawClient, make_backend: MakeBackend
) -> None:
    filler = b"a" * (11 << 20)
    shapes = {
        "one long field": ok_with(b"X-A: " + filler, b"Content-Length: 2"),
        "many fields": ok_with(*([b"X-A: " + b"b" * 1000] * (11 << 10)), b"Content-Length: 2"),
        "endless status line": b"HTTP/1.1 200 " + filler,
        "no line end": b"HTTP/1.1 200 OK\r\n" + filler,
    }
    backend = make_backend(first_then_own(shapes[shape]))
    host = live.route(backend)
    assert fresh.get(host=host).status == 502
    with live.client() as other:
        assert other.get(host=host).body == b"own"


def test_200_never_switches_protocols(live: Live, make_backend: MakeBackend) -> None:
    """An answer other than 101 to an upgrade is framed like any other: what follows is no tunnel."""
    answer = ok_with(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 2")
    backend = make_backend(answering(answer))
    host = live.route(backend)
    ask = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
    with live.client() as client:
        client.send(ask + b"GET /tunnelled HTTP/1.1\r\nHost: nowhere.test\r\n\r\n")
        assert client.read_response().body == b"ok"
        if not client.is_closed_by_peer():
            assert client.read_response().status == 404
    assert [request.target for request in backend.requests] == ["/"]


def _extra_bytes_rounds(live: Live, make_backend: MakeBackend, rounds: int) -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    all_sent = threading.Semaphore(0)

    def script(conversation: Conversation) -> None:
        while True:
            request = conversation.read_request()
            body = request.target.encode()
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            if len(body) % 2:
                conversation.send(answer + evil)
            else:
                conversation.send(answer)
                conversation.send(evil)
            all_sent.release()

    backend = make_backend(script)
    host = live.route(backend)
    clients = [live.client() for _ in range(4)]
    try:
        for number in range(rounds):
            path = "/" + "x" * (number % 2) + str(number)
            response = clients[number % 4].get(path, host=host)
            assert response.body == path.encode()
            # What a backend sends on a connection only after the next request is on it, nobody can tell apart.
            assert all_sent.acquire(timeout=PATIENCE_S)
    finally:
        for client in clients:
            client.close()


def test_extra_bytes_after_a_body_are_never_given_to_the_next_client(
    live: Live, make_backend: MakeBackend
) -> None:
    """Scaled down to 500 rounds; the full figure is in the slow twin."""
    _extra_bytes_rounds(live, make_backend, 500)


@pytest.mark.slow
def test_extra_bytes_are_never_mixed_up_in_ten_thousand_rounds(live: Live, make_backend: MakeBackend) -> None:
    _extra_bytes_rounds(live, make_backend, 10_000)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_body_where_none_may_be_is_not_relayed(
    status: str, live: Live, fresh: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(first_then_own(f"HTTP/1.1 {status}\r\n\r\nsurplus".encode()))
    host = live.route(backend)
    assert fresh.get(host=host).status == int(status[:3])
    assert fresh.get(host=host).body == b"own"


def test_body_to_head_is_not_relayed(live: Live, fresh: RawClient, make_backend: MakeBackend) -> None:
    backend = make_backend(first_then_own(ok_with(b"Content-Length: 2")))
    host = live.route(backend)
    fresh.send(f"HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert fresh.read_response("HEAD").header("Content-Length") == "2"
    assert fresh.get(host=host).body == b"own"


def test_lying_backend_leaves_other_routes_alone(
    live: Live, backend: RecordingBackend, make_backend: MakeBackend
) -> None:
    good = live.route(backend)
    with live.client() as bystander:
        for answer in INVALID_HEADS.values():
            liar = live.route(make_backend(first_then_own(answer)))
            with live.client() as client:
                client.get(host=liar)
            assert bystander.get(host=good).body == b"ok"


def test_response_split_at_every_byte_is_relayed(live: Live, fresh: RawClient, make_backend: MakeBackend) -> None:
    answer = ok_with(
        b"Transfer-Encoding: chunked", b"X-A: 1", body=b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 9\r\n\r\n"
    )

    def script(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            for position in range(len(answer)):
                conversation.send(answer[position : position + 1])

    host = live.route(make_backend(script))
    for _ in range(3):
        response = fresh.get(host=host)
        assert (response.body, response.header("X-A")) == (b"hello world", "1")
        assert response.trailers == [("X-Sum", "9")]
