"""An agent on the other end of the wire: a socket that dropsonde envelopes are sent to."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from router.metrics import Agent
from router.wire.dropsonde import messages

Envelope = messages(opaque=False)["Envelope"]


class HearingAgent:
    """Hears datagrams.

    Attributes:
        receiving: the socket; closed, nobody listens any more.
    """

    def __init__(self, receiving: socket.socket) -> None:
        self.receiving = receiving
        self.port: int = receiving.getsockname()[1]

    def sender(self) -> Agent:
        """Return what sends to it; the caller closes that."""
        return Agent(f"127.0.0.1:{self.port}")

    def heard(self) -> list[Any]:
        """Everything that has arrived; loopback delivers within the sender's call."""
        found = []
        while True:
            try:
                found.append(Envelope.FromString(self.receiving.recv(65536)))
            except BlockingIOError:
                return found


@contextlib.contextmanager
def hearing_agent(port: int = 0) -> Iterator[HearingAgent]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
        receiving.bind(("127.0.0.1", port))
        receiving.setblocking(False)
        yield HearingAgent(receiving)
