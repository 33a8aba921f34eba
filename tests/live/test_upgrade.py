"""Behaviour 21: WebSocket is tunnelled, nothing else is; a refused upgrade is a plain response."""

import asyncio
import random
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.live.conftest import Live
from tests.support.ports import free_port
from tests.support.rawclient import BadResponse, RawClient
from tests.support.recorder import Conversation, MakeBackend, named
from tests.support.waiting import PATIENCE_S, wait_until

UNHURRIED: dict[str, Any] = {"open_timeout": PATIENCE_S, "ping_timeout": PATIENCE_S}
"""For both ends of a real WebSocket, which give up after ten and twenty seconds by themselves."""
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def ask_upgrade(host: str, *lines: str, token: str = "websocket", path: str = "/", method: str = "GET") -> bytes:
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", f"Upgrade: {token}", *lines]
    return "\r\n".join(
        [*head, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    ).encode() + (b"\r\n\r\n")


def tunnel_echo(conversation: Conversation) -> None:
    """Accept the upgrade and send back whatever comes."""
    conversation.read_head()
    conversation.send(SWITCH)
    while received := conversation.socket.recv(65536):
        conversation.socket.sendall(received)


@pytest.fixture
def client(live: Live) -> Iterator[RawClient]:
    with live.client() as connected:
        yield connected


def opened(client: RawClient, host: str) -> None:
    client.send(ask_upgrade(host))
    response = client.read_response()
    assert response.status == 101
    assert (response.header("Upgrade"), response.header("Connection")) == ("websocket", "Upgrade")


# A real WebSocket peer on both ends.


@pytest.fixture
async def websocket_port() -> AsyncIterator[int]:
    """A WebSocket server that echoes messages; ``bye`` makes it close with 4001."""

    async def handle(connection: ServerConnection) -> None:
        async for message in connection:
            if message == "bye":
                await connection.close(4001, "as asked")
            await connection.send(message)

    async with serve(
        handle, "127.0.0.1", 0, max_size=None, subprotocols=[Subprotocol("chat")], **UNHURRIED
    ) as server:
        (listener,) = server.sockets
        yield listener.getsockname()[1]


@pytest.fixture
async def websocket(live: Live, websocket_port: int) -> AsyncIterator[ClientConnection]:
    host = live.host()
    await asyncio.to_thread(live.routes.register, host, backend=websocket_port)
    url = f"ws://{host}:{live.router.port}/chat"
    async with connect(
        url,
        host="127.0.0.1",
        port=live.router.port,
        max_size=None,
        subprotocols=[Subprotocol("chat")],
        **UNHURRIED,
    ) as opened_one:
        yield opened_one


async def test_websocket_messages_pass_both_ways(websocket: ClientConnection) -> None:
    assert websocket.subprotocol == "chat"
    for message in ("text", "ünïcode", b"binary", "", "x" * 200_000, random.Random(1).randbytes(1_000_000)):
        await websocket.send(message)
        assert await websocket.recv() == message


async def test_websocket_pings_pass(websocket: ClientConnection) -> None:
    assert await asyncio.wait_for(await websocket.ping(), PATIENCE_S) >= 0


async def test_websocket_close_code_of_the_backend_arrives(websocket: ClientConnection) -> None:
    await websocket.send("bye")
    with pytest.raises(ConnectionClosed) as closed:
        await websocket.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as asked")


async def test_websocket_fragments_pass(websocket: ClientConnection) -> None:
    async def pieces() -> AsyncIterator[str]:
        for number in range(100):
            yield str(number)

    await websocket.send(pieces())
    assert await websocket.recv() == "".join(map(str, range(100)))


async def test_many_websockets_at_once_keep_apart(live: Live, websocket_port: int) -> None:
    host = live.host()
    await asyncio.to_thread(live.routes.register, host, backend=websocket_port)

    async def talk(number: int) -> None:
        url = f"ws://{host}:{live.router.port}/"
        async with connect(
            url, host="127.0.0.1", port=live.router.port, subprotocols=[Subprotocol("chat")], **UNHURRIED
        ) as connection:
            for turn in range(5):
                await connection.send(f"{number}.{turn}")
                assert await connection.recv() == f"{number}.{turn}"

    await asyncio.gather(*(talk(number) for number in range(100)))


async def test_websocket_to_an_unknown_route_is_404(live: Live) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://nobody.test:{live.router.port}/", host="127.0.0.1", port=live.router.port):
            pass
    assert refused.value.response.status_code == 404


# The tunnel, byte by byte.


def test_bytes_sent_with_the_request_enter_the_tunnel(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    host = live.route(make_backend(tunnel_echo))
    client.send(ask_upgrade(host) + b"\0early\r\n\r\n")
    assert client.read_response().status == 101
    assert client.read_exactly(10) == b"\0early\r\n\r\n"


def test_bytes_sent_with_the_101_reach_the_client(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def eager(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(SWITCH + b"\0eager")
        conversation.wait_for_end()

    host = live.route(make_backend(eager))
    opened(client, host)
    assert client.read_exactly(6) == b"\0eager"


def test_session_that_begins_with_the_101_is_sticky(live: Live, make_backend: MakeBackend) -> None:
    def with_session(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(SWITCH.removesuffix(b"\r\n") + b"Set-Cookie: JSESSIONID=1; Secure\r\n\r\n")
        conversation.wait_for_end()

    host = live.host()
    for number in range(2):
        backend = make_backend(with_session)
        live.routes.register(host, backend=backend, private_instance_id=f"instance-{number}")
    with live.client() as client:
        client.send(ask_upgrade(host))
        cookies = client.read_response().values("Set-Cookie")
    assert cookies[0] == "JSESSIONID=1; Secure"
    instance = cookies[1].removeprefix("__VCAP_ID__=").partition(";")[0]
    assert cookies[1] == f"__VCAP_ID__={instance}; Path=/; HttpOnly; Secure"
    with live.client() as client:
        client.send(ask_upgrade(host, "Cookie: JSESSIONID=1; __VCAP_ID__=gone"))
        assert any("__VCAP_ID__=instance-" in cookie for cookie in client.read_response().values("Set-Cookie"))


def test_nothing_inside_the_tunnel_is_taken_for_http(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    host = live.route(make_backend(tunnel_echo))
    opened(client, host)
    for piece in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 100, bytes(range(256)), b"0\r\n\r\n"):
        client.send(piece)
        assert client.read_exactly(len(piece)) == piece


def test_request_side_sees_the_handshake_headers(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    backend = make_backend(tunnel_echo)
    host = live.route(backend)
    client.send(ask_upgrade(host, "Origin: http://x", "Sec-WebSocket-Protocol: chat", token="WebSocket"))
    assert client.read_response().status == 101
    request = backend.requests[0]
    assert request.header("Upgrade") == "WebSocket"
    assert (request.header("Connection") or "").lower() == "upgrade"
    assert request.header("Sec-Websocket-Key") == "dGhlIHNhbXBsZSBub25jZQ=="
    assert request.header("Sec-Websocket-Protocol") == "chat"
    assert request.header("X-Forwarded-For") == "127.0.0.1"


def test_end_of_the_backend_ends_the_client(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    def one_word(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(SWITCH + b"word")

    host = live.route(make_backend(one_word))
    opened(client, host)
    assert client.read_until_end() == b"word"


def test_end_of_the_client_ends_the_backend(live: Live, make_backend: MakeBackend) -> None:
    def listen(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(SWITCH)
        conversation.wait_for_end()

    backend = make_backend(listen)
    host = live.route(backend)
    for end in (RawClient.close, RawClient.reset):
        client = live.client()
        opened(client, host)
        client.send(b"last words")
        wait_until(lambda: backend.conversations[-1].received.endswith(b"last words"), "the words have passed")
        end(client)
        wait_until(lambda: backend.conversations[-1].ended, "the backend sees the end")


def test_half_closed_client_still_hears_the_backend(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def answer_at_end(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(SWITCH)
        conversation.wait_for_end()
        conversation.send(b"farewell")

    host = live.route(make_backend(answer_at_end))
    opened(client, host)
    client.end_sending()
    # Some tiers end both ways at once; what must not happen is a tunnel that stays for ever.
    assert client.read_until_end() in (b"farewell", b"")


def test_tunnel_moves_megabytes_both_ways_at_once(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    sent = random.Random(3).randbytes(8 << 20)
    host = live.route(make_backend(tunnel_echo))
    opened(client, host)
    sending = threading.Thread(target=client.send, args=(sent,))
    sending.start()
    assert client.read_exactly(len(sent)) == sent
    sending.join()


def test_log_line_is_written_when_the_tunnel_ends(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend(tunnel_echo)
    host = live.route(backend)
    opened(client, host)
    client.send(b"x" * 1000)
    client.read_exactly(1000)
    with live.client() as other:
        other.get(host=host + ":1", headers="User-Agent: HTTP-Monitor/1.1\r\n")
    live.router.wait_access_line(f"{host}:1 ")
    assert not [line for line in live.router.access_lines() if line.startswith(f"{host} ")]
    client.close()
    line = live.router.wait_access_line(f"{host} - [")
    assert '"GET / HTTP/1.1" 101 1000 1000 ' in line
    assert f'"{backend.address}"' in line


# What is not a tunnel.


@pytest.mark.parametrize(
    "token", ["h2c", "H2C", "foo", "TLS/1.0", "websocket2", "websocket, h2c", "h2c, websocket"]
)
def test_other_upgrade_tokens_are_not_forwarded(
    token: str, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend()
    host = live.route(backend)
    for _ in range(2):
        client.send(ask_upgrade(host, "HTTP2-Settings: AAMAAABkAAQAAP__", token=token))
        response = client.read_response()
        assert (response.status, response.body) == (200, b"ok")
    for request in backend.requests:
        assert (request.values("Upgrade"), request.values("Connection"), request.values("Http2-Settings")) == (
            [],
            [],
            [],
        )


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS", "CONNECT"])
def test_only_get_upgrades(method: str, live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    backend = make_backend()
    host = live.route(backend)
    client.send(ask_upgrade(host, method=method))
    assert client.read_response(method).status in (200, 400, 405)
    assert [request.values("Upgrade") for request in backend.requests if request.values("Upgrade")] == []


def test_upgrade_in_http_1_0_is_ignored(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    backend = make_backend()
    host = live.route(backend)
    client.send(ask_upgrade(host).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert client.read_response().status == 200
    assert backend.requests[0].values("Upgrade") == []


def test_upgrade_without_the_connection_option_is_ignored(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    backend = make_backend()
    host = live.route(backend)
    client.send(ask_upgrade(host).replace(b"Connection: Upgrade\r\n", b""))
    assert client.read_response().status == 200
    assert backend.requests[0].values("Upgrade") == []


def test_upgrade_with_a_body_opens_no_hole(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    backend = make_backend()
    host = live.route(backend)
    hidden = f"GET /smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    client.send(ask_upgrade(host, f"Content-Length: {len(hidden)}") + hidden)
    assert client.read_response().status in (200, 400)
    assert "/smuggled" not in [request.target for request in backend.requests]


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "403 Forbidden", "426 Upgrade Required"])
def test_refused_upgrade_is_a_plain_response_and_the_connection_goes_on(
    status: str, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def refuse(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            conversation.answer(b"no", status=status, headers="Sec-WebSocket-Version: 13\r\n")

    backend = make_backend(refuse)
    host = live.route(backend)
    client.send(ask_upgrade(host))
    response = client.read_response()
    assert (response.status, response.body) == (int(status[:3]), b"no")
    client.send(b"GET /next HTTP/1.1\r\nHost: nobody.test\r\n\r\n")
    if not client.is_closed_by_peer():
        assert client.read_response().status == 404
    assert [request.target for request in backend.requests] == ["/"]


def test_switch_to_another_protocol_is_502(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    def switch_elsewhere(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(SWITCH.replace(b"websocket", b"h2c") + b"tunnel")
        conversation.wait_for_end()

    backend = make_backend(switch_elsewhere)
    host = live.route(backend)
    client.send(ask_upgrade(host))
    response = client.read_response()
    assert (response.status, response.body) == (502, b"")
    wait_until(lambda: backend.conversations[0].ended, "the odd connection is closed")


def test_switch_without_upgrade_field_is_502(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    def switch(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\ntunnel")
        conversation.wait_for_end()

    host = live.route(make_backend(switch))
    client.send(ask_upgrade(host))
    assert client.read_response().status == 502


def test_upgrade_is_retried_when_the_endpoint_refuses(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    host = live.route(make_backend(tunnel_echo))
    live.routes.register(host, backend=free_port())
    for _ in range(4):
        with live.client() as each:
            opened(each, host)
            each.send(b"hello")
            assert each.read_exactly(5) == b"hello"


def test_upgrade_that_dies_unanswered_is_502(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    def vanish(conversation: Conversation) -> None:
        conversation.read_head()

    host = live.route(make_backend(vanish))
    client.send(ask_upgrade(host))
    assert client.read_response().status == 502


def test_http_2_preface_on_the_plain_port_is_refused(live: Live, make_backend: MakeBackend) -> None:
    backend = make_backend(named("x"))
    live.route(backend)
    with live.client() as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">I", 0) + b"\x04\0\0\0\0\0")
        try:
            assert client.read_response().status in (400, 505)
        except BadResponse:
            raise AssertionError("not answered in HTTP/1") from None
        assert client.is_closed_by_peer()
    assert backend.requests == []


def test_abandoned_tunnels_leave_no_socket_behind(live: Live, make_backend: MakeBackend) -> None:
    backend = make_backend(tunnel_echo)
    host = live.route(backend)
    for number in range(60):
        client = live.client()
        opened(client, host)
        if number % 3:
            client.send(b"x" * number)
        (RawClient.reset if number % 2 else RawClient.close)(client)
    wait_until(lambda: backend.open_conversations() == 0, "all tunnels are closed")
