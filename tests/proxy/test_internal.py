"""Requests between containers, through a running data plane; loopback addresses stand for containers."""

import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from router.certs import issue, make_ca
from router.routing.access import TCP
from router.routing.internal_records import (
    DropIdentity,
    DropName,
    Identity,
    NameEntry,
    Policy,
    PutIdentity,
    PutName,
    PutPolicies,
    SetInternalState,
)
from tests.proxy.conftest import StartPlane
from tests.support.plane import RunningPlane
from tests.support.rawclient import Response, Truncated
from tests.support.recorder import Conversation, RecordingBackend, plain, silent
from tests.support.waiting import PATIENCE_S, wait_until

NAME = "back.apps.internal"
FRONT = "127.0.1.1"
STRANGER = "127.0.1.2"
INTERNAL: dict[str, Any] = {
    "domains": [{"name": "apps.internal"}],
    "container_networks": ["127.0.0.0/8"],
    "addresses": ["127.0.0.1"],
}
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


def stream(conversation: Conversation) -> None:
    conversation.read_request()
    conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
    conversation.wait_for_end()


def tunnel(conversation: Conversation) -> None:
    conversation.read_request()
    conversation.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    conversation.wait_for_end()


@pytest.fixture
def plane(start_plane: StartPlane) -> RunningPlane:
    return start_plane(internal=INTERNAL)


def identity(ip: str, app: str, *ports: int, generation: int = 1) -> Identity:
    return Identity(ip, app, "space-guid", "org-guid", f"{app}-instance", "0", generation, ports)


def furnish(plane: RunningPlane, backend: RecordingBackend) -> None:
    """One app, `back`, behind a name; one, `front`, that may reach it; a stranger that may not."""
    plane.apply(
        PutIdentity(identity("127.0.0.1", "back", backend.port)),
        PutIdentity(identity(FRONT, "front")),
        PutIdentity(identity(STRANGER, "stranger")),
        PutName(NAME, [NameEntry("127.0.0.1", "back", "0")]),
        PutPolicies("front", [Policy("front", "back", TCP, backend.port, backend.port)]),
        SetInternalState(True, True),
    )


def ask(plane: RunningPlane, source: str = FRONT, host: str = NAME, headers: str = "") -> Response:
    with plane.internal_client(source=source) as client:
        return client.get(host=host, headers=headers)


def test_allowed_caller_reaches_the_app(plane: RunningPlane) -> None:
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        assert ask(plane).status == 200
        assert ask(plane, host=f"{NAME.upper()}.:8080").status == 200


def test_forbidden_caller_gets_403_and_an_audit_line(plane: RunningPlane) -> None:
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        response = ask(plane, STRANGER)
        assert (response.status, response.header("X-Cf-Routererror")) == (403, "policy_denied")
        assert not backend.requests
    line = next(line for line in plane.log if line["message"] == "internal-request-denied")
    assert line["data"]["caller_app"] == "stranger"
    assert line["data"]["reason"] == "no-policy"
    counts = plane.plane.counters.as_dict()
    assert (counts["internal_denials"], counts["internal_denials_no_policy"]) == (1, 1)


def test_unknown_name_cannot_be_told_from_a_forbidden_one(plane: RunningPlane) -> None:
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        forbidden, unknown = ask(plane, STRANGER), ask(plane, STRANGER, "none.apps.internal")
    assert (unknown.status, unknown.body) == (403, forbidden.body.replace(b"back.", b"none."))
    assert [name for name, _ in unknown.headers] == [name for name, _ in forbidden.headers]


def test_source_without_identity_is_refused_and_closed(plane: RunningPlane) -> None:
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        with plane.internal_client(source="127.0.1.9") as client:
            response = client.get(host=NAME)
            assert (response.status, response.header("Connection")) == (403, "close")


def test_nothing_is_served_before_policies_and_names_are_known(plane: RunningPlane) -> None:
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        for state in (SetInternalState(False, True), SetInternalState(True, False)):
            plane.apply(state)
            assert ask(plane).status == 503


