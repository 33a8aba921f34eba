"""Route services as an operator sees them: a configuration file, announcements over NATS, HTTP and the logs."""

import base64
import json
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from router.certs import Authority, Pair, issue, make_ca
from router.wire.signature import Signer
from tests.live.conftest import Live, StartLive
from tests.live.https import https_config
from tests.support.certificates import client_context, server_context
from tests.support.odd_certificates import dns, make
from tests.support.ports import free_port
from tests.support.rawclient import RawClient, Response
from tests.support.recorder import Conversation, MakeBackend, RecordingBackend, Script, named, plain
from tests.support.waiting import wait_until

SECRET, OLD_SECRET = "my-secret", "the-one-before"
THREE = ("X-CF-Forwarded-Url", "X-CF-Proxy-Signature", "X-CF-Proxy-Metadata")
FAILED = "Failed to validate Route Service Signature: "
XFCC = "X-Forwarded-Client-Cert"


class Platform:
    """Certificates of a platform, and the keys of a router on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority: Authority = make_ca("platform CA")
        self.clients: Authority = make_ca("clients CA")
        self.someone = issue(self.clients, ["someone"], client=True)
        self.context = server_context(issue(self.authority, ["localhost", "127.0.0.1"]), directory)

    def keys(self, **more: Any) -> dict[str, Any]:
        return {
            "route_services_secret": SECRET,
            "route_services_secret_decrypt_only": OLD_SECRET,
            "route_services_recommend_https": True,
            "route_services": {"max_attempts": 3},
            "ca_certs": [self.authority.pair.certificate],
            **more,
        }

    def https(self, **more: Any) -> dict[str, Any]:
        pair = issue(self.authority, ["localhost", "front.test"])
        return https_config([pair], **self.keys(**more))

    def client(self, live: Live, *, shows: bool = False) -> RawClient:
        pair = self.someone if shows else None
        context = client_context(self.authority, identity=pair, directory=self.directory)
        return RawClient(live.router.ssl_port, tls=context, server_name="front.test")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    return Platform(tmp_path_factory.mktemp("platform"))


@pytest.fixture(scope="module")
def routed(start_live: StartLive, platform: Platform) -> Live:
    return start_live(platform.keys())


@pytest.fixture(scope="module")
def careless(start_live: StartLive, platform: Platform) -> Live:
    return start_live(platform.keys(skip_ssl_validation=True))


@pytest.fixture
def service(platform: Platform, make_backend: MakeBackend) -> RecordingBackend:
    return make_backend(named("service"), tls=platform.context)


def bind(live: Live, app: RecordingBackend | int, url: str, *, host: str = "", path: str = "") -> str:
    """Announce an app with a service in front, and return its host."""
    name = host or live.host()
    port = app if isinstance(app, int) else app.port
    live.announcer.register(name + path, port=port, app="app-guid", route_service_url=url)
    live.routes.settle()
    return name


def url_of(service: RecordingBackend | int, path: str = "/") -> str:
    return f"https://localhost:{service if isinstance(service, int) else service.port}{path}"


def signed(url: str, *, age_s: float = 0.0, secret: str = SECRET) -> str:
    signature, metadata = Signer(secret, "").sign(url, time.time_ns() - int(age_s * 1e9), bytes(range(12)))
    values = (url, signature.decode(), metadata.decode())
    return "".join(f"{name}: {value}\r\n" for name, value in zip(THREE, values, strict=True))


def passes_on(connect: Callable[[], RawClient]) -> Script:
    """A service that has the app asked and passes the answer back."""

    def script(conversation: Conversation) -> None:
        while True:
            request = conversation.read_request()
            url = urlsplit(request.header("X-CF-Forwarded-Url") or "")
            kept = [*THREE, XFCC, "X-Forwarded-For", "X-Forwarded-Proto"]
            lines = "".join(f"{name}: {value}\r\n" for name in kept for value in request.values(name))
            with connect() as back:
                answer = back.get(url.path, host=url.netloc, headers=lines)
            conversation.answer(answer.body, status=f"{answer.status} {answer.reason}")

    return script


def get(live: Live, host: str, path: str = "/", headers: str = "") -> Response:
    with live.client() as client:
        return client.get(path, host=host, headers=headers)


# The service itself.


def test_service_that_answers_by_itself_is_heard_and_the_app_is_not_asked(
    routed: Live, platform: Platform, make_backend: MakeBackend, backend: RecordingBackend
) -> None:
    def refuse(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.answer(b"not you", status="403 Forbidden", headers="X-Why: policy\r\n")

    host = bind(routed, backend, url_of(make_backend(refuse, tls=platform.context)))
    response = get(routed, host, "/secret")
    assert (response.status, response.body, response.header("X-Why")) == (403, b"not you", "policy")
    assert response.header("X-Cf-Routererror") is None
    assert backend.requests == []
    line = routed.router.wait_access_line(host)
    assert re.search(r'"GET /secret HTTP/1.1" 403 0 7 "-" "-" "127\.0\.0\.1:\d+" "-" ', line)
    assert 'app_id:"-" app_index:"-" instance_id:"-"' in line
    told = routed.router.wait_for_log("route-service-response")
    assert told["data"]["status_code"] == 403


def test_trip_by_the_service_and_back_is_two_lines_in_the_log(
    routed: Live, platform: Platform, make_backend: MakeBackend, backend: RecordingBackend
) -> None:
    service = make_backend(passes_on(routed.client), tls=platform.context)
    host = bind(routed, backend, url_of(service))
    assert get(routed, host, "/trip?x=1").body == b"ok"
    inner, outer = (routed.router.wait_access_line(f"{host} ", count=count) for count in (1, 2))
    assert f'"127.0.0.1:{backend.port}"' in inner
    assert 'app_id:"app-guid"' in inner
    assert 'app_id:"-"' in outer
    assert service.requests[0].header("X-CF-Forwarded-Url") == f"https://{host}/trip?x=1"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_body_reaches_the_service(
    routed: Live, service: RecordingBackend, backend: RecordingBackend, method: str
) -> None:
    host = bind(routed, backend, url_of(service))
    with routed.client() as client:
        client.send(
            f"{method} / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
            "5\r\nhello\r\n0\r\n\r\n".encode()
        )
        assert client.read_response(method).body == b"service"
    assert [(request.method, request.body) for request in service.requests] == [(method, b"hello")]


# Services that fail.


def dies(conversation: Conversation) -> None:
    conversation.read_request()


def dies_in_mid_body(conversation: Conversation) -> None:
    conversation.read_request()
    conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


def test_service_that_is_down_is_502_after_its_attempts(routed: Live, backend: RecordingBackend) -> None:
    host = bind(routed, backend, url_of(free_port()))
    for _ in range(2):
        response = get(routed, host)
        assert response.status == 502
        assert response.body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
        assert (response.header("X-Cf-Routererror") or "").startswith("endpoint_failure (dial tcp ")

    def attempts() -> list[int]:
        failed = [line for line in list(routed.router.log) if line.get("message") == "backend-endpoint-failed"]
        return [line["data"]["attempt"] for line in failed if line["data"]["host"] == host]

    wait_until(lambda: attempts() == [1, 2, 3, 1, 2, 3], "every attempt is logged")
    assert backend.requests == []


def test_failing_service_does_the_app_no_harm(
    routed: Live, backend: RecordingBackend, service: RecordingBackend
) -> None:
    host = bind(routed, backend, url_of(free_port()))
    assert get(routed, host).status == 502
    bind(routed, backend, "", host=host)
    assert get(routed, host).body == b"ok"


def test_service_that_dies_before_it_answers_is_502(
    routed: Live, platform: Platform, make_backend: MakeBackend, backend: RecordingBackend
) -> None:
    service = make_backend(dies, tls=platform.context)
    host = bind(routed, backend, url_of(service))
    with routed.client() as client:
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi".encode())
        response = client.read_response("POST")
    assert (response.status, response.header("X-Cf-Routererror")) == (502, "endpoint_failure (EOF)")
    assert len(service.requests) == 1


def test_service_that_dies_in_mid_answer_cuts_the_client(
    routed: Live, platform: Platform, make_backend: MakeBackend, backend: RecordingBackend
) -> None:
    host = bind(routed, backend, url_of(make_backend(dies_in_mid_body, tls=platform.context)))
    with routed.client() as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        received = client.read_until_end()
    # Nothing of the answer may have left yet: then a 502 is as honest.
    assert received.startswith(b"HTTP/1.1 502 ") or (received.endswith(b"half") and b" 200 OK" in received)


def test_slow_service_runs_into_the_endpoint_timeout_and_is_asked_once(
    start_live: StartLive, platform: Platform, make_backend: MakeBackend, backend: RecordingBackend
) -> None:
    hasty = start_live(platform.keys(endpoint_timeout="3s"))
    slow = make_backend(Conversation.wait_for_end, tls=platform.context)
    host = bind(hasty, backend, url_of(slow))
    response = get(hasty, host)
    assert response.status == 502
    assert response.header("X-Cf-Routererror") == "endpoint_failure (context deadline exceeded)"
    assert len(slow.conversations) == 1


CERTIFICATES: dict[str, tuple[int, Callable[[Platform], Pair]]] = {
    "wrong name": (503, lambda platform: issue(platform.authority, ["elsewhere.test"])),
    "untrusted": (526, lambda platform: issue(make_ca("another"), ["localhost"])),
    "own signature": (526, lambda platform: make("CN=localhost", names=dns("localhost")).pair()),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_service_that_cannot_prove_itself_gets_no_request_unless_validation_is_skipped(
    name: str,
    routed: Live,
    careless: Live,
    platform: Platform,
    make_backend: MakeBackend,
    backend: RecordingBackend,
) -> None:
    status, make_pair = CERTIFICATES[name]
    service = make_backend(named("service"), tls=server_context(make_pair(platform), platform.directory))
    assert get(routed, bind(routed, backend, url_of(service))).status == status
    assert service.requests == []
    assert get(careless, bind(careless, backend, url_of(service))).body == b"service"


def test_service_that_speaks_no_tls_is_525(
    routed: Live, make_backend: MakeBackend, backend: RecordingBackend
) -> None:
    def refuse(conversation: Conversation) -> None:
        conversation.read(1)
        conversation.answer(b"", status="400 Bad Request", headers="Connection: close\r\n")
        conversation.wait_for_end()

    assert get(routed, bind(routed, backend, url_of(make_backend(refuse)))).status == 525


@pytest.mark.parametrize(("highest", "status"), [("TLSv1.2", 502), ("TLSv1.3", 200)])
def test_versions_of_the_front_hold_towards_services(
    start_live: StartLive,
    platform: Platform,
    make_backend: MakeBackend,
    backend: RecordingBackend,
    highest: str,
    status: int,
) -> None:
    live = start_live(platform.keys(max_tls_version=highest))
    context = server_context(issue(platform.authority, ["localhost"]), platform.directory)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    host = bind(live, backend, url_of(make_backend(plain, tls=context)))
    assert get(live, host).status == status


@pytest.mark.parametrize("own", [True, False])
def test_service_that_demands_a_certificate_is_shown_that_of_route_services(
    start_live: StartLive,
    platform: Platform,
    make_backend: MakeBackend,
    backend: RecordingBackend,
    own: bool,
) -> None:
    pair = issue(platform.authority, ["router"], client=True)
    texts = {"cert_chain": pair.certificate, "private_key": pair.private_key}
    live = start_live(platform.keys(**({"route_services": texts} if own else {"backends": texts})))
    context = server_context(issue(platform.authority, ["localhost"]), platform.directory)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=platform.authority.pair.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    host = bind(live, backend, url_of(make_backend(plain, tls=context)))
    assert get(live, host).status == (200 if own else 525)


def test_authorities_that_share_a_subject_are_all_believed_of_services(
    start_live: StartLive, platform: Platform, make_backend: MakeBackend, backend: RecordingBackend
) -> None:
    twins = [make("CN=services CA", authority=True) for _ in range(3)]
    live = start_live(platform.keys(ca_certs=[twin.pem for twin in twins]))
    for twin in twins:
        pair = make("CN=service", twin, names=dns("localhost")).pair()
        service = make_backend(plain, tls=server_context(pair, platform.directory))
        assert get(live, bind(live, backend, url_of(service))).status == 200


@pytest.mark.parametrize(
    "url",
    [
        "https://bad%20host/",
        "https://bad%zz.test/",
        "https://localhost/%zz",
        "https://[::1/",
        "https://",
        "httpsfoo",
    ],
)
def test_url_that_is_none_costs_its_route_alone(routed: Live, backend: RecordingBackend, url: str) -> None:
    host = bind(routed, backend, url)
    text = "500 Internal Server Error: Route service request failed.\n"
    assert refusal(get(routed, host)) == (500, None, text)
    told = routed.router.wait_for_log(
        "route-service-failed", where=lambda line: line["data"]["route_service_url"] == url
    )
    assert "cannot be used" in told["data"]["error"]
    assert get(routed, host, headers=signed(f"https://{host}/")).body == b"ok"
    assert get(routed, routed.route(backend)).body == b"ok"


# Coming back.


def refusal(response: Response) -> tuple[int, str | None, str]:
    return response.status, response.header("X-Cf-Routererror"), response.body.decode()


def test_age_is_all_that_counts_of_the_time(
    routed: Live, backend: RecordingBackend, service: RecordingBackend
) -> None:
    host = bind(routed, backend, url_of(service))
    for age_s in (0, 55, -3600):
        assert get(routed, host, headers=signed(f"https://{host}/", age_s=age_s)).body == b"ok"
    late = get(routed, host, headers=signed(f"https://{host}/", age_s=70))
    assert refusal(late) == (504, None, f"504 Gateway Timeout: {FAILED}route service request expired\n")
    assert service.requests == []


def test_old_secret_opens_what_it_signed_and_the_new_one_signs(
    routed: Live, backend: RecordingBackend, service: RecordingBackend
) -> None:
    host = bind(routed, backend, url_of(service))
    assert get(routed, host, headers=signed(f"https://{host}/", secret=OLD_SECRET)).body == b"ok"
    get(routed, host)
    sent = service.requests[0]
    opened = Signer(SECRET, "").open(*((sent.header(name) or "").encode() for name in THREE[1:]))
    assert opened.url == f"https://{host}/"
    reason = "cipher: message authentication failed"
    stranger = get(routed, host, headers=signed(f"https://{host}/", secret="anothers"))
    assert refusal(stranger) == (502, None, f"502 Bad Gateway: {FAILED}{reason}\n")


def test_vector_of_gorouters_signatures_is_read(
    start_live: StartLive, platform: Platform, backend: RecordingBackend
) -> None:
    """GOROUTER.md §7.1: made by another hand than the code's."""
    live = start_live(platform.keys(route_services_timeout="1000000h"))
    bind(live, backend, "https://localhost:1/", host="app.example.com")
    signature = (
        "Kje-nB95o7IKw01k9guQJELZwbMJU8bvdpdbGY30Hzwd0Nigs5JkBwHU8hpP-xqu2UwL6sCms7ZGnn7d95BWOBF-4yfoHNTQzNWQxX-"
        "12df4aC5IOcLmNyFmFHVXBFiJ4tdKwkMH9h8QAgSCi26NHNYGcw=="
    )
    lines = (
        f"X-CF-Proxy-Signature: {signature}\r\nX-CF-Proxy-Metadata: eyJub25jZSI6IkFBRUNBd1FGQmdjSUNRb0wifQ==\r\n"
    )
    assert get(live, "app.example.com", "/other?path", lines).body == b"ok"
    (request,) = backend.requests
    assert [request.values(name) for name in THREE] == [[], [], []]


