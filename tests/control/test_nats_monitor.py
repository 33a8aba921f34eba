from typing import Any

import msgspec
import nats.errors
import pytest

from router.config.schema import Config
from router.config.sections import Nats, NatsHost
from router.control import nats_monitor
from router.control.nats_monitor import NatsMonitor
from router.control.registry_log import make_registry
from router.control.subscriber import Subscriber
from router.log import Logger
from tests.support.eventually import eventually
from tests.support.nats import NatsServer


class Told:
    """A monitor on a clock that stands still, and what it logs."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lines: list[Any] = []
        logger = Logger(sink=lambda line: self.lines.append(msgspec.json.decode(line)))
        self.monitor = NatsMonitor(logger, lambda: 7, lambda: self.now)

    def messages(self) -> list[tuple[str, Any]]:
        return [(line["message"], line["data"]) for line in self.lines]


def test_loss_and_return_are_told_with_the_time_between() -> None:
    told = Told()
    told.monitor.connected("a:4222")
    told.monitor.disconnected("a:4222", "eof")
    told.now += 2.5
    told.monitor.reconnected("b:4222")

    assert told.messages() == [
        ("Successfully-connected-to-nats", {"host": "a:4222"}),
        ("nats-connection-disconnected", {"host": "a:4222", "error": "eof"}),
        ("nats-connection-reconnected", {"host": "b:4222", "disconnected_seconds": 2.5}),
    ]
    assert {line["source"] for line in told.lines} == {"gorouter.stdout.nats"}


def test_absence_is_told_soon_and_then_now_and_again() -> None:
    told = Told()
    told.monitor.disconnected("a:4222", "")
    for _ in range(700):
        told.now += 0.1
        told.monitor.still_disconnected(["a:4222: refused"])

    still = [data for message, data in told.messages() if message == "nats-connection-still-disconnected"]
    assert [round(data["disconnected_seconds"]) for data in still] == [5, 35, 65]
    assert still[0]["errors"] == ["a:4222: refused"]


def test_each_absence_is_told_anew() -> None:
    told = Told()
    for _ in range(3):
        told.monitor.disconnected("a:4222", "")
        told.now += 6.0
        told.monitor.still_disconnected([])
        told.monitor.reconnected("a:4222")

    assert [message for message, _ in told.messages()].count("nats-connection-still-disconnected") == 3


def test_dropped_messages_are_counted_and_their_lines_limited() -> None:
    told = Told()
    for _ in range(1000):
        told.monitor.failed(nats.errors.SlowConsumerError("s", "", 1, None))  # type: ignore[arg-type]
    told.monitor.failed(ValueError("other"))

    assert told.monitor.figures() == {"buffered_messages": 7, "total_dropped_messages": 1000}
    assert 1 <= len(told.lines) <= 25


def test_fault_of_ours_is_told() -> None:
    told = Told()
    told.monitor.crashed(RuntimeError("x"))

    assert told.messages() == [("nats-watcher-failed", {"error": "RuntimeError('x')"})]


async def test_absence_of_a_real_server_is_told_until_it_is_back(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_monitor, "STILL_AWAY_FIRST_S", 0.0)
    lines: list[Any] = []
    logger = Logger(sink=lambda line: lines.append(msgspec.json.decode(line)))
    config = Config(nats=Nats(hosts=[NatsHost(hostname="127.0.0.1", port=nats_server.port)]))
    subscriber = Subscriber(config, make_registry(config, logger), logger, on_changes=lambda: None)
    await subscriber.connect()
    await subscriber.start()
    nats_server.kill()

    def logged(message: str) -> list[Any]:
        return [line["data"] for line in lines if line["message"] == message]

    try:
        await eventually(lambda: logged("nats-connection-still-disconnected"), "the absence")
        assert str(nats_server.port) in logged("nats-connection-still-disconnected")[0]["errors"][0]
        nats_server.start()
        await eventually(lambda: logged("nats-connection-reconnected"), "the return")
        assert len(logged("nats-connection-disconnected")) == 1
        # Routers hear their own router.start.
        none = {"buffered_messages": 0, "total_dropped_messages": 0}
        await eventually(lambda: subscriber.monitor.figures() == none, "nothing waits or is lost")
    finally:
        await subscriber.close()
