"""What the platform's agent and a syslog server are told of a whole router (GOROUTER.md §10.5, 11.3)."""

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import StartRouter
from tests.support.announce import Announcer, status_of
from tests.support.ports import free_port
from tests.support.rawclient import RawClient
from tests.support.recorder import MakeBackend
from tests.support.router import RunningRouter
from tests.support.waiting import wait_until
from tests.support.watching import LOG_MESSAGE, VALUE_METRIC, Datagrams, MetricsAgent, Stream

APP = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
TAGS = {"component": "dea-4", "process_id": "p-1"}
CLIENT, SERVER = 1, 2
STEADY = """
    backend_exhausted_conns backend_invalid_id backend_invalid_tls_cert backend_tls_handshake_failed bad_gateways
    empty_content_length_header registry_message rejected_requests responses responses.2xx responses.3xx
    responses.4xx responses.5xx responses.xxx routed_app_requests routes_pruned subscribe_events_errors
    token_fetch_errors total_requests unregistry_message websocket_failures websocket_upgrades
"""


@pytest.fixture
def agent() -> Iterator[MetricsAgent]:
    with MetricsAgent() as listening:
        yield listening


def route(announcer: Announcer, router: RunningRouter, port: int) -> None:
    announcer.register(
        "app.test", port=port, app=APP, private_instance_id="inst", private_instance_index="3", tags=TAGS
    )
    wait_until(lambda: status_of(router.port, "app.test", "/first") == 200, "the route")


def test_agent_hears_counters_values_and_up_time(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend, agent: MetricsAgent
) -> None:
    config = {
        "logging": {"metron_address": agent.address},
        "route_latency_metric_muzzle_duration": "0s",
        "index": 4,
    }
    router = start_router(config)
    backend = make_backend()
    announcer.register("app.test", port=backend.port, endpoint_updated_at_ns=1, tags=TAGS)
    wait_until(lambda: status_of(router.port, "app.test") == 200, "the route")
    assert status_of(router.port, "unknown.test") == 404
    announcer.unregister("app.test", port=backend.port, tags=TAGS)
    wait_until(
        lambda: agent.counters().get("rejected_requests") and agent.counters().get("total_requests"), "them"
    )
    wait_until(lambda: agent.counters().get("unregistry_message.dea-4"), "the unregistration")

    counters = agent.counters()
    assert set(STEADY.split()) <= set(counters)
    assert counters["requests.dea-4"] == counters["routed_app_requests"] == counters["total_requests"] == 1
    assert counters["responses"] == counters["responses.2xx"] == 1
    assert counters["registry_message.dea-4"] == counters["unregistry_message.dea-4"] == 1
    values = agent.values()
    units = {
        "latency": "ms",
        "latency.dea-4": "ms",
        "route_lookup_time": "ns",
        "gorouter_time": "ms",
        "route_registration_latency": "ms",
        "total_routes": "",
        "ms_since_last_registry_update": "ms",
        "file_descriptors": "file",
        "buffered_messages": "message",
        "total_dropped_messages": "message",
        "uptime": "seconds",
    }
    assert {name: unit for name, (_, unit) in values.items()} == units
    origins = {(each.origin, each.index) for each in agent.envelopes(VALUE_METRIC)}
    assert origins == {("gorouter", "4")}


def test_agent_hears_of_requests_at_both_ends_and_has_a_copy_of_their_log_lines(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend, agent: MetricsAgent
) -> None:
    logging = {"metron_address": agent.address, "loggregator_enabled": True}
    router = start_router({"logging": logging, "tracing": {"enable_zipkin": True}, "index": 4})
    backend = make_backend()
    route(announcer, router, backend.port)
    with RawClient(router.port) as client:
        answer = client.get("/a?secret=1", host="app.test", headers="User-Agent: ua\r\n")
    line = router.wait_access_line("/a?secret=1")
    [copy] = wait_until(
        lambda: [each for each in agent.envelopes(LOG_MESSAGE) if b"/a?secret=1" in each.logMessage.message],
        "a copy",
    )
    told = copy.logMessage
    assert told.message.decode() == line
    assert (told.app_id, told.source_type, told.source_instance, told.message_type) == (APP, "RTR", "4", 1)
    assert {tag.key: tag.value for tag in copy.tags}.items() >= TAGS.items()

    def event(peer: int) -> Any:
        return next((each for each in agent.requests(peer) if each.httpStartStop.uri.endswith("/a")), None)

    for peer in (CLIENT, SERVER):
        envelope = wait_until(lambda: event(peer), f"event of peer {peer}")  # noqa: B023
        told = envelope.httpStartStop
        assert told.uri == "http://app.test/a"
        assert (told.statusCode, told.method, told.userAgent) == (200, 1, "ua")
        assert (told.instanceIndex, told.instanceId) == (3, "inst")
        assert told.stopTimestamp >= told.startTimestamp
        tags = {tag.key: tag.value for tag in envelope.tags}
        assert tags.items() >= TAGS.items()
        assert ("trace_id" in tags) == ("span_id" in tags) == (peer == SERVER)
    assert answer.header("X-Vcap-Request-Id")