def test_signature_for_another_route_is_refused(
    routed: Live, backend: RecordingBackend, service: RecordingBackend
) -> None:
    one, two = (bind(routed, backend, url_of(service)) for _ in range(2))
    bind(routed, backend, url_of(service), host=one, path="/deep")
    for signed_for, asked in ((f"https://{one}/", "/"), (f"https://{two}/deep", "/deep")):
        host = two if signed_for.startswith(f"https://{one}") else one
        response = get(routed, host, asked, signed(signed_for))
        text = f"route service forwarded URL {signed_for} does not match the original request URL {host}{asked}"
        assert refusal(response) == (502, None, f"502 Bad Gateway: {FAILED}{text}\n")
    gone = get(routed, one, headers=signed("https://gone.test/x"))
    text = "original request URL https://gone.test/x does not exist in the routing table"
    assert refusal(gone) == (502, None, f"502 Bad Gateway: {FAILED}{text}\n")
    assert get(routed, one, "/any?x", signed(f"https://{one}/else")).body == b"ok", "paths may differ in a route"
    assert len(backend.requests) == 1


def test_metadata_is_told_apart_from_nothing(
    routed: Live, backend: RecordingBackend, service: RecordingBackend
) -> None:
    host = bind(routed, backend, url_of(service))
    nonce = base64.urlsafe_b64encode(json.dumps({"nonce": "AAEC"}).encode()).decode()
    for lines, reason in (
        ("X-CF-Proxy-Signature: abc\r\n", "No metadata found"),
        ("X-CF-Proxy-Signature: abc\r\nX-CF-Proxy-Metadata: !\r\n", "illegal base64 data at input byte 0"),
        (f"X-CF-Proxy-Signature: AAAA\r\nX-CF-Proxy-Metadata: {nonce}\r\n", "incorrect nonce length"),
    ):
        assert refusal(get(routed, host, headers=lines)) == (502, None, f"502 Bad Gateway: {FAILED}{reason}\n")
    assert service.requests == backend.requests == []


