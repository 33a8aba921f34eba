"""What tests of control share beyond what all tests do."""

from collections.abc import AsyncIterator

import nats
import pytest
from nats.aio.client import Client

from router.control import nats_link
from tests.support.nats import Connect, NatsServer


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for seconds is no server that does not answer."""
    monkeypatch.setattr(nats_link, "CONNECT_TIMEOUT_S", 30.0)


@pytest.fixture
async def connect(nats_server: NatsServer) -> AsyncIterator[Connect]:
    """Makes a client of `nats_server`, as those who announce have one."""
    clients: list[Client] = []

    async def connected() -> Client:
        client = await nats.connect(f"nats://127.0.0.1:{nats_server.port}", allow_reconnect=False, error_cb=ignore)
        clients.append(client)
        return client

    yield connected
    for client in clients:
        await client.close()


async def ignore(_: Exception) -> None:
    """Servers are killed on purpose."""
