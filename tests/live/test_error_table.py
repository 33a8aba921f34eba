"""Every row of GOROUTER.md §5.7 over a real connection to a whole router, byte for byte.

Each row is asked for over HTTP, over HTTPS, and from a router with an error page and rewriting rules, and its
access-log line is read. Rows that need a platform of their own are elsewhere: domains with mutual TLS and route
policies in ``test_mtls_domains``, clients that leave in ``test_access_log``.
"""

import html
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from router.certs import Authority, issue, make_ca
from router.wire.signature import Signer
from tests.live.conftest import Live, StartLive
from tests.support.certificates import client_context, server_context
from tests.support.ports import free_port
from tests.support.rawclient import RawClient, Response
from tests.support.recorder import Conversation, RecordingBackend, Script, answering, plain, silent
from tests.support.waiting import wait_until

APP = "0a1b2c3d-0000-4000-8000-00000000000a"
PROCESS = "0a1b2c3d-0000-4000-8000-00000000000b"
STORE = "no-cache, no-store"
SHORT = "public,max-age=2"
SECRET = "my-secret"
SERVICE = "https://service.example/check"
FAILED = "Failed to validate Route Service Signature: "
GATEWAY = "502 Bad Gateway: Registered endpoint failed to handle the request.\n"
PAGE = '<p>{{.Status}} {{.StatusText}}|{{.Message}}|{{.Header.Get "X-Cf-RouterError"}}</p>'
NEGOTIATE = "Authorization: Negotiate abc\r\nCookie: __VCAP_ID__=gone\r\n"
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


class Scene:
    """One router, and the backends that the rows of one test need."""

    def __init__(self, live: Live, authority: Authority, directory: Path) -> None:
        self.live = live
        self.authority = authority
        self.directory = directory
        self.host = live.host()
        self._running: list[RecordingBackend | RawClient] = []

    def close(self) -> None:
        for each in self._running:
            each.close()

    def client(self) -> RawClient:
        """Return a further client, which stays for as long as the scene."""
        client = self.live.client()
        self._running.append(client)
        return client

    def backend(self, script: Script = plain, tls: ssl.SSLContext | None = None) -> RecordingBackend:
        backend = RecordingBackend(script, tls=tls)
        self._running.append(backend)
        return backend

    def app(self, script: Script = plain, tls: ssl.SSLContext | None = None, **fields: Any) -> RecordingBackend:
        """Route the host to a new backend."""
        backend = self.backend(script, tls)
        self.live.route(backend, host=self.host, **fields)
        return backend

    def context(self, *names: str, authority: Authority | None = None, **options: Any) -> ssl.SSLContext:
        return server_context(issue(authority or self.authority, list(names), **options), self.directory)


def nothing(scene: Scene) -> None:
    """No route."""


def emptied(scene: Scene) -> None:
    scene.live.routes.unregister(scene.host, backend=scene.app())


def busy(scene: Scene) -> None:
    backend = scene.app(silent)
    occupant = scene.client()
    occupant.send(f"GET / HTTP/1.1\r\nHost: {scene.host}\r\n\r\n".encode())
    wait_until(lambda: backend.requests, "the endpoint is occupied")


def ordinary(scene: Scene) -> None:
    scene.app(app=APP, private_instance_index="0", tags={"process_id": PROCESS})


def with_service(scene: Scene) -> None:
    scene.app(route_service_url=SERVICE)


def with_unusable_service(scene: Scene) -> None:
    scene.app(route_service_url="https://service.example:70000/")


def refusing(scene: Scene) -> None:
    scene.live.routes.register(scene.host, backend=free_port())


def scripted(script: Script) -> Callable[[Scene], None]:
    return lambda scene: (scene.app(script), None)[1]


def leave(conversation: Conversation) -> None:
    conversation.read_request()


def reset(conversation: Conversation) -> None:
    conversation.read_request()
    conversation.reset()


def secure(make: Callable[[Scene], ssl.SSLContext]) -> Callable[[Scene], None]:
    return lambda scene: (scene.app(tls=make(scene), server_cert_domain_san="one"), None)[1]


