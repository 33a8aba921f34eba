"""`router routes`, against a real HTTP server that answers as a router's ``/routes`` does."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from rich.console import Console

from router.view import (
    MOST_ROWS,
    Source,
    ViewError,
    fetch,
    filtered,
    parse,
    routes_command,
    show,
    source_from_url,
)
from tests.support.ports import free_port

TABLE: dict[str, list[dict[str, Any]]] = {
    "app.test": [
        {
            "address": "10.0.0.1:80",
            "availability_zone": "",
            "protocol": "http1",
            "tls": False,
            "ttl": 120,
            "tags": {"component": "x", "app_name": "web"},
            "private_instance_id": "one",
        },
        {
            "address": "10.0.0.2:443",
            "availability_zone": "z1",
            "protocol": "http2",
            "tls": True,
            "ttl": 120,
            "tags": None,
            "server_cert_domain_san": "san",
            "weight": 0,
        },
    ],
    "empty.test/path": [],
}


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.headers["Authorization"] != "Basic dXNlcjpwYXNz":
            self.send_error(401)
        elif self.path == "/routes":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(TABLE).encode() + b"\n")
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def shown(table: object, *, plain: bool) -> str:
    output = io.StringIO()
    show(parse(json.dumps(table).encode()), Console(file=output, width=160), plain=plain)
    return output.getvalue()


def test_table_is_fetched_with_the_credentials(port: int) -> None:
    assert json.loads(fetch(Source(f"http://127.0.0.1:{port}/routes", "user", "pass"))) == TABLE


def test_wrong_credentials_are_told(port: int) -> None:
    with pytest.raises(ViewError, match=r"status\.user and status\.pass"):
        fetch(Source(f"http://127.0.0.1:{port}/routes", "user", "wrong"))


def test_server_that_is_no_router_is_told(port: int) -> None:
    with pytest.raises(ViewError, match=r"answers 404: is that a router's status\.routes\.port\?"):
        fetch(Source(f"http://127.0.0.1:{port}/other", "user", "pass"))


def test_closed_port_is_told() -> None:
    with pytest.raises(ViewError, match=r"no router answers at .*: Connection refused"):
        fetch(Source(f"http://127.0.0.1:{free_port()}/routes"))


def test_proxy_of_the_environment_is_not_asked(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert fetch(Source(f"http://127.0.0.1:{port}/routes", "user", "pass"))


@pytest.mark.parametrize("text", [b"", b"<html>", b"[]", b'{"a": 1}', b'{"a": [{"ttl": "x"}]}'])
def test_answer_that_is_no_table_is_told(text: bytes) -> None:
    with pytest.raises(ViewError, match="not a route table"):
        parse(text)


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("127.0.0.1", Source("http://127.0.0.1:8082/routes")),
        ("http://u:p%40@h:1", Source("http://h:1/routes", "u", "p@")),
        ("http://h:1/", Source("http://h:1/routes")),
        ("http://h:1/other", Source("http://h:1/other")),
        ("http://[::1]:1", Source("http://[::1]:1/routes")),
    ],
)
def test_url_is_read_with_what_it_leaves_out(url: str, source: Source) -> None:
    assert source_from_url(url) == source


@pytest.mark.parametrize("url", ["https://h", "ftp://h", "http://", "http://h:port", "http://[h"])
def test_other_url_is_refused(url: str) -> None:
    with pytest.raises(ViewError):
        source_from_url(url)


def test_program_gets_a_line_for_each_endpoint() -> None:
    assert shown(TABLE, plain=True).splitlines() == [
        "app.test\t10.0.0.1:80\t-\tone\t120 s\tapp_name=web component=x",
        "app.test\t10.0.0.2:443\tsan\t-\t120 s\tprotocol=http2 weight=0 zone=z1",
        "empty.test/path\t-\t-\tno endpoint left\t-\t",
    ]


def test_person_gets_each_route_s_name_once_and_a_sum() -> None:
    lines = [line.split() for line in shown(TABLE, plain=False).splitlines()]
    assert [line[0] for line in lines] == ["route", "app.test", "10.0.0.2:443", "empty.test/path", "2"]
    assert lines[-1] == ["2", "routes,", "2", "endpoints"]


def test_empty_table_is_said_to_be_empty() -> None:
    assert shown({}, plain=False) == "0 routes, 0 endpoints\n"


def test_long_table_is_cut_for_people_alone() -> None:
    long = {f"a{number}.test": [{"address": "a:1"}] for number in range(MOST_ROWS + 5)}
    assert "… and 5 more" in shown(long, plain=False)
    assert len(shown(long, plain=True).splitlines()) == MOST_ROWS + 5


def test_announced_names_cannot_steer_the_terminal() -> None:
    hostile = {"\x1b[2Jx[red]": [{"address": "a:1", "tags": {"k": "\x9b\r\n"}}]}
    for plain in (True, False):
        text = shown(hostile, plain=plain)
        assert "\x1b[2J" not in text
        assert "\x9b" not in text
        assert "x[red]" in text


def test_filter_keeps_what_it_does_not_know() -> None:
    text = b'{"app.test":[{"address":"a:1","new":1}],"other.test":[]}'
    assert filtered(text, "APP") == b'{"app.test":[{"address":"a:1","new":1}]}\n'


def test_json_is_passed_on_as_it_came(port: int) -> None:
    written: list[bytes] = []
    source = Source(f"http://127.0.0.1:{port}/routes", "user", "pass")
    routes_command(source, "", as_json=True, write=written.append)
    routes_command(source, "empty", as_json=True, write=written.append)
    assert json.loads(written[0]) == TABLE
    assert json.loads(written[1]) == {"empty.test/path": []}


def test_table_into_a_pipe_is_plain(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    routes_command(Source(f"http://127.0.0.1:{port}/routes", "user", "pass"), "app", as_json=False, write=print)
    assert capsys.readouterr().out.count("app.test\t") == 2
