"""The debug server on ``debug_addr``: the log level, and what the processes are doing right now.

Owns its paths and texts; does not own the level nor the workers. One law: nothing asks who is asking, so it
belongs on a loopback address; whatever goes wrong with it costs the router nothing but a log line.

``/log-level`` is where Cloud Foundry's components have it. Below ``/debug/pprof/``, where Go's profiles would be,
is what Python has of the kind.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
import traceback
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from io import StringIO

import msgspec
from aiohttp import web

from router.http_server import set_up
from router.log import LEVELS, Logger

MAX_BODY_BYTES = 1024
MAX_TRACE_S = 60.0
TOP_LINES = 50

SHORT_LEVELS = {"0": "debug", "d": "debug", "1": "info", "i": "info", "2": "warn", "w": "warn", "3": "error"}
SHORT_LEVELS |= {"e": "error", "4": "fatal", "f": "fatal"}

INDEX = f"""\
/log-level                      the least severe level that is logged; PUT or POST one of {", ".join(LEVELS)}
/debug/workers                  process ids
/debug/pprof/cmdline            the command line
/debug/pprof/goroutine          every task and thread of the control process with its stack
/debug/pprof/heap?seconds=N     where the control process allocates memory in the next N seconds (at most \
{MAX_TRACE_S:g}), which slows it down
"""

_silent = logging.getLogger("router.debug-server")
"""For aiohttp, whose remarks on clients' mistakes have no place in the component log."""
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class DebugServer:
    """Lives from `start` to `close`, as long as control.

    Args:
        address: ``host:port``, an IPv6 address in brackets; empty for no server.
        logger: parent of this component's logger.
        get_level: returns the name of the present log level.
        set_level: changes it, here and in the workers.
        worker_pids: returns the process ids of the workers.

    Attributes:
        port: it listens on once started, 0 while it does not.
    """

    def __init__(
        self,
        address: str,
        logger: Logger,
        *,
        get_level: Callable[[], str],
        set_level: Callable[[str], None],
        worker_pids: Callable[[], Sequence[int]],
    ) -> None:
        self.port = 0
        self._address = address
        self._logger = logger.child("debug-server")
        self._get_level = get_level
        self._set_level = set_level
        self._worker_pids = worker_pids
        self._runner: web.AppRunner | None = None
        self._tracing = False

    async def start(self) -> None:
        """Listen, if there is an address. A failure is logged, not raised."""
        if not self._address:
            return
        try:
            self.port = await self._listen(*split_address(self._address))
        except (OSError, ValueError) as error:
            await self.close()
            self._logger.error("debug-server-failed", address=self._address, error=str(error))
        else:
            self._logger.info("debug-server-listening", address=self._address, port=self.port)

    async def close(self) -> None:
        """Stop listening; again is harmless."""
        runner, self._runner = self._runner, None
        self.port = 0
        if runner is not None:
            await runner.cleanup()

    async def _listen(self, host: str, port: int) -> int:
        loop = asyncio.get_running_loop()
        [(family, kind, protocol, _, where), *_] = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        self._runner = web.AppRunner(self._application(), access_log=None, logger=_silent, shutdown_timeout=0.2)
        await set_up(self._runner, max_body_bytes=MAX_BODY_BYTES)
        with contextlib.ExitStack() as undo:
            listening = undo.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(where)
            listening.listen(16)
            undo.pop_all()
        await web.SockSite(self._runner, listening).start()
        return int(listening.getsockname()[1])

    def _application(self) -> web.Application:
        app = web.Application()
        get = app.router.add_get
        get("/", self._index)
        get("/debug/pprof/", self._index)
        get("/debug/pprof/cmdline", self._command_line)
        get("/debug/pprof/goroutine", self._stacks)
        get("/debug/pprof/heap", self._heap)
        get("/debug/workers", self._workers)
        get("/log-level", self._show_level)
        app.router.add_put("/log-level", self._change_level)
        app.router.add_post("/log-level", self._change_level)
        return app

    async def _index(self, request: web.Request) -> web.Response:
        return web.Response(text=INDEX)

    async def _command_line(self, request: web.Request) -> web.Response:
        return web.Response(text="\0".join(sys.orig_argv))

    async def _workers(self, request: web.Request) -> web.Response:
        pids = {"control": os.getpid(), "workers": list(self._worker_pids())}
        return web.Response(body=msgspec.json.encode(pids) + b"\n", content_type="application/json")

    async def _stacks(self, request: web.Request) -> web.Response:
        return web.Response(text="\n".join([*task_stacks(), *thread_stacks()]))

    async def _heap(self, request: web.Request) -> web.Response:
        try:
            seconds = float(request.query.get("seconds", "1"))
        except ValueError:
            seconds = 0.0
        if not 0.0 < seconds <= MAX_TRACE_S:
            return web.Response(status=400, text=f"seconds: a number up to {MAX_TRACE_S:g}\n")
        if self._tracing or tracemalloc.is_tracing():
            return web.Response(status=409, text="memory is being traced already\n")
        return web.Response(text=await self._trace_memory(seconds))

    async def _trace_memory(self, seconds: float) -> str:
        self._tracing = True
        tracemalloc.start()
        try:
            await asyncio.sleep(seconds)
            snapshot = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
            self._tracing = False
        # Not in the loop's thread: with a large table there is much to sort.
        return await asyncio.to_thread(describe_memory, snapshot, seconds)

    async def _show_level(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{self._get_level()}\n")

    async def _change_level(self, request: web.Request) -> web.Response:
        wanted = (await request.read()).decode("utf-8", "replace").strip().lower()
        level = SHORT_LEVELS.get(wanted, wanted)
        if level not in LEVELS:
            return web.Response(status=400, text=f"a log level is one of {', '.join(LEVELS)}\n")
        before = self._get_level()
        self._set_level(level)
        self._logger.info("log-level-changed", level=level, before=before)
        return web.Response(text=f"{level}\n")


def split_address(address: str) -> tuple[str, int]:
    """Split ``host:port``; the host may be empty, for all addresses. Raises `ValueError` if it is not that."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("debug_addr: not host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host, int(port)


def task_stacks() -> Iterator[str]:
    """Yield a description of every task of the running loop, and where it is."""
    for task in sorted(asyncio.all_tasks(), key=asyncio.Task.get_name):
        text = StringIO()
        task.print_stack(file=text)
        yield text.getvalue()


def thread_stacks() -> Iterator[str]:
    """Yield a description of every thread of this process, and where it is."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        yield f"Thread {names.get(ident, ident)}:\n" + "".join(traceback.format_stack(frame))


def describe_memory(snapshot: tracemalloc.Snapshot, seconds: float) -> str:
    """Return the lines of code that allocated most of what is still there, most first."""
    statistics = snapshot.statistics("lineno")
    total = sum(one.size for one in statistics)
    lines = [f"{total} bytes allocated within {seconds:g} s and not freed since"]
    lines += [f"{one.size:>12} bytes {one.count:>9} blocks  {one.traceback}" for one in statistics[:TOP_LINES]]
    return "\n".join(lines) + "\n"
