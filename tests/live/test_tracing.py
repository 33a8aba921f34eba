"""Trace headers: what a backend gets to see, and that the request id joins both."""

from collections.abc import Callable

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.recorder import RecordingBackend, Request

TRACE = "463ac35c9f6413ad48485a3953bb6124"
SPAN = "a2fb4a1d1a96d312"
TRACED = "463ac35c-9f64-13ad-4848-5a3953bb6124"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
BOTH = {
    "tracing": {"enable_zipkin": True, "enable_w3c": True, "w3c_tenant_id": "tid"},
    "hop_by_hop_headers_to_filter": ["B3", "Traceparent"],
}

Send = Callable[..., Request]


def sender(live: Live, backend: RecordingBackend) -> Send:
    host = live.route(backend)

    def send(*lines: str) -> Request:
        """Send a request with these lines and return what the backend saw."""
        count = len(backend.requests)
        with live.client() as client:
            response = client.get(host=host, headers="".join(f"{line}\r\n" for line in lines))
        request = backend.requests[count]
        assert response.header("X-Vcap-Request-Id") == request.header("X-Vcap-Request-Id")
        return request

    return send


@pytest.fixture(scope="module")
def tracing(start_live: StartLive) -> Live:
    return start_live(BOTH)


@pytest.fixture
def send(tracing: Live, backend: RecordingBackend) -> Send:
    return sender(tracing, backend)


def test_without_tracing_trace_headers_are_just_headers(live: Live, backend: RecordingBackend) -> None:
    request = sender(live, backend)("b3: nonsense", "Traceparent: x")
    assert (request.header("b3"), request.header("traceparent")) == ("nonsense", "x")
    assert request.values("X-B3-TraceId") == request.values("tracestate") == []


def test_new_trace_is_one_in_all_headers(send: Send) -> None:
    request = send()
    trace, span = request.header("X-B3-TraceId"), request.header("X-B3-SpanId")
    assert trace is not None
    assert trace == (request.header("X-Vcap-Request-Id") or "").replace("-", "")
    assert span == trace[16:]
    assert request.header("b3") == f"{trace}-{span}"
    assert request.header("traceparent") == f"00-{trace}-{span}-01"
    assert request.header("tracestate") == f"tid@gorouter={span}"


def test_every_request_of_a_connection_gets_a_trace_of_its_own(tracing: Live, backend: RecordingBackend) -> None:
    host = tracing.route(backend)
    with tracing.client() as client:
        for _ in range(3):
            assert client.get(host=host).status == 200
    assert len({request.header("X-B3-TraceId") for request in backend.requests}) == 3


def test_zipkin_trace_is_continued(send: Send) -> None:
    request = send(f"b3: {TRACE}-{SPAN}-1")
    assert request.header("b3") == f"{TRACE}-{SPAN}-1"
    assert request.values("X-B3-TraceId") == []
    assert request.header("X-Vcap-Request-Id") == TRACED
    assert request.header("traceparent") == f"00-{TRACE}-{SPAN}-01"


def test_zipkin_trace_in_several_headers_is_continued(send: Send) -> None:
    request = send(f"X-B3-TraceId: {TRACE}", f"X-B3-SpanId: {SPAN}", "X-B3-Sampled: 0")
    assert request.header("b3") == f"{TRACE}-{SPAN}-0"
    assert request.header("X-Vcap-Request-Id") == TRACED


@pytest.mark.parametrize("b3", ["0", "1", "d"])
def test_sampling_decision_alone_gives_no_empty_trace(b3: str, send: Send) -> None:
    request = send(f"b3: {b3}")
    assert request.header("b3") == b3
    digits = (request.header("X-Vcap-Request-Id") or "").replace("-", "")
    assert request.header("traceparent") == f"00-{digits}-{digits[16:]}-01"


def test_traceparent_is_continued_and_our_state_put_first(send: Send) -> None:
    request = send(f"traceparent: {PARENT}", "tracestate: a=1,tid@gorouter=old", "tracestate: b=2")
    version, trace, parent, flags = (request.header("traceparent") or "").split("-")
    assert (version, trace, flags) == ("00", PARENT.split("-")[1], "00")
    assert parent not in (PARENT.split("-")[2], "0" * 16)
    assert request.header("tracestate") == f"tid@gorouter={parent},a=1,b=2"


def test_client_cannot_strip_what_the_platform_protects(send: Send) -> None:
    request = send("Connection: b3, traceparent")
    assert request.header("b3")
    assert request.header("traceparent")


def test_access_log_has_the_trace_headers(tracing: Live, send: Send) -> None:
    request = send(f"X-B3-TraceId: {TRACE}", f"X-B3-SpanId: {SPAN}", "Referer: traced")
    line = tracing.router.wait_access_line('"traced"')
    assert f'x_b3_traceid:"{TRACE}" x_b3_spanid:"{SPAN}" x_b3_parentspanid:"-" b3:"{TRACE}-{SPAN}"' in line
    assert f'traceparent:"{request.header("traceparent")}" tracestate:"{request.header("tracestate")}"' in line
