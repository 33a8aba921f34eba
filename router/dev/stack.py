"""The system of `router dev` while it runs: started in order, watched, and stopped to the last process.

Owns the processes and what their ends mean; does not own what is printed (`screen`). One law: an instance that
somebody kills stays dead, for seeing its traffic move on is what one kills it for.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, Protocol

import aiohttp

from router.dev.broker import greets, nats_command
from router.dev.child import Child
from router.dev.containers import docker_command, watcher_is_ready
from router.dev.inside import BACKEND, CALLERS, FRONT, NAME, ROUTER, Inside, backend_address
from router.dev.places import LOOPBACK
from router.dev.plan import INSTANCES, DevError, Plan
from router.dev.samples import hostname, instance_id
from router.view import Endpoint, ViewError, fetch, parse

NATS = "nats-server"
APPS = ("hello", "echo")
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 8.0
"""A router may take five seconds to end what is in flight."""

NATS_PAUSE_S = 0.3
"""Between the end of a NATS server and the next one, so that one that keeps dying costs little."""


class Screen(Protocol):
    """What the stack tells about."""

    def starting(self, what: str) -> None: ...

    def event(self, text: str) -> None: ...


class Instance(NamedTuple):
    """One running instance of a sample app, and where the router reaches it."""

    app: str
    number: int
    child: Child
    address: str


class Stack:
    """All processes; lives inside `running`. ``broken`` is done, with the reason, when it cannot go on."""

    def __init__(self, plan: Plan, screen: Screen) -> None:
        self.plan = plan
        self.instances: list[Instance] = []
        self.nats: Child | None = None
        self.router: Child | None = None
        self.cell: Child | None = None
        self.docker: Child | None = None
        self.broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._screen = screen
        self._children: list[Child] = []
        self._watchers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start everything and wait until every instance is reached through the router. Raises `DevError`."""
        for log in self.plan.state.glob("*.log"):
            log.write_bytes(b"")
        if self.plan.nats_server is not None:
            self._screen.starting("nats-server")
            self.nats = await self._start_nats()
            self._watch(self._keep_nats())
        elif not await self._nats_greets():
            raise DevError([f"no NATS server answers at {self.plan.nats_shown}"])
        self._screen.starting("router")
        self.router = await self._start_router()
        self._watch(self._router_must_live())
        self._screen.starting("sample apps")
        await self._start_samples()
        if self.plan.inside is not None:
            self._screen.starting("internal routing")
            await self._start_inside(self.plan.inside)
        if self.plan.options.docker:
            self._screen.starting("router docker")
            self.docker = await self._start_docker()

    async def stop(self) -> None:
        """End everything: the apps, which withdraw their routes, and the router; then NATS. Never raises."""
        for watcher in self._watchers:
            watcher.cancel()
        clients = [child for child in self._children if child.name != NATS]
        await asyncio.gather(*(child.stop(STOP_TIMEOUT_S) for child in clients))
        await asyncio.gather(*(child.stop(STOP_TIMEOUT_S) for child in self._children))

    def kill(self) -> None:
        """End everything now: what a second Ctrl-C asks for."""
        for child in self._children:
            child.kill()

    async def _spawn(self, name: str, command: list[str]) -> Child:
        child = await Child.start(name, command, self.plan.log(name))
        self._children.append(child)
        return child

    async def _start_nats(self) -> Child:
        plan = self.plan
        assert plan.nats_server is not None
        command = nats_command(plan.nats_server, LOOPBACK, plan.options.nats_port, plan.state / "nats")
        child = await self._spawn(NATS, command)
        await self._must(self._nats_greets, child)
        return child

    async def _start_router(self) -> Child:
        command = [sys.executable, "-m", "router", "run", "-c", str(self.plan.config_file)]
        child = await self._spawn("router", command)
        # Its table can be read a little before its traffic ports are open.
        async with aiohttp.ClientSession() as session:
            await self._must(lambda: self._answers(session), child)
        return child

    async def _start_samples(self) -> None:
        samples = {
            (app, number): await self._start_sample(app, number) for app in APPS for number in range(INSTANCES)
        }
        found: dict[str, Endpoint] = {}

        async def all_are_routed() -> bool:
            found.update(await asyncio.to_thread(self._endpoints))
            return all(instance_id(*key) in found for key in samples)

        for child in samples.values():
            await self._must(all_are_routed, child)
        for (app, number), child in samples.items():
            instance = Instance(app, number, child, found[instance_id(app, number)].address)
            self.instances.append(instance)
            self._watch(self._tell_end_of(instance))

    async def _start_inside(self, inside: Inside) -> None:
        agent = [sys.executable, "-m", "router.dev.cell", self.plan.nats_url, str(INSTANCES), str(inside.app_port)]
        self.cell = await self._spawn("cell", agent)
        self._watch(self._tell_end_of_cell(self.cell))
        for number in range(INSTANCES):
            child = await self._start_sample(BACKEND, number, inside.app_port)
            address = f"{backend_address(number)}:{inside.app_port}"
            self.instances.append(Instance(BACKEND, number, child, address))
            self._watch(self._tell_end_of(self.instances[-1]))
        for child in (self.cell, *(each.child for each in self.instances if each.app == BACKEND)):
            await self._must(self._inside_is_known, child)
        await self._allow_front(inside)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(local_addr=(CALLERS[FRONT], 0))
        ) as session:
            await self._must(lambda: self._front_is_answered(session, inside), self.cell)

    async def _start_docker(self) -> Child:
        state = self.plan.state
        child = await self._spawn("docker", docker_command(self.plan.nats_url, LOOPBACK, state))
        await self._must(lambda: watcher_is_ready(state), child)
        self._watch(self._tell_end_of_docker(child))
        return child

    async def _allow_front(self, inside: Inside) -> None:
        """Do what `router policy add` does, by doing it."""
        policy = [FRONT, BACKEND, "--port", str(inside.app_port), "-c", str(self.plan.config_file)]
        child = await self._spawn("policy", [sys.executable, "-m", "router", "policy", "add", *policy])
        how = await child.ended()
        if not child.succeeded:
            raise DevError(
                [f"`router policy add` {how}; the end of {child.log}:", *child.last_words().splitlines()]
            )

    async def _start_sample(self, app: str, number: int, port: int = 0) -> Child:
        command = [sys.executable, "-m", "router.dev.samples", app, str(number), self.plan.nats_url, str(port)]
        return await self._spawn(f"{app}/{number}", command)

    async def _must(self, condition: Callable[[], Awaitable[bool]], child: Child) -> None:
        if not await self._until(condition, child):
            ended = (
                f"{child.name} {await child.ended()}" if not child.running else f"{child.name} did not get ready"
            )
            raise DevError([f"{ended}; the end of {child.log}:", *child.last_words().splitlines()])

    async def _until(self, condition: Callable[[], Awaitable[bool]], child: Child) -> bool:
        """Wait for a condition of another process; false if the child ended or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT_S):
                while child.running:
                    if await condition():
                        return True
                    await asyncio.sleep(0.03)
        return False

    async def _nats_greets(self) -> bool:
        return await greets(self.plan.nats_host, self.plan.nats_port)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        # A host that nobody has announced: 404 shows that a worker serves.
        url = f"http://{LOOPBACK}:{self.plan.options.http_port}/"
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=2)
            async with session.get(url, headers={"Host": "nobody.localhost"}, timeout=timeout) as response:
                return response.status == 404
        return False

    def _endpoints(self) -> dict[str, Endpoint]:
        """Return what the router has, by instance id."""
        with contextlib.suppress(ViewError):
            routes = parse(fetch(self.plan.routes))
            wanted = [routes.get(hostname(app), []) for app in APPS]
            return {endpoint.private_instance_id: endpoint for endpoints in wanted for endpoint in endpoints}
        return {}

    async def _inside_is_known(self) -> bool:
        """Tell whether the router knows all containers and names, and relies on its policies."""
        with contextlib.suppress(ViewError):
            state = json.loads(await asyncio.to_thread(fetch, self.plan.internal_state))
            known = len(state["identities"]), len(state["names"].get(NAME, []))
            return (
                known == (len(CALLERS) + INSTANCES, INSTANCES) and state["policies_ready"] and state["names_warm"]
            )
        return False

    async def _front_is_answered(self, session: aiohttp.ClientSession, inside: Inside) -> bool:
        url = f"http://{ROUTER}:{inside.http_port}/"
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=2)
            async with session.get(url, headers={"Host": NAME}, timeout=timeout) as response:
                return response.status == 200
        return False

    def _watch(self, watching: Coroutine[Any, Any, None]) -> None:
        self._watchers.add(asyncio.get_running_loop().create_task(watching))

    async def _tell_end_of(self, instance: Instance) -> None:
        how = await instance.child.ended()
        others = [each for each in self.instances if each.app == instance.app and each.child.running]
        left = ", ".join(each.child.name for each in others)
        told = f"its traffic goes to {left}" if left else f"no instance of {instance.app} is left"
        self._screen.event(f"{instance.child.name} (pid {instance.child.pid}) {how}: {told}")

    async def _tell_end_of_cell(self, cell: Child) -> None:
        how = await cell.ended()
        told = "routers believe for two minutes what it said, then its containers are nobody's"
        self._screen.event(f"{cell.name} (pid {cell.pid}) {how}: {told}")

    async def _tell_end_of_docker(self, child: Child) -> None:
        how = await child.ended()
        self._screen.event(f"router docker (pid {child.pid}) {how}: its containers' routes will be forgotten")

    async def _router_must_live(self) -> None:
        assert self.router is not None
        how = await self.router.ended()
        self._break(f"the router {how}", self.router)

    async def _keep_nats(self) -> None:
        while True:
            assert self.nats is not None
            how = await self.nats.ended()
            told = f"nats-server (pid {self.nats.pid}) {how}"
            self._screen.event(f"{told}: the router keeps its table; starting another")
            await asyncio.sleep(NATS_PAUSE_S)
            try:
                self.nats = await self._start_nats()
            except DevError as error:
                return self._break(str(error), self.nats)
            self._screen.event(f"nats-server runs again (pid {self.nats.pid})")

    def _break(self, why: str, child: Child) -> None:
        if not self.broken.done():
            self.broken.set_result(f"{why}; the end of {child.log}:\n{child.last_words()}")


@contextlib.asynccontextmanager
async def running(plan: Plan, screen: Screen) -> AsyncIterator[Stack]:
    """Make the stack, which the caller starts, and stop whatever of it runs when the context is left."""
    stack = Stack(plan, screen)
    try:
        yield stack
    finally:
        await stack.stop()
