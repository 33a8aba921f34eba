"""The commands around a service file: run it, check it, or show what it would announce."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from router.registrar.announced import encoded
from router.registrar.bus import BusUnavailable, redacted
from router.registrar.checks import carry_out
from router.registrar.dialect import INTERNAL, PUBLIC
from router.registrar.route_files import RouteFiles
from router.registrar.service import Service
from router.registrar.service_config import ConfigProblems, ConfiguredRoute, Defaults, ServiceConfig
from router.registrar.service_reader import read_service
from router.registrar.stopping import stop_on_signals, unless_stopped
from router.wire.discovery import NameRegistration

Say = Callable[[str], None]


class ServiceCommand:
    """A service file, read at the start and whenever SIGHUP says so.

    Args:
        instance_id: announced with every route.
        say: gets lines for people.
        complain: gets problems.

    Raises:
        ConfigProblems: the file cannot be used.
    """

    def __init__(self, file: Path, instance_id: str, *, say: Say, complain: Say) -> None:
        self._file = file
        self._instance_id = instance_id
        self._say = say
        self._complain = complain
        self._config, self._notes = read_service(file, instance_id)
        self._defaults = _defaults(self._config, instance_id)

    def check(self) -> int:
        """Say what the file holds; return 0, or 1 if one of its dynamic files has mistakes."""
        routes, status = self._all_routes()
        for configured in routes:
            self._say(_described(configured))
        self._say(f"{self._file}: {len(routes)} routes, {len(self._config.routes)} of them in the file itself")
        return status

    def dry_run(self) -> int:
        """Carry out every check once and show what would be published, without NATS; return as `check` does."""
        routes, status = self._all_routes()

        async def rehearse() -> list[str]:
            return await asyncio.gather(*(_rehearsed(configured) for configured in routes))

        for lines in asyncio.run(rehearse()):
            self._say(lines)
        return status

    def _all_routes(self) -> tuple[list[ConfiguredRoute], int]:
        """Return the routes of all files, notes and problems told, and the exit status they make."""
        look = RouteFiles(self._config.dynamic_globs, self._defaults).look()
        for note in [*self._notes, *look.notes]:
            self._say(f"note: {note}")
        for problem in look.problems:
            self._complain(problem)
        dynamic = [configured for found in look.routes.values() for configured in found]
        return [*self._config.routes, *dynamic], 1 if look.problems else 0

    def run(self, *, connect_timeout_s: float, pidfile: Path | None) -> int:
        """Announce until one of `stopping.SIGNALS`, then withdraw everything; SIGHUP reads the file anew.

        Returns:
            0; or 1 if no NATS server could be connected to in time, the status address cannot be had, or the file
            for the process id cannot be written.
        """
        try:
            if pidfile is not None:
                pidfile.write_text(f"{os.getpid()}\n")
        except OSError as error:
            self._complain(f"{pidfile}: {error.strerror}")
            return 1
        return asyncio.run(self._run(connect_timeout_s))

    async def _run(self, connect_timeout_s: float) -> int:
        changed = asyncio.Event()
        stop = stop_on_signals(changed.set)
        for note in self._notes:
            self._say(f"note: {note}")
        service = Service(
            self._file, self._config, self._defaults, say=self._say, connect_timeout_s=connect_timeout_s
        )
        try:
            # Stopping must not have to wait for the first connection.
            if not await unless_stopped(service.__aenter__(), stop):
                return 0
        except (BusUnavailable, OSError) as error:
            self._complain(str(error))
            return 1
        reloading = asyncio.get_running_loop().create_task(self._reload_when(changed, service))
        try:
            self._say(_welcome(self._config))
            await stop.wait()
        finally:
            reloading.cancel()
            await asyncio.wait([reloading])
            await service.__aexit__()
        self._say("unregistered everything")
        return 0

    async def _reload_when(self, changed: asyncio.Event, service: Service) -> None:
        while True:
            await changed.wait()
            changed.clear()
            try:
                await self._reload(service)
            except Exception as error:
                # A mistake of this program; the routes there are stay announced.
                self._complain(f"{self._file}: not reloaded: {type(error).__name__}: {error}")

    async def _reload(self, service: Service) -> None:
        try:
            config, notes = await asyncio.to_thread(read_service, self._file, self._instance_id)
        except ConfigProblems as error:
            for problem in error.problems:
                self._complain(problem)
            self._complain(f"{self._file}: not reloaded, everything goes on as before")
            return
        for note in notes:
            self._say(f"note: {note}")
        self._say(f"reloaded: {_welcome(config)}")
        service.reload(config, _defaults(config, self._instance_id))


def _defaults(config: ServiceConfig, instance_id: str) -> Defaults:
    return Defaults(config.host, config.availability_zone, instance_id)


def _welcome(config: ServiceConfig) -> str:
    servers = ", ".join(redacted(server) for server in config.nats)
    dynamic = f" and those in {', '.join(config.dynamic_globs)}" if config.dynamic_globs else ""
    return f"keeping {len(config.routes)} routes{dynamic} announced to {servers}"


def _described(configured: ConfiguredRoute) -> str:
    route = configured.route
    names, where = (
        (route.names, route.ip)
        if isinstance(route, NameRegistration)
        else (route.uris, f"{route.host}:{route.tls_port or route.port}")
    )
    check = f", check {configured.check.name}" if configured.check else ""
    return f"{configured.name}: {', '.join(names)} -> {where}, every {configured.interval_s:g} s{check}"


async def _rehearsed(configured: ConfiguredRoute) -> str:
    """Return what would be published for a route after one check; its time stamp is left out."""
    subjects = INTERNAL if isinstance(configured.route, NameRegistration) else PUBLIC
    subject, found = subjects.register, "no check"
    if configured.check is not None:
        outcome = await carry_out(configured.check)
        found = f"check {configured.check.name}: {outcome.reason or 'healthy'}"
        subject = subjects.register if outcome.healthy else subjects.unregister
    return f"{configured.name}: {found}\n  {subject} {encoded(configured.route).decode()}"
