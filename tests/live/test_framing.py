"""Behaviours 1, 3 and 4: what is not strictly HTTP never reaches a backend, however it is cut into segments."""

from collections.abc import Callable, Iterator

import pytest

from tests.live.conftest import Live
from tests.live.framing_cases import CUT, EITHER, PASS, REFUSE, REJECT, Case, every_case
from tests.support import grammar
from tests.support.rawclient import BadResponse, RawClient, Response
from tests.support.recorder import Mark, RecordingBackend

FOLLOW_UP = b"GET /follow-up HTTP/1.1\r\nHost: HOST\r\n\r\n"
"""Sent right behind each case: what a reader that lost its place would take for a body, or what hides in one."""

SEND: dict[str, Callable[[RawClient, bytes], None]] = {
    "whole": lambda client, raw: client.send(raw),
    "split at every byte": lambda client, raw: client.send_bytewise(raw),
    "cut at random": lambda client, raw: client.send_cut(raw, seed=len(raw)),
}


@pytest.fixture(scope="module")
def recorder() -> Iterator[RecordingBackend]:
    with RecordingBackend() as backend:
        yield backend


@pytest.fixture(scope="module")
def host(shared: Live, recorder: RecordingBackend) -> str:
    return shared.route(recorder)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in every_case()])
def test_only_strict_messages_reach_the_backend(
    case: Case, live: Live, recorder: RecordingBackend, host: str
) -> None:
    for how, send in SEND.items():
        mark = recorder.mark()
        responses = _converse(live, case, host, send)
        _check(case, responses, mark, how)


def test_client_straight_to_the_recorder_shows_what_the_oracle_can_see() -> None:
    """The negative control: without the router the recorder does see these shapes, and the oracle objects."""
    rejected = [case for case in every_case() if case.verdict == REJECT]
    with RecordingBackend() as backend:
        objections = 0
        for case in rejected:
            mark = backend.mark()
            with RawClient(backend.port) as client:
                client.send(case.raw + FOLLOW_UP)
                client.end_sending()
                client.read_until_end()
            try:
                mark.strict()
            except (grammar.Violation, grammar.Incomplete):
                objections += 1
    # The rest is wrong for reasons a grammar of messages does not know, such as the authority in a Host field.
    assert objections > 0.9 * len(rejected)


def _converse(live: Live, case: Case, host: str, send: Callable[[RawClient, bytes], None]) -> list[Response]:
    """Send the case and the follow-up; return the responses up to the close or to the second one."""
    responses: list[Response] = []
    with live.client() as client:
        send(client, (case.raw + FOLLOW_UP).replace(b"HOST", host.encode()))
        while len(responses) < 2:
            if client.is_closed_by_peer():
                break
            responses.append(client.read_response())
            if responses[-1].status != 200 and case.verdict in (REJECT, CUT):
                assert client.is_closed_by_peer(), f"connection goes on after {responses[-1]}"
    with live.client() as fence:
        assert fence.get("/fence", host=host).status == 200
    return responses


def _check(case: Case, responses: list[Response], mark: Mark, how: str) -> None:
    statuses = [response.status for response in responses]
    # Where the RFC leaves a choice, a head may have gone out before the body turned out to be unwanted.
    may_be_cut = case.verdict == CUT or (case.verdict == EITHER and statuses != [200, 200])
    messages = [message for message in mark.strict(may_be_cut=may_be_cut) if message.target != "/fence"]
    shown = [message.target for message in messages]
    if case.verdict == REJECT:
        assert len(statuses) == 1, how
        assert statuses[0] in case.statuses, how
        assert shown == [], how
    elif case.verdict == REFUSE:
        assert statuses[0] in case.statuses, how
        assert shown == ["/follow-up"] * statuses.count(200), how
    elif case.verdict == CUT:
        assert statuses in ([], [400]), how
        assert shown == [], how
    elif case.verdict == PASS:
        assert statuses == [200, 200], how
        assert len(shown) == 2, how
        assert shown[1] == "/follow-up", how
    else:
        assert statuses.count(200) == len(shown), how
        assert statuses, how
        assert statuses[0] == 200 or statuses[0] in range(400, 600), how


def test_forbidden_trailers_are_not_forwarded(live: Live, recorder: RecordingBackend, host: str) -> None:
    mark = recorder.mark()
    lines = (
        b"Content-Length: 3\r\nHost: evil.test\r\nTransfer-Encoding: x\r\nX-Forwarded-For: 6.6.6.6\r\nX-Sum: 7\r\n"
    )
    request = f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with live.client() as client:
        client.send(request + b"2\r\nhi\r\n0\r\n" + lines + b"\r\n")
        assert client.read_response().status in (200, 400)
    for message in mark.strict(may_be_cut=True):
        assert [name.lower() for name, _ in message.trailers] == ["x-sum"]


def test_chunk_extensions_are_not_forwarded(live: Live, recorder: RecordingBackend, host: str) -> None:
    mark = recorder.mark()
    with live.client() as client:
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        client.send(b'5;name="va;lue"\r\nhello\r\n0\r\n\r\n')
        assert client.read_response().status == 200
    assert [message.body for message in mark.strict()] == [b"hello"]


def test_leading_zeros_do_not_change_the_length(live: Live, recorder: RecordingBackend, host: str) -> None:
    mark = recorder.mark()
    with live.client() as client:
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 05\r\n\r\nhello".encode())
        status = client.read_response().status
    bodies = [message.body for message in mark.strict()]
    assert (status, bodies) in [(200, [b"hello"]), (400, [])]


def test_garbage_in_place_of_a_request_costs_nobody_else_anything(live: Live, host: str) -> None:
    with live.client() as good:
        assert good.get(host=host).status == 200
        for garbage in (b"\0" * 1000, b"\xff" * 1000, b"\r\n" * 1000, b"A" * 70_000, b":" * 1000, b" " * 1000):
            with live.client() as bad:
                bad.send(garbage)
                bad.end_sending()
                try:
                    bad.read_response()
                except BadResponse:
                    pass
            assert good.get(host=host).status == 200


def test_unfinished_head_reaches_no_backend(live: Live, recorder: RecordingBackend, host: str) -> None:
    mark = recorder.mark()
    head = f"GET / HTTP/1.1\r\nHost: {host}\r\nX-A: 1\r\n".encode()
    for length in range(1, len(head) + 1):
        with live.client() as client:
            client.send(head[:length])
            client.end_sending()
            assert client.read_until_end()[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 408", b"HTTP/1.0 400")
    assert mark.streams() == []
