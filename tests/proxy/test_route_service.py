"""Which requests go to a route service, which come from one, and what is said of signatures that are no good."""

import base64
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from router.backend.connections import Connections
from router.backend.dial import BackendOptions
from router.log import DEBUG, Logger
from router.proxy.exchange import Exchange
from router.proxy.hairpin import HairpinConnections
from router.proxy.reply import Reply
from router.proxy.route_service import RouteServiceOptions, RouteServices, ServiceCall
from router.routing.pool import Pool
from router.routing.records import PoolOptions
from router.routing.table import RouteTable
from router.wire.http1 import parse_request_head
from router.wire.signature import Signer

SERVICE = "https://service.test/check?app=1"
NOW_NS = 1_767_323_045_000_000_000
SECOND_NS = 1_000_000_000
NONCE = bytes(range(12))
SIGNER = Signer("secret", "")
OLD_SIGNER = Signer("old", "")
FAILED = "Failed to validate Route Service Signature: "


class Bench:
    """`RouteServices` with a route table, and what is asked of it."""

    def __init__(self, **options: Any) -> None:
        defaults: dict[str, Any] = {
            "secret": "secret",
            "old_secret": "",
            "recommend_https": True,
            "timeout_s": 60.0,
            "max_attempts": 3,
            "strict": False,
            "websockets": False,
            "hairpinning": False,
        }
        limits = BackendOptions(1.0, 0.0, True, 2, 0.0, 10_000, 0, ())
        self.log: list[dict[str, Any]] = []
        self.table = RouteTable()
        self.connections = Connections(limits, lambda: 0.0)
        self.hairpin = HairpinConnections(limits, lambda: 0.0, 7070)
        self.services = RouteServices(
            RouteServiceOptions(**{**defaults, **options}),
            self.connections,
            self.hairpin,
            Logger(level=DEBUG, sink=lambda line: self.log.append(msgspec.json.decode(line))),
            now_ns=lambda: NOW_NS,
            random_bytes=lambda count: NONCE[:count],
        )

    def pool(self, key: str, url: str = "") -> Pool:
        pool = Pool(key, "/", PoolOptions(route_service_url=url))
        self.table.add(pool)
        return pool

    def exchange(self, *lines: str, host: str = "app.test", target: str = "/a?b=c") -> Exchange:
        head = "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {host}", *lines])
        proxy = SimpleNamespace(mirror=SimpleNamespace(table=self.table))
        exchange = Exchange(proxy, SimpleNamespace(), parse_request_head(head.encode()))  # type: ignore[arg-type]
        exchange.service = None
        exchange.from_service = False
        return exchange

    def call(self, exchange: Exchange, pool: Pool) -> ServiceCall:
        """Expect the outbound leg."""
        assert self.services.decide(exchange, pool) is None
        assert exchange.service is not None
        assert not exchange.from_service
        return exchange.service

    def refused(self, exchange: Exchange, pool: Pool) -> Reply:
        refused = self.services.decide(exchange, pool)
        assert refused is not None
        assert exchange.service is None
        assert not exchange.from_service
        return refused


def signed(
    url: str = "https://app.test/a?b=c", *, age_s: float = 0.0, signer: Signer = SIGNER, nonce: bytes = NONCE
) -> list[str]:
    """The header lines of a request that comes back."""
    signature, metadata = signer.sign(url, NOW_NS - int(age_s * SECOND_NS), nonce)
    return [
        f"X-CF-Forwarded-Url: {url}",
        f"X-CF-Proxy-Signature: {signature.decode()}",
        f"X-CF-Proxy-Metadata: {metadata.decode()}",
    ]


def text_of(refused: Reply) -> tuple[int, str, str]:
    """Status, router error and message of the router's own answer."""
    return refused.status, refused.router_error.decode(), refused.body.decode().partition(": ")[2].rstrip("\n")


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def pool(bench: Bench) -> Pool:
    return bench.pool("app.test", SERVICE)


# The way out.


def test_route_without_a_service_is_left_alone(bench: Bench) -> None:
    exchange = bench.exchange()
    head = exchange.head
    assert bench.services.decide(exchange, bench.pool("app.test")) is None
    assert (exchange.service, exchange.from_service, exchange.head is head) == (None, False, True)


