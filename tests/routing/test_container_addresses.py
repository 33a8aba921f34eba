import pytest

from router.routing.container_addresses import ContainerAddresses

RULES = ContainerAddresses(
    ["10.255.0.0/16", "fd00::/64"], ["10.255.0.1", "10.255.9.0/24", "fd00::1"], ["10.255.0.53", "fd00::53"]
)
EVERYTHING = ContainerAddresses(["0.0.0.0/0", "::/0"])
LOCAL = ContainerAddresses(["127.1.0.0/16", "127.0.0.0/24", "::1/128"])


@pytest.mark.parametrize("ip", ["10.255.0.2", "10.255.255.255", "fd00::2"])
def test_address_in_a_container_network_can_be_a_containers(ip: str) -> None:
    assert RULES.problem(ip) == ""


@pytest.mark.parametrize(
    ("ip", "problem"),
    [
        ("10.254.0.2", "not in a container network"),
        ("8.8.8.8", "not in a container network"),
        ("127.0.0.1", "not in a container network"),
        ("169.254.169.254", "not in a container network"),
        ("fd01::1", "not in a container network"),
        ("10.255.0.1", "excluded by the configuration"),
        ("10.255.9.77", "excluded by the configuration"),
        ("fd00::1", "excluded by the configuration"),
        ("10.255.0.53", "an address of this router"),
        ("fd00::53", "an address of this router"),
        ("::ffff:10.255.0.2", "not in a container network"),
        ("container", "not an IP address"),
        ("", "not an IP address"),
    ],
)
def test_gateways_the_router_and_strangers_are_not_containers(ip: str, problem: str) -> None:
    assert RULES.problem(ip) == problem


@pytest.mark.parametrize(
    ("ip", "problem"),
    [
        ("127.0.0.1", "a loopback address"),
        ("127.1.2.3", "a loopback address"),
        ("::1", "a loopback address"),
        ("0.0.0.0", "not the address of one container"),
        ("::", "not the address of one container"),
        ("169.254.169.254", "not the address of one container"),
        ("fe80::1", "not the address of one container"),
        ("224.0.0.1", "not the address of one container"),
    ],
)
def test_network_that_spans_everything_does_not_make_every_address_a_containers(ip: str, problem: str) -> None:
    assert EVERYTHING.problem(ip) == problem


def test_loopback_network_that_is_named_is_meant_but_never_the_loopback_address_itself() -> None:
    assert LOCAL.problem("127.1.0.7") == ""
    assert LOCAL.problem("127.0.0.2") == ""
    assert LOCAL.problem("127.0.0.1") == "a loopback address"
    assert LOCAL.problem("::1") == "a loopback address"


def test_without_networks_nothing_is_a_containers() -> None:
    assert ContainerAddresses([]).problem("10.255.0.2")


def test_malformed_network_is_an_error() -> None:
    with pytest.raises(ValueError, match="has host bits set"):
        ContainerAddresses(["10.255.0.1/16"])
