"""What the policy decision adds to a request, with many policies.

The internal proxy is the public one with another way to find endpoints, and with headers that tell the caller. So
the steps from the head to the pool are taken with both, on the same heads and with all else as in a worker, and
the CPU time of one is subtracted from that of the other. Nothing is sent: what follows is one code for both.
"""

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import msgspec

from loadtest.errors import RequestError
from loadtest.report import Figure
from loadtest.wrk import BROWSER_HEADERS
from router.config.schema import Config
from router.dataplane import DataPlane
from router.log import Logger
from router.proxy.client import Client
from router.proxy.exchange import Exchange
from router.proxy.forward import Proxy
from router.proxy.presented import ANONYMOUS, Presented
from router.routing.access import TCP
from router.routing.internal_records import (
    AnyChange,
    Identity,
    NameEntry,
    Policy,
    PutIdentity,
    PutName,
    PutPolicies,
    SetInternalState,
)
from router.routing.records import DefineEndpoint, EndpointRecord, PoolOptions, PutEndpoint
from router.wire.http1 import RequestHead, parse_request_head

POLICIES = 10_000
SOURCES = 100
DESTINATIONS = POLICIES // SOURCES
"""Every source may reach all of them, each by a policy of its own."""
INSTANCES = 2
APP_PORT = 5000
DIALLED_PORT = 8080
LIMIT_US = 2.0
ROUNDS = 21
REQUESTS = 20_000
"""Of one round; each by a caller and to a name of its own."""
DOMAIN = "apps.internal"


class Caller:
    """A container's connection, as far as the way to the pool looks at it."""

    secure = False
    protocol = b"HTTP/1.1"
    listener_port = DIALLED_PORT

    def __init__(self, ip: str) -> None:
        self.peer_ip = ip.encode()
        self.peer = self.peer_ip + b":40000"

    def presented(self) -> Presented:
        return ANONYMOUS


def caller_ip(source: int) -> str:
    return f"10.255.0.{source}"


def instance_ip(destination: int, instance: int) -> str:
    return f"10.254.{instance}.{destination}"


def name_of(destination: int) -> str:
    return f"app-{destination}.{DOMAIN}"


def public_name_of(destination: int) -> str:
    return f"app-{destination}.apps.example"


def table_changes() -> Iterator[AnyChange]:
    """Yield what makes the table: names and public routes of the same instances, callers, policies."""
    for source in range(SOURCES):
        app = f"source-{source}"
        yield PutIdentity(Identity(caller_ip(source), app, "space", "org", f"{app}-0", "0", 1))
        allowed = [
            Policy(app, f"app-{destination}", TCP, APP_PORT, APP_PORT) for destination in range(DESTINATIONS)
        ]
        yield PutPolicies(app, allowed)
    for destination in range(DESTINATIONS):
        app = f"app-{destination}"
        ips = [instance_ip(destination, instance) for instance in range(INSTANCES)]
        for index, ip in enumerate(ips):
            yield PutIdentity(Identity(ip, app, "space", "org", f"{app}-{index}", str(index), 1, (APP_PORT,)))
            endpoint_id = destination * INSTANCES + index + 1
            yield DefineEndpoint(endpoint_id, EndpointRecord(host=ip, port=APP_PORT, app=app))
            yield PutEndpoint(public_name_of(destination), "/", endpoint_id, 0, PoolOptions())
        yield PutName(name_of(destination), [NameEntry(ip, app) for ip in ips])
    yield SetInternalState(True, True)


