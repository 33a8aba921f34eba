"""Which addresses the router may dial for a route service (``route_services.egress_blocklist``).

Whoever may bind a route service makes the router dial a host of their choice. So what may be dialled is decided of
addresses, after the name was resolved, and the very address that was looked at is dialled: a name that resolves
anew to something else gains nothing (CVE-2026-22726).

The list is empty by default, as in Gorouter. Without one, services can be whatever the router itself can reach;
unless services are meant to be inside, block the router's own machine, link-local addresses with the cloud's
metadata server among them, private networks, and what stands for no single host::

    127.0.0.0/8  ::1/128  0.0.0.0/8  ::/128
    169.254.0.0/16  fe80::/10
    10.0.0.0/8  172.16.0.0/12  192.168.0.0/16  100.64.0.0/10  fc00::/7  64:ff9b::/96
    224.0.0.0/4  ff00::/8  255.255.255.255/32
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from router.backend.failure import BAD_GATEWAYS, NEVER, NOTHING, BackendFailure, FailureClass

Address = IPv4Address | IPv6Address

_LOOPBACK: dict[Address, Address] = {
    IPv4Address("0.0.0.0"): IPv4Address("127.0.0.1"),
    IPv6Address("::"): IPv6Address("::1"),
}
"""What the kernel dials for addresses that stand for no host."""

BLOCKED = FailureClass("egress-blocked", NEVER, NOTHING, NOTHING, 502, BAD_GATEWAYS)


def egress_filter(blocklist: Iterable[str]) -> Callable[[str], bool] | None:
    """Return what tells whether an address may be dialled, or None if the list is empty and all may.

    Args:
        blocklist: CIDR ranges. Raises `ValueError` if one is none.
    """
    networks = [ip_network(text, strict=False) for text in blocklist]
    if not networks:
        return None

    def allowed(address: str) -> bool:
        meant = _meant_by(ip_address(address))
        return not any(ip in network for ip in meant for network in networks)

    return allowed


def _meant_by(ip: Address) -> list[Address]:
    """Return an address and those that the kernel dials in its place: ::ffff:127.0.0.1 is 127.0.0.1 to it, and the
    unspecified address is loopback."""
    meant = [ip]
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        meant.append(ip.ipv4_mapped)
    return meant + [_LOOPBACK[each] for each in meant if each in _LOOPBACK]


async def connect_allowed(
    protocol: asyncio.BufferedProtocol,
    host: str,
    port: int,
    allowed: Callable[[str], bool] | None,
    resolved: Callable[[], None] = lambda: None,
) -> asyncio.Transport:
    """Connect to the first address of a host that may be dialled and can be.

    Args:
        allowed: whether an address may be dialled; None allows all.
        resolved: called once the addresses are known.

    Raises:
        BackendFailure: the host has no address that may be dialled.
        OSError: it cannot be resolved, or none of those addresses can be connected to.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(info[4][0]) for info in found]
    resolved()
    error: OSError | None = None
    for address in filter(allowed, addresses):
        try:
            transport, _ = await loop.create_connection(lambda: protocol, address, port)
            return transport
        except OSError as failure:
            error = error or failure
    if error is None:
        raise BackendFailure(BLOCKED, "connection to IP not allowed")
    raise error
