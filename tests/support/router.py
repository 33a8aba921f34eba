"""The router under test: the real command line, in a process group of its own, with a configuration made here."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support import processes
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S, wait_until

STARTED = "gorouter.started"


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base with the overrides laid over it, mappings merged key by key."""
    result = dict(base)
    for key, value in overrides.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


def base_config(directory: Path, nats_port: int) -> dict[str, Any]:
    """Return a configuration on free ports: one worker, no start delay, connections to backends kept."""
    return {
        "port": free_port(),
        "listen_address": "127.0.0.1",
        "workers": 1,
        "status": {"port": free_port(), "user": "admin", "pass": "secret", "routes": {"port": free_port()}},
        "nats": {"hosts": [{"hostname": "127.0.0.1", "port": nats_port}]},
        "logging": {"level": "debug"},
        "access_log": {"file": str(directory / "access.log")},
        "start_response_delay_interval": "0s",
        "droplet_stale_threshold": "1h",
        "disable_keep_alives": False,
        "max_idle_conns_per_host": 100,
        "backends": {"max_attempts": 3},
    }


def hastened_by_usr1(router: "RunningRouter") -> bool:
    """Tell a router that drains to hurry, unless it has ended; return whether it has."""
    assert router.process is not None
    if router.process.poll() is None:
        router.signal(signal.SIGUSR1)
        return False
    return True


class RunningRouter:
    """`router run -c FILE` as a process. Use as a context manager: it is started, and stopped without remains.

    Args:
        directory: where the configuration, the access log and stderr go.
        nats_port: of a running server, unless the test is about there being none.
        config: laid over `base_config`.
    """

    def __init__(self, directory: Path, nats_port: int, config: Mapping[str, Any] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.config = merged(base_config(directory, nats_port), config or {})
        self.config_file = directory / "router.yml"
        self.access_log = Path(self.config["access_log"]["file"] or directory / "none")
        self.process: subprocess.Popen[bytes] | None = None
        self.log: list[dict[str, Any]] = []
        """Component log lines; a line that is no JSON object stands as ``{"unparsable": text}``."""
        self._sessions: list[int] = []
        self._reader: threading.Thread | None = None

    def __enter__(self) -> "RunningRouter":
        try:
            self.start()
        except BaseException:
            self.kill_all()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return int(self.config["port"])

    @property
    def ssl_port(self) -> int:
        return int(self.config["ssl_port"])

    @property
    def health_port(self) -> int:
        return int(self.config["status"]["port"])

    @property
    def routes_port(self) -> int:
        return int(self.config["status"]["routes"]["port"])

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def worker(self) -> int:
        """The pid of the only worker."""
        (pid,) = self.workers()
        return pid

    def workers(self) -> list[int]:
        """Pids of the workers that live now, oldest first."""
        return sorted(pid for pid in processes.children(self.pid) if "worker" in processes.command_line(pid))

    # Life.

    def start(self, *, wait: bool = True) -> None:
        """Start the process and, unless told otherwise, wait for ``gorouter.started``."""
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False))
        with (self.directory / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "router", "run", "-c", str(self.config_file)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                env={**os.environ, "PYTHONWARNINGS": "default"},
            )
        self._sessions.append(self.process.pid)
        self._reader = threading.Thread(target=self._read_log, args=(self.process,), daemon=True)
        self._reader.start()
        if wait:
            self.wait_for_log(STARTED)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait_exit(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for control's end and return its status; what it has logged by then is in the log.

        Unless something of it lives on, and may go on writing.
        """
        assert self.process is not None
        code = self.process.wait(timeout_s)
        if self._reader is not None and not self.remains():
            self._reader.join(PATIENCE_S)
        return code

    def stop(self) -> int | None:
        """Stop with SIGTERM; return the exit status. Fails if a process is left, after killing it."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(PATIENCE_S)
            wait_until(lambda: not self.remains(), "no process of the router is left")
        finally:
            self.kill_all()
        return code

    def remains(self) -> list[int]:
        """Pids of every process of this router's sessions, however it was orphaned."""
        return [pid for session in self._sessions for pid in processes.in_session(session)]

    def kill_all(self) -> None:
        for pid in self.remains():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(PATIENCE_S)
            if self._reader is not None:
                self._reader.join(PATIENCE_S)

    # Logs.

    def messages(self) -> list[str]:
        return [str(line.get("message", "")) for line in list(self.log)]

    def wait_for_log(
        self,
        text: str,
        *,
        where: Callable[[dict[str, Any]], bool] = lambda line: True,
        timeout_s: float = PATIENCE_S,
    ) -> dict[str, Any]:
        """Wait for a line whose message contains the text; fails at once if the router ends without it."""

        def found() -> dict[str, Any] | None:
            ended = self.process is None or self.process.poll() is not None
            if ended and self._reader is not None:
                self._reader.join(PATIENCE_S)
            for line in list(self.log):
                if text in str(line.get("message", "")) and where(line):
                    return line
            if ended:
                raise AssertionError(f"router ended before logging {text!r}; {self.story()}")
            return None

        try:
            return wait_until(found, f"log line {text!r}", timeout_s=timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.story()}") from None

    def story(self) -> str:
        """What the router said, for a failing test's message."""
        stderr = self.directory / "stderr"
        tail = "\n".join(json.dumps(line) for line in self.log[-15:])
        return f"log ends:\n{tail}\nstderr ends:\n{stderr.read_text()[-3000:] if stderr.exists() else ''}"

    def access_lines(self) -> list[str]:
        """The whole lines of the access log; a reader may come in the middle of a write."""
        if not self.access_log.exists():
            return []
        text = self.access_log.read_text(encoding="utf-8", errors="surrogateescape")
        return text[: text.rfind("\n") + 1].splitlines()

    def wait_access_line(self, containing: str, *, count: int = 1) -> str:
        """Wait for the count-th access-log line that contains the text, and return it."""

        def found() -> str | None:
            lines = [line for line in self.access_lines() if containing in line]
            return lines[count - 1] if len(lines) >= count else None

        return wait_until(found, f"access-log line with {containing!r}") or ""

    def _read_log(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        with process.stdout:
            for raw in process.stdout:
                try:
                    line = json.loads(raw)
                except ValueError:
                    line = {"unparsable": raw.decode("utf-8", "replace")}
                self.log.append(line if isinstance(line, dict) else {"unparsable": raw.decode()})
