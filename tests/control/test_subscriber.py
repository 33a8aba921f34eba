import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from router.certs import Authority, issue, make_ca
from router.config.schema import Config
from router.config.sections import Nats, NatsHost
from router.control import nats_link
from router.control.registry_log import make_registry
from router.control.subscriber import NatsUnavailable, Subscriber
from router.log import Logger
from router.wire.announcement import decode_start
from tests.support.eventually import eventually
from tests.support.nats import Connect, NatsServer, settle
from tests.support.ports import free_port
from tests.support.processes import open_sockets


class Hearing:
    """A subscriber with its registry, and everything it logs."""

    def __init__(self, nats_keys: Nats, *, on_changes: Callable[[], None] | None = None, **keys: Any) -> None:
        options = {name: keys.pop(name) for name in ("pending_messages", "router_ip") if name in keys}
        config = Config(nats=nats_keys, **keys)
        self.lines: list[Any] = []
        self.changes: list[Any] = []
        logger = Logger(sink=lambda line: self.lines.append(msgspec.json.decode(line)))
        self.registry = make_registry(config, logger)
        self.subscriber = Subscriber(
            config, self.registry, logger, on_changes=on_changes or self._take, rng=random.Random(1), **options
        )

    def _take(self) -> None:
        self.changes.append(self.registry.take_changes())

    async def begin(self) -> None:
        """Return when the server has the subscriptions: what others say from now on is heard."""
        await self.subscriber.connect()
        await self.subscriber.start()
        assert self.subscriber._link is not None
        await settle(self.subscriber._link.client)

    def table(self) -> dict[str, list[str]]:
        document = msgspec.json.decode(b"".join(self.registry.routes_json()))
        return {key: [endpoint["address"] for endpoint in endpoints] for key, endpoints in document.items()}

    def logged(self, message: str) -> list[Any]:
        return [line["data"] for line in self.lines if line["message"] == message]


def hosts(*servers: NatsServer | int, name: str = "127.0.0.1", **keys: Any) -> Nats:
    ports = [server if isinstance(server, int) else server.port for server in servers]
    return Nats(hosts=[NatsHost(hostname=name, port=port) for port in ports], **keys)


def message(*uris: str, **fields: Any) -> bytes:
    return json.dumps({"host": "10.0.0.1", "port": 80, "uris": list(uris), **fields}).encode()


@pytest.fixture
async def hearing(nats_server: NatsServer) -> AsyncIterator[Hearing]:
    """A subscriber at work on `nats_server`."""
    made = Hearing(hosts(nats_server), router_ip="10.9.8.7")
    await made.begin()
    yield made
    await made.subscriber.close()


async def publish(client: Client, *payloads: bytes, subject: str = "router.register") -> None:
    for payload in payloads:
        await client.publish(subject, payload)
    await settle(client)


# Messages.


async def test_registration_reaches_the_table(hearing: Hearing, connect: Connect) -> None:
    await publish(await connect(), message("a.test/x"))

    await eventually(lambda: hearing.table() == {"a.test/x": ["10.0.0.1:80"]}, "the route")
    assert len(hearing.changes) == 1


async def test_unregistration_reaches_the_table(hearing: Hearing, connect: Connect) -> None:
    client = await connect()
    await publish(client, message("a.test", "b.test"))
    await publish(client, message("a.test"), subject="router.unregister")

    await eventually(lambda: hearing.table() == {"b.test": ["10.0.0.1:80"]}, "one route only")


async def test_messages_take_effect_in_order(hearing: Hearing, connect: Connect) -> None:
    client = await connect()
    for _ in range(200):
        await publish(client, message("a.test"))
        await publish(client, message("a.test"), subject="router.unregister")
    await publish(client, message("last.test"))

    await eventually(lambda: "last.test" in hearing.table(), "the last route")
    assert hearing.table() == {"last.test": ["10.0.0.1:80"]}
    assert hearing.registry.counters.registered["", "added"] == 201


