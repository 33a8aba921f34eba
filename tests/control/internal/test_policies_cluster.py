"""The bucket on a cluster of three nats-servers, one of which is lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.config.internal import InternalPolicies
from router.control.internal.policy_store import PolicyStoreError
from tests.support.bucket import Router, policy
from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.support.ports import free_port

pytestmark = pytest.mark.slow
STREAM = "KV_network-policies"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[NatsServer]]:
    ports = [free_port() for _ in range(3)]
    routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
    servers = []
    for number, port in enumerate(ports):
        directory = tmp_path / str(number)
        directory.mkdir()
        jetstream = ["--jetstream", "--store_dir", str(directory), "--server_name", f"server-{number}"]
        joined = ["--cluster_name", "test", "--cluster", f"nats://127.0.0.1:{port}", "--routes", routes]
        servers.append(NatsServer(directory, arguments=[*jetstream, *joined]))
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.kill()


@asynccontextmanager
async def on_each(cluster: list[NatsServer]) -> AsyncIterator[list[Router]]:
    """Run a router on each server, ready as soon as the cluster has found a leader."""
    running = [Router(server, InternalPolicies(replicas=3)) for server in cluster]
    try:
        for router in running:
            await router.connect()
        await eventually(
            lambda: all(each.hub.table.policies_ready for each in running), "the bucket", timeout_s=60
        )
        yield running
    finally:
        for router in running:
            await router.close()


async def leader_of(router: Router) -> int:
    """Return the number of the server that leads the bucket's stream."""
    assert router.link is not None
    info = await router.link.client.jetstream().stream_info(STREAM)
    assert info.config.num_replicas == 3
    assert info.cluster is not None
    return int((info.cluster.leader or "").rpartition("-")[2])


async def keep_trying(router: Router, port: int) -> None:
    """Add a policy, as a person would who is told to repeat it."""
    for _ in range(10):
        try:
            return await router.store.add([policy("a", "b", port)])
        except PolicyStoreError:
            continue
    raise AssertionError("no change is possible")


async def test_policies_outlive_the_server_that_leads(cluster: list[NatsServer]) -> None:
    async with on_each(cluster) as routers:
        await asyncio.gather(*(router.store.add([policy("a", "b", n)]) for n, router in enumerate(routers, 1)))
        for router in routers:
            await router.sees(*(policy("a", "b", port) for port in (1, 2, 3)))
        leader = await leader_of(routers[0])
        cluster[leader].kill()
        await routers[leader].lose()
        left = [router for number, router in enumerate(routers) if number != leader]
        await keep_trying(left[0], 4)
        for router in left:
            await router.sees(*(policy("a", "b", port) for port in (1, 2, 3, 4)))
        cluster[leader].start()
        await routers[leader].connect()
        await routers[leader].sees(*(policy("a", "b", port) for port in (1, 2, 3, 4)))
