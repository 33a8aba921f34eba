from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from router.proxy.envelopes import EnvelopeOptions, Envelopes
from router.wire.dropsonde import Encoder
from tests.proxy.observed import APP, Seen, endpoint
from tests.support.dropsonde import HearingAgent, hearing_agent

END = 100.030
EVENTS = EnvelopeOptions(server_events=True, client_events=True, values=False, index="2")
VALUES = EnvelopeOptions(server_events=False, client_events=False, values=True, index="2")


@dataclass
class Listening:
    """An agent, at the end of the wire."""

    hearing: HearingAgent
    made: list[Envelopes] = field(default_factory=list)

    def envelopes(self, options: EnvelopeOptions) -> Envelopes:
        made = Envelopes(options, Encoder("gorouter"), self.hearing.sender())
        self.made.append(made)
        return made

    def heard(self) -> list[Any]:
        return self.hearing.heard()


@pytest.fixture
def agent() -> Iterator[Listening]:
    with hearing_agent() as hearing:
        listening = Listening(hearing)
        yield listening
        for made in listening.made:
            made.close()


def test_finished_exchange_is_a_server_event(agent: Listening) -> None:
    envelopes = agent.envelopes(EVENTS)
    envelopes.finished(Seen(), END)

    [envelope] = agent.heard()
    event = envelope.httpStartStop
    assert (event.peerType, event.method, event.statusCode, event.contentLength) == (2, 1, 200, 12)
    assert (event.uri, event.remoteAddress, event.userAgent) == ("http://app.test/a", "10.0.0.9:4711", "curl/8")
    assert event.startTimestamp == 10**18
    assert event.stopTimestamp - event.startTimestamp == pytest.approx(30_000_000, abs=1000)
    assert (event.instanceIndex, event.instanceId) == (3, "inst")
    assert {tag.key: tag.value for tag in envelope.tags} == {"component": "route-emitter"}


def test_attempt_is_a_client_event_from_its_own_start(agent: Listening) -> None:
    envelopes = agent.envelopes(EVENTS)
    envelopes.attempted(Seen(attempt_at=100.010, forwarded_for=b"1.1.1.1, 10.0.0.9"), False, 100.020)
    envelopes.attempted(Seen(), True, 100.020)

    answered, failed = [each.httpStartStop for each in agent.heard()]
    assert (answered.peerType, answered.statusCode) == (1, 200)
    assert answered.startTimestamp - 10**18 == pytest.approx(10_000_000, abs=1000)
    assert answered.stopTimestamp - 10**18 == pytest.approx(20_000_000, abs=1000)
    assert list(answered.forwarded) == ["1.1.1.1", "10.0.0.9"]
    assert (failed.statusCode, failed.contentLength) == (0, 0)
    assert failed.requestId == answered.requestId


def test_trace_ids_are_tags_of_the_server_event(agent: Listening) -> None:
    agent.envelopes(EVENTS).finished(Seen(trace_id=b"aa11", span_id=b"bb22"), END)

    [envelope] = agent.heard()
    tags = {tag.key: tag.value for tag in envelope.tags}
    assert tags == {"component": "route-emitter", "trace_id": "aa11", "span_id": "bb22"}


@pytest.mark.parametrize("changes", [{"endpoint": None}, {"service": object()}])
def test_request_without_an_instance_is_told_without_one(agent: Listening, changes: dict[str, Any]) -> None:
    agent.envelopes(EVENTS).finished(Seen(**changes), END)

    [envelope] = agent.heard()
    assert not envelope.httpStartStop.HasField("instanceId")
    assert not envelope.tags


def test_bytes_that_are_no_text_are_told_all_the_same(agent: Listening) -> None:
    exchange = Seen()
    exchange.client.secure = True
    exchange.head.path = b"/\xff"
    exchange.head.special[b"user-agent"] = b"\xfe"
    agent.envelopes(EVENTS).finished(exchange, END)

    [envelope] = agent.heard()
    assert envelope.httpStartStop.uri == "https://app.test/\ufffd"
    assert envelope.httpStartStop.userAgent == "\ufffd"


def test_events_that_are_switched_off_are_not_sent(agent: Listening) -> None:
    envelopes = agent.envelopes(EnvelopeOptions(False, False, False, "0"))
    envelopes.attempted(Seen(), False, END)
    envelopes.finished(Seen(), END)

    assert agent.heard() == []


def test_times_of_a_request_are_values_in_their_units(agent: Listening) -> None:
    agent.envelopes(VALUES).finished(Seen(), END)

    values = {each.valueMetric.name: (each.valueMetric.value, each.valueMetric.unit) for each in agent.heard()}
    assert values == {
        "route_lookup_time": (pytest.approx(25_000), "ns"),
        "latency": (pytest.approx(30), "ms"),
        "latency.route-emitter": (pytest.approx(30), "ms"),
        "gorouter_time": (pytest.approx(2), "ms"),
    }


def test_answer_of_the_router_itself_has_no_latency(agent: Listening) -> None:
    agent.envelopes(VALUES).finished(Seen(endpoint=None), END)

    assert [each.valueMetric.name for each in agent.heard()] == ["route_lookup_time"]


def test_log_line_goes_to_the_stream_of_its_app(agent: Listening) -> None:
    envelopes = agent.envelopes(EVENTS)
    envelopes.log_line(Seen(endpoint=endpoint(source_id=APP)), b"app.test - 200\n")

    [envelope] = agent.heard()
    message = envelope.logMessage
    assert (message.message, message.app_id) == (b"app.test - 200", APP)
    assert (message.source_type, message.source_instance) == ("RTR", "2")
    assert {tag.key: tag.value for tag in envelope.tags} == {"source_id": APP}


def test_log_line_of_no_app_is_not_copied(agent: Listening) -> None:
    envelopes = agent.envelopes(EVENTS)
    envelopes.log_line(Seen(endpoint=None), b"line")
    envelopes.log_line(Seen(endpoint=endpoint(app="")), b"line")

    assert agent.heard() == []


def test_instance_that_was_announced_anew_is_told_with_its_new_tags(agent: Listening) -> None:
    envelopes = agent.envelopes(EVENTS)
    for name in ("old", "new"):
        envelopes.finished(Seen(endpoint=endpoint(app_name=name)), END)

    assert [each.tags[0].value for each in agent.heard()] == ["old", "new"]


def test_nobody_listening_costs_two_datagrams_a_second(agent: Listening) -> None:
    envelopes = agent.envelopes(EVENTS)
    agent.hearing.receiving.close()
    for number in range(1000):
        envelopes.finished(Seen(), 200.0 + number / 1000)

    assert envelopes.agent.sent == 1
    assert envelopes.agent.lost == 999


def test_agent_that_comes_back_is_heard_by_the_next_probe(agent: Listening) -> None:
    envelopes = agent.envelopes(EVENTS)
    agent.hearing.receiving.close()
    envelopes.finished(Seen(), 200.0)
    envelopes.finished(Seen(), 200.1)
    with hearing_agent(agent.hearing.port) as again:
        envelopes.finished(Seen(), 200.2)
        envelopes.finished(Seen(), 201.2)

        assert len(again.heard()) == 1


def test_line_too_long_for_a_datagram_is_lost_alone(agent: Listening) -> None:
    envelopes = agent.envelopes(EVENTS)
    envelopes.log_line(Seen(), b"x" * 70_000)
    envelopes.log_line(Seen(), b"short")

    assert [each.logMessage.message for each in agent.heard()] == [b"short"]
    assert (envelopes.agent.sent, envelopes.agent.lost) == (1, 1)