@pytest.mark.parametrize(
    ("switches", "client", "server", "values"),
    [
        ({"send_http_start_stop_client_event": False}, False, True, True),
        ({"send_http_start_stop_server_event": False}, True, False, True),
        ({"per_request_metrics_reporting": False}, True, True, False),
        ({"enable_envelope_v1_metrics": False}, False, False, False),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_each_kind_of_envelope_has_its_switch(
    start_router: StartRouter,
    announcer: Announcer,
    make_backend: MakeBackend,
    agent: MetricsAgent,
    switches: dict[str, bool],
    client: bool,
    server: bool,
    values: bool,
) -> None:
    logging = {"metron_address": agent.address, "loggregator_enabled": True}
    router = start_router({"workers": 1, "logging": logging, **switches})
    route(announcer, router, make_backend().port)
    wait_until(lambda: status_of(router.port, "app.test", "/last") == 200, "an answer")
    # What is told of a request follows the copy of its log line at once, and so precedes that of the next request.
    wait_until(lambda: len(agent.envelopes(LOG_MESSAGE)) > 1, "copies of the lines")

    assert bool(agent.requests(CLIENT)) == client
    assert bool(agent.requests(SERVER)) == server
    assert ("latency" in agent.values()) == values
    if "enable_envelope_v1_metrics" in switches:
        assert agent.values() == {}
        assert agent.counters() == {}


def test_log_lines_are_copied_only_if_asked_for_and_only_for_apps(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend, agent: MetricsAgent
) -> None:
    router = start_router({"logging": {"metron_address": agent.address}})
    route(announcer, router, make_backend().port)
    wait_until(lambda: agent.requests(SERVER), "the event of the request")
    assert agent.envelopes(LOG_MESSAGE) == []


def test_line_too_long_for_a_datagram_is_copied_shortened(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend, agent: MetricsAgent
) -> None:
    router = start_router({"logging": {"metron_address": agent.address, "loggregator_enabled": True}})
    route(announcer, router, make_backend().port)
    path = "/long?" + "q" * 70_000
    with RawClient(router.port) as client:
        assert client.get(path, host="app.test", headers=f"User-Agent: {'u' * 3000}\r\n").status == 200
    assert path in router.wait_access_line("/long?"), "the file has all of it"
    [copy] = wait_until(
        lambda: [each for each in agent.envelopes(LOG_MESSAGE) if b"/long?" in each.logMessage.message], "the copy"
    )
    message = copy.logMessage.message
    assert len(message) <= 65_400
    assert b"...REQUEST-URI-TOO-LONG-TO-LOG--TRUNCATED" in message
    assert b"...USER-AGENT-TOO-LONG-TO-LOG--TRUNCATED" in message


def test_router_without_an_agent_serves_on(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router({"logging": {"metron_address": f"127.0.0.1:{free_port()}", "loggregator_enabled": True}})
    route(announcer, router, make_backend().port)
    assert [status_of(router.port, "app.test") for _ in range(5)] == [200] * 5


# Syslog.


HEAD = r"<14>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) HOST vcap\.gorouter \d+ - \ufeff"


def heading(message: bytes) -> str:
    """Return the message without its head, which must have the documented form."""
    text = message.decode()
    match = re.match(HEAD.replace("HOST", re.escape(socket.gethostname())), text)
    assert match, text
    return text[match.end() :]


def streaming(address: str, network: str, truncate: int = 0) -> dict[str, object]:
    return {
        "access_log": {"enable_streaming": True},
        "logging": {
            "syslog": "vcap.gorouter",
            "syslog_addr": address,
            "syslog_network": network,
            "syslog_truncate": truncate,
        },
    }


def test_log_lines_are_streamed_over_udp(start_router: StartRouter) -> None:
    with Datagrams() as server:
        router = start_router(streaming(server.address, "udp"))
        assert status_of(router.port, "unknown.test", "/streamed") == 404
        message = server.wait_for(b"/streamed")
    assert heading(message) == router.wait_access_line("/streamed")


def test_log_lines_are_streamed_over_tcp(start_router: StartRouter) -> None:
    with Stream() as server:
        router = start_router({**streaming(server.address, "tcp"), "workers": 1})
        assert status_of(router.port, "unknown.test", "/streamed") == 404
        line = server.wait_for(b"/streamed")
        router.stop()
    assert heading(line) == router.wait_access_line("/streamed")


def test_streamed_lines_are_cut_and_the_file_has_all(start_router: StartRouter) -> None:
    with Datagrams() as server:
        router = start_router(streaming(server.address, "udp", 40))
        assert status_of(router.port, "unknown.test", "/streamed") == 404
        message = server.wait_for(b"unknown.test")
    line = router.wait_access_line("/streamed")
    assert heading(message) == line[:40]


def test_log_goes_to_syslog_alone_if_there_is_no_file(start_router: StartRouter) -> None:
    with Datagrams() as server:
        config = streaming(server.address, "udp")
        router = start_router({**config, "access_log": {"enable_streaming": True, "file": ""}})
        assert status_of(router.port, "unknown.test", "/streamed") == 404
        assert server.wait_for(b"/streamed")


def test_prefix_of_the_component_log_is_the_name_in_syslog(start_router: StartRouter) -> None:
    with Datagrams() as server:
        router = start_router(streaming(server.address, "udp"))
    assert {str(line["source"]).partition(".")[0] for line in router.log} == {"vcap"}
    assert all(str(line["source"]).startswith("vcap.gorouter") for line in router.log)
