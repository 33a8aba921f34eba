"""`router register -c` as a process, heard by a real nats-server and seen through a whole router."""

import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.registrar.test_checks import script
from tests.registrar.test_route_files import entry, write, write_entries
from tests.support.announce import Announcer, status_of
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.recorder import RecordingBackend
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until

POLLING = "import router.registrar.service as s; s.POLL_INTERVAL_S = {}; from router.cli import main; main()"
"""The command, looking at dynamic files more or less often."""


class Registrar:
    """One `router register -c` process and its configuration."""

    def __init__(self, directory: Path, nats_port: int) -> None:
        self.status_port = free_port()
        self.file = directory / "registrar.json"
        self.directory = directory
        self.config: dict[str, Any] = {
            "message_bus_servers": [{"host": f"127.0.0.1:{nats_port}"}],
            "host": "127.0.0.1",
            "routes": [],
            "dynamic_config_globs": [f"{directory}/dynamic/*.yml"],
            "status": {"port": self.status_port},
        }

    def add(self, name: str, port: int, **more: Any) -> None:
        route = {"name": name, "port": port, "uris": [f"{name}.test"], "registration_interval": "200ms", **more}
        self.config["routes"].append(route)

    @contextmanager
    def running(self, *options: str, poll_s: float = 0.05) -> Iterator["subprocess.Popen[str]"]:
        self.file.write_text(json.dumps(self.config))
        (self.directory / "dynamic").mkdir(exist_ok=True)
        command = [sys.executable, "-c", POLLING.format(poll_s), "register", "-c", str(self.file), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=30)

    def reload(self, process: "subprocess.Popen[str]") -> None:
        """Write the configuration as it is now, and say so."""
        self.file.write_text(json.dumps(self.config))
        process.send_signal(signal.SIGHUP)

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of what the status listener serves; 0 if it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.status_port}{path}", timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""


@pytest.fixture
def registrar(tmp_path: Path, nats_server: NatsServer) -> Registrar:
    return Registrar(tmp_path, nats_server.port)


@pytest.fixture
def backend() -> Iterator[RecordingBackend]:
    recorder = RecordingBackend()
    yield recorder
    recorder.close()


def test_routes_are_reached_while_healthy_and_gone_after_the_end(
    tmp_path: Path, registrar: Registrar, router: RunningRouter, backend: RecordingBackend
) -> None:
    healthy = tmp_path / "healthy"
    probe = script(tmp_path, f"test -e {healthy}")
    registrar.add("plain", backend.port)
    registrar.add("tried", backend.port, health_check={"name": "c", "script_path": probe.path, "timeout": "190ms"})
    registrar.config["routes"][1]["registration_interval"] = "5s"
    registrar.config["routes"][1]["health_check"]["timeout"] = "4s"
    healthy.touch()
    with registrar.running() as process:
        for host in ("plain.test", "tried.test"):
            wait_until(lambda: status_of(router.port, host) == 200, f"{host} is routed")  # noqa: B023
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    assert "tried: announced" in output
    assert output.endswith("unregistered everything\n")
    for host in ("plain.test", "tried.test"):
        wait_until(lambda: status_of(router.port, host) == 404, f"{host} is gone")  # noqa: B023


def test_dynamic_files_are_followed_and_taken_back_at_the_end_too(
    registrar: Registrar, router: RunningRouter, backend: RecordingBackend
) -> None:
    with registrar.running() as process:
        wait_until(lambda: registrar.get("/healthz")[0] == 200, "it runs")
        file = registrar.directory / "dynamic" / "a.yml"
        write(file, "first", port=backend.port)
        wait_until(lambda: status_of(router.port, "first.test") == 200, "first is routed")
        write(file, "second", port=backend.port)
        wait_until(lambda: status_of(router.port, "second.test") == 200, "second is routed")
        wait_until(lambda: status_of(router.port, "first.test") == 404, "first is gone")
        process.terminate()
        process.communicate(timeout=30)
    wait_until(lambda: status_of(router.port, "second.test") == 404, "second is gone")


