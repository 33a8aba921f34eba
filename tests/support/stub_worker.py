"""A worker that misbehaves: ``python -m tests.support.stub_worker MODE --sync-fd N``, instead of the real one.

Modes: ``mute`` answers nothing; ``deaf`` does all it is told but will not leave; ``aborts`` serves, then exits
with status 7; ``babbles`` sends what is no frame.
"""

import contextlib
import socket
import sys

from router import sync


def frames(stream: socket.socket) -> "list[sync.ToWorker]":
    """Return the frames of one read; blocks until there is one, none at the end of the stream."""
    found: list[sync.ToWorker] = []
    head = stream.recv(4, socket.MSG_WAITALL)
    if len(head) == 4:
        body = stream.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
        found.append(sync.decode_to_worker(body))
    return found


def answer(mode: str, stream: socket.socket, frame: sync.ToWorker) -> None:
    if isinstance(frame, sync.SnapshotEnd):
        stream.sendall(sync.encode(sync.Ready()))
    elif isinstance(frame, sync.Serve):
        stream.sendall(sync.encode(sync.Stats({"requests": 5}, {})))
        stream.sendall(sync.encode(sync.Serving()))
        if mode == "aborts":
            sys.exit(7)


def main(mode: str, descriptor: int) -> None:
    stream = socket.socket(fileno=descriptor)
    if mode == "babbles":
        stream.sendall(b"\xff" * 64)
    while received := frames(stream):
        if mode != "mute":
            for frame in received:
                answer(mode, stream, frame)
    # The stream has ended: so does a stub, lest a failing test leave one behind.


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        main(sys.argv[1], int(sys.argv[3]))
