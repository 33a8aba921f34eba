"""A backend that writes down every byte it is sent, and answers as a script tells it to.

Deliberately lenient: it reads what a careless server would, so that a malformed request that reaches it is seen
and not refused. Whether the bytes were right is for `tests.support.grammar` to say afterwards. One thread a
connection; a script is a plain function over a `Conversation` and reads like one.
"""

import array
import contextlib
import fcntl
import re
import select
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from tests.support import grammar
from tests.support.fields import Headed
from tests.support.waiting import PATIENCE_S, wait_until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HEAD_END = re.compile(rb"\r?\n\r?\n")


@dataclass(slots=True)
class Request(Headed):
    """A request as a careless reader understands it."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    raw_head: bytes
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)


class Ended(Exception):
    """The router closed the connection."""


class Conversation:
    """One connection from the router: what has come so far, and what a script may do."""

    def __init__(self, backend: "RecordingBackend", connection: socket.socket, number: int) -> None:
        self.backend = backend
        self.number = number
        self.received = bytearray()
        """Every byte that ever came."""
        self.requests: list[Request] = []
        self.ended = False
        """The router has closed its side, or reset."""
        self.was_reset = False
        self.closed = False
        self._socket = connection
        self._position = 0
        self._lock = threading.Lock()

    # What scripts use.

    def read_request(self) -> Request:
        """Read one request whole. Raises `Ended` at the end of the connection."""
        request = self.read_head()
        self.read_body(request)
        return request

    def read_head(self) -> Request:
        """Read a request's head and leave its body unread."""
        while (match := HEAD_END.search(self.received, self._position)) is None:
            self._read_more()
        raw = self._take(match.end() - self._position)
        request = _parse_head(raw)
        self.requests.append(request)
        self.backend.note(request)
        return request

    def read_body(self, request: Request) -> None:
        """Read the body that belongs to a head."""
        codings, lengths = request.values("transfer-encoding"), request.values("content-length")
        if any("chunked" in coding.lower() for coding in codings):
            self._read_chunks(request)
        elif lengths:
            request.body = self.read(int(re.sub("[^0-9]", "", lengths[0]) or "0"))

    def read(self, count: int) -> bytes:
        while len(self.received) - self._position < count:
            self._read_more()
        return self._take(count)

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def answer(self, body: bytes = b"ok", *, status: str = "200 OK", headers: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.send(head.encode("latin-1") + body)

    def wait_for_end(self) -> None:
        """Read on until the router closes."""
        with contextlib.suppress(Ended):
            while True:
                self._read_more()

    def end_sending(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End with RST instead of FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Ended

    @property
    def socket(self) -> socket.socket:
        return self._socket

    # What tests use.

    def is_settled(self) -> bool:
        """True if no byte lies in the kernel that has not been written down."""
        with self._lock:
            if self.ended or self.closed:
                return True
            waiting = array.array("i", [0])
            fcntl.ioctl(self._socket.fileno(), termios.FIONREAD, waiting)
            return waiting[0] == 0

    # The inside.

    def run(self, script: "Script") -> None:
        try:
            script(self)
        except (Ended, OSError):
            pass
        finally:
            with self._lock:
                self.closed = True
                self._socket.close()

    def _take(self, count: int) -> bytes:
        taken = bytes(self.received[self._position : self._position + count])
        self._position += count
        return taken

    def _read_more(self) -> None:
        while True:
            if not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
                self._wait_readable()
            with self._lock:
                try:
                    octets = self._socket.recv(262144)
                except ssl.SSLWantReadError:
                    continue
                except (OSError, ValueError):
                    self.was_reset = True
                    octets = b""
                self.received += octets
                self.ended = not octets
            if not octets:
                raise Ended
            return

    def _wait_readable(self) -> None:
        readable = select.poll()
        readable.register(self._socket, select.POLLIN)
        readable.poll()

    def _read_chunks(self, request: Request) -> None:
        while True:
            line = self._read_line()
            digits = re.match(rb"[0-9a-fA-F]*", line)
            size = int(digits[0], 16) if digits and digits[0] else 0
            if size == 0:
                break
            request.body += self.read(size)
            self._read_line()
        while (line := self._read_line().strip()) != b"":
            name, _, value = line.partition(b":")
            request.trailers.append((name.decode("latin-1"), value.strip().decode("latin-1")))

    def _read_line(self) -> bytes:
        while (end := self.received.find(b"\n", self._position)) < 0:
            self._read_more()
        return self._take(end + 1 - self._position)


Script = Callable[[Conversation], None]


def plain(conversation: Conversation) -> None:
    """Answer every request with 200, for ever."""
    while True:
        request = conversation.read_request()
        if request.header("connection") == "close":
            conversation.answer(b"" if request.method == "HEAD" else b"ok", headers="Connection: close\r\n")
            return
        if request.method == "HEAD":
            conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        else:
            conversation.answer()


def silent(conversation: Conversation) -> None:
    """Read one request and never answer it."""
    conversation.read_request()
    conversation.wait_for_end()


def named(name: str) -> Script:
    """Answer every request with 200 and a body that tells who answered."""

    def script(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            conversation.answer(name.encode())

    return script


def answering(*answers: bytes, close: bool = False) -> Script:
    """Answer the n-th request of a connection with the n-th bytes, the last ones for all further requests."""

    def script(conversation: Conversation) -> None:
        for answer in answers:
            conversation.read_request()
            conversation.send(answer)
        if close:
            return
        while True:
            conversation.read_request()
            conversation.send(answers[-1])

    return script


class RecordingBackend:
    """A listening backend. Use as a context manager; closing it ends every connection.

    Args:
        script: what each connection does; may be exchanged at any time and holds for connections made later.
        tls: serve TLS with this context; what is recorded is what was inside.
    """

    def __init__(self, script: Script = plain, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.script = script
        self.conversations: list[Conversation] = []
        self.requests: list[Request] = []
        """Every head that was read on any connection, in the order of reading."""
        self.handshake_failures: list[str] = []
        self._tls = tls
        self._lock = threading.Lock()
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> "RecordingBackend":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def speaks_tls(self) -> bool:
        return self._tls is not None

    def stop_listening(self) -> None:
        """Refuse new connections; those there are live on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(PATIENCE_S)

    def close(self) -> None:
        self.stop_listening()
        with self._lock:
            self._closing = True
            conversations = list(self.conversations)
        for conversation in conversations:
            with contextlib.suppress(OSError):
                conversation.socket.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(PATIENCE_S)

    def note(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def settle(self) -> None:
        """Wait until every byte that has reached this machine's kernel is written down."""
        wait_until(
            lambda: all(each.is_settled() for each in list(self.conversations)), "backend has read everything"
        )

    def open_conversations(self) -> int:
        return sum(not each.closed and not each.ended for each in list(self.conversations))

    def mark(self) -> "Mark":
        """Remember how far every connection has come."""
        self.settle()
        return Mark(
            self, {each.number: len(each.received) for each in list(self.conversations)}, len(self.requests)
        )

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads = [each for each in self._threads if each.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                connection.do_handshake()
        except (OSError, ssl.SSLError) as error:
            self.handshake_failures.append(str(error))
            _close_slowly(connection)
            return
        with self._lock:
            if self._closing:
                connection.close()
                return
            conversation = Conversation(self, connection, len(self.conversations))
            self.conversations.append(conversation)
        conversation.run(self.script)


@dataclass(slots=True, frozen=True)
class Mark:
    """A moment in a backend's life; what came after it is what one test case caused."""

    backend: RecordingBackend
    lengths: dict[int, int]
    count: int

    def streams(self) -> list[bytes]:
        """The bytes that each connection received since, without those that received none."""
        self.backend.settle()
        conversations = list(self.backend.conversations)
        return [
            bytes(each.received[self.lengths.get(each.number, 0) :])
            for each in conversations
            if len(each.received) > self.lengths.get(each.number, 0)
        ]

    def requests(self) -> list[Request]:
        """The heads read since."""
        self.backend.settle()
        return self.backend.requests[self.count :]

    def strict(self, *, may_be_cut: bool = False) -> list[grammar.Message]:
        """The requests since, as a strict reader sees them. Raises `grammar.Violation`."""
        return [
            message for stream in self.streams() for message in grammar.requests_in(stream, may_be_cut=may_be_cut)
        ]


def _close_slowly(connection: socket.socket) -> None:
    """Close without a reset, which could overtake the alert that says why."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(PATIENCE_S)
        while connection.recv(65536):
            pass
    connection.close()


def _parse_head(raw: bytes) -> Request:
    lines = re.split(rb"\r?\n", raw.rstrip(b"\r\n"))
    while lines and not lines[0]:
        lines.pop(0)
    parts = lines[0].decode("latin-1").split(" ") if lines else [""]
    headers = []
    for line in lines[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name.strip(), value.strip()))
    return Request(parts[0], " ".join(parts[1:-1]), parts[-1], headers, raw)


MakeBackend = Callable[..., RecordingBackend]
"""The fixture ``make_backend``: takes a script and the options of `RecordingBackend`."""