def test_request_goes_to_where_the_service_url_says(bench: Bench, pool: Pool) -> None:
    call = bench.call(bench.exchange(), pool)
    assert (call.target, call.host, call.max_attempts) == (b"/check?app=1", b"service.test", 3)
    record = call.endpoint.record
    assert (record.host, record.port, record.tls, record.san) == ("service.test", 443, True, "service.test")
    assert call.connections is bench.connections


def test_service_is_told_what_it_needs_to_send_the_request_back(bench: Bench, pool: Pool) -> None:
    call = bench.call(bench.exchange(host="App.test:8080"), pool)
    fields = dict(line.split(b": ", 1) for line in call.lines)
    assert fields[b"X-Cf-Forwarded-Url"] == b"https://App.test/a?b=c"
    opened = SIGNER.open(fields[b"X-Cf-Proxy-Signature"], fields[b"X-Cf-Proxy-Metadata"])
    assert (opened.url, opened.requested_ns) == ("https://App.test/a?b=c", NOW_NS)
    assert base64.urlsafe_b64decode(fields[b"X-Cf-Proxy-Metadata"]) == b'{"nonce":"AAECAwQFBgcICQoL"}'


def test_scheme_of_the_forwarded_url_follows_the_recommendation() -> None:
    bench = Bench(recommend_https=False)
    call = bench.call(bench.exchange(), bench.pool("app.test", SERVICE))
    assert b"X-Cf-Forwarded-Url: http://app.test/a?b=c" in call.lines


def test_absolute_target_is_forwarded_as_one_url(bench: Bench, pool: Pool) -> None:
    call = bench.call(bench.exchange(target="http://app.test:80/x?y"), pool)
    assert b"X-Cf-Forwarded-Url: https://app.test/x?y" in call.lines


def test_service_is_no_instance_of_an_app(bench: Bench, pool: Pool) -> None:
    endpoint = bench.call(bench.exchange(), pool).endpoint
    assert endpoint.identity == b""
    assert endpoint.log_fields(None) == b'app_id:"-" app_index:"-" instance_id:"-"'


def test_fields_of_the_client_are_replaced(bench: Bench, pool: Pool) -> None:
    exchange = bench.exchange("X-CF-Forwarded-Url: https://evil.test", "X-Own: 1", "X-CF-Proxy-Metadata: m")
    before = exchange.head
    bench.call(exchange, pool)
    assert exchange.head.lines == [b"X-Own: 1"]
    assert not any(name.startswith(b"x-cf-") for name in exchange.head.special)
    assert len(before.lines) == 3, "the next head on the connection may share its lines"


def test_empty_signature_counts_for_none(bench: Bench, pool: Pool) -> None:
    bench.call(bench.exchange("X-CF-Proxy-Signature:"), pool)


