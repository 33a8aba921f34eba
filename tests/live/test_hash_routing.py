"""Hash-based routing with live requests: the published vectors, and what happens when the owner cannot be had."""

import base64
import http.client
import json
from typing import Any

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.ports import free_port
from tests.support.recorder import MakeBackend, RecordingBackend, named, silent
from tests.support.waiting import wait_until

OPTIONS = {"loadbalancing": "hash", "hash_header": "X-Tenant"}
OWNERS = {"tenant-a": b"inst-3", "tenant-b": b"inst-1", "tenant-c": b"inst-2"}
"""GOROUTER.md §6.9, with 3001 slots."""


@pytest.fixture
def hashed(live: Live, make_backend: MakeBackend) -> str:
    """The host of three instances, announced in another order than that of their ids."""
    host = live.host()
    for name in ("inst-2", "inst-3", "inst-1"):
        live.routes.register(host, backend=make_backend(named(name)), private_instance_id=name, options=OPTIONS)
    return host


def tenant(name: str) -> str:
    return f"X-Tenant: {name}\r\n"


def test_vectors_lead_to_their_instances(live: Live, hashed: str) -> None:
    with live.client() as client:
        for _ in range(3):
            for name, owner in OWNERS.items():
                assert client.get(host=hashed, headers=tenant(name)).body == owner
                assert client.get(host=hashed, headers=f"x-tenant: {name}\r\nX-TENANT: other\r\n").body == owner


def test_without_the_header_requests_go_round(live: Live, hashed: str) -> None:
    with live.client() as client:
        for headers in ("", "X-Tenant:\r\n"):
            assert {client.get(host=hashed, headers=headers).body for _ in range(3)} == set(OWNERS.values())


def test_session_goes_before_the_hash(live: Live, hashed: str) -> None:
    with live.client() as client:
        headers = tenant("tenant-a") + "Cookie: JSESSIONID=a; __VCAP_ID__=inst-2\r\n"
        assert [client.get(host=hashed, headers=headers).body for _ in range(3)] == [b"inst-2"] * 3


def test_others_keep_their_instances_when_one_goes(live: Live, make_backend: MakeBackend) -> None:
    host = live.host()
    backends = {name: make_backend(named(name)) for name in ("inst-1", "inst-2", "inst-3")}
    for name, backend in backends.items():
        live.routes.register(host, backend=backend, private_instance_id=name, options=OPTIONS)
    with live.client() as client:
        names = [f"tenant-{number}" for number in range(60)]
        before = {name: client.get(host=host, headers=tenant(name)).body for name in names}
        live.routes.unregister(host, backend=backends["inst-2"])
        after = {name: client.get(host=host, headers=tenant(name)).body for name in names}
    moved = [name for name in names if before[name] != after[name]]
    assert set(before.values()) == set(OWNERS.values())
    assert b"inst-2" not in after.values()
    # Maglev moves few of those whose instance stays; most of what moves had to.
    assert sum(before[name] != b"inst-2" for name in moved) <= 6


def test_retry_goes_to_the_next_instance_and_always_the_same(live: Live, make_backend: MakeBackend) -> None:
    host = live.host()
    for name in ("inst-1", "inst-2"):
        live.routes.register(host, backend=make_backend(named(name)), private_instance_id=name, options=OPTIONS)
    live.routes.register(host, backend=free_port(), private_instance_id="inst-3", options=OPTIONS)
    with live.client() as client:
        answers = {client.get(host=host, headers=tenant("tenant-a")).body for _ in range(4)}
        assert len(answers) == 1
        assert client.get(host=host, headers=tenant("tenant-b")).body == b"inst-1"


def test_overloaded_owner_is_passed_over(start_live: StartLive, make_backend: MakeBackend) -> None:
    live = start_live({"backends": {"max_conns": 1}})

    holding = make_backend(silent)
    host = live.host()
    live.routes.register(host, backend=holding, private_instance_id="inst-3", options=OPTIONS)
    for name in ("inst-1", "inst-2"):
        live.routes.register(host, backend=make_backend(named(name)), private_instance_id=name, options=OPTIONS)
    with live.client() as occupant, live.client() as client:
        occupant.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n{tenant('tenant-a')}\r\n".encode())
        wait_until(lambda: holding.requests, "the owner is at its limit")
        assert client.get(host=host, headers=tenant("tenant-a")).body in (b"inst-1", b"inst-2")


def test_owner_with_more_than_its_share_is_passed_over(live: Live, make_backend: MakeBackend) -> None:
    options = {**OPTIONS, "hash_balance": "1.25"}
    holding = make_backend(silent)
    host = live.host()
    live.routes.register(host, backend=holding, private_instance_id="inst-3", options=options)
    for name in ("inst-1", "inst-2"):
        live.routes.register(host, backend=make_backend(named(name)), private_instance_id=name, options=options)
    with live.client() as occupant, live.client() as client:
        occupant.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n{tenant('tenant-a')}\r\n".encode())
        wait_until(lambda: holding.requests, "one request is in flight")
        assert client.get(host=host, headers=tenant("tenant-a")).body in (b"inst-1", b"inst-2")
        assert client.get(host=host, headers=tenant("tenant-b")).body == b"inst-1"


@pytest.mark.parametrize(("balance", "shown"), [(None, None), ("1.25", "1.25"), ("2", "2")])
def test_listing_shows_header_and_balance(
    balance: str | None, shown: str | None, live: Live, backend: RecordingBackend
) -> None:
    options: dict[str, Any] = OPTIONS if balance is None else {**OPTIONS, "hash_balance": balance}
    host = live.route(backend, options=options)
    connection = http.client.HTTPConnection("127.0.0.1", live.router.routes_port)
    token = base64.b64encode(b"admin:secret").decode()
    connection.request("GET", "/routes", headers={"Authorization": f"Basic {token}"})
    (endpoint,) = json.loads(connection.getresponse().read())[host]
    connection.close()
    assert endpoint["load_balancing_algorithm"] == "hash"
    assert endpoint["hash_header"] == "X-Tenant"
    assert endpoint.get("hash_balance") == shown
