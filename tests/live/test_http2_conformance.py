"""RFC 9113 and RFC 7541 as a tool that knows nothing of us would test them: raw frames to a whole router.

Each row is sent to the TLS listener and to the plain one, for a host that has a route, for one that has none (404)
and for the client's own address (400): what becomes of a request must not change what becomes of its frames. After
whatever concerns one stream the connection must answer a PING and serve another request; after whatever concerns
the connection, GOAWAY must come, and then its end.
"""

import contextlib
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from router.certs import issue, make_ca
from tests.live.conftest import StartLive
from tests.live.https import https_config
from tests.support.certificates import client_context
from tests.support.h2peer import (
    ACK,
    DATA,
    END_STREAM,
    GOAWAY,
    NO_ERROR,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    H2Peer,
    frame,
    get,
    headers,
    priority,
    reset,
    settings,
    window_update,
)
from tests.support.h2rows import LARGEST, Outcome, data, rows
from tests.support.recorder import RecordingBackend, answering

AUTHORITY = make_ca()
BODY = bytes(range(250))
LAST = 255
"""A stream above all those of the rows."""


@dataclass(slots=True)
class Target:
    """Where to connect, and what to ask for."""

    port: int
    context: ssl.SSLContext | None
    host: str

    def connect(self, *own_settings: tuple[int, int], begin: bool = True) -> H2Peer:
        name = "a.h2.test" if self.context else None
        return H2Peer(self.port, *own_settings, tls=self.context, server_name=name, begin=begin)


@pytest.fixture(scope="module")
def targets(start_live: StartLive) -> Iterator[list[Target]]:
    context = client_context(AUTHORITY)
    context.set_alpn_protocols(["h2"])
    with RecordingBackend(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 250\r\n\r\n" + BODY)) as backend:
        live = start_live(https_config([issue(AUTHORITY, ["*.h2.test"])], enable_http2_cleartext=True))
        routed = live.route(backend)
        port, ssl_port = live.router.port, int(live.router.config["ssl_port"])
        yield [
            Target(to, tls, host)
            for to, tls in ((port, None), (ssl_port, context))
            for host in (routed, "unknown.test", f"127.0.0.1:{to}")
        ]


@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
@pytest.mark.parametrize("name", rows(""))
def test_what_a_peer_does_has_the_outcome_the_rfc_names(targets: list[Target], name: str, together: bool) -> None:
    for target in targets:
        frames, expected = rows(target.host)[name]
        with target.connect() as peer:
            for octets in [b"".join(frames)] if together else frames:
                peer.send(octets)
            check(peer, target, expected)


def check(peer: H2Peer, target: Target, expected: Outcome) -> None:
    goaway, resets = outcome(peer)
    if isinstance(expected, int):
        assert goaway == expected, target
        return
    assert goaway is None, target
    assert [each for each in resets if each[1] != NO_ERROR] == ([expected] if expected else []), target
    assert peer.get(LAST, target.host).status in (200, 400, 404), target


def outcome(peer: H2Peer) -> tuple[int | None, list[tuple[int, int]]]:
    """Ask for a sign of life, and return the code of GOAWAY that came instead, and the streams reset before it."""
    with contextlib.suppress(OSError):
        peer.send(frame(PING, 0, 0, b"outcome?"))
    resets = []
    for got in peer.rest():
        if got.kind == RST_STREAM:
            resets.append((got.stream_id, got.number()))
        elif got.kind == PING and got.payload == b"outcome?":
            return None, resets
    return peer.goaway[-1][1] if peer.goaway else -1, resets


# What needs an answer to be read first, or no ordinary beginning.


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        (headers(1, get()), STREAM_CLOSED),
        (data(1, b"x"), (1, STREAM_CLOSED)),
        (frame(DATA, END_STREAM, 1), (1, STREAM_CLOSED)),
        (window_update(1, 1) + reset(1) + priority(1), None),
        (window_update(1, LARGEST) * 2, None),
    ],
    ids=["headers", "data", "empty data", "what may have crossed", "windows"],
)
def test_after_an_answer_the_stream_is_closed(targets: list[Target], late: bytes, expected: Outcome) -> None:
    for target in targets:
        with target.connect() as peer:
            peer.get(1, target.host)
            peer.send(late)
            check(peer, target, expected)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_ordinary_requests_are_answered(targets: list[Target], method: str) -> None:
    for target in targets:
        with target.connect() as peer:
            peer.request(1, get(target.host, method=method), b"body" if method == "POST" else None)
            answer = peer.answer(1)
            assert answer.ended, target
            assert answer.status in (200, 400, 404), target
            assert bool(answer.body) == (method != "HEAD"), target
            check(peer, target, None)