def test_internal_name_is_an_unknown_route_in_public(plane: RunningPlane) -> None:
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        with plane.client(source=FRONT) as client:
            response = client.get(host=NAME)
    assert (response.status, response.header("X-Cf-Routererror")) == (404, "unknown_route")


def test_public_route_is_not_served_inside(plane: RunningPlane) -> None:
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        plane.route("app.test", backend)
        assert ask(plane, host="app.test").status == 403


def test_app_learns_who_calls_from_the_router_alone(plane: RunningPlane) -> None:
    claims = (
        "X-Cf-Caller-App: admin\r\nx_cf_caller_app: admin\r\nX-CF-Caller-Org: x\r\nX-Forwarded-For: 1.2.3.4\r\n"
    )
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        ask(plane, headers=claims)
        request = backend.requests[0]
    assert request.values("X-Cf-Caller-App") == ["front"]
    assert request.values("X-Cf-Caller-Space") == ["space-guid"]
    assert request.values("X-Cf-Caller-Org") == ["org-guid"]
    assert request.values("X_cf_caller_app") == []


def test_caller_headers_from_outside_do_not_reach_public_apps(plane: RunningPlane) -> None:
    with RecordingBackend(plain) as backend:
        plane.route("app.test", backend)
        with plane.client() as client:
            client.get(host="app.test", headers="X-Cf-Caller-App: admin\r\n")
        assert backend.requests[0].values("X-Cf-Caller-App") == []


@pytest.mark.parametrize(
    "change",
    [
        PutPolicies("front", []),
        DropIdentity(FRONT),
        DropIdentity("127.0.0.1"),
        DropName(NAME),
        SetInternalState(False, True),
    ],
    ids=["policy", "caller", "instance", "name", "policies lost"],
)
@pytest.mark.parametrize("script", [stream, tunnel, silent])
def test_permission_taken_back_ends_what_it_permitted(plane: RunningPlane, script: Any, change: Any) -> None:
    with RecordingBackend(script) as backend:
        furnish(plane, backend)
        with plane.internal_client(source=FRONT) as client:
            client.send(f"GET / HTTP/1.1\r\nHost: {NAME}\r\n{UPGRADE if script is tunnel else ''}\r\n".encode())
            wait_until(lambda: len(backend.requests) == 1, "the request arrives")
            if script is not silent:
                client.read_line()
            plane.apply(change)
            client.read_until_end()
        wait_until(lambda: backend.open_conversations() == 0, "the backend is let go")
        wait_until(plane.is_idle, "the exchange ends")
    assert plane.plane.counters.internal_revocations == 1


def test_same_question_is_decided_anew_after_every_change(plane: RunningPlane) -> None:
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        with plane.internal_client(source=FRONT) as client:
            policy = Policy("front", "back", TCP, backend.port, backend.port)
            for policies, status in (([policy], 200), ([], 403), ([policy], 200)):
                plane.apply(PutPolicies("front", policies))
                assert [client.get(host=NAME).status for _ in range(2)] == [status, status]
            plane.apply(PutIdentity(identity(FRONT, "stranger", generation=2)))
            assert client.get(host=NAME).status == 403
            plane.apply(PutIdentity(identity(FRONT, "front", generation=3)), SetInternalState(False, True))
            assert client.get(host=NAME).status == 503


