"""Asking configured resolvers for names that are not ours.

Owns the exchange with a resolver, its time-out and the limit on how many run at once; does not own who may ask.
One law: every question goes out with an id and from a port that nobody can guess (RFC 5452), and only an answer to
just that question, from just that resolver, is believed.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Sequence

from router.wire.dns import (
    MESSAGE_BYTES,
    PAYLOAD_BYTES,
    Query,
    is_answer,
    is_failure,
    is_truncated,
    passed_on,
    question_message,
)

TIMEOUT_S = 2.0
"""How long one resolver is waited for before the next is asked."""
AT_ONCE = 512
"""Questions that may be open at a time: each holds a socket."""
AT_ONCE_OF_ONE = 64
"""Of those, questions of one source."""

Resolver = tuple[str, int]


def random_id() -> int:
    return secrets.randbelow(1 << 16)


class Forwarder:
    """Asks the resolvers in turn, beginning with one that is not known to be silent.

    Args:
        resolvers: addresses and ports.
        new_id: returns an unpredictable number of 16 bits.
    """

    def __init__(
        self, resolvers: Sequence[Resolver], *, timeout_s: float = TIMEOUT_S, new_id: Callable[[], int] = random_id
    ) -> None:
        self._resolvers = list(resolvers)
        self._timeout_s = timeout_s
        self._new_id = new_id
        self._asking: Counter[str] = Counter()

    async def ask(self, query: Query, source: str, *, tcp: bool) -> bytes | None:
        """Return what to answer the client, None if nobody answered or too much is being asked.

        Over TCP the client gets answers of any length; over UDP it hears that an answer was cut, and comes again.
        """
        if self._asking.total() >= AT_ONCE or self._asking[source] >= AT_ONCE_OF_ONE:
            return None
        self._asking[source] += 1
        try:
            return await self._ask_in_turn(query, tcp)
        finally:
            self._asking[source] -= 1
            if not self._asking[source]:
                del self._asking[source]

    async def _ask_in_turn(self, query: Query, tcp: bool) -> bytes | None:
        limit = MESSAGE_BYTES if tcp else query.udp_limit
        refusal = None
        for resolver in list(self._resolvers):
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._ask_one(resolver, query, tcp)
            except (OSError, EOFError):
                self._put_last(resolver)
                continue
            if not is_failure(answer):
                return passed_on(answer, query, limit=limit)
            refusal = passed_on(answer, query, limit=limit)
        return refusal

    def _put_last(self, resolver: Resolver) -> None:
        """Ask a silent resolver after the others from now on, so that only a few queries wait for it."""
        self._resolvers.remove(resolver)
        self._resolvers.append(resolver)

    async def _ask_one(self, resolver: Resolver, query: Query, tcp: bool) -> bytes:
        payload = PAYLOAD_BYTES if tcp else query.udp_limit
        message_id = self._new_id()
        message = question_message(query, message_id, payload)
        answer = await _over_udp(resolver, message, lambda packet: is_answer(packet, message_id, query))
        if not (tcp and is_truncated(answer)):
            return answer
        answer = await _over_tcp(resolver, message)
        if not is_answer(answer, message_id, query):
            raise EOFError("something else than the answer")
        return answer


class _Asking(asyncio.DatagramProtocol):
    """Waits for one packet on a connected socket: the kernel lets only the resolver's in."""

    def __init__(self, is_wanted: Callable[[bytes], bool]) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._is_wanted = is_wanted

    def datagram_received(self, packet: bytes, peer: tuple[object, ...]) -> None:
        if not self.answer.done() and self._is_wanted(packet):
            self.answer.set_result(packet)

    def error_received(self, error: Exception) -> None:
        # Nothing listens there: the next resolver need not wait for the time-out.
        if not self.answer.done():
            self.answer.set_exception(error)


async def _over_udp(resolver: Resolver, message: bytes, is_wanted: Callable[[bytes], bool]) -> bytes:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: _Asking(is_wanted), remote_addr=resolver)
    try:
        transport.sendto(message)
        return await protocol.answer
    finally:
        transport.close()


async def _over_tcp(resolver: Resolver, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*resolver)
    try:
        writer.write(len(message).to_bytes(2) + message)
        length = int.from_bytes(await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.transport.abort()