async def test_heartbeats_are_not_told_to_workers(hearing: Hearing, connect: Connect) -> None:
    await publish(await connect(), *[message("a.test")] * 100)

    await eventually(lambda: hearing.registry.counters.registered["", "refreshed"] == 99, "all heartbeats")
    assert len(hearing.changes) == 1


async def test_messages_of_other_subjects_change_nothing(hearing: Hearing, connect: Connect) -> None:
    client = await connect()
    await publish(client, b"\x78\x9czlib", subject="router.active_apps")
    await publish(client, b"", subject="router.greet")
    await publish(client, b'{"id":"x","hosts":["10.0.0.1"]}', subject="router.start")
    await publish(client, message("b.test"), subject="router.foo")
    await publish(client, message("a.test"))

    await eventually(lambda: "a.test" in hearing.table(), "the route")
    assert list(hearing.table()) == ["a.test"]
    assert hearing.logged("validation-error") == []


async def test_malformed_message_of_another_subject_is_logged(hearing: Hearing, connect: Connect) -> None:
    await publish(await connect(), b'{"port":', subject="router.foo")

    await eventually(lambda: hearing.logged("validation-error"), "the line")
    [line] = hearing.logged("validation-error")
    assert (line["subject"], line["payload"]) == ("router.foo", '{"port":')


async def test_malformed_message_is_logged_once_and_dropped_whole(hearing: Hearing, connect: Connect) -> None:
    bad = message("a.test", port=70000)
    await publish(await connect(), bad, message("b.test"))

    await eventually(lambda: hearing.table() == {"b.test": ["10.0.0.1:80"]}, "the good route alone")
    [line] = hearing.logged("validation-error")
    assert line["payload"] == bad.decode()
    assert line["subject"] == "router.register"
    assert "port" in line["error"]


async def test_malformed_uri_is_logged_and_the_others_become_routes(hearing: Hearing, connect: Connect) -> None:
    await publish(await connect(), message("a\r\n.test", "b.test"))

    await eventually(lambda: hearing.table() == {"b.test": ["10.0.0.1:80"]}, "the good route alone")
    [line] = hearing.logged("validation-error")
    assert line["payload"] == "a\r\n.test"


async def test_malformed_weight_is_logged_once_and_costs_no_route(hearing: Hearing, connect: Connect) -> None:
    bad = message("a.test", options={"weight": 101})
    await publish(await connect(), bad, bad, message("b.test"))

    await eventually(lambda: hearing.table().keys() == {"a.test", "b.test"}, "both routes")
    [line] = hearing.logged("validation-error")
    assert line["error"] == "options.weight: 101 is not a whole number from 0 to 100"
    assert line["payload"] == bad.decode()


async def test_logged_payload_is_cut_and_bad_messages_cannot_flood_the_log(
    hearing: Hearing, connect: Connect
) -> None:
    await publish(await connect(), *[b"x" * 100_000] * 200, message("a.test"))

    await eventually(lambda: "a.test" in hearing.table(), "the good route")
    lines = hearing.logged("validation-error")
    assert 0 < len(lines) < 200
    assert max(len(line["payload"]) for line in lines) <= 512


def fuzzed(rng: random.Random) -> bytes:
    """A message that must not enter the table."""
    text = message("bad.test")
    position = rng.randrange(1, len(text))
    return rng.choice(
        [
            text[:position],
            text[:position] + b"\xff" + b"}",
            b"",
            rng.randbytes(50),
            b'{"x":' + b"[" * 10_000,
            b'{"host":"10.0.0.1","port":NaN,"uris":["bad.test"]}',
            b'{"host":"10.0.0.1","port":%d,"uris":["bad.test"]}' % rng.choice([0, -1, 70000, 10**400]),
            message("bad.test", port="80"),
            message("bad.test", port=None),
            message("bad.test", host=rng.choice(["a\r\nb", "a b", "", None, 1])),
            message("bad.test", route_service_url=rng.choice(["http://x", "https://x\r\ny", "https://x y", 1])),
            message("bad.test", tags={"a": 1}),
            message("bad.test", uris="bad.test"),
            message("bad.test", uris=None),
            message("bad.test", uris=[1]),
        ]
    )


