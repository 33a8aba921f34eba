"""The first message of a TLS client, as far as it must be known before OpenSSL answers it: the protocols offered.

Owns finding them (RFC 8446 §4.1.2, RFC 7301 §3.1); does not own judging the message. One law: what cannot be read
here offers nothing, and is OpenSSL's to refuse.
"""

from struct import unpack_from

_HANDSHAKE_RECORD = 22
_CLIENT_HELLO = 1
_ALPN = 16
_RECORD_HEAD = 5
_MESSAGE_HEAD = 4
_LARGEST_HELLO = 131_396
"""OpenSSL reads no larger one."""


class HelloReader:
    """Gathers one hello, however it is cut into records and segments."""

    __slots__ = ("_message", "_rest", "_wanted")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._message = bytearray()
        self._wanted = _MESSAGE_HEAD

    def feed(self, data: bytes | memoryview) -> tuple[bytes, ...] | None:
        """Take bytes from the client; return the names of the protocols it offers, None if more must come."""
        self._rest += data
        while len(self._message) < self._wanted:
            if not self._take_record():
                return None if self._may_go_on() else ()
            if self._wanted == _MESSAGE_HEAD <= len(self._message):
                self._wanted += int.from_bytes(self._message[1:_MESSAGE_HEAD], "big")
        if self._message[0] != _CLIENT_HELLO:
            return ()
        return protocols_of(bytes(self._message[_MESSAGE_HEAD : self._wanted]))

    def _take_record(self) -> bool:
        rest = self._rest
        if len(rest) < _RECORD_HEAD or rest[0] != _HANDSHAKE_RECORD:
            return False
        end = _RECORD_HEAD + int.from_bytes(rest[3:_RECORD_HEAD], "big")
        if len(rest) < end:
            return False
        self._message += rest[_RECORD_HEAD:end]
        del rest[:end]
        return True

    def _may_go_on(self) -> bool:
        of_handshake = not self._rest or self._rest[0] == _HANDSHAKE_RECORD
        return of_handshake and self._wanted <= _LARGEST_HELLO


def protocols_of(hello: bytes) -> tuple[bytes, ...]:
    """Return the names in a hello's ALPN extension, in the client's order; none if it has none or cannot be read.

    Args:
        hello: without the four bytes of kind and length in front.
    """
    at = 34  # Behind version and random.
    try:
        at += 1 + hello[at]  # Session id.
        at += 2 + int.from_bytes(hello[at : at + 2], "big")  # Cipher suites.
        at += 1 + hello[at]  # Compression methods.
    except IndexError:
        return ()
    at += 2
    while at + 4 <= len(hello):
        kind, size = unpack_from(">HH", hello, at)
        at += 4
        if kind == _ALPN:
            return _names(hello[at + 2 : at + size])
        at += size
    return ()


def _names(names: bytes) -> tuple[bytes, ...]:
    found: list[bytes] = []
    at = 0
    while at < len(names):
        end = at + 1 + names[at]
        found.append(names[at + 1 : end])
        at = end
    return tuple(found)
