import itertools
import subprocess
from typing import Any

import pytest

from router.routing.internal_records import Policy
from router.routing.nft import TABLE, Facts, host_routes, render
from tests.support.needs import needs

A, B, C, ROUTER = "10.255.1.2", "10.255.1.3", "10.255.2.4", "10.255.1.254"
IPV4_HEADING = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def facts(*policies: Policy, **changes: Any) -> Facts:
    made = Facts(
        workloads={A: "a", B: "b", C: "c"},
        policies=policies,
        networks=["10.255.0.0/16"],
        routers=[ROUTER],
        interfaces={},
    )
    return made._replace(**changes)


def elements(text: str, name: str) -> list[str]:
    """Return what is in a set of the rule set."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.strip() == f"set {name} {{":
            break
    body = itertools.takewhile(lambda line: line != "\t}", lines)
    return [line.strip(" \t,") for line in body if line.startswith("\t\t\t")]


def policy(
    source: str, destination: str, start: int = 80, end: int | None = None, protocol: str = "tcp"
) -> Policy:
    return Policy(source, destination, protocol, start, start if end is None else end)


def test_what_is_allowed_is_allowed_between_all_instances() -> None:
    text = render(facts(policy("a", "b", 5000, 5010), workloads={A: "a", B: "b", C: "b"}))
    assert elements(text, "allowed4") == [f"{A} . {B} . tcp . 5000-5010", f"{A} . {C} . tcp . 5000-5010"]
    assert elements(text, "allowed6") == []


def test_an_app_reaches_itself_only_from_instance_to_instance() -> None:
    text = render(facts(policy("a", "a"), workloads={A: "a", B: "a"}))
    assert elements(text, "allowed4") == [f"{A} . {B} . tcp . 80", f"{B} . {A} . tcp . 80"]


def test_ranges_that_meet_become_one() -> None:
    """A set cannot hold what overlaps; nft would refuse the whole."""
    policies = [policy("a", "b", 80, 90), policy("a", "b", 85), policy("a", "b", 91, 95), policy("a", "b", 97)]
    text = render(facts(*policies, policy("a", "b", 80, protocol="udp")))
    assert elements(text, "allowed4") == [f"{A} . {B} . tcp . {ports}" for ports in ("80-95", "97")] + [
        f"{A} . {B} . udp . 80"
    ]


def test_policies_of_apps_without_instances_are_left_out() -> None:
    assert elements(render(facts(policy("a", "elsewhere"), policy("nobody", "b"))), "allowed4") == []


def test_a_protocol_without_ports_is_left_out() -> None:
    assert elements(render(facts(policy("a", "b", protocol="icmp"))), "allowed4") == []


def test_pairs_that_this_host_never_forwards_between_are_left_out() -> None:
    policies = [policy("a", "c"), policy("b", "c"), policy("c", "a")]
    text = render(facts(*policies, interfaces={A: "s-a"}))
    assert elements(text, "allowed4") == [f"{A} . {C} . tcp . 80", f"{C} . {A} . tcp . 80"]


def test_each_family_has_its_own_sets() -> None:
    workloads = {A: "a", B: "b", "fd00::2": "a", "fd00::3": "b"}
    networks = ["10.255.0.0/16", "fd00::/64"]
    interfaces = {A: "s-a", "fd00::2": "s-a"}
    routers = [ROUTER, "fd00::fe"]
    text = render(
        facts(policy("a", "b"), workloads=workloads, networks=networks, interfaces=interfaces, routers=routers)
    )
    assert elements(text, "allowed4") == [f"{A} . {B} . tcp . 80"]
    assert elements(text, "allowed6") == ["fd00::2 . fd00::3 . tcp . 80"]
    assert elements(text, "sources6") == ['"s-a" . fd00::2']
    assert elements(text, "local6") == ["fd00::2"]
    assert elements(text, "routers6") == ["fd00::fe"]
    assert elements(text, "networks6") == ["fd00::/64"]
    assert elements(text, "interfaces") == ['"s-a"']


def test_networks_that_overlap_become_one() -> None:
    text = render(facts(networks=["10.255.1.0/24", "10.255.0.0/16", "10.254.0.0/16"]))
    assert elements(text, "networks4") == ["10.254.0.0/15"]


def test_only_interfaces_of_container_addresses_are_watched() -> None:
    text = render(facts(interfaces={A: "s-a", "192.0.2.1": "vpn0"}))
    assert elements(text, "interfaces") == ['"s-a"']
    assert elements(text, "sources4") == [f'"s-a" . {A}']


def test_what_is_no_network_is_an_error() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        render(facts(networks=["nonsense"]))


def test_host_routes_are_read_from_the_kernels_tables() -> None:
    ipv4 = IPV4_HEADING + (
        "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "eth0\t0900A8C0\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"
        "vtep\t0702FF0A\t0100A8C0\t0007\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"
        "s-a\t0201FF0A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"
        "s-b\t0301FF0A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"
    )
    zeros = "0" * 32
    ipv6 = (
        f"fd{'0' * 29}2 80 {zeros} 00 {zeros} 00000400 00000001 00000000 00000001 s-a\n"
        f"fd{'0' * 29}1 80 {zeros} 00 {zeros} 00000000 00000002 00000000 80200001 s-a\n"
        f"fe80{'0' * 28} 40 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001 s-a\n"
        f"ff{'0' * 30} 08 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001 s-a\n"
        f"{zeros[:-1]}1 80 {zeros} 00 {zeros} 00000000 00000002 00000000 80200001 lo\n"
        f"{zeros} 00 {zeros} 00 fe80{'0' * 27}1 00000400 00000001 00000000 00000003 eth0\n"
    )
    assert host_routes(ipv4, ipv6) == {A: "s-a", B: "s-b", "fd00::2": "s-a"}


def test_no_routes_at_all_are_none() -> None:
    assert host_routes(IPV4_HEADING, "") == {}


@pytest.mark.parametrize(
    "made",
    [
        facts(),
        facts(networks=[], routers=[], workloads={}),
        facts(
            policy("a", "b", 1, 65535), policy("b", "a", protocol="udp"), interfaces={A: "s-a", B: "s-b", C: "x.1"}
        ),
        facts(
            policy("a", "b"),
            workloads={A: "a", "fd00::2": "a", "fd00::3": "b"},
            networks=["10.255.0.0/16", "fd00::/64"],
            routers=["fd00::fe"],
            interfaces={"fd00::2": "s-a"},
        ),
    ],
    ids=["no policies", "nothing", "IPv4", "IPv6"],
)
def test_nft_takes_the_rules_first_and_again(made: Facts) -> None:
    text = render(made)
    unshare = [needs("unshare"), "--net", "--map-root-user"]
    checked = subprocess.run(
        [*unshare, needs("nft"), "-f", "-"], input=text + text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"table inet {TABLE}" in text
