"""One line per exchange, in the form that log parsers of Cloud Foundry know (GOROUTER.md §11).

Owns the line; writing it to a file is `proxy.log_writer`'s. The format is byte-exact.
"""

import time
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from router.proxy.log_extras import SHORT_URI_BYTES, LogExtras, redact, shorten
from router.proxy.quoting import EMPTY, quote

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange

AppLog = Callable[["Exchange", bytes], None]
"""Takes the copy of a line that goes to the app's own log."""

_NO_ENDPOINT = b'app_id:"-" app_index:"-" instance_id:"-"'
_LINE = (
    b'%b - [%b] "%b %b %b" %b %d %d %b %b %b %b x_forwarded_for:%b x_forwarded_proto:%b'
    b' vcap_request_id:"%b" response_time:%.6f gorouter_time:%.6f %b%b x_cf_routererror:%b%b\n'
)
_STATUSES = {0: EMPTY} | {status: b"%d" % status for status in range(100, 600)}
_KNOWN_VALUES = 4096
_SHORTENED = (b"REFERER", b"USER-AGENT", b"X-FORWARDED-FOR", b"X-FORWARDED-PROTO")
_APP_LOG_BYTES = 65_400
"""A longer line does not fit into a datagram to the log agent."""


class AccessLog:
    """Formats lines for one worker.

    Args:
        write: takes a finished line; None switches the log off.
        hide_client: write ``"-"`` for the client's address (``disable_log_source_ip``).
        hide_forwarded_for: write ``"-"`` for X-Forwarded-For (``disable_log_forwarded_for``).
        redaction: what becomes of query strings of GET requests: ``none``, ``all`` or ``hash``.
        extras: further fields; None for none.
        app_log: gets the lines of exchanges with an app as well.
    """

    def __init__(
        self,
        write: Callable[[bytes], None] | None,
        hide_client: bool = False,
        hide_forwarded_for: bool = False,
        redaction: str = "none",
        extras: LogExtras | None = None,
        app_log: AppLog | None = None,
    ) -> None:
        self._write = write
        self._redaction = "" if redaction == "none" else redaction
        self._extras = extras
        self._app_log = app_log
        self._hide_client = hide_client
        self._hide_forwarded_for = hide_forwarded_for
        self._second = -1
        self._prefix = b""
        self._quoted: dict[bytes, bytes] = {b"": EMPTY}

    def log(self, exchange: "Exchange") -> None:
        """Write the line of a finished exchange, and copy it to the log of the app that was asked."""
        app_log = self._app_log if self._app_log is not None and _asked_app(exchange) else None
        if self._write is None and app_log is None:
            return
        now = monotonic()
        line = self.format(exchange, now)
        if self._write is not None:
            self._write(line)
        if app_log is not None:
            short = line if len(line) <= _APP_LOG_BYTES else self.format(exchange, now, shortened=True)
            app_log(exchange, short)

    def format(self, exchange: "Exchange", now: float, shortened: bool = False) -> bytes:
        """Return the line, with its line end, of an exchange that ended at this monotonic second.

        Args:
            shortened: cut what clients can make long (GOROUTER.md §11.3).
        """
        head, special, client = exchange.head, exchange.head.special, exchange.client
        endpoint = exchange.endpoint if exchange.plain or exchange.service is None else None
        referer, agent = special.get(b"referer", b""), special.get(b"user-agent", b"")
        path = head.path if head.method != b"GET" or not self._redaction else redact(head.path, self._redaction)
        taken = now - exchange.started
        own = taken if endpoint is not None else 0.0
        forwarded_for, forwarded_proto = exchange.forwarded_for, exchange.forwarded_proto
        if exchange.proxied_at:
            own = exchange.proxied_at - exchange.started
        else:
            forwarded_for = special.get(b"x-forwarded-for", b"")
            forwarded_proto = special.get(b"x-forwarded-proto", b"")
        if shortened:
            path = shorten(path, b"REQUEST-URI", SHORT_URI_BYTES)
            referer, agent, forwarded_for, forwarded_proto = map(
                shorten, (referer, agent, forwarded_for, forwarded_proto), _SHORTENED
            )
        if b'"' in path or b"\\" in path:
            path = quote(path)[1:-1]
        extras = self._extras
        known, unknown = self._quoted.get, self._quote  # Most have been seen before: that spares a call for each.
        return _LINE % (
            head.host,
            self._time(exchange.received_ns),
            head.method,
            path,
            client.protocol,
            _STATUSES.get(exchange.status) or b"%d" % exchange.status,
            exchange.bytes_in,
            exchange.bytes_out,
            known(referer) or unknown(referer),
            known(agent) or unknown(agent),
            EMPTY if self._hide_client else b'"%b"' % client.peer,
            EMPTY if endpoint is None else endpoint.quoted_address(),
            EMPTY if self._hide_forwarded_for else known(forwarded_for) or unknown(forwarded_for),
            known(forwarded_proto) or unknown(forwarded_proto),
            exchange.request_id,
            taken,
            own,
            _NO_ENDPOINT if endpoint is None else endpoint.log_fields(quote),
            b"" if extras is None else extras.fields(exchange, now),
            known(exchange.router_error) or unknown(exchange.router_error),
            b"" if extras is None else extras.tail(exchange, shortened),
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


def _asked_app(exchange: "Exchange") -> bool:
    endpoint = exchange.endpoint
    return endpoint is not None and bool(endpoint.record.app) and exchange.service is None
