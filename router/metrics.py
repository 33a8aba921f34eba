"""What a process counts, and how figures leave it: counters, histograms, datagrams to the platform's agent.

Names follow Gorouter's metric names. Owns counting, not publishing: workers send plain numbers to control about
once a second, which adds them up (`router.control.totals`) and shows them. One law: every figure can be added to
the same figure of another worker, so a histogram travels as one number for each bucket.
"""

import socket
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from errno import EMSGSIZE

DENIAL_REASONS = (
    "certificate-expired",
    "certificate-for-another-address",
    "certificate-of-another-app",
    "certificate-of-another-instance",
    "certificate-required",
    "certificate-without-app",
    "certificate-without-instance",
    "instance-not-live",
    "no-policy",
    "not-internal",
    "not-ready",
    "unknown-source",
)
"""Why requests of containers are refused, as the audit log says it; counted from zero so that rates can be had."""

_GROUPS = ("responses", "internal_denied")
"""Attributes that hold several counters."""


class Counters:
    """Everything one worker has counted since it started."""

    __slots__ = (
        "access_log_dropped",
        "backend_exhausted_conns",
        "backend_invalid_id",
        "backend_invalid_tls_cert",
        "backend_tls_handshake_failed",
        "bad_gateways",
        "bad_requests",
        "client_aborts",
        "empty_content_length_header",
        "http2_connection_errors",
        "http2_floods",
        "http2_refused_streams",
        "http2_slowed_connections",
        "http2_stalled_streams",
        "http2_stream_errors",
        "http2_streams",
        "internal_denials",
        "internal_denied",
        "internal_revocations",
        "rejected_requests",
        "requests",
        "responses",
        "retries",
        "total_requests",
        "websocket_failures",
        "websocket_idle_timeouts",
        "websocket_upgrades",
    )

    def __init__(self) -> None:
        self.requests = 0
        """Exchanges that ended, router-made answers included."""
        self.total_requests = 0
        """Attempts to backends."""
        self.responses = [0, 0, 0, 0, 0, 0]
        """Responses of exchanges that had an endpoint, by first digit; index 0 is everything else."""
        self.rejected_requests = 0
        """Look-ups that ended in 400 or 404."""
        self.bad_requests = 0
        """Requests refused before they were one: malformed heads, impossible framing."""
        self.bad_gateways = 0
        self.backend_exhausted_conns = 0
        self.backend_invalid_id = 0
        self.backend_invalid_tls_cert = 0
        self.backend_tls_handshake_failed = 0
        self.client_aborts = 0
        self.empty_content_length_header = 0
        """Requests with a Content-Length field that is empty; they are refused."""
        self.http2_streams = 0
        """Requests over HTTP/2 that were not refused at once."""
        self.http2_refused_streams = 0
        """Requests beyond the limit of streams of one connection."""
        self.http2_stream_errors = 0
        """Streams reset because the client broke the protocol on them."""
        self.http2_connection_errors = 0
        """Connections ended because the client broke the protocol, or did not finish a head in time."""
        self.http2_floods = 0
        """Connections ended because the client asked for more than is allowed."""
        self.http2_slowed_connections = 0
        """Connections that were read more slowly because they sent too many small DATA frames."""
        self.http2_stalled_streams = 0
        """Responses given up because the client took nothing of them for too long."""
        self.internal_denials = 0
        """Requests of containers that were refused, for whatever reason."""
        self.internal_denied = dict.fromkeys(DENIAL_REASONS, 0)
        """The same by reason."""
        self.internal_revocations = 0
        """Exchanges ended because their permission was taken back."""
        self.retries = 0
        self.websocket_upgrades = 0
        self.websocket_failures = 0
        self.websocket_idle_timeouts = 0
        self.access_log_dropped = 0

    def add(self, name: str) -> None:
        """Count one of a failure class; an empty name counts nothing."""
        if name:
            setattr(self, name, getattr(self, name) + 1)

    def as_dict(self) -> dict[str, int]:
        """Return all counters by name, groups as ``responses_2xx`` and ``internal_denials_no_policy``."""
        counts = {name: getattr(self, name) for name in self.__slots__ if name not in _GROUPS}
        for digit, count in enumerate(self.responses):
            counts[f"responses_{digit or 'x'}xx"] = count
        for reason, count in self.internal_denied.items():
            counts[f"internal_denials_{reason.replace('-', '_')}"] = count
        return counts


