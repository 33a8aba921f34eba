"""Behaviour 2 and the framing of bodies: what goes in comes out, whole, once, in order, in both directions."""

import hashlib
import random
from collections.abc import Iterator

import pytest

from tests.live.conftest import Live
from tests.support.rawclient import BadResponse, RawClient
from tests.support.recorder import CONTINUE, OK, Conversation, MakeBackend, RecordingBackend, answering


def echo(conversation: Conversation) -> None:
    """Send back the request's body, framed as it came."""
    while True:
        request = conversation.read_request()
        if request.header("Transfer-Encoding"):
            pieces = [request.body[start : start + 1000] for start in range(0, len(request.body), 1000)]
            coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n")
        else:
            conversation.answer(request.body)


def request(host: str, *lines: str, method: str = "POST", path: str = "/", body: bytes = b"") -> bytes:
    head = "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines])
    return head.encode() + b"\r\n\r\n" + body


@pytest.fixture
def client(live: Live) -> Iterator[RawClient]:
    with live.client() as connected:
        yield connected


@pytest.mark.parametrize("size", [0, 1, 2, 1000, 16_383, 16_384, 65_536, 300_000, 3_000_000])
def test_body_with_a_length_goes_both_ways_unchanged(
    size: int, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(echo)
    host = live.route(backend)
    body = random.Random(size).randbytes(size)
    for _ in range(2):
        client.send(request(host, f"Content-Length: {size}", body=body))
        response = client.read_response()
        assert (response.framing, response.body) == ("length", body)
    assert [each.header("Content-Length") for each in backend.requests] == [str(size)] * 2


@pytest.mark.parametrize("size", [0, 1, 1000, 65_536, 300_000, 3_000_000])
def test_chunked_body_goes_both_ways_unchanged(
    size: int, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(echo)
    host = live.route(backend)
    body = random.Random(size).randbytes(size)
    for piece in (777, 100_000):
        coded = b"".join(
            b"%x\r\n%b\r\n" % (len(body[at : at + piece]), body[at : at + piece]) for at in range(0, size, piece)
        )
        client.send(request(host, "Transfer-Encoding: chunked", body=coded + b"0\r\n\r\n"))
        response = client.read_response()
        assert (response.framing, response.body) == ("chunked", body)
    assert [each.header("Transfer-Encoding") for each in backend.requests] == ["chunked"] * 2
    assert [each.values("Content-Length") for each in backend.requests] == [[], []]


def test_request_trailers_are_forwarded(live: Live, client: RawClient, backend: RecordingBackend) -> None:
    host = live.route(backend)
    body = b"2\r\nhi\r\n0\r\nX-Sum: 7\r\nX-More: a\r\n\r\n"
    client.send(request(host, "Transfer-Encoding: chunked", "Trailer: X-Sum", body=body))
    assert client.read_response().status == 200
    assert backend.requests[0].trailers == [("X-Sum", "7"), ("X-More", "a")]


@pytest.mark.parametrize("announced", ["Trailer: X-Sum\r\n", ""])
def test_response_trailers_are_forwarded(
    announced: str, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    head = f"HTTP/1.1 200 OK\r\n{announced}Transfer-Encoding: chunked\r\n\r\n".encode()
    host = live.route(make_backend(answering(head + b"2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n")))
    for _ in range(2):
        response = client.get(host=host)
        assert (response.body, response.trailers) == (b"ok", [("X-Sum", "7")])


def test_head_answer_has_the_headers_and_no_body(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    heads = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    host = live.route(make_backend(answering(*heads, heads[0])))
    for expected in ("1234", None, "1234"):
        client.send(request(host, method="HEAD"))
        response = client.read_response("HEAD")
        assert (response.status, response.header("Content-Length")) == (200, expected)


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_body_keeps_the_connection(
    status: int, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(answering(f"HTTP/1.1 {status} X\r\nX-A: 1\r\n\r\n".encode(), OK))
    host = live.route(backend)
    response = client.get(host=host)
    assert (response.status, response.body, response.header("X-A")) == (status, b"", "1")
    assert response.header("Content-Length") is None
    assert client.get(host=host).body == b"ok"
    assert len(backend.conversations) == 1


def test_304_keeps_the_length_of_what_it_stands_for(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    host = live.route(make_backend(answering(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n")))
    for _ in range(2):
        assert client.get(host=host).status == 304


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "PATCH", "PUT"])
def test_body_of_any_method_is_consumed_by_its_length(
    method: str, live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    hidden = request("hidden.test", method="GET", path="/smuggled")
    client.send(request(host, f"Content-Length: {len(hidden)}", method=method, body=hidden))
    assert client.read_response(method).status == 200
    assert client.get("/next", host=host).status == 200
    assert [(each.method, each.target) for each in backend.requests] == [(method, "/"), ("GET", "/next")]
    assert backend.requests[0].body == hidden


# HTTP/1.0 clients.


def test_http_1_0_client_gets_a_body_that_ends_with_the_connection(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"
    host = live.route(make_backend(answering(chunked)))
    client.send(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    response = client.read_response()
    assert (response.version, response.framing, response.body) == ("HTTP/1.0", "close", b"ok")


def test_http_1_0_client_is_closed_unless_it_asks(
    live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    for _ in range(2):
        client.send(f"GET / HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\n\r\n".encode())
        response = client.read_response()
        assert (response.body, (response.header("Connection") or "").lower()) == (b"ok", "keep-alive")
    client.send(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    assert client.read_response().body == b"ok"
    assert client.is_closed_by_peer()


def test_http_1_0_client_gets_no_interim_response(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    host = live.route(make_backend(answering(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)))
    client.send(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    response = client.read_response()
    assert (response.body, response.interim) == (b"ok", [])


# Keep-alive and pipelining.


def test_client_connection_is_kept_until_it_asks_for_the_close(
    live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    for _ in range(50):
        assert client.get(host=host).header("Connection") is None
    response = client.get(host=host, headers="Connection: close\r\n")
    assert (response.header("Connection") or "").lower() == "close"
    assert client.is_closed_by_peer()
    assert len(backend.conversations) == 1, "the backend's connection is not the client's"


@pytest.mark.parametrize("split", [False, True])
def test_pipelined_requests_are_answered_in_order(
    split: bool, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def own_path(conversation: Conversation) -> None:
        while True:
            conversation.answer(conversation.read_request().target.encode())

    hosts = [live.route(make_backend(own_path)) for _ in range(3)]
    paths = [f"/{number}" for number in range(60)]
    raw = b"".join(
        request(hosts[number % 3], f"Content-Length: {number}", path=path, body=b"b" * number)
        for number, path in enumerate(paths)
    )
    if split:
        client.send_cut(raw, seed=1, pieces=500)
    else:
        client.send(raw)
    assert [client.read_response().body.decode() for _ in paths] == paths


def test_requests_behind_a_bad_one_are_not_served(
    live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    good = request(host, method="GET", path="/good")
    client.send(good + b"BAD\r\n\r\n" + good)
    assert [client.read_response().status for _ in range(2)] == [200, 400]
    assert client.is_closed_by_peer()
    assert len(backend.requests) == 1


def test_requests_behind_a_closing_one_are_not_served(
    live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    client.send(request(host, "Connection: close", method="GET") + request(host, method="GET", path="/late"))
    assert client.read_response().status == 200
    assert client.is_closed_by_peer()
    assert [each.target for each in backend.requests] == ["/"]


def test_half_closed_client_is_answered_or_taken_for_gone(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    """A half-closed connection cannot be told from a closed one: both are right, one that hangs is not."""
    host = live.route(make_backend(lambda conversation: conversation.wait_for_end()))
    client.send(request(host, method="GET"))
    client.end_sending()
    assert client.read_until_end()[:12] in (b"", b"HTTP/1.1 502", b"HTTP/1.1 499")


# Expect: 100-continue and interim responses.


def test_expectation_is_relayed_and_the_backends_100_sets_the_body_free(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def script(conversation: Conversation) -> None:
        while True:
            head = conversation.read_head()
            conversation.send(CONTINUE)
            conversation.read_body(head)
            conversation.answer(head.body)

    backend = make_backend(script)
    host = live.route(backend)
    for _ in range(2):
        client.send(request(host, "Expect: 100-continue", "Content-Length: 5"))
        assert client.read_response(skip_interim=False).status == 100
        client.send(b"hello")
        response = client.read_response()
        assert (response.status, response.body, response.interim) == (200, b"hello", [])
    assert [each.header("Expect") for each in backend.requests] == ["100-continue"] * 2


def test_final_status_instead_of_100_reaches_the_client(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def refuse(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.answer(b"", status="413 Content Too Large")
        conversation.wait_for_end()

    backend = make_backend(refuse)
    host = live.route(backend)
    client.send(request(host, "Expect: 100-continue", "Content-Length: 5"))
    assert client.read_response().status == 413
    # The client may now send the body it announced, or not: what it sends next is not to be taken for a request.
    client.send(request("hidden.test", method="GET", path="/smuggled"))
    assert client.is_closed_by_peer()
    assert len(backend.requests) == 1


def test_backend_that_never_says_continue_does_not_hang_a_client_that_sends_anyway(
    live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    client.send(request(host, "Expect: 100-continue", "Content-Length: 5", body=b"hello"))
    assert client.read_response().status == 200
    assert client.get("/next", host=host).status == 200
    assert backend.requests[0].body == b"hello"


def test_client_is_told_to_go_on_if_the_backend_does_not_say_so(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def script(conversation: Conversation) -> None:
        head = conversation.read_head()
        conversation.read_body(head)
        conversation.send(CONTINUE)
        conversation.answer(head.body)

    host = live.route(make_backend(script))
    client.send(request(host, "Expect: 100-continue", "Content-Length: 5"))
    assert client.read_response(skip_interim=False).status == 100
    client.send(b"hello")
    response = client.read_response()
    assert (response.status, response.body, response.interim) == (200, b"hello", [])


def test_one_100_alone_reaches_the_client(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    host = live.route(make_backend(answering(CONTINUE + OK)))
    client.send(request(host, "Expect: 100-continue", "Content-Length: 5", body=b"hello"))
    response = client.read_response()
    assert (response.status, [each.status for each in response.interim]) == (200, [100])


def test_router_made_answer_to_an_expectation_needs_no_body(live: Live, client: RawClient) -> None:
    client.send(request("nobody.test", "Expect: 100-continue", "Content-Length: 5"))
    response = client.read_response()
    assert (response.status, response.interim) == (404, [])


@pytest.mark.parametrize("value", ["something", "100-continued", "200-ok", "100-continue, x"])
def test_other_expectations_are_417(value: str, live: Live, client: RawClient, backend: RecordingBackend) -> None:
    host = live.route(backend)
    client.send(request(host, f"Expect: {value}", "Content-Length: 5", body=b"hello"))
    response = client.read_response()
    assert (response.status, response.body, response.header("Connection")) == (417, b"", "close")
    assert backend.requests == []
    with live.client() as other:
        assert other.get(host=host).status == 200
    assert " 200 " in live.router.wait_access_line(f"{host} - ["), (
        "the refused request came first, and is not logged"
    )


def test_empty_expectation_expects_nothing(live: Live, client: RawClient, backend: RecordingBackend) -> None:
    host = live.route(backend)
    client.send(request(host, "Expect: ", "Content-Length: 5", body=b"hello"))
    response = client.read_response()
    assert (response.status, response.interim) == (200, [])
    assert backend.requests[-1].values("Expect") == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_missing_body_of_a_method_that_has_one_is_told_the_backend(
    method: str, live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    client.send(f"{method} / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert client.read_response().status == 200
    assert backend.requests[-1].header("Content-Length") == "0"


def test_expectation_is_matched_in_any_case(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    host = live.route(make_backend(answering(CONTINUE + OK)))
    client.send(request(host, "expect: 100-Continue", "Content-Length: 5", body=b"hello"))
    assert client.read_response().status == 200


def test_interim_responses_are_relayed_in_order(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    host = live.route(make_backend(answering(interim + OK)))
    for _ in range(2):
        response = client.get(host=host)
        assert [each.status for each in response.interim] == [102, 103]
        assert response.interim[1].header("Link") == "</a.css>; rel=preload"
        assert response.body == b"ok"


# Early answers.


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_early_answer_reaches_the_client_and_the_connection_is_not_pooled(
    framing: str, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def early(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.answer(b"early")
        conversation.wait_for_end()

    backend = make_backend(early)
    host = live.route(backend)
    line = "Content-Length: 100" if framing == "length" else "Transfer-Encoding: chunked"
    client.send(request(host, line, body=b"5\r\nhello\r\n"))
    assert client.read_response().body == b"early"
    with live.client() as other:
        other.send(request(host, "Content-Length: 0"))
        assert other.read_response().body == b"early"
    assert [len(each.requests) for each in backend.conversations] == [1, 1]


def test_answer_during_a_large_upload_reaches_the_client(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def early(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.read(1000)
        conversation.answer(b"enough", status="413 Content Too Large", headers="Connection: close\r\n")

    host = live.route(make_backend(early))
    client.send(request(host, "Content-Length: 1000000000", body=b"x" * 500_000))
    response = client.read_response()
    assert (response.status, response.body) == (413, b"enough")


def _poison(kind: str, host: str) -> bytes:
    hidden = request(host, method="GET", path="/smuggled")
    if kind == "chunked":
        return request(host, "Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden))
    lines = [f"Content-Length: {len(hidden)}"] + (["Expect: 100-continue"] if kind == "expect" else [])
    return request(host, *lines, method="GET" if kind == "get" else "POST", body=hidden)


@pytest.mark.parametrize("cut", [False, True], ids=["at once", "head first"])
@pytest.mark.parametrize("kind", ["length", "chunked", "expect", "get"])
def test_answered_early_a_hidden_request_stays_a_body(
    kind: str, cut: bool, live: Live, make_backend: MakeBackend
) -> None:
    """0.CL poison, 50 rounds of each of eight shapes: the next client gets its own answer, `/smuggled` never runs.

    Where the body comes only after the answer, the backend is one that takes whatever follows for a request.
    """

    def early(conversation: Conversation) -> None:
        while True:
            head = conversation.read_head()
            conversation.answer(head.target.encode())
            if not cut:
                conversation.read_body(head)

    backend = make_backend(early)
    host = live.route(backend)
    poison = _poison(kind, host)
    end = poison.index(b"\r\n\r\n") + 4
    for number in range(50):
        with live.client() as attacker, live.client() as victim:
            attacker.send(poison[:end] if cut else poison)
            try:
                assert attacker.read_response().body in (b"/", b"")
            except BadResponse:
                pass
            if cut:
                attacker.send(poison[end:])
            assert victim.get(f"/own-{number}", host=host).body == f"/own-{number}".encode()
    assert [
        each.target for each in backend.requests if "smuggled" in each.raw_head.decode().split("\r\n")[0]
    ] == []


@pytest.mark.parametrize("behind", [0, 5, 1_000_000])
def test_router_made_answer_to_a_request_with_a_body_hides_no_request(
    behind: int, live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    """The body, however little of it has come, is skipped or ends the connection; it is never a request."""
    host = live.route(backend)
    hidden = request(host, method="GET", path="/smuggled")
    client.send(request("nobody.test", f"Content-Length: {len(hidden) + behind}", body=hidden))
    assert client.read_response().status == 404
    client.send(b"x" * behind + request(host, method="GET", path="/own"))
    client.end_sending()
    client.read_until_end()
    assert [each.target for each in backend.requests] in ([], ["/own"])


def test_body_of_a_router_made_answer_is_drained_when_it_is_all_there(
    live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    """Keeping the connection is allowed only behind the body's end; closing it is allowed too."""
    host = live.route(backend)
    client.send(request("nobody.test", "Content-Length: 5", body=b"hello") + request(host, method="GET"))
    assert client.read_response().status == 404
    if not client.is_closed_by_peer():
        assert client.read_response().status == 200


def test_many_bodies_over_one_connection_keep_their_content(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def digest(conversation: Conversation) -> None:
        while True:
            conversation.answer(hashlib.sha256(conversation.read_request().body).hexdigest().encode())

    host = live.route(make_backend(digest))
    randomness = random.Random(7)
    for _ in range(100):
        body = randomness.randbytes(randomness.randrange(50_000))
        client.send_cut(request(host, f"Content-Length: {len(body)}", body=body), seed=len(body))
        assert client.read_response().body == hashlib.sha256(body).hexdigest().encode()
