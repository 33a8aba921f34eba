import ipaddress

from router.control.address import source_address


def test_source_address_is_an_ipv4_address() -> None:
    assert ipaddress.IPv4Address(source_address())
