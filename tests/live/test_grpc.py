"""gRPC through a whole router, over TLS on both sides, with grpcio's own client and server."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from router.certs import issue, make_ca
from tests.live.conftest import Live, StartLive
from tests.live.https import https_config
from tests.support.ports import free_port
from tests.support.recorder import RecordingBackend

AUTHORITY = make_ca()
SAN = "instance-1"
HOSTS = "*.grpc.test"
MIB = 1024 * 1024
SERVICE = "test.Echo"
WAIT_S = 60


class Service:
    """The methods of the server; requests and responses are plain bytes.

    Attributes:
        cancelled: set when a client has cancelled ``Hang``.
        deadline_s: what was left to ``Hang`` when it began.
    """

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.deadline_s = 0.0

    def upper(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.send_initial_metadata((("initial", "1"),))
        context.set_trailing_metadata((("last", "2"), ("bytes-bin", b"\x00\xff")))
        return request.upper()

    def fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nein, später")
        raise AssertionError

    def count(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    def total(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return b"%d" % sum(len(request) for request in requests)

    def echo(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            yield request[::-1]

    def hang(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self.deadline_s = context.time_remaining() or 0.0
        context.add_callback(self.cancelled.set)
        yield b"begun"
        self.cancelled.wait(WAIT_S)

    def handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Upper": grpc.unary_unary_rpc_method_handler(self.upper),
                "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
                "Count": grpc.unary_stream_rpc_method_handler(self.count),
                "Total": grpc.stream_unary_rpc_method_handler(self.total),
                "Echo": grpc.stream_stream_rpc_method_handler(self.echo),
                "Hang": grpc.unary_stream_rpc_method_handler(self.hang),
            },
        )


class Server:
    """A grpcio server on a free port."""

    def __init__(self, **options: int) -> None:
        self.service = Service()
        pair = issue(AUTHORITY, [SAN])
        credentials = grpc.ssl_server_credentials([(pair.private_key.encode(), pair.certificate.encode())])
        named = [(f"grpc.{name}", value) for name, value in options.items()]
        self._pool = ThreadPoolExecutor(16)
        self._server = grpc.server(self._pool, handlers=[self.service.handler()], options=named)
        self.port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()

    def close(self) -> None:
        self.service.cancelled.set()
        self._server.stop(None).wait(WAIT_S)
        self._pool.shutdown()


@pytest.fixture(scope="module")
def grpc_live(start_live: StartLive) -> Live:
    certificates = {"ca_certs": [AUTHORITY.pair.certificate], "disable_keep_alives": False}
    return start_live(https_config([issue(AUTHORITY, [HOSTS])], **certificates))


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(**options: int) -> Server:
        servers.append(Server(**options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


class Caller:
    """A channel to the router for one host, and the methods of the service."""

    def __init__(self, live: Live, host: str) -> None:
        self.channel = grpc.secure_channel(
            f"127.0.0.1:{live.router.config['ssl_port']}",
            grpc.ssl_channel_credentials(AUTHORITY.pair.certificate.encode()),
            options=[
                ("grpc.ssl_target_name_override", host),
                ("grpc.default_authority", host),
                ("grpc.max_receive_message_length", 64 * MIB),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_retries", 0),
            ],
        )
        unary, server_streams = self.channel.unary_unary, self.channel.unary_stream
        self.upper: grpc.UnaryUnaryMultiCallable[bytes, bytes] = unary(f"/{SERVICE}/Upper")
        self.fail: grpc.UnaryUnaryMultiCallable[bytes, bytes] = unary(f"/{SERVICE}/Fail")
        self.count: grpc.UnaryStreamMultiCallable[bytes, bytes] = server_streams(f"/{SERVICE}/Count")
        self.hang: grpc.UnaryStreamMultiCallable[bytes, bytes] = server_streams(f"/{SERVICE}/Hang")
        self.total: grpc.StreamUnaryMultiCallable[bytes, bytes] = self.channel.stream_unary(f"/{SERVICE}/Total")
        self.echo: grpc.StreamStreamMultiCallable[bytes, bytes] = self.channel.stream_stream(f"/{SERVICE}/Echo")


@pytest.fixture
def call(grpc_live: Live, start_server: Callable[..., Server]) -> Iterator[Callable[..., tuple[Caller, Server]]]:
    """Start a server with options, route it and open a channel to it."""
    channels: list[grpc.Channel] = []

    def start(**options: int) -> tuple[Caller, Server]:
        server = start_server(**options)
        caller = Caller(grpc_live, routed(grpc_live, server.port))
        channels.append(caller.channel)
        return caller, server

    yield start
    for channel in channels:
        channel.close()


def host_of(live: Live) -> str:
    return live.host().replace(".test", ".grpc.test")


def routed(live: Live, port: int) -> str:
    host = host_of(live)
    live.routes.register(host, backend=port, tls_port=port, server_cert_domain_san=SAN, protocol="http2")
    return host


def failure_of(call: Callable[[], Any]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def test_unary_call_carries_metadata_at_both_ends(call: Callable[..., tuple[Caller, Server]]) -> None:
    caller, _ = call()
    response, done = caller.upper.with_call(b"hello", timeout=WAIT_S)
    assert response == b"HELLO"
    assert ("initial", "1") in done.initial_metadata()
    assert {("last", "2"), ("bytes-bin", b"\x00\xff")} <= set(done.trailing_metadata())


def test_status_and_message_of_the_server_arrive(call: Callable[..., tuple[Caller, Server]]) -> None:
    caller, _ = call()
    error = failure_of(lambda: caller.fail(b"", timeout=WAIT_S))
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "nein, später")


def test_server_streams(call: Callable[..., tuple[Caller, Server]]) -> None:
    caller, _ = call()
    got = list(caller.count(b"1000", timeout=WAIT_S))
    assert got == [b"%d" % number for number in range(1000)]


def test_client_streams(call: Callable[..., tuple[Caller, Server]]) -> None:
    caller, _ = call()
    pieces = iter([bytes(100_000)] * 50)
    assert caller.total(pieces, timeout=WAIT_S) == b"5000000"


def test_both_stream_in_turns(call: Callable[..., tuple[Caller, Server]]) -> None:
    """Each message goes out only after the answer to the one before it."""
    caller, _ = call()
    go_on = threading.Semaphore(1)

    def ask() -> Iterator[bytes]:
        for number in range(100):
            go_on.acquire()
            yield b"%03d" % number

    answers = []
    for answer in caller.echo(ask(), timeout=WAIT_S):
        answers.append(answer)
        go_on.release()
    assert answers == [(b"%03d" % number)[::-1] for number in range(100)]


def test_large_messages_flow_both_ways_at_once(call: Callable[..., tuple[Caller, Server]]) -> None:
    caller, _ = call()
    messages = [bytes([number]) * 2 * MIB for number in range(8)]
    got = list(caller.echo(iter(messages), timeout=WAIT_S))
    assert got == messages


def test_deadline_reaches_the_server_and_ends_the_call(call: Callable[..., tuple[Caller, Server]]) -> None:
    caller, server = call()
    assert caller.upper(b"first", timeout=WAIT_S) == b"FIRST", "the connections stand"
    responses = caller.hang(b"", timeout=5.0)
    error = failure_of(lambda: list(responses))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.service.cancelled.wait(WAIT_S)
    # It travels in few digits, rounded up.
    assert 0 < server.service.deadline_s < 5.5


def test_cancelled_call_is_cancelled_at_the_server(call: Callable[..., tuple[Caller, Server]]) -> None:
    caller, server = call()
    responses = caller.hang(b"", timeout=WAIT_S)
    assert next(responses) == b"begun"
    responses.cancel()
    assert server.service.cancelled.wait(WAIT_S)
    assert caller.upper(b"next", timeout=WAIT_S) == b"NEXT", "the connections go on"


def test_no_call_fails_while_connections_reach_their_age(call: Callable[..., tuple[Caller, Server]]) -> None:
    """grpcio's server closes connections gracefully when they are old: by GOAWAY, some of it in mid-burst."""
    caller, _ = call(max_connection_age_ms=50, max_connection_age_grace_ms=5000)
    for _ in range(20):
        burst = [caller.upper.future(b"x", timeout=WAIT_S) for _ in range(50)]
        assert {future.result() for future in burst} == {b"X"}


