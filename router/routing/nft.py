"""Policies as a rule set of nftables, for what passes neither the proxy nor DNS: container to container, directly.

Owns the text and what it means; does not own where its facts come from, nor loading it. One law: between addresses
of the container networks nothing passes that a policy does not allow, in either direction of a connection.

The rules belong on the host that forwards between containers. They

* drop packets whose source address is not that of the interface they come from, where a host route names it;
* let pass what belongs to a connection that a policy allows, looked up anew for every packet, so that a policy's
  removal cuts the connections it permitted;
* reject the rest, as closed ports do.

The whole is one transaction: the kernel goes from the old table to the new one at once.
"""

import ipaddress
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from router.routing.access import TCP, UDP
from router.routing.internal_records import Policy

TABLE = "router_policies"
"""Ours alone; other tables are not touched."""

_LOCAL = 0x80000000
"""RTF_LOCAL of the kernel's IPv6 routes."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Facts(NamedTuple):
    """What the rules are made from; addresses as `ipaddress` reads them."""

    workloads: Mapping[str, str]
    """App GUID of each container address."""
    policies: Collection[Policy]
    networks: Collection[str]
    """Networks that container addresses lie in."""
    routers: Collection[str]
    """Container-side addresses of routers, which check what they forward themselves."""
    interfaces: Mapping[str, str]
    """The interface a container address is behind, of those known on this host."""


class _Family(NamedTuple):
    """IPv4 and IPv6 have sets of their own, since an address has another length."""

    version: int
    keyword: str
    address_type: str
    protocol: str


_FAMILIES = (_Family(4, "ip", "ipv4_addr", "ipv4"), _Family(6, "ip6", "ipv6_addr", "ipv6"))


def render(facts: Facts) -> str:
    """Return the rule set, to be loaded by ``nft -f``.

    Raises:
        ValueError: something is not an address or network.
    """
    networks = [ipaddress.ip_network(network) for network in facts.networks]
    interfaces = {ip: name for ip, name in facts.interfaces.items() if _within(ipaddress.ip_address(ip), networks)}
    facts = facts._replace(interfaces=interfaces)
    lines = [
        f"add table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        *_set("interfaces", "ifname", [f'"{name}"' for name in sorted(set(interfaces.values()))]),
    ]
    for family in _FAMILIES:
        lines += _sets(family, facts)
    lines += _chains()
    return "\n".join([*lines, "}", ""])


def host_routes(ipv4: str, ipv6: str) -> dict[str, str]:
    """Return which interface a single address is behind, from the kernel's tables.

    Interfaces that lead anywhere else too are left out: they are not those of containers.

    Args:
        ipv4: text of ``/proc/net/route``.
        ipv6: text of ``/proc/net/ipv6_route``.
    """
    found: dict[str, str] = {}
    elsewhere = {"lo"}
    for network, is_direct, interface in (*_ipv4_routes(ipv4), *_ipv6_routes(ipv6)):
        if is_direct and network.prefixlen == network.max_prefixlen:
            found[str(network.network_address)] = interface
        else:
            elsewhere.add(interface)
    return {address: interface for address, interface in found.items() if interface not in elsewhere}


def _ipv4_routes(text: str) -> Iterator[tuple[Network, bool, str]]:
    """Yield destination, whether there is no gateway before it, and interface."""
    for fields in map(str.split, text.splitlines()[1:]):
        interface, destination, gateway, mask = (fields[index] for index in (0, 1, 2, 7))
        # The kernel writes addresses as numbers, in the byte order of its machine.
        address, bits = (int.from_bytes(bytes.fromhex(each), sys.byteorder) for each in (destination, mask))
        network = ipaddress.IPv4Network((address, bits.bit_count()))
        yield network, gateway == "0" * 8, interface


def _ipv6_routes(text: str) -> Iterator[tuple[Network, bool, str]]:
    for fields in map(str.split, text.splitlines()):
        destination, prefix, gateway, interface = (fields[index] for index in (0, 1, 4, 9))
        network = ipaddress.IPv6Network((bytes.fromhex(destination), int(prefix, 16)))
        # Every interface has the first two; the third are the host's own addresses.
        if not (network.is_link_local or network.is_multicast or int(fields[8], 16) & _LOCAL):
            yield network, gateway == "0" * 32, interface


def _sets(family: _Family, facts: Facts) -> Iterator[str]:
    """Yield everything of one family that the chains look up."""
    version, address = family.version, family.address_type
    networks = [network for text in facts.networks if (network := ipaddress.ip_network(text)).version == version]
    local = sorted(each for each in map(ipaddress.ip_address, facts.interfaces) if each.version == version)
    routers = sorted(each for each in map(ipaddress.ip_address, facts.routers) if each.version == version)
    yield from _set(f"networks{version}", address, map(str, _collapsed(networks)), interval=True)
    yield from _set(f"routers{version}", address, map(str, routers))
    yield from _set(f"local{version}", address, map(str, local))
    pairs = [f'"{facts.interfaces[str(each)]}" . {each}' for each in local]
    yield from _set(f"sources{version}", f"ifname . {address}", pairs)
    allowed = f"{address} . {address} . inet_proto . inet_service"
    yield from _set(f"allowed{version}", allowed, _allowed(version, facts), interval=True)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _collapsed(networks: Iterable[Network]) -> Iterable[Network]:
    """Return the networks without overlaps, which a set cannot hold."""
    return ipaddress.collapse_addresses(networks)  # type: ignore[type-var]


def _set(name: str, kind: str, elements: Iterable[str], *, interval: bool = False) -> Iterator[str]:
    yield f"\tset {name} {{"
    yield f"\t\ttype {kind}"
    if interval:
        yield "\t\tflags interval"
    listed = list(elements)
    if listed:
        yield "\t\telements = {"
        yield from (f"\t\t\t{element}," for element in listed)
        yield "\t\t}"
    yield "\t}"


def _allowed(version: int, facts: Facts) -> Iterator[str]:
    """Yield source, destination, protocol and ports of all that is allowed between workloads of one family."""
    addresses: dict[str, list[str]] = {}
    for text, app in facts.workloads.items():
        if ipaddress.ip_address(text).version == version:
            addresses.setdefault(app, []).append(text)
    for (source, destination, protocol), ranges in sorted(_ranges(facts.policies).items()):
        for start, end in ranges:
            ports = str(start) if start == end else f"{start}-{end}"
            for sender in sorted(addresses.get(source, ())):
                for receiver in sorted(addresses.get(destination, ())):
                    if _concerns_this_host(sender, receiver, facts.interfaces):
                        yield f"{sender} . {receiver} . {protocol} . {ports}"


def _concerns_this_host(sender: str, receiver: str, interfaces: Mapping[str, str]) -> bool:
    """Whether this host can ever forward between the two; without known interfaces, it may be any."""
    return sender != receiver and (not interfaces or sender in interfaces or receiver in interfaces)


def _ranges(policies: Iterable[Policy]) -> dict[tuple[str, str, str], list[tuple[int, int]]]:
    """Return the port ranges of each pair of apps and protocol, without overlaps: a set cannot hold those."""
    found: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for policy in sorted(policies):
        if policy.protocol not in (TCP, UDP):
            continue
        ranges = found.setdefault((policy.source, policy.destination, policy.protocol), [])
        if ranges and policy.start <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], policy.end))
        else:
            ranges.append((policy.start, policy.end))
    return found


def _chains() -> Iterator[str]:
    # Before connection tracking, so that what is forged never becomes part of a connection.
    yield "\tchain sources {"
    yield "\t\ttype filter hook prerouting priority raw; policy accept;"
    yield "\t\tmeta nfproto ipv6 ip6 saddr fe80::/10 accept"
    for family in _FAMILIES:
        pair = f"iifname . {family.keyword} saddr != @sources{family.version}"
        yield f"\t\tmeta nfproto {family.protocol} iifname @interfaces {pair} drop"
        yield f"\t\t{family.keyword} saddr @local{family.version} {pair} drop"
    yield "\t}"
    yield "\tchain forwarding {"
    yield "\t\ttype filter hook forward priority filter; policy accept;"
    for family in _FAMILIES:
        networks = f"@networks{family.version}"
        yield f"\t\t{family.keyword} saddr {networks} {family.keyword} daddr {networks} jump between_containers"
    yield "\t}"
    yield "\tchain between_containers {"
    for family in _FAMILIES:
        yield f"\t\t{family.keyword} saddr @routers{family.version} accept"
        yield f"\t\t{family.keyword} daddr @routers{family.version} accept"
    yield "\t\tmeta l4proto { icmp, ipv6-icmp } ct state related accept"
    for family in _FAMILIES:
        ip, allowed = family.keyword, f"@allowed{family.version}"
        # What answers is looked up the other way round: its connection was opened the allowed way.
        yield f"\t\tct direction original {ip} saddr . {ip} daddr . meta l4proto . th dport {allowed} accept"
        yield f"\t\tct direction reply {ip} daddr . {ip} saddr . meta l4proto . th sport {allowed} accept"
    yield "\t\tmeta l4proto tcp reject with tcp reset"
    yield "\t\treject with icmpx port-unreachable"
    yield "\t}"
