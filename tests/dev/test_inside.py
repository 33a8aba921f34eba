"""Which address plays what; that it all works together is shown in tests/e2e/test_dev.py."""

import ipaddress
from collections.abc import Sequence

from router.dev.inside import BACKEND, CALLERS, NETWORK, ROUTER, Inside, chosen, internal_section, workloads


def test_every_container_has_an_address_of_its_own_in_the_network() -> None:
    containers = workloads(instances=3, app_port=5000, generation=7)
    addresses = [each.ip for each in containers]
    assert len(set(addresses)) == len(containers) == len(CALLERS) + 3
    assert all(ipaddress.ip_address(address) in ipaddress.ip_network(NETWORK) for address in addresses)
    assert ROUTER not in addresses


def test_only_the_backend_exposes_a_port() -> None:
    exposed = {(each.app, each.ports) for each in workloads(instances=2, app_port=5001, generation=7)}
    assert exposed == {("front", ()), ("other", ()), (BACKEND, (5001,))}


def test_ports_are_asked_for_where_they_are_used() -> None:
    asked: list[tuple[int, list[str], bool]] = []

    def free_port(preferred: int, addresses: Sequence[str], taken: Sequence[int], *, udp: bool = False) -> int:
        assert taken == ([1, 2] if "127.0.0.1" in addresses else [2])
        asked.append((preferred, list(addresses), udp))
        return preferred + 1

    assert chosen(free_port, 2, [1, 2], [2]) == Inside(http_port=8081, dns_port=1054, api_port=4003, app_port=5001)
    assert asked == [
        (8080, [ROUTER], False),
        (1053, [ROUTER], True),
        (4002, ["127.0.0.1"], False),
        (5000, ["127.0.20.10", "127.0.20.11"], False),
    ]


def test_policies_can_be_changed_only_with_the_token() -> None:
    assert internal_section(Inside(1, 2, 3, 4), "token")["policy_api"] == {"port": 3, "admin_token": "token"}
