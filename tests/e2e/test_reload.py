"""A reload ends nothing that can go on."""

import signal

from tests.e2e.conftest import StartRouter, wait_everywhere
from tests.support.announce import Announcer
from tests.support.rawclient import RawClient
from tests.support.recorder import Conversation, MakeBackend
from tests.support.waiting import wait_until

UPGRADE = "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def echo(conversation: Conversation) -> None:
    """Answer probes plainly, and echo what comes through a tunnel in pieces of four bytes."""
    if not conversation.read_request().values("Upgrade"):
        conversation.answer()
        return
    conversation.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    while True:
        conversation.send(conversation.read(4))


def test_websocket_lives_on_through_a_reload(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router()
    announcer.register("app.test", port=make_backend(echo).port)
    wait_everywhere(router, "app.test")
    before = set(router.workers())
    with RawClient(router.port) as client:
        client.send(UPGRADE.encode())
        while client.read_line().strip():
            pass
        router.signal(signal.SIGHUP)
        wait_until(lambda: set(router.workers()) - before != set(), "a new generation serves")
        wait_until(lambda: len(set(router.workers()) & before) < len(before), "idle old workers have left")
        client.send(b"ping")
        assert client.read_exactly(4) == b"ping"
    wait_until(lambda: not set(router.workers()) & before, "the last old worker leaves with its tunnel")