def speaks_no_tls(scene: Scene) -> None:
    def refuse(conversation: Conversation) -> None:
        conversation.read(1)
        conversation.answer(b"", status="400 Bad Request", headers="Connection: close\r\n")
        conversation.wait_for_end()

    backend = scene.backend(refuse)
    scene.live.routes.register(scene.host, backend=backend, tls_port=backend.port, server_cert_domain_san="one")


def no_common_suite(scene: Scene) -> ssl.SSLContext:
    context = scene.context("one")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    return context


def wants_a_certificate(scene: Scene) -> ssl.SSLContext:
    context = scene.context("one")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=scene.authority.pair.certificate)
    return context


def signed(host: str, age_s: float = 0.0, secret: str = SECRET) -> str:
    url = f"https://{host}/"
    signature, metadata = Signer(secret, "").sign(url, time.time_ns() - int(age_s * 1e9), bytes(12))
    return (
        f"X-CF-Forwarded-Url: {url}\r\nX-CF-Proxy-Signature: {signature.decode()}\r\n"
        f"X-CF-Proxy-Metadata: {metadata.decode()}\r\n"
    )


@dataclass(slots=True)
class Row:
    """``{host}`` in texts is the host of the request.

    Attributes:
        message: of an answer of the error writer, which may become a page; the other answers have a body.
        error: X-Cf-Routererror; a pattern where it ends in ``(``, whose rest is not fixed.
    """

    status: int
    error: str
    message: str = ""
    body: str = ""
    cache: str = ""
    headers: str | Callable[[str], str] = ""
    scene: Callable[[Scene], None] = nothing
    host: str = "{host}"
    text: bool = True
    """With Content-Type and X-Content-Type-Options."""
    close: bool = False
    pattern: "re.Pattern[str]" = field(init=False)

    def __post_init__(self) -> None:
        self.pattern = re.compile(re.escape(self.error) + (r".+\)" if self.error.endswith("(") else ""))


def instance(name: str, value: str, kind: str) -> Row:
    text = f"Invalid X-CF-{kind}-Instance Header"
    return Row(
        400, f"invalid_cf_{name}_instance_header", text, "", STORE, f"X-CF-{kind}-Instance: {value}\r\n", ordinary
    )


def missing(kind: str, value: str, which: str) -> Row:
    text = f"Requested instance {which} does not exist for route ('{{host}}')"
    return Row(400, "unknown_route", text, "", STORE, f"X-CF-{kind}-Instance: {value}\r\n", ordinary)


def bad_signature(reason: str, headers: str | Callable[[str], str]) -> Row:
    return Row(502, "", FAILED + reason, headers=headers, scene=with_service)


def of_backend(status: int, body: str, scene: Callable[[Scene], None], error: str = "", headers: str = "") -> Row:
    return Row(status, error or "endpoint_failure (", body=body, scene=scene, headers=headers)


