import asyncio
import datetime
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from router.backend import failure as failures
from router.backend.connections import IDLE_S
from router.backend.dial import connect_timed_out
from router.backend.failure import BackendFailure, FailureClass
from router.certs import Authority, issue, make_ca
from router.config.schema import Config
from router.config.sections import Backends
from router.routing.pool import Endpoint
from router.tls import backend_contexts
from tests.backend.receiver import Dialler, Receiver, endpoint
from tests.support.certificates import server_context
from tests.support.eventually import eventually
from tests.support.odd_certificates import dns, make
from tests.support.ports import free_port
from tests.support.recorder import Conversation, RecordingBackend, plain


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


async def served(dialler: Dialler, target: Endpoint) -> None:
    """Have one request served on a new connection, which is then idle."""
    receiver = await dialler.exchange(await dialler.dial(target))
    assert receiver.failure is None


async def failure_of(dialler: Dialler, target: Endpoint) -> BackendFailure:
    with pytest.raises(BackendFailure) as caught:
        await dialler.dial(target)
    return caught.value


# Reuse.


async def test_most_recently_used_connection_comes_first(dialler: Dialler) -> None:
    with RecordingBackend() as backend:
        target = endpoint(backend.port)
        first, second = await dialler.dial(target), await dialler.dial(target)
        await dialler.exchange(first)
        await dialler.exchange(second)

        assert [dialler.connections.checkout(target, True) for _ in range(3)] == [second, first, None]
        assert first.reused


async def test_no_more_than_the_limit_are_kept(dialler: Dialler) -> None:
    with RecordingBackend() as backend:
        target = endpoint(backend.port)
        for connection in [await dialler.dial(target) for _ in range(3)]:
            await dialler.exchange(connection)

        assert len(target.idle or ()) == 2


@pytest.mark.parametrize("options", [{"keep_alive": False}, {"max_idle": 0}])
async def test_nothing_is_kept_when_that_is_configured(options: dict[str, int]) -> None:
    dialler = Dialler(**options)
    with RecordingBackend() as backend:
        target = endpoint(backend.port)
        await served(dialler, target)

        assert dialler.connections.checkout(target, True) is None
        await dialler.until_closed()


async def test_connection_that_the_backend_closed_is_not_handed_out(dialler: Dialler) -> None:
    with RecordingBackend() as backend:
        target = endpoint(backend.port)
        await served(dialler, target)
        backend.conversations[0].end_sending()
        # Whether the loop has heard of it or not.
        assert dialler.connections.checkout(target, False) is None
        await dialler.until_closed()

        assert not target.idle


async def test_connections_idle_too_long_are_closed(dialler: Dialler) -> None:
    with RecordingBackend() as backend:
        target = endpoint(backend.port)
        await served(dialler, target)
        dialler.connections.sweep(dialler.clock.now + IDLE_S)
        assert len(dialler.connections) == 1

        dialler.connections.sweep(dialler.clock.now + IDLE_S + 1)
        await dialler.until_closed()
        assert not target.idle


async def test_busy_connections_are_not_swept(dialler: Dialler) -> None:
    with RecordingBackend(lambda conversation: conversation.wait_for_end()) as backend:
        connection = await dialler.dial(endpoint(backend.port))
        connection.send_request(Receiver(), b"GET / HTTP/1.1\r\n\r\n")
        dialler.connections.sweep(dialler.clock.now + 10 * IDLE_S)

        assert connection.exchange is not None


async def test_closing_connection_whose_backend_takes_nothing_is_cut_in_the_end(dialler: Dialler) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = await dialler.dial(endpoint(listener.getsockname()[1]))
        connection.send_request(Receiver(), bytes(32 * 1024 * 1024))
        connection.close()
        dialler.connections.sweep(dialler.clock.now + IDLE_S)
        assert len(dialler.connections) == 1

        dialler.connections.sweep(dialler.clock.now + IDLE_S + 1)
        await dialler.until_closed()


async def test_idle_connections_of_an_endpoint_that_is_gone_are_closed(dialler: Dialler) -> None:
    with RecordingBackend() as backend:
        target = endpoint(backend.port)
        await served(dialler, target)
        busy = await dialler.dial(target)
        target.gone = True
        dialler.connections.endpoint_gone(target)
        await dialler.exchange(busy)

        await dialler.until_closed()
        assert target.idle is None