class Steps:
    """Both proxies of one data plane, and the requests they are given."""

    def __init__(self) -> None:
        internal = {"domains": [{"name": DOMAIN}], "addresses": ["127.0.0.1"]}
        # Nobody is told of these requests, so nothing has to be closed.
        config = msgspec.convert({"internal": internal, "enable_envelope_v1_metrics": False}, Config)
        self._plane = DataPlane(config, Logger(sink=lambda line: None), lambda key, endpoint_id: None)
        self._changes = 0
        self._apply(*table_changes())
        inside = self._plane._internal
        assert inside is not None
        self._inside: Proxy = inside
        choose = random.Random(2026)
        self._pairs = [(choose.randrange(SOURCES), choose.randrange(DESTINATIONS)) for _ in range(REQUESTS)]
        self._callers = [cast(Client, Caller(caller_ip(source))) for source in range(SOURCES)]
        self._names = [request_head(name_of(number)) for number in range(DESTINATIONS)]
        self._public_names = [request_head(public_name_of(number)) for number in range(DESTINATIONS)]

    def inside_us(self) -> float:
        """Return the CPU time of one request's steps with the policy decision, in µs."""
        return self._cpu_us(self._inside, self._names)

    def public_us(self) -> float:
        """Return the same for the public proxy."""
        return self._cpu_us(self._plane.proxy, self._public_names)

    def first_us(self) -> float:
        """Return the same as `inside_us` for the first request of each caller to each name after a change."""
        self._apply(SetInternalState(True, True))
        every = [(source, number) for source in range(SOURCES) for number in range(DESTINATIONS)]
        self._pairs, pairs = every, self._pairs
        try:
            return self._cpu_us(self._inside, self._names)
        finally:
            self._pairs = pairs

    def _apply(self, *changes: AnyChange) -> None:
        self._changes += 1
        self._plane.mirror.apply(self._changes, 0, changes)

    def _cpu_us(self, proxy: Proxy, heads: list[RequestHead]) -> float:
        exchanges = [Exchange(proxy, self._callers[source], heads[number]) for source, number in self._pairs]
        elapsed = cpu_s(lambda: take_steps(proxy, exchanges))
        if any(exchange.pool is None or len(exchange.pool.endpoints) != INSTANCES for exchange in exchanges):
            raise RequestError("a request that is allowed found no endpoints, so the figures would mean nothing")
        return elapsed / len(exchanges) * 1e6


def take_steps(proxy: Proxy, exchanges: list[Exchange]) -> None:
    """Take every exchange from its head to its pool, and make what its endpoint would be sent."""
    for exchange in exchanges:
        if proxy._route(exchange) is None:
            proxy._prepare(exchange)


def cpu_s(work: Callable[[], None]) -> float:
    """Return this process's CPU time for some work, without that of collecting others' garbage."""
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        work()
        return time.process_time() - began
    finally:
        gc.enable()


def request_head(host: str) -> RequestHead:
    lines = [f"{name}: {value}" for name, value in {"Host": host, **BROWSER_HEADERS}.items()]
    return parse_request_head("\r\n".join(["GET /catalogue/shoes?page=3 HTTP/1.1", *lines]).encode())


async def measure(folder: Path, announce: Callable[[str], None]) -> list[Figure]:
    """Run the scenario. Raises `RequestError` if a request that is allowed was refused."""
    announce(f"loading {POLICIES:,} policies")
    return await asyncio.to_thread(_measure, Steps(), announce)


def _measure(steps: Steps, announce: Callable[[str], None]) -> list[Figure]:
    steps.inside_us(), steps.public_us()
    inside, public = [], []
    for number in range(ROUNDS):
        # In turn, so that a slow moment of the machine hits both.
        announce(f"round {number + 1} of {ROUNDS}")
        inside.append(steps.inside_us())
        public.append(steps.public_us())
    added = statistics.median(one - other for one, other in zip(inside, public, strict=True))
    return [
        Figure(name="steps to the pool in public", value=statistics.median(public), unit="µs"),
        Figure(name=f"the same inside, {POLICIES:,} policies", value=statistics.median(inside), unit="µs"),
        Figure(name="CPU the policy decision adds to a request", value=added, unit="µs", limit=LIMIT_US),
        Figure(
            name="first request of an app to a name after a change, whole steps", value=steps.first_us(), unit="µs"
        ),
    ]
