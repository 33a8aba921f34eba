"""What the access log shows beyond its usual line, if the configuration asks for it (GOROUTER.md §11.3).

Owns the further fields, the logged request headers, redaction and shortening; the line itself is `access_log`'s.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from router.proxy.quoting import EMPTY, quote
from router.wire.http1 import first_value

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange

ZIPKIN_HEADERS = ("X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "b3")
W3C_HEADERS = ("traceparent", "tracestate")

SHORT_BYTES = 1000
SHORT_URI_BYTES = 20_000
SHORT_HEADERS_BYTES = 20_000
"""What is left of a shortened line's URI, of all its extra headers, and of each other long value, at most."""
_TOO_LONG = b"...%b-TOO-LONG-TO-LOG--TRUNCATED"
_TOO_LONG_HEADERS = b" ...EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED"


class LogExtras:
    """Further fields of the access log.

    Args:
        fields: names of ``extra_access_log_fields``; unknown ones are left out, repeated ones count once.
        headers: request headers to log, in this order; repeated ones count once.
        domains: whether there are domains with mutual TLS, whose callers are logged.
    """

    def __init__(self, fields: Sequence[str], headers: Sequence[str], domains: bool) -> None:
        self._fields = [_FIELDS[name] for name in dict.fromkeys(fields) if name in _FIELDS]
        labels = {name.replace("-", "_").lower(): name.lower() for name in reversed(headers)}
        ordered = dict.fromkeys(name.replace("-", "_").lower() for name in headers)
        self._headers = [(label.encode(), labels[label].encode()) for label in ordered]
        self._domains = domains

    def fields(self, exchange: "Exchange", now: float) -> bytes:
        """Return the part between instance_id and x_cf_routererror, each field after a space.

        Args:
            now: monotonic seconds at which the exchange ended.
        """
        return b"".join([b" " + field(exchange, now) for field in self._fields])

    def tail(self, exchange: "Exchange", shortened: bool) -> bytes:
        """Return the part after x_cf_routererror."""
        tail = b""
        if self._domains and exchange.domain is not None:
            tail = _caller(exchange)
        if not self._headers:
            return tail
        fields = [b" %b:%b" % (label, quote(_request_value(exchange, name))) for label, name in self._headers]
        return tail + (shorten_headers(fields) if shortened else b"".join(fields))


def redact(path: bytes, mode: str) -> bytes:
    """Return path and query of a GET request as they may be logged.

    Args:
        mode: ``all`` leaves the query out, ``hash`` puts the SHA-1 of it in its place.
    """
    before, mark, query = path.partition(b"?")
    if not mark or mode == "all":
        return before
    return b"%b?hash=%b" % (before, hashlib.sha1(query, usedforsecurity=False).hexdigest().encode())


def shorten(value: bytes, name: bytes, limit: int = SHORT_BYTES) -> bytes:
    """Halve a value as often as it takes, and say so at its end.

    Args:
        name: of the field, in capitals as in the mark, e.g. ``REQUEST-URI``.
        limit: most bytes, mark included; more than twice the mark.
    """
    mark = _TOO_LONG % name
    while len(value) > limit:
        value = value[: len(value) // 2] + mark
    return value


def shorten_headers(fields: Sequence[bytes]) -> bytes:
    """Join fields, and stop with a mark before their bytes exceed the limit: no value is cut within its quotes."""
    length = 0
    for index, field in enumerate(fields):
        length += len(field)
        if length > SHORT_HEADERS_BYTES:
            return b"".join(fields[:index]) + _TOO_LONG_HEADERS
    return b"".join(fields)


def _request_value(exchange: "Exchange", name: bytes) -> bytes:
    """Return what a request header held once the router had dealt with the request."""
    if name == b"x-vcap-request-id":
        return exchange.request_id
    if exchange.proxied_at:
        if name == b"x-forwarded-for":
            return exchange.forwarded_for
        if name == b"x-forwarded-proto":
            return exchange.forwarded_proto
        if name == b"x-request-start" and name not in exchange.head.special:
            return b"%d" % (exchange.received_ns // 1_000_000)
    return first_value(exchange.head, name)


def _caller(exchange: "Exchange") -> bytes:
    caller = exchange.app_caller
    values = ("", "", "") if caller is None else (caller.app, caller.space, caller.organization)
    return b" tls_sni:%b caller_cf_app:%b caller_cf_space:%b caller_cf_org:%b" % (
        quote(exchange.client.presented().server_name.encode()),
        *(quote(value.encode()) for value in values),
    )


def _seconds(value: float) -> bytes:
    return EMPTY if value < 0 else b"%.6f" % value


def _succeeded(exchange: "Exchange") -> bool:
    """Whether the last attempt brought a response head."""
    return exchange.endpoint is not None and exchange.response_started and not exchange.answered


def _new_connection_time(exchange: "Exchange", which: int) -> float:
    connection = exchange.last_connection
    if connection is None or connection.reused or not _succeeded(exchange):
        return -1.0
    return connection.timings[which]


def _failed_attempts(exchange: "Exchange", now: float) -> bytes:
    return b"failed_attempts:%d" % exchange.failed_attempts


def _failed_attempts_time(exchange: "Exchange", now: float) -> bytes:
    return b"failed_attempts_time:" + _seconds(exchange.failed_s if exchange.failed_attempts else -1.0)


def _dns_time(exchange: "Exchange", now: float) -> bytes:
    return b"dns_time:" + _seconds(_new_connection_time(exchange, 0))


def _dial_time(exchange: "Exchange", now: float) -> bytes:
    return b"dial_time:" + _seconds(_new_connection_time(exchange, 1))


def _tls_time(exchange: "Exchange", now: float) -> bytes:
    return b"tls_time:" + _seconds(_new_connection_time(exchange, 2))


def _backend_time(exchange: "Exchange", now: float) -> bytes:
    return b"backend_time:" + _seconds(now - exchange.attempt_at if _succeeded(exchange) else -1.0)


def _local_address(exchange: "Exchange", now: float) -> bytes:
    connection = exchange.last_connection
    return b"local_address:" + quote(connection.local_address.encode() if connection is not None else b"")


_FIELDS: dict[str, Callable[["Exchange", float], bytes]] = {
    "failed_attempts": _failed_attempts,
    "failed_attempts_time": _failed_attempts_time,
    "dns_time": _dns_time,
    "dial_time": _dial_time,
    "tls_time": _tls_time,
    "backend_time": _backend_time,
    "local_address": _local_address,
}
