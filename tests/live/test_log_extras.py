"""What the access log shows beyond its usual line: further fields, headers, redacted queries."""

import re

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.ports import free_port
from tests.support.recorder import RecordingBackend

ASKED = ["backend_time", "failed_attempts", "failed_attempts_time", "dns_time", "dial_time", "tls_time"]
SECONDS = r"\d+\.\d{6}"
NONE = '"-"'


@pytest.fixture(scope="module")
def extras(start_live: StartLive) -> Live:
    return start_live(
        {
            "logging": {"extra_access_log_fields": [*ASKED, "local_address", "failed_attempts", "nonsense"]},
            "extra_headers_to_log": ["X-Colour", "Accept-Language", "X-Colour", "traceparent"],
            "tracing": {"enable_zipkin": True, "enable_w3c": True},
        }
    )


@pytest.fixture(scope="module")
def older(start_live: StartLive) -> Live:
    return start_live({"logging": {"enable_attempts_details": True, "redact_query_params": "hash"}})


@pytest.fixture(scope="module")
def silent(start_live: StartLive) -> Live:
    return start_live({"logging": {"redact_query_params": "all"}})


def between(line: str) -> dict[str, str]:
    """Return the fields between instance_id and x_cf_routererror, in their order."""
    match = re.search(r' instance_id:"[^"]*" (.*) x_cf_routererror:', line)
    assert match, line
    return dict(field.split(":", 1) for field in match[1].split(" "))


def after(line: str) -> dict[str, str]:
    """Return the headers after x_cf_routererror."""
    match = re.search(r' x_cf_routererror:"[^"]*" (.*)$', line)
    assert match, line
    return dict(re.findall(r'(\S+):"((?:[^"\\]|\\.)*)"', match[1]))


def test_fields_come_in_the_order_asked_for_each_once(extras: Live, backend: RecordingBackend) -> None:
    host = extras.route(backend)
    with extras.client() as client:
        assert client.get("/fields", host=host).status == 200
    fields = between(extras.router.wait_access_line("/fields"))
    assert list(fields) == [*ASKED, "local_address"]
    assert fields["failed_attempts"] == "0"
    assert fields["failed_attempts_time"] == fields["tls_time"] == NONE
    assert re.fullmatch(SECONDS, fields["backend_time"])
    assert re.fullmatch(SECONDS, fields["dial_time"])
    assert re.fullmatch(r'"127\.0\.0\.1:\d+"', fields["local_address"])


def test_connection_that_is_used_again_has_no_times_of_its_making(extras: Live, backend: RecordingBackend) -> None:
    host = extras.route(backend)
    with extras.client() as client:
        for path in ("/made", "/reused"):
            assert client.get(path, host=host).status == 200
    fields = between(extras.router.wait_access_line("/reused"))
    assert fields["dns_time"] == fields["dial_time"] == fields["tls_time"] == NONE
    assert re.fullmatch(SECONDS, fields["backend_time"])
    made = between(extras.router.wait_access_line("/made"))
    assert made["local_address"] == fields["local_address"]


def test_failed_attempts_are_counted_and_timed(extras: Live, backend: RecordingBackend) -> None:
    host = extras.host()
    extras.routes.register(host, backend=free_port())
    extras.routes.register(host, backend=backend)
    with extras.client() as client:
        for number in range(2):
            assert client.get(f"/tried-{number}", host=host).status == 200
    lines = [between(extras.router.wait_access_line(f"/tried-{number}")) for number in range(2)]
    assert sorted(fields["failed_attempts"] for fields in lines) == ["0", "1"]
    (failed,) = [fields for fields in lines if fields["failed_attempts"] == "1"]
    assert re.fullmatch(SECONDS, failed["failed_attempts_time"])


def test_request_without_an_endpoint_has_empty_fields(extras: Live) -> None:
    with extras.client() as client:
        assert client.get("/nowhere", host="nowhere.test").status == 404
    fields = between(extras.router.wait_access_line("/nowhere"))
    assert fields.pop("failed_attempts") == "0"
    assert set(fields.values()) == {NONE}


def test_headers_follow_in_lower_case_and_those_of_tracing_by_themselves(
    extras: Live, backend: RecordingBackend
) -> None:
    host = extras.route(backend)
    with extras.client() as client:
        client.get("/headers", host=host, headers='X-Colour: "red"\r\nX-Colour: blue\r\n')
    line = extras.router.wait_access_line("/headers")
    headers = after(line)
    zipkin = ["x_b3_traceid", "x_b3_spanid", "x_b3_parentspanid", "b3"]
    assert list(headers) == ["x_colour", "accept_language", "traceparent", *zipkin, "tracestate"]
    assert headers["x_colour"] == r"\"red\"", "the first of them"
    assert headers["accept_language"] == headers["x_b3_parentspanid"] == "-"
    sent = backend.requests[-1]
    for name in ("X-B3-TraceId", "X-B3-SpanId", "b3", "traceparent", "tracestate"):
        assert headers[name.lower().replace("-", "_")] == sent.header(name)


def test_older_switch_stands_for_six_fields(older: Live, backend: RecordingBackend) -> None:
    host = older.route(backend)
    with older.client() as client:
        client.get("/older", host=host)
    names = ["failed_attempts", "failed_attempts_time", "dns_time", "dial_time", "tls_time", "backend_time"]
    assert list(between(older.router.wait_access_line("/older"))) == names


@pytest.mark.parametrize(
    ("request_line", "logged"),
    [
        ("GET /hashed?name=peter", "GET /hashed?hash=a6909eece4005d85fb1894cc4efa38564b9c30c3"),
        ("GET /hashed-without", "GET /hashed-without"),
        ("POST /hashed-post?name=peter", "POST /hashed-post?name=peter"),
    ],
)
def test_query_of_a_get_request_is_hashed(
    older: Live, backend: RecordingBackend, request_line: str, logged: str
) -> None:
    host = older.route(backend)
    with older.client() as client:
        client.send(f"{request_line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode())
        assert client.read_response().status == 200
    assert f'"{logged} HTTP/1.1"' in older.router.wait_access_line(f'"{logged} HTTP/1.1"')
    assert backend.requests[-1].target == request_line.split(" ")[1], "the app gets all of it"


def test_query_of_a_get_request_is_left_out(silent: Live, backend: RecordingBackend) -> None:
    host = silent.route(backend)
    with silent.client() as client:
        client.get("/quiet?name=peter", host=host)
    assert '"GET /quiet HTTP/1.1"' in silent.router.wait_access_line("/quiet")