@pytest.mark.slow
async def test_flood_of_fuzzed_messages_harms_no_valid_one(hearing: Hearing, connect: Connect) -> None:
    rng = random.Random(2)
    client = await connect()
    await publish(client, b'{"host":"10.0.0.1","port":80,"uris":[%s]}' % b",".join([b'"bad.test"'] * 80_000))
    for number in range(20_000):
        await client.publish("router.register", fuzzed(rng))
        if number % 100 == 0:
            await publish(client, message(f"{number}.test"))
    await publish(client, message("last.test"))

    await eventually(lambda: "last.test" in hearing.table(), "the last valid route", timeout_s=60.0)
    assert sorted(hearing.table()) == sorted(
        [*(f"{number}.test" for number in range(0, 20_000, 100)), "last.test"]
    )
    assert hearing.subscriber.dropped_messages == 0
    assert len(hearing.logged("validation-error")) < 1000


async def test_failure_of_our_own_costs_the_one_message_alone(nats_server: NatsServer, connect: Connect) -> None:
    calls: list[int] = []

    def fail_at_first() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("not this time")

    hearing = Hearing(hosts(nats_server), on_changes=fail_at_first)
    await hearing.begin()
    await publish(await connect(), message("a.test"), message("b.test"))

    await eventually(lambda: len(calls) == 2, "the second call")
    assert hearing.logged("nats-connection-error")[0]["error"] == "not this time"
    assert hearing.subscriber.connected
    await hearing.subscriber.close()


# What the router says.


async def test_greeting_is_answered(hearing: Hearing, connect: Connect) -> None:
    answer = decode_start((await (await connect()).request("router.greet", b"", timeout=10)).data)

    assert answer.id == hearing.subscriber.id
    assert answer.id.startswith("0-")
    assert answer.hosts == ["10.9.8.7"]
    assert (answer.minimum_register_interval_s, answer.prune_threshold_s) == (5, 120)


async def listen(client: Client, subject: str) -> list[bytes]:
    heard: list[bytes] = []

    async def keep(message: Msg) -> None:
        heard.append(message.data)

    await client.subscribe(subject, cb=keep)
    await settle(client)
    return heard


async def test_agents_are_asked_to_announce_at_the_start(nats_server: NatsServer, connect: Connect) -> None:
    starts = await listen(await connect(), "router.start")
    hearing = Hearing(hosts(nats_server), index=7, start_response_delay_interval=20.5)
    await hearing.begin()

    await eventually(lambda: starts, "router.start")
    start = decode_start(starts[0])
    assert start.id == hearing.subscriber.id
    assert start.id.startswith("7-")
    assert start.minimum_register_interval_s == 20
    await hearing.subscriber.close()


async def test_agents_are_asked_only_when_we_listen(nats_server: NatsServer, connect: Connect) -> None:
    client = await connect()

    async def announce(_: Msg) -> None:
        await client.publish("router.register", message("a.test"))

    await client.subscribe("router.start", cb=announce)
    await settle(client)
    hearing = Hearing(hosts(nats_server))
    await hearing.begin()

    await eventually(lambda: "a.test" in hearing.table(), "the answer to router.start")
    await hearing.subscriber.close()


async def test_dropped_messages_are_counted_and_asked_for_again(nats_server: NatsServer, connect: Connect) -> None:
    client = await connect()
    starts = await listen(client, "router.start")
    hearing = Hearing(hosts(nats_server), pending_messages=1, start_response_delay_interval=0.0)
    await hearing.begin()
    await eventually(lambda: len(starts) == 1, "router.start")
    await publish(client, *[message(f"{number}.test") for number in range(2000)])

    await eventually(lambda: hearing.subscriber.dropped_messages, "dropped messages")
    await eventually(lambda: len(starts) >= 2, "router.start once more")
    await hearing.subscriber.close()


