"""The agent of the machine that the containers of `router dev` would run on: tells routers who has which address.

Run as ``python -m router.dev.cell NATS_URL INSTANCES APP_PORT``. Real ones watch their containers; this one says
the same until it is ended. It is the example of how an agent of yours would do it.
"""

import asyncio
import signal
import sys
import time

from router.dev.inside import workloads
from router.registrar.bus import BusUnavailable
from router.registrar.identity_agent import IdentityAgent

AGENT = "router-dev"


async def speak(nats_url: str, instances: int, app_port: int, *, stop: asyncio.Event) -> None:
    """Say who is who until ``stop`` is set. Raises `BusUnavailable` if there is no NATS."""
    async with IdentityAgent([nats_url], agent_id=AGENT) as agent:
        running = workloads(instances, app_port, time.time_ns() // 1_000_000)
        await agent.snapshot(running)
        for each in running:
            print(f"{each.ip} is {each.app}, instance {each.instance}", flush=True)
        await stop.wait()


async def _speak_until_signal(nats_url: str, instances: int, app_port: int) -> int:
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    try:
        await speak(nats_url, instances, app_port, stop=stop)
    except BusUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_speak_until_signal(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