def test_strict_validation_holds_on_routes_without_a_service(
    start_live: StartLive, routed: Live, platform: Platform, backend: RecordingBackend
) -> None:
    strict = start_live(platform.keys(route_services={"strict_signature_validation": True}))
    for live, refused in ((strict, True), (routed, False)):
        host = live.route(backend)
        url = f"https://{host}/"
        assert get(live, host).body == b"ok"
        assert get(live, host, headers=signed(url)).body == b"ok"
        bad = get(live, host, headers="X-CF-Proxy-Signature: AAAA\r\nX-CF-Proxy-Metadata: e30=\r\n")
        late = get(live, host, headers=signed(url, age_s=100))
        if not refused:
            assert (bad.status, late.status) == (200, 200)
            continue
        text = "400 Bad Request: invalid route service signature detected\n"
        assert refusal(bad) == (400, "invalid_route_service_signature", text)
        text = f"504 Gateway Timeout: {FAILED}route service request expired\n"
        assert refusal(late) == (504, "expired_route_service_signature", text)


# WebSockets.

UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


def test_websocket_is_503_also_on_its_way_back(
    routed: Live, backend: RecordingBackend, service: RecordingBackend
) -> None:
    host = bind(routed, backend, url_of(service))
    for lines in (UPGRADE, UPGRADE + signed(f"https://{host}/")):
        assert refusal(get(routed, host, headers=lines)) == (
            503,
            "route_service_unsupported",
            "503 Service Unavailable: Websocket requests are not supported for routes bound to Route Services.\n",
        )
    assert service.requests == backend.requests == []


