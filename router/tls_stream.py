"""TLS between a raw transport and a protocol, by our own pump over OpenSSL's memory BIOs.

The event loop's own TLS closes a failed handshake without sending the alert OpenSSL has ready, so that peers see
only a closed connection; it cannot be fed bytes that were read before; and it says nothing useful to a client that
speaks plain HTTP to a TLS port. Hence this class, which stands below as a protocol and above as a transport.

Owns the handshake, encryption and close_notify of one connection; does not own time-outs or certificates.
"""

import asyncio
import ssl
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from router.read_buffer import READ_BUFFER, unread
from router.wire.client_hello import HelloReader

_READ_BYTES = 65536
_HANDSHAKE_RECORD = 0x16
_PLAIN_HTTP_ANSWER = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

_BAD_CERTIFICATE = {
    "TLSv1.2": b"\x15\x03\x03\x00\x02\x02\x2a",
    "TLSv1.1": b"\x15\x03\x02\x00\x02\x02\x2a",
    "TLSv1": b"\x15\x03\x01\x00\x02\x02\x2a",
}
"""A record with the fatal alert 42 (RFC 5246 §7.2), by version; in TLS 1.3 it would have to be encrypted."""

_NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"
"""A record with the fatal alert 120 (RFC 7301 §3.2); nothing is encrypted before the hello is answered."""

_HANDSHAKE, _OPEN, _LEAVING, _CLOSED = range(4)

_SIGNATURE_FAILURE = 7
"""X509_V_ERR_CERT_SIGNATURE_FAILURE of OpenSSL's x509_vfy.h."""


def is_issuer_ambiguous(error: BaseException | None) -> bool:
    """Tell whether a handshake failed because the CA that has the issuer's name has another key."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == _SIGNATURE_FAILURE


class CertificateRefused(ssl.SSLError):
    """OpenSSL believes the peer's certificate, and the check of this side does not."""


class Choice(Protocol):
    """Chooses the context of a connection by the first message of its client."""

    server_name: str
    """What the client asked for, once the context is known; empty if it sent no name."""

    def feed(self, data: bytes | memoryview) -> ssl.SSLContext | None:
        """Take bytes from the client; return the context once it is known."""


