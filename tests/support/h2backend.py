"""A backend that speaks HTTP/2 frame by frame, as a script tells it to; independent of our engine.

Frames are those of `tests.support.h2peer`, header blocks come from the ``hpack`` library. One thread a connection;
a script is a plain function over an `H2Conversation` and reads like one.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import hpack

from tests.support.h2peer import (
    ACK,
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Fields,
    Frame,
    block,
    frame,
    settings,
    window_update,
)
from tests.support.waiting import PATIENCE_S

NO_LIMIT = 2**31 - 1


class Ended(Exception):
    """The router closed the connection."""


@dataclass(slots=True)
class H2Request:
    """What came on one stream."""

    id: int
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.fields if key == name]
        assert len(found) < 2, f"{name} came {len(found)} times: {found}"
        return found[0] if found else None

    @property
    def path(self) -> str | None:
        return self.header(":path")


class H2Conversation:
    """One connection from the router.

    Attributes:
        requests: by stream.
        credits: windows are given back as DATA comes.
        goaway: whether the router has said goodbye.
        settings: what the router sent, by number.
    """

    def __init__(self, backend: "H2Backend", connection: socket.socket) -> None:
        self.backend = backend
        self.requests: dict[int, H2Request] = {}
        self.credits = True
        self.goaway = False
        self.settings: dict[int, int] = {}
        self.alpn = connection.selected_alpn_protocol() if isinstance(connection, ssl.SSLSocket) else None
        self._socket = connection
        self._buffer = b""
        self._decoder = hpack.Decoder()
        self._decoder.max_header_list_size = 1 << 20
        self._fresh: list[H2Request] = []

    # Reading.

    def begin(self, *own: tuple[int, int]) -> None:
        """Exchange prefaces."""
        assert self._exactly(len(PREFACE)) == PREFACE
        self.send(settings(*own))

    def read(self) -> Frame:
        """Read a frame, noting what it says and answering what has to be. Raises `Ended`."""
        head = self._exactly(9)
        payload = self._exactly(int.from_bytes(head[:3], "big"))
        kind, flags, stream_id = struct.unpack(">BBL", head[3:])
        got = Frame(kind, flags, stream_id, payload)
        self._note(got)
        return got

    def head(self) -> H2Request:
        """Wait for the next request's head."""
        while not self._fresh:
            self.read()
        return self._fresh.pop(0)

    def request(self) -> H2Request:
        """Wait for the next request, whole."""
        request = self.head()
        self.complete(request)
        return request

    def complete(self, request: H2Request) -> None:
        """Wait for a request's end."""
        while not (request.ended or request.reset is not None):
            self.read()

    def wait_for_end(self) -> None:
        """Read on until the router closes."""
        with contextlib.suppress(Ended):
            while True:
                self.read()

    # Writing.

    def send(self, *frames: bytes) -> None:
        try:
            self._socket.sendall(b"".join(frames))
        except OSError as error:
            raise Ended from error

    def head_of(self, request: H2Request, status: int, *fields: tuple[str, str], ended: bool = False) -> None:
        flags = END_HEADERS | (END_STREAM if ended else 0)
        self.send(frame(HEADERS, flags, request.id, block([(":status", str(status)), *fields])))

    def body(self, request: H2Request, piece: bytes, ended: bool = False) -> None:
        self.send(frame(DATA, END_STREAM if ended else 0, request.id, piece))

    def trailers(self, request: H2Request, *fields: tuple[str, str]) -> None:
        self.send(frame(HEADERS, END_HEADERS | END_STREAM, request.id, block(list(fields))))

    def answer(self, request: H2Request, body: bytes = b"ok", status: int = 200, *fields: tuple[str, str]) -> None:
        self.head_of(request, status, ("content-length", str(len(body))), *fields, ended=not body)
        if body:
            self.body(request, body, ended=True)

    def reset(self, request: H2Request, code: int = CANCEL) -> None:
        self.send(frame(RST_STREAM, 0, request.id, struct.pack(">L", code)))

    def leave(self, last: int, code: int = 0) -> None:
        self.send(frame(GOAWAY, 0, 0, struct.pack(">LL", last, code)))

    def hang_up(self) -> None:
        """End the connection; whatever reads from it raises `Ended`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    # The inside.

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            try:
                more = self._socket.recv(65536)
            except OSError as error:
                raise Ended from error
            if not more:
                raise Ended
            self._buffer += more
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _note(self, got: Frame) -> None:
        if got.kind == SETTINGS and not got.flags & ACK:
            self.settings.update(struct.iter_unpack(">HL", got.payload))
            self.send(frame(SETTINGS, ACK))
        elif got.kind == PING and not got.flags & ACK:
            self.send(frame(PING, ACK, 0, got.payload))
        elif got.kind == GOAWAY:
            self.goaway = True
        elif got.kind == HEADERS:
            self._note_head(got)
        elif got.stream_id in self.requests:
            self._note_stream(self.requests[got.stream_id], got)

    def _note_head(self, got: Frame) -> None:
        assert got.flags & END_HEADERS
        fields = [(str(name), str(value)) for name, value in self._decoder.decode(got.payload)]
        request = self.requests.get(got.stream_id)
        if request is None:
            request = self.requests[got.stream_id] = H2Request(got.stream_id, fields)
            self._fresh.append(request)
            self.backend.note(request)
        else:
            request.trailers = fields
        request.ended = got.ended

    def _note_stream(self, request: H2Request, got: Frame) -> None:
        if got.kind == RST_STREAM:
            request.reset = got.number()
        elif got.kind == DATA:
            request.body += got.payload
            request.ended = got.ended
            if self.credits and got.payload:
                self.send(window_update(0, len(got.payload)))
                if not got.ended:
                    self.send(window_update(request.id, len(got.payload)))


Script = Callable[[H2Conversation], None]


def plain(conversation: H2Conversation) -> None:
    """Answer 200 ``ok`` to everything."""
    while True:
        conversation.answer(conversation.request())


class H2Backend:
    """Listens on a free port. Use as a context manager.

    Attributes:
        conversations: every connection, in order.
        requests: of all connections, in the order of their heads.
    """

    def __init__(
        self, script: Script = plain, *own_settings: tuple[int, int], tls: ssl.SSLContext | None = None
    ) -> None:
        self.conversations: list[H2Conversation] = []
        self.requests: list[H2Request] = []
        self._script = script
        self._settings = own_settings
        self._tls = tls
        self._lock = threading.Lock()
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> "H2Backend":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            self._closing = True
            conversations = list(self.conversations)
        for conversation in conversations:
            conversation.hang_up()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def note(self, request: H2Request) -> None:
        self.requests.append(request)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            conversation = H2Conversation(self, connection)
            with self._lock:
                if self._closing:
                    return
                self.conversations.append(conversation)
            with contextlib.suppress(Ended):
                conversation.begin(*self._settings)
                self._script(conversation)
        except OSError:
            pass  # The handshake failed, which is what some tests want.
        finally:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
