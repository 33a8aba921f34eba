"""Trace headers: Zipkin's B3, single and multiple, and W3C Trace Context (GOROUTER.md §5.8).

A trace that a client began is continued; otherwise one is begun here. The request id is the trace id cut as a
uuid, so that logs of both kinds can be joined. Nothing is exported: headers only.
"""

import re
from collections.abc import Callable

from router.wire.header_lines import line_name

_B3 = re.compile(
    rb"([0-9a-fA-F]{16}|[0-9a-fA-F]{32})-([0-9a-fA-F]{16})(?:-[01d])?(?:-[0-9a-fA-F]{16})?",
)
_SAMPLING_ONLY = frozenset({b"0", b"1", b"d"})
_TRACE_ID = re.compile(rb"[0-9a-fA-F]{1,32}")
_SPAN_ID = re.compile(rb"[0-9a-fA-F]{1,16}")
_SAMPLED = {b"0": b"-0", b"false": b"-0", b"1": b"-1", b"true": b"-1", b"": b""}
_TRACEPARENT = re.compile(rb"[0-9a-fA-F]{2}-([0-9a-fA-F]{32})-([0-9a-fA-F]{16})-([0-9a-fA-F]{2})")
_B3_NAMES = frozenset(
    {b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags"}
)
_W3C_NAMES = frozenset({b"traceparent", b"tracestate"})
_TRACESTATE_BYTES = 2048
_TRACESTATE_MEMBERS = 32
"""W3C Trace Context §3.3.1.1; the oldest members, at the right, are the ones to go."""
_ZEROS = b"0"

Ids = tuple[bytes, bytes]
"""Trace id (16 or 32 digits) and span id (16 digits), lower-case hexadecimal, neither of them zero."""


class Traced:
    """A request with its place in a trace.

    Attributes:
        lines: header lines to send on; a new list if any differ from those received.
        request_id: 36 characters of a uuid.
        trace_id: 16 or 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
    """

    __slots__ = ("lines", "request_id", "span_id", "trace_id")

    def __init__(self, lines: list[bytes], request_id: bytes, trace_id: bytes, span_id: bytes) -> None:
        self.lines = lines
        self.request_id = request_id
        self.trace_id = trace_id
        self.span_id = span_id


class Tracing:
    """Continues or begins traces.

    Args:
        zipkin: read and write B3 headers.
        w3c: read and write traceparent and tracestate.
        tenant: of our entry in tracestate; empty if there is none.
        random_bytes: returns that many random bytes, e.g. `os.urandom`.
    """

    __slots__ = ("_key", "_names", "_random_bytes", "_w3c", "_zipkin")

    def __init__(self, zipkin: bool, w3c: bool, tenant: str, random_bytes: Callable[[int], bytes]) -> None:
        self._zipkin = zipkin
        self._w3c = w3c
        self._key = (f"{tenant}@gorouter" if tenant else "gorouter").encode()
        self._random_bytes = random_bytes
        self._names = (_B3_NAMES if zipkin else frozenset()) | (_W3C_NAMES if w3c else frozenset())

    def begin(self, lines: list[bytes]) -> Traced:
        """Find out which trace a request belongs to, and write that into its header lines."""
        received = self._received(lines)
        written: dict[bytes, bytes] = {}
        fresh = self._fresh_ids()
        ids = self._by_b3(received, written, fresh) if self._zipkin else None
        if self._w3c:
            ids = self._by_traceparent(received, written, ids, fresh)
        trace_id, span_id = ids or fresh
        if written:
            lines = [line for line in lines if line_name(line) not in written]
            lines += written.values()
        return Traced(lines, self._request_id(trace_id), trace_id, span_id)

    def _received(self, lines: list[bytes]) -> dict[bytes, bytes]:
        """Return the values of trace headers: the first of each name, of tracestate all."""
        received: dict[bytes, bytes] = {}
        for line in lines:
            name = line_name(line)
            if name in self._names:
                value = line[len(name) + 1 :].strip(b" \t")
                if name not in received:
                    received[name] = value
                elif name == b"tracestate":
                    received[name] += b"," + value
        return received

    def _by_b3(self, received: dict[bytes, bytes], written: dict[bytes, bytes], fresh: Ids) -> Ids:
        b3 = received.get(b"b3", b"")
        if b3 in _SAMPLING_ONLY:
            return fresh
        ids = _single(b3)
        if ids is not None:
            return ids
        trace_id, span_id = received.get(b"x-b3-traceid", b""), received.get(b"x-b3-spanid", b"")
        if trace_id and span_id:
            ids = _several(trace_id, span_id)
            rest = _sampling_and_parent(received)
            if ids is None or rest is None:
                return fresh
            written[b"b3"] = b"B3: %b-%b%b" % (*ids, rest)
            return ids
        written[b"x-b3-traceid"] = b"X-B3-Traceid: " + fresh[0]
        written[b"x-b3-spanid"] = b"X-B3-Spanid: " + fresh[1]
        written[b"b3"] = b"B3: %b-%b" % fresh
        return fresh

    def _by_traceparent(
        self, received: dict[bytes, bytes], written: dict[bytes, bytes], ids: Ids | None, fresh: Ids
    ) -> Ids:
        """Continue the received trace if there is one, else the one given, else a fresh one."""
        match = _TRACEPARENT.fullmatch(received.get(b"traceparent", b""))
        if match is None or not match[1].strip(_ZEROS) or not match[2].strip(_ZEROS):
            ids = ids or fresh
            written[b"traceparent"] = b"Traceparent: 00-%b-%b-01" % (ids[0].rjust(32, _ZEROS), ids[1])
            written[b"tracestate"] = b"Tracestate: %b=%b" % (self._key, ids[1])
            return ids
        parent = self._random_bytes(8).hex().encode()
        trace_id = match[1].lower()
        written[b"traceparent"] = b"Traceparent: 00-%b-%b-%b" % (trace_id, parent, match[3].lower())
        written[b"tracestate"] = b"Tracestate: " + self._state(received.get(b"tracestate", b""), parent)
        return ids or (trace_id, parent)

    def _state(self, received: bytes, parent: bytes) -> bytes:
        """Return tracestate with our entry first and once."""
        members = [b"%b=%b" % (self._key, parent)]
        if len(received) <= _TRACESTATE_BYTES:
            others = [member.strip(b" \t") for member in received.split(b",")]
            members += [member for member in others if member and member.partition(b"=")[0] != self._key]
        return b",".join(members[:_TRACESTATE_MEMBERS])

    def _fresh_ids(self) -> Ids:
        """Return the digits of a new uuid of version 4, and its lower half."""
        octets = bytearray(self._random_bytes(16))
        octets[6] = octets[6] & 0x0F | 0x40
        octets[8] = octets[8] & 0x3F | 0x80
        digits = octets.hex().encode()
        return digits, digits[16:]

    def _request_id(self, trace_id: bytes) -> bytes:
        digits = trace_id if len(trace_id) == 32 else self._fresh_ids()[0]
        return b"-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _single(b3: bytes) -> Ids | None:
    """Read a b3 header with ids; None if it is none."""
    match = _B3.fullmatch(b3)
    return None if match is None else _several(match[1], match[2])


def _several(trace_id: bytes, span_id: bytes) -> Ids | None:
    """Bring ids into their usual form: padded, the trace id short if it fits. None if they are none."""
    if _TRACE_ID.fullmatch(trace_id) is None or _SPAN_ID.fullmatch(span_id) is None:
        return None
    trace, span = trace_id.lower().lstrip(_ZEROS), span_id.lower().lstrip(_ZEROS)
    if not trace or not span:
        return None
    return trace.rjust(16 if len(trace) <= 16 else 32, _ZEROS), span.rjust(16, _ZEROS)


def _sampling_and_parent(received: dict[bytes, bytes]) -> bytes | None:
    """Return the optional end of a b3 header; None if what it is made from cannot be read."""
    sampling = _SAMPLED.get(received.get(b"x-b3-sampled", b"").lower())
    if received.get(b"x-b3-flags") == b"1":
        sampling = b"-d"
    parent = received.get(b"x-b3-parentspanid", b"")
    if sampling is None or (parent and _SPAN_ID.fullmatch(parent) is None):
        return None
    return sampling + (b"-" + parent.lower().rjust(16, _ZEROS) if parent else b"")
