"""What waits on a stream."""

from tests.support.h2engine import Heard


def test_bytes_that_wait_are_taken_in_order_and_counted() -> None:
    stream = Heard()
    stream.pending.extend([b"hello", b"world"])
    stream.pending_bytes = 10
    assert (stream.take(3), stream.take(3), stream.pending_bytes) == (b"hel", b"lo", 5)
    stream.drop()
    assert (list(stream.pending), stream.pending_bytes) == ([], 0)