def test_bad_edit_of_a_dynamic_file_withdraws_nothing_until_it_is_mended(
    registrar: Registrar, router: RunningRouter, backend: RecordingBackend
) -> None:
    lines: list[str] = []

    def said(text: str) -> None:
        wait_until(lambda: any(text in line for line in lines), text)

    with registrar.running() as process:
        assert process.stdout is not None
        reading = threading.Thread(target=lines.extend, args=(process.stdout,))
        reading.start()
        file = registrar.directory / "dynamic" / "a.yml"
        write(file, "bad-edit", "deleted", port=backend.port)
        wait_until(lambda: status_of(router.port, "deleted.test") == 200, "the routes are there")
        write_entries(file, entry("bad-edit", port="http"), entry("found", port=backend.port))
        wait_until(lambda: status_of(router.port, "found.test") == 200, "the good entry counts")
        assert [status_of(router.port, f"{name}.test") for name in ("bad-edit", "deleted")] == [200, 200]
        said(f"skipped: {file}: routes[0] 'bad-edit': port: 'http' is not a number")
        said(f"note: {file}: until that is mended, these go on as they were: bad-edit, deleted")
        write(file, "bad-edit", port=backend.port)
        wait_until(lambda: status_of(router.port, "deleted.test") == 404, "what is deleted is gone")
        assert status_of(router.port, "bad-edit.test") == 200
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        reading.join()
    assert not any("bad-edit: unregistered" in line or "bad-edit: changed" in line for line in lines)


def test_changed_interval_keeps_a_dynamic_route(
    registrar: Registrar, router: RunningRouter, backend: RecordingBackend
) -> None:
    with registrar.running() as process:
        file = registrar.directory / "dynamic" / "a.yml"
        write(file, "a", port=backend.port)
        wait_until(lambda: status_of(router.port, "a.test") == 200, "it is routed")
        write(file, "a", "b", port=backend.port, registration_interval="1h")
        wait_until(lambda: status_of(router.port, "b.test") == 200, "the second is routed")
        wait_until(lambda: status_of(router.port, "a.test") == 200, "the first is routed")
        process.terminate()
        output, _ = process.communicate(timeout=30)
    assert (output.count("a: found in"), output.count("a: changed in")) == (1, 1)
    assert "unregistered" not in output.removesuffix("unregistered everything\n")


# Reload.


@pytest.fixture
def heard(nats_server: NatsServer) -> Iterator[Announcer]:
    """Keeps what is unregistered in ``seen``."""
    with Announcer(nats_server.port) as listening:
        listening.listen("router.unregister")
        yield listening


def unregistered(heard: Announcer) -> list[str]:
    return [uri for _, payload in heard.seen for uri in json.loads(payload)["uris"]]


def lines_of(process: "subprocess.Popen[str]") -> Callable[[str], None]:
    """Return what reads the process's output until a line begins so."""
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")

    def until(start: str) -> None:
        assert any(line.startswith(start) for line in lines), f"{start!r} was never said"

    return until


def test_hangup_reads_the_file_anew_and_leaves_the_unchanged_alone(
    registrar: Registrar, router: RunningRouter, backend: RecordingBackend, heard: Announcer
) -> None:
    for name in ("stays", "goes", "changes"):
        registrar.add(name, backend.port)
    with registrar.running() as process:
        for host in ("stays.test", "goes.test", "changes.test"):
            wait_until(lambda: status_of(router.port, host) == 200, f"{host} is routed")  # noqa: B023
        del registrar.config["routes"][1]
        registrar.config["routes"][1].update(uris=["changes.test", "more.test"], options={"weight": 7})
        registrar.add("comes", backend.port)
        registrar.reload(process)
        for host, status in (("comes.test", 200), ("more.test", 200), ("goes.test", 404), ("stays.test", 200)):
            wait_until(lambda: status_of(router.port, host) == status, host)  # noqa: B023
        wait_until(lambda: unregistered(heard), "the withdrawal is heard")
        assert unregistered(heard) == ["goes.test"]
        process.terminate()
        output, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    after = output.partition("reloaded: ")[2].splitlines()[1:]
    assert [line for line in after if line.startswith("stays")] == []
    assert "goes: no longer configured, unregistered" in after
    assert f"changes: changed in {registrar.file}" in after
    assert f"comes: found in {registrar.file}" in after


