import itertools
import os
import re
import uuid
from collections.abc import Callable

import pytest

from router.proxy.tracing import Traced, Tracing

TRACE = b"463ac35c9f6413ad48485a3953bb6124"
SPAN = b"a2fb4a1d1a96d312"
PARENT = b"0020000000000001"
OTHER = b"0af7651916cd43dd8448eb211c80319c"


def counting() -> Callable[[int], bytes]:
    """Return a source of bytes that differ from call to call and are always the same."""
    calls = itertools.count(1)
    return lambda count: bytes([next(calls)]) * count


FRESH = b"01010101010141018101010101010101"
FRESH_SPAN = FRESH[16:]


def traced(*lines: bytes, zipkin: bool = False, w3c: bool = False, tenant: str = "") -> Traced:
    return Tracing(zipkin, w3c, tenant, counting()).begin(list(lines))


def values(request: Traced, name: bytes) -> list[bytes]:
    found = [line.partition(b":") for line in request.lines]
    return [value.strip() for key, _, value in found if key.lower() == name.lower()]


def as_uuid(digits: bytes) -> bytes:
    return str(uuid.UUID(digits.decode())).encode()


def test_fresh_ids_are_a_uuid_of_version_4_and_its_lower_half() -> None:
    request = Tracing(True, False, "", os.urandom).begin([])
    parsed = uuid.UUID(request.request_id.decode())
    assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
    assert request.trace_id == parsed.hex.encode()
    assert request.span_id == request.trace_id[16:]
    assert str(parsed).encode() == request.request_id


def test_without_tracing_lines_stay_as_they_are() -> None:
    lines = [b"b3: 1", b"traceparent: x"]
    request = traced(*lines)
    assert request.lines == lines
    assert request.request_id == as_uuid(FRESH)


def test_given_lines_are_not_changed() -> None:
    lines = [b"A: b", b"traceparent: bad", b"b3: bad"]
    Tracing(True, True, "", counting()).begin(lines)
    assert lines == [b"A: b", b"traceparent: bad", b"b3: bad"]


# Zipkin.


def test_request_without_trace_begins_one() -> None:
    request = traced(b"A: b", zipkin=True)
    assert request.lines == [
        b"A: b",
        b"X-B3-Traceid: " + FRESH,
        b"X-B3-Spanid: " + FRESH_SPAN,
        b"B3: " + FRESH + b"-" + FRESH_SPAN,
    ]
    assert (request.trace_id, request.span_id, request.request_id) == (FRESH, FRESH_SPAN, as_uuid(FRESH))


@pytest.mark.parametrize("rest", [b"", b"-1", b"-0", b"-d", b"-1-" + PARENT, b"-" + PARENT])
def test_b3_is_kept_and_its_ids_taken(rest: bytes) -> None:
    line = b"b3:  " + TRACE + b"-" + SPAN + rest
    request = traced(line, b"X-B3-TraceId: else", zipkin=True)
    assert request.lines == [line, b"X-B3-TraceId: else"]
    assert (request.trace_id, request.span_id, request.request_id) == (TRACE, SPAN, as_uuid(TRACE))


def test_short_trace_id_gets_a_random_request_id() -> None:
    request = traced(b"B3: " + SPAN + b"-" + PARENT, zipkin=True)
    assert (request.trace_id, request.span_id) == (SPAN, PARENT)
    assert uuid.UUID(request.request_id.decode()).version == 4


def test_ids_are_brought_into_lower_case() -> None:
    request = traced(b"B3: " + TRACE.upper() + b"-" + SPAN.upper(), zipkin=True)
    assert (request.trace_id, request.span_id) == (TRACE, SPAN)


@pytest.mark.parametrize(
    ("further", "rest"),
    [
        ([], b""),
        ([b"X-B3-Sampled: 1"], b"-1"),
        ([b"X-B3-Sampled: true"], b"-1"),
        ([b"X-B3-Sampled: 0", b"x-b3-parentspanid: " + PARENT], b"-0-" + PARENT),
        ([b"X-B3-Flags: 1", b"X-B3-Sampled: 0"], b"-d"),
        ([b"X-B3-ParentSpanId: " + PARENT], b"-" + PARENT),
    ],
)
def test_b3_is_built_from_several_headers(further: list[bytes], rest: bytes) -> None:
    lines = [b"X-B3-TraceId: " + TRACE, b"X-B3-SpanId: " + SPAN, *further]
    request = traced(*lines, zipkin=True)
    assert request.lines == [*lines, b"B3: " + TRACE + b"-" + SPAN + rest]
    assert (request.trace_id, request.span_id, request.request_id) == (TRACE, SPAN, as_uuid(TRACE))


def test_short_ids_in_several_headers_are_padded() -> None:
    request = traced(b"X-B3-TraceId: 1", b"X-B3-SpanId: 2", zipkin=True)
    assert values(request, b"b3") == [b"0000000000000001-0000000000000002"]


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-B3-TraceId: xyz", b"X-B3-SpanId: " + SPAN],
        [b"X-B3-TraceId: " + TRACE, b"X-B3-SpanId: " + TRACE],
        [b"X-B3-TraceId: " + TRACE, b"X-B3-SpanId: 0000000000000000"],
        [b"X-B3-TraceId: " + TRACE, b"X-B3-SpanId: " + SPAN, b"X-B3-Sampled: maybe"],
        [b"X-B3-TraceId: " + TRACE, b"X-B3-SpanId: " + SPAN, b"X-B3-ParentSpanId: mother"],
    ],
)
def test_several_headers_nobody_can_read_stay_as_they_are(lines: list[bytes]) -> None:
    request = traced(*lines, zipkin=True)
    assert request.lines == lines
    assert request.request_id == as_uuid(FRESH)