async def test_drain_closes_idle_connections_and_keeps_no_more(dialler: Dialler) -> None:
    with RecordingBackend() as backend:
        target = endpoint(backend.port)
        await served(dialler, target)
        busy = await dialler.dial(target)
        receiver = Receiver()
        busy.send_request(receiver, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        dialler.connections.close_idle()
        await receiver.until_over()

        assert receiver.body == b"ok"
        await dialler.until_closed()


async def test_abort_cuts_connections_and_dials(dialler: Dialler) -> None:
    outcomes: list[object] = []
    with RecordingBackend() as backend:
        await served(dialler, endpoint(backend.port))
        task = dialler.connections.dial(endpoint(backend.port), outcomes.append, outcomes.append)
        dialler.connections.abort_all()
        await asyncio.wait([task])
        await dialler.until_closed()

    assert task.cancelled()
    assert outcomes == []


async def test_probes_are_set_up_on_the_socket(dialler: Dialler) -> None:
    with RecordingBackend() as backend:
        connection = await dialler.dial(endpoint(backend.port))
        sock = socket.socket(fileno=socket.dup(connection.fileno()))
    with sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 1


# Dialling.


async def test_refused_connection_is_a_dial_failure(dialler: Dialler) -> None:
    port = free_port()
    failure = await failure_of(dialler, endpoint(port))

    assert failure.kind is failures.DIAL
    assert failure.text.startswith(f"dial tcp 127.0.0.1:{port}: ")
    assert "refused" in failure.text


async def test_name_that_cannot_be_one_is_a_dial_failure(dialler: Dialler) -> None:
    failure = await failure_of(dialler, endpoint(80, host="a" * 70 + ".test"))

    assert failure.kind is failures.DIAL


async def test_backend_that_does_not_accept_is_a_dial_failure_in_time() -> None:
    dialler = Dialler(dial_timeout_s=0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        # What fills the queue of a listener that accepts nothing: further SYNs stay unanswered.
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        failure = await failure_of(dialler, endpoint(address[1]))
        for each in waiting:
            each.close()

    assert (failure.kind, failure.text) == (failures.DIAL, f"dial tcp 127.0.0.1:{address[1]}: i/o timeout")


def test_exchange_that_times_out_while_connecting_may_be_repeated() -> None:
    failure = connect_timed_out("a:80")

    assert (failure.kind, failure.kind.retry) == (failures.CONNECT_TIMEOUT, failures.ALWAYS)


# TLS.


def trusting(authority: Authority, **backends: Any) -> tuple[ssl.SSLContext, ...]:
    return tuple(backend_contexts(Config(ca_certs=[authority.pair.certificate], backends=Backends(**backends))))


async def test_endpoint_with_tls_is_verified_by_its_announced_name(authority: Authority, tmp_path: Path) -> None:
    dialler = Dialler(contexts=trusting(authority))
    pair = issue(authority, ["instance-1"])
    with RecordingBackend(plain, tls=server_context(pair, tmp_path)) as backend:
        target = endpoint(backend.port, tls=True, san="instance-1")
        await served(dialler, target)
        again = dialler.connections.checkout(target, False)
        assert again is not None
        assert (await dialler.exchange(again)).body == b"ok"
        dialler.connections.close_idle()
        await dialler.until_closed()

    assert len(backend.conversations) == 1


async def test_endpoint_without_an_announced_name_is_verified_by_its_address(
    authority: Authority, tmp_path: Path
) -> None:
    dialler = Dialler(contexts=trusting(authority))
    with RecordingBackend(plain, tls=server_context(issue(authority, ["127.0.0.1"]), tmp_path)) as backend:
        await served(dialler, endpoint(backend.port, tls=True))
        dialler.connections.abort_all()
        await dialler.until_closed()


@pytest.mark.parametrize("san", ["other", ".bad", "a..b", "x" * 300, "nul\0l"])
async def test_wrong_or_impossible_name_is_a_mismatch(authority: Authority, tmp_path: Path, san: str) -> None:
    dialler = Dialler(contexts=trusting(authority))
    with RecordingBackend(plain, tls=server_context(issue(authority, ["right"]), tmp_path)) as backend:
        failure = await failure_of(dialler, endpoint(backend.port, tls=True, san=san))

    assert failure.kind is failures.NAME_MISMATCH
    assert failure.text.startswith("x509: ")


async def test_common_name_alone_does_not_count(tmp_path: Path) -> None:
    """RFC 9110 §4.3.4: a certificate is matched by its alternative names."""
    authority = make_ca("instance-1")
    dialler = Dialler(contexts=trusting(authority))
    with RecordingBackend(plain, tls=server_context(authority.pair, tmp_path)) as backend:
        failure = await failure_of(dialler, endpoint(backend.port, tls=True, san="instance-1"))

    assert failure.kind is failures.NAME_MISMATCH


async def test_unknown_authority_and_expired_certificate_are_untrusted(
    authority: Authority, tmp_path: Path
) -> None:
    dialler = Dialler(contexts=trusting(authority))
    for pair in (
        issue(make_ca("other CA"), ["name"]),
        issue(authority, ["name"], lifetime=datetime.timedelta(days=-1)),
    ):
        with RecordingBackend(plain, tls=server_context(pair, tmp_path)) as backend:
            failure = await failure_of(dialler, endpoint(backend.port, tls=True, san="name"))
            assert failure.kind is failures.UNTRUSTED


async def test_backend_that_speaks_plain_http_is_told_apart(authority: Authority) -> None:
    def script(conversation: Conversation) -> None:
        conversation.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        conversation.wait_for_end()

    dialler = Dialler(contexts=trusting(authority))
    with RecordingBackend(script) as backend:
        failure = await failure_of(dialler, endpoint(backend.port, tls=True))

    assert failure.kind is failures.NOT_TLS


@pytest.mark.parametrize(
    ("how", "kind"), [("end_sending", failures.HANDSHAKE_EOF), ("reset", failures.HANDSHAKE_RESET)]
)
async def test_backend_that_hangs_up_during_the_handshake(
    authority: Authority, how: str, kind: FailureClass
) -> None:
    def script(conversation: Conversation) -> None:
        conversation.read(1)
        getattr(conversation, how)()

    dialler = Dialler(contexts=trusting(authority))
    with RecordingBackend(script) as backend:
        failure = await failure_of(dialler, endpoint(backend.port, tls=True))

    assert failure.kind is kind


async def test_handshake_that_takes_too_long_is_given_up(authority: Authority) -> None:
    dialler = Dialler(contexts=trusting(authority), handshake_timeout_s=0.05)
    with RecordingBackend(lambda conversation: conversation.wait_for_end()) as backend:
        failure = await failure_of(dialler, endpoint(backend.port, tls=True))

    assert failure.kind is failures.HANDSHAKE_TIMEOUT


async def test_dial_cancelled_during_the_handshake_leaves_no_connection(authority: Authority) -> None:
    dialler = Dialler(contexts=trusting(authority))
    outcomes: list[object] = []
    with RecordingBackend(lambda conversation: conversation.wait_for_end()) as backend:
        task = dialler.connections.dial(endpoint(backend.port, tls=True), outcomes.append, outcomes.append)
        await eventually(lambda: any(each.received for each in backend.conversations), "the hello has come")
        task.cancel()
        await asyncio.wait([task])
        await eventually(lambda: backend.conversations[0].ended, "the connection is closed")

    assert outcomes == []
    assert len(dialler.connections) == 0


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        (ssl.TLSVersion.TLSv1_2, failures.HANDSHAKE_ALERT),
        (ssl.TLSVersion.TLSv1_3, failures.CLIENT_CERT_REFUSED),
    ],
)
async def test_client_certificate_is_shown_and_its_refusal_told(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion, kind: FailureClass
) -> None:
    context = server_context(issue(authority, ["name"]), tmp_path)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pair.certificate)
    identity = issue(authority, ["router"], client=True)
    own = {"cert_chain": identity.certificate, "private_key": identity.private_key}
    known = Dialler(contexts=trusting(authority, **own))
    unknown = Dialler(contexts=trusting(authority))
    with RecordingBackend(plain, tls=context) as backend:
        target = endpoint(backend.port, tls=True, san="name")
        await served(known, target)
        failure: BackendFailure | None
        try:
            # In TLS 1.3 the refusal comes after the client's handshake, instead of a response.
            failure = (
                await unknown.exchange(await unknown.dial(endpoint(backend.port, tls=True, san="name")))
            ).failure
        except BackendFailure as error:
            failure = error
        known.connections.abort_all()
        await known.until_closed()
        await unknown.until_closed()

    assert failure is not None
    assert failure.kind is kind


