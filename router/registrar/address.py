"""The address under which others reach this machine, for announcers that were not told one."""

import socket


def own_address() -> str:
    """Return the IPv4 address this machine uses towards others; 127.0.0.1 if it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # A documentation address (RFC 5737): connecting a datagram socket chooses a route and sends nothing.
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
