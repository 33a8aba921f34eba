"""Turning containers' routes off and on while the watcher runs: a Unix socket that takes one word.

Owns the socket and the words; does not own what they do. One law: only who may write to the socket may speak,
which is the user the watcher runs as.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

WORDS = ("enable", "disable", "status")
PATIENCE_S = 5.0
LONGEST_ANSWER_BYTES = 65536
_LONGEST_PATH_BYTES = 107
"""Of a socket, on Linux."""


class SwitchError(Exception):
    """The socket cannot be used; the text says why and names it."""


@contextlib.asynccontextmanager
async def listening(path: str, act: Callable[[str], dict[str, Any]]) -> AsyncIterator[None]:
    """Serve the socket meanwhile.

    Args:
        act: does what a word of `WORDS` says and returns what to answer.

    Raises:
        SwitchError: it cannot be made, or another watcher serves it.
    """

    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(PATIENCE_S):
                word = (await reader.readline()).decode("ascii", "replace").strip()
                answer = act(word) if word in WORDS else {"error": f"not one of {', '.join(WORDS)}"}
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        writers.discard(writer)
        await _closed(writer)

    server = await asyncio.start_unix_server(serve, sock=_bound(path))
    try:
        yield
    finally:
        server.close()
        await asyncio.gather(*(_closed(writer) for writer in list(writers)))
        with contextlib.suppress(OSError):
            os.unlink(path)


def ask(path: str, word: str) -> dict[str, Any]:
    """Say a word to the watcher behind a socket and return its answer. Raises `SwitchError`."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(path)
            connection.sendall(word.encode() + b"\n")
            with connection.makefile("rb") as answers:
                answer = msgspec.json.decode(answers.readline(LONGEST_ANSWER_BYTES), type=dict[str, Any])
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise SwitchError(f"no `router docker` answers at {path}: {what}") from None
    if "error" in answer:
        raise SwitchError(str(answer["error"]))
    return answer


def _bound(path: str) -> socket.socket:
    if len(os.fsencode(path)) > _LONGEST_PATH_BYTES:
        raise SwitchError(
            f"control_socket: {path} is longer than the {_LONGEST_PATH_BYTES} bytes a socket's path may have"
        )
    if _is_served(path):
        raise SwitchError(
            f"control_socket: another `router docker` serves {path}; give each its own, and its own agent"
        )
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise SwitchError(f"control_socket: {path}: {error.strerror or error}") from None
    finally:
        os.umask(before)
    return listener


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
