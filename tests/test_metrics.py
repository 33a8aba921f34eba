import ast
import inspect
import socket

import pytest

import router.backend.failure as failures
from router.backend.failure import FailureClass
from router.metrics import DENIAL_REASONS, Agent, Counters, Histogram, series, split_series
from router.proxy import caller, internal
from tests.support.ports import free_port
from tests.support.waiting import wait_until


def test_all_counters_begin_at_zero_and_are_told_by_name() -> None:
    counts = Counters().as_dict()

    assert set(counts.values()) == {0}
    assert {"requests", "bad_gateways", "responses_2xx", "responses_5xx", "responses_xxx"} <= set(counts)
    assert "responses" not in counts


def test_responses_are_told_by_their_first_digit() -> None:
    counters = Counters()
    counters.responses[2] = 3
    counters.responses[0] = 1

    assert (counters.as_dict()["responses_2xx"], counters.as_dict()["responses_xxx"]) == (3, 1)


def test_every_failure_class_counts_what_exists() -> None:
    classes = [each for each in vars(failures).values() if isinstance(each, FailureClass)]
    counters = Counters()
    for each in classes:
        counters.add(each.counter)

    assert sum(counters.as_dict().values()) == sum(bool(each.counter) for each in classes)


def test_empty_name_counts_nothing() -> None:
    counters = Counters()
    counters.add("")

    assert set(counters.as_dict().values()) == {0}


def test_denials_are_told_by_their_reason() -> None:
    counters = Counters()
    counters.internal_denied["no-policy"] = 2

    assert counters.as_dict()["internal_denials_no_policy"] == 2
    assert "internal_denied" not in counters.as_dict()


def test_every_reason_a_caller_is_refused_for_is_counted_from_the_start() -> None:
    calls = [
        call
        for module in (caller, internal)
        for call in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(call, ast.Call)
    ]
    refusals = [call for call in calls if ast.unparse(call.func) in ("UnknownCaller", "self._deny")]
    reasons = {call.args[-1].value for call in refusals if isinstance(call.args[-1], ast.Constant)}

    assert reasons == set(DENIAL_REASONS)


def test_histogram_counts_a_value_in_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram("latency", "app", [2, 1, 4])
    for value in (0.5, 1, 1.5, 4, 100):
        histogram.observe(value)

    assert dict(histogram.figures()) == {
        "latency\tapp\t1.0": 2,
        "latency\tapp\t2.0": 1,
        "latency\tapp\t4.0": 1,
        "latency\tapp\tinf": 1,
        "latency\tapp\tsum": 107.0,
    }


def test_series_is_taken_apart_as_it_was_made() -> None:
    assert split_series(series("total_requests", "")) == ("total_requests", "", "")
    assert split_series(series("latency", "a b", "4.0")) == ("latency", "a b", "4.0")
    assert split_series("requests") == ("requests", "", "")


@pytest.mark.parametrize("address", ["name.invalid:1", "127.0.0.1:port", "127.0.0.1", "[::1"])
def test_agent_without_a_usable_address_says_so_and_takes_nothing(address: str) -> None:
    agent = Agent(address)
    agent.send(b"x", 1e9)

    assert agent.problem.startswith(address)
    assert (agent.sent, agent.lost, agent.silent_until) == (0, 1, float("inf"))


def test_agent_prefers_the_ipv4_address_of_a_name() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
        receiving.bind(("127.0.0.1", 0))
        receiving.settimeout(60)
        agent = Agent(f"localhost:{receiving.getsockname()[1]}")
        agent.send(b"x", 0.0)

        assert receiving.recv(10) == b"x"
        agent.close()


def test_closed_agent_takes_nothing() -> None:
    agent = Agent("127.0.0.1:9")
    agent.close()
    agent.send(b"x", 1e9)

    assert (agent.sent, agent.lost) == (0, 1)


def test_whoever_sends_is_told_once_that_nobody_listens() -> None:
    told: list[str] = []
    agent = Agent(f"127.0.0.1:{free_port()}")
    agent.on_silence = lambda: told.append("silence")
    try:
        wait_until(lambda: _is_silent(agent), "the refusal is noticed")
        agent.send(b"x", agent.silent_until - 0.5)
        assert told == ["silence"]
    finally:
        agent.close()


def _is_silent(agent: Agent) -> bool:
    agent.send(b"x", 0.0)
    return agent.silent_until > 0.0
