from router.proxy.app_counts import AppCounts
from router.proxy.exchange import Exchange
from router.routing.pool import Endpoint
from router.routing.records import EndpointRecord
from router.wire.http1 import parse_request_head

HEAD = parse_request_head(b"GET / HTTP/1.1\r\nHost: a.test")


def served(app: str) -> Exchange:
    exchange = Exchange(None, None, HEAD)  # type: ignore[arg-type]
    exchange.endpoint = Endpoint(1, EndpointRecord("10.0.0.1", 80, app=app))
    return exchange


def test_requests_are_counted_by_app_and_forgotten_once_taken() -> None:
    counts = AppCounts()
    for app in ("a", "b", "a"):
        counts.finished(served(app), 0.0)
    assert counts.take() == {"a": 2, "b": 1}
    assert counts.take() == {}


def test_requests_without_an_app_are_not_counted() -> None:
    counts = AppCounts()
    counts.finished(served(""), 0.0)
    counts.finished(Exchange(None, None, HEAD), 0.0)  # type: ignore[arg-type]
    assert counts.take() == {}
