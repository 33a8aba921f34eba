"""HTTP/2 to clients of a whole router: curl, nghttp, h2load and the h2 library in front, recorders behind."""

import re
import signal
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, TrailersReceived

from router.certs import issue, make_ca
from tests.frontend.test_http2_stream import CONNECT, echoing
from tests.live.conftest import Live, StartLive
from tests.live.https import https_config
from tests.support.certificates import client_context
from tests.support.h2peer import DATA, END_HEADERS, GOAWAY, HEADERS, SETTINGS, H2Peer, frame, get, headers
from tests.support.needs import needs
from tests.support.recorder import Conversation, MakeBackend, RecordingBackend, answering
from tests.support.waiting import PATIENCE_S, wait_until

AUTHORITY = make_ca()


@pytest.fixture(scope="module")
def https(start_live: StartLive, tmp_path_factory: pytest.TempPathFactory) -> Live:
    log = tmp_path_factory.mktemp("http2") / "access.log"
    pair = issue(AUTHORITY, ["*.h2.test"])
    return start_live(https_config([pair], enable_http2_cleartext=True, access_log={"file": str(log)}))


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_text(AUTHORITY.pair.certificate)
    return path


@pytest.fixture
def context() -> ssl.SSLContext:
    context = client_context(AUTHORITY)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def routed(live: Live, backend: RecordingBackend) -> str:
    """Route a host that the certificate is for."""
    return live.route(backend, host=live.host().replace(".test", ".h2.test"))


def port_of(live: Live) -> int:
    return int(live.router.config["ssl_port"])


def run(*command: object, stdin: bytes = b"") -> str:
    done = subprocess.run(
        [str(each) for each in command], input=stdin, capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout.decode("latin-1")


def curl(live: Live, trusted: Path, host: str, *options: object, stdin: bytes = b"") -> str:
    port = port_of(live)
    program = needs("curl")
    to = ["--resolve", f"{host}:{port}:127.0.0.1", f"https://{host}:{port}/"]
    return run(program, "-sS", "--max-time", PATIENCE_S, "--cacert", trusted, *options, *to, stdin=stdin)


# Which protocol.


def negotiated(live: Live, context: ssl.SSLContext) -> str | None:
    with socket.create_connection(("127.0.0.1", port_of(live))) as raw:
        connection = context.wrap_socket(raw, server_hostname="a.h2.test")
        with connection:
            return connection.selected_alpn_protocol()


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1")]
)
def test_alpn_prefers_http2(https: Live, offered: list[str], chosen: str) -> None:
    context = client_context(AUTHORITY)
    context.set_alpn_protocols(offered)
    assert negotiated(https, context) == chosen


def test_http2_can_be_switched_off(start_live: StartLive) -> None:
    live = start_live(https_config([issue(AUTHORITY, ["*.h2.test"])], enable_http2=False))
    context = client_context(AUTHORITY)
    context.set_alpn_protocols(["h2", "http/1.1"])
    assert negotiated(live, context) == "http/1.1"


# Real clients.


def test_curl_gets_posts_and_puts(https: Live, trusted: Path, backend: RecordingBackend) -> None:
    host = routed(https, backend)
    shown = ["-w", " %{http_version} %{http_code}"]
    assert curl(https, trusted, host, *shown) == "ok 2 200"
    body = bytes(range(256)) * 4096
    assert curl(https, trusted, host, *shown, "--data-binary", "@-", stdin=body) == "ok 2 200"
    assert curl(https, trusted, host, *shown, "-T", "-", stdin=body) == "ok 2 200"
    got, posted, put = backend.requests
    assert (got.method, got.values("x-forwarded-proto"), got.version) == ("GET", ["https"], "HTTP/1.1")
    assert (posted.body, posted.values("content-length")) == (body, [str(len(body))])
    assert (put.body, put.values("transfer-encoding")) == (body, ["chunked"])


def test_curl_downloads_megabytes_unharmed(https: Live, trusted: Path, make_backend: MakeBackend) -> None:
    body = bytes(range(256)) * 32768
    host = routed(
        https, make_backend(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    )
    assert curl(https, trusted, host).encode("latin-1") == body


def test_nghttp_sees_trailers_and_hints(https: Live, make_backend: MakeBackend) -> None:
    raw = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\nX-Sum: 9\r\n\r\n"
    )
    host = routed(https, make_backend(answering(raw)))
    shown = run(needs("nghttp"), "-v", f"https://127.0.0.1:{port_of(https)}/", "-H", f":authority: {host}")
    for expected in (":status: 103", "link: </a.css>", ":status: 200", "x-sum: 9", "hello"):
        assert expected in shown


def test_h2load_loses_no_request(https: Live, backend: RecordingBackend) -> None:
    host = routed(https, backend)
    for url in (f"https://127.0.0.1:{port_of(https)}/", f"http://127.0.0.1:{https.router.port}/"):
        shown = run(needs("h2load"), "-n", 2000, "-c", 4, "-m", 50, url, "-H", f":authority: {host}")
        assert "2000 succeeded, 0 failed, 0 errored" in shown