EMPTY_HOST = "Request had empty Host header"
OTHER = "0a1b2c3d-0000-4000-8000-00000000000f"
ROWS = {
    "no route": Row(404, "unknown_route", "Requested route ('{host}') does not exist.", "", STORE),
    "no route with port": Row(
        404, "unknown_route", "Requested route ('{host}:8080') does not exist.", "", STORE, host="{host}:8080"
    ),
    "pool empty": Row(
        503, "no_endpoints", "Requested route ('{host}') has no available endpoints.", "", SHORT, scene=emptied
    ),
    "connection limit": Row(
        503, "Connection Limit Reached", "Requested route ('{host}') has reached the connection limit.", scene=busy
    ),
    "empty host": Row(400, "empty_host", EMPTY_HOST, "", SHORT, host=""),
    "host is the client's address": Row(400, "empty_host", EMPTY_HOST, "", SHORT, host="127.0.0.1"),
    "host is the client's address, with port": Row(400, "empty_host", EMPTY_HOST, "", SHORT, host="127.0.0.1:80"),
    "app instance without index": instance("app", APP, "App"),
    "app instance with an empty index": instance("app", f"{APP}:", "App"),
    "app instance in capitals": instance("app", f"{APP.upper()}:0", "App"),
    "app instance with more behind": instance("app", f"{APP}:0:0", "App"),
    "app instance of nonsense": instance("app", "../etc/passwd", "App"),
    "process instance with an empty index": instance("process", f"{PROCESS}:", "Process"),
    "process instance of nonsense": instance("process", "x", "Process"),
    "other app": missing("App", f"{OTHER}:0", f"('0') with guid ('{OTHER}')"),
    "other index": missing("App", f"{APP}:1", f"('1') with guid ('{APP}')"),
    "other process": missing("Process", OTHER, f"with process guid ('{OTHER}')"),
    "other index of the process": missing("Process", f"{PROCESS}:7", f"('7') with process guid ('{PROCESS}')"),
    "head too large": Row(
        431, "max-request-size-exceeded", headers=f"X: {'a' * 8200}\r\n", scene=ordinary, text=False, close=True
    ),
    "too many headers": Row(
        431, "max-request-size-exceeded", headers="X: a\r\n" * 41, scene=ordinary, text=False, close=True
    ),
    "websocket to a route service": Row(
        503,
        "route_service_unsupported",
        "Websocket requests are not supported for routes bound to Route Services.",
        headers=UPGRADE,
        scene=with_service,
    ),
    "signature expired": Row(
        504,
        "",
        FAILED + "route service request expired",
        headers=lambda host: signed(host, 61),
        scene=with_service,
    ),
    "signature without metadata": bad_signature("No metadata found", "X-CF-Proxy-Signature: x\r\n"),
    "signature of another key": bad_signature(
        "cipher: message authentication failed", lambda host: signed(host, secret="another")
    ),
    "signature cut short": bad_signature(
        "cipher: message authentication failed",
        lambda host: re.sub(r"(Signature: .{40}).*?\r", "\\1\r", signed(host)),
    ),
    "signature without base64": bad_signature(
        "illegal base64 data at input byte 0",
        lambda host: re.sub(r"Signature: .*?\r", "Signature: %%%%\r", signed(host)),
    ),
    "signature with a short nonce": bad_signature(
        "incorrect nonce length",
        lambda host: re.sub(r"Metadata: .*?\r", "Metadata: eyJub25jZSI6IkFBRUMifQ==\r", signed(host)),
    ),
    "signature for nowhere": bad_signature(
        "original request URL https://nowhere.example/ does not exist in the routing table",
        lambda host: signed("nowhere.example"),
    ),
    "strict, bad": Row(
        400,
        "invalid_route_service_signature",
        "invalid route service signature detected",
        headers="X-CF-Proxy-Signature: x\r\n",
        scene=ordinary,
    ),
    "strict, expired": Row(
        504,
        "expired_route_service_signature",
        FAILED + "route service request expired",
        headers=lambda host: signed(host, 61),
        scene=ordinary,
    ),
    "route service cannot be asked": Row(500, "", "Route service request failed.", scene=with_unusable_service),
    "refused": of_backend(502, GATEWAY, refusing, "endpoint_failure ("),
    "left": of_backend(502, GATEWAY, scripted(leave), "endpoint_failure (EOF)"),
    "reset": of_backend(502, GATEWAY, scripted(reset)),
    "silent": of_backend(502, GATEWAY, scripted(silent), "endpoint_failure (context deadline exceeded)"),
    "no HTTP": of_backend(502, GATEWAY, scripted(answering(b"SSH-2.0-x\r\n\r\n"))),
    "too many response headers": of_backend(
        502,
        GATEWAY,
        scripted(answering(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 21 + b"Content-Length: 0\r\n\r\n")),
        "endpoint_failure (Too many response headers)",
    ),
    "response head too large": of_backend(
        502,
        GATEWAY,
        scripted(answering(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 9000 + b"\r\nContent-Length: 0\r\n\r\n")),
    ),
    "instance of the negotiation gone": of_backend(
        502, GATEWAY, ordinary, "endpoint_failure (No endpoints available)", NEGOTIATE
    ),
    "wrong name": of_backend(503, "503 Service Unavailable\n", secure(lambda scene: scene.context("two"))),
    "untrusted": of_backend(
        526,
        "526 Invalid SSL Certificate\n",
        secure(lambda scene: scene.context("one", authority=make_ca("another CA"))),
    ),
    "no TLS": of_backend(525, "525 SSL Handshake Failed\n", speaks_no_tls),
    "no common suite": of_backend(525, "525 SSL Handshake Failed\n", secure(no_common_suite)),
    "certificate wanted": of_backend(496, "496 SSL Certificate Required\n", secure(wants_a_certificate)),
    "switch to something else": Row(
        502,
        "",
        headers=UPGRADE,
        scene=scripted(answering(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")),
        text=False,
    ),
    "policy without an identity": Row(
        403, "", scene=lambda scene: (scene.app(options={"route_policy_scope": "org"}), None)[1], text=False
    ),
}


def reason(status: int) -> str:
    phrases = {each.value: each.phrase for each in HTTPStatus}
    return phrases.get(status, f"status code {status}")


# The routers.


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


def keys(authority: Authority) -> dict[str, Any]:
    pair = issue(authority, ["front.test"])
    return {
        "enable_ssl": True,
        "ssl_port": free_port(),
        "client_cert_validation": "none",
        "cipher_suites": "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
        "tls_pem": [{"cert_chain": pair.certificate, "private_key": pair.private_key}],
        "ca_certs": [authority.pair.certificate],
        "empty_pool_response_code_503": True,
        "empty_pool_timeout": "1h",
        "endpoint_timeout": "4s",
        "backends": {"max_conns": 1, "max_attempts": 1},
        "max_request_header_bytes": 8192,
        "max_request_headers": 40,
        "max_response_headers": 20,
        "max_response_header_bytes": 8192,
        "sticky_sessions_for_auth_negotiate": True,
        "route_services_secret": SECRET,
        "route_services": {"max_attempts": 1, "strict_signature_validation": True},
    }


@pytest.fixture(scope="module")
def bare(start_live: StartLive, authority: Authority) -> Live:
    return start_live(keys(authority))


@pytest.fixture(scope="module")
def dressed(start_live: StartLive, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Live:
    page = tmp_path_factory.mktemp("page") / "error.html"
    page.write_text(PAGE)
    rules = {
        "add_headers_if_not_present": [
            {"name": "X-Added", "value": "yes"},
            {"name": "Content-Type", "value": "x/y"},
        ],
        "remove_headers": [{"name": "cache-control"}],
    }
    return start_live(
        {**keys(authority), "html_error_template_file": str(page), "http_rewrite": {"responses": rules}}
    )


@pytest.fixture
def scene(bare: Live, authority: Authority, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(bare, authority, tmp_path)
    yield made
    made.close()


@pytest.fixture
def dressed_scene(dressed: Live, authority: Authority, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(dressed, authority, tmp_path)
    yield made
    made.close()


# The comparison.


def ask(client: RawClient, row: Row, scene: Scene) -> Response:
    headers = row.headers if isinstance(row.headers, str) else row.headers(scene.host)
    return client.get("/table?" + scene.host, host=row.host.format(host=scene.host), headers=headers)


def check(row: Row, scene: Scene, response: Response, *, page: bool = False) -> None:
    assert (response.status, response.reason) == (row.status, reason(row.status))
    told = response.header("X-Cf-Routererror")
    assert row.pattern.fullmatch(told or ""), told
    body = body_of(row, scene, page)
    assert response.body.decode() == body
    found = sorted(f"{name}: {value}" for name, value in response.headers if name != "Date")
    assert found == sorted(lines_of(row, told, len(body.encode()), page))
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} GMT", response.header("Date") or "")
    line = scene.live.router.wait_access_line(f'"GET /table?{scene.host} HTTP/1.1" {row.status} ')
    logged = (told or "-").replace("\\", "\\\\").replace('"', '\\"')
    assert f'x_cf_routererror:"{logged}"' in line


def body_of(row: Row, scene: Scene, page: bool) -> str:
    if not row.message:
        return row.body
    message = row.message.format(host=scene.host)
    if page:
        message = html.escape(message).replace("&#x27;", "&#39;")
        return f"<p>{row.status} {reason(row.status)}|{message}|{row.error}</p>"
    return f"{row.status} {reason(row.status)}: {message}\n"


def lines_of(row: Row, told: str | None, length: int, page: bool) -> list[str]:
    lines = [f"Content-Length: {length}"]
    kind = "html" if page and row.message else "plain"
    lines += [f"Content-Type: text/{kind}; charset=utf-8", "X-Content-Type-Options: nosniff"] if row.text else []
    lines += [f"X-Cf-Routererror: {told}"] if told else []
    lines += [f"Cache-Control: {row.cache}"] if row.cache and not page else []
    lines += ["Connection: close"] if row.close else []
    if page:
        lines += ["X-Added: yes"] + ([] if row.text else ["Content-Type: x/y"])
    return lines


@pytest.mark.parametrize("name", ROWS)
def test_row_over_http(name: str, scene: Scene) -> None:
    row = ROWS[name]
    row.scene(scene)
    with scene.live.client() as client:
        check(row, scene, ask(client, row, scene))
        if row.close:
            assert client.is_closed_by_peer()
        else:
            assert client.get(host="nobody.test").status == 404, "the connection goes on"


@pytest.mark.parametrize("name", ROWS)
def test_row_over_https(name: str, scene: Scene) -> None:
    row = ROWS[name]
    row.scene(scene)
    trusting = client_context(scene.authority)
    with RawClient(scene.live.router.ssl_port, tls=trusting, server_name="front.test") as client:
        check(row, scene, ask(client, row, scene))


@pytest.mark.parametrize("name", ROWS)
def test_row_with_an_error_page_and_rewriting_rules(name: str, dressed_scene: Scene) -> None:
    row = ROWS[name]
    row.scene(dressed_scene)
    with dressed_scene.live.client() as client:
        check(row, dressed_scene, ask(client, row, dressed_scene), page=True)


@pytest.mark.parametrize("version", ["HTTP/1.2", "HTTP/1.9"])
def test_unsupported_version_is_a_bare_400(version: str, dressed: Live) -> None:
    host = dressed.host()
    with dressed.client() as client:
        client.send(f"GET / {version}\r\nHost: {host}\r\nUser-Agent: ua\r\n\r\n".encode())
        assert client.read_until_end() == b"HTTP/1.0 400 Bad Request\r\n\r\n"
    assert f'"GET / {version}" "-" 0 0 "-" "ua"' in dressed.router.wait_access_line(f"{host} - [")


@pytest.mark.parametrize("page", [False, True])
def test_route_service_while_they_are_off(page: bool, start_live: StartLive, live: Live, tmp_path: Path) -> None:
    router = live
    if page:
        (tmp_path / "page").write_text(PAGE)
        router = start_live({"html_error_template_file": str(tmp_path / "page")})
    with RecordingBackend() as backend, router.client() as client:
        host = router.route(backend, route_service_url=SERVICE)
        response = client.get(host=host)
    text = "Support for route services is disabled."
    error = "route_service_unsupported"
    assert (response.status, response.header("X-Cf-Routererror")) == (502, error)
    expected = f"<p>502 Bad Gateway|{text}|{error}</p>" if page else f"502 Bad Gateway: {text}\n"
    assert response.body.decode() == expected


@pytest.mark.parametrize(
    "headers",
    ["X-CF-App-Instance:\r\n", "X-CF-Process-Instance: \r\n", "X-CF-App-Instance:\r\nX-CF-Process-Instance:\r\n"],
)
def test_empty_instance_header_asks_for_nothing(headers: str, scene: Scene) -> None:
    scene.app()
    with scene.live.client() as client:
        assert client.get(host=scene.host, headers=headers).status == 200


def test_empty_app_instance_leaves_the_choice_to_the_process(scene: Scene) -> None:
    ordinary(scene)
    headers = f"X-CF-App-Instance:\r\nX-CF-Process-Instance: {PROCESS}:1\r\n"
    with scene.live.client() as client:
        response = client.get(host=scene.host, headers=headers)
    assert (response.status, b"with process guid" in response.body) == (400, True)


def test_cause_of_a_failure_can_be_kept_from_clients_and_stays_in_the_log(start_live: StartLive) -> None:
    live = start_live({"http_rewrite": {"responses": {"remove_headers": [{"name": "X-Cf-RouterError"}]}}})
    host = live.host()
    port = free_port()
    live.routes.register(host, backend=port)
    with live.client() as client:
        response = client.get(host=host)
    assert (response.status, response.header("X-Cf-Routererror")) == (502, None)
    assert not any(str(port) in value for _, value in response.headers)
    assert f'x_cf_routererror:"endpoint_failure (dial tcp 127.0.0.1:{port}: ' in live.router.wait_access_line(host)