def test_calls_share_connections_up_to_the_servers_limit(call: Callable[..., tuple[Caller, Server]]) -> None:
    caller, _ = call(max_concurrent_streams=3)
    burst = [caller.upper.future(b"x", timeout=WAIT_S) for _ in range(50)]
    assert {future.result() for future in burst} == {b"X"}


# The router's own answers.


def test_unknown_route_is_unimplemented(grpc_live: Live) -> None:
    caller = Caller(grpc_live, host_of(grpc_live))
    error = failure_of(lambda: caller.upper(b"", timeout=WAIT_S))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "Requested route" in (error.details() or "")
    caller.channel.close()


def test_endpoint_that_is_not_there_is_unavailable(grpc_live: Live) -> None:
    caller = Caller(grpc_live, routed(grpc_live, free_port()))
    error = failure_of(lambda: caller.upper(b"", timeout=WAIT_S))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "502 Bad Gateway: Registered endpoint failed to handle the request."
    caller.channel.close()


def test_http_clients_see_the_http_status_besides(grpc_live: Live, backend: RecordingBackend) -> None:
    with grpc_live.client() as client:
        response = client.get(host=grpc_live.host(), headers="Content-Type: application/grpc\r\n")
    assert (response.status, response.body) == (404, b"")
    assert response.header("Grpc-Status") == "12"
    assert response.header("X-Cf-Routererror") == "unknown_route"


def test_it_can_be_switched_off(start_live: StartLive) -> None:
    live = start_live({"enable_grpc_status": False})
    with live.client() as client:
        response = client.get(host=live.host(), headers="Content-Type: application/grpc\r\n")
    assert response.header("Grpc-Status") is None
    assert response.body