@pytest.mark.parametrize(
    "b3", [b"", b"x", b"-", TRACE, b"1-2", TRACE + b"-" + SPAN + b"-2", b"0" * 32 + b"-" + SPAN]
)
def test_b3_nobody_can_read_is_replaced(b3: bytes) -> None:
    request = traced(b"b3: " + b3, b"X-B3-TraceId: " + TRACE, zipkin=True)
    assert values(request, b"b3") == [FRESH + b"-" + FRESH_SPAN]
    assert values(request, b"x-b3-traceid") == [FRESH]
    assert values(request, b"x-b3-spanid") == [FRESH_SPAN]


def test_b3_nobody_can_read_is_rebuilt_from_the_other_headers() -> None:
    request = traced(b"b3: x", b"X-B3-TraceId: " + TRACE, b"X-B3-SpanId: " + SPAN, zipkin=True)
    assert values(request, b"b3") == [TRACE + b"-" + SPAN]


@pytest.mark.parametrize("b3", [b"0", b"1", b"d"])
def test_b3_that_only_samples_is_kept_and_gives_no_empty_ids(b3: bytes) -> None:
    request = traced(b"b3: " + b3, zipkin=True, w3c=True)
    assert values(request, b"b3") == [b3]
    assert request.trace_id == FRESH
    assert values(request, b"traceparent") == [b"00-" + FRESH + b"-" + FRESH_SPAN + b"-01"]


# W3C.


def test_request_without_traceparent_gets_one_and_our_state_alone() -> None:
    request = traced(b"A: b", b"tracestate: a=b", w3c=True)
    assert request.lines == [
        b"A: b",
        b"Traceparent: 00-" + FRESH + b"-" + FRESH_SPAN + b"-01",
        b"Tracestate: gorouter=" + FRESH_SPAN,
    ]


@pytest.mark.parametrize("version", [b"00", b"01", b"fe"])
@pytest.mark.parametrize("flags", [b"00", b"01"])
def test_traceparent_is_continued_with_a_parent_of_ours(version: bytes, flags: bytes) -> None:
    received = b"-".join((version, OTHER, SPAN, flags))
    request = traced(b"traceparent: " + received, w3c=True)
    parent = b"02" * 8
    assert values(request, b"traceparent") == [b"-".join((b"00", OTHER, parent, flags))]
    assert values(request, b"tracestate") == [b"gorouter=" + parent]
    assert (request.trace_id, request.span_id, request.request_id) == (OTHER, parent, as_uuid(OTHER))


@pytest.mark.parametrize(
    "received",
    [
        b"",
        b"00-" + OTHER + b"-" + SPAN,
        b"00-" + OTHER + b"-" + SPAN + b"-01-x",
        b"00-" + OTHER + b"-" + SPAN + b"-0g",
        b"00_" + OTHER + b"-" + SPAN + b"-01",
        b"00-" + b"0" * 32 + b"-" + SPAN + b"-01",
        b"00-" + OTHER + b"-" + b"0" * 16 + b"-01",
    ],
)
def test_traceparent_nobody_can_read_is_replaced(received: bytes) -> None:
    request = traced(b"Traceparent: " + received, b"Tracestate: a=b", w3c=True)
    assert values(request, b"traceparent") == [b"00-" + FRESH + b"-" + FRESH_SPAN + b"-01"]
    assert values(request, b"tracestate") == [b"gorouter=" + FRESH_SPAN]


@pytest.mark.parametrize(
    ("tenant", "received", "others"),
    [
        ("", [b"a=1,b=2"], b",a=1,b=2"),
        ("", [b"a=1, gorouter=old ,b=2", b"c=3"], b",a=1,b=2,c=3"),
        ("t", [b"gorouter=1,t@gorouter=2"], b",gorouter=1"),
        ("", [b" , "], b""),
        ("", [b"a=" + b"x" * 2046], b",a=" + b"x" * 2046),
        ("", [b"a=" + b"x" * 2047], b""),
        ("", [b",".join(b"k%d=v" % i for i in range(40))], b"".join(b",k%d=v" % i for i in range(31))),
    ],
)
def test_our_state_comes_first_and_once(tenant: str, received: list[bytes], others: bytes) -> None:
    lines = [b"traceparent: 00-" + OTHER + b"-" + SPAN + b"-01", *(b"tracestate: " + state for state in received)]
    key = b"t@gorouter=" if tenant else b"gorouter="
    request = traced(*lines, w3c=True, tenant=tenant)
    assert values(request, b"tracestate") == [key + b"02" * 8 + others]


# Both.


def test_new_traceparent_continues_the_zipkin_trace() -> None:
    request = traced(b"b3: " + SPAN + b"-" + PARENT, zipkin=True, w3c=True)
    assert values(request, b"traceparent") == [b"00-" + b"0" * 16 + SPAN + b"-" + PARENT + b"-01"]


def test_zipkin_ids_name_the_request_even_with_a_traceparent() -> None:
    lines = [b"b3: " + TRACE + b"-" + SPAN, b"traceparent: 00-" + OTHER + b"-" + SPAN + b"-00"]
    request = traced(*lines, zipkin=True, w3c=True)
    assert request.request_id == as_uuid(TRACE)
    assert re.fullmatch(b"00-" + OTHER + b"-[0-9a-f]{16}-00", values(request, b"traceparent")[0])