def test_the_h2_library_holds_many_conversations_at_once(
    https: Live, context: ssl.SSLContext, backend: RecordingBackend
) -> None:
    host = routed(https, backend)
    client = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
    statuses: dict[int, str] = {}
    bodies: dict[int, bytes] = {}
    with H2Peer(port_of(https), tls=context, server_name=host, begin=False) as peer:
        connection = peer.client.socket
        client.initiate_connection()
        for number in range(50):
            stream_id = 2 * number + 1
            head = [(":method", "POST"), (":scheme", "https"), (":authority", host), (":path", f"/{number}")]
            client.send_headers(stream_id, head)
            client.send_data(stream_id, b"%d" % number, end_stream=True)
        connection.sendall(client.data_to_send())
        ended = 0
        while ended < 50:
            for event in client.receive_data(connection.recv(65536)):
                if isinstance(event, ResponseReceived):
                    fields = {str(name): str(value) for name, value in event.headers}
                    statuses[event.stream_id] = fields[":status"]
                elif isinstance(event, DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                    client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded):
                    ended += 1
                assert not isinstance(event, TrailersReceived)
            connection.sendall(client.data_to_send())
    assert set(statuses.values()) == {"200"}
    assert set(bodies.values()) == {b"ok"}
    assert {request.target: request.body for request in backend.requests} == {
        f"/{number}": b"%d" % number for number in range(50)
    }


# Downgrade, logs, drain.


def test_nothing_smuggled_reaches_a_strict_backend(
    https: Live, context: ssl.SSLContext, backend: RecordingBackend
) -> None:
    host = routed(https, backend)
    evil = "1\r\nTransfer-Encoding: chunked\r\n\r\nGET /smuggled HTTP/1.1\r\nX: y"
    attempts = [
        get(host, "/", ("x-a", evil)),
        get(host, "/", (evil, "1")),
        get(host, f"/ HTTP/1.1\r\n{evil}"),
        get(host, method=f"GET / HTTP/1.1\r\n{evil}"),
        get(f"{host}\r\n{evil}"),
        get(host, "/", ("transfer-encoding", "chunked")),
        get(host, "/", ("content-length", "3")),
        get(host, "/", ("connection", "x-forwarded-for")),
        get(host, "/", ("cookie", evil)),
    ]
    mark = backend.mark()
    with H2Peer(port_of(https), tls=context, server_name=host) as peer:
        for number, fields in enumerate(attempts):
            peer.request(2 * number + 1, fields)
            answer = peer.answer(2 * number + 1)
            assert answer.reset is not None or answer.status == 400, fields
        last = 2 * len(attempts) + 1
        assert peer.get(last, host).status == 200
    assert [message.target for message in mark.strict()] == ["/"]


def test_the_access_log_says_http2(https: Live, context: ssl.SSLContext, backend: RecordingBackend) -> None:
    host = routed(https, backend)
    with H2Peer(port_of(https), tls=context, server_name=host) as peer:
        peer.request(1, get(host, "/logged", method="POST"), b"12345")
        assert peer.answer(1).status == 200
    line = https.router.wait_access_line(host)
    assert re.search(rf'^{host} - \[[^]]+\] "POST /logged HTTP/2.0" 200 5 2 ', line), line
    assert 'x_forwarded_proto:"https"' in line


def test_a_websocket_over_http2_and_tls_reaches_an_http1_backend(
    https: Live, context: ssl.SSLContext, make_backend: MakeBackend
) -> None:
    host = routed(https, make_backend(echoing))
    fields = [(name, host if name == ":authority" else value) for name, value in CONNECT]
    with H2Peer(port_of(https), tls=context, server_name=host) as peer:
        announced = peer.until(SETTINGS)
        assert b"\x00\x08\x00\x00\x00\x01" in announced.payload
        peer.send(headers(1, fields, END_HEADERS))
        peer.until(HEADERS, 1)
        peer.send(frame(DATA, 0, 1, b" there"))
        while peer.answers[1].body != b"hello there":
            peer.until(DATA, 1)


def test_a_drained_router_says_goodbye_and_loses_nothing(start_live: StartLive, make_backend: MakeBackend) -> None:
    live = start_live({"enable_http2_cleartext": True, "drain_timeout": "10s"})
    go_on = threading.Event()

    def patient(conversation: Conversation) -> None:
        conversation.read_request()
        go_on.wait(PATIENCE_S)
        conversation.answer()

    backend = make_backend(patient)
    host = routed(live, backend)
    with H2Peer(live.router.port) as peer:
        peer.request(1, get(host))
        wait_until(lambda: backend.requests, "the request is with the backend")
        live.router.signal(signal.SIGUSR1)
        peer.until(GOAWAY)
        peer.request(3, get(host))
        go_on.set()
        assert peer.answer(1).status == 200
        assert peer.error() == 0
        first, last = (stream_id for stream_id, _ in peer.goaway)
        assert first == 2**31 - 1
        # The second request comes before the second goodbye, unless this machine stands still in between.
        assert last in (1, 3)
        assert last == 1 or peer.answers[3].status == 200
