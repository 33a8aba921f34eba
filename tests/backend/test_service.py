"""What may be dialled for a route service: asked of addresses, after the name was resolved."""

import asyncio
import socket
from typing import Any

import pytest

from router.backend.failure import BackendFailure
from router.backend.service import BLOCKED, connect_allowed, egress_filter
from tests.backend.receiver import Dialler, endpoint
from tests.support.ports import free_port
from tests.support.recorder import RecordingBackend


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names and the addresses that this test's resolver finds for them."""
    table: dict[str, list[str]] = {}

    async def look_up(loop: Any, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        await asyncio.sleep(0)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in table.get(host, [host])
        ]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", look_up)
    return table


def test_empty_list_needs_no_filter() -> None:
    assert egress_filter([]) is None


@pytest.mark.parametrize(
    ("network", "address", "expected"),
    [
        ("127.0.0.0/8", "127.1.2.3", False),
        ("127.0.0.0/8", "128.0.0.1", True),
        ("127.0.0.1/8", "127.255.0.1", False),
        ("169.254.169.254/32", "169.254.169.254", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", False),
        ("10.0.0.0/8", "::ffff:11.1.2.3", True),
        ("::ffff:0:0/96", "::ffff:1.2.3.4", False),
        ("127.0.0.0/8", "0.0.0.0", False),
        ("127.0.0.0/8", "::ffff:0.0.0.0", False),
        ("::1/128", "::", False),
        ("::1/128", "0.0.0.0", True),
        ("fe80::/10", "fe80::1%eth0", False),
        ("fc00::/7", "fd00::1", False),
        ("::/0", "10.0.0.1", True),
        ("0.0.0.0/0", "2001:db8::1", True),
    ],
)
def test_address_in_a_listed_network_may_not_be_dialled(network: str, address: str, expected: bool) -> None:
    allowed = egress_filter(["192.0.2.0/24", network])
    assert allowed is not None
    assert allowed(address) is expected


def test_what_is_no_network_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/33"):
        egress_filter(["10.0.0.0/33"])


async def test_blocked_address_is_not_dialled() -> None:
    with RecordingBackend() as backend:
        dialler = Dialler(allowed=egress_filter(["127.0.0.0/8"]))
        with pytest.raises(BackendFailure, match="connection to IP not allowed") as caught:
            await dialler.dial(endpoint(backend.port))
        assert caught.value.kind is BLOCKED
        assert backend.conversations == []


async def test_name_that_resolves_to_a_blocked_address_is_not_dialled(names: dict[str, list[str]]) -> None:
    names["inside.test"] = ["127.0.0.1", "127.0.0.2"]
    dialler = Dialler(allowed=egress_filter(["127.0.0.0/8"]))
    with pytest.raises(BackendFailure, match="connection to IP not allowed"):
        await dialler.dial(endpoint(free_port(), host="inside.test"))


async def test_only_the_addresses_that_were_looked_at_are_dialled(names: dict[str, list[str]]) -> None:
    """Of two addresses one is blocked; the other is connected to, although the name has changed meanwhile."""
    names["twice.test"] = ["127.0.0.2", "127.0.0.1"]
    asked: list[str] = []

    def allowed(address: str) -> bool:
        asked.append(address)
        names["twice.test"] = ["127.0.0.2"]
        return address != "127.0.0.2"

    with RecordingBackend() as backend:
        dialler = Dialler(allowed=allowed)
        connection = await dialler.dial(endpoint(backend.port, host="twice.test"))
        assert asked == ["127.0.0.2", "127.0.0.1"]
        await dialler.exchange(connection)
        connection.close()
        await dialler.until_closed()


async def test_next_address_is_tried_after_one_that_does_not_answer(names: dict[str, list[str]]) -> None:
    names["two.test"] = ["127.0.0.9", "127.0.0.1"]
    with RecordingBackend() as backend:
        dialler = Dialler(allowed=egress_filter(["10.0.0.0/8"]))
        connection = await dialler.dial(endpoint(backend.port, host="two.test"))
        connection.close()
        await dialler.until_closed()


async def test_first_failure_is_told_if_no_address_answers() -> None:
    with pytest.raises(ConnectionRefusedError):
        await connect_allowed(asyncio.BufferedProtocol(), "127.0.0.1", free_port(), lambda _: True)


async def test_unknown_name_is_a_failed_dial() -> None:
    dialler = Dialler(allowed=egress_filter(["10.0.0.0/8"]))
    with pytest.raises(BackendFailure) as caught:
        await dialler.dial(endpoint(1, host="name.invalid"))
    assert caught.value.kind.name == "dial"
