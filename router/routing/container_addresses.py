"""Which addresses can be a container's: the first question about everything announced for inside.

Owns the answer alone. One law: an address that many may share, or that is a machine's own, is never a container's,
because whatever is allowed to it would be allowed to all who send from it.
"""

import ipaddress
from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ContainerAddresses:
    """The rules of one configuration; immutable.

    Args:
        networks: CIDR texts; containers have addresses in these alone.
        excluded: addresses or CIDR texts in them that are not containers': gateways, NAT addresses, hosts.
        own: the router's own container-side addresses.

    Raises:
        ValueError: a text is no network.
    """

    def __init__(self, networks: Iterable[str], excluded: Iterable[str] = (), own: Iterable[str] = ()) -> None:
        self._networks = [ipaddress.ip_network(text) for text in networks]
        self._excluded = [ipaddress.ip_network(text) for text in excluded]
        self._own = {ipaddress.ip_address(text) for text in own}

    def problem(self, ip: str) -> str:
        """Return why this address is not a container's; empty if it is one.

        Args:
            ip: text of an address, normalised; anything else is no container's address either.
        """
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return "not an IP address"
        networks = [network for network in self._networks if address in network]
        if not networks:
            return "not in a container network"
        if address in self._own:
            return "an address of this router"
        if any(address in network for network in self._excluded):
            return "excluded by the configuration"
        if address.is_unspecified or address.is_multicast or address.is_link_local:
            return "not the address of one container"
        # A network that lies on loopback was meant, as on a machine without containers; one that spans it was not.
        if address.is_loopback and (
            str(address) in ("127.0.0.1", "::1") or not any(network.is_loopback for network in networks)
        ):
            return "a loopback address"
        return ""
