"""The router's DNS server alone, with many names: ``python -m loadtest.dns_server PORT``.

It runs on the event loop that control runs on, with a table as control keeps it, and answers until it is ended.
"""

import asyncio
import sys
from collections.abc import Iterator

import uvloop

from router.config.internal import Internal, InternalDns, InternalDomain
from router.control.internal.dns_server import DnsServer
from router.control.internal.hub import InternalHub
from router.log import Logger
from router.routing.access import TCP
from router.routing.internal_records import Identity, InternalChange, NameEntry, Policy, PutIdentity, PutName

NAMES = 50_000
INSTANCES = 2
"""Behind each name."""
APPS = 1_000
SOURCE = "127.0.1.1"
"""Whose queries are answered: an instance of an app that may reach every other name's app."""
SERVER = "127.0.0.1"


def host_name(number: int) -> str:
    return f"app-{number}.apps.internal"


def is_permitted(number: int) -> bool:
    """Whether the source may know the name: half of the apps, and so half of the names, are forbidden."""
    return number % APPS % 2 == 0


def table_changes() -> Iterator[InternalChange]:
    """Yield what makes the table: every name with its instances, every instance with its identity."""
    yield PutIdentity(Identity(SOURCE, "caller"))
    for number in range(NAMES):
        app = f"app-{number % APPS}"
        ips = [f"10.{first >> 16}.{first >> 8 & 255}.{first & 255}" for first in addresses(number)]
        for ip in ips:
            yield PutIdentity(Identity(ip, app))
        yield PutName(host_name(number), [NameEntry(ip, app) for ip in ips])


def addresses(number: int) -> range:
    """Return the lower 24 bits of a name's instances."""
    return range(number * INSTANCES, (number + 1) * INSTANCES)


async def serve(port: int) -> None:
    hub = InternalHub(lambda: None)
    for change in table_changes():
        hub.put(change)
    hub.take_changes()
    hub.set_policies(
        [Policy("caller", f"app-{number}", TCP, 5000, 5000) for number in range(APPS) if is_permitted(number)]
    )
    hub.set_ready(policies=True, names=True)
    domain = InternalDomain(name="apps.internal", answer="endpoints")
    dns = InternalDns(port=port, queries_per_second=0)
    config = Internal(domains=[domain], addresses=[SERVER], dns=dns)
    await DnsServer(config, lambda: hub.table, Logger()).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
