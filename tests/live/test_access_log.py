"""The access log, character by character: one line for each exchange, also for those that came to nothing."""

import re
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.ports import free_port
from tests.support.rawclient import RawClient, Truncated
from tests.support.recorder import Conversation, MakeBackend, RecordingBackend, answering, silent
from tests.support.waiting import wait_until

LINE = re.compile(
    r"(?P<host>\S*) - \[(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z)\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d+|"-") (?P<received>\d+) (?P<sent>\d+) '
    r'"(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)" "(?P<client>[^"]*)" "(?P<backend>[^"]*)" '
    r'x_forwarded_for:"(?P<xff>(?:[^"\\]|\\.)*)" x_forwarded_proto:"(?P<xfp>(?:[^"\\]|\\.)*)" '
    r'vcap_request_id:"(?P<id>[0-9a-f-]{36})" response_time:(?P<time_s>\d+\.\d{6}) '
    r'gorouter_time:(?P<own_s>\d+\.\d{6}|"-") '
    r'app_id:"(?P<app>[^"]*)" app_index:"(?P<index>[^"]*)" instance_id:"(?P<instance>[^"]*)" '
    r'x_cf_routererror:"(?P<error>(?:[^"\\]|\\.)*)"'
)


@pytest.fixture
def client(live: Live) -> Iterator[RawClient]:
    with live.client() as connected:
        yield connected


def logged(live: Live, containing: str, count: int = 1) -> dict[str, str]:
    """Return the fields of the count-th line with this text; the whole line has to have the documented form."""
    line = live.router.wait_access_line(containing, count=count)
    match = LINE.fullmatch(line)
    assert match is not None, line
    return match.groupdict()


def test_line_of_a_proxied_request(live: Live, client: RawClient, backend: RecordingBackend) -> None:
    identity = {"app": "app-guid", "private_instance_id": "inst-1", "private_instance_index": "0"}
    host = live.route(backend, **identity)
    address = "{}:{}".format(*client.socket.getsockname())
    body = "Content-Length: 5\r\n\r\nhello"
    fields = "User-Agent: ua\r\nReferer: ref\r\nX-Forwarded-For: 1.2.3.4\r\n"
    client.send(f"POST /a/b?x=1 HTTP/1.1\r\nHost: {host}\r\n{fields}{body}".encode())
    assert client.read_response().status == 200
    line = logged(live, f"{host} - [")
    assert line["host"] == host
    assert line["request"] == "POST /a/b?x=1 HTTP/1.1"
    assert (line["status"], line["received"], line["sent"]) == ("200", "5", "2")
    assert (line["referer"], line["agent"], line["client"]) == ("ref", "ua", address)
    assert line["backend"] == backend.address
    assert (line["xff"], line["xfp"]) == ("1.2.3.4, 127.0.0.1", "http")
    assert line["id"] == backend.requests[0].header("X-Vcap-Request-Id")
    assert (line["app"], line["index"], line["instance"]) == ("app-guid", "0", "inst-1")
    assert line["error"] == "-"
    assert float(line["own_s"]) <= float(line["time_s"])


def test_line_of_an_unknown_route(live: Live, client: RawClient) -> None:
    host = f"unknown-{live.host()}:8080"
    body = client.get("/y", host=host).body
    line = logged(live, host)
    assert (line["host"], line["request"], line["status"]) == (host, "GET /y HTTP/1.1", "404")
    assert (line["received"], line["sent"]) == ("0", str(len(body)))
    assert (line["backend"], line["xff"], line["xfp"]) == ("-", "-", "-")
    assert (line["app"], line["index"], line["instance"]) == ("-", "-", "-")
    assert (line["referer"], line["agent"], line["error"]) == ("-", "-", "unknown_route")
    assert line["own_s"] == "0.000000"


