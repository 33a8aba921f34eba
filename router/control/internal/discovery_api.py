"""Internal names over HTTP, for DNS servers that ask elsewhere: two APIs of Cloud Foundry's.

Owns paths, answers and both listeners; does not own the names (`routing.access`). One law: what is asked is put
into answers as JSON text, never pasted.

- The service-discovery-controller's, over HTTPS: whoever has a client certificate of the configured CA may ask.
- The DNS adapter's, on 127.0.0.1, which BOSH DNS asks; its JSON is like that of DNS over HTTPS.

Neither knows which container wants to know: all names are seen by all, with the instances' own addresses. What
keeps traffic from where it must not go is then the policies' enforcement in the kernel.
"""

import asyncio
import ipaddress
import logging
import os
import random
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator

import msgspec
from aiohttp import web

from router.config import internal
from router.control.admin import not_found
from router.control.internal.hub import InternalHub
from router.control.internal.server_tls import server_context
from router.control.listeners import ListenError, describe_bind_error
from router.http_server import set_up
from router.log import Logger
from router.routing.access import InternalTable
from router.routing.names import normal_name
from router.tls import TlsError

REGISTRATION = "/v1/registration/"
NOT_WARM = "address table is not warm\n"

A = "1"
"""The record type of IPv4 addresses, as in the query string (RFC 1035 §3.2.2)."""
NOERROR, SERVFAIL = 0, 2

ADAPTER_ADDRESS = "127.0.0.1"
IDLE_S = 60.0
"""A kept connection without a request is closed after this time."""
NAMES_PER_PIECE = 500

_NUMBER = re.compile(r"0|[1-9][0-9]{0,4}")

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_silent = logging.getLogger("router.discovery-api")
"""For aiohttp, whose remarks on clients' mistakes have no place in the component log."""
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class DiscoveryCounters:
    """Totals since the start.

    Attributes:
        controller: names asked for over the controller's API.
        controller_failures: of these, failed because names were not warm.
        adapter: requests to the adapter's API, health checks left out.
        adapter_failures: of these, failed because names were not warm.
    """

    __slots__ = ("adapter", "adapter_failures", "controller", "controller_failures")

    def __init__(self) -> None:
        self.controller = 0
        self.controller_failures = 0
        self.adapter = 0
        self.adapter_failures = 0

    def as_dict(self) -> dict[str, int]:
        """Return all of them by name."""
        return {name: getattr(self, name) for name in self.__slots__}


