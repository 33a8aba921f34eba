"""The metrics listener: ``/metrics`` on 127.0.0.1, over mutual TLS if a certificate is configured.

Owns the socket and the answer; does not own what there is to tell (`figures`, `families`).
"""

import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web

from router.config.sections import Meters, Prometheus
from router.control.admin import QUIET, not_found
from router.control.exposition import CONTENT_TYPE, render
from router.control.families import families
from router.control.figures import Figures
from router.control.listeners import listen_alone
from router.control.processes import Processes, runtime
from router.http_server import set_up
from router.log import Logger
from router.tls import TlsError

ADDRESS = "127.0.0.1"
IDLE_S = 75.0
"""A Prometheus server asks every minute at most, and keeps its connection that long."""


class MetricsServer:
    """Answers Prometheus servers; lives until control exits.

    Args:
        logger: parent of this component's logger.
        refresh: brings the figures up to date before they are told.
    """

    def __init__(
        self, figures: Figures, logger: Logger, refresh: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._figures = figures
        self._refresh = refresh
        self._logger = logger.child("metricsreporter")
        self._processes = Processes()
        self._meters = Meters()
        self._context: ssl.SSLContext | None = None
        self._runner: web.ServerRunner | None = None

    async def start(self, settings: Prometheus) -> int:
        """Listen. Returns the port, which is logged too.

        Raises:
            ListenError: the port cannot be had.
            TlsError: a certificate cannot be used.
        """
        self._meters = settings.meters
        context = metrics_context(settings)
        if context is not None:
            self._context = context
            context.sni_callback = self._switch_context
        listening = listen_alone("prometheus.port", ADDRESS, settings.port)
        port = int(listening.getsockname()[1])
        self._runner = web.ServerRunner(
            web.Server(self._answer, access_log=None, logger=QUIET, keepalive_timeout=IDLE_S)
        )
        await set_up(self._runner)
        await web.SockSite(self._runner, listening, ssl_context=context).start()
        self._logger.info("prometheus-started", address=f"{ADDRESS}:{port}", tls=context is not None)
        return port

    def reload(self, settings: Prometheus) -> None:
        """Show other buckets and another certificate from now on. Raises `TlsError`, and then nothing changes."""
        context = metrics_context(settings) if self._context is not None else None
        self._meters = settings.meters
        self._context = context

    async def close(self) -> None:
        """Close the listener and its connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def text(self) -> bytes:
        """Return all metrics as they are now."""
        reading = self._figures.read()
        processes = self._processes.read(self._figures.pids)
        return render([*families(reading, self._meters, processes, self._figures.failures), *runtime()])

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/metrics":
            return not_found()
        if self._refresh is not None:
            await self._refresh()
        response = web.Response(body=self.text(), headers={"Content-Type": CONTENT_TYPE})
        response.enable_compression()
        return response

    def _switch_context(self, connection: ssl.SSLObject, server_name: str | None, _: ssl.SSLContext) -> None:
        # The listener holds on to its first context; what each new connection uses is decided here.
        if self._context is not None:
            connection.context = self._context


def metrics_context(settings: Prometheus) -> ssl.SSLContext | None:
    """Return the context of the metrics listener: who reads shows a certificate. None if no certificate is set.

    Raises:
        TlsError: a file cannot be used; the message names its key.
    """
    if not settings.cert_path:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(settings.cert_path, settings.key_path, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        paths = f"{settings.cert_path}, {settings.key_path}"
        raise TlsError(f"prometheus.cert_path, prometheus.key_path: {paths}: {error}") from error
    try:
        context.load_verify_locations(cafile=settings.ca_path)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise TlsError(f"prometheus.ca_path: {settings.ca_path}: {error}") from error
    return context


def _no_password() -> str:
    raise ValueError("the private key is encrypted")
