import re
import time
from typing import Any

import pytest

from router.proxy.access_log import AccessLog
from router.proxy.exchange import Exchange
from router.routing.pool import Endpoint
from router.routing.records import EndpointRecord
from router.wire.http1 import RequestHead, parse_request_head

RECEIVED_NS = 1_700_000_000_000_000_042


class Peer:
    """The client's side of an exchange, as far as the log is concerned."""

    peer = b"127.0.0.1:44444"
    protocol = b"HTTP/1.1"


def head(*lines: bytes, start: bytes = b"GET /a/b?x=1 HTTP/1.1", host: bytes = b"app.test") -> RequestHead:
    return parse_request_head(b"\r\n".join([start, b"Host: " + host, *lines]))


def exchange(of: RequestHead, **facts: Any) -> Exchange:
    made = Exchange(None, Peer(), of)  # type: ignore[arg-type]
    made.received_ns, made.started = RECEIVED_NS, 50.0
    made.request_id = b"7aefff86-7b8f-4c1c-9dd1-6b0f6d9cb3a1"
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def line(of: Exchange, **options: Any) -> str:
    return AccessLog(None, **options).format(of, 50.003691).decode()


def endpoint(**fields: Any) -> Endpoint:
    return Endpoint(1, EndpointRecord("127.0.0.1", 36133, **fields))


@pytest.fixture
def _utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_utc")
def test_proxied_request_is_logged_as_gorouter_does() -> None:
    served = exchange(
        head(b"User-Agent: ua"),
        status=200,
        bytes_out=2,
        endpoint=endpoint(app="app-guid", instance_index="0", instance_id="inst-1"),
        proxied_at=50.00051,
        forwarded_for=b"127.0.0.1",
        forwarded_proto=b"http",
    )

    assert line(served) == (
        'app.test - [2023-11-14T22:13:20.000000042Z] "GET /a/b?x=1 HTTP/1.1" 200 0 2 "-" "ua" "127.0.0.1:44444" '
        '"127.0.0.1:36133" x_forwarded_for:"127.0.0.1" x_forwarded_proto:"http" '
        'vcap_request_id:"7aefff86-7b8f-4c1c-9dd1-6b0f6d9cb3a1" response_time:0.003691 gorouter_time:0.000510 '
        'app_id:"app-guid" app_index:"0" instance_id:"inst-1" x_cf_routererror:"-"\n'
    )


@pytest.mark.usefixtures("_utc")
def test_unknown_route_is_logged_as_gorouter_does() -> None:
    refused = exchange(
        head(start=b"GET /y HTTP/1.1", host=b"unknown.example"),
        status=404,
        bytes_out=67,
        router_error=b"unknown_route",
    )

    assert line(refused) == (
        'unknown.example - [2023-11-14T22:13:20.000000042Z] "GET /y HTTP/1.1" 404 0 67 "-" "-" "127.0.0.1:44444" '
        '"-" x_forwarded_for:"-" x_forwarded_proto:"-" vcap_request_id:"7aefff86-7b8f-4c1c-9dd1-6b0f6d9cb3a1" '
        'response_time:0.003691 gorouter_time:0.000000 app_id:"-" app_index:"-" instance_id:"-" '
        'x_cf_routererror:"unknown_route"\n'
    )


def test_without_a_status_there_is_a_dash() -> None:
    assert ' HTTP/1.1" "-" 0 0 ' in line(exchange(head()))


def test_absolute_target_is_logged_without_its_host() -> None:
    assert line(exchange(head(start=b"GET http://b.test/x HTTP/1.1"))).startswith("b.test - [")
    assert '"GET /x HTTP/1.1"' in line(exchange(head(start=b"GET http://b.test/x HTTP/1.1")))


def test_forwarded_fields_are_as_received_when_no_endpoint_was_asked() -> None:
    text = line(exchange(head(b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Proto: https")))

    assert 'x_forwarded_for:"1.1.1.1" x_forwarded_proto:"https"' in text


def test_addresses_are_hidden_on_demand() -> None:
    served = exchange(head(), endpoint=endpoint(), proxied_at=50.0, forwarded_for=b"1.1.1.1")

    assert '"127.0.0.1:44444"' not in line(served, hide_client=True)
    assert 'x_forwarded_for:"-"' in line(served, hide_forwarded_for=True)
    assert '"-" "-" "-" "127.0.0.1:36133"' in line(served, hide_client=True)


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ([b'Referer: a"b'], '"a\\"b" "-"'),
        ([b"User-Agent: \xff\tx"], '"-" "\\xff\\tx"'),
        ([b"Referer: " + b"r" * 300], '"' + "r" * 300 + '" "-"'),
    ],
)
def test_values_of_clients_are_quoted(fields: list[bytes], shown: str) -> None:
    assert f" 0 0 {shown} " in line(exchange(head(*fields)))


def test_target_cannot_end_its_quotes() -> None:
    text = line(exchange(head(start=b'GET /"200\\" HTTP/1.1')))

    assert '"GET /\\"200\\\\\\" HTTP/1.1"' in text
    assert text.count("\n") == 1


def test_time_follows_the_clock_from_second_to_second() -> None:
    log = AccessLog(None)
    stamps = []
    for nanoseconds in (RECEIVED_NS, RECEIVED_NS + 1, RECEIVED_NS + 10**9, RECEIVED_NS):
        made = exchange(head())
        made.received_ns = nanoseconds
        found = re.search(rb"\[(.*?)\]", log.format(made, 51.0))
        assert found is not None
        stamps.append(found[1])

    assert stamps[1][-4:] == b"043Z"
    assert stamps[0] == stamps[3] != stamps[2]


def test_memory_of_quoted_values_is_bounded() -> None:
    log = AccessLog(None)
    for number in range(5000):
        log.format(exchange(head(b"User-Agent: %d" % number)), 51.0)

    assert len(log._quoted) <= 4097
    assert b'"-" "-" "127.0.0.1:44444"' in log.format(exchange(head()), 51.0)


def test_line_goes_to_the_writer_unless_the_log_is_off() -> None:
    lines: list[bytes] = []
    AccessLog(lines.append).log(exchange(head()))
    AccessLog(None).log(exchange(head()))

    assert len(lines) == 1
