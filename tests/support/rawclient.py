"""A client that sends exactly the bytes it is given and believes nothing it reads.

Blocking sockets: a test reads like the conversation it has. The response parser accepts only what RFC 9112
allows a sender; anything else is a `BadResponse`, an end before the announced one a `Truncated`.
"""

import contextlib
import random
import re
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field

from tests.support.fields import Headed
from tests.support.waiting import PATIENCE_S

STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)\r\n")
FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\r\n")
BETWEEN_BYTES_S = 0.00005
"""Long enough for the router to read a byte before the next arrives: makes splits real, nothing waits on it."""


class BadResponse(Exception):
    """What came is not HTTP."""


class Truncated(BadResponse):
    """The connection ended before the response did."""


@dataclass(slots=True)
class Response(Headed):
    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunks: int = 0
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list["Response"] = field(default_factory=list)
    """The 1xx responses that came before it."""
    framing: str = "none"
    """``none``, ``length``, ``chunked`` or ``close``."""


class RawClient:
    """One connection to the router. Use as a context manager."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        timeout_s: float = PATIENCE_S,
        receive_buffer: int | None = None,
        source: str | None = None,
    ) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            self.socket.bind((source, 0))
        self.socket.settimeout(timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect((host, port))
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=server_name)
        self.buffer = bytearray()
        self.ended = False
        self.was_reset = False

    def __del__(self) -> None:
        # Else what a failed test leaves behind is a warning, and so an error, in one that comes after it.
        self.socket.close()

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Sending.

    def send(self, octets: bytes) -> None:
        """Send whole. A peer that has already closed is not an error here: its answer is still to be read."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            self.socket.sendall(octets)

    def send_bytewise(self, octets: bytes) -> None:
        """Send each byte as a segment of its own."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            for position in range(len(octets)):
                self.socket.sendall(octets[position : position + 1])
                time.sleep(BETWEEN_BYTES_S)

    def send_cut(self, octets: bytes, seed: int, pieces: int = 4) -> None:
        """Send in pieces cut at random places; the same seed cuts at the same places."""
        cuts = sorted(random.Random(seed).randrange(len(octets) + 1) for _ in range(pieces - 1))
        for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
            self.send(octets[start:end])
            time.sleep(BETWEEN_BYTES_S)

    def end_sending(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """End with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # Receiving.

    def get(self, path: str = "/", *, host: str, headers: str = "") -> Response:
        """Send a plain GET and read its response."""
        self.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode("latin-1"))
        return self.read_response()

    def read_response(self, method: str = "GET", *, skip_interim: bool = True) -> Response:
        """Read one response whole; 1xx ones are collected in its ``interim`` unless asked for singly."""
        interim: list[Response] = []
        while True:
            response = self._read_head()
            if response.status >= 200 or response.status == 101:
                break
            if not skip_interim:
                return response
            interim.append(response)
        response.interim = interim
        self._read_body(response, method)
        return response

    def read_until_end(self) -> bytes:
        """Return all bytes up to the end of the connection, be it a FIN or a reset (see ``was_reset``)."""
        while self._more():
            pass
        rest, self.buffer = bytes(self.buffer), bytearray()
        return rest

    def is_closed_by_peer(self) -> bool:
        """Wait for the end of the connection; False if bytes come instead. Time-out if neither does."""
        return not self.buffer and not self._more()

    def read_exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._need_more()
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def read_line(self) -> bytes:
        while (end := self.buffer.find(b"\n")) < 0:
            self._need_more()
        return self.read_exactly(end + 1)

    def _more(self) -> bool:
        if self.ended:
            return False
        try:
            received = self.socket.recv(262144)
        except (ConnectionResetError, ssl.SSLEOFError):
            self.was_reset = True
            received = b""
        self.ended = not received
        self.buffer += received
        return not self.ended

    def _need_more(self) -> None:
        if not self._more():
            raise Truncated(f"the connection ended after {bytes(self.buffer)[:200]!r}")

    def _read_head(self) -> Response:
        line = self.read_line()
        match = STATUS_LINE.fullmatch(line)
        if match is None:
            raise BadResponse(f"status line {line!r}")
        version, status, reason = match.groups()
        return Response(f"HTTP/{version.decode()}", int(status), reason.decode("latin-1"), self._read_fields())

    def _read_fields(self) -> list[tuple[str, str]]:
        fields: list[tuple[str, str]] = []
        while (line := self.read_line()) != b"\r\n":
            match = FIELD_LINE.fullmatch(line)
            if match is None:
                raise BadResponse(f"field line {line!r}")
            fields.append((match[1].decode(), match[2].decode("latin-1")))
        return fields

    def _read_body(self, response: Response, method: str) -> None:
        lengths, codings = response.values("Content-Length"), response.values("Transfer-Encoding")
        if len(lengths) + len(codings) > 1:
            raise BadResponse(f"Content-Length {lengths} with Transfer-Encoding {codings}")
        if method == "HEAD" or response.status in (101, 204, 304):
            return
        if method == "CONNECT" and response.status < 300:
            return
        if codings:
            if codings != ["chunked"] or response.version == "HTTP/1.0":
                raise BadResponse(f"Transfer-Encoding {codings} in {response.version}")
            self._read_chunks(response)
        elif lengths:
            if not re.fullmatch("[0-9]+", lengths[0]):
                raise BadResponse(f"Content-Length {lengths}")
            response.framing = "length"
            response.body = self.read_exactly(int(lengths[0]))
        else:
            response.framing = "close"
            response.body = self.read_until_end()

    def _read_chunks(self, response: Response) -> None:
        response.framing = "chunked"
        body = bytearray()
        while True:
            line = self.read_line()
            if not re.fullmatch(rb"[0-9a-fA-F]+\r\n", line):
                raise BadResponse(f"chunk size line {line!r}")
            size = int(line, 16)
            if size == 0:
                break
            response.chunks += 1
            body += self.read_exactly(size)
            if self.read_exactly(2) != b"\r\n":
                raise BadResponse("chunk data not followed by CRLF")
        response.body = bytes(body)
        response.trailers = self._read_fields()
