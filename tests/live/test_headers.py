"""Behaviours 19 (as far as configured) and 20: what the router adds, keeps and takes away, in both directions."""

import re
import time
from collections.abc import Iterator

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.rawclient import RawClient
from tests.support.recorder import OK, MakeBackend, RecordingBackend, Request, answering

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.fixture
def client(live: Live) -> Iterator[RawClient]:
    with live.client() as connected:
        yield connected


@pytest.fixture
def host(live: Live, backend: RecordingBackend) -> str:
    fields = {"app": "app-guid", "private_instance_id": "inst-1", "private_instance_index": "7"}
    return live.route(backend, **fields)


def seen(client: RawClient, host: str, backend: RecordingBackend, *lines: str, path: str = "/") -> Request:
    """Send a GET with header lines and return what the backend saw."""
    count = len(backend.requests)
    assert client.get(path, host=host, headers="".join(f"{line}\r\n" for line in lines)).status == 200
    return backend.requests[count]


# Added towards the backend.


def test_backend_is_told_app_instance_and_index(client: RawClient, host: str, backend: RecordingBackend) -> None:
    spoofs = ["X-CF-ApplicationID: spoof", "x-cf-instanceid: spoof", "X-Cf-InstanceIndex: 99"]
    for lines in ([], spoofs, spoofs * 2):
        request = seen(client, host, backend, *lines)
        assert request.values("X-Cf-Applicationid") == ["app-guid"]
        assert request.values("X-Cf-Instanceid") == ["inst-1"]
        assert request.values("X-Cf-Instanceindex") == ["7"]


def test_instance_without_id_is_told_its_address(live: Live, client: RawClient, backend: RecordingBackend) -> None:
    request = seen(client, live.route(backend), backend)
    assert request.header("X-Cf-Instanceid") == backend.address
    assert request.values("X-Cf-Applicationid") == [""]


def test_request_id_is_always_new(client: RawClient, host: str, backend: RecordingBackend) -> None:
    ids = set()
    for lines in ([], ["X-Vcap-Request-Id: spoof"], ["x-vcap-request-id: a", "X-Vcap-Request-ID: b"]):
        value = seen(client, host, backend, *lines).header("X-Vcap-Request-Id") or ""
        assert UUID.fullmatch(value)
        ids.add(value)
    assert len(ids) == 3


def test_response_carries_the_request_id_the_backend_was_given(
    client: RawClient, host: str, backend: RecordingBackend
) -> None:
    response = client.get(host=host)
    assert response.header("X-Vcap-Request-Id") == backend.requests[0].header("X-Vcap-Request-Id")


def test_request_id_of_the_backends_own_is_kept(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-VCAP-Request-ID: mine\r\n\r\n"
    assert client.get(host=live.route(make_backend(answering(answer)))).header("X-Vcap-Request-Id") == "mine"


def test_request_start_is_set_in_milliseconds_when_absent(
    client: RawClient, host: str, backend: RecordingBackend
) -> None:
    before = int(time.time() * 1000)
    value = int(seen(client, host, backend).header("X-Request-Start") or "0")
    assert before - 5000 <= value <= int(time.time() * 1000) + 5000


@pytest.mark.parametrize("value", ["12345", "t=1", ""])
def test_request_start_of_the_client_is_kept(
    value: str, client: RawClient, host: str, backend: RecordingBackend
) -> None:
    assert seen(client, host, backend, f"X-Request-Start: {value}").values("X-Request-Start") == [value]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "127.0.0.1"),
        (["X-Forwarded-For: 1.2.3.4"], "1.2.3.4, 127.0.0.1"),
        (["x-forwarded-for: 1.2.3.4, 5.6.7.8"], "1.2.3.4, 5.6.7.8, 127.0.0.1"),
        (["X-Forwarded-For: 1.1.1.1", "X-FORWARDED-FOR: 2.2.2.2"], "1.1.1.1, 2.2.2.2, 127.0.0.1"),
        (["X-Forwarded-For: 1.2.3.4 "], "1.2.3.4, 127.0.0.1"),
    ],
)
def test_client_address_is_appended_to_forwarded_for(
    lines: list[str], expected: str, client: RawClient, host: str, backend: RecordingBackend
) -> None:
    assert seen(client, host, backend, *lines).header("X-Forwarded-For") == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ["http"]),
        (["X-Forwarded-Proto: https"], ["https"]),
        (["X-Forwarded-Proto:"], ["http"]),
        (["x-forwarded-proto: anything"], ["anything"]),
    ],
)
def test_forwarded_proto_is_kept_or_set(
    lines: list[str], expected: list[str], client: RawClient, host: str, backend: RecordingBackend
) -> None:
    assert seen(client, host, backend, *lines).values("X-Forwarded-Proto") == expected