def test_uri_that_is_gone_is_unregistered_without_the_others(
    registrar: Registrar, router: RunningRouter, backend: RecordingBackend, heard: Announcer
) -> None:
    registrar.add("a", backend.port, uris=["a.test", "b.test"])
    with registrar.running() as process:
        wait_until(lambda: status_of(router.port, "b.test") == 200, "it is routed")
        registrar.config["routes"][0]["uris"] = ["a.test", "c.test"]
        registrar.reload(process)
        wait_until(lambda: status_of(router.port, "c.test") == 200, "the new one is routed")
        wait_until(lambda: status_of(router.port, "b.test") == 404, "the old one is gone")
        assert status_of(router.port, "a.test") == 200
        wait_until(lambda: unregistered(heard), "the withdrawal is heard")
        assert unregistered(heard) == ["b.test"]


def test_other_address_takes_the_place_of_the_old_one(
    registrar: Registrar, router: RunningRouter, backend: RecordingBackend
) -> None:
    registrar.add("a", free_port())
    with registrar.running() as process:
        wait_until(lambda: status_of(router.port, "a.test") == 502, "it is routed")
        registrar.config["routes"][0]["port"] = backend.port
        registrar.reload(process)
        wait_until(lambda: [status_of(router.port, "a.test") for _ in range(3)] == [200] * 3, "only the new one")


def test_file_with_mistakes_is_told_whole_and_changes_nothing(
    registrar: Registrar, router: RunningRouter, backend: RecordingBackend, heard: Announcer
) -> None:
    registrar.add("a", backend.port)
    with registrar.running() as process:
        wait_until(lambda: status_of(router.port, "a.test") == 200, "it is routed")
        good = registrar.config["routes"]
        registrar.config["routes"] = [{"name": "b"}, {**good[0], "options": {"weight": 101}}]
        registrar.reload(process)
        assert process.stderr is not None
        told = [process.stderr.readline().strip().removeprefix(f"router: {registrar.file}: ") for _ in range(5)]
        assert told == [
            "routes[0] 'b': no registration_interval",
            "routes[0] 'b': no port: neither port nor tls_port",
            "routes[0] 'b': no URIs",
            "routes[1] 'a': options: weight: 101 is not a number between 0 and 100",
            "not reloaded, everything goes on as before",
        ]
        assert status_of(router.port, "a.test") == 200
        registrar.file.unlink()
        process.send_signal(signal.SIGHUP)
        assert "No such file" in process.stderr.readline()
        assert "not reloaded" in process.stderr.readline()
        registrar.config["routes"] = good
        registrar.add("c", backend.port)
        registrar.reload(process)
        wait_until(lambda: status_of(router.port, "c.test") == 200, "the mended file is used")
        assert unregistered(heard) == []


def test_route_may_move_between_files(
    registrar: Registrar, router: RunningRouter, backend: RecordingBackend, heard: Announcer
) -> None:
    registrar.add("a", backend.port)
    # Only a reload looks at the files: between the two steps of a move, a look would find the route in neither.
    with registrar.running(poll_s=3600) as process:
        until = lines_of(process)
        wait_until(lambda: status_of(router.port, "a.test") == 200, "it is routed")
        route = registrar.config["routes"].pop()
        write(registrar.directory / "dynamic" / "a.yml", "a", **{**route, "tags": {"moved": "there"}})
        registrar.reload(process)
        until("a: changed in")
        until("a: announced")
        (registrar.directory / "dynamic" / "a.yml").unlink()
        registrar.config["routes"].append(route)
        registrar.reload(process)
        until("a: changed in")
        until("a: announced")
        assert status_of(router.port, "a.test") == 200
        assert unregistered(heard) == []