@pytest.mark.parametrize(
    ("url", "target", "host", "address"),
    [
        ("https://s.test", b"/", b"s.test", "s.test:443"),
        ("https://s.test/", b"/", b"s.test", "s.test:443"),
        ("https://s.test?a=b", b"/?a=b", b"s.test", "s.test:443"),
        ("https://s.test/p/q?a=b#c", b"/p/q?a=b", b"s.test", "s.test:443"),
        ("https://S.Test:8443/P", b"/P", b"S.Test:8443", "s.test:8443"),
        ("https://s.test:/", b"/", b"s.test", "s.test:443"),
        ("https://user:secret@s.test/p", b"/p", b"s.test", "s.test:443"),
        ("https://[2001:db8::1]:8443/p", b"/p", b"[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ("https://10.0.0.1/p", b"/p", b"10.0.0.1", "10.0.0.1:443"),
        ("https://s.test/ä b", b"/%C3%A4%20b", b"s.test", "s.test:443"),
        ("HTTPS://s.test/%2F//x", b"/%2F//x", b"s.test", "s.test:443"),
    ],
)
def test_service_url_is_taken_apart(bench: Bench, url: str, target: bytes, host: bytes, address: str) -> None:
    call = bench.call(bench.exchange(), bench.pool("app.test", url))
    assert (call.target, call.host, call.endpoint.address) == (target, host, address)


@pytest.mark.parametrize(
    "url",
    [
        "https",
        "httpsfoo",
        "https://",
        "https:///path",
        "https://s.test:0/",
        "https://s.test:65536/",
        "https://s.test:x/",
        "https://s.test:100000000/",
        "https://s .test/",
        "https://s.test/a\r\nX-Evil: 1",
        "https://s.test\r\n/",
        "https://s.test/\x00",
        "https://s.test/%zz",
        "https://[::1/",
        "https://user@/",
    ],
)
def test_service_url_that_cannot_be_used_is_a_500(bench: Bench, url: str) -> None:
    refused = bench.refused(bench.exchange(), bench.pool("app.test", url))
    assert refused.body == b"500 Internal Server Error: Route service request failed.\n"
    assert refused.router_error == b""
    assert bench.log[-1]["message"] == "route-service-failed"


def test_service_is_learnt_once(bench: Bench, pool: Pool) -> None:
    first, second = bench.call(bench.exchange(), pool), bench.call(bench.exchange(), pool)
    assert first.endpoint is second.endpoint


def test_urls_of_one_service_share_its_connections(bench: Bench) -> None:
    one = bench.call(bench.exchange(), bench.pool("a.test", "https://s.test/one"))
    two = bench.call(bench.exchange(), bench.pool("b.test", "https://S.test:443/two"))
    assert one.endpoint is two.endpoint
    assert one.target != two.target


def test_services_of_long_ago_are_forgotten(bench: Bench) -> None:
    urls = [f"https://s{number}.test/" for number in range(2000)]
    calls = [bench.call(bench.exchange(), Pool("app.test", "/", PoolOptions(url))) for url in urls]
    assert calls[0].endpoint.gone
    assert not calls[-1].endpoint.gone
    again = bench.call(bench.exchange(), Pool("app.test", "/", PoolOptions(urls[0])))
    assert again.endpoint is not calls[0].endpoint
    assert not again.endpoint.gone


def test_many_urls_of_one_service_are_forgotten_without_the_service(bench: Bench) -> None:
    urls = [f"https://s.test/{number}" for number in range(2000)]
    calls = [bench.call(bench.exchange(), Pool("app.test", "/", PoolOptions(url))) for url in urls]
    assert {id(call.endpoint) for call in calls} == {id(calls[0].endpoint)}
    assert not calls[0].endpoint.gone


# Refusals.


def test_service_without_a_secret_is_unsupported() -> None:
    bench = Bench(secret="", strict=True)
    refused = bench.refused(bench.exchange(*signed()), bench.pool("app.test", SERVICE))
    assert text_of(refused) == (502, "route_service_unsupported", "Support for route services is disabled.")
    assert bench.services.decide(bench.exchange(*signed()), bench.pool("other.test")) is None


WEBSOCKET = ["Connection: Upgrade", "Upgrade: WebSocket"]


@pytest.mark.parametrize("lines", [WEBSOCKET, [*WEBSOCKET, *signed()]])
def test_websocket_to_a_service_is_refused(bench: Bench, pool: Pool, lines: list[str]) -> None:
    message = "Websocket requests are not supported for routes bound to Route Services."
    assert text_of(bench.refused(bench.exchange(*lines), pool)) == (503, "route_service_unsupported", message)


def test_other_upgrades_are_ordinary_requests(bench: Bench, pool: Pool) -> None:
    bench.call(bench.exchange("Connection: Upgrade", "Upgrade: h2c"), pool)


def test_websocket_goes_to_a_service_where_that_is_enabled() -> None:
    bench = Bench(websockets=True)
    bench.call(bench.exchange(*WEBSOCKET), bench.pool("app.test", SERVICE))


# The way back.


def test_valid_signature_opens_the_way_to_the_app(bench: Bench, pool: Pool) -> None:
    exchange = bench.exchange("X-Own: 1", *signed())
    before = exchange.head
    assert bench.services.decide(exchange, pool) is None
    assert (exchange.service, exchange.from_service) == (None, True)
    assert exchange.head.lines == [b"X-Own: 1"]
    assert not any(name.startswith(b"x-cf-") for name in exchange.head.special)
    assert (exchange.head.target, exchange.head.host) == (b"/a?b=c", b"app.test")
    assert len(before.lines) == 4


def test_second_request_with_the_same_lines_is_judged_by_its_own_signature(bench: Bench, pool: Pool) -> None:
    first = bench.exchange(*signed())
    previous = first.head
    assert bench.services.decide(first, pool) is None
    raw = b"GET /b HTTP/1.1" + previous.block
    second = bench.exchange()
    second.head = parse_request_head(raw, previous)
    assert bench.services.decide(second, pool) is None
    assert (second.service, second.from_service) == (None, True)


@pytest.mark.parametrize("age_s", [0.0, 59.9, 60.0, -3600.0])
def test_signature_is_good_until_its_time_is_over(bench: Bench, pool: Pool, age_s: float) -> None:
    assert bench.services.decide(bench.exchange(*signed(age_s=age_s)), pool) is None


@pytest.mark.parametrize("age_s", [60.001, 3600.0])
def test_expired_signature_is_a_504(bench: Bench, pool: Pool, age_s: float) -> None:
    refused = bench.refused(bench.exchange(*signed(age_s=age_s)), pool)
    assert text_of(refused) == (504, "", FAILED + "route service request expired")
    assert bench.log[-1]["message"] == "signature-validation-failed"
    assert bench.log[-1]["data"]["error"] == "route service request expired"


def test_old_secret_is_still_believed() -> None:
    bench = Bench(old_secret="old")
    exchange = bench.exchange(*signed(signer=OLD_SIGNER))
    assert bench.services.decide(exchange, bench.pool("app.test", SERVICE)) is None
    assert exchange.from_service


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["X-CF-Proxy-Signature: AAAA"], "No metadata found"),
        (["X-CF-Proxy-Signature: AAAA", "X-CF-Proxy-Metadata:"], "No metadata found"),
        (signed(signer=OLD_SIGNER), "cipher: message authentication failed"),
        (["X-CF-Proxy-Signature: !", signed()[2]], "illegal base64 data at input byte 0"),
        (["X-CF-Proxy-Signature: AAAA", "X-CF-Proxy-Metadata: AAAAA"], "illegal base64 data at input byte 4"),
        (["X-CF-Proxy-Signature: AAAA", "X-CF-Proxy-Metadata: eyJub25jZSI6IiJ9"], "incorrect nonce length"),
        (["X-CF-Proxy-Signature: AAAA", "X-CF-Proxy-Metadata: ew=="], "unexpected end of JSON input"),
        (
            signed("https://gone.test/x"),
            "original request URL https://gone.test/x does not exist in the routing table",
        ),
        (signed("nonsense"), "original request URL nonsense does not exist in the routing table"),
        (signed(""), "original request URL  does not exist in the routing table"),
        (
            signed("https://other.test/x?y"),
            "route service forwarded URL https://other.test/x?y does not match the original request URL"
            " app.test/a?b=c",
        ),
    ],
)
def test_bad_signature_is_a_502_that_says_why(bench: Bench, pool: Pool, lines: list[str], reason: str) -> None:
    bench.pool("other.test", SERVICE)
    refused = bench.refused(bench.exchange(*lines), pool)
    assert text_of(refused) == (502, "", FAILED + reason)
    assert not any(line.startswith(b"X-Cf-Routererror") for line in refused.lines)
    assert bench.log[-1]["data"]["error"] == reason