PROTO_SPOOFS = [
    ["X-Forwarded-Proto: SPOOF"],
    ["x-forwarded-proto: SPOOF"],
    ["X-FORWARDED-PROTO: SPOOF", "X-Forwarded-Proto: SPOOF"],
    ["X-Forwarded-Proto:SPOOF "],
    ["X-Forwarded-Proto:\tSPOOF"],
    ["X-Forwarded-Proto: SPOOF, SPOOF"],
    ["X-Forwarded-Proto:", "X-Forwarded-Proto: SPOOF"],
    ["Connection: X-Forwarded-Proto", "X-Forwarded-Proto: SPOOF"],
]


@pytest.fixture(scope="module")
def sanitizing(start_live: StartLive) -> Live:
    return start_live({"sanitize_forwarded_proto": True})


@pytest.fixture(scope="module")
def forcing(start_live: StartLive) -> Live:
    return start_live({"force_forwarded_proto_https": True, "sanitize_forwarded_proto": True})


@pytest.mark.parametrize("lines", PROTO_SPOOFS)
def test_sanitized_proto_tells_the_truth(lines: list[str], sanitizing: Live, backend: RecordingBackend) -> None:
    host = sanitizing.route(backend)
    with sanitizing.client() as client:
        request = seen(client, host, backend, *lines)
    assert request.values("X-Forwarded-Proto") == ["http"]
    assert b"SPOOF" not in request.raw_head


@pytest.mark.parametrize("lines", [[], *PROTO_SPOOFS])
def test_forced_proto_is_https(lines: list[str], forcing: Live, backend: RecordingBackend) -> None:
    host = forcing.route(backend)
    with forcing.client() as client:
        request = seen(client, host, backend, *lines)
    assert request.values("X-Forwarded-Proto") == ["https"]
    assert b"SPOOF" not in request.raw_head


# Kept.


KEPT = [
    "Accept-Encoding: gzip, br",
    "Cookie: a=b; c=d",
    "Authorization: Bearer x",
    "Forwarded: for=1.2.3.4",
    "X-Forwarded-Host: other.test",
    "X-Forwarded-Client-Cert: pem",
    "X-Custom: 1",
    "Via: 1.1 proxy",
    "Range: bytes=0-1",
    "If-None-Match: *",
    "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "X-B3-TraceId: 80f198ee56343ba864fe8b2a57d3eff7",
]


@pytest.mark.parametrize("line", KEPT)
def test_ordinary_request_header_is_untouched(
    line: str, client: RawClient, host: str, backend: RecordingBackend
) -> None:
    name, _, value = line.partition(": ")
    assert seen(client, host, backend, line).values(name) == [value]


def test_repeated_lines_stay_separate(client: RawClient, host: str, backend: RecordingBackend) -> None:
    request = seen(client, host, backend, "X-A: 1", "X-B: 0", "X-A: 2", "x-a: 3")
    assert request.values("X-A") == ["1", "2", "3"]