# Connecting.


async def test_connection_is_logged_with_the_server_as_configured(
    hearing: Hearing, nats_server: NatsServer
) -> None:
    assert hearing.logged("Successfully-connected-to-nats") == [{"host": f"127.0.0.1:{nats_server.port}"}]
    assert hearing.subscriber.connected
    assert hearing.subscriber.buffered_messages == 0


async def test_absent_nats_is_an_error_that_names_every_server() -> None:
    ports = free_port(), free_port()
    hearing = Hearing(hosts(*ports))

    with pytest.raises(NatsUnavailable) as caught:
        await hearing.subscriber.connect()
    assert all(f"127.0.0.1:{port}: " in str(caught.value) for port in ports)
    assert not hearing.subscriber.connected
    await hearing.subscriber.close()


async def test_server_that_never_greets_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_link, "CONNECT_TIMEOUT_S", 0.1)

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    deaf = await asyncio.start_server(wait_for_the_end, "127.0.0.1", 0)
    port = deaf.sockets[0].getsockname()[1]
    hearing = Hearing(hosts(port))

    with pytest.raises(NatsUnavailable) as caught:
        await hearing.subscriber.connect()
    assert str(caught.value) == f"cannot connect to NATS: 127.0.0.1:{port}: no connection within 0.1 s"
    deaf.close()


async def test_refusal_is_told_even_if_later_tries_are_told_nothing() -> None:
    answers = iter([b"-ERR 'Authorization Violation'\r\n"])

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"auth_required":true,"max_payload":1048576}\r\n')
        await reader.readuntil(b"PING\r\n")
        writer.write(next(answers, b""))
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(NatsUnavailable) as caught:
            await Hearing(hosts(int(address.split(":")[1]))).subscriber.connect()

    causes = f"{address}: nats: 'Authorization Violation'; {address}: the server closed the connection"
    assert str(caught.value) == f"cannot connect to NATS: {causes}"


async def test_start_before_connect_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        await Hearing(hosts(1)).subscriber.start()


async def test_credentials_are_sent(tmp_path: Path) -> None:
    server = NatsServer(tmp_path, user=("me", "secret"))
    server.start()
    hearing = Hearing(hosts(server, user="me", pass_="secret"))
    await hearing.begin()

    assert hearing.subscriber.connected
    await hearing.subscriber.close()
    server.kill()


@pytest.mark.parametrize("keys", [{}, {"user": "me", "pass_": "guess"}])
async def test_wrong_credentials_are_an_error_that_does_not_show_them(tmp_path: Path, keys: Any) -> None:
    server = NatsServer(tmp_path, user=("me", "secret"))
    server.start()
    told = []
    try:
        # As often as a start tries: the server closes right behind its refusal, and a reset may overtake that.
        for _ in range(3):
            with pytest.raises(NatsUnavailable) as caught:
                await Hearing(hosts(server, **keys)).subscriber.connect()
            told.append(str(caught.value))
    finally:
        server.kill()
    assert any("Authorization Violation" in text for text in told), told
    assert not any("guess" in text for text in told)


# TLS.


def tls_keys(authority: Authority, *, trusted: Authority | None = None) -> dict[str, Any]:
    pair = issue(authority, ["router"], client=True, server=False)
    return {
        "tls_enabled": True,
        "ca_certs": (trusted or authority).pair.certificate,
        "cert_chain": pair.certificate,
        "private_key": pair.private_key,
    }


async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    authority = make_ca()
    server = NatsServer(tmp_path, tls=authority)
    server.start()
    hearing = Hearing(hosts(server, name="localhost", **tls_keys(authority)))
    await hearing.begin()

    assert hearing.subscriber.connected
    server.kill()
    await eventually(lambda: not hearing.subscriber.connected, "the loss")
    server.start()
    await eventually(lambda: hearing.logged("nats-connection-reconnected"), "the return")
    await hearing.subscriber.close()
    server.kill()