@pytest.mark.parametrize(
    "change",
    [
        PutPolicies("front", []),
        DropIdentity(FRONT),
        PutIdentity(identity("127.0.0.1", "back", 1, generation=2)),
        DropName(NAME),
    ],
    ids=["policy", "caller", "instance", "name"],
)
def test_request_that_is_sent_again_after_a_change_is_decided_anew(
    plane: RunningPlane, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a change and the next look at all exchanges, one of them may come to a new connection."""
    monkeypatch.setattr(plane.plane, "sweep", lambda: None)
    closing = threading.Event()

    def close_when_told(conversation: Conversation) -> None:
        conversation.read_request()
        if conversation.number == 0:
            conversation.answer()
            conversation.read_request()
            closing.wait(PATIENCE_S)

    with RecordingBackend(close_when_told) as backend:
        furnish(plane, backend)
        with plane.internal_client(source=FRONT) as client:
            assert client.get(host=NAME).status == 200
            client.send(f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
            wait_until(lambda: len(backend.requests) == 2, "the request arrives")
            plane.apply(change)
            closing.set()
            response = client.read_response()
        assert (response.status, response.header("Connection")) == (403, "close")
        assert len(backend.requests) == 2
    assert plane.plane.counters.internal_revocations == 1


def test_address_taken_over_without_generations_is_another_endpoint(plane: RunningPlane) -> None:
    """Agents need not count generations; then app and instance tell containers apart."""
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        for app in ("first", "second"):
            plane.apply(
                PutIdentity(identity("127.0.0.1", app, backend.port, generation=0)),
                PutName(NAME, [NameEntry("127.0.0.1", app, "0")]),
                PutPolicies("front", [Policy("front", app, TCP, backend.port, backend.port)]),
            )
            assert ask(plane).status == 200
        wait_until(lambda: backend.open_conversations() <= 1, "the first one's connection is closed")
    assert [request.header("X-Cf-Applicationid") for request in backend.requests] == ["first", "second"]


def test_other_permissions_outlive_a_change(plane: RunningPlane) -> None:
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        with plane.internal_client(source=FRONT) as client:
            assert client.get(host=NAME).status == 200
            plane.apply(PutPolicies("other", [Policy("other", "back", TCP, 1, 2)]), DropIdentity(STRANGER))
            assert client.get(host=NAME).status == 200
    assert plane.plane.counters.internal_revocations == 0


def test_address_with_a_new_tenant_is_another_caller(plane: RunningPlane) -> None:
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        with plane.internal_client(source=FRONT) as client:
            assert client.get(host=NAME).status == 200
            plane.apply(PutIdentity(identity(FRONT, "stranger", generation=2)))
            assert client.get(host=NAME).status == 403


def test_only_permitted_instances_are_chosen(plane: RunningPlane) -> None:
    with RecordingBackend(plain) as allowed, RecordingBackend(plain) as forbidden:
        furnish(plane, allowed)
        plane.apply(
            PutIdentity(identity("127.0.0.3", "other", forbidden.port)),
            PutName(NAME, [NameEntry("127.0.0.3", "other"), NameEntry("127.0.0.1", "back")]),
        )
        assert [ask(plane).status for _ in range(6)] == [200] * 6
        assert not forbidden.requests


@pytest.mark.parametrize(
    ("names", "units", "trusted", "status"),
    [
        (["front-instance", FRONT], ["organization:o", "app:front"], True, 200),
        (["front-instance", STRANGER], ["app:front"], True, 403),
        (["other-instance", FRONT], ["app:front"], True, 403),
        (["front-instance", FRONT], ["app:other"], True, 403),
        (["front-instance", FRONT], [], True, 403),
        (["front-instance", FRONT], ["app:front"], False, 0),
    ],
    ids=["own", "other address", "other instance", "other app", "no app", "wrong authority"],
)
def test_offered_certificate_must_be_the_callers_own(
    start_plane: StartPlane, tmp_path: Path, names: list[str], units: list[str], trusted: bool, status: int
) -> None:
    web, instances, others = make_ca(), make_ca(), make_ca()
    shown = issue(web, [NAME])
    proxy = {
        "http_ports": [],
        "https_ports": [443],
        "cert_chain": shown.certificate,
        "private_key": shown.private_key,
        "identity_ca_certs": instances.pair.certificate,
    }
    plane = start_plane(internal={**INTERNAL, "proxy": proxy})
    pair = issue(instances if trusted else others, names, client=True, organizational_units=units)
    pem = tmp_path / "pair.pem"
    pem.write_text(pair.certificate + pair.private_key)
    context = ssl.create_default_context(cadata=web.pair.certificate)
    context.load_cert_chain(pem)
    with RecordingBackend(plain) as backend:
        furnish(plane, backend)
        assert status_over_tls(plane, context) == status


def status_over_tls(plane: RunningPlane, context: ssl.SSLContext) -> int:
    """Return the status, 0 if the connection does not come about or ends without one."""
    try:
        with plane.internal_client(source=FRONT, tls=context, server_name=NAME) as client:
            return client.get(host=NAME).status
    except (OSError, Truncated):
        return 0
