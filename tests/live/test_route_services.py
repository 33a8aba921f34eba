"""Route services over real connections: both legs, each refusal, reuse, retries, blocked addresses, hairpins."""

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from router.certs import Authority, issue, make_ca
from router.routing.records import PoolOptions, SetPoolOptions
from router.wire.signature import SignatureError, Signer
from tests.live.conftest import StartLive
from tests.support.certificates import client_context, server_context
from tests.support.plane import RunningPlane, config
from tests.support.ports import free_port
from tests.support.rawclient import RawClient, Response
from tests.support.recorder import Conversation, MakeBackend, RecordingBackend, Request, Script, plain
from tests.support.waiting import wait_until

SECRET = "my-secret"
SIGNER = Signer(SECRET, "")
HOST = "app.test"
THREE = ("X-CF-Forwarded-Url", "X-CF-Proxy-Signature", "X-CF-Proxy-Metadata")
SUITES = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
FAILED = "Failed to validate Route Service Signature: "

Start = Callable[..., RunningPlane]


class Identity:
    """The certificates of a service on this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority: Authority = make_ca()
        self.pair = issue(self.authority, ["localhost", "127.0.0.1"])

    def context(self) -> ssl.SSLContext:
        return server_context(self.pair, self.directory)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return Identity(tmp_path_factory.mktemp("service"))


def keys(identity: Identity, service: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {
        "route_services_secret": SECRET,
        "route_services_recommend_https": True,
        "route_services": {"max_attempts": 3, **service},
        "ca_certs": [identity.authority.pair.certificate],
        "max_tls_version": "TLSv1.3",
        **more,
    }


@pytest.fixture
def start(identity: Identity) -> Iterator[Start]:
    """Start a data plane; keys of ``route_services`` are given as ``service``, others by their names."""
    running: list[RunningPlane] = []

    def begin(service: dict[str, Any] | None = None, **more: Any) -> RunningPlane:
        plane = RunningPlane(config(**keys(identity, service or {}, more)))
        running.append(plane.__enter__())
        return plane

    yield begin
    for plane in running:
        plane.__exit__(None, None, None)


@pytest.fixture
def plane(start: Start) -> RunningPlane:
    return start()


@pytest.fixture
def client(plane: RunningPlane) -> Iterator[RawClient]:
    with plane.client() as connected:
        yield connected


@pytest.fixture
def service(identity: Identity) -> Iterator[RecordingBackend]:
    """A service that answers by itself."""
    with RecordingBackend(plain, tls=identity.context()) as running:
        yield running


@pytest.fixture
def app() -> Iterator[RecordingBackend]:
    with RecordingBackend(lambda conversation: always(conversation, b"app")) as running:
        yield running


def always(conversation: Conversation, body: bytes) -> None:
    while True:
        conversation.read_request()
        conversation.answer(body)


def bind(plane: RunningPlane, app: RecordingBackend | int, url: str, host: str = HOST) -> None:
    """Route a host to an app with a service in front."""
    plane.route(host, app)
    plane.apply(SetPoolOptions(host, PoolOptions(route_service_url=url)))


def url_of(service: RecordingBackend, path: str = "/check?app=1", host: str = "localhost") -> str:
    return f"https://{host}:{service.port}{path}"


def sends_back(connect: Callable[[], RawClient]) -> Script:
    """A service that asks the app, as the three headers tell it to, and answers with what came."""

    def script(conversation: Conversation) -> None:
        while True:
            request = conversation.read_request()
            with connect() as back:
                back.send(return_of(request) + request.body)
                answer = back.read_response(request.method)
            conversation.answer(b"service(" + answer.body + b")", status=f"{answer.status} {answer.reason}")

    return script


def return_of(request: Request) -> bytes:
    url = urlsplit(request.header("X-CF-Forwarded-Url") or "")
    kept = [*THREE, "Content-Length", "X-Forwarded-For", "X-Forwarded-Proto", "X-Own"]
    lines = [f"{name}: {request.header(name)}" for name in kept if request.header(name) is not None]
    target = url.path + (f"?{url.query}" if url.query else "")
    head = [f"{request.method} {target} HTTP/1.1", f"Host: {url.netloc}", *lines]
    return "\r\n".join([*head, "", ""]).encode()


def signed(url: str = f"https://{HOST}/", *, age_s: float = 0.0, signer: Signer = SIGNER) -> str:
    """The header lines of a request that comes back, as text."""
    signature, metadata = signer.sign(url, time.time_ns() - int(age_s * 1e9), bytes(12))
    values = (url, signature.decode(), metadata.decode())
    return "".join(f"{name}: {value}\r\n" for name, value in zip(THREE, values, strict=True))


# Both legs.


def test_request_goes_by_the_service_to_the_app(
    plane: RunningPlane, client: RawClient, service: RecordingBackend, app: RecordingBackend
) -> None:
    service.script = sends_back(plane.client)
    bind(plane, app, url_of(service))
    head = f"POST /a?b=c HTTP/1.1\r\nHost: {HOST}:80\r\nContent-Length: 5\r\nX-Own: 1\r\n\r\n"
    client.send(head.encode() + b"hello")
    assert client.read_response("POST").body == b"service(app)"
    (asked,), (reached,) = service.requests, app.requests
    assert (asked.method, asked.target, asked.header("Host")) == (
        "POST",
        "/check?app=1",
        f"localhost:{service.port}",
    )
    assert (asked.body, asked.header("X-Own")) == (b"hello", "1")
    assert asked.header("X-CF-Forwarded-Url") == f"https://{HOST}/a?b=c"
    assert asked.values("X-Cf-Applicationid") == asked.values("X-Cf-Instanceid") == []
    assert asked.header("X-Forwarded-For") == "127.0.0.1"
    assert (reached.method, reached.target, reached.header("Host")) == ("POST", "/a?b=c", HOST)
    assert (reached.body, reached.header("X-Own")) == (b"hello", "1")
    assert [reached.values(name) for name in THREE] == [[], [], []]
    assert reached.header("X-Forwarded-For") == "127.0.0.1, 127.0.0.1"
    assert len(reached.values("X-Cf-Applicationid")) == 1


def test_every_request_of_a_connection_is_signed_anew(
    plane: RunningPlane, client: RawClient, service: RecordingBackend, app: RecordingBackend
) -> None:
    bind(plane, app, url_of(service))
    for path in ("/1", "/2", "/2"):
        client.get(path, host=HOST)
    signatures = [request.header("X-CF-Proxy-Signature") for request in service.requests]
    assert len(set(signatures)) == 3
    for request in service.requests:
        opened = SIGNER.open(
            (request.header("X-CF-Proxy-Signature") or "").encode(),
            (request.header("X-CF-Proxy-Metadata") or "").encode(),
        )
        assert opened.url == request.header("X-CF-Forwarded-Url")


def test_signature_of_every_returning_request_on_one_connection_counts(
    plane: RunningPlane, client: RawClient, service: RecordingBackend, app: RecordingBackend
) -> None:
    """The same lines again must be judged again, not taken for lines without a signature."""
    bind(plane, app, url_of(service))
    lines = signed()
    assert [client.get(host=HOST, headers=lines).body for _ in range(3)] == [b"app"] * 3
    assert service.requests == []
    assert client.get(host=HOST).body == b"ok"


def test_what_the_client_says_in_the_three_fields_never_reaches_the_service(
    plane: RunningPlane, client: RawClient, service: RecordingBackend, app: RecordingBackend
) -> None:
    bind(plane, app, url_of(service))
    client.get(host=HOST, headers="X-CF-Forwarded-Url: https://evil.test/\r\nX-CF-Proxy-Metadata: evil\r\n")
    (request,) = service.requests
    assert request.header("X-CF-Forwarded-Url") == f"https://{HOST}/"
    assert request.header("X-CF-Proxy-Metadata") != "evil"


def test_answer_of_the_service_is_passed_back_as_it_is(
    plane: RunningPlane, client: RawClient, service: RecordingBackend, app: RecordingBackend
) -> None:
    def deny(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.answer(b"no", status="403 Forbidden", headers="X-Why: 1\r\nX-CF-Proxy-Signature: s\r\n")

    service.script = deny
    bind(plane, app, url_of(service))
    response = client.get(host=HOST)
    assert (response.status, response.body, response.header("X-Why")) == (403, b"no", "1")
    assert response.values("X-CF-Proxy-Signature") == []
    assert app.requests == []


def test_log_line_names_no_endpoint(
    start: Start, service: RecordingBackend, app: RecordingBackend, tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    plane = start(access_log={"file": str(path)})
    bind(plane, app, url_of(service))
    with plane.client() as client:
        client.get("/logged", host=HOST)
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"), "the line is written")
    line = path.read_text()
    assert re.match(rf'{HOST} - \[[^]]+\] "GET /logged HTTP/1.1" 200 0 2 "-" "-" "127\.0\.0\.1:\d+" "-" ', line)
    assert 'app_id:"-" app_index:"-" instance_id:"-"' in line
    assert "localhost" not in line


@pytest.mark.parametrize("path", ["", "/", "/p/q"])
def test_target_comes_from_the_service_url_alone(
    plane: RunningPlane, client: RawClient, service: RecordingBackend, app: RecordingBackend, path: str
) -> None:
    bind(plane, app, url_of(service, path, "127.0.0.1"))
    assert client.get("/own?x", host=HOST).status == 200
    assert service.requests[0].target == (path or "/")
    assert service.requests[0].header("Host") == f"127.0.0.1:{service.port}"


def test_many_requests_share_one_connection_to_the_service(
    plane: RunningPlane, service: RecordingBackend, app: RecordingBackend
) -> None:
    bind(plane, app, url_of(service))
    bind(plane, app, url_of(service, "/other"), "other.test")
    for number in range(20):
        with plane.client() as client:
            assert client.get(host=HOST if number % 2 else "other.test").body == b"ok"
        wait_until(lambda: plane.is_idle() and not plane.clients, "the exchange is over")
    assert len(service.conversations) == 1


# Refusals (GOROUTER.md §5.7), byte for byte.


def error(response: Response) -> tuple[int, str | None, str]:
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert response.values("Cache-Control") == []
    return response.status, response.header("X-Cf-Routererror"), response.body.decode()


def test_service_of_a_route_without_a_secret_is_unsupported(start: Start, app: RecordingBackend) -> None:
    plane = start(route_services_secret="")
    bind(plane, app, "https://localhost:1/")
    text = "502 Bad Gateway: Support for route services is disabled.\n"
    with plane.client() as client:
        for lines in ("", signed()):
            assert error(client.get(host=HOST, headers=lines)) == (502, "route_service_unsupported", text)
    assert app.requests == []


def test_websocket_is_refused(
    plane: RunningPlane, client: RawClient, service: RecordingBackend, app: RecordingBackend
) -> None:
    bind(plane, app, url_of(service))
    response = client.get(host=HOST, headers="Connection: Upgrade\r\nUpgrade: websocket\r\n")
    text = "Websocket requests are not supported for routes bound to Route Services."
    expected = (503, "route_service_unsupported", f"503 Service Unavailable: {text}\n")
    assert error(response) == expected
    assert service.requests == app.requests == []


def test_expired_signature(
    plane: RunningPlane, client: RawClient, service: RecordingBackend, app: RecordingBackend
) -> None:
    bind(plane, app, url_of(service))
    text = f"504 Gateway Timeout: {FAILED}route service request expired\n"
    assert error(client.get(host=HOST, headers=signed(age_s=61))) == (504, None, text)
    assert client.get(host=HOST, headers=signed(age_s=50)).body == b"app"
    assert client.get(host=HOST, headers=signed(age_s=-600)).body == b"app"


def bad_signatures() -> dict[str, tuple[str, str]]:
    """Header lines and the reason that is told, by what is wrong."""
    good = signed().split("\r\n")
    url, signature, metadata = (line + "\r\n" for line in good[:3])
    return {
        "no metadata": (url + signature, "No metadata found"),
        "empty metadata": (signature + "X-CF-Proxy-Metadata:\r\n", "No metadata found"),
        "no base64": (signature + "X-CF-Proxy-Metadata: %\r\n", "illegal base64 data at input byte 0"),
        "short base64": (signature + "X-CF-Proxy-Metadata: e30\r\n", "illegal base64 data at input byte 0"),
        "no nonce": (signature + "X-CF-Proxy-Metadata: e30=\r\n", "incorrect nonce length"),
        # CVE-2019-11289: a nonce that is no nonce must not end the process.
        "short nonce": (signature + "X-CF-Proxy-Metadata: eyJub25jZSI6IkFBRUMifQ==\r\n", "incorrect nonce length"),
        "no JSON": (
            signature + "X-CF-Proxy-Metadata: Z2FyYmFnZQ==\r\n",
            "invalid character 'g' looking for beginning of value",
        ),
        "half JSON": (signature + "X-CF-Proxy-Metadata: eyJu\r\n", "unexpected end of JSON input"),
        "forged": (url + "X-CF-Proxy-Signature: AAAA\r\n" + metadata, "cipher: message authentication failed"),
        "signature no base64": (
            url + "X-CF-Proxy-Signature: A\r\n" + metadata,
            "illegal base64 data at input byte 0",
        ),
        "another key": (signed(signer=Signer("another", "")), "cipher: message authentication failed"),
        "unknown route": (
            signed("https://gone.test/x"),
            "original request URL https://gone.test/x does not exist in the routing table",
        ),
        "another route": (
            signed("https://other.test/x"),
            f"route service forwarded URL https://other.test/x does not match the original request URL {HOST}/",
        ),
    }


def test_bad_signatures_are_told_why(
    plane: RunningPlane, client: RawClient, service: RecordingBackend, app: RecordingBackend
) -> None:
    bind(plane, app, url_of(service))
    bind(plane, app, url_of(service), "other.test")
    for name, (lines, reason) in bad_signatures().items():
        expected = (502, None, f"502 Bad Gateway: {FAILED}{reason}\n")
        assert error(client.get(host=HOST, headers=lines)) == expected, name
        assert plane.log[-1]["data"]["error"] == reason
    assert client.get(host=HOST, headers=signed()).body == b"app"
    assert service.requests == []
    assert len(app.requests) == 1


def test_reason_comes_from_the_old_secret_and_the_old_secret_opens(
    start: Start, service: RecordingBackend, app: RecordingBackend
) -> None:
    plane = start(route_services_secret="new", route_services_secret_decrypt_only=SECRET)
    bind(plane, app, url_of(service))
    with plane.client() as client:
        assert client.get(host=HOST, headers=signed()).body == b"app"
        assert client.get(host=HOST, headers=signed(signer=Signer("new", ""))).body == b"app"
        client.get(host=HOST)
    (request,) = service.requests
    made = [(request.header(name) or "").encode() for name in THREE[1:]]
    assert Signer("new", "").open(made[0], made[1]).url == f"https://{HOST}/"
    with pytest.raises(SignatureError):
        SIGNER.open(made[0], made[1])


def test_strict_validation(start: Start, app: RecordingBackend) -> None:
    plane = start(service={"strict_signature_validation": True})
    plane.route(HOST, app)
    with plane.client() as client:
        text = "400 Bad Request: invalid route service signature detected\n"
        expected = (400, "invalid_route_service_signature", text)
        assert error(client.get(host=HOST, headers="X-CF-Proxy-Signature: x\r\n")) == expected
        text = f"504 Gateway Timeout: {FAILED}route service request expired\n"
        expected = (504, "expired_route_service_signature", text)
        assert error(client.get(host=HOST, headers=signed(age_s=61))) == expected
        assert app.requests == []
        assert client.get(host=HOST, headers=signed()).body == b"app"
        assert client.get(host=HOST).body == b"app"


def test_app_that_is_a_service_gets_the_three_fields(
    plane: RunningPlane, client: RawClient, app: RecordingBackend
) -> None:
    plane.route(HOST, app)
    assert client.get(host=HOST, headers=signed()).body == b"app"
    assert client.get(host=HOST, headers="X-CF-Proxy-Signature: bad\r\n").body == b"app"
    assert all(app.requests[0].header(name) for name in THREE)
    assert app.requests[1].header("X-CF-Proxy-Signature") == "bad"


def test_service_url_that_cannot_be_used(plane: RunningPlane, client: RawClient, app: RecordingBackend) -> None:
    bind(plane, app, "https://localhost:70000/")
    text = "500 Internal Server Error: Route service request failed.\n"
    assert error(client.get(host=HOST)) == (500, None, text)
    assert app.requests == []


# Failures of the service.


def test_service_that_is_not_there_is_tried_as_often_as_configured(start: Start, app: RecordingBackend) -> None:
    plane = start(service={"max_attempts": 4}, backends={"max_attempts": 2})
    bind(plane, app, f"https://localhost:{free_port()}/")
    with plane.client() as client:
        for _ in range(2):
            response = client.get(host=HOST)
            assert response.status == 502
            assert response.body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
    attempts = [line["data"]["attempt"] for line in plane.log if line["message"] == "backend-endpoint-failed"]
    assert attempts == [1, 2, 3, 4] * 2
    assert plane.failed == []
    assert app.requests == []


def test_service_that_resets_once_is_not_asked_twice(
    plane: RunningPlane, client: RawClient, service: RecordingBackend, app: RecordingBackend
) -> None:
    def reset(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.reset()

    service.script = reset
    bind(plane, app, url_of(service))
    assert client.get(host=HOST).status == 502
    assert len(service.requests) == 1
    service.script = plain
    assert client.get(host=HOST).body == b"ok"


@pytest.mark.parametrize(("skip", "status"), [(False, 526), (True, 200)])
def test_certificate_of_the_service_is_verified_unless_told_otherwise(
    start: Start, app: RecordingBackend, tmp_path: Path, skip: bool, status: int
) -> None:
    plane = start(skip_ssl_validation=skip)
    stranger = server_context(issue(make_ca("stranger"), ["localhost"]), tmp_path)
    with RecordingBackend(plain, tls=stranger) as service:
        bind(plane, app, url_of(service))
        with plane.client() as client:
            assert client.get(host=HOST).status == status


def test_certificate_must_have_the_name_of_the_url(
    start: Start, app: RecordingBackend, identity: Identity, tmp_path: Path
) -> None:
    plane = start()
    other = server_context(issue(identity.authority, ["other.test"]), tmp_path)
    with RecordingBackend(plain, tls=other) as service:
        bind(plane, app, url_of(service))
        with plane.client() as client:
            assert client.get(host=HOST).status == 503


def test_router_shows_the_service_its_certificate(start: Start, app: RecordingBackend, identity: Identity) -> None:
    pair = issue(identity.authority, ["router"], client=True, server=False)
    plane = start(service={"cert_chain": pair.certificate, "private_key": pair.private_key})
    context = identity.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=identity.authority.pair.certificate)
    with RecordingBackend(plain, tls=context) as service:
        bind(plane, app, url_of(service))
        with plane.client() as client:
            assert client.get(host=HOST).body == b"ok"


# Egress.


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("blocked", [["127.0.0.0/8", "::1/128"], ["0.0.0.0/0", "::/0"]])
def test_blocked_address_is_not_dialled(
    start: Start, service: RecordingBackend, app: RecordingBackend, host: str, blocked: list[str]
) -> None:
    plane = start(service={"egress_blocklist": blocked})
    bind(plane, app, url_of(service, host=host))
    with plane.client() as client:
        response = client.get(host=HOST)
        assert response.status == 502
        assert response.body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
        assert response.header("X-Cf-Routererror") == "endpoint_failure (connection to IP not allowed)"
        assert client.get(host=HOST, headers=signed()).body == b"app", "endpoints are not concerned"
    assert service.conversations == []


def test_other_addresses_than_blocked_ones_are_dialled(
    start: Start, service: RecordingBackend, app: RecordingBackend
) -> None:
    plane = start(service={"egress_blocklist": ["169.254.0.0/16", "::1/128"]})
    bind(plane, app, url_of(service))
    with plane.client() as client:
        assert client.get(host=HOST).body == b"ok"


# Effects elsewhere (GOROUTER.md §7.6).


def test_forwarded_proto_of_valid_traffic_is_left_alone(
    start: Start, service: RecordingBackend, app: RecordingBackend
) -> None:
    plane = start(sanitize_forwarded_proto=True, force_forwarded_proto_https=True)
    bind(plane, app, url_of(service))
    with plane.client() as client:
        client.get(host=HOST, headers=signed() + "X-Forwarded-Proto: gopher\r\n")
        client.get(host=HOST, headers=signed())
        client.get(host=HOST)
    assert [request.values("X-Forwarded-Proto") for request in app.requests] == [["gopher"], []]
    assert service.requests[0].header("X-Forwarded-Proto") == "https"


def test_forwarded_proto_is_the_routers_where_the_forwarded_url_is_missing(
    start: Start, service: RecordingBackend, app: RecordingBackend
) -> None:
    plane = start(sanitize_forwarded_proto=True)
    bind(plane, app, url_of(service))
    lines = [line for line in signed().splitlines(True) if not line.lower().startswith("x-cf-forwarded-url")]
    with plane.client() as client:
        client.get(host=HOST, headers="".join(lines) + "X-Forwarded-Proto: gopher\r\n")
    assert [request.values("X-Forwarded-Proto") for request in app.requests] == [["http"]]


def test_forwarded_certificate_of_valid_traffic_over_tls(
    start: Start, identity: Identity, service: RecordingBackend, app: RecordingBackend
) -> None:
    for mode, expected in (("sanitize_set", ["own"]), ("forward", []), ("always_forward", ["own"])):
        plane = start(**https(identity), forwarded_client_cert=mode)
        bind(plane, app, url_of(service))
        with tls_client(plane, identity) as client:
            lines = "X-Forwarded-Client-Cert: own\r\n"
            assert client.get(host=HOST, headers=signed() + lines).body == b"app"
        assert app.requests[-1].values("X-Forwarded-Client-Cert") == expected, mode


# The hairpin.


def https(identity: Identity) -> dict[str, Any]:
    pair = identity.pair
    return {
        "enable_ssl": True,
        "client_cert_validation": "none",
        "cipher_suites": SUITES,
        "min_tls_version": "TLSv1.2",
        "tls_pem": [{"cert_chain": pair.certificate, "private_key": pair.private_key}],
    }


def tls_client(plane: RunningPlane, identity: Identity) -> RawClient:
    return plane.client(tls=client_context(identity.authority), server_name="localhost")


@pytest.mark.parametrize("allowlist", [[], ["service.apps.test"], ["*.apps.test"]])
def test_service_that_is_an_app_is_reached_within_the_worker(
    start: Start, make_backend: MakeBackend, app: RecordingBackend, allowlist: list[str]
) -> None:
    plane = start(route_services_hairpinning=True, route_services_hairpinning_allowlist=allowlist)
    gateway = make_backend(sends_back(plane.client))
    plane.route("service.apps.test", gateway)
    bind(plane, app, "https://service.apps.test/check")
    with plane.client() as client:
        for _ in range(5):
            assert client.get("/a", host=HOST).body == b"service(app)"
    assert [request.target for request in gateway.requests] == ["/check"] * 5
    assert gateway.requests[0].header("Host") == "service.apps.test"
    assert gateway.requests[0].header("X-Forwarded-For") == "127.0.0.1, 127.0.0.1"
    assert len(gateway.requests[0].values("X-Cf-Applicationid")) == 1
    assert len(gateway.conversations) == 1
    assert [app.requests[0].values(name) for name in THREE] == [[], [], []]


def test_service_that_is_an_app_but_not_on_the_list_is_dialled(
    start: Start, make_backend: MakeBackend, app: RecordingBackend, service: RecordingBackend
) -> None:
    """CVE-2019-3789: a route that bears the name of a service outside does not capture its traffic."""
    plane = start(route_services_hairpinning=True, route_services_hairpinning_allowlist=["other.test"])
    impostor = make_backend()
    plane.route("localhost", impostor)
    bind(plane, app, url_of(service))
    with plane.client() as client:
        assert client.get(host=HOST).body == b"ok"
    assert len(service.requests) == 1
    assert impostor.requests == []


def test_service_that_is_an_app_is_reached_by_our_own_tls_port_where_hairpinning_is_off(
    start: Start, identity: Identity, make_backend: MakeBackend, app: RecordingBackend
) -> None:
    plane = start(**https(identity))
    gateway = make_backend(sends_back(lambda: tls_client(plane, identity)))
    plane.route("localhost", gateway)
    bind(plane, app, f"https://localhost:{plane.port}/check")
    with tls_client(plane, identity) as client:
        assert client.get("/a", host=HOST).body == b"service(app)"
    assert gateway.requests[0].header("Host") == f"localhost:{plane.port}"
    assert gateway.requests[0].header("X-Forwarded-For") == "127.0.0.1, 127.0.0.1"


def test_service_that_has_itself_for_a_service_ends(start: Start, app: RecordingBackend) -> None:
    plane = start(route_services_hairpinning=True)
    bind(plane, app, "https://app.test/x")
    bind(plane, app, f"https://{HOST}/y", "two.test")
    with plane.client() as client:
        assert client.get(host=HOST).body == b"app", "it comes back at once, to the app"
        response = client.get(host="two.test")
        assert response.status == 502
        assert b"does not match the original request URL" in response.body


def test_failing_app_behind_a_hairpin_is_its_own_502(start: Start, app: RecordingBackend) -> None:
    plane = start(route_services_hairpinning=True)
    plane.route("service.test", free_port())
    bind(plane, app, "https://service.test/")
    with plane.client() as client:
        response = client.get(host=HOST)
        assert response.status == 502
        assert "connect: connection refused" in (response.header("X-Cf-Routererror") or "")
    wait_until(plane.is_idle, "both exchanges are over")


# WebSocket.


def tunnel(conversation: Conversation) -> None:
    conversation.read_head()
    conversation.send(SWITCH)
    while received := conversation.socket.recv(65536):
        conversation.socket.sendall(received)


@pytest.mark.parametrize("hairpin", [False, True])
def test_websocket_goes_through_a_service_where_that_is_enabled(
    start: Start, service: RecordingBackend, app: RecordingBackend, make_backend: MakeBackend, hairpin: bool
) -> None:
    plane = start(service={"enable_websockets": True}, route_services_hairpinning=hairpin)
    if hairpin:
        plane.route("service.test", make_backend(tunnel))
        bind(plane, app, "https://service.test/")
    else:
        service.script = tunnel
        bind(plane, app, url_of(service))
    with plane.client() as client:
        client.send(
            f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
        )
        assert client.read_response().status == 101
        payload = bytes(range(256)) * 2000
        sender = threading.Thread(target=client.send, args=(payload,))
        sender.start()
        assert client.read_exactly(len(payload)) == payload
        sender.join()
    wait_until(plane.is_idle, "the tunnel is over")


def test_returning_websocket_reaches_the_app_where_that_is_enabled(
    start: Start, service: RecordingBackend, make_backend: MakeBackend
) -> None:
    plane = start(service={"enable_websockets": True})
    bind(plane, make_backend(tunnel), url_of(service))
    with plane.client() as client:
        lines = "Connection: Upgrade\r\nUpgrade: websocket\r\n" + signed()
        client.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n".encode())
        assert client.read_response().status == 101
        client.send(b"through")
        assert client.read_exactly(7) == b"through"


# A whole router.


def test_announced_service_is_put_in_front(
    start_live: StartLive, identity: Identity, service: RecordingBackend, app: RecordingBackend
) -> None:
    live = start_live(
        {
            "route_services_secret": SECRET,
            "route_services": {"max_attempts": 2},
            "ca_certs": [identity.authority.pair.certificate],
        }
    )
    host = live.host()
    live.announcer.register(host, port=app.port, route_service_url=url_of(service))
    live.routes.settle()
    service.script = sends_back(live.client)
    with live.client() as client:
        assert client.get("/x", host=host).body == b"service(app)"
        assert service.requests[0].header("X-CF-Forwarded-Url") == f"http://{host}/x"
        live.announcer.register(host, port=app.port)
        wait_until(lambda: client.get(host=host).body == b"app", "the service is taken away")
