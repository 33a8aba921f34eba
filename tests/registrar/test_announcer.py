"""The announcer against a real nats-server, heard by a plain subscriber as a router would hear it."""

import asyncio
import contextlib
import json
import os
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from router.registrar.announced import AnnouncementError
from router.registrar.announcer import Announcer
from router.registrar.bus import BusUnavailable
from router.registrar.observer import Observer
from router.wire.announcement import Announcement, RouterStart
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, settle
from tests.support.ports import free_port
from tests.support.processes import open_sockets

T = TypeVar("T")

ONE = Announcement(host="10.0.0.7", port=9000, uris=["app.example.com"], app="guid", tags={"component": "x"})


class Heard:
    """Everything said on ``router.*``, in order; speaks as a router too."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.messages: list[tuple[str, dict[str, Any], str]] = []
        self._news = asyncio.Event()

    async def take(self, message: Msg) -> None:
        body = json.loads(message.data) if message.data.startswith(b"{") else {}
        self.messages.append((message.subject.removeprefix("router."), body, message.reply))
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def bodies(self, subject: str) -> list[dict[str, Any]]:
        return [body for said, body, _ in self.messages if said == subject]

    async def until_count(self, subject: str, count: int) -> None:
        await self.until(lambda: len(self.bodies(subject)) >= count)

    async def router_says(self, subject: str, minimum_s: int = 20, prune_s: int = 120) -> None:
        start = {
            "id": "0-x",
            "hosts": ["127.0.0.1"],
            "minimumRegisterIntervalInSeconds": minimum_s,
            "pruneThresholdInSeconds": prune_s,
        }
        await self.client.publish(subject, json.dumps(start).encode())
        await self.client.flush()


class Recording(Observer):
    def __init__(self) -> None:
        self.events: list[str] = []
        self.news = asyncio.Event()

    def _tell(self, event: str) -> None:
        self.events.append(event)
        self.news.set()

    def connected(self, server: str) -> None:
        self._tell(f"connected {server}")

    def disconnected(self, reason: str) -> None:
        self._tell("disconnected")

    def router_heard(self, router: RouterStart, interval_s: float) -> None:
        self._tell(f"router {router.id} {interval_s:g}")

    def no_router_answered(self) -> None:
        self._tell("silence")

    def unreachable(self, told: str) -> None:
        self._tell(f"unreachable {told}")

    async def until(self, event: str, count: int = 1) -> None:
        async with asyncio.timeout(60):
            while sum(each.startswith(event) for each in self.events) < count:
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def heard(nats_server: NatsServer) -> AsyncIterator[Heard]:
    client = Client()
    await client.connect(url(nats_server))
    listener = Heard(client)
    await client.subscribe("router.*", cb=listener.take)
    await settle(client)
    yield listener
    await client.close()


def url(nats_server: NatsServer) -> str:
    return f"nats://127.0.0.1:{nats_server.port}"


def announcer(nats_server: NatsServer, **options: Any) -> Announcer:
    return Announcer([url(nats_server)], **{"rng": random.Random(3), **options})


async def test_announced_route_is_registered_at_once(nats_server: NatsServer, heard: Heard) -> None:
    async with announcer(nats_server, wall_clock_ns=lambda: 77) as tested:
        await tested.announce(ONE)
        await heard.until_count("register", 1)
    assert heard.bodies("register")[0] == {
        "host": "10.0.0.7",
        "port": 9000,
        "uris": ["app.example.com"],
        "app": "guid",
        "tags": {"component": "x"},
        "endpoint_updated_at_ns": 77,
    }


async def test_leaving_unregisters_with_the_very_words_of_the_register(
    nats_server: NatsServer, heard: Heard
) -> None:
    async with announcer(nats_server) as tested:
        await tested.announce(ONE)
    await heard.until_count("unregister", 1)
    assert heard.bodies("unregister") == heard.bodies("register")[:1]


async def test_route_is_announced_again_after_the_interval(nats_server: NatsServer, heard: Heard) -> None:
    async with announcer(nats_server, interval_s=0.02) as tested:
        await tested.announce(ONE)
        await heard.until_count("register", 5)
    assert all(body == heard.bodies("register")[0] for body in heard.bodies("register"))


async def test_start_of_a_router_has_everything_announced_at_once(nats_server: NatsServer, heard: Heard) -> None:
    async with announcer(nats_server, interval_s=3600) as tested:
        await tested.announce(ONE)
        await heard.until_count("register", 1)
        await heard.router_says("router.start")
        await heard.until_count("register", 2)


async def test_greeting_is_sent_and_its_answer_sets_the_interval(
    nats_server: NatsServer, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.registrar.announcer.GREET_PATIENCE_S", 3600.0)
    seen = Recording()
    async with announcer(nats_server, observer=seen) as tested:
        assert tested.interval_s == 20
        await heard.until_count("greet", 1)
        reply = next(reply for said, _, reply in heard.messages if said == "greet")
        await heard.router_says(reply, minimum_s=7)
        await seen.until("router")
        assert tested.interval_s == 7
    assert seen.events == [f"connected {url(nats_server)}", "router 0-x 7"]


async def test_shorter_interval_of_a_router_holds_for_routes_already_announced(
    nats_server: NatsServer, heard: Heard
) -> None:
    async with announcer(nats_server) as tested:
        await tested.announce(ONE)
        await heard.until_count("register", 1)
        reply = next(reply for said, _, reply in heard.messages if said == "greet")
        await heard.router_says(reply, minimum_s=0, prune_s=1)
        await heard.until_count("register", 3)


async def test_own_interval_is_kept_whatever_a_router_says(nats_server: NatsServer, heard: Heard) -> None:
    seen = Recording()
    async with announcer(nats_server, interval_s=9, observer=seen) as tested:
        await heard.router_says("router.start", minimum_s=1)
        await seen.until("router")
        assert tested.interval_s == 9


@pytest.mark.parametrize("nonsense", [b"", b"{", b"[]", b"{}", b'{"id":1}', b"[" * 100_000])
async def test_nonsense_on_router_start_is_ignored(nats_server: NatsServer, heard: Heard, nonsense: bytes) -> None:
    seen = Recording()
    async with announcer(nats_server, observer=seen) as tested:
        await heard.client.publish("router.start", nonsense)
        await heard.router_says("router.start", minimum_s=5)
        await seen.until("router")
        assert tested.interval_s == 5


async def test_withdrawn_route_is_not_announced_again(nats_server: NatsServer, heard: Heard) -> None:
    async with announcer(nats_server) as tested:
        first = await tested.announce(ONE)
        await tested.announce(Announcement(host="10.0.0.8", port=1, uris=["other.example.com"]))
        await tested.withdraw(first)
        assert [each.host for each in tested.announced if isinstance(each, Announcement)] == ["10.0.0.8"]
        await heard.router_says("router.start")
        await heard.until_count("register", 3)
    assert [body["host"] for body in heard.bodies("register")] == ["10.0.0.7", "10.0.0.8", "10.0.0.8"]


async def test_withdrawing_twice_unregisters_once(nats_server: NatsServer, heard: Heard) -> None:
    async with announcer(nats_server) as tested:
        first = await tested.announce(ONE)
        await tested.withdraw(first)
        await tested.withdraw(first)
        await tested.announce(ONE)
        await heard.until_count("register", 2)
        assert len(heard.bodies("unregister")) == 1


async def test_thousands_of_routes_are_announced_and_withdrawn(nats_server: NatsServer, heard: Heard) -> None:
    many = [Announcement(host="10.0.0.7", port=port, uris=[f"a{port}.example.com"]) for port in range(1, 3001)]
    async with announcer(nats_server) as tested:
        await tested.announce_all(many)
        await heard.until_count("register", len(many))
    await heard.until_count("unregister", len(many))
    assert {body["port"] for body in heard.bodies("register")} == set(range(1, 3001))
    assert {body["port"] for body in heard.bodies("unregister")} == set(range(1, 3001))


async def test_one_malformed_route_keeps_all_from_being_announced(nats_server: NatsServer, heard: Heard) -> None:
    async with announcer(nats_server) as tested:
        with pytest.raises(AnnouncementError) as caught:
            await tested.announce_all([ONE, Announcement(host="", port=0, uris=["a b"])])
        assert len(caught.value.problems) == 3
        assert tested.announced == []
        await heard.until_count("greet", 1)
    assert heard.bodies("register") == []


async def test_message_too_large_for_nats_is_refused_before_it_is_sent(nats_server: NatsServer) -> None:
    async with announcer(nats_server) as tested:
        uris = [f"a.example.com/{number}/{'x' * 120}" for number in range(9000)]
        with pytest.raises(AnnouncementError, match="too large"):
            await tested.announce(Announcement(host="10.0.0.7", port=1, uris=uris))


async def test_update_registers_the_new_before_it_unregisters_what_is_gone(
    nats_server: NatsServer, heard: Heard
) -> None:
    async with announcer(nats_server) as tested:
        first = await tested.announce(Announcement(host="10.0.0.7", port=1, uris=["a.test", "b.test"]))
        second = await tested.update(first, Announcement(host="10.0.0.7", port=1, uris=["b.test", "c.test"]))
        await heard.until_count("unregister", 1)
        assert tested.announced == [second.route]
        await tested.withdraw(first)
    await heard.until_count("unregister", 2)
    said = [(subject, body["uris"]) for subject, body, _ in heard.messages if subject != "greet"]
    assert said == [
        ("register", ["a.test", "b.test"]),
        ("register", ["b.test", "c.test"]),
        ("unregister", ["a.test"]),
        ("unregister", ["b.test", "c.test"]),
    ]


async def test_malformed_update_leaves_the_route_announced(nats_server: NatsServer) -> None:
    async with announcer(nats_server) as tested:
        first = await tested.announce(ONE)
        with pytest.raises(AnnouncementError):
            await tested.update(first, Announcement(host="", port=1, uris=["a.test"]))
        assert tested.announced == [first.route]


async def test_leaving_that_is_cancelled_again_is_done_nevertheless(nats_server: NatsServer, heard: Heard) -> None:
    before = open_sockets(os.getpid())
    entered = asyncio.Event()

    async def live() -> None:
        async with announcer(nats_server) as tested:
            await tested.announce(ONE)
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(live())
    await entered.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    await heard.until_count("unregister", 1)
    await eventually(lambda: open_sockets(os.getpid()) <= before, "its connection is gone")


async def test_announcer_that_was_closed_or_entered_says_so(nats_server: NatsServer) -> None:
    tested = announcer(nats_server)
    async with tested:
        first = await tested.announce(ONE)
        with pytest.raises(RuntimeError, match="entered already"):
            await tested.__aenter__()
    with pytest.raises(RuntimeError, match="is closed"):
        await tested.announce(ONE)
    with pytest.raises(RuntimeError, match="is closed"):
        await tested.update(first, ONE)
    with pytest.raises(RuntimeError, match="is closed"):
        await tested.__aenter__()
    await tested.withdraw(first)
    await tested.close()


async def test_announcing_before_entering_is_refused(nats_server: NatsServer) -> None:
    tested = announcer(nats_server)
    with pytest.raises(RuntimeError, match="not entered"):
        await tested.announce(ONE)
    assert tested.announced == []


async def test_what_is_no_route_or_was_not_announced_is_refused(nats_server: NatsServer) -> None:
    wrong: Any = ONE
    async with announcer(nats_server) as tested:
        with pytest.raises(AnnouncementError, match="neither a Route nor an InternalRoute, but str"):
            await tested.announce("app.example.com")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected what `announce` returned, not Announcement"):
            await tested.withdraw(wrong)
        with pytest.raises(TypeError, match="expected what `announce` returned"):
            await tested.update(wrong, ONE)
        assert tested.announced == []


def test_servers_and_tls_of_another_type_are_refused() -> None:
    wrong: Any = 4222
    with pytest.raises(AnnouncementError, match="a NATS URL is text, not int"):
        Announcer([wrong])
    with pytest.raises(TypeError, match="tls: expected an"):
        Announcer("nats://127.0.0.1:4222", tls=wrong)


async def cancelled_after(turns: int, action: Coroutine[Any, Any, T]) -> T | None:
    """Return what comes of something that is cancelled after so many turns of the loop; None if nothing does."""
    task = asyncio.ensure_future(action)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        return await task
    return None


def what_was_said_last(heard: Heard) -> set[str]:
    return set({uri: said for said, body, _ in heard.messages for uri in body.get("uris", [])}.values())


async def test_entering_that_is_cancelled_at_any_moment_leaves_no_connection(nats_server: NatsServer) -> None:
    before = open_sockets(os.getpid())
    for turns in range(60):
        entered = await cancelled_after(turns, announcer(nats_server).__aenter__())
        if entered is not None:
            await entered.close()
        await eventually(lambda: open_sockets(os.getpid()) == before, f"no connection is left after {turns} turns")


async def test_update_that_is_cancelled_at_any_moment_leaves_neither_route(
    nats_server: NatsServer, heard: Heard
) -> None:
    async with announcer(nats_server) as tested:
        for turns in range(1, 50):
            first = await tested.announce(ONE)
            second = await cancelled_after(
                turns, tested.update(first, msgspec.structs.replace(ONE, uris=[f"{turns}.example.com"]))
            )
            await tested.withdraw(*([] if second is None else [second]))
            assert tested.announced == []

        await heard.until(lambda: what_was_said_last(heard) == {"unregister"})


async def test_app_that_is_cancelled_at_any_moment_leaves_no_route(nats_server: NatsServer, heard: Heard) -> None:
    async def live(uri: str) -> None:
        async with announcer(nats_server) as tested:
            await tested.announce(msgspec.structs.replace(ONE, uris=[uri]))
            await asyncio.Event().wait()

    for turns in range(80):
        await cancelled_after(turns, live(f"{turns}.example.com"))
    await heard.until(lambda: what_was_said_last(heard) == {"unregister"})


async def test_route_whose_announcing_was_cancelled_is_taken_back(nats_server: NatsServer, heard: Heard) -> None:
    async with announcer(nats_server) as tested:
        task = asyncio.ensure_future(tested.announce(ONE))
        await asyncio.sleep(0)
        assert tested.announced != []
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert tested.announced == []
        await heard.until_count("unregister", 1)


async def test_denied_route_is_unregistered_and_never_registered(nats_server: NatsServer, heard: Heard) -> None:
    async with announcer(nats_server) as tested:
        assert await tested.deny(ONE)
        assert tested.announced == []
        await heard.until_count("unregister", 1)
    assert heard.bodies("register") == []


async def test_interval_of_a_route_holds_whatever_the_others_have(nats_server: NatsServer, heard: Heard) -> None:
    async with announcer(nats_server, interval_s=3600) as tested:
        await tested.announce(Announcement(host="10.0.0.8", port=1, uris=["other.test"]))
        await tested.announce(ONE, interval_s=0.02)
        await heard.until_count("register", 5)
    assert [body["host"] for body in heard.bodies("register")].count("10.0.0.8") == 1


async def test_entering_need_not_wait_for_nats(nats_server: NatsServer, heard: Heard) -> None:
    port = free_port()
    late = f"nats://127.0.0.1:{port}"
    seen = Recording()
    async with Announcer(late, observer=seen, connect_timeout_s=None) as tested:
        await tested.announce(ONE)
        await seen.until("unreachable")
        assert not tested.connected
    assert seen.events == [f"unreachable {late} (Connection refused)"]


async def test_thousands_may_announce_and_withdraw_at_once(nats_server: NatsServer, heard: Heard) -> None:
    many = [Announcement(host="10.0.0.7", port=port, uris=[f"a{port}.test"]) for port in range(1, 2001)]
    async with announcer(nats_server) as tested:
        announced = await asyncio.gather(*(tested.announce(each) for each in many))
        await heard.until_count("register", len(many))
        await asyncio.gather(*(tested.withdraw(each) for each in announced))
        await heard.until_count("unregister", len(many))
        assert tested.announced == []


class Link:
    """A relay between the announcer and NATS that can be cut, while others stay connected."""

    def __init__(self, nats_server: NatsServer) -> None:
        self._nats_server = nats_server
        self._port = free_port()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._copies: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self._port)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        await asyncio.gather(*self._copies, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._nats_server.port)
        self._writers += [writer, back]
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._copies.add(task)
            task.add_done_callback(self._copies.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await source.read(65536):
                sink.write(chunk)
        sink.close()


@pytest.fixture
async def link(nats_server: NatsServer) -> AsyncIterator[Link]:
    relay = Link(nats_server)
    await relay.mend()
    yield relay
    await relay.cut()


async def test_everything_is_announced_again_after_nats_was_away(heard: Heard, link: Link) -> None:
    seen = Recording()
    async with Announcer([link.url], interval_s=3600, observer=seen) as tested:
        await tested.announce(ONE)
        await heard.until_count("register", 1)
        await link.cut()
        await seen.until("disconnected")
        assert not tested.connected
        await link.mend()
        await heard.until_count("register", 2)
        assert tested.connected


async def test_route_announced_while_nats_is_away_is_announced_when_it_is_back(heard: Heard, link: Link) -> None:
    seen = Recording()
    async with Announcer([link.url], interval_s=3600, observer=seen) as tested:
        await link.cut()
        await seen.until("disconnected")
        await tested.announce(ONE)
        assert heard.bodies("register") == []
        await link.mend()
        await heard.until_count("register", 1)


async def test_route_withdrawn_while_nats_is_away_is_unregistered_and_never_registered(
    heard: Heard, link: Link
) -> None:
    seen = Recording()
    async with Announcer([link.url], observer=seen) as tested:
        first = await tested.announce(ONE)
        await heard.until_count("register", 1)
        await link.cut()
        await seen.until("disconnected")
        await tested.withdraw(first)
        await link.mend()
        await heard.until_count("unregister", 1)
        await heard.router_says("router.start")
        await heard.until_count("unregister", 2)
    assert len(heard.bodies("register")) == 1
    assert heard.bodies("unregister") == heard.bodies("register") * 2


async def test_withdrawal_that_a_broken_connection_swallowed_is_sent_again(heard: Heard, link: Link) -> None:
    seen = Recording()
    async with Announcer([link.url], interval_s=3600, observer=seen) as tested:
        some = [
            await tested.announce(Announcement(host="10.0.0.7", port=port, uris=["a.test"]))
            for port in range(1, 9)
        ]
        withdrawals = [asyncio.ensure_future(tested.withdraw(each)) for each in some]
        await link.cut()
        await asyncio.gather(*withdrawals)
        await seen.until("disconnected")
        await link.mend()
        await heard.until(lambda: len({body["port"] for body in heard.bodies("unregister")}) == len(some))


async def test_restarted_nats_server_is_found_again(nats_server: NatsServer) -> None:
    seen = Recording()
    async with announcer(nats_server, observer=seen) as tested:
        nats_server.kill()
        await seen.until("disconnected")
        nats_server.start()
        await seen.until("connected", 2)
        assert tested.connected


@pytest.mark.slow
async def test_server_that_hangs_is_left_and_nothing_of_the_past_is_sent_to_it(
    tmp_path: Path, nats_server: NatsServer, heard: Heard
) -> None:
    hanging = NatsServer(tmp_path)
    hanging.start()
    seen = Recording()
    servers = [f"nats://127.0.0.1:{hanging.port}", url(nats_server)]
    try:
        async with Announcer(servers, interval_s=0.5, observer=seen) as tested:
            hanging.freeze()
            asked = asyncio.ensure_future(tested.announce(ONE))
            await heard.until_count("register", 1)
            await asked
            assert seen.events[-2:] == ["disconnected", f"connected {url(nats_server)}"]
    finally:
        hanging.kill()


async def test_flapping_nats_leaves_no_socket_behind(nats_server: NatsServer) -> None:
    seen = Recording()
    async with announcer(nats_server, observer=seen) as tested:
        await tested.announce(ONE)
        before = open_sockets(os.getpid())
        for round_ in range(5):
            nats_server.kill()
            await seen.until("disconnected", round_ + 1)
            nats_server.start()
            await seen.until("connected", round_ + 2)
        await eventually(lambda: open_sockets(os.getpid()) <= before, "lost connections are closed")
    await eventually(lambda: open_sockets(os.getpid()) < before, "the last connection is closed")


async def test_other_server_is_used_when_one_is_dead(nats_server: NatsServer, heard: Heard) -> None:
    dead = f"nats://127.0.0.1:{free_port()}"
    async with Announcer([dead, url(nats_server)]) as tested:
        await tested.announce(ONE)
        await heard.until_count("register", 1)


async def test_absent_servers_are_named_without_their_passwords() -> None:
    ports = [free_port(), free_port()]
    servers = [f"nats://me:secret@127.0.0.1:{port}" for port in ports]
    with pytest.raises(BusUnavailable) as caught:
        async with Announcer(servers, connect_timeout_s=2.0):
            pass
    text = str(caught.value)
    assert all(f"nats://127.0.0.1:{port}" in text for port in ports)
    assert "refused" in text
    assert "secret" not in text


async def test_server_that_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        server = f"nats://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(BusUnavailable, match="no answer"):
            async with Announcer([server], connect_timeout_s=0.3):
                pass


async def test_silence_of_all_routers_is_told(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.registrar.announcer.GREET_PATIENCE_S", 0.01)
    seen = Recording()
    async with announcer(nats_server, observer=seen):
        await seen.until("silence")


@pytest.mark.parametrize(
    "server",
    ["", "127.0.0.1:4222", "http://a:1", "nats://", "nats://a:x", "nats://a:99999", "nats://a:0", "nats://a/b"],
)
async def test_malformed_server_is_refused(server: str) -> None:
    with pytest.raises(AnnouncementError):
        Announcer([server])


async def test_no_server_and_no_interval_are_refused_together() -> None:
    with pytest.raises(AnnouncementError, match="no NATS server given; the interval"):
        Announcer([], interval_s=-1)