# CAs that share a name.


class Namesakes:
    """Three CAs of one name, and a backend for each that counts the handshakes it is asked for."""

    def __init__(self, directory: Path) -> None:
        self.authorities = [make("CN=CA", authority=True) for _ in range(3)]
        self.handshakes = 0
        self._directory = directory

    def dialler(self) -> Dialler:
        config = Config(ca_certs=[each.pem for each in self.authorities])
        return Dialler(contexts=tuple(backend_contexts(config)), keep_alive=False)

    def backend(self, number: int, port: int = 0) -> RecordingBackend:
        pair = make("CN=instance", self.authorities[number], names=dns("name")).pair()
        context = server_context(pair, self._directory)
        context.sni_callback = self._count
        return RecordingBackend(plain, tls=context, port=port)

    def _count(self, *_: object) -> None:
        self.handshakes += 1


@pytest.fixture
def namesakes(tmp_path: Path) -> Namesakes:
    return Namesakes(tmp_path)


async def test_what_believed_an_endpoint_last_is_tried_first(namesakes: Namesakes) -> None:
    dialler = namesakes.dialler()
    for number in range(3):
        with namesakes.backend(number) as backend:
            target = endpoint(backend.port, tls=True, san="name")
            await served(dialler, target)
            before = namesakes.handshakes
            for _ in range(3):
                await served(dialler, target)
            assert namesakes.handshakes == before + 3


async def test_endpoint_that_comes_back_with_another_namesakes_certificate_is_believed(
    namesakes: Namesakes,
) -> None:
    dialler = namesakes.dialler()
    target = endpoint(free_port(), tls=True, san="name")
    for number in (0, 1, 2, 1, 0):
        with namesakes.backend(number, target.record.port):
            await served(dialler, target)
            await dialler.until_closed()


async def test_endpoint_that_is_gone_is_forgotten(namesakes: Namesakes) -> None:
    dialler = namesakes.dialler()
    with namesakes.backend(1) as backend:
        target = endpoint(backend.port, tls=True, san="name")
        await served(dialler, target)
        first = namesakes.handshakes
        assert first > 1
        target.gone = True
        dialler.connections.endpoint_gone(target)
        await served(dialler, target)
        assert namesakes.handshakes == 2 * first
