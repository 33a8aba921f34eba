"""The process under measurement of `loadtest.announcer`: many routes, announced by the library as an app would.

python -m loadtest.announcing NATS-URL ROUTES
"""

import asyncio
import sys

from router.registrar import Announcer, Route


def route(number: int) -> Route:
    """Return the announcement of one instance, with the fields that one usually has."""
    return Route(
        host=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        port=61000,
        uris=[f"app-{number}.example.com"],
        app=f"{number:08x}-5ad3-4f1c-9c59-0e2f7d1b6a40",
        private_instance_id=f"{number:08x}-77b1-4b0a-6f3e-91c4",
        private_instance_index="0",
        tags={"component": "announcer", "process_type": "web"},
    )


async def announce(nats: str, routes: int) -> None:
    async with Announcer(nats) as announcer:
        await announcer.announce_all(route(number) for number in range(routes))
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(announce(sys.argv[1], int(sys.argv[2])))