# Services that are apps of this router.


@pytest.mark.parametrize(
    ("allowlist", "host", "inside"),
    [
        ([], "gate.hairpin.test", True),
        (["gate2.hairpin.test"], "gate2.hairpin.test", True),
        (["*.hairpin.test"], "gate3.hairpin.test", True),
        (["*.hairpin.test"], "a.b.hairpin.test", False),
        (["elsewhere.test"], "gate4.hairpin.test", False),
    ],
)
def test_hairpin_is_taken_for_hosts_on_the_list_alone(
    start_live: StartLive,
    platform: Platform,
    make_backend: MakeBackend,
    backend: RecordingBackend,
    allowlist: list[str],
    host: str,
    inside: bool,
) -> None:
    live = start_live(
        platform.keys(route_services_hairpinning=True, route_services_hairpinning_allowlist=allowlist)
    )
    gate = make_backend(passes_on(live.client))
    live.route(gate, host=host)
    app = bind(live, backend, f"https://{host}/gate?a=b")
    response = get(live, app, "/x")
    if not inside:
        # No such name outside.
        assert response.status == 502
        assert gate.requests == []
        return
    assert response.body == b"ok"
    (asked,), (reached,) = gate.requests, backend.requests
    assert (asked.target, asked.header("Host")) == ("/gate?a=b", host)
    assert asked.header("X-Forwarded-For") == "127.0.0.1, 127.0.0.1"
    assert asked.header("X-CF-Forwarded-Url") == f"https://{app}/x"
    assert [reached.values(name) for name in THREE] == [[], [], []]


