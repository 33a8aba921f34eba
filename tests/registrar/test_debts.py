"""Withdrawals that routers have still to hear: what is owed, what is sent again, and what is forgiven."""

import asyncio
import signal

from router.registrar import Announcer, AnyRoute, InternalRoute, Observer, Route, RouterStart
from router.registrar.announced import Announced
from router.registrar.debts import MOST, REPEAT_WITHIN_S, Debts
from router.registrar.dialect import INTERNAL, PUBLIC, Dialect
from tests.support.announce import status_of
from tests.support.eventually import eventually
from tests.support.nats import NatsServer
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until

PUBLICLY = Dialect(PUBLIC, "a", None)
INTERNALLY = Dialect(INTERNAL, "b", None)
NAMES = InternalRoute(ip="10.255.0.9", names=("x.apps.internal",))


def announced(route: AnyRoute, stamp_ns: int = 5) -> Announced:
    return Announced.of(route, stamp_ns, PUBLICLY, INTERNALLY, None)


def route(*uris: str, port: int = 9000) -> Announced:
    return announced(Route(host="10.0.0.7", port=port, uris=list(uris)))


def send(debts: Debts, *withdrawals: Announced, now: float = 0.0) -> None:
    debts.begin(withdrawals)
    debts.send(withdrawals, now)


def test_what_could_not_be_sent_is_owed_until_it_is_taken() -> None:
    debts, one = Debts(), route("a.test")
    debts.begin([one])
    assert debts.take_owed() == []
    debts.owe([one])
    assert debts.take_owed() == [one]
    assert debts.take_owed() == []


def test_what_was_sent_is_owed_again_when_a_router_begins_to_listen() -> None:
    debts, one = Debts(), route("a.test")
    send(debts, one)
    assert debts.take_owed() == []
    debts.recall(PUBLICLY, REPEAT_WITHIN_S - 1)
    assert debts.take_owed() == [one]


def test_sending_again_ends_with_its_time_however_often_routers_begin() -> None:
    debts, one = Debts(), route("a.test")
    send(debts, one)
    debts.recall(PUBLICLY, REPEAT_WITHIN_S - 1)
    debts.send(debts.take_owed(), REPEAT_WITHIN_S - 1)
    debts.recall(PUBLICLY, REPEAT_WITHIN_S)
    assert debts.take_owed() == []


def test_router_of_one_family_is_told_of_that_family_alone() -> None:
    debts, public, internal = Debts(), route("a.test"), announced(NAMES)
    send(debts, public, internal)
    debts.recall(INTERNALLY, 1)
    assert debts.take_owed() == [internal]


def test_route_that_is_announced_anew_is_not_taken_back() -> None:
    debts = Debts()
    owed, told, under_way = route("a.test", port=1), route("a.test", port=2), route("a.test", port=3)
    debts.begin([owed, under_way])
    debts.owe([owed])
    send(debts, told)
    for port in (1, 2, 3):
        debts.forgive(announced(Route(host="10.0.0.7", port=port, uris=["A.test", "b.test"]), 6))
    assert debts.still_due([owed, told, under_way]) == []
    debts.owe([under_way])
    debts.send([under_way], 1)
    debts.recall(PUBLICLY, 1)
    assert debts.take_owed() == []


def test_names_that_are_not_announced_anew_stay_owed_or_sent() -> None:
    debts, owed, told = Debts(), route("a.test", "b.test", port=1), route("a.test", "b.test", port=2)
    debts.begin([owed])
    debts.owe([owed])
    send(debts, told)
    debts.forgive(route("b.test", port=1))
    debts.forgive(route("b.test", port=2))
    (left,) = debts.take_owed()
    assert left.route == route("a.test", port=1).route
    debts.recall(PUBLICLY, 1)
    (left,) = debts.take_owed()
    assert left.route == route("a.test", port=2).route


def test_another_address_forgives_nothing() -> None:
    debts, one = Debts(), route("a.test", port=1)
    debts.begin([one])
    debts.forgive(route("a.test", port=2))
    assert debts.still_due([one]) == [one]


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    debts = Debts()
    many = [route("a.test", port=1) for _ in range(MOST + 2)]
    debts.begin(many)
    debts.owe(many)
    assert debts.take_owed() == many[2:]
    debts.send(many, 0)
    debts.recall(PUBLICLY, 1)
    assert len(debts.take_owed()) == MOST
    send(debts, route("b.test"), now=REPEAT_WITHIN_S)
    assert debts.still_due(many) == []


class Connections(Observer):
    """Counts connections made, and routers heard."""

    def __init__(self) -> None:
        self.count = 0
        self.routers = 0

    def connected(self, server: str) -> None:
        self.count += 1

    def router_heard(self, router: RouterStart, interval_s: float) -> None:
        self.routers += 1


async def test_router_that_comes_back_after_the_announcer_loses_what_was_withdrawn_meanwhile(
    nats_server: NatsServer, router: RunningRouter
) -> None:
    def answers(host: str, status: int) -> None:
        wait_until(lambda: status_of(router.port, host) == status, f"{host} is answered with {status}")

    seen = Connections()
    async with Announcer(f"nats://127.0.0.1:{nats_server.port}", observer=seen) as announcer:
        gone = await announcer.announce(Route(host="127.0.0.1", port=1, uris=["gone.test"]))
        await announcer.announce(Route(host="127.0.0.1", port=1, uris=["stays.test"]))
        await asyncio.to_thread(answers, "gone.test", 502)
        router.signal(signal.SIGSTOP)
        try:
            nats_server.kill()
            nats_server.start()
            await eventually(lambda: seen.count == 2, "the announcer is back")
            heard = seen.routers
            await announcer.withdraw(gone)
            assert announcer.connected
        finally:
            router.signal(signal.SIGCONT)
        await eventually(lambda: seen.routers > heard, "the router is back")
        await asyncio.to_thread(answers, "gone.test", 404)
        await asyncio.to_thread(answers, "stays.test", 502)


async def test_announcer_that_leaves_without_withdrawing_leaves_its_routes_and_takes_back_what_it_owes(
    nats_server: NatsServer, router: RunningRouter
) -> None:
    def answers(host: str, status: int) -> None:
        wait_until(lambda: status_of(router.port, host) == status, f"{host} is answered with {status}")

    announcer = Announcer(f"nats://127.0.0.1:{nats_server.port}")
    async with announcer:
        await announcer.announce(Route(host="127.0.0.1", port=1, uris=["stays.test"]))
        last = await announcer.announce(Route(host="127.0.0.1", port=1, uris=["last.test"]))
        await asyncio.to_thread(answers, "last.test", 502)
        await announcer.withdraw(last)
        await announcer.close(withdraw=False)
    await asyncio.to_thread(answers, "last.test", 404)
    assert await asyncio.to_thread(status_of, router.port, "stays.test") == 502