class TlsStream(asyncio.Transport, asyncio.BufferedProtocol):
    """One TLS connection, either side.

    Args:
        context: certificates, versions, suites.
        accept: makes the inner protocol once the handshake is done.
        failed: called once instead, with what went wrong, when the handshake does not come about. On the server
            side the peer may still be reading why, until `is_closing`; the caller aborts what takes too long.
        server_hostname: the name to ask for and to verify; None on the server side.
        check: called when the handshake is done and before any protocol is made; a text that it returns is why the
            peer is refused all the same, and then it has not seen the handshake succeed (up to TLS 1.2).
        choice: on the server side, chooses another context than ``context`` by the client's first message.
        protocols: on the server side, what ALPN may choose. A client that offers protocols, and none of these, is
            refused before anything answers it; without ``protocols``, or to who offers none, ALPN has no say.

    Attributes:
        server_name: what the client asked for, if there was a choice; else empty.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        accept: Callable[["TlsStream"], asyncio.BufferedProtocol],
        failed: Callable[["TlsStream", BaseException], None],
        server_hostname: str | None = None,
        check: Callable[[ssl.SSLObject], str | None] | None = None,
        choice: Choice | None = None,
        protocols: Collection[bytes] = (),
    ) -> None:
        super().__init__()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._server_side = server_hostname is None
        self._check = check
        self._choice = choice
        self._protocols = protocols
        self._hello = HelloReader() if protocols else None
        self.server_name = ""
        self.ssl_object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=self._server_side,
            server_hostname=server_hostname,
        )
        self._accept: Callable[[TlsStream], asyncio.BufferedProtocol] | None = accept
        self._failed: Callable[[TlsStream, BaseException], None] | None = failed
        self._state = _HANDSHAKE
        self._paused = False
        self._begun = False
        self._eof_sent = False
        self._eof_received = False
        self._error: Exception | None = None
        self._raw: Any = None
        self._inner: Any = None

    # The protocol below.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = transport
        if not self._server_side:
            self._handshake()

    def get_buffer(self, sizehint: int) -> memoryview:
        return READ_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(READ_BUFFER[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        """Take bytes from the peer."""
        if self._state >= _LEAVING:
            return
        self._incoming.write(data)
        if self._state == _HANDSHAKE:
            # Only the first byte tells: a hello that comes in pieces may go on with any.
            first, self._begun = not self._begun, True
            if first and self._server_side and data[0] != _HANDSHAKE_RECORD and self._refuse_plain_http(data):
                return
            if self._hello is not None and self._refuse_protocols(self._hello, data):
                return
            if self._choice is None or self._choose(self._choice, data):
                self._handshake()
        else:
            self._read()

    def eof_received(self) -> bool:
        return self._state == _OPEN and self._end_of_stream()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._state == _OPEN and not self._server_side and not self._paused:
            # A server that answers and closes while it is being written to: the write met the reset first.
            self._incoming.write(unread(self._raw))
            self._read()
        state, self._state = self._state, _CLOSED
        if state == _HANDSHAKE:
            self._fail(exc or ConnectionAbortedError("closed during the TLS handshake"))
        elif self._inner is not None:
            self._inner.connection_lost(self._error or exc)
        # Inner protocol and stream refer to each other: without this, dead connections with their 30 kB of OpenSSL
        # state would lie about until the next run of the cycle collector, which is rare here.
        self._inner = self._failed = self._error = None

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def _refuse_plain_http(self, data: bytes | memoryview) -> bool:
        if not bytes(data[:1]).isalpha():
            return False
        self._raw.write(_PLAIN_HTTP_ANSWER)
        self._part()
        self._fail(ssl.SSLError(ssl.SSL_ERROR_SSL, "plain HTTP on a TLS port"))
        return True

    def _refuse_protocols(self, hello: HelloReader, data: bytes | memoryview) -> bool:
        """Read on in the hello, which is whole here with the same bytes as for OpenSSL; tell if it is refused."""
        offered = hello.feed(data)
        if offered is None:
            return False
        self._hello = None
        if not offered or any(name in self._protocols for name in offered):
            return False
        self._raw.write(_NO_APPLICATION_PROTOCOL)
        self._part()
        names = ", ".join(name.decode("ascii", "backslashreplace") for name in offered)
        self._fail(ssl.SSLError(ssl.SSL_ERROR_SSL, f"client offers no protocol that is spoken here: {names}"))
        return True

    def _choose(self, choice: Choice, data: bytes | memoryview) -> bool:
        context = choice.feed(data)
        if context is None:
            return False
        self._choice = None
        self.server_name = choice.server_name
        if context is not self.ssl_object.context:
            # Nothing was read yet by the object that is replaced, and all that came is still there to read.
            self.ssl_object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        return True

    def _handshake(self) -> None:
        try:
            self.ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ValueError) as error:
            self._flush()
            self._part()
            self._fail(error)
            return
        refused = self._check(self.ssl_object) if self._check is not None else None
        if refused is not None:
            self._refuse(refused)
            return
        self._flush()
        self._state = _OPEN
        accept, self._accept, self._failed = self._accept, None, None
        assert accept is not None
        self._inner = accept(self)
        self._inner.connection_made(self)
        if self._incoming.pending and self._state == _OPEN:
            self._read()

    def _refuse(self, reason: str) -> None:
        """End a handshake that is done for OpenSSL, but whose last messages the peer has not got yet."""
        self._outgoing.read()
        # Until our ChangeCipherSpec, which comes last if no session is resumed, the peer reads plain text.
        if not self.ssl_object.session_reused:
            self._raw.write(_BAD_CERTIFICATE.get(self.ssl_object.version() or "", b""))
        self._part()
        self._fail(CertificateRefused(ssl.SSL_ERROR_SSL, reason))

    def _part(self) -> None:
        """End a handshake so that the client gets to read why: closing with unread bytes in the socket makes the
        kernel send a reset, which throws away what the client has not read yet."""
        if not self._server_side or self._raw.is_closing():
            self._state = _CLOSED
            self._raw.close()
            return
        self._state = _LEAVING
        try:
            self._raw.write_eof()
        except OSError:
            self._raw.close()  # The client has gone by itself.

    def _fail(self, error: BaseException) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            failed(self, error)

    def _read(self) -> None:
        ssl_object = self.ssl_object
        while not self._paused and self._state == _OPEN:
            try:
                data = ssl_object.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as error:
                self._die(error)
                return
            if not data:
                self._end_of_stream()
                return
            self._inner.data_received(data)
            # A read that would raise SSLWantReadError costs 2 µs; asking first costs a tenth of that.
            if not self._incoming.pending and not ssl_object.pending():
                break
        if self._outgoing.pending:
            self._flush()

    def _end_of_stream(self) -> bool:
        """The peer sends no more, by close_notify or by closing; that ends both ways unless the inner protocol
        wants to finish writing. Told once."""
        if self._eof_received:
            return False
        self._eof_received = True
        if self._inner.eof_received():
            return True
        self.close()
        return False

    def _die(self, error: Exception) -> None:
        # The first error is the cause; OpenSSL answers whatever is tried afterwards with others.
        self._error = self._error or error
        self._flush()
        self._raw.close()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    # The transport above.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._state != _OPEN or self._eof_sent or not data:
            return
        try:
            self.ssl_object.write(data)
        except ssl.SSLError as error:
            self._die(error)
            return
        self._flush()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Send close_notify, then close once everything has been written."""
        if self._state == _CLOSED:
            return
        self._send_close_notify()
        self._raw.close()

    def abort(self) -> None:
        self._raw.abort()

    def write_eof(self) -> None:
        """Send close_notify and end the raw stream; the peer's bytes are still read."""
        self._send_close_notify()
        if not self._raw.is_closing():
            self._raw.write_eof()

    def can_write_eof(self) -> bool:
        return True

    def _send_close_notify(self) -> None:
        if self._eof_sent or self._state != _OPEN:
            return
        self._eof_sent = True
        try:
            self.ssl_object.unwrap()
        except ssl.SSLError:
            pass  # The usual outcome: our close_notify is written, the peer's has not come.
        self._flush()

    def is_closing(self) -> bool:
        # The sweep may ask before there is a transport.
        return bool(self._state == _CLOSED or (self._raw is not None and self._raw.is_closing()))

    def pause_reading(self) -> None:
        self._paused = True
        if not self._raw.is_closing():
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        if not self._paused:
            return
        self._paused = False
        if self._raw.is_closing():
            return
        self._raw.resume_reading()
        if self._state == _OPEN:
            # What was decrypted or received before the pause is not announced again by the loop.
            asyncio.get_running_loop().call_soon(self._read)

    def is_reading(self) -> bool:
        return not self._paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return int(self._raw.get_write_buffer_size())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self.ssl_object
        return self._raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inner = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._inner  # type: ignore[no-any-return]