@pytest.mark.parametrize(
    "url", ["http://app.test/other", "https://APP.test:8443/a/b", "https://user@app.test", "https://app.test?x"]
)
def test_url_that_leads_to_the_same_route_is_the_same(bench: Bench, pool: Pool, url: str) -> None:
    assert bench.services.decide(bench.exchange(*signed(url)), pool) is None


def test_context_path_belongs_to_the_route(bench: Bench, pool: Pool) -> None:
    bench.pool("app.test/api", SERVICE).endpoints.append(object())  # type: ignore[arg-type]
    refused = bench.refused(bench.exchange(*signed("https://app.test/api/x")), pool)
    assert b"does not match" in refused.body


# Routes without a service.


def test_service_that_is_an_app_gets_its_signature(bench: Bench) -> None:
    exchange = bench.exchange(*signed(), host="service.test")
    assert bench.services.decide(exchange, bench.pool("service.test")) is None
    assert (exchange.service, exchange.from_service) == (None, True)
    assert len(exchange.head.lines) == 3


@pytest.mark.parametrize(
    "lines", [signed()[1:], signed(age_s=61.0), signed(signer=OLD_SIGNER), ["X-CF-Proxy-Signature: x"]]
)
def test_signature_that_proves_nothing_is_passed_on_unless_strict(bench: Bench, lines: list[str]) -> None:
    exchange = bench.exchange(*lines)
    assert bench.services.decide(exchange, bench.pool("app.test")) is None
    assert (exchange.service, exchange.from_service) == (None, False)
    assert len(exchange.head.lines) == len(lines)


