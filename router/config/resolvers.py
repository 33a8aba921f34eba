"""How a DNS resolver is written in the configuration.

Owns the form ``address`` or ``address:port``; does not own asking it.
"""

import ipaddress
import re

PORT = 53
_BRACKETED = re.compile(r"\[([^]]*)\](?::(.+))?")


def parse_resolver(text: str) -> tuple[str, int]:
    """Return address and port; IPv6 with a port is written ``[::1]:53``.

    Raises `ValueError` for anything else; names are refused, for nobody could resolve them.
    """
    address, port = text, str(PORT)
    if bracketed := _BRACKETED.fullmatch(text):
        address, port = bracketed[1], bracketed[2] or port
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise ValueError(f"not an IP address with or without a port: {text!r}") from None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"not a port number from 1 to 65535: {text!r}")
    return str(ip), int(port)
