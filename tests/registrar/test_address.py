"""This machine's own address, as announced when none is given."""

import ipaddress

from router.registrar.address import own_address


def test_own_address_is_an_address() -> None:
    assert ipaddress.ip_address(own_address()).version == 4