class DiscoveryApi:
    """Both listeners; lives as long as control.

    Args:
        config: the section ``internal.discovery_api``; a port of 0 switches a listener off.
        hub: has the names.
        logger: parent of this component's logger.
        rng: for the order of addresses in the adapter's answers.

    Attributes:
        counters: requests by kind.
    """

    def __init__(
        self,
        config: internal.DiscoveryApi,
        hub: InternalHub,
        logger: Logger,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self.counters = DiscoveryCounters()
        self._config = config
        self._hub = hub
        self._logger = logger.child("discovery-api")
        self._rng = rng or random.Random()
        self._runners: list[web.ServerRunner] = []

    async def start(self) -> None:
        """Open the listeners that are switched on.

        Raises:
            TlsError: a certificate or the CA of clients is missing or cannot be used; nothing is left open.
            ListenError: an address cannot be had; nothing is left open.
        """
        config = self._config
        table = self._hub.table
        try:
            if config.port:
                answer = Controller(table, self.counters).answer
                await self._open(answer, config.address, config.port, "port", _context(config))
            if config.adapter_port:
                answer = Adapter(table, self.counters, self._rng).answer
                await self._open(answer, ADAPTER_ADDRESS, config.adapter_port, "adapter_port", None)
        except (ListenError, TlsError):
            await self.close()
            raise

    async def close(self) -> None:
        """Close the listeners and whatever connection is left; again is harmless."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def _open(
        self, answer: Answer, address: str, port: int, key: str, context: ssl.SSLContext | None
    ) -> None:
        key = f"internal.discovery_api.{key}"
        server = web.Server(answer, access_log=None, logger=_silent, keepalive_timeout=IDLE_S)
        runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await set_up(runner)
        self._runners.append(runner)
        try:
            await web.TCPSite(runner, address, port, ssl_context=context).start()
        except OSError as error:
            # The event loop's own text says the address again.
            reason = OSError(error.errno, os.strerror(error.errno)) if error.errno else error
            raise ListenError(describe_bind_error(key, address, port, reason)) from error
        self._logger.info("discovery-api-listening", key=key, address=address, port=port)


class Controller:
    """The service-discovery-controller's API. The method is not looked at, as in the original."""

    def __init__(self, table: InternalTable, counters: DiscoveryCounters) -> None:
        self._table = table
        self._counters = counters

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer 404 beside its paths, and 500 until names are warm: both count on the caller to ask again."""
        if request.path == "/routes":
            return await _stream(request, names_json(self._table))
        if not request.path.startswith(REGISTRATION):
            return not_found()
        self._counters.controller += 1
        if not self._table.names_warm:
            self._counters.controller_failures += 1
            return web.Response(status=500, text=NOT_WARM)
        # Without a name, the last element of the path is "registration"; nobody is called that.
        name = request.path.rstrip("/").rpartition("/")[2]
        hosts = [_Host(entry.ip) for entry in self._table.names.get(normal_name(name), ())]
        return _json({"hosts": hosts, "env": "", "service": ""}, "text/plain")


class Adapter:
    """The DNS adapter's API; any path will do."""

    def __init__(self, table: InternalTable, counters: DiscoveryCounters, rng: random.Random) -> None:
        self._table = table
        self._counters = counters
        self._rng = rng

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer in the form of DNS over JSON; a name nobody has is an empty answer, not an error."""
        if request.path == "/health":
            return web.Response()
        self._counters.adapter += 1
        kind = request.query.get("type", "") or A
        name = request.query.get("name", "")
        if kind != A:
            return _json(_document(name, kind, []))
        if not name:
            return _json(_document(name, kind, [], SERVFAIL), status=400)
        if not self._table.names_warm:
            self._counters.adapter_failures += 1
            return web.Response(status=500, text=NOT_WARM)
        return _json(_document(name, kind, self._addresses(name)))

    def _addresses(self, name: str) -> list[str]:
        """Return the IPv4 addresses behind a name, in random order: clients take the first."""
        entries = self._table.names.get(normal_name(name), ())
        found = [entry.ip for entry in entries if ipaddress.ip_address(entry.ip).version == 4]
        self._rng.shuffle(found)
        return found


class _Host(msgspec.Struct):
    """An instance in the controller's answers; all but the address is left over from an older protocol."""

    ip_address: str
    last_check_in: str = ""
    port: int = 0
    revision: str = ""
    service: str = ""
    service_repo_name: str = ""
    tags: dict[str, str] = {}


def names_json(table: InternalTable) -> Iterator[bytes]:
    """Yield the ``/routes`` document in pieces; names that go meanwhile are left out of later pieces."""
    names = list(table.names)
    yield b'{"addresses":['
    separator = b""
    for start in range(0, len(names), NAMES_PER_PIECE):
        piece = [
            {"hostname": f"{name}.", "ips": [entry.ip for entry in table.names[name]]}
            for name in names[start : start + NAMES_PER_PIECE]
            if name in table.names
        ]
        if piece:
            yield separator + msgspec.json.encode(piece)[1:-1]
            separator = b","
    yield b"]}"


def _context(config: internal.DiscoveryApi) -> ssl.SSLContext:
    if not config.ca_certs:
        # Without it, anybody could ask.
        raise TlsError("internal.discovery_api.ca_certs: the discovery API needs the CA of clients")
    key = "internal.discovery_api.cert_chain"
    return server_context(key, config.cert_chain, config.private_key, client_ca=config.ca_certs)


def _document(name: str, kind: str, addresses: list[str], status: int = NOERROR) -> dict[str, object]:
    """Return the adapter's answer: name and type are as they were asked for."""
    # The path may hold bytes that are no text; they cannot be in a name, so nothing is lost.
    name = name.encode(errors="replace").decode()
    number = int(kind) if _NUMBER.fullmatch(kind) else kind.encode(errors="replace").decode()
    return {
        "Status": status,
        "TC": False,
        "RD": False,
        "RA": False,
        "AD": False,
        "CD": False,
        "Question": [{"name": name, "type": number}],
        "Answer": [{"name": name, "type": number, "TTL": 0, "data": address} for address in addresses],
        "Additional": [],
        "edns_client_subnet": "0.0.0.0/0",
    }


def _json(document: dict[str, object], content_type: str = "application/json", status: int = 200) -> web.Response:
    body = msgspec.json.encode(document)
    return web.Response(body=body, status=status, content_type=content_type, charset="utf-8")


async def _stream(request: web.BaseRequest, pieces: Iterator[bytes]) -> web.StreamResponse:
    """Send the pieces as they are made, so that a large table stalls nobody."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
        await asyncio.sleep(0)
    await response.write_eof()
    return response