# X-Forwarded-Client-Cert on the way by a service.


@pytest.mark.parametrize(
    ("mode", "at_service", "at_app"),
    [
        ("always_forward", ["claimed"], ["claimed"]),
        ("forward", ["claimed"], []),
        ("sanitize_set", ["own"], ["own"]),
    ],
)
def test_client_certificate_on_both_legs(
    start_live: StartLive,
    platform: Platform,
    make_backend: MakeBackend,
    backend: RecordingBackend,
    mode: str,
    at_service: list[str],
    at_app: list[str],
) -> None:
    """The service comes back without a certificate of its own: what it relays has been judged on the way out, but
    mode ``forward`` lets nothing of it through to the app."""
    live = start_live(
        platform.https(
            client_cert_validation="request",
            client_ca_certs=platform.clients.pair.certificate,
            only_trust_client_ca_certs=True,
            forwarded_client_cert=mode,
        )
    )
    service = make_backend(passes_on(lambda: platform.client(live)), tls=platform.context)
    host = bind(live, backend, url_of(service))
    with platform.client(live, shows=True) as client:
        assert client.get(host=host, headers=f"{XFCC}: claimed\r\n").body == b"ok"
    der = ssl.PEM_cert_to_DER_cert(platform.someone.certificate)
    means = {"claimed": "claimed", "own": base64.b64encode(der).decode()}
    assert service.requests[0].values(XFCC) == [means[each] for each in at_service]
    assert backend.requests[0].values(XFCC) == [means[each] for each in at_app]