async def test_server_with_another_name_in_its_certificate_is_refused(tmp_path: Path) -> None:
    authority = make_ca()
    server = NatsServer(tmp_path, tls=authority, names=("nats.test",))
    server.start()

    with pytest.raises(NatsUnavailable, match=r"(?i)hostname mismatch"):
        await Hearing(hosts(server, name="localhost", **tls_keys(authority))).subscriber.connect()
    server.kill()


async def test_server_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    authority = make_ca()
    server = NatsServer(tmp_path, tls=authority)
    server.start()

    with pytest.raises(NatsUnavailable, match=r"(?i)certificate verify failed"):
        await Hearing(hosts(server, **tls_keys(authority, trusted=make_ca("other")))).subscriber.connect()
    server.kill()


async def test_server_without_tls_gets_no_credentials_if_tls_is_configured() -> None:
    received: list[bytes] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.0.0","auth_required":true,"max_payload":1048576}\r\n')
        received.append(await reader.read(1000))
        writer.close()

    plain = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = plain.sockets[0].getsockname()[1]

    with pytest.raises(NatsUnavailable, match="does not offer TLS"):
        await Hearing(hosts(port, user="me", pass_="secret", **tls_keys(make_ca()))).subscriber.connect()
    await eventually(lambda: len(received) == 3, "three attempts")
    assert received == [b"", b"", b""]
    plain.close()


async def test_unusable_client_certificate_is_an_error() -> None:
    keys = tls_keys(make_ca()) | {"private_key": "no key"}

    with pytest.raises(NatsUnavailable, match="nats certificates"):
        await Hearing(hosts(1, **keys)).subscriber.connect()


# Losing NATS.


async def test_table_is_kept_while_nats_is_away_and_heard_again_afterwards(
    hearing: Hearing, nats_server: NatsServer, connect: Connect
) -> None:
    await publish(await connect(), message("a.test"))
    await eventually(lambda: "a.test" in hearing.table(), "the route")
    nats_server.kill()
    await eventually(lambda: not hearing.subscriber.connected, "the loss")

    assert hearing.table() == {"a.test": ["10.0.0.1:80"]}
    nats_server.start()
    starts = await listen(await connect(), "router.start")
    await eventually(lambda: hearing.logged("nats-connection-reconnected"), "the return")
    await eventually(lambda: starts, "router.start")
    assert decode_start(starts[0]).id == hearing.subscriber.id
    await publish(await connect(), message("b.test"))
    await eventually(lambda: sorted(hearing.table()) == ["a.test", "b.test"], "both routes")


async def test_loss_and_return_are_logged(hearing: Hearing, nats_server: NatsServer) -> None:
    nats_server.stop()
    await eventually(lambda: hearing.logged("nats-connection-disconnected"), "the loss")
    nats_server.start()
    await eventually(lambda: hearing.logged("nats-connection-reconnected"), "the return")

    assert [line["host"] for line in hearing.logged("nats-connection-reconnected")] == [
        f"127.0.0.1:{nats_server.port}"
    ]


async def test_second_server_takes_over(tmp_path: Path) -> None:
    servers = [NatsServer(tmp_path) for _ in range(2)]
    for server in servers:
        server.start()
    hearing = Hearing(hosts(*servers))
    await hearing.begin()
    [first] = hearing.logged("Successfully-connected-to-nats")
    lost = next(server for server in servers if first["host"].endswith(f":{server.port}"))
    left = next(server for server in servers if server is not lost)
    lost.kill()

    await eventually(lambda: hearing.logged("nats-connection-reconnected"), "the take-over")
    assert [line["host"] for line in hearing.logged("nats-connection-reconnected")] == [f"127.0.0.1:{left.port}"]
    await hearing.subscriber.close()
    left.kill()


