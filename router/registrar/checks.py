"""Carrying out one health check: a program, a connection, a handshake or a request.

Owns what counts as healthy and how each kind is ended when its time is over; does not own when checks are due. One
law: a check always ends, within its time-out, and leaves no process and no connection behind.
"""

import asyncio
import contextlib
import functools
import os
import signal
import ssl
from typing import NamedTuple

from router.registrar.reasons import MOST_CHARS, one_line, reason_of
from router.registrar.service_config import Check, HttpProbe, ScriptProbe, TcpProbe, TlsProbe
from router.registrar.tls_files import TlsFiles

KEPT_OUTPUT_BYTES = MOST_CHARS
"""Of what a failing script wrote, its end is shown."""


PIPE_BYTES = 65536
"""What a pipe holds on Linux."""


class Outcome(NamedTuple):
    """What one check found."""

    healthy: bool
    reason: str
    """Why not, in words for people; empty if healthy."""
    took_s: float


async def carry_out(check: Check) -> Outcome:
    """Do the check. Never raises, except that it can be cancelled."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(check.timeout_s):
            reason = await _reason(check)
    except TimeoutError:
        reason = f"no result within {check.timeout_s:g} s"
    except (OSError, ValueError) as error:
        reason = reason_of(error)
    return Outcome(not reason, reason, loop.time() - began)


async def _reason(check: Check) -> str:
    """Return why the instance is not healthy; raise `OSError` or `ValueError` for the same."""
    probe = check.probe
    if isinstance(probe, ScriptProbe):
        return await _run(probe)
    if isinstance(probe, HttpProbe):
        return await _get(probe)
    return await _connect(probe)


async def _run(probe: ScriptProbe) -> str:
    with _Output() as output:
        # In a session of its own, so that whatever it started is ended with it.
        process = await asyncio.create_subprocess_exec(
            probe.path,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output.writing,
            stderr=output.writing,
            start_new_session=True,
        )
        try:
            status = await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if status == 0:
            return ""
        ended = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
        return ": ".join(filter(None, [ended, output.end()]))


class _Output:
    """Takes all that a script writes, lest it blocks, and keeps the end of it.

    Not asyncio's own pipe: with one, a process counts as ended only when its last descendant has closed it.
    """

    def __init__(self) -> None:
        self._kept = b""
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)

    def __enter__(self) -> "_Output":
        asyncio.get_running_loop().add_reader(self._reading, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._reading)
        os.close(self._reading)
        os.close(self.writing)

    def end(self) -> str:
        """Return the last words so far, on one line."""
        # Once, which empties the pipe: what left its session may write for ever.
        self._read()
        return one_line(self._kept.decode(errors="replace"))

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._kept = (self._kept + os.read(self._reading, PIPE_BYTES))[-KEPT_OUTPUT_BYTES:]


async def _connect(probe: TcpProbe | TlsProbe) -> str:
    tls = isinstance(probe, TlsProbe)
    _, writer = await asyncio.open_connection(
        probe.host,
        probe.port,
        ssl=_context(probe.trust) if isinstance(probe, TlsProbe) else None,
        server_hostname=probe.server_name if isinstance(probe, TlsProbe) else None,
    )
    # Not closed in peace: a check must not wait for the other side's farewell.
    writer.transport.abort() if tls else writer.close()
    return ""


async def _get(probe: HttpProbe) -> str:
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.get(
                probe.url,
                headers=dict(probe.headers),
                allow_redirects=False,
                ssl=_context(probe.trust) if probe.url.startswith("https:") else True,
                server_hostname=probe.server_name or None,
            ) as response,
        ):
            status = response.status
    except aiohttp.ClientConnectorError as error:
        raise error.os_error from error
    except aiohttp.ClientResponseError as error:
        return f"the answer is not HTTP: {one_line(error.message)}"
    except aiohttp.ClientError as error:
        return reason_of(error)
    if any(lowest <= status <= highest for lowest, highest in probe.statuses):
        return ""
    return f"status {status}"


def _context(trust: TlsFiles) -> ssl.SSLContext:
    # Loading the system's CAs takes a hundred times as long as a handshake.
    files = (trust.ca, trust.certificate, trust.key)
    return _context_of(trust, tuple(os.stat(file).st_mtime_ns for file in files if file is not None))


@functools.lru_cache(maxsize=100)
def _context_of(trust: TlsFiles, changed_ns: tuple[int, ...]) -> ssl.SSLContext:
    return trust()
