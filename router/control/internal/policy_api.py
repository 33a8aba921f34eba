"""The listeners of the policy API: the external one for people, the internal one for agents on container hosts.

Owns their sockets and TLS; does not own what is answered (`policy_external`, `policy_internal`). One law: the
external API is never open beyond loopback without something to know callers by, whoever wrote the configuration.
"""

import ipaddress
import logging
import ssl
import time
from collections.abc import Callable

from aiohttp import web

from router.config import internal
from router.control.internal.hub import InternalHub
from router.control.internal.policy_auth import Authenticator
from router.control.internal.policy_checks import SpaceDirectory, WorkloadSpaces
from router.control.internal.policy_external import MAX_BODY_BYTES, ExternalApi
from router.control.internal.policy_internal import InternalApi
from router.control.internal.policy_keys import TokenKeyError, TokenKeys
from router.control.internal.policy_store import PolicyStore
from router.control.internal.server_tls import server_context
from router.control.listeners import ListenError, listen_alone
from router.http_server import set_up
from router.log import Logger
from router.tls import TlsError

IDLE_S = 60.0
"""A kept connection without a request is closed after this time."""
MAX_HEADER_BYTES = 64 * 1024
"""Of one header: tokens that name many spaces are long."""

OUTCOMES = ("ok", "denied", "refused", "failed")
"""What became of a request: done; the caller is unknown or may not (401, 403); another 4xx; 5xx."""

_silent = logging.getLogger("router.policy-api")
"""For aiohttp, whose remarks on clients' mistakes have no place in the component log."""
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class PolicyApiError(Exception):
    """The policy API cannot start; the text names the key of the configuration."""


class PolicyApiCounters:
    """Requests since the start by outcome.

    Attributes:
        external: of the external API.
        internal: of the internal API.
    """

    __slots__ = ("external", "internal")

    def __init__(self) -> None:
        self.external = dict.fromkeys(OUTCOMES, 0)
        self.internal = dict.fromkeys(OUTCOMES, 0)


class PolicyApi:
    """Both listeners; lives as long as control.

    Args:
        config: the section ``internal.policy_api``; a port of 0 switches a listener off.
        store: where policies are kept.
        hub: says whether the policies can be relied on, and which workloads there are.
        logger: gets the audit lines.
        directory: knows apps and their spaces; by default the workloads that run.
        clock: monotonic, seconds.

    Attributes:
        counters: requests by outcome.
        port: of the external API once started, 0 while it is off.
        internal_port: of the internal API.
    """

    def __init__(
        self,
        config: internal.PolicyApi,
        store: PolicyStore,
        hub: InternalHub,
        logger: Logger,
        directory: SpaceDirectory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = PolicyApiCounters()
        self.port = 0
        self.internal_port = 0
        self._config = config
        self._store = store
        self._hub = hub
        self._logger = logger.child("policy-api")
        self._directory = directory or WorkloadSpaces(hub.table)
        self._clock = clock
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        """Open the listeners that are switched on.

        Raises:
            PolicyApiError: authentication is missing or unusable, or a certificate is; nothing is left open.
            ListenError: an address cannot be had; nothing is left open.
        """
        try:
            if self._config.port:
                self.port = await self._start_external()
            if self._config.internal_port:
                self.internal_port = await self._start_internal()
        except (TlsError, TokenKeyError) as error:
            await self.close()
            raise PolicyApiError(str(error)) from error
        except (ListenError, PolicyApiError):
            await self.close()
            raise

    async def close(self) -> None:
        """Close the listeners once the requests under way are answered; again is harmless."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        self.port = self.internal_port = 0

    async def _start_external(self) -> int:
        config = self._config
        check_exposure(config)
        context = None
        if config.cert_chain or config.private_key:
            context = server_context("internal.policy_api.cert_chain", config.cert_chain, config.private_key)
        authenticator = Authenticator(config, TokenKeys(config, self._logger))
        api = ExternalApi(
            config, self._store, self._hub.table, self._directory, authenticator, self._logger, self._clock
        )
        app = counting(api.application(), self.counters.external)
        return await self._open(app, config.port, "internal.policy_api.port", context)

    async def _start_internal(self) -> int:
        config = self._config
        if not config.internal_ca_certs:
            raise PolicyApiError("internal.policy_api.internal_ca_certs: the internal API needs the CA of clients")
        context = server_context(
            "internal.policy_api.internal_cert_chain",
            config.internal_cert_chain,
            config.internal_private_key,
            client_ca=config.internal_ca_certs,
        )
        api = InternalApi(self._store, self._hub.table, self._logger)
        app = counting(api.application(), self.counters.internal)
        return await self._open(app, config.internal_port, "internal.policy_api.internal_port", context)

    async def _open(self, app: web.Application, port: int, key: str, context: ssl.SSLContext | None) -> int:
        listening = listen_alone(key, self._config.address, port)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=_silent,
            # A body is what was sent: inflating it would let a small request become a large one.
            auto_decompress=False,
            keepalive_timeout=IDLE_S,
            max_field_size=MAX_HEADER_BYTES,
            shutdown_timeout=2.0,
        )
        await set_up(runner, max_body_bytes=MAX_BODY_BYTES)
        self._runners.append(runner)
        await web.SockSite(runner, listening, ssl_context=context).start()
        bound = int(listening.getsockname()[1])
        self._logger.info("policy-api-listening", key=key, address=self._config.address, port=bound)
        return bound


def counting(app: web.Application, counts: dict[str, int]) -> web.Application:
    """Let an application count its answers by outcome, and return it."""

    async def count(_: web.Request, answer: web.StreamResponse) -> None:
        counts[outcome(answer.status)] += 1

    app.on_response_prepare.append(count)
    return app


def outcome(status: int) -> str:
    """Return under which of `OUTCOMES` an answer is counted."""
    if status < 400:
        return "ok"
    if status in (401, 403):
        return "denied"
    return "refused" if status < 500 else "failed"


def check_exposure(config: internal.PolicyApi) -> None:
    """Raise `PolicyApiError` if the external API would be open to other machines without authentication."""
    if config.jwt_keys or config.jwks_file or config.admin_token:
        return
    try:
        if ipaddress.ip_address(config.address).is_loopback:
            return
    except ValueError:
        pass
    text = f"beyond loopback ({config.address}) the API needs jwt_keys, jwks_file or admin_token"
    raise PolicyApiError(f"internal.policy_api.address: {text}")
