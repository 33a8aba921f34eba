"""What watches a router from outside: a Prometheus server, the platform's metrics agent, a syslog server."""

import base64
import contextlib
import http.client
import socket
import ssl
import threading
from types import TracebackType
from typing import Any, Self

from router.wire.dropsonde import messages
from tests.support.waiting import PATIENCE_S, wait_until

HTTP_START_STOP, LOG_MESSAGE, VALUE_METRIC, COUNTER_EVENT = 4, 5, 6, 7
"""Types of envelopes."""

Envelope = messages(opaque=False)["Envelope"]


def ask(
    port: int,
    path: str,
    *,
    method: str = "GET",
    body: bytes = b"",
    user: str = "",
    tls: ssl.SSLContext | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Ask a listener on 127.0.0.1 once; return status, headers by lower-case name, body.

    Args:
        user: ``name:password`` for basic authentication.
    """
    connection: http.client.HTTPConnection
    if tls is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    else:
        connection = http.client.HTTPSConnection("localhost", port, timeout=PATIENCE_S, context=tls)
    headers = {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"} if user else {}
    try:
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def metrics(port: int, tls: ssl.SSLContext | None = None) -> dict[str, float]:
    """Return the samples of ``/metrics``, by name with labels as written."""
    status, _, body = ask(port, "/metrics", tls=tls)
    assert status == 200
    samples = (line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


def metric_types(port: int) -> dict[str, str]:
    """Return the type of every metric."""
    lines = ask(port, "/metrics")[2].decode().splitlines()
    return dict(line.removeprefix("# TYPE ").split() for line in lines if line.startswith("# TYPE "))


class Datagrams:
    """A UDP socket on 127.0.0.1 that keeps everything it hears. Use as a context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.heard: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def read(self) -> list[bytes]:
        """Return everything heard so far."""
        while True:
            try:
                self.heard.append(self._socket.recv(65536))
            except BlockingIOError:
                return self.heard

    def wait_for(self, text: bytes) -> bytes:
        """Wait for a datagram that holds the text, and return the first one."""
        return wait_until(
            lambda: next((each for each in self.read() if text in each), None), f"a datagram with {text!r}"
        )


class MetricsAgent(Datagrams):
    """The platform's agent, which understands what it hears."""

    def envelopes(self, kind: int) -> list[Any]:
        found = [Envelope.FromString(each) for each in self.read()]
        return [each for each in found if each.eventType == kind]

    def counters(self) -> dict[str, int]:
        """Sum the growth that was told, by name."""
        sums: dict[str, int] = {}
        for each in self.envelopes(COUNTER_EVENT):
            sums[each.counterEvent.name] = sums.get(each.counterEvent.name, 0) + each.counterEvent.delta
        return sums

    def values(self) -> dict[str, tuple[float, str]]:
        """Return the last value told and its unit, by name."""
        return {
            each.valueMetric.name: (each.valueMetric.value, each.valueMetric.unit)
            for each in self.envelopes(VALUE_METRIC)
        }

    def requests(self, peer: int) -> list[Any]:
        """Return the events of requests: those of peer 1 are of this router as a client, of 2 as a server."""
        found = self.envelopes(HTTP_START_STOP)
        return [each for each in found if each.httpStartStop.peerType == peer]


class Stream:
    """A TCP server on 127.0.0.1 that keeps every line it hears. Use as a context manager."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.heard = bytearray()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(PATIENCE_S)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    def wait_for(self, text: bytes) -> bytes:
        """Wait for a whole line that holds the text, and return it without its end."""

        def found() -> bytes | None:
            *lines, _ = bytes(self.heard).split(b"\n")
            return next((line for line in lines if text in line), None)

        return wait_until(found, f"a line with {text!r}")

    def _serve(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return
        # A router that is killed, or that stops with something unread, resets.
        with connection, contextlib.suppress(ConnectionResetError):
            while data := connection.recv(65536):
                self.heard += data
