import asyncio
import json
import zlib

import nats
import pytest
from nats.aio.msg import Msg

from router.config.schema import Config
from router.config.sections import Nats, NatsHost
from router.control.active_apps import APPS_PER_MESSAGE, SUBJECT, ActiveApps
from router.control.nats_link import LinkError
from router.control.registry_log import make_registry
from router.control.subscriber import Subscriber
from router.log import Logger
from tests.support.eventually import eventually
from tests.support.nats import NatsServer, settle


class Bus:
    """Takes what is published while it is up."""

    def __init__(self) -> None:
        self.up = True
        self.taken: list[list[str]] = []

    async def publish(self, subject: str, payload: bytes) -> None:
        assert subject == "router.active_apps"
        if not self.up:
            raise LinkError("down")
        self.taken.append(json.loads(zlib.decompress(payload)))


async def test_each_message_has_the_apps_since_the_one_before() -> None:
    bus = Bus()
    apps = ActiveApps(60.0, bus.publish)
    apps.add(["b", "a", ""])
    apps.add(["b"])
    await apps.flush()
    await apps.flush()
    apps.add(["c"])
    await apps.flush()

    assert bus.taken == [["a", "b"], [], ["c"]]


async def test_apps_of_a_message_that_did_not_get_out_are_in_the_next() -> None:
    bus = Bus()
    apps = ActiveApps(60.0, bus.publish)
    bus.up = False
    apps.add(["a"])
    await apps.flush()
    bus.up = True
    apps.add(["b"])
    await apps.flush()

    assert bus.taken == [["a", "b"]]


async def test_many_apps_are_split_over_messages_nats_takes() -> None:
    bus = Bus()
    apps = ActiveApps(60.0, bus.publish)
    names = [f"{number:036x}" for number in range(2 * APPS_PER_MESSAGE + 1)]
    apps.add(names)
    await apps.flush()

    assert [len(message) for message in bus.taken] == [APPS_PER_MESSAGE, APPS_PER_MESSAGE, 1]
    assert [name for message in bus.taken for name in message] == names


async def test_messages_come_every_interval_until_close(nats_server: NatsServer) -> None:
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    listener = await nats.connect(f"nats://127.0.0.1:{nats_server.port}")
    await listener.subscribe(SUBJECT, cb=hear)
    await settle(listener)
    config = Config(nats=Nats(hosts=[NatsHost(hostname="127.0.0.1", port=nats_server.port)]))
    logger = Logger(sink=lambda line: True)
    subscriber = Subscriber(config, make_registry(config, logger), logger, on_changes=lambda: None)
    await subscriber.connect()
    apps = ActiveApps(0.01, subscriber.publish)
    apps.add(["guid"])
    await apps.start()
    await eventually(lambda: len(heard) >= 2, "two messages")

    assert [json.loads(zlib.decompress(payload)) for payload in heard[:2]] == [["guid"], []]
    await apps.close()
    await apps.close()
    await subscriber.close()
    await listener.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_publishing_without_a_connection_is_a_link_error() -> None:
    config = Config()
    logger = Logger(sink=lambda line: True)
    subscriber = Subscriber(config, make_registry(config, logger), logger, on_changes=lambda: None)

    with pytest.raises(LinkError, match="not connected"):
        await subscriber.publish(SUBJECT, b"")
