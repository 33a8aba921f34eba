"""Requests to a real nats-server with JetStream."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.config.sections import NatsHost
from router.control.internal.policy_bucket import Bucket, BucketError, Conflict, PartMissing, TooLarge
from router.control.nats_link import LinkOptions, dial
from tests.support.bucket import jetstream_server
from tests.support.nats import NatsServer


@asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[Bucket]:
    link = await dial(NatsHost(hostname="127.0.0.1", port=server.port), LinkOptions(), lambda _: None)
    try:
        yield Bucket(link, "policies", 1)
    finally:
        await link.close()


@pytest.fixture
async def bucket(tmp_path: Path) -> AsyncIterator[Bucket]:
    server = jetstream_server(tmp_path)
    server.start()
    try:
        async with connected(server) as bucket:
            yield bucket
    finally:
        server.kill()


async def test_opening_makes_the_bucket_once(bucket: Bucket) -> None:
    assert await bucket.open() == 1
    await bucket.write_root(b"x", 0)
    assert await bucket.open() == 1
    assert await bucket.root() == (1, b"x")


async def test_there_is_no_root_at_first(bucket: Bucket) -> None:
    await bucket.open()
    assert await bucket.root() == (0, b"")


async def test_only_who_knows_the_root_replaces_it(bucket: Bucket) -> None:
    await bucket.open()
    revision = await bucket.write_root(b"one", 0)
    with pytest.raises(Conflict):
        await bucket.write_root(b"two", 0)
    await bucket.write_part("p", b"part")
    second = await bucket.write_root(b"two", revision)
    with pytest.raises(Conflict):
        await bucket.write_root(b"three", revision)
    assert await bucket.root() == (second, b"two")


async def test_parts_come_and_go(bucket: Bucket) -> None:
    await bucket.open()
    await bucket.write_part("a", b"1")
    await bucket.write_part("b", b"2")
    assert sorted(await bucket.parts()) == ["a", "b"]
    assert await bucket.part("a") == b"1"
    await bucket.remove_part("a")
    await bucket.remove_part("a")
    assert await bucket.parts() == ["b"]
    with pytest.raises(PartMissing):
        await bucket.part("a")


async def test_what_the_server_would_not_take_is_not_sent(bucket: Bucket) -> None:
    await bucket.open()
    with pytest.raises(TooLarge, match="1048576"):
        await bucket.write_part("a", bytes(1048576))
    await bucket.write_part("a", bytes(1048576 - 1024))
    assert len(await bucket.part("a")) == 1048576 - 1024


async def test_a_bucket_that_is_not_there_is_an_error(bucket: Bucket) -> None:
    with pytest.raises(BucketError, match="not found"):
        await bucket.root()
    with pytest.raises(BucketError, match="the bucket is not there"):
        await bucket.write_root(b"x", 0)


async def test_a_server_without_jetstream_is_an_error(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    try:
        async with connected(server) as bucket:
            with pytest.raises(BucketError, match=rf"127\.0\.0\.1:{server.port}: JetStream is not enabled"):
                await bucket.open()
    finally:
        server.kill()


async def test_a_server_that_does_not_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = jetstream_server(tmp_path)
    server.start()
    try:
        async with connected(server) as bucket:
            await bucket.open()
            server.freeze()
            monkeypatch.setattr("router.control.internal.policy_bucket.REQUEST_S", 0.05)
            with pytest.raises(BucketError, match=r"no answer within 0\.05 s"):
                await bucket.root()
    finally:
        server.kill()
