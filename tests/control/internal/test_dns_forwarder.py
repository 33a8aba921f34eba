"""Asking resolvers, real ones on real sockets, that answer well, badly, late or not at all."""

import asyncio

import pytest
from dnslib import EDNS0, DNSRecord  # type: ignore[import-untyped]

from router.control.internal.dns_forwarder import AT_ONCE_OF_ONE, Forwarder, random_id
from router.wire.dns import Query, parse_query
from tests.support.dns import Behaviour, FakeResolver, addresses_in, answer_with, fake_resolver
from tests.support.eventually import eventually
from tests.support.ports import free_port


def query(name: str = "www.example.com", *, payload: int | None = None) -> Query:
    record = DNSRecord.question(name)
    if payload is not None:
        record.add_ar(EDNS0(udp_len=payload))
    return parse_query(record.pack())


def forwarder(*ports: int, timeout_s: float = 20.0) -> Forwarder:
    return Forwarder([("127.0.0.1", port) for port in ports], timeout_s=timeout_s)


async def ask(subject: Forwarder, asked: Query, *, tcp: bool = False) -> DNSRecord:
    answer = await subject.ask(asked, "10.0.0.1", tcp=tcp)
    assert answer is not None
    return DNSRecord.parse(answer)


def answers(count: int = 1) -> Behaviour:
    return lambda record, tcp: bytes(answer_with(count, record).pack())


def code(value: int) -> Behaviour:
    def behave(record: DNSRecord, tcp: bool) -> bytes:
        found = record.reply()
        found.header.rcode = value
        return bytes(found.pack())

    return behave


def truncated_over_udp(record: DNSRecord, tcp: bool) -> bytes:
    found = answer_with(300 if tcp else 0, record)
    found.header.tc = not tcp
    return bytes(found.pack())


async def test_answer_comes_back_under_the_clients_id() -> None:
    async with fake_resolver(answers()) as resolver:
        asked = query()
        answer = await ask(forwarder(resolver.port), asked)
    assert addresses_in(answer) == ["192.0.2.0"]
    assert answer.header.id == asked.id


async def test_every_question_has_an_id_and_a_port_of_its_own() -> None:
    async with fake_resolver(lambda record, tcp: []) as resolver:
        subject = forwarder(resolver.port)
        waiting = [asyncio.create_task(ask(subject, query())) for _ in range(20)]
        # None is answered, and so none is over: a port that is free again may be anybody's next one.
        await eventually(lambda: len(resolver.asked) == 20, "all questions asked")
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
    assert len({record.header.id for record, _, _ in resolver.asked}) > 15
    assert len({port for _, _, port in resolver.asked}) == 20


def test_ids_use_all_sixteen_bits() -> None:
    ids = [random_id() for _ in range(2000)]
    assert min(ids) < 1 << 12
    assert 1 << 15 < max(ids) < 1 << 16


async def test_forged_answers_are_passed_over() -> None:
    def behave(record: DNSRecord, tcp: bool) -> list[bytes]:
        genuine = bytes(answer_with(1, record).pack())
        wrong_id = bytes([genuine[0] ^ 1]) + genuine[1:]
        other = DNSRecord.question("evil.example.com")
        other.header.id = record.header.id
        forged = answer_with(9, record)
        forged.header.qr = 0
        return [b"", b"x", wrong_id, bytes(answer_with(9, other).pack()), bytes(forged.pack()), genuine]

    async with fake_resolver(behave) as resolver:
        answer = await ask(forwarder(resolver.port), query())
    assert len(answer.rr) == 1


async def test_silent_resolver_is_given_up_for_the_next_and_asked_last_from_then_on() -> None:
    def say_nothing(record: DNSRecord, tcp: bool) -> list[bytes]:
        # The time this one has runs out soon; the other has all the time in the world.
        subject._timeout_s = 60.0
        return []

    async with fake_resolver(say_nothing) as silent, fake_resolver(answers()) as good:
        subject = forwarder(silent.port, good.port, timeout_s=0.05)
        await ask(subject, query())
        assert (len(silent.asked), len(good.asked)) == (1, 1)
        await ask(subject, query())
        assert (len(silent.asked), len(good.asked)) == (1, 2)


