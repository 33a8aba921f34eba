"""The TLS pump between a transport that holds what is written and a peer that is OpenSSL itself.

In memory, so that every cut of the stream can be made; over sockets it is tested with the data plane.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from router.certs import Authority, issue, make_ca
from router.read_buffer import BytesReader
from router.tls_stream import TlsStream
from tests.support.certificates import client_context, server_context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


@pytest.fixture
def server(authority: Authority, tmp_path: Path) -> ssl.SSLContext:
    # Letters in the name: pieces of the client's hello begin with them.
    return server_context(issue(authority, ["hello.test"]), tmp_path)


class Wire(asyncio.Transport):
    """What lies below the stream: keeps what is written and what was asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.eof = self.closed = self.aborted = self.paused = False

    def write(self, data: Any) -> None:
        assert not self.eof
        assert not self.closed
        self.written += data

    def write_eof(self) -> None:
        self.eof = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 7

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("10.0.0.1", 5)}.get(name, default)


class Inner(BytesReader):
    """What stands above the stream."""

    def __init__(self) -> None:
        self.received = b""
        self.events: list[str] = []
        self.lost: Exception | None = None
        self.half_open = False
        self.pauses_after = 0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.pauses_after and len(self.received) >= self.pauses_after:
            self.pauses_after = 0
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.half_open

    def pause_writing(self) -> None:
        self.events.append("full")

    def resume_writing(self) -> None:
        self.events.append("writable")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost = exc


class Talk:
    """A stream, what is above and below it, and a peer."""

    def __init__(self, context: ssl.SSLContext, peer: ssl.SSLContext, *, name: str | None = None) -> None:
        self.inner = Inner()
        self.failures: list[BaseException] = []
        self.wire = Wire()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        server_side = name is not None
        self.peer = peer.wrap_bio(
            self._in, self._out, server_side=server_side, server_hostname=None if server_side else "hello.test"
        )
        self.stream = TlsStream(context, lambda _: self.inner, self._failed, server_hostname=name)
        self.stream.connection_made(self.wire)

    def _failed(self, _: TlsStream, error: BaseException) -> None:
        self.failures.append(error)

    def peer_hears(self) -> None:
        self._in.write(self.wire.written)
        self.wire.written = b""

    def peer_says(self) -> bytes:
        return self._out.read()

    def shake(self, cut: int = 1 << 20) -> "Talk":
        """Shake hands, what the peer says arriving in pieces of ``cut`` bytes."""
        for _ in range(4):
            try:
                self.peer.do_handshake()
            except ssl.SSLWantReadError:
                pass
            said = self.peer_says()
            for start in range(0, len(said), cut):
                self.stream.data_received(said[start : start + cut])
            self.peer_hears()
        return self

    def sends(self, octets: bytes) -> None:
        """Let the peer send."""
        self.peer.write(octets)
        self.stream.data_received(self.peer_says())

    def reads(self) -> bytes:
        """What the peer reads; empty at the end of the stream."""
        self.peer_hears()
        pieces = []
        while True:
            try:
                piece = self.peer.read(1 << 20)
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                break
            if not piece:
                break
            pieces.append(piece)
        return b"".join(pieces)

    def ends(self) -> None:
        """Let the peer send close_notify."""
        try:
            self.peer.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.stream.data_received(self.peer_says())


@pytest.fixture
def open_talk(server: ssl.SSLContext, authority: Authority) -> Talk:
    """A talk after its handshake."""
    return Talk(server, client_context(authority)).shake()


def test_bytes_go_both_ways(open_talk: Talk) -> None:
    open_talk.sends(b"question")
    open_talk.stream.write(b"ans")
    open_talk.stream.writelines([b"w", b"er"])

    assert open_talk.inner.received == b"question"
    assert open_talk.reads() == b"answer"
    assert open_talk.inner.events == ["made"]


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 100])
def test_handshake_may_come_in_pieces_that_begin_with_any_byte(
    server: ssl.SSLContext, authority: Authority, cut: int
) -> None:
    talk = Talk(server, client_context(authority)).shake(cut)
    talk.sends(b"question")

    assert (talk.inner.received, talk.failures, talk.wire.closed) == (b"question", [], False)


