import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from router.config.sections import NatsHost
from router.control.nats_link import Link, LinkError, LinkOptions, dial
from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.support.ports import free_port


def no_error(error: Exception) -> None:
    raise AssertionError(repr(error))


@pytest.fixture
async def link(nats_server: NatsServer) -> AsyncIterator[Link]:
    made = await dial(NatsHost(hostname="127.0.0.1", port=nats_server.port), LinkOptions(), no_error)
    yield made
    await made.close()


async def test_messages_are_handled_one_at_a_time_in_order(link: Link) -> None:
    handled: list[bytes] = []
    running = 0

    async def handle(message: Msg) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        handled.append(message.data)
        running -= 1

    await link.subscribe("a.*", handle)
    for number in range(100):
        await link.publish("a.b", b"%d" % number)

    await eventually(lambda: len(handled) == 100, "all messages")
    assert handled == [b"%d" % number for number in range(100)]
    assert link.pending_messages == 0


async def test_lost_link_stays_lost_and_refuses_use(link: Link, nats_server: NatsServer) -> None:
    nats_server.kill()
    await link.wait_lost(20.0)
    nats_server.start()

    assert not link.is_up
    assert link.last_error
    with pytest.raises(LinkError, match=str(nats_server.port)):
        await link.publish("a", b"")
    with pytest.raises(LinkError):
        await link.subscribe("a", None)  # type: ignore[arg-type]


async def test_waiting_for_the_loss_of_a_good_link_ends_with_the_time_out(link: Link) -> None:
    await link.wait_lost(0.01)

    assert link.is_up


async def test_link_without_pings_is_a_link_like_any_other(nats_server: NatsServer) -> None:
    options = LinkOptions(ping_interval_s=0.0)
    link = await dial(NatsHost(hostname="localhost", port=nats_server.port), options, no_error)
    await link.publish("a", b"")

    assert link.is_up
    assert link.address == f"localhost:{nats_server.port}"
    await link.close()
    assert not link.is_up


@pytest.mark.parametrize("hostname", ["127.0.0.1", "::1", "no such host", ""])
async def test_failed_dial_names_the_server_as_configured(hostname: str) -> None:
    port = free_port()

    with pytest.raises(LinkError) as caught:
        await dial(NatsHost(hostname=hostname, port=port), LinkOptions(), no_error)
    assert str(caught.value).startswith(f"{hostname}:{port}: ")


async def test_server_that_closes_instead_of_answering_is_no_link() -> None:
    async def close_after_ping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload":1048576}\r\n')
        await reader.readuntil(b"PING\r\n")
        writer.close()

    async with await asyncio.start_server(close_after_ping, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(LinkError) as caught:
            await dial(NatsHost(hostname="127.0.0.1", port=port), LinkOptions(), no_error)
    assert str(caught.value) == f"127.0.0.1:{port}: the server closed the connection"


async def test_cancelled_dial_leaves_nothing_behind() -> None:
    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()
        ended.set()

    connected, ended = asyncio.Event(), asyncio.Event()
    deaf = await asyncio.start_server(wait_for_the_end, "127.0.0.1", 0)
    host = NatsHost(hostname="127.0.0.1", port=deaf.sockets[0].getsockname()[1])
    dialling = asyncio.create_task(dial(host, LinkOptions(), no_error))
    await connected.wait()
    # Before Python 3.12 a cancellation that meets the end of a step is lost; see the subscriber's close.
    for _ in range(10):
        await asyncio.sleep(0)
    dialling.cancel()

    with pytest.raises(asyncio.CancelledError):
        await dialling
    await ended.wait()
    deaf.close()
