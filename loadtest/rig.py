"""What most scenarios run against: an instance, a NATS server and the router, each a process of its own."""

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from loadtest.broker import Broker
from loadtest.programs import Cores, Program, free_ports
from loadtest.router_process import RouterProcess


class Rig(NamedTuple):
    """Lives as long as `started`'s block."""

    broker: Broker
    router: RouterProcess
    backend_port: int


@contextlib.asynccontextmanager
async def started(folder: Path, *, workers: int = 1, host: str = "") -> AsyncIterator[Rig]:
    """Run the three with their logs in the folder.

    Args:
        host: announced for the instance, and routed before the block is entered; nothing is announced if empty.

    Raises:
        ProgramError: a program does not start.
    """
    cores = Cores.of_this_process().all
    (backend_port,) = free_ports(1)
    async with contextlib.AsyncExitStack() as running:
        command = [sys.executable, "-m", "loadtest.backend", str(backend_port)]
        backend = running.enter_context(Program("backend", command, cores=cores, log_folder=folder))
        await backend.wait_until_accepting(backend_port)
        broker = await running.enter_async_context(Broker.started(folder, cores))
        starting = RouterProcess.started(folder, cores, nats_port=broker.port, workers=workers)
        router = await running.enter_context(starting).ready()
        if host:
            await running.enter_async_context(broker.announcing(host, backend_port))
            (await router.wait_until_routed(host)).close()
        yield Rig(broker, router, backend_port)
