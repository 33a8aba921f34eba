"""Whatever a peer sends, the engine answers with frames, never with an exception, and keeps its books."""

from hypothesis import given, settings, strategies

from router.wire.http2_limits import Limits
from tests.support.h2engine import Peer
from tests.support.h2peer import block, frame, get, headers

STREAMS = strategies.integers(0, 9)
PAYLOADS = strategies.one_of(
    strategies.binary(max_size=24),
    strategies.sampled_from(
        [b"", bytes(4), bytes(5), bytes(6), bytes(8), b"\0\0\0\1", block(get()), b"\x82\x86\x84\x41\0"]
    ),
)
FRAMES = strategies.one_of(
    strategies.builds(frame, strategies.integers(0, 10), strategies.integers(0, 255), STREAMS, PAYLOADS),
    strategies.builds(
        lambda stream_id, flags: headers(stream_id, get(), flags), STREAMS, strategies.integers(0, 5)
    ),
)


@settings(max_examples=400, deadline=None)
@given(strategies.lists(FRAMES, max_size=30), strategies.lists(strategies.integers(0, 5), max_size=8))
def test_any_frames_are_survived(frames: list[bytes], answers: list[int]) -> None:
    peer = Peer(Limits(streams=3))
    for number, octets in enumerate(frames):
        peer.send(octets)
        if number < len(answers):
            act(peer, answers[number])
    peer.output()
    engine = peer.engine
    assert set(engine.blocked) | set(engine.lingering) <= set(engine.streams)
    assert len(engine.streams) <= 3
    assert all(stream.closed != (stream_id in engine.streams) for stream_id, stream in peer.heard.items())


def act(peer: Peer, what: int) -> None:
    """Do something with a stream that is open, as an exchange would."""
    stream = next(iter(peer.engine.streams.values()), None)
    if stream is None or stream.local_ended or stream.end_pending:
        return
    if what == 0:
        peer.engine.send_head(stream, [(b":status", b"200")], [], False)
    elif what == 1:
        peer.engine.send_body(stream, bytes(70_000), False)
    elif what == 2:
        peer.engine.send_body(stream, b"end", True)
    elif what == 3:
        peer.engine.send_end(stream, [b"X-A: 1"])
    elif what == 4:
        peer.engine.reset(stream, 0)
    else:
        peer.engine.drop_rest(stream)


@settings(max_examples=200, deadline=None)
@given(strategies.binary(max_size=200))
def test_any_bytes_are_survived(octets: bytes) -> None:
    peer = Peer()
    peer.send(octets)
    peer.output()
