"""Shares of requests by weight, counted at real instances."""

import base64
import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.ports import free_port
from tests.support.recorder import Conversation, RecordingBackend, named
from tests.support.waiting import PATIENCE_S, wait_until

MakeBackend = Callable[..., RecordingBackend]
APP = "0a1b2c3d-0000-4000-8000-00000000000a"


def answers(live: Live, host: str, count: int, headers: str = "") -> dict[str, int]:
    with live.client() as client:
        return dict(Counter(client.get(host=host, headers=headers).body.decode() for _ in range(count)))


def weighted(live: Live, backend: RecordingBackend, weight: object, host: str, **fields: Any) -> None:
    live.routes.register(host, backend=backend, options={"weight": weight}, **fields)


def listed(live: Live, host: str) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", live.router.routes_port)
    token = base64.b64encode(b"admin:secret").decode()
    connection.request("GET", "/routes", headers={"Authorization": f"Basic {token}"})
    routes: dict[str, list[dict[str, Any]]] = json.loads(connection.getresponse().read())
    connection.close()
    return routes[host]


def test_instance_of_weight_3_gets_three_times_the_requests(live: Live, make_backend: MakeBackend) -> None:
    host = live.host()
    heavy, light = make_backend(named("heavy")), make_backend(named("light"))
    weighted(live, heavy, 3, host)
    weighted(live, light, 1, host)

    assert answers(live, host, 40) == {"heavy": 30, "light": 10}
    assert [each.get("weight") for each in listed(live, host)] == [3, None]


def test_change_of_weight_acts_at_once_and_costs_no_connection(live: Live, make_backend: MakeBackend) -> None:
    host = live.host()
    stable, canary = make_backend(named("stable")), make_backend(named("canary"))
    live.route(stable, host=host)
    weighted(live, canary, 0, host)
    assert answers(live, host, 10) == {"stable": 10}
    for weight, share in ((1, 10), (3, 15), (4, 16)):
        weighted(live, canary, weight, host)
        assert answers(live, host, 20) == {"stable": 20 - share, "canary": share}
    weighted(live, stable, 0, host)
    assert answers(live, host, 10) == {"canary": 10}
    assert [len(each.conversations) for each in (stable, canary)] == [1, 1]


def test_session_and_app_instance_reach_an_instance_without_weight(live: Live, make_backend: MakeBackend) -> None:
    host = live.host()
    for name, weight, index in (("busy", 1, "0"), ("kept", 0, "1")):
        backend = make_backend(named(name))
        weighted(live, backend, weight, host, app=APP, private_instance_id=name, private_instance_index=index)

    assert answers(live, host, 6) == {"busy": 6}
    cookies = "Cookie: JSESSIONID=a; __VCAP_ID__=kept\r\n"
    assert answers(live, host, 3, cookies) == {"kept": 3}
    assert answers(live, host, 3, f"X-CF-App-Instance: {APP}:1\r\n") == {"kept": 3}


def test_retry_finds_the_light_instance_when_the_heavy_one_is_dead(live: Live, make_backend: MakeBackend) -> None:
    host = live.host()
    live.routes.register(host, backend=free_port(), options={"weight": 100})
    weighted(live, make_backend(named("light")), 1, host)

    assert answers(live, host, 10) == {"light": 10}


def test_least_connection_counts_what_is_in_flight_by_weight(live: Live, make_backend: MakeBackend) -> None:
    release = threading.Event()

    def slow(conversation: Conversation) -> None:
        conversation.read_request()
        release.wait(PATIENCE_S)
        conversation.answer()

    host = live.host()
    backends = [make_backend(slow), make_backend(slow)]
    for backend, weight in zip(backends, (3, 1), strict=True):
        options = {"weight": weight, "loadbalancing": "least-connection"}
        live.routes.register(host, backend=backend, options=options)
    clients = [live.client() for _ in range(8)]
    for count, client in enumerate(clients, 1):
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        wait_until(lambda: sum(len(each.requests) for each in backends) == count, "it has arrived")  # noqa: B023
    release.set()
    assert [client.read_response().status for client in clients] == [200] * 8
    for client in clients:
        client.close()
    assert [len(each.requests) for each in backends] == [6, 2]


def test_instance_without_weight_takes_nothing_when_the_others_are_at_their_limit(
    start_live: StartLive, make_backend: MakeBackend
) -> None:
    live = start_live({"backends": {"max_conns": 1}})
    release = threading.Event()

    def slow(conversation: Conversation) -> None:
        conversation.read_request()
        release.wait(PATIENCE_S)
        conversation.answer()

    host = live.host()
    busy = make_backend(slow)
    weighted(live, busy, 1, host)
    weighted(live, make_backend(named("kept")), 0, host, private_instance_id="kept")
    with live.client() as occupant, live.client() as client:
        occupant.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        wait_until(lambda: busy.requests, "the one that takes requests is at its limit")
        response = client.get(host=host)
        assert (response.status, response.header("X-Cf-Routererror")) == (503, "Connection Limit Reached")
        cookies = "Cookie: JSESSIONID=a; __VCAP_ID__=kept\r\n"
        assert client.get(host=host, headers=cookies).body == b"kept"
        release.set()
        assert occupant.read_response().status == 200


@pytest.fixture(scope="module")
def fresh(start_live: StartLive) -> Live:
    """A router that has not yet been sent so many bad messages that it logs only some of them."""
    return start_live({})


@pytest.mark.parametrize("weight", [101, -1, 1.5, "3", True, [3], {"of": 3}, 10**30])
def test_what_is_no_weight_counts_as_none_and_is_told(
    weight: object, fresh: Live, make_backend: MakeBackend
) -> None:
    host = fresh.host()
    weighted(fresh, make_backend(named("odd")), weight, host)
    weighted(fresh, make_backend(named("even")), 1, host)

    assert answers(fresh, host, 8) == {"odd": 4, "even": 4}
    assert [each.get("weight") for each in listed(fresh, host)] == [None, None]
    line = fresh.router.wait_for_log("validation-error", where=lambda line: host in line["data"]["payload"])
    assert line["data"]["error"].startswith("options.weight: ")
    assert line["data"]["error"].endswith(" is not a whole number from 0 to 100")