def test_client_side_verifies_and_talks(server: ssl.SSLContext, authority: Authority) -> None:
    talk = Talk(client_context(authority), server, name="hello.test").shake()
    talk.sends(b"x")
    talk.stream.write(b"y")

    assert (talk.inner.received, talk.reads()) == (b"x", b"y")


def test_client_side_tells_why_it_does_not_trust(server: ssl.SSLContext, authority: Authority) -> None:
    talk = Talk(client_context(authority), server, name="other.test")
    with pytest.raises(ssl.SSLError, match="ALERT"):
        talk.shake()

    [failure] = talk.failures
    assert isinstance(failure, ssl.SSLCertVerificationError)
    assert talk.inner.events == []


def test_refused_handshake_ends_with_the_alert_that_says_why(server: ssl.SSLContext, authority: Authority) -> None:
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    old = client_context(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    talk = Talk(server, old)
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        talk.shake()

    assert len(talk.failures) == 1
    assert talk.wire.eof


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n\r\n", b"G", b"PRI * HTTP/2.0\r\n\r\n"])
def test_plain_http_is_told_where_it_is(server: ssl.SSLContext, authority: Authority, octets: bytes) -> None:
    talk = Talk(server, client_context(authority))
    talk.stream.data_received(octets)
    talk.stream.data_received(b"more")

    assert talk.wire.written == (
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    )
    assert talk.wire.eof
    assert [str(failure) for failure in talk.failures] == ["plain HTTP on a TLS port"]


def test_what_is_neither_tls_nor_http_is_closed(server: ssl.SSLContext, authority: Authority) -> None:
    talk = Talk(server, client_context(authority))
    talk.stream.data_received(b"\x00\x01garbage")

    assert talk.wire.eof
    assert [type(each) for each in talk.failures] == [ssl.SSLError]


def test_stream_without_a_transport_is_not_closing_yet(server: ssl.SSLContext) -> None:
    assert not TlsStream(server, lambda _: Inner(), lambda *_: None).is_closing()


def test_refused_client_is_read_from_until_it_has_gone(server: ssl.SSLContext, authority: Authority) -> None:
    talk = Talk(server, client_context(authority))
    talk.stream.data_received(b"POST / HTTP/1.1\r\n")
    talk.stream.data_received(b"more of it")
    assert (talk.wire.closed, talk.stream.is_closing()) == (False, False)

    assert not talk.stream.eof_received()
    talk.stream.connection_lost(None)
    assert talk.stream.is_closing()
    assert len(talk.failures) == 1


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_loss_during_the_handshake_is_told_once(
    server: ssl.SSLContext, authority: Authority, error: Exception | None
) -> None:
    talk = Talk(server, client_context(authority))
    talk.stream.data_received(b"\x16")
    assert not talk.stream.eof_received()
    talk.stream.connection_lost(error)

    [failure] = talk.failures
    assert isinstance(failure, ConnectionAbortedError if error is None else ConnectionResetError)
    assert talk.inner.events == []


async def test_paused_stream_delivers_nothing_until_resumed(open_talk: Talk) -> None:
    open_talk.inner.pauses_after = 1
    open_talk.peer.write(b"a" * 100)
    open_talk.peer.write(b"b" * 40_000)
    open_talk.stream.data_received(open_talk.peer_says())
    assert open_talk.inner.received == b"a" * 100
    assert open_talk.wire.paused
    assert not open_talk.stream.is_reading()

    open_talk.stream.resume_reading()
    open_talk.stream.resume_reading()
    await asyncio.sleep(0)
    assert open_talk.inner.received == b"a" * 100 + b"b" * 40_000
    assert not open_talk.wire.paused


def test_end_of_the_peer_ends_both_ways(open_talk: Talk) -> None:
    open_talk.ends()

    assert open_talk.inner.events == ["made", "eof"]
    assert open_talk.wire.closed
    open_talk.stream.connection_lost(None)
    assert open_talk.inner.events == ["made", "eof", "lost"]


def test_end_of_the_peer_leaves_a_half_open_stream_writable(open_talk: Talk) -> None:
    open_talk.inner.half_open = True
    open_talk.ends()
    assert open_talk.stream.eof_received() is False
    open_talk.stream.write(b"late answer")

    assert open_talk.inner.events == ["made", "eof"]
    assert not open_talk.wire.closed
    assert open_talk.reads() == b"late answer"


def test_end_without_close_notify_is_an_end(open_talk: Talk) -> None:
    assert not open_talk.stream.eof_received()

    assert open_talk.inner.events == ["made", "eof"]


def test_own_end_leaves_the_peer_s_bytes_readable(open_talk: Talk) -> None:
    open_talk.stream.write(b"last")
    open_talk.stream.write_eof()
    open_talk.stream.write(b"too late")
    assert open_talk.wire.eof
    assert open_talk.reads() == b"last"

    open_talk.sends(b"still coming")
    assert open_talk.inner.received == b"still coming"
    assert not open_talk.wire.closed


def test_bytes_under_way_do_not_break_an_ended_stream(open_talk: Talk) -> None:
    open_talk.peer.write(b"under way")
    under_way = open_talk.peer_says()
    open_talk.stream.write_eof()
    for _ in range(3):
        open_talk.stream.data_received(under_way)
        open_talk.peer.write(b"more")
        under_way = open_talk.peer_says()

    assert open_talk.inner.received == b"under waymoremore"
    assert not open_talk.wire.closed


def test_close_says_goodbye_once(open_talk: Talk) -> None:
    open_talk.stream.close()
    open_talk.stream.close()

    assert open_talk.wire.closed
    assert open_talk.stream.is_closing()
    open_talk.peer_hears()
    # Without close_notify this would be an error.
    assert open_talk.peer.read(1) == b""


def test_corrupted_record_ends_the_stream_with_its_error(open_talk: Talk) -> None:
    open_talk.peer.write(b"secret")
    record = bytearray(open_talk.peer_says())
    record[-1] ^= 1
    open_talk.stream.data_received(bytes(record))
    assert open_talk.wire.closed
    open_talk.stream.connection_lost(None)

    assert open_talk.inner.received == b""
    assert isinstance(open_talk.inner.lost, ssl.SSLError)


def test_write_after_the_peers_alert_does_not_hide_it(server: ssl.SSLContext, authority: Authority) -> None:
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    server.verify_mode = ssl.CERT_REQUIRED
    talk = Talk(client_context(authority), server, name="hello.test")
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        talk.shake()
    assert talk.inner.events == ["made"]
    talk.stream.data_received(talk.peer_says())
    talk.stream.write(b"request")
    talk.stream.connection_lost(None)

    assert "CERTIFICATE_REQUIRED" in str(talk.inner.lost)


def test_what_the_wire_says_of_its_fullness_is_passed_on(
    server: ssl.SSLContext, authority: Authority, open_talk: Talk
) -> None:
    open_talk.stream.pause_writing()
    open_talk.stream.resume_writing()
    assert open_talk.inner.events == ["made", "full", "writable"]

    silent = Talk(server, client_context(authority))
    silent.stream.pause_writing()
    silent.stream.resume_writing()
    assert silent.inner.events == []


def test_facts_come_from_the_wire_and_of_tls_from_the_stream(open_talk: Talk) -> None:
    stream = open_talk.stream

    assert stream.get_extra_info("peername") == ("10.0.0.1", 5)
    assert stream.get_extra_info("ssl_object").version() == "TLSv1.3"
    assert stream.get_extra_info("unknown", 3) == 3
    assert (stream.get_write_buffer_size(), stream.can_write_eof()) == (7, True)
    assert stream.get_protocol() is open_talk.inner
    other = Inner()
    stream.set_protocol(other)
    open_talk.sends(b"x")
    assert other.received == b"x"


def test_abort_aborts_the_wire(open_talk: Talk) -> None:
    open_talk.stream.abort()

    assert open_talk.wire.aborted