def test_nothing_is_invented(client: RawClient, host: str, backend: RecordingBackend) -> None:
    names = {name.lower() for name, _ in seen(client, host, backend).headers}
    assert names == {
        "host",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-request-start",
        "x-vcap-request-id",
        "x-cf-applicationid",
        "x-cf-instanceid",
        "x-cf-instanceindex",
    }


@pytest.mark.parametrize("suffix", ["", ":80", ":12345"])
def test_host_goes_on_as_received(suffix: str, client: RawClient, host: str, backend: RecordingBackend) -> None:
    assert seen(client, host.upper() + suffix, backend).header("Host") == host.upper() + suffix


@pytest.mark.parametrize(
    "path", ["/", "/a/../b//c", "/%2F%61?x=%20&y", "/?", "/a?b?c", "/~'()*!$&+,;=:@", "//a/b?c=d"]
)
def test_target_goes_on_as_received(path: str, client: RawClient, host: str, backend: RecordingBackend) -> None:
    assert seen(client, host, backend, path=path).target == path


def test_absolute_target_routes_and_replaces_host(
    live: Live, client: RawClient, host: str, backend: RecordingBackend
) -> None:
    assert client.get(f"http://{host}:81/x?y", host="nobody.test").status == 200
    assert backend.requests[0].header("Host") == f"{host}:81"
    assert backend.requests[0].target in (f"http://{host}:81/x?y", "/x?y")


# Hop-by-hop fields.


HOP_BY_HOP = [
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "Proxy-Authenticate: Basic",
    "Proxy-Authorization: Basic eA==",
    "TE: gzip",
    "Trailer: X-Sum",
    "Upgrade: h2c",
    "Upgrade: websocket",
    "HTTP2-Settings: AAMAAABkAAQAAP__",
]


@pytest.mark.parametrize("line", HOP_BY_HOP)
def test_hop_by_hop_request_field_ends_at_the_router(
    line: str, client: RawClient, host: str, backend: RecordingBackend
) -> None:
    name = line.partition(":")[0]
    assert seen(client, host, backend, line).values(name) == []
    assert seen(client, host, backend, line.upper()).values(name) == []


def test_te_trailers_is_the_exception(client: RawClient, host: str, backend: RecordingBackend) -> None:
    assert seen(client, host, backend, "TE: trailers").values("TE") == ["trailers"]
    assert seen(client, host, backend, "TE: trailers, gzip").values("TE") in ([], ["trailers"])
    assert seen(client, host, backend, "TE: trailers", "Connection: TE").values("TE") == ["trailers"]


def test_fields_named_by_connection_end_at_the_router(
    client: RawClient, host: str, backend: RecordingBackend
) -> None:
    lines = ["Connection: X-A, x-b ,,X-C", "Connection: X-D", "X-A: 1", "X-B: 2", "X-C: 3", "X-D: 4"]
    request = seen(client, host, backend, *lines)
    assert [request.values(name) for name in ("X-A", "X-B", "X-C", "X-D", "Connection")] == [[], [], [], [], []]


TIER_SET = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Vcap-Request-Id", "X-Request-Start"]
TIER_SET += ["X-Cf-Applicationid", "X-Cf-Instanceid", "X-Cf-Instanceindex", "Host"]


@pytest.mark.parametrize("name", TIER_SET)
@pytest.mark.parametrize("spelling", ["{}", "close, {}", "keep-alive,{}", "{},{}", " {} , x"])
def test_connection_cannot_remove_what_the_router_sets(
    name: str, spelling: str, live: Live, host: str, backend: RecordingBackend
) -> None:
    for option in (name, name.lower(), name.upper()):
        with live.client() as client:
            request = seen(client, host, backend, "Connection: " + spelling.format(option, option))
        assert request.values(name), f"{name} lost"
        assert request.header("X-Forwarded-For") == "127.0.0.1"


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "content-length", "Host, Content-Length"])
def test_connection_cannot_change_the_framing(
    name: str, live: Live, client: RawClient, host: str, backend: RecordingBackend
) -> None:
    mark = backend.mark()
    for framed in ("Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"):
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nConnection: {name}\r\n{framed}".encode())
        assert client.read_response().status == 200
    assert [message.body for message in mark.strict()] == [b"hello", b"hello"]


