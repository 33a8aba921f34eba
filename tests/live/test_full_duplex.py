"""Requests whose answer comes before their end, where the router is told to go on with them all the same."""

import functools
import hashlib
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from router.certs import Authority, issue, make_ca
from tests.live.conftest import Live, StartLive
from tests.support.certificates import server_context
from tests.support.rawclient import RawClient
from tests.support.recorder import Conversation, Ended, MakeBackend
from tests.support.waiting import PATIENCE_S, wait_until

MIB = 1024 * 1024
UPLOAD = random.Random(4).randbytes(MIB) * 32
DIGEST = hashlib.sha256(UPLOAD).hexdigest()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


@pytest.fixture(scope="module")
def duplex(start_live: StartLive, authority: Authority) -> Live:
    return start_live({"enable_http1_concurrent_read_write": True, "ca_certs": [authority.pair.certificate]})


@pytest.fixture(scope="module")
def simplex(start_live: StartLive, authority: Authority) -> Live:
    return start_live({"ca_certs": [authority.pair.certificate]})


@pytest.fixture
def client(duplex: Live) -> Iterator[RawClient]:
    with duplex.client() as connected:
        yield connected


def in_background(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def send_in_pieces(client: RawClient) -> None:
    for _ in range(128):
        client.send(UPLOAD[:65536])


def framed(host: str, framing: str, more: str = "") -> bytes:
    line = f"Content-Length: {len(UPLOAD)}" if framing == "length" else "Transfer-Encoding: chunked"
    return f"POST /upload HTTP/1.1\r\nHost: {host}\r\n{line}\r\n{more}\r\n".encode()


def body(framing: str) -> bytes:
    return UPLOAD if framing == "length" else b"%x\r\n%b\r\n0\r\n\r\n" % (len(UPLOAD), UPLOAD)


def digest_of(conversation: Conversation, framing: str) -> str:
    """Read the upload piece by piece, which costs a tenth of putting it together first."""
    digest = hashlib.sha256()
    for size in itertools.repeat(MIB, 32) if framing == "length" else chunk_sizes(conversation):
        digest.update(conversation.read(size))
    return digest.hexdigest()


def sizes(conversation: Conversation, framing: str) -> Iterator[int]:
    return itertools.repeat(MIB, 32) if framing == "length" else chunk_sizes(conversation)


def chunk_sizes(conversation: Conversation) -> Iterator[int]:
    while size := int(line_of(conversation), 16):
        yield size
        line_of(conversation)
    line_of(conversation)


def line_of(conversation: Conversation) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        line += conversation.read(1)
    return line


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("setting", ["on", "off"])
def test_echo_flows_both_ways_at_once(
    setting: str, framing: str, live: Live, duplex: Live, make_backend: MakeBackend
) -> None:
    """32 MiB come back while they are still on their way: neither side could hold them."""

    def echo(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(UPLOAD))
        for size in sizes(conversation, framing):
            conversation.send(conversation.read(size))

    router = duplex if setting == "on" else live
    host = router.route(make_backend(echo))
    with router.client() as client:
        client.send(framed(host, framing))
        sending = in_background(lambda: client.send(body(framing)))
        response = client.read_response()
        sending.join(PATIENCE_S)
    assert (response.status, hashlib.sha256(response.body).hexdigest()) == (200, DIGEST)


@pytest.mark.parametrize("answer", ["length", "chunked", "until-close", "no-content"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_upload_goes_on_after_an_early_answer_that_says_close(
    framing: str, answer: str, duplex: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    answers = {
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly",
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"5\r\nearly\r\n0\r\n\r\n",
        "until-close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nearly",
        "no-content": b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    }

    def early(conversation: Conversation) -> None:
        request = conversation.read_head()
        conversation.send(answers[answer])
        if answer == "until-close":
            conversation.end_sending()
        request.headers.append(("digest", digest_of(conversation, framing)))

    backend = make_backend(early)
    host = duplex.route(backend)
    client.send(framed(host, framing))
    response = client.read_response()
    assert response.status == (204 if answer == "no-content" else 200)
    assert response.body == (b"" if answer == "no-content" else b"early")
    client.send(body(framing))
    wait_until(lambda: backend.requests[0].header("digest"), "the whole upload has arrived")
    assert backend.requests[0].header("digest") == DIGEST
    line = duplex.router.wait_access_line(host)
    assert f' {response.status} {len(UPLOAD)} {len(response.body)} "-"' in line
    assert 'x_cf_routererror:"-"' in line


def early(conversation: Conversation) -> None:
    """Answer, and only then read the body."""
    request = conversation.read_head()
    conversation.answer(b"early", headers="Connection: close\r\n")
    conversation.read_body(request)


def test_client_connection_serves_on_after_the_upload(
    duplex: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(early)
    host = duplex.route(backend)
    for _ in range(2):
        client.send(framed(host, "length"))
        assert client.read_response().body == b"early"
        client.send(body("length"))
    assert client.get(host="nobody.test").status == 404
    assert len(backend.conversations) == 2, "who has answered early is not asked again"


def test_early_answer_while_the_client_only_writes_arrives_whole(
    duplex: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    """As ordinary clients do: first the whole request, then a look at the answer."""

    host = duplex.route(make_backend(early))
    client.send(framed(host, "length") + body("length"))
    assert client.read_response().body == b"early"


def test_backend_that_leaves_after_its_early_answer_fails_nobody(
    duplex: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def leave(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.answer(b"early", headers="Connection: close\r\n")

    host = duplex.route(make_backend(leave))
    client.send(framed(host, "length") + UPLOAD[:1000])
    assert client.read_response().body == b"early"
    client.send(UPLOAD[1000:])
    assert 'x_cf_routererror:"-"' in duplex.router.wait_access_line(host)
    assert client.get(host="nobody.test").status == 404, "what nobody took was read away"


def test_client_that_leaves_after_the_early_answer_ends_the_request(
    duplex: Live, make_backend: MakeBackend
) -> None:
    def early(conversation: Conversation) -> None:
        request = conversation.read_head()
        conversation.answer(b"early", headers="Connection: close\r\n")
        conversation.read_body(request)
        raise AssertionError("half a body is none")

    backend = make_backend(early)
    host = duplex.route(backend)
    with duplex.client() as client:
        client.send(framed(host, "length") + UPLOAD[:MIB])
        assert client.read_response().body == b"early"
    wait_until(lambda: backend.open_conversations() == 0, "the backend's connection has ended")
    assert " 200 " in duplex.router.wait_access_line(host)


def test_bytes_after_the_early_answer_reach_nobody(
    duplex: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def talk_on(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.answer(b"early")
        conversation.read(100)
        conversation.answer(b"smuggled")
        conversation.wait_for_end()

    backend = make_backend(talk_on)
    host = duplex.route(backend)
    client.send(framed(host, "length") + UPLOAD[:50])
    assert client.read_response().body == b"early"
    client.send(UPLOAD[50:100])
    wait_until(lambda: backend.conversations[0].ended, "the router has closed")
    with duplex.client() as other:
        other.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode())
        assert other.read_response().body == b"early"


def test_early_answer_ends_the_request_where_that_is_off(live: Live, make_backend: MakeBackend) -> None:
    ended = threading.Event()

    def early(conversation: Conversation) -> None:
        request = conversation.read_head()
        conversation.answer(b"early", headers="Connection: close\r\n")
        try:
            conversation.read_body(request)
        except Ended:
            ended.set()

    host = live.route(make_backend(early))
    with live.client() as client:
        client.send(framed(host, "length"))
        response = client.read_response()
        assert (response.body, response.header("Connection")) == (b"early", "close")
    assert ended.wait(PATIENCE_S)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("setting", ["on", "off"])
def test_answer_arrives_though_the_backend_closes_under_the_upload(
    setting: str,
    tls: bool,
    duplex: Live,
    simplex: Live,
    authority: Authority,
    make_backend: MakeBackend,
    tmp_path: Path,
) -> None:
    """Closing with unread bytes resets the connection; a write may meet the reset before the answer is read."""

    def refuse(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.read(1000)
        conversation.answer(b"enough", status="413 Too Large", headers="Connection: close\r\n")

    router = duplex if setting == "on" else simplex
    context = server_context(issue(authority, ["127.0.0.1"]), tmp_path) if tls else None
    host = router.route(make_backend(refuse, tls=context))
    for _ in range(20):
        with router.client() as client:
            client.send(framed(host, "length"))
            sending = in_background(functools.partial(send_in_pieces, client))
            response = client.read_response()
            assert (response.status, response.body) == (413, b"enough")
            client.end_sending()
            sending.join(PATIENCE_S)