INFINITY = float("inf")
SUM = "sum"
_SEPARATOR = "\t"


def series(name: str, label: str, part: str = "") -> str:
    """Return the key under which a labelled figure travels: ``name``, ``label`` and ``part`` with tabs between.

    Args:
        label: value of the one label that the metric has; its tabs become spaces.
        part: of a histogram: the upper bound of a bucket as text, or `SUM`; empty for a counter.
    """
    label = label.replace(_SEPARATOR, " ")
    return f"{name}{_SEPARATOR}{label}{_SEPARATOR}{part}" if part else f"{name}{_SEPARATOR}{label}"


def split_series(key: str) -> tuple[str, str, str]:
    """Return name, label and part of a key made by `series`; label and part are empty in the name of a counter."""
    name, _, rest = key.partition(_SEPARATOR)
    label, _, part = rest.partition(_SEPARATOR)
    return name, label, part


class Histogram:
    """Counts values by size, each in the first bucket that is not too small for it.

    Args:
        name: of the metric.
        label: value of its label, empty if it has none.
        bounds: inclusive upper bounds of the buckets, ascending; one without an end is added.
    """

    __slots__ = ("_bounds", "_counts", "_keys", "_sum", "_sum_key")

    def __init__(self, name: str, label: str, bounds: Sequence[float]) -> None:
        self._bounds = sorted({float(bound) for bound in bounds} - {INFINITY})
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        self._keys = [series(name, label, repr(bound)) for bound in (*self._bounds, INFINITY)]
        self._sum_key = series(name, label, SUM)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def figures(self) -> Iterable[tuple[str, float]]:
        """Return what was counted, each value in one bucket only."""
        yield from zip(self._keys, self._counts, strict=True)
        yield self._sum_key, self._sum


class Agent:
    """The way to the platform's metrics agent: datagrams that are sent or lost, never waited for.

    While nobody listens at the address, the kernel says so after a datagram; then a second goes by before the next
    one is tried, so a router without an agent pays next to nothing for having one configured.

    Args:
        address: ``host:port``, looked up once, now.

    Attributes:
        on_silence: called when nobody was found to listen.
        silent_until: monotonic seconds before which nothing should be sent, and need not be encoded.
        sent: datagrams given to the kernel.
        lost: datagrams that were not taken, or not even encoded (callers add those).
        problem: why there is no way at all, e.g. an address that cannot be found; empty if there is one.
    """

    __slots__ = ("_socket", "lost", "on_silence", "problem", "sent", "silent_until")

    PAUSE_S = 1.0

    def __init__(self, address: str) -> None:
        self.silent_until = 0.0
        self.on_silence: Callable[[], None] | None = None
        self.sent = 0
        self.lost = 0
        self.problem = ""
        self._socket: socket.socket | None = None
        try:
            self._socket = _connected(address)
        except (OSError, ValueError) as error:
            self.problem = f"{address}: {error}"
            self.silent_until = INFINITY

    def send(self, datagram: bytes, now: float) -> None:
        """Send a datagram, or lose it. ``now`` is monotonic seconds."""
        if now < self.silent_until or self._socket is None:
            self.lost += 1
            return
        try:
            self._socket.send(datagram)
            self.sent += 1
        except BlockingIOError:
            self.lost += 1
        except OSError as error:
            self.lost += 1
            # Too long for a datagram: the next one may be shorter.
            if error.errno != EMSGSIZE:
                self.silent_until = now + self.PAUSE_S
                if self.on_silence is not None:
                    self.on_silence()

    def close(self) -> None:
        self.silent_until = INFINITY
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connected(address: str) -> socket.socket:
    """Return a UDP socket that sends to the address; of several, IPv4 ones first, as Go does. Raises `OSError`."""
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]") or None, int(port), type=socket.SOCK_DGRAM)
    family, kind, protocol, _, target = min(found, key=lambda each: each[0] != socket.AF_INET)
    connected = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        connected.connect(target)
    except OSError:
        connected.close()
        raise
    return connected
