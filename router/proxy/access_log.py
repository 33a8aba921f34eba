"""One line per exchange, in the form that log parsers of Cloud Foundry know (GOROUTER.md §11).

Owns the line; writing it to a file is `proxy.log_writer`'s. The format is byte-exact.
"""

import time
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from router.proxy.quoting import EMPTY, quote

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange

_NO_ENDPOINT = b'app_id:"-" app_index:"-" instance_id:"-"'
_KNOWN_VALUES = 4096


class AccessLog:
    """Formats lines for one worker.

    Args:
        write: takes a finished line; None switches the log off.
        hide_client: write ``"-"`` for the client's address (``disable_log_source_ip``).
        hide_forwarded_for: write ``"-"`` for X-Forwarded-For (``disable_log_forwarded_for``).
    """

    def __init__(
        self,
        write: Callable[[bytes], None] | None,
        hide_client: bool = False,
        hide_forwarded_for: bool = False,
    ) -> None:
        self._write = write
        self._hide_client = hide_client
        self._hide_forwarded_for = hide_forwarded_for
        self._second = -1
        self._prefix = b""
        self._quoted: dict[bytes, bytes] = {b"": EMPTY}

    def log(self, exchange: "Exchange") -> None:
        """Write the line of a finished exchange."""
        if self._write is not None:
            self._write(self.format(exchange, monotonic()))

    def format(self, exchange: "Exchange", now: float) -> bytes:
        """Return the line, with its line end.

        Args:
            now: monotonic seconds at which the exchange ended.
        """
        head = exchange.head
        special = head.special
        client = exchange.client
        endpoint = exchange.endpoint
        path = head.path
        if b'"' in path or b"\\" in path:
            path = quote(path)[1:-1]
        taken = now - exchange.started
        if exchange.proxied_at:
            own = exchange.proxied_at - exchange.started
            forwarded_for, forwarded_proto = exchange.forwarded_for, exchange.forwarded_proto
        else:
            own = taken if endpoint is not None else 0.0
            forwarded_for = special.get(b"x-forwarded-for", b"")
            forwarded_proto = special.get(b"x-forwarded-proto", b"")
        return (
            b'%b - [%b] "%b %b %b" %b %d %d %b %b %b %b x_forwarded_for:%b x_forwarded_proto:%b'
            b' vcap_request_id:"%b" response_time:%.6f gorouter_time:%.6f %b x_cf_routererror:%b\n'
            % (
                head.host,
                self._time(exchange.received_ns),
                head.method,
                path,
                client.protocol,
                b"%d" % exchange.status if exchange.status else EMPTY,
                exchange.bytes_in,
                exchange.bytes_out,
                self._quote(special.get(b"referer", b"")),
                self._quote(special.get(b"user-agent", b"")),
                EMPTY if self._hide_client else b'"%b"' % client.peer,
                EMPTY if endpoint is None else b'"%b"' % endpoint.address.encode(),
                EMPTY if self._hide_forwarded_for else self._quote(forwarded_for),
                self._quote(forwarded_proto),
                exchange.request_id,
                taken,
                own,
                _NO_ENDPOINT if endpoint is None else endpoint.log_fields(quote),
                self._quote(exchange.router_error),
            )
        )

    def _time(self, now_ns: int) -> bytes:
        second, nanoseconds = divmod(now_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(second)).encode()
        return b"%b.%09dZ" % (self._prefix, nanoseconds)

    def _quote(self, value: bytes) -> bytes:
        """Quote, remembering the answer: clients repeat their user agents, referers and addresses."""
        quoted = self._quoted.get(value)
        if quoted is None:
            quoted = quote(value)
            if len(self._quoted) >= _KNOWN_VALUES:
                self._quoted.clear()
                self._quoted[b""] = EMPTY
            if len(value) <= 256:
                self._quoted[value] = quoted
        return quoted