@pytest.mark.parametrize("lines", [signed(signer=OLD_SIGNER), ["X-CF-Proxy-Signature: x"]])
def test_strict_validation_refuses_bad_signatures(lines: list[str]) -> None:
    bench = Bench(strict=True)
    refused = bench.refused(bench.exchange(*lines), bench.pool("app.test"))
    name = "invalid_route_service_signature"
    assert text_of(refused) == (400, name, "invalid route service signature detected")


def test_strict_validation_refuses_expired_signatures() -> None:
    bench = Bench(strict=True)
    refused = bench.refused(bench.exchange(*signed(age_s=61.0)), bench.pool("app.test"))
    name = "expired_route_service_signature"
    assert text_of(refused) == (504, name, FAILED + "route service request expired")


def test_strict_validation_lets_valid_signatures_and_none_pass() -> None:
    bench = Bench(strict=True)
    pool = bench.pool("app.test")
    assert bench.services.decide(bench.exchange(), pool) is None
    assert bench.services.decide(bench.exchange(*signed()), pool) is None


# Hairpinning.


@pytest.mark.parametrize(
    ("allowlist", "key", "expected"),
    [
        ((), "service.test", True),
        ((), "*.test", True),
        ((), "service.test/check", True),
        ((), "other.test", False),
        (("service.test",), "service.test", True),
        (("SERVICE.test",), "service.test", True),
        (("service.test",), "*.test", False),
        (("*.test",), "service.test", True),
        (("*.test",), "*.test", True),
        (("other.test",), "service.test", False),
    ],
)
def test_service_of_our_own_is_reached_within_the_worker(
    allowlist: tuple[str, ...], key: str, expected: bool
) -> None:
    bench = Bench(hairpinning=True, hairpinning_allowlist=allowlist)
    pool = bench.pool("app.example", SERVICE)
    bench.pool(key)
    assert (bench.call(bench.exchange(), pool).connections is bench.hairpin) is expected


def test_wildcard_of_the_allowlist_stands_for_one_label() -> None:
    bench = Bench(hairpinning=True, hairpinning_allowlist=("*.y.test",))
    url = "https://a.b.y.test"
    bench.pool("a.b.y.test")
    assert bench.call(bench.exchange(), bench.pool("app.test", url)).connections is bench.connections
    bench.pool("b.y.test")
    url = "https://b.y.test:8443/x"
    assert bench.call(bench.exchange(), bench.pool("app.test", url)).connections is bench.hairpin


def test_route_that_shadows_a_service_captures_nothing_without_hairpinning(bench: Bench, pool: Pool) -> None:
    bench.pool("service.test")
    assert bench.call(bench.exchange(), pool).connections is bench.connections


# Afterwards.


@pytest.mark.parametrize(("status", "lines"), [(200, 0), (204, 0), (302, 1), (403, 1), (500, 1)])
def test_answer_other_than_success_is_noted(bench: Bench, pool: Pool, status: int, lines: int) -> None:
    exchange = bench.exchange()
    bench.call(exchange, pool)
    exchange.status = status
    bench.services.note_response(exchange)
    assert [line["message"] for line in bench.log] == ["route-service-response"] * lines