def test_reload_changes_defaults_and_globs_of_dynamic_files(
    registrar: Registrar, router: RunningRouter, backend: RecordingBackend
) -> None:
    other = registrar.directory / "other"
    other.mkdir()
    write(other / "b.yml", "b", port=backend.port)
    registrar.config["host"] = "127.0.0.9"
    with registrar.running() as process:
        wait_until(lambda: registrar.get("/healthz")[0] == 200, "it runs")
        write(registrar.directory / "dynamic" / "a.yml", "a", port=backend.port)
        wait_until(lambda: status_of(router.port, "a.test") == 502, "nothing listens there")
        registrar.config["host"] = "127.0.0.1"
        registrar.config["dynamic_config_globs"].append(f"{other}/*.yml")
        registrar.reload(process)
        for host in ("a.test", "b.test"):
            wait_until(lambda: status_of(router.port, host) == 200, host)  # noqa: B023


def test_what_needs_a_restart_is_told_each_time(registrar: Registrar) -> None:
    with registrar.running() as process:
        until = lines_of(process)
        wait_until(lambda: registrar.get("/healthz")[0] == 200, "it runs")
        registrar.config["message_bus_servers"] = [{"host": "127.0.0.1:1"}]
        registrar.config["status"] = {"port": free_port()}
        for _ in range(2):
            registrar.reload(process)
            until("message_bus_servers: changed, but that needs a restart")
            until("status.port: changed, but that needs a restart")
        assert registrar.get("/healthz")[0] == 200


def test_status_listener_tells_health_and_figures(
    tmp_path: Path, nats_server: NatsServer, registrar: Registrar
) -> None:
    registrar.add("good", 1)
    failing = {"name": "c", "script_path": script(tmp_path, "exit 1").path, "timeout": "100ms"}
    registrar.add("bad", 1, health_check=failing)
    registrar.config["routes"][1]["registration_interval"] = "10s"
    registrar.config["routes"][1]["health_check"]["timeout"] = "5s"
    with registrar.running():
        wait_until(lambda: "announcer_checks_total" in registrar.get("/metrics")[1], "the check was counted")
        wait_until(lambda: '"announced": 1' in registrar.get("/healthz")[1], "the good one is announced")
        status, text = registrar.get("/healthz")
        assert (status, json.loads(text)) == (200, {"nats": "connected", "announced": 1, "routes": 2})
        metrics = registrar.get("/metrics")[1]
        assert 'announcer_checks_total{result="failed",route="bad"} 1.0' in metrics
        assert 'announcer_routes{state="withheld"} 1.0' in metrics
        assert "announcer_nats_connected 1.0" in metrics
        nats_server.kill()
        wait_until(lambda: registrar.get("/healthz")[0] == 503, "the loss of NATS shows")
        nats_server.start()
        wait_until(lambda: registrar.get("/healthz")[0] == 200, "it is back")


def test_process_id_is_written(tmp_path: Path, registrar: Registrar) -> None:
    pidfile = tmp_path / "pid"
    with registrar.running("--pidfile", str(pidfile)) as process:
        wait_until(lambda: registrar.get("/healthz")[0] == 200, "it runs")
        assert pidfile.read_text() == f"{process.pid}\n"


def test_status_address_that_is_taken_ends_it(registrar: Registrar) -> None:
    with RecordingBackend() as other:
        registrar.config["status"]["port"] = other.port
        with registrar.running() as process:
            _, errors = process.communicate(timeout=30)
            assert process.returncode == 1
    assert "address already in use" in errors


def test_absent_nats_ends_it(registrar: Registrar, nats_server: NatsServer) -> None:
    nats_server.kill()
    with registrar.running("--connect-timeout", "2") as process:
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
    assert "no NATS server reachable within 2 s" in errors
