"""HTTP/2 connections to backends that are asked, over real sockets, what a frame-by-frame backend sees."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from router.backend import failure as failures
from router.backend.connection import BackendConnection
from router.backend.connections import IDLE_S, Carrier
from router.backend.failure import BackendFailure
from router.backend.http2_stream import BackendStream
from router.certs import Authority, issue, make_ca
from router.config.schema import Config
from router.routing.pool import Endpoint
from router.tls import backend_contexts
from tests.backend.receiver import GET, Dialler, Receiver, endpoint
from tests.support import recorder
from tests.support.certificates import server_context
from tests.support.eventually import eventually
from tests.support.h2backend import H2Backend, H2Conversation, plain
from tests.support.h2peer import CANCEL, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, REFUSED_STREAM, frame
from tests.support.ports import free_port
from tests.support.recorder import Conversation, RecordingBackend
from tests.support.waiting import PATIENCE_S

MAX_CONCURRENT_STREAMS, ENABLE_CONNECT_PROTOCOL = 0x3, 0x8
HTTP_1_1_REQUIRED = 0xD
POST = b"POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
WEBSOCKET = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n"
)


@pytest.fixture
async def dialler() -> AsyncIterator[Dialler]:
    made = Dialler(http2_cleartext=True)
    yield made
    made.connections.abort_all()
    await made.until_closed()


def http2(backend: H2Backend | RecordingBackend, **fields: str) -> Endpoint:
    return endpoint(backend.port, protocol="http2", **fields)


async def get(dialler: Dialler, target: Endpoint) -> Receiver:
    return await dialler.exchange(await carrier_to(dialler, target))


async def carrier_to(dialler: Dialler, target: Endpoint, upgrade: bytes = b"") -> Carrier:
    found = dialler.connections.checkout(target, True, upgrade)
    return found if found is not None else await dialler.carrier(target, upgrade)


def begun(carrier: Carrier, request: bytes = GET, receiver: Receiver | None = None) -> Receiver:
    receiver = receiver or Receiver()
    carrier.send_request(receiver, request)
    return receiver


async def failure_of(receiver: Receiver) -> BackendFailure:
    await receiver.until_over()
    assert receiver.failure is not None
    return receiver.failure


# Sharing.


async def test_exchanges_share_a_connection(dialler: Dialler) -> None:
    def answer_backwards(conversation: H2Conversation) -> None:
        requests = [conversation.request() for _ in range(3)]
        for request in reversed(requests):
            conversation.answer(request, str(request.path).encode())

    with H2Backend(answer_backwards) as backend:
        target = http2(backend)
        receivers = [
            begun(await carrier_to(dialler, target), b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            for number in range(3)
        ]
        for receiver in receivers:
            await receiver.until_over()
        assert [receiver.body for receiver in receivers] == [b"/0", b"/1", b"/2"]
        assert len(backend.conversations) == 1


async def test_exchanges_that_come_at_once_wait_for_one_dial(dialler: Dialler) -> None:
    with H2Backend() as backend:
        target = http2(backend)
        carriers = await asyncio.gather(*[dialler.carrier(target) for _ in range(20)])
        for carrier in carriers:
            assert (await dialler.exchange(carrier)).body == b"ok"
        assert len(backend.conversations) == 1


async def test_failed_dial_fails_all_who_wait_for_it(dialler: Dialler) -> None:
    target = endpoint(free_port(), protocol="http2")
    outcomes = await asyncio.gather(*[dialler.carrier(target) for _ in range(5)], return_exceptions=True)
    assert [outcome.kind for outcome in outcomes if isinstance(outcome, BackendFailure)] == [failures.DIAL] * 5


async def test_those_who_wait_dial_themselves_if_who_dials_leaves(dialler: Dialler) -> None:
    with H2Backend() as backend:
        target = http2(backend)
        leaves = dialler.connections.dial(target, lambda _: None, lambda _: None)
        stays = asyncio.ensure_future(dialler.carrier(target))
        await asyncio.sleep(0)
        leaves.cancel()
        assert (await dialler.exchange(await stays)).body == b"ok"


async def test_full_connection_gets_company(dialler: Dialler) -> None:
    def answer_when_all_are_there(conversation: H2Conversation) -> None:
        request = conversation.request()
        while len(backend.requests) < 3:
            threading.Event().wait(0.01)
        conversation.answer(request)
        plain(conversation)

    with H2Backend(answer_when_all_are_there, (MAX_CONCURRENT_STREAMS, 1)) as backend:
        target = http2(backend)
        receivers = [begun(await carrier_to(dialler, target)) for _ in range(3)]
        for receiver in receivers:
            assert (await receiver.until_over()).body == b"ok"
        assert len(backend.conversations) == 3


async def test_backend_that_allows_no_streams_is_refused(dialler: Dialler) -> None:
    with (
        H2Backend(H2Conversation.wait_for_end, (MAX_CONCURRENT_STREAMS, 0)) as backend,
        pytest.raises(BackendFailure) as caught,
    ):
        await dialler.carrier(http2(backend))
    assert caught.value.kind is failures.REFUSED


async def test_connection_is_used_once_where_keep_alive_is_off() -> None:
    dialler = Dialler(http2_cleartext=True, keep_alive=False)
    with H2Backend() as backend:
        target = http2(backend)
        for _ in range(2):
            assert (await get(dialler, target)).body == b"ok"
        await dialler.until_closed()
        assert len(backend.conversations) == 2


async def test_no_more_idle_connections_are_kept_than_configured() -> None:
    dialler = Dialler(http2_cleartext=True, max_idle=1)
    with H2Backend(plain, (MAX_CONCURRENT_STREAMS, 1)) as backend:
        target = http2(backend)
        receivers = [begun(await carrier_to(dialler, target)) for _ in range(3)]
        for receiver in receivers:
            await receiver.until_over()
        await eventually(lambda: len(dialler.connections) == 1, "two of three are closed")
        dialler.connections.abort_all()
        await dialler.until_closed()


# Idle connections, and the end.


async def test_idle_connection_is_closed_with_goaway_after_its_time(dialler: Dialler) -> None:
    with H2Backend() as backend:
        await get(dialler, http2(backend))
        dialler.connections.sweep(dialler.clock.now + IDLE_S)
        assert len(dialler.connections) == 1

        dialler.connections.sweep(dialler.clock.now + IDLE_S + 1)
        await dialler.until_closed()
        await eventually(lambda: backend.conversations[0].goaway, "the backend is told")


async def test_busy_connection_is_not_swept(dialler: Dialler) -> None:
    with H2Backend(H2Conversation.wait_for_end) as backend:
        receiver = begun(await carrier_to(dialler, http2(backend)))
        dialler.connections.sweep(dialler.clock.now + 10 * IDLE_S)
        assert receiver.failure is None
        assert len(dialler.connections) == 1


async def test_old_connection_takes_no_new_exchange_and_closes_when_those_it_has_have_ended() -> None:
    dialler = Dialler(http2_cleartext=True, http2_max_age_s=30.0)
    go_on = threading.Event()

    def slow_at_first(conversation: H2Conversation) -> None:
        request = conversation.request()
        if conversation is conversation.backend.conversations[0]:
            go_on.wait(PATIENCE_S)
        conversation.answer(request)
        plain(conversation)

    with H2Backend(slow_at_first) as backend:
        target = http2(backend)
        first = begun(await carrier_to(dialler, target))
        await eventually(lambda: bool(backend.requests), "the request has arrived")
        dialler.connections.sweep(dialler.clock.now + 29)
        assert dialler.connections.checkout(target, True) is not None
        dialler.connections.sweep(dialler.clock.now + 30)
        assert dialler.connections.checkout(target, True) is None
        assert (await get(dialler, target)).body == b"ok"
        assert (len(backend.conversations), first.failure) == (2, None)
        go_on.set()
        assert (await first.until_over()).body == b"ok"
        await eventually(lambda: backend.conversations[0].goaway, "the backend is told")
        await eventually(lambda: len(dialler.connections) == 1, "the old connection is closed")
        dialler.connections.abort_all()
        await dialler.until_closed()


async def test_drain_lets_streams_finish_and_closes_then(dialler: Dialler) -> None:
    go_on = threading.Event()

    def slow(conversation: H2Conversation) -> None:
        request = conversation.request()
        go_on.wait(PATIENCE_S)
        conversation.answer(request)
        conversation.wait_for_end()

    with H2Backend(slow) as backend:
        receiver = begun(await carrier_to(dialler, http2(backend)))
        await eventually(lambda: bool(backend.requests), "the request has arrived")
        dialler.connections.close_idle()
        go_on.set()
        assert (await receiver.until_over()).body == b"ok"
        await dialler.until_closed()


async def test_connections_of_an_endpoint_that_is_gone_close_after_their_streams(dialler: Dialler) -> None:
    with H2Backend() as backend:
        target = http2(backend)
        receiver = begun(await carrier_to(dialler, target))
        target.gone = True
        dialler.connections.endpoint_gone(target)
        assert (await receiver.until_over()).body == b"ok"
        await dialler.until_closed()


async def test_endpoint_that_is_registered_anew_takes_connections_over(dialler: Dialler) -> None:
    with H2Backend() as backend:
        old, new = http2(backend), http2(backend, app="new")
        await get(dialler, old)
        new.take_over(old)
        assert (await get(dialler, new)).body == b"ok"
        assert len(backend.conversations) == 1


async def test_endpoint_of_another_protocol_takes_nothing_over(dialler: Dialler) -> None:
    with H2Backend() as backend:
        old, new = http2(backend), endpoint(backend.port)
        await get(dialler, old)
        new.take_over(old)
        assert dialler.connections.checkout(new, True) is None


# What the backend refuses.


async def test_refused_stream_may_be_sent_again_with_what_was_sent_of_it(dialler: Dialler) -> None:
    def refuse_first(conversation: H2Conversation) -> None:
        conversation.reset(conversation.request(), REFUSED_STREAM)
        conversation.wait_for_end()

    with H2Backend(refuse_first) as backend:
        carrier = await carrier_to(dialler, http2(backend))
        receiver = begun(carrier, POST, Receiver(b"POST", complete=False))
        carrier.send_body(b"hello", True)
        carrier.send_end([b"X-Sum: 1"], True)
        assert (await failure_of(receiver)).kind is failures.REFUSED
        assert carrier.record == [b"hello"]
        assert carrier.trailers_sent == [b"X-Sum: 1"]


async def test_connection_that_refuses_takes_no_more(dialler: Dialler) -> None:
    def refuse_first(conversation: H2Conversation) -> None:
        if conversation is backend.conversations[0]:
            conversation.reset(conversation.request(), REFUSED_STREAM)
        plain(conversation)

    with H2Backend(refuse_first) as backend:
        target = http2(backend)
        assert (await failure_of(await get(dialler, target))).kind is failures.REFUSED
        assert (await get(dialler, target)).body == b"ok"
        assert len(backend.conversations) == 2


async def test_streams_above_goaway_are_refused_and_those_below_finish(dialler: Dialler) -> None:
    def leave(conversation: H2Conversation) -> None:
        first, _ = conversation.request(), conversation.request()
        conversation.leave(first.id)
        conversation.answer(first)
        conversation.wait_for_end()

    with H2Backend(leave) as backend:
        target = http2(backend)
        first, second = begun(await carrier_to(dialler, target)), begun(await carrier_to(dialler, target))
        assert (await failure_of(second)).kind is failures.REFUSED
        assert (await first.until_over()).body == b"ok"
        assert dialler.connections.checkout(target, True) is None
        await dialler.until_closed()


async def test_connection_that_leaves_politely_takes_no_more_and_finishes(dialler: Dialler) -> None:
    go_on = threading.Event()

    def leave(conversation: H2Conversation) -> None:
        request = conversation.request()
        conversation.leave(2**31 - 1)
        conversation.head_of(request, 200)
        go_on.wait(PATIENCE_S)
        conversation.body(request, b"late", ended=True)
        conversation.wait_for_end()

    with H2Backend(leave) as backend:
        target = http2(backend)
        receiver = begun(await carrier_to(dialler, target))
        await receiver.until(lambda: receiver.status)
        assert dialler.connections.checkout(target, True) is None
        go_on.set()
        assert (await receiver.until_over()).body == b"late"
        await dialler.until_closed()


async def test_backend_that_leaves_in_anger_says_why(dialler: Dialler) -> None:
    def leave(conversation: H2Conversation) -> None:
        request = conversation.request()
        conversation.leave(request.id, ENHANCE_YOUR_CALM)

    with H2Backend(leave) as backend:
        failure = await failure_of(await get(dialler, http2(backend)))
        assert failure.kind is failures.EOF
        assert failure.text.endswith("LastStreamID=1, ErrCode=ENHANCE_YOUR_CALM")


async def test_endpoint_that_demands_http1_gets_it_from_then_on(dialler: Dialler) -> None:
    def demand(conversation: H2Conversation) -> None:
        conversation.reset(conversation.request(), HTTP_1_1_REQUIRED)
        conversation.wait_for_end()

    with H2Backend(demand) as backend:
        target = http2(backend)
        assert (await failure_of(await get(dialler, target))).kind is failures.REFUSED
        assert isinstance(await dialler.carrier(target), BackendConnection)


async def test_reset_is_a_failure_that_names_it(dialler: Dialler) -> None:
    def reset(conversation: H2Conversation) -> None:
        conversation.reset(conversation.request(), 0x2)
        conversation.wait_for_end()

    with H2Backend(reset) as backend:
        failure = await failure_of(await get(dialler, http2(backend)))
        assert failure.kind is failures.STREAM_RESET
        assert failure.text == "stream error: stream ID 1; INTERNAL_ERROR; received from peer"


async def test_lost_connection_fails_by_class_as_with_http1(dialler: Dialler) -> None:
    def close(conversation: H2Conversation) -> None:
        conversation.request()

    with H2Backend(close) as backend:
        failure = await failure_of(await get(dialler, http2(backend)))
        assert (failure.kind, failure.text) == (failures.EOF, "EOF")


async def test_malformed_response_ends_its_stream_and_no_other(dialler: Dialler) -> None:
    def malformed(conversation: H2Conversation) -> None:
        bad, good = conversation.request(), conversation.request()
        conversation.head_of(bad, 200, ("connection", "close"))
        conversation.answer(good)
        conversation.wait_for_end()

    with H2Backend(malformed) as backend:
        target = http2(backend)
        bad, good = begun(await carrier_to(dialler, target)), begun(await carrier_to(dialler, target))
        failure = await failure_of(bad)
        assert failure.kind is failures.PROTOCOL
        assert failure.text == "stream error: stream ID 1; PROTOCOL_ERROR; connection-specific field"
        assert (await good.until_over()).body == b"ok"
        await eventually(lambda: backend.requests[0].reset is not None, "the backend is told")


async def test_broken_framing_ends_the_connection(dialler: Dialler) -> None:
    def broken(conversation: H2Conversation) -> None:
        conversation.request()
        conversation.send(frame(HEADERS, END_STREAM, 0, b""))
        conversation.wait_for_end()

    with H2Backend(broken) as backend:
        failure = await failure_of(await get(dialler, http2(backend)))
        assert failure.kind is failures.PROTOCOL
        assert failure.text == "http2: connection error: HEADERS without a stream"
        await dialler.until_closed()


async def test_body_that_differs_from_its_length_is_cut(dialler: Dialler) -> None:
    def short(conversation: H2Conversation) -> None:
        request = conversation.request()
        conversation.head_of(request, 200, ("content-length", "10"))
        conversation.body(request, b"short", ended=True)
        conversation.wait_for_end()

    with H2Backend(short) as backend:
        receiver = await get(dialler, http2(backend))
        assert receiver.status == 200
        assert (await failure_of(receiver)).kind is failures.PROTOCOL


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_head_bytes": 100}, "http2: server response headers exceeded 100 bytes; aborted"),
        ({"max_headers": 2}, "Too many response headers"),
    ],
)
async def test_response_heads_are_limited(options: dict[str, int], text: str) -> None:
    def large(conversation: H2Conversation) -> None:
        conversation.answer(conversation.request(), b"ok", 200, ("a", "b" * 100), ("c", "d"))
        conversation.wait_for_end()

    dialler = Dialler(http2_cleartext=True, **options)
    with H2Backend(large) as backend:
        failure = await failure_of(await get(dialler, http2(backend)))
        assert (failure.kind, failure.text) == (failures.PROTOCOL, text)
        dialler.connections.abort_all()
        await dialler.until_closed()


# Letting go.


async def test_exchange_that_lets_go_cancels_its_stream_and_no_other(dialler: Dialler) -> None:
    def wait(conversation: H2Conversation) -> None:
        first, second = conversation.request(), conversation.request()
        while first.reset is None:
            conversation.read()
        conversation.answer(second)
        conversation.wait_for_end()

    with H2Backend(wait) as backend:
        target = http2(backend)
        carrier = await carrier_to(dialler, target)
        begun(carrier)
        second = begun(await carrier_to(dialler, target))
        carrier.discard()
        assert (await second.until_over()).body == b"ok"
        assert backend.requests[0].reset == CANCEL


async def test_answer_that_comes_before_the_end_of_the_request_stops_the_request(dialler: Dialler) -> None:
    def answer_early(conversation: H2Conversation) -> None:
        request = conversation.head()
        conversation.answer(request, b"enough")
        conversation.complete(request)
        plain(conversation)

    with H2Backend(answer_early) as backend:
        target = http2(backend)
        receiver = begun(await carrier_to(dialler, target), POST, Receiver(b"POST", complete=False))
        assert (await receiver.until_over()).body == b"enough"
        await eventually(lambda: backend.requests[0].reset == CANCEL, "the upload is cancelled")
        assert (await get(dialler, target)).body == b"ok", "its connection goes on"


async def test_silent_backend_is_asked_for_a_sign_of_life_and_gets_no_more_until_it_gives_one(
    dialler: Dialler,
) -> None:
    go_on = threading.Event()

    def fall_asleep(conversation: H2Conversation) -> None:
        conversation.request()
        go_on.wait(PATIENCE_S)
        plain(conversation)

    with H2Backend(fall_asleep) as backend:
        target = http2(backend)
        carrier = await carrier_to(dialler, target)
        begun(carrier)
        dialler.clock.now += 6
        carrier.discard()
        assert dialler.connections.checkout(target, True) is None
        go_on.set()
        await eventually(lambda: dialler.connections.checkout(target, True) is not None, "the PING is answered")


async def test_backend_that_gives_no_sign_of_life_loses_its_connection(dialler: Dialler) -> None:
    end = threading.Event()

    def sleep(conversation: H2Conversation) -> None:
        conversation.request()
        end.wait(PATIENCE_S)

    with H2Backend(sleep) as backend:
        target = http2(backend)
        carrier, other = await carrier_to(dialler, target), await carrier_to(dialler, target)
        begun(carrier)
        waiting = begun(other)
        dialler.clock.now += 6
        carrier.discard()
        dialler.connections.sweep(dialler.clock.now + 9)
        assert waiting.failure is None
        dialler.connections.sweep(dialler.clock.now + 11)
        assert (await failure_of(waiting)).text == "http2: client connection lost"
        await dialler.until_closed()
        end.set()


# Versions.


async def test_plain_endpoint_gets_http1_unless_configured() -> None:
    dialler = Dialler()
    with RecordingBackend() as backend:
        receiver = await get(dialler, http2(backend))
        assert receiver.body == b"ok"
        assert backend.requests[0].version == "HTTP/1.1"
        dialler.connections.abort_all()
        await dialler.until_closed()


async def test_plain_endpoint_that_answers_in_http1_gets_that(dialler: Dialler) -> None:
    def refuse_first(conversation: Conversation) -> None:
        if conversation.number:
            recorder.plain(conversation)
        else:
            conversation.read(24)
            conversation.answer(b"", status="400 Bad Request", headers="Connection: close\r\n")

    with RecordingBackend(refuse_first) as backend:
        target = http2(backend)
        for _ in range(2):
            assert (await get(dialler, target)).body == b"ok"
        assert [request.version for request in backend.requests] == ["HTTP/1.1"] * 2


async def test_backend_that_never_says_what_it_accepts_is_given_up() -> None:
    dialler = Dialler(http2_cleartext=True, handshake_timeout_s=0.05)
    with RecordingBackend(Conversation.wait_for_end) as backend:
        with pytest.raises(BackendFailure) as caught:
            await dialler.carrier(http2(backend))
        assert caught.value.kind is failures.HANDSHAKE_TIMEOUT
        await dialler.until_closed()


@pytest.mark.parametrize(
    ("octets", "kind"), [(b"", failures.HANDSHAKE_EOF), (frame(HEADERS, 0, 1), failures.NOT_HTTP2)]
)
async def test_backend_that_cannot_have_read_a_request_may_always_be_left(
    dialler: Dialler, octets: bytes, kind: failures.FailureClass
) -> None:
    def refuse(conversation: Conversation) -> None:
        conversation.read(24)
        conversation.send(octets)

    with RecordingBackend(refuse) as backend, pytest.raises(BackendFailure) as caught:
        await dialler.carrier(http2(backend))
    assert caught.value.kind is kind
    assert kind.retry == failures.ALWAYS


class Tls:
    """A dialler that offers HTTP/2, and contexts for backends that it believes."""

    def __init__(self, directory: Path) -> None:
        self.authority: Authority = make_ca()
        config = Config(ca_certs=[self.authority.pair.certificate])
        self.dialler = Dialler(
            contexts=tuple(backend_contexts(config)), http2_contexts=tuple(backend_contexts(config, http2=True))
        )
        self._directory = directory

    def context(self, *protocols: str) -> ssl.SSLContext:
        context = server_context(issue(self.authority, ["instance"]), self._directory)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def endpoint(self, backend: H2Backend | RecordingBackend, protocol: str = "http2") -> Endpoint:
        return endpoint(backend.port, tls=True, san="instance", protocol=protocol)


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[Tls]:
    made = Tls(tmp_path)
    yield made
    made.dialler.connections.abort_all()
    await made.dialler.until_closed()


async def test_tls_endpoint_is_offered_http2(tls: Tls) -> None:
    with H2Backend(tls=tls.context("h2", "http/1.1")) as backend:
        assert (await get(tls.dialler, tls.endpoint(backend))).body == b"ok"
        assert backend.conversations[0].alpn == "h2"
        assert backend.requests[0].header(":scheme") == "https"


@pytest.mark.parametrize("offered", [("http/1.1",), ()])
async def test_tls_endpoint_that_does_not_know_http2_gets_http1(tls: Tls, offered: tuple[str, ...]) -> None:
    with RecordingBackend(tls=tls.context(*offered)) as backend:
        target = tls.endpoint(backend)
        carriers = await asyncio.gather(*[tls.dialler.carrier(target) for _ in range(4)])
        for carrier in carriers:
            assert isinstance(carrier, BackendConnection)
            assert (await tls.dialler.exchange(carrier)).body == b"ok"


async def test_endpoint_of_http1_is_not_offered_http2(tls: Tls) -> None:
    with RecordingBackend(tls=tls.context("h2", "http/1.1")) as backend:
        carrier = await tls.dialler.carrier(tls.endpoint(backend, "http1"))
        assert isinstance(carrier, BackendConnection)
        assert (await tls.dialler.exchange(carrier)).body == b"ok"


async def test_untrusted_backend_is_refused_as_with_http1(tls: Tls, tmp_path: Path) -> None:
    context = server_context(issue(make_ca("another"), ["instance"]), tmp_path)
    context.set_alpn_protocols(["h2"])
    with H2Backend(tls=context) as backend, pytest.raises(BackendFailure) as caught:
        await tls.dialler.carrier(tls.endpoint(backend))
    assert caught.value.kind is failures.UNTRUSTED


# WebSockets.


async def test_websocket_is_an_extended_connect_where_that_is_offered(dialler: Dialler) -> None:
    def echo(conversation: H2Conversation) -> None:
        request = conversation.head()
        conversation.head_of(request, 200)
        while not request.body:
            conversation.read()
        conversation.body(request, request.body[::-1])
        conversation.complete(request)
        conversation.body(request, b"", ended=True)
        conversation.wait_for_end()

    with H2Backend(echo, (ENABLE_CONNECT_PROTOCOL, 1)) as backend:
        carrier = await carrier_to(dialler, http2(backend), b"websocket")
        assert isinstance(carrier, BackendStream)
        receiver = begun(carrier, WEBSOCKET, Receiver(upgrade=b"websocket"))
        carrier.send(b"abc")
        await receiver.until(lambda: receiver.tunnelled == b"cba")
        assert receiver.status == 101
        carrier.send_eof()
        await receiver.until(lambda: "tunnel eof" in receiver.names())
        assert backend.requests[0].header(":protocol") == "websocket"


async def test_refused_websocket_is_an_ordinary_response(dialler: Dialler) -> None:
    def refuse(conversation: H2Conversation) -> None:
        conversation.answer(conversation.head(), b"no", 403)
        conversation.wait_for_end()

    with H2Backend(refuse, (ENABLE_CONNECT_PROTOCOL, 1)) as backend:
        carrier = await carrier_to(dialler, http2(backend), b"websocket")
        receiver = await dialler.exchange(carrier, Receiver(upgrade=b"websocket"), WEBSOCKET)
        assert (receiver.status, receiver.body) == (403, b"no")


async def test_websocket_gets_a_connection_of_its_own_where_extended_connect_is_not_offered(tls: Tls) -> None:
    with H2Backend(tls=tls.context("h2")) as backend:
        target = tls.endpoint(backend)
        await get(tls.dialler, target)
        carrier = await carrier_to(tls.dialler, target, b"websocket")
        assert isinstance(carrier, BackendConnection)
        assert carrier.for_one
        assert isinstance(tls.dialler.connections.checkout(target, True), BackendStream)
