"""``html_error_template_file``: which errors get the page, and what becomes of pages that do not work."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.rawclient import RawClient
from tests.support.recorder import RecordingBackend
from tests.support.router import RunningRouter

PAGE = """<!DOCTYPE html>
<html><head><title>{{ .Status }} {{ .StatusText }}</title></head><body>
{{- if eq (.Header.Get "X-Cf-RouterError") "unknown_route" }}
<p class="cause">{{ .Header.Get "X-Cf-RouterError" }}</p>
{{- end }}
<p>{{ .Message }}</p></body></html>
"""


@pytest.fixture(scope="module")
def page(start_live: StartLive, tmp_path_factory: pytest.TempPathFactory) -> Live:
    return start_live({"html_error_template_file": written(tmp_path_factory.mktemp("page"), PAGE)})


@pytest.fixture
def client(page: Live) -> Iterator[RawClient]:
    with page.client() as connected:
        yield connected


def written(directory: Path, text: str) -> str:
    path = directory / "error.html"
    path.write_text(text)
    return str(path)


def test_error_of_the_router_is_the_page(client: RawClient) -> None:
    for _ in range(2):
        response = client.get("/x", host="nobody.test")
        assert response.status == 404
        assert response.body == (
            b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>\n"
            b'<p class="cause">unknown_route</p>\n'
            b"<p>Requested route (&#39;nobody.test&#39;) does not exist.</p></body></html>\n"
        )
        assert response.values("Content-Type") == ["text/html; charset=utf-8"]
        assert response.values("X-Content-Type-Options") == ["nosniff"]
        assert response.header("X-Cf-Routererror") == "unknown_route"
        assert response.header("Cache-Control") == "no-cache, no-store"
        assert response.header("Content-Length") == str(len(response.body))


def test_head_of_the_page_has_its_length_and_no_body(client: RawClient) -> None:
    client.send(b"HEAD / HTTP/1.1\r\nHost: nobody.test\r\n\r\n")
    response = client.read_response("HEAD")
    assert (response.status, response.body) == (404, b"")
    assert response.header("Content-Type") == "text/html; charset=utf-8"
    assert client.get(host="nobody.test").status == 404


def test_failure_of_a_backend_stays_plain(page: Live, client: RawClient) -> None:
    host = page.host()
    page.routes.register(host, backend=free_port())
    response = client.get(host=host)
    assert response.body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
    assert response.header("Content-Type") == "text/plain; charset=utf-8"


def test_response_of_a_backend_is_left_alone(page: Live, client: RawClient, backend: RecordingBackend) -> None:
    assert client.get(host=page.route(backend)).body == b"ok"


@pytest.mark.parametrize("text", ["<p>{{ .Nope }}", "<p>{{ .Header.Get }}", "<p {{if .Status}}x='{{end}}>"])
def test_page_that_fails_at_run_time_leaves_the_text_without_its_line_end(
    text: str, broker: NatsServer, tmp_path: Path
) -> None:
    config = {"html_error_template_file": written(tmp_path, text)}
    with RunningRouter(tmp_path / "router", broker.port, config) as router, RawClient(router.port) as client:
        for _ in range(2):
            response = client.get(host="nobody.test")
            assert response.status == 404
            assert response.body == b"404 Not Found: Requested route ('nobody.test') does not exist."
            assert response.header("X-Cf-Routererror") == "unknown_route"
        line = router.wait_for_log("error-page-failed")
    assert "error.html:1: " in line["data"]["error"]


@pytest.mark.parametrize("text", ["{{ .Status", "{{ nope }}", "{{ if .Status }}", None])
def test_page_that_cannot_be_read_or_parsed_stops_the_start_before_nats_is_asked(
    text: str | None, tmp_path: Path
) -> None:
    path = str(tmp_path / "none.html") if text is None else written(tmp_path, text)
    router = RunningRouter(tmp_path / "router", free_port(), {"html_error_template_file": path})
    router.start(wait=False)
    try:
        assert router.wait_exit() == 1, router.story()
    finally:
        router.kill_all()
    (line,) = router.log
    assert line["message"] == "Error loading config:"
    assert "(html_error_template_file, line " in line["data"]["error"]
    assert path in line["data"]["error"]


def test_page_that_became_bad_leaves_the_workers_as_they_are(broker: NatsServer, tmp_path: Path) -> None:
    path = Path(written(tmp_path, PAGE))
    with RunningRouter(tmp_path / "router", broker.port, {"html_error_template_file": str(path)}) as router:
        workers = router.workers()
        path.write_text("{{ .Status")
        router.signal(signal.SIGHUP)
        error = router.wait_for_log("reload-failed")["data"]["error"]
        assert router.workers() == workers
        assert f"{path}:1: " in error
        path.write_text("<p {{if .Status}}x='{{end}}>")
        router.signal(signal.SIGHUP)
        warning = router.wait_for_log("config-warning")["data"]["warning"]
        assert "(html_error_template_file, line " in warning
