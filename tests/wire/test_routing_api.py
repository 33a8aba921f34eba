import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.registration import Registration
from router.wire.routing_api import (
    MAX_EVENT_BYTES,
    ApiRoute,
    EventParser,
    RoutingApiFormatError,
    ServerEvent,
    decode_route,
    decode_route_list,
)

ROUTE = {
    "route": "myapp.com/somepath",
    "port": 3000,
    "ip": "1.2.3.4",
    "ttl": 120,
    "log_guid": "guid",
    "route_service_url": "https://service.test",
    "modification_tag": {"guid": "abc123", "index": 1164},
}


def encoded(**changes: Any) -> bytes:
    return json.dumps({**ROUTE, **changes}).encode()


def test_route_becomes_a_plain_endpoint_with_the_log_guid_as_app_and_certificate_name() -> None:
    assert decode_route(encoded()) == ApiRoute(
        Registration(
            host="1.2.3.4",
            port=3000,
            tls=False,
            uris=("myapp.com/somepath",),
            app="guid",
            san="guid",
            stale_threshold_s=120,
            route_service_url="https://service.test",
        ),
        "abc123",
        1164,
    )


def test_key_is_route_and_address() -> None:
    assert decode_route(encoded(ip="::1")).key == ("myapp.com/somepath", "[::1]:3000")


@pytest.mark.parametrize("name", ["ttl", "log_guid", "route_service_url", "modification_tag"])
def test_optional_field_may_be_null_or_missing(name: str) -> None:
    without = {key: value for key, value in ROUTE.items() if key != name}
    assert decode_route(encoded(**{name: None})) == decode_route(json.dumps(without).encode())


def test_unknown_fields_are_ignored() -> None:
    assert decode_route(encoded(isolation_segment="x", more=[1])) == decode_route(encoded())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"route": None}, "route"),
        ({"route": "a\r\nb"}, "route: control character"),
        ({"ip": ""}, "host: missing"),
        ({"ip": "a b"}, "host"),
        ({"ip": 1}, "ip"),
        ({"port": 0}, "port"),
        ({"port": 70000}, "port"),
        ({"port": "80"}, "port"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": "1"}, "ttl"),
        ({"log_guid": "a\nb"}, "app: control character"),
        ({"route_service_url": "http://plain.test"}, "route_service_url must be https"),
        ({"modification_tag": {"guid": "a", "index": -1}}, "index"),
        ({"modification_tag": "a"}, "modification_tag"),
    ],
)
def test_bad_route_is_an_error_that_names_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RoutingApiFormatError, match=message):
        decode_route(encoded(**changes))


def test_list_is_split_so_that_a_bad_route_spoils_itself_alone() -> None:
    routes = decode_route_list(b"[" + encoded() + b', {"route": 1}, 7]')

    assert len(routes) == 3
    assert decode_route(routes[0]).guid == "abc123"
    for bad in routes[1:]:
        with pytest.raises(RoutingApiFormatError):
            decode_route(bad)


@pytest.mark.parametrize("empty", [b"[]", b" null\n"])
def test_list_may_be_empty(empty: bytes) -> None:
    assert decode_route_list(empty) == []


@pytest.mark.parametrize("document", [b"", b"{}", b"[", b"<html>", b"[" * 100_000])
def test_answer_that_is_no_list_is_an_error(document: bytes) -> None:
    with pytest.raises(RoutingApiFormatError, match="no list of routes"):
        decode_route_list(document)


# Events.


STREAM = (
    b"\xef\xbb\xbf: hello\nid: 0\nevent: Upsert\ndata: {1}\n\n"
    b"event:Delete\r\ndata:{\r\ndata: 2}\r\nretry: 5\r\n\r\n"
    b"event: Lost\n\ndata\rdata: x: y\r\r"
    b"data: never ended"
)
EVENTS = [
    ServerEvent("Upsert", b"{1}"),
    ServerEvent("Delete", b"{\n2}"),
    ServerEvent("message", b"\nx: y"),
]


def test_events_are_read() -> None:
    assert list(EventParser().feed(STREAM)) == EVENTS


@given(st.lists(st.integers(0, len(STREAM))))
def test_events_do_not_depend_on_how_they_are_cut(cuts: list[int]) -> None:
    parser = EventParser()
    ends = [0, *sorted(cuts), len(STREAM)]
    events = [event for start, end in pairwise(ends) for event in parser.feed(STREAM[start:end])]

    assert events == EVENTS


def test_remarks_that_keep_the_connection_alive_are_no_event_however_many() -> None:
    parser = EventParser()

    assert [event for _ in range(30) for event in parser.feed(b": still here\n" * 5000)] == []


@pytest.mark.parametrize("line", [b"data: " + b"x" * 1000 + b"\n", b"data\n" * 200, b"x" * 1000])
def test_event_without_end_is_an_error(line: bytes) -> None:
    parser = EventParser()

    def feed_more_than_is_taken() -> None:
        for _ in range(MAX_EVENT_BYTES // len(line) + 2):
            list(parser.feed(line))

    with pytest.raises(RoutingApiFormatError, match="more than"):
        feed_more_than_is_taken()
