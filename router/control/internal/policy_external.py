"""The external policy API: what people and the ``cf`` command line use to read and change policies.

Owns its paths and, for each, the order of the checks; does not own the checks. One law: version, then caller, then
scope, and only then is a body read, so strangers cost nothing.

Paths, statuses, bodies and headers are those of Cloud Foundry's policy server; the differences are ours on purpose
and marked where they are.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from router.config import internal
from router.control.internal import policy_answers as answers
from router.control.internal import policy_mapper as mapper
from router.control.internal.policy_auth import AuthenticationError, Authenticator, Caller
from router.control.internal.policy_checks import (
    ADMIN_SCOPES,
    WRITE_SCOPES,
    DirectoryError,
    Refusal,
    SpaceDirectory,
    apps_of,
    check_quota,
    check_scopes,
    check_spaces,
    visible,
)
from router.control.internal.policy_mapper import Version
from router.control.internal.policy_store import PolicyStore, PolicyStoreError
from router.log import Logger
from router.routing.access import InternalTable
from router.routing.internal_records import Policy

MAX_BODY_BYTES = 10 * 1024 * 1024
BODY_S = 30.0
"""A body must have come within this time."""
STORE_S = 10.0
"""A store that takes longer has failed: others wait for the same lock. What it did may still take effect."""
UNREADABLE = (web.HTTPException, web.RequestPayloadError, HttpProcessingError, OSError, TimeoutError)
"""All that reading a body may raise."""
AUDITED = 100
"""Policies of one request that the log names one by one."""

BASE = "/networking/{version}/external"


class Call(NamedTuple):
    """One request of a known caller, to a known version."""

    request: web.Request
    version: Version
    caller: Caller


Operation = Callable[[Call], Awaitable[web.StreamResponse]]


class ExternalApi:
    """Answers the external API's requests.

    Args:
        config: quota and self-service are used.
        store: where policies are kept.
        table: says whether the policies can be relied on.
        directory: knows the spaces of apps.
        authenticator: knows callers.
        logger: gets the audit lines.
        clock: monotonic, seconds.
    """

    def __init__(
        self,
        config: internal.PolicyApi,
        store: PolicyStore,
        table: InternalTable,
        directory: SpaceDirectory,
        authenticator: Authenticator,
        logger: Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._store = store
        self._table = table
        self._directory = directory
        self._authenticator = authenticator
        self._logger = logger
        self._clock = clock
        self._denials = answers.Denials(logger, clock)
        self._started = clock()
        self._change = asyncio.Lock()
        """Held from the quota's check to the end of the change, so that two requests cannot both fit in."""

    def application(self) -> web.Application:
        """Return what serves the API."""
        app = web.Application(middlewares=[answers.errors(self._logger)])
        app.on_response_prepare.append(answers.finish_headers(self._config.allowed_cors_domains))
        writers = () if self._config.enable_space_developer_self_service else WRITE_SCOPES
        routes: dict[str, dict[str, answers.Handler]] = {
            "/": {"GET": self._uptime},
            "/networking": {"GET": self._uptime},
            "/health": {"GET": self._health},
            f"{BASE}/policies": {
                "GET": self._guarded(self._list, writers),
                "POST": self._guarded(self._create, writers),
            },
            f"{BASE}/policies/delete": {"POST": self._guarded(self._delete, writers)},
            f"{BASE}/policies/cleanup": {"POST": self._guarded(self._clean_up, ADMIN_SCOPES)},
            f"{BASE}/tags": {"GET": self._guarded(self._tags, ADMIN_SCOPES)},
            f"{BASE}/whoami": {"GET": self._guarded(self._whoami, ADMIN_SCOPES)},
        }
        for path, handlers in routes.items():
            for method, handler in handlers.items():
                app.router.add_route(method, path, handler)
            if "GET" in handlers:
                app.router.add_route("HEAD", path, handlers["GET"])
            preflight = answers.preflight(",".join(handlers), self._config.allowed_cors_domains)
            app.router.add_route("OPTIONS", path, preflight)
        return app

    def _guarded(self, operation: Operation, scopes: Sequence[str]) -> answers.Handler:
        """Put before an operation the checks that all have; no scopes let every known caller in."""

        async def handler(request: web.Request) -> web.StreamResponse:
            subject = ""
            try:
                version = version_of(request)
                caller = self._authenticator.caller(request.headers)
                subject = caller.subject
                if scopes:
                    check_scopes(caller, scopes)
                return await operation(Call(request, version, caller))
            except (AuthenticationError, Refusal) as refusal:
                if refusal.status in (401, 403):
                    self._denials.note(request, subject, refusal.status, str(refusal))
                raise

        return handler

    # Anybody may ask these.

    async def _uptime(self, _: web.Request) -> web.StreamResponse:
        seconds = int(self._clock() - self._started)
        return answers.text(f"Network policy server, up for {duration_text(seconds)}\n")

    async def _health(self, _: web.Request) -> web.StreamResponse:
        if not self._table.policies_ready:
            return answers.error(500, "check database failed")
        return answers.text("")

    # Operations, each of a caller that has passed the checks of `_guarded`.

    async def _list(self, call: Call) -> web.StreamResponse:
        wanted = mapper.filter_from(call.request.query)
        found = [policy for policy in self._policies("database read failed") if wanted.wants(policy)]
        shown = await visible(call.caller, found, self._directory)
        return answers.text(mapper.listing(shown, call.version))

    async def _create(self, call: Call) -> web.StreamResponse:
        policies = await self._named(call, unreadable="failed reading request body")
        async with self._change:
            if not call.caller.is_admin:
                present = self._policies("check quota failed")
                check_quota(policies, present, self._config.max_policies_per_app_source)
            await self._store_change(self._store.add, policies, "database create failed")
        self._audit("policies-created", call, policies)
        return answers.text("{}")

    async def _delete(self, call: Call) -> web.StreamResponse:
        policies = await self._named(call, unreadable="invalid request body")
        async with self._change:
            await self._store_change(self._store.remove, policies, "database delete failed")
        self._audit("policies-deleted", call, policies)
        return answers.text("{}")

    async def _clean_up(self, call: Call) -> web.StreamResponse:
        self._check_writable()
        failed = "policies cleanup failed"
        async with self._change:
            policies = self._policies(failed)
            try:
                dead = await self._directory.dead(apps_of(policies))
            except DirectoryError as error:
                raise Refusal(500, failed) from error
            removed = [each for each in policies if each.source in dead or each.destination in dead]
            if removed:
                await self._store_change(self._store.remove, removed, failed)
        self._audit("policies-cleaned-up", call, removed)
        return answers.text(mapper.listing(removed))

    async def _tags(self, _: Call) -> web.StreamResponse:
        tags = sorted(self._store.tags.items(), key=lambda each: each[1])
        return answers.text(mapper.encode({"tags": [mapper.tag_entry(app, tag) for app, tag in tags]}))

    async def _whoami(self, call: Call) -> web.StreamResponse:
        return answers.text(mapper.encode({"subject": call.caller.subject}))

    # What operations have in common.

    def _policies(self, failed: str) -> list[Policy]:
        """Return all policies, or refuse: an empty list in their place would tell agents to close everything."""
        if not self._table.policies_ready:
            raise Refusal(500, failed)
        return self._store.policies

    async def _named(self, call: Call, *, unreadable: str) -> list[Policy]:
        """Return the policies that a request names, if the caller may change them."""
        self._check_writable()
        body = await read_body(call.request, unreadable)
        try:
            policies = mapper.parse(body, call.version)
        except mapper.MalformedPolicies as error:
            raise Refusal(400, str(error)) from error
        await check_spaces(call.caller, policies, self._directory)
        return policies

    def _check_writable(self) -> None:
        if not self._store.writable:
            raise Refusal(403, "policies are read from elsewhere and cannot be changed here")

    async def _store_change(
        self, change: Callable[[list[Policy]], Awaitable[None]], policies: list[Policy], failed: str
    ) -> None:
        try:
            async with asyncio.timeout(STORE_S):
                await change(policies)
        except (PolicyStoreError, TimeoutError) as error:
            text = str(error) or f"no answer within {STORE_S:g} s"
            self._logger.error("policy-store-failed", reason=failed, error=text)
            raise Refusal(500, failed) from error

    def _audit(self, event: str, call: Call, policies: list[Policy]) -> None:
        self._logger.info(
            event,
            subject=call.caller.subject,
            client=call.request.remote or "",
            count=len(policies),
            policies=mapper.summary(policies, AUDITED),
        )


async def read_body(request: web.Request, unreadable: str) -> bytes:
    """Return a request's body. Raises `Refusal` if it is too long, too slow or cut off."""
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except UNREADABLE as error:
        raise Refusal(400, unreadable) from error


def version_of(request: web.Request) -> Version:
    """Return the version in a request's path. Raises `Refusal` if there is no such version."""
    name = request.match_info["version"]
    try:
        return Version(name)
    except ValueError:
        raise Refusal(406, f"api version '{name}' not supported") from None


def duration_text(seconds: int) -> str:
    """Write a duration as Go does: ``1h2m3s``, ``2m3s``, ``3s``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
