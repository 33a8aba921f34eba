from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.config.internal import InternalPolicies
from router.control.internal.hub import InternalHub
from router.control.internal.policies_file import PolicyFile
from router.control.internal.policy_store import PolicyStoreError
from router.log import Logger
from tests.support.bucket import policy
from tests.support.eventually import eventually

GOOD = "policies: [{source: a, destination: b, ports: 5000}]"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policies.yml"


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.control.internal.policies_file.LOOK_S", 0.01)


def replace(path: Path, text: str) -> None:
    """Put a file in place whole, as one should."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


@asynccontextmanager
async def watching(path: Path, keep: float = 600.0) -> AsyncIterator[tuple[PolicyFile, InternalHub]]:
    hub = InternalHub(lambda: None)
    store = PolicyFile(
        InternalPolicies(source="file", file=str(path), keep=keep), hub, Logger(sink=lambda _: None)
    )
    await store.start()
    try:
        yield store, hub
    finally:
        await store.close()
        await store.close()


async def test_file_is_read_at_the_start(path: Path) -> None:
    replace(path, GOOD)
    async with watching(path) as (store, hub):
        assert hub.table.allows("a", "b", "tcp", 5000)
        assert store.policies == [policy("a", "b", 5000)]
        assert store.tags == {"a": 1, "b": 2}
        assert store.last_updated_ns > 0
        assert (store.status()["state"], store.status()["policies"]) == ("current", 1)


async def test_a_changed_file_is_read_again(path: Path) -> None:
    replace(path, GOOD)
    async with watching(path) as (store, hub):
        date = store.last_updated_ns
        replace(path, "policies: [{source: c, destination: b, ports: 1-9, protocol: udp}]")
        await eventually(lambda: store.policies == [policy("c", "b", 1, 9, "udp")], "the new policies")
        assert hub.table.sources() == ["c"]
        assert store.last_updated_ns > date
        assert store.tags == {"b": 2, "c": 3}


async def test_a_file_that_is_not_there_denies_all_until_it_is(path: Path) -> None:
    async with watching(path) as (store, hub):
        assert store.status()["state"] == "waiting"
        assert store.status()["error"] == f"{path}: No such file or directory"
        assert not hub.table.policies_ready
        replace(path, GOOD)
        await eventually(lambda: hub.table.allows("a", "b", "tcp", 5000), "the policies")


async def test_a_bad_file_leaves_the_last_set_for_a_time(path: Path) -> None:
    replace(path, GOOD)
    async with watching(path, keep=0.05) as (store, hub):
        replace(path, "policies: [{source: a, destination: b, ports: 99999}]")
        await eventually(lambda: "policies[0].ports" in store.status()["error"], "the mistake to be told")
        assert store.policies == [policy("a", "b", 5000)]
        await eventually(lambda: not hub.table.policies_ready, "the set to expire")
        replace(path, GOOD + "\n")
        await eventually(lambda: hub.table.allows("a", "b", "tcp", 5000), "the policies")


async def test_policies_cannot_be_changed_here(path: Path) -> None:
    async with watching(path) as (store, _):
        assert not store.writable
        with pytest.raises(PolicyStoreError, match=r"policies\.yml"):
            await store.add([policy("a", "b")])
        with pytest.raises(PolicyStoreError, match="changed there"):
            await store.remove([policy("a", "b")])
