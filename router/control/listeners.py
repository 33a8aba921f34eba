"""The sockets clients connect to: opened and kept by control, accepted on by the workers.

Owns binding, the claim on a port, and closing; does not own accepting, nor the moment of `listen`, which is a
worker's when it is told to serve. One law: for each listener every worker slot has a SO_REUSEPORT socket of its
own, and it lives as long as control does, so connections waiting in its queue outlive any worker.

A bound socket that does not listen refuses connections; so it is during ``start_response_delay_interval``.
"""

import errno
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from router import sync
from router.config.internal import Internal
from router.config.schema import Config


class ListenError(Exception):
    """A listener cannot be opened; the text names the configuration key, the address and the reason."""


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """What to open: ``kind`` is ``http`` or ``https``, ``key`` the configuration key that the port comes from."""

    kind: str
    key: str
    address: str
    port: int


def listener_specs(config: Config) -> list[ListenerSpec]:
    """Return the traffic listeners that the configuration asks for."""
    specs = []
    if not config.disable_http:
        specs.append(ListenerSpec("http", "port", config.listen_address, config.port))
    if config.enable_ssl:
        specs.append(ListenerSpec("https", "ssl_port", config.listen_address, config.ssl_port))
    if config.internal.enabled:
        specs += internal_listener_specs(config.internal)
    return specs


def internal_listener_specs(internal: Internal) -> list[ListenerSpec]:
    """Return the listeners that containers connect to."""
    proxy = internal.proxy
    kinds = (("http", proxy.http_ports), ("https", proxy.https_ports))
    return [
        ListenerSpec(f"internal-{kind}", f"internal.proxy.{kind}_ports", address, port)
        for address in internal.addresses
        for kind, ports in kinds
        for port in ports
    ]


class Listener:
    """One port that clients connect to: its claim and a socket for each worker slot.

    Attributes:
        shared: another process already listens here, and no router's control claims the port: the workers of a
            control that died, serving out their grace.
    """

    def __init__(
        self, spec: ListenerSpec, claim: socket.socket, sockets: list[socket.socket], *, shared: bool
    ) -> None:
        self.kind = spec.kind
        self.port: int = sockets[0].getsockname()[1]
        self.address = f"{spec.address or '*'}:{self.port}"
        self.shared = shared
        self._claim = claim
        self._sockets = sockets

    def for_slot(self, slot: int) -> sync.Listener:
        """Return the slot's listener as its worker gets to know it; the descriptor number is control's."""
        return sync.Listener(self._sockets[slot].fileno(), self.kind, self.address)

    def close(self) -> None:
        """Close control's copies. The port refuses connections once the workers have closed theirs."""
        for each in self._sockets:
            each.close()
        self._claim.close()


class Listeners:
    """All listeners of this router, from start to drain."""

    def __init__(self, listeners: list[Listener]) -> None:
        self._listeners = listeners

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._listeners)

    def for_slot(self, slot: int) -> list[sync.Listener]:
        return [listener.for_slot(slot) for listener in self._listeners]

    def close(self) -> None:
        """Close them all; again is harmless."""
        for listener in self._listeners:
            listener.close()


def open_listeners(specs: Iterable[ListenerSpec], slots: int) -> Listeners:
    """Bind every listener once for each slot. Raises `ListenError`, leaving nothing open."""
    opened: list[Listener] = []
    try:
        opened.extend(_open(spec, slots) for spec in specs)
    except ListenError:
        Listeners(opened).close()
        raise
    return Listeners(opened)


def _open(spec: ListenerSpec, slots: int) -> Listener:
    sockets: list[socket.socket] = []
    claim: socket.socket | None = None
    try:
        shared = _is_listened_on(spec)
        sockets.append(_bind(spec.address, spec.port, share=True))
        port = sockets[0].getsockname()[1]
        claim = _claim(spec, port)
        sockets.extend(_bind(spec.address, port, share=True) for _ in range(1, slots))
    except (OSError, ListenError) as error:
        for each in sockets:
            each.close()
        if claim is not None:
            claim.close()
        if isinstance(error, ListenError):
            raise
        raise ListenError(describe_bind_error(spec.key, spec.address, spec.port, error)) from error
    return Listener(spec, claim, sockets, shared=shared)


def _is_listened_on(spec: ListenerSpec) -> bool:
    """Tell whether some process listens there already; only one that shares the port lets the real bind pass."""
    try:
        _bind(spec.address, spec.port, share=False).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return True
    return False


def _claim(spec: ListenerSpec, port: int) -> socket.socket:
    """Claim the port against other routers: SO_REUSEPORT alone would let two of them share it in silence.

    The claim is an abstract unix socket, which the kernel drops with this process whatever ends it, and which
    workers do not inherit: orphans never keep a restarted control out.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0router-listener {spec.address or '*'}:{port}")
    except OSError as error:
        claim.close()
        if error.errno != errno.EADDRINUSE:
            raise
        where = f"{spec.address or '*'}:{port}"
        raise ListenError(f"{spec.key}: cannot listen on {where}: another router already does") from error
    return claim


def _bind(address: str, port: int, *, share: bool) -> socket.socket:
    if address:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return _bound(family, address, port, share=share)
    try:
        return _bound(socket.AF_INET6, "::", port, share=share)
    except OSError as error:
        # A kernel without IPv6, or one where it is switched off.
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
    return _bound(socket.AF_INET, "0.0.0.0", port, share=share)


def _bound(family: int, address: str, port: int, *, share: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound


def listen_alone(key: str, address: str, port: int) -> socket.socket:
    """Listen on an address that is this process's own, for control's APIs. Raises `ListenError` naming the key."""
    listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ListenError(describe_bind_error(key, address, port, error)) from error
    return listening


def describe_bind_error(key: str, address: str, port: int, error: OSError) -> str:
    """Say in one line which key asked for which address, and why it cannot be had."""
    return f"{key}: cannot listen on {address or '*'}:{port}: {error.strerror or error}"
