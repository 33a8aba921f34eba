"""Streams access log lines to a syslog server, over UDP or TCP (RFC 5424, as far as Gorouter keeps to it).

Owns one socket and the form of the messages. One law: it is `LineWriter`'s thread that waits for the server, never
a request; while the server is away, lines are dropped and counted.
"""

import os
import socket
import time
from collections.abc import Callable

from router.proxy.log_writer import LineWriter

NETWORKS = ("udp", "tcp")
_PRIORITY = b"<14>1"
"""Facility user, severity informational, version 1."""
_BOM = b"\xef\xbb\xbf"
_TIMEOUT_S = 5.0
_RETRY_S = 1.0


class SyslogWriter(LineWriter):
    """Sends lines to one server.

    Args:
        network: ``udp``, a datagram a line, or ``tcp``, a line each.
        host: of the server.
        app_name: APP-NAME of the messages.
        truncate: cut lines to this many bytes; 0 for never.
        failed: called, from the writing thread, with what went wrong when lines were lost.
    """

    def __init__(
        self,
        network: str,
        host: str,
        port: int,
        app_name: str,
        truncate: int,
        failed: Callable[[str], None],
    ) -> None:
        self._tcp = network == "tcp"
        self._address = (host, port)
        self._truncate = truncate
        self._after_time = f" {socket.gethostname()} {app_name or '-'} {os.getpid()} - ".encode() + _BOM
        self._socket: socket.socket | None = None
        self._retry_at = 0.0
        super().__init__("syslog", failed)

    def deliver(self, lines: list[bytes]) -> None:
        connected = self._connected()
        try:
            if self._tcp:
                connected.sendall(b"".join([self.message(line) + b"\n" for line in lines]))
            else:
                for line in lines:
                    _send_datagram(connected, self.message(line))
        except OSError as error:
            self._disconnect()
            error.filename = self._name()
            raise

    def end(self) -> None:
        self._disconnect()

    def message(self, line: bytes) -> bytes:
        """Return the syslog message of an access log line, without a line end."""
        text = line.rstrip(b"\n")
        if self._truncate:
            text = text[: self._truncate]
        return b"%b %b%b%b" % (_PRIORITY, _now(), self._after_time, text)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            if time.monotonic() < self._retry_at:
                raise OSError(None, "not connected", self._name())
            try:
                self._socket = self._connect()
            except OSError as error:
                self._retry_at = time.monotonic() + _RETRY_S
                error.filename = self._name()
                raise
        return self._socket

    def _connect(self) -> socket.socket:
        if self._tcp:
            return socket.create_connection(self._address, _TIMEOUT_S)
        family, kind, protocol, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
        datagrams = socket.socket(family, kind, protocol)
        datagrams.connect(address)
        return datagrams

    def _disconnect(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def _name(self) -> str:
        return f"syslog {self._address[0]}:{self._address[1]}"


def _send_datagram(connected: socket.socket, message: bytes) -> None:
    try:
        connected.send(message)
    except ConnectionRefusedError:
        # This tells of the datagram before; this one has not been sent yet.
        connected.send(message)


def _now() -> bytes:
    """Return the time as RFC 3339 with whole seconds, in the local zone."""
    local = time.localtime()
    if not local.tm_gmtoff:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", local).encode()
    sign, minutes = "-" if local.tm_gmtoff < 0 else "+", abs(local.tm_gmtoff) // 60
    zone = f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    return (time.strftime("%Y-%m-%dT%H:%M:%S", local) + zone).encode()
