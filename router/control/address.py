"""Which of its addresses this machine is known by to others."""

import socket


def source_address() -> str:
    """Return the address a packet to an outside host would be sent from; ``127.0.0.1`` on an isolated machine.

    Nothing is sent: connecting a UDP socket only asks the routing table.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