async def test_resolver_that_is_not_there_costs_no_time_out() -> None:
    async with fake_resolver(answers()) as good:
        await ask(forwarder(free_port(), good.port, timeout_s=1000.0), query())


@pytest.mark.parametrize("failure", [2, 4, 5])
async def test_failure_of_one_resolver_is_another_ones_turn(failure: int) -> None:
    async with fake_resolver(code(failure)) as bad, fake_resolver(answers()) as good:
        answer = await ask(forwarder(bad.port, good.port), query())
    assert len(answer.rr) == 1


async def test_failure_of_all_is_passed_on() -> None:
    async with fake_resolver(code(5)) as bad:
        assert (await ask(forwarder(bad.port), query())).header.rcode == 5


async def test_nxdomain_is_an_answer() -> None:
    async with fake_resolver(code(3)) as first, fake_resolver(answers()) as second:
        assert (await ask(forwarder(first.port, second.port), query())).header.rcode == 3
    assert second.asked == []


async def test_nobody_there_is_no_answer() -> None:
    assert await forwarder(free_port(), free_port()).ask(query(), "10.0.0.1", tcp=False) is None


async def test_cut_answer_is_asked_for_over_tcp_when_the_client_came_so() -> None:
    async with fake_resolver(truncated_over_udp) as resolver:
        answer = await ask(forwarder(resolver.port), query(), tcp=True)
    assert (answer.header.tc, len(answer.rr)) == (0, 300)
    assert [transport for _, transport, _ in resolver.asked] == ["udp", "tcp"]


async def test_client_on_udp_hears_that_the_answer_was_cut() -> None:
    async with fake_resolver(truncated_over_udp) as resolver:
        answer = await ask(forwarder(resolver.port), query())
    assert (answer.header.tc, answer.rr) == (1, [])
    assert [transport for _, transport, _ in resolver.asked] == ["udp"]


async def test_answer_over_tcp_must_be_the_wanted_one() -> None:
    def behave(record: DNSRecord, tcp: bool) -> bytes:
        if tcp:
            record.header.id ^= 1
        return truncated_over_udp(record, tcp)

    async with fake_resolver(behave) as resolver:
        assert await forwarder(resolver.port).ask(query(), "10.0.0.1", tcp=True) is None


async def test_answer_longer_than_the_client_takes_is_cut_here() -> None:
    async with fake_resolver(answers(200)) as resolver:
        answer = await forwarder(resolver.port).ask(query(payload=1000), "10.0.0.1", tcp=False)
    assert answer is not None
    assert len(answer) <= 1000
    assert DNSRecord.parse(answer).header.tc == 1


@pytest.mark.parametrize(("payload", "told"), [(4096, 1232), (1000, 1000), (100, 512)])
async def test_resolver_is_told_what_the_client_can_take(payload: int, told: int) -> None:
    async with fake_resolver(answers()) as resolver:
        await ask(forwarder(resolver.port), query(payload=payload))
    assert resolver.asked[0][0].ar[0].edns_len == told


async def test_one_source_cannot_hold_more_than_its_share() -> None:
    async with fake_resolver(lambda record, tcp: []) as silent:
        subject = forwarder(silent.port)
        waiting = [asyncio.create_task(subject.ask(query(), "10.0.0.1", tcp=False)) for _ in range(AT_ONCE_OF_ONE)]
        await eventually(lambda: len(silent.asked) == AT_ONCE_OF_ONE, "all questions asked")
        assert await subject.ask(query(), "10.0.0.1", tcp=False) is None
        other = asyncio.create_task(subject.ask(query(), "10.0.0.2", tcp=False))
        await eventually(lambda: len(silent.asked) == AT_ONCE_OF_ONE + 1, "another source's question asked")
        for task in (*waiting, other):
            task.cancel()
        await asyncio.wait([*waiting, other])
        freed = asyncio.create_task(subject.ask(query(), "10.0.0.1", tcp=False))
        await eventually(lambda: len(silent.asked) == AT_ONCE_OF_ONE + 2, "share free again")
        freed.cancel()
        await asyncio.wait([freed])


def test_fake_resolver_has_an_address() -> None:
    assert FakeResolver(truncated_over_udp).address.startswith("127.0.0.1:")