def test_every_request_of_a_connection_has_its_line(
    live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    for number in range(50):
        client.get(f"/{number}", host=host)
    logged(live, host, count=50)
    requests = [line.split('"')[1] for line in live.router.access_lines() if line.startswith(f"{host} ")]
    assert requests == [f"GET /{number} HTTP/1.1" for number in range(50)]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('say "hi"', r"say \"hi\""),
        ("back\\slash", r"back\\slash"),
        ("tab\there", r"tab\there"),
        ("latin-\xfc", r"latin-\xfc"),
        ("ü€".encode().decode("latin-1"), "ü€"),
        ("\u200b".encode().decode("latin-1"), r"\u200b"),
        ("\xff\xfe", r"\xff\xfe"),
        ('] " x_cf_routererror:"y', r"] \" x_cf_routererror:\"y"),
        ("", "-"),
    ],
)
def test_values_are_quoted_as_go_does(
    value: str, shown: str, live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    assert client.get(host=host, headers=f"User-Agent: {value}\r\nReferer: {value}\r\n").status == 200
    line = logged(live, f"{host} - [")
    assert (line["agent"], line["referer"]) == (shown, shown)


def test_quotes_in_the_target_cannot_forge_a_line(
    live: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    client.get('/"\\x?"', host=host)
    assert logged(live, f"{host} - [")["request"] in (r"GET /\"\\x?\" HTTP/1.1", r"GET /%22%5Cx?\" HTTP/1.1")


def test_absolute_target_is_logged_as_path(live: Live, client: RawClient, backend: RecordingBackend) -> None:
    host = live.route(backend)
    client.get(f"http://{host}/p?q", host="other.test")
    assert logged(live, f"{host} - [")["request"] == "GET /p?q HTTP/1.1"


def test_http_1_0_is_logged_as_such(live: Live, client: RawClient, backend: RecordingBackend) -> None:
    host = live.route(backend)
    client.send(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    client.read_response()
    assert logged(live, f"{host} - [")["request"] == "GET / HTTP/1.0"


def test_sizes_count_the_content_and_not_its_coding(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 1\r\n\r\n"
    host = live.route(make_backend(answering(answer)))
    client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    client.send(b"2\r\nab\r\n3;x=y\r\ncde\r\n0\r\n\r\n")
    assert client.read_response().body == b"abcdefg"
    line = logged(live, f"{host} - [")
    assert (line["received"], line["sent"]) == ("5", "7")


def test_failed_endpoint_is_named_with_the_error(live: Live, client: RawClient) -> None:
    host, port = live.host(), free_port()
    live.routes.register(host, backend=port)
    client.get(host=host)
    line = logged(live, f"{host} - [")
    assert (line["status"], line["backend"]) == ("502", f"127.0.0.1:{port}")
    assert re.fullmatch(r"endpoint_failure \(.+\)", line["error"])


def test_router_error_set_by_the_app_is_logged(live: Live, client: RawClient, make_backend: MakeBackend) -> None:
    answer = b"HTTP/1.1 503 X\r\nContent-Length: 0\r\nX-Cf-RouterError: own words\r\n\r\n"
    host = live.route(make_backend(answering(answer)))
    client.get(host=host)
    assert logged(live, f"{host} - [")["error"] == "own words"


def test_client_that_leaves_before_the_answer_is_logged_as_499(live: Live, make_backend: MakeBackend) -> None:
    backend = make_backend(silent)
    host = live.route(backend)
    with live.client() as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        wait_until(lambda: backend.requests, "the request is with the backend")
    line = logged(live, f"{host} - [")
    assert (line["status"], line["error"]) == ("499", "endpoint_failure (context canceled)")
    assert line["backend"] == backend.address


def test_client_that_leaves_in_mid_response_is_logged(live: Live, make_backend: MakeBackend) -> None:
    def stall(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        conversation.wait_for_end()

    host = live.route(make_backend(stall))
    with live.client() as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        client.read_line()
    line = logged(live, f"{host} - [")
    assert (line["status"], line["sent"]) == ("200", "5")
    assert line["error"] == "client-conn-closed-during-response-streaming"


def test_backend_that_leaves_in_mid_response_is_logged(
    live: Live, client: RawClient, make_backend: MakeBackend
) -> None:
    def cut(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")

    host = live.route(make_backend(cut))
    client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    with pytest.raises(Truncated):
        client.read_response()
    line = logged(live, f"{host} - [")
    assert (line["status"], line["sent"]) == ("200", "5")
    assert line["error"] != "-"


def test_health_check_by_user_agent_is_logged(live: Live, client: RawClient) -> None:
    host = live.host()
    client.get(host=host, headers="User-Agent: HTTP-Monitor/1.1\r\n")
    line = logged(live, f"{host} - [")
    assert (line["status"], line["agent"], line["backend"]) == ("200", "HTTP-Monitor/1.1", "-")


def test_rotated_log_is_opened_anew_on_sigusr2(start_live: StartLive, backend: RecordingBackend) -> None:
    live = start_live({})
    host = live.route(backend)
    with live.client() as client:
        client.get("/before", host=host)
        live.router.wait_access_line("/before")
        rotated = live.router.access_log.rename(live.router.access_log.with_suffix(".1"))
        live.router.signal(signal.SIGUSR2)
        wait_until(live.router.access_log.exists, "the log is there again")
        client.get("/after", host=host)
        live.router.wait_access_line("/after")
    text = rotated.read_text()
    assert "/before" in text
    assert "/after" not in text
    assert live.router.access_log.stat().st_mode & 0o777 == 0o644


def test_no_request_waits_for_a_log_that_cannot_be_written(
    start_live: StartLive, backend: RecordingBackend
) -> None:
    live = start_live({"access_log": {"file": "/dev/full"}})
    host = live.route(backend)
    with live.client() as client:
        for _ in range(200):
            assert client.get(host=host).status == 200


def test_addresses_can_be_left_out(start_live: StartLive, backend: RecordingBackend) -> None:
    live = start_live({"logging": {"disable_log_forwarded_for": True, "disable_log_source_ip": True}})
    host = live.route(backend)
    with live.client() as client:
        client.get(host=host, headers="X-Forwarded-For: 1.2.3.4\r\n")
    line = logged(live, f"{host} - [")
    assert (line["client"], line["xff"], line["xfp"]) == ("-", "-", "http")


def test_lines_of_many_connections_never_mix(live: Live, backend: RecordingBackend) -> None:
    host = live.route(backend)

    def ask(number: int) -> None:
        with live.client() as client:
            for _ in range(50):
                client.get("/" + "x" * 300, host=host, headers=f"User-Agent: {number}{'y' * 2000}\r\n")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    live.router.wait_access_line(host, count=200)
    lines = [line for line in live.router.access_lines() if host in line]
    assert len(lines) == 200
    assert all(LINE.fullmatch(line) for line in lines)