def test_the_server_begins_with_settings_and_acknowledges_ours(targets: list[Target]) -> None:
    for target in targets:
        with target.connect((0xFF, 1)) as peer:
            peer.synchronise()
            first = peer.seen[0]
            assert (first.kind, first.flags, first.stream_id) == (SETTINGS, 0, 0)
            assert [got for got in peer.seen if got.kind == SETTINGS and got.flags & ACK and not got.payload]


@pytest.mark.parametrize(
    "octets",
    [b"INVALID CONNECTION PREFACE\r\n\r\n", PREFACE[:-1] + b"x" + settings(), b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"],
)
def test_a_connection_that_begins_with_something_else_is_ended(targets: list[Target], octets: bytes) -> None:
    for target in targets:
        with target.connect(begin=False) as peer:
            peer.send(octets)
            if target.context is not None:
                assert peer.error() == PROTOCOL_ERROR
            else:
                # It may be meant as HTTP/1.
                while peer.client._more():
                    pass


@pytest.mark.parametrize("first", [headers(1, get()), frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK)])
def test_settings_come_first(targets: list[Target], first: bytes) -> None:
    for target in targets:
        with target.connect(begin=False) as peer:
            peer.send(PREFACE, first)
            assert peer.error() == PROTOCOL_ERROR


def test_more_streams_than_allowed_are_refused(targets: list[Target]) -> None:
    for target in targets:
        with target.connect((4, 0)) as peer:
            peer.send(*[headers(number, get(target.host)) for number in range(1, 503, 2)])
            assert peer.answer(501).reset == REFUSED_STREAM, target


# Flow control.


def test_a_window_of_one_byte_lets_one_byte_go_and_the_rest_follows(targets: list[Target]) -> None:
    for target in targets:
        with target.connect((4, 1)) as peer:
            peer.request(1, get(target.host))
            assert len(peer.until(DATA, 1).payload) == 1
            peer.send(settings((4, 11)))
            assert len(peer.until(DATA, 1).payload) == 10
            peer.send(settings((4, 65535)))
            assert peer.answer(1).ended, target


def test_a_window_that_settings_made_negative_recovers(targets: list[Target]) -> None:
    for target in targets:
        with target.connect((4, 20)) as peer:
            peer.request(1, get(target.host))
            assert len(peer.until(DATA, 1).payload) == 20
            peer.send(settings((4, 5)), window_update(1, 15))
            peer.synchronise()
            assert len(peer.answers[1].body) == 20, target
            peer.send(window_update(1, 3))
            assert len(peer.until(DATA, 1).payload) == 3
            peer.send(settings((4, LARGEST - 20)))
            assert peer.answer(1).ended, target


def test_several_settings_in_one_frame_act_in_their_order(targets: list[Target]) -> None:
    for target in targets:
        with target.connect() as peer:
            peer.send(settings((4, 100), (4, 1)))
            peer.request(1, get(target.host))
            assert len(peer.until(DATA, 1).payload) == 1


# Goodbye.


@pytest.mark.parametrize("code", [0, 2, 0xFF])
def test_a_client_that_says_goodbye_is_still_answered(targets: list[Target], code: int) -> None:
    for target in targets:
        with target.connect() as peer:
            peer.send(frame(GOAWAY, 0, 0, struct.pack(">LL", 0, code) + b"debug"))
            assert peer.until(GOAWAY).number(4) == NO_ERROR
            peer.synchronise()