@pytest.fixture(scope="module")
def guarding(start_live: StartLive) -> Live:
    names = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "B3",
        "X-B3",
        "X-B3-SpanID",
        "X-B3-TraceID",
        "X-Request-Start",
    ]
    return start_live(
        {"hop_by_hop_headers_to_filter": [*names, "X-Forwarded-Client-Cert", "Authorization", "Cookie"]}
    )


def test_guarded_fields_survive_being_named_by_connection(guarding: Live, backend: RecordingBackend) -> None:
    host = guarding.route(backend)
    lines = [
        "B3: 1",
        "X-B3-TraceId: 2",
        "x-b3-spanid: 3",
        "X-Forwarded-Client-Cert: 4",
        "X-Forwarded-Proto: https",
    ]
    lines += ["Authorization: 5", "Cookie: 6", "X-Forwarded-For: 6.6.6.6", "X-Request-Start: 7", "X-Other: 8"]
    named = ", ".join(line.partition(":")[0].lower() for line in lines)
    with guarding.client() as client:
        request = seen(client, host, backend, f"Connection: {named}", *lines)
    kept = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines[:7] + lines[8:9]}
    assert {name: request.header(name) for name in kept} == kept
    assert request.header("X-Forwarded-For") == "6.6.6.6, 127.0.0.1"
    assert request.header("X-Other") is None


# Towards the client.


def test_hop_by_hop_response_fields_end_at_the_router(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    lines = ["Keep-Alive: timeout=5", "Proxy-Authenticate: Basic", "Upgrade: h2c", "X-Named: 1", "Trailer: X-Sum"]
    lines += ["Proxy-Connection: keep-alive", "Connection: keep-alive, X-Named"]
    answer = (
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"
    ).encode()
    host = live.route(make_backend(answering(answer)))
    for _ in range(2):
        response = client.get(host=host)
        names = {name.lower() for name, _ in response.headers}
        assert names == {"content-length", "x-vcap-request-id", "date"}


def test_proxy_signature_never_leaves(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-CF-Proxy-Signature: secret\r\n\r\n"
    assert client.get(host=live.route(make_backend(answering(answer)))).header("X-Cf-Proxy-Signature") is None


def test_backends_date_and_server_are_kept_and_none_is_invented(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: then\r\nServer: mine\r\nVia: x\r\n\r\n"
    response = client.get(host=live.route(make_backend(answering(answer, OK))))
    assert [response.header(name) for name in ("Date", "Server", "Via")] == ["then", "mine", "x"]
    response = client.get(host=live.route(make_backend()))
    assert [response.header(name) for name in ("Server", "Via", "Content-Type")] == [None, None, None]
    assert response.header("Date")


def test_repeated_response_lines_stay_separate_and_in_order(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX: 1\r\nset-cookie: b=2\r\nContent-Length: 0\r\n\r\n"
    assert client.get(host=live.route(make_backend(answering(answer)))).values("Set-Cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("200 Fine", "OK"),
        ("404 Gone Fishing", "Not Found"),
        ("201", "Created"),
        ("999 Own", "status code 999"),
        ("526 Own", "status code 526"),
    ],
)
def test_reason_phrase_is_made_from_the_code(
    line: str, reason: str, live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    host = live.route(make_backend(answering(f"HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n".encode())))
    assert client.get(host=host).reason == reason


def test_no_keep_alive_to_backends_says_close(start_live: StartLive, backend: RecordingBackend) -> None:
    other = start_live({"disable_keep_alives": True})
    host = other.route(backend)
    with other.client() as client:
        for _ in range(3):
            assert client.get(host=host).header("Connection") is None
    assert [request.header("Connection") for request in backend.requests] == ["close"] * 3
    assert len(backend.conversations) == 3