async def test_refusal_after_a_restart_does_not_end_the_attempts(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    hearing = Hearing(hosts(server))
    await hearing.begin()
    server.kill()
    server.user = ("me", "secret")
    server.start()
    await eventually(lambda: hearing.logged("nats-connection-disconnected"), "the loss")
    server.kill()
    server.user = None
    server.start()

    await eventually(lambda: hearing.logged("nats-connection-reconnected"), "the return")
    await hearing.subscriber.close()
    server.kill()


async def test_server_that_hangs_is_noticed(tmp_path: Path) -> None:
    servers = [NatsServer(tmp_path) for _ in range(2)]
    for server in servers:
        server.start()
    hearing = Hearing(hosts(*servers), nats_client_ping_interval=0.05)
    await hearing.begin()
    [first] = hearing.logged("Successfully-connected-to-nats")
    next(server for server in servers if first["host"].endswith(f":{server.port}")).freeze()

    await eventually(lambda: hearing.logged("nats-connection-reconnected"), "the take-over")
    # With pings so often, a server that is merely slow may be left too.
    await eventually(lambda: hearing.subscriber.connected, "a connection")
    await hearing.subscriber.close()
    for server in servers:
        server.kill()


@pytest.mark.slow
async def test_flapping_leaves_nothing_behind(nats_server: NatsServer, connect: Connect) -> None:
    sockets = open_sockets(os.getpid())
    hearing = Hearing(hosts(nats_server))
    await hearing.begin()
    for count in range(1, 6):
        nats_server.kill()
        await eventually(lambda: not hearing.subscriber.connected, "the loss")
        nats_server.start()
        await eventually(lambda: len(hearing.logged("nats-connection-reconnected")) == count, "the return")  # noqa: B023
    client = await connect()
    await publish(client, message("a.test"))
    await eventually(lambda: hearing.table(), "the route")

    assert hearing.registry.counters.registered == {("", "added"): 1}
    await client.close()
    await hearing.subscriber.close()
    await eventually(lambda: open_sockets(os.getpid()) <= sockets, "sockets closed")
    assert asyncio.all_tasks() == {asyncio.current_task()}


# Closing.


async def close_connected(hearing: Hearing, server: NatsServer) -> None:
    await hearing.begin()


async def close_before_start(hearing: Hearing, server: NatsServer) -> None:
    await hearing.subscriber.connect()


async def close_with_nats_dead(hearing: Hearing, server: NatsServer) -> None:
    await hearing.begin()
    server.kill()
    await eventually(lambda: not hearing.subscriber.connected, "the loss")


async def close_with_nats_just_killed(hearing: Hearing, server: NatsServer) -> None:
    await hearing.begin()
    server.kill()


async def close_with_nats_hanging(hearing: Hearing, server: NatsServer) -> None:
    await hearing.begin()
    server.freeze()


async def close_while_dialling(hearing: Hearing, server: NatsServer) -> None:
    await hearing.begin()
    server.kill()
    await eventually(lambda: hearing.logged("nats-connection-disconnected"), "the loss")


@pytest.mark.parametrize(
    "situation",
    [
        close_connected,
        close_before_start,
        close_while_dialling,
        close_with_nats_dead,
        close_with_nats_just_killed,
        close_with_nats_hanging,
    ],
)
async def test_close_ends_everything(
    nats_server: NatsServer, situation: Callable[[Hearing, NatsServer], Awaitable[None]]
) -> None:
    sockets = open_sockets(os.getpid())
    hearing = Hearing(hosts(nats_server))
    await situation(hearing, nats_server)
    await hearing.subscriber.close()

    assert not hearing.subscriber.connected
    await eventually(lambda: open_sockets(os.getpid()) <= sockets, "sockets closed")
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()}, "tasks ended")


async def test_closing_twice_is_harmless(hearing: Hearing) -> None:
    await hearing.subscriber.close()
    await hearing.subscriber.close()
