"""From a listener's socket to who serves the client: what stands on a connection until that is known.

That is, in this order and as far as a listener has it: the header of the PROXY protocol, the TLS handshake, the
choice between versions of HTTP. Owns listeners and connections that are not through; does not own those that are
served.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from time import monotonic

from router.config.schema import Config
from router.frontend.connection import LINGER_S, FrontendOptions, Served
from router.frontend.preface import Chosen, PrefaceConnection
from router.frontend.proxy_protocol import HeaderConnection, Peer
from router.handshake_log import HandshakeLog
from router.log import Logger
from router.sync import Listener
from router.tls import internal_context
from router.tls_front import FrontTls
from router.tls_stream import TlsStream

ProtocolFactory = Callable[[], asyncio.BufferedProtocol]
"""Makes what serves an accepted connection."""
Serve = Callable[..., Chosen]
"""The same, given whether it came over TLS, the address a balancer announced, and whether it is to be HTTP/2."""
Accept = Callable[..., Chosen | PrefaceConnection | TlsStream]
"""Makes what stands directly on an accepted connection, given the address a balancer announced, if any."""
Handshaken = Callable[[TlsStream], asyncio.BufferedProtocol]
"""Makes what serves a connection once its handshake is done."""
Failed = Callable[[TlsStream, BaseException], None]
"""Called when a handshake has failed."""

_BACKLOG = 4096
_HANDSHAKE_S = 10.0
"""A client has this long for its TLS handshake."""


class Acceptor:
    """Accepts, as long as its data plane lives.

    Args:
        front: of the TLS listeners for clients outside; None if there are none.
        options: of the connections.
        serving: makes what serves the clients of a listener, given whether it is for workloads, and its port.
        clients: holds connections as long as they wait for the choice of a version.

    Attributes:
        headers: connections whose PROXY protocol header may still come.
        handshakes: those that are not done, and those that failed and whose client may still be reading why; with
            the monotonic second until which they have time.

    Raises `TlsError`.
    """

    def __init__(
        self,
        config: Config,
        logger: Logger,
        front: FrontTls | None,
        options: FrontendOptions,
        serving: Callable[[bool, int], Serve],
        clients: set[Served],
    ) -> None:
        self.headers: set[HeaderConnection] = set()
        self.handshakes: dict[TlsStream, float] = {}
        self._config = config
        self._logger = logger
        self._handshake_log = HandshakeLog(logger)
        self._front = front
        self._options = options
        self._serving = serving
        self._clients = clients
        self._internal_context = _internal_context(config)
        self._announcers = tuple(ipaddress.ip_network(each, strict=False) for each in config.enable_proxy_from)
        self._listening: list[tuple[asyncio.Server, socket.socket, ProtocolFactory]] = []
        self._accepting: set[asyncio.Task[None]] = set()

    async def listen(self, listeners: list[Listener]) -> None:
        """Accept on inherited sockets. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        for listener in listeners:
            sock = socket.socket(fileno=listener.fd)
            sock.setblocking(False)
            factory = self.factory(listener.kind, sock.getsockname()[1])
            server = await loop.create_server(factory, sock=sock, backlog=_BACKLOG)
            self._listening.append((server, sock, factory))

    def factory(self, kind: str, port: int) -> ProtocolFactory:
        """Return what makes the protocol of each connection accepted on a listener."""
        inside = kind.startswith("internal-")
        serve = self._serving(inside, port)
        if kind.endswith("https"):
            accept = self._accept_tls(serve, self._internal_tls if inside else self._front_tls)
        else:
            accept = self._accept_plain(serve, self._config.enable_http2_cleartext and not inside)
        if not self._config.enable_proxy or inside:
            return accept
        return lambda: HeaderConnection(accept, self._header_refused, self._announcers, self.headers)

    def _accept_plain(self, serve: Serve, either: bool) -> Accept:
        """Return what accepts plain connections; ``either``: of both HTTP versions."""

        def accept(peer: Peer | None = None) -> Chosen | PrefaceConnection:
            if either:
                return PrefaceConnection(lambda http2: serve(False, peer, http2), self._clients, self._options)
            return serve(False, peer)

        return accept

    def _accept_tls(self, serve: Serve, make_tls: Callable[[Handshaken, Failed], TlsStream]) -> Accept:
        """Return what accepts TLS connections; the handshake chooses the HTTP version."""

        def accept(peer: Peer | None = None) -> TlsStream:
            def handshake_done(stream: TlsStream) -> asyncio.BufferedProtocol:
                self.handshakes.pop(stream, None)
                return serve(True, peer, stream.ssl_object.selected_alpn_protocol() == "h2")

            def handshake_failed(stream: TlsStream, error: BaseException) -> None:
                if stream.is_closing():
                    self.handshakes.pop(stream, None)
                else:
                    self.handshakes[stream] = monotonic() + LINGER_S
                name = stream.get_extra_info("peername")
                self._handshake_log.failed(peer or (name and name[:2]), stream.server_name, error)

            stream = make_tls(handshake_done, handshake_failed)
            self.handshakes[stream] = monotonic() + _HANDSHAKE_S
            return stream

        return accept

    def _header_refused(self, peer_ip: str, reason: str) -> None:
        self._logger.debug("proxy-protocol-refused", peer=peer_ip, error=reason)

    def _front_tls(self, accept: Handshaken, failed: Failed) -> TlsStream:
        front = self._front
        assert front is not None
        return TlsStream(
            front.context, accept, failed, check=front.check, choice=front.choice(), protocols=front.protocols
        )

    def _internal_tls(self, accept: Handshaken, failed: Failed) -> TlsStream:
        assert self._internal_context is not None
        return TlsStream(self._internal_context, accept, failed)

    def stop(self) -> None:
        """Stop accepting, once everybody has been let in who waits at this moment.

        While control lives it holds the sockets open, and who comes later waits for another worker. But this may
        be the last process that has them, and closing them then resets whoever still waits.
        """
        for server, sock, factory in self._listening:
            self._let_in(sock, factory)
            server.close()
        self._listening.clear()

    def _let_in(self, sock: socket.socket, factory: ProtocolFactory) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = sock.accept()
            except OSError:  # Nobody is left, or no descriptor to let anybody in with.
                return
            task = loop.create_task(_attend(factory, connection))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    def sweep(self, now: float) -> None:
        """Give up whose time is over. ``now`` is monotonic seconds."""
        for header in list(self.headers):
            if now >= header.deadline:
                header.expire()
        for stream, deadline in list(self.handshakes.items()):
            if now >= deadline or stream.is_closing():
                del self.handshakes[stream]
                stream.abort()

    def is_busy(self) -> bool:
        """Whether there are connections of which it is not known who serves them."""
        return bool(self.headers or self.handshakes or self._accepting)

    def abort(self) -> None:
        """Cut them."""
        for header in list(self.headers):
            header.abort()
        for stream in list(self.handshakes):
            stream.abort()


def _internal_context(config: Config) -> ssl.SSLContext | None:
    wanted = config.internal.enabled and config.internal.proxy.https_ports
    return internal_context(config) if wanted else None


async def _attend(factory: ProtocolFactory, connection: socket.socket) -> None:
    connection.setblocking(False)
    await asyncio.get_running_loop().connect_accepted_socket(factory, connection)
