"""PROXY protocol headers, versions 1 and 2: who connected to the balancer before us (GOROUTER.md §8.4).

Bytes in, an address or a refusal out; HAProxy's specification «The PROXY protocol» is the source. A header is
optional: bytes that cannot begin one are the client's own. One law: once bytes have begun as a header they are
read as nothing else, so that a broken header never ends up as the start of a request.
"""

import ipaddress
import struct
from dataclasses import dataclass

_V1_START = b"PROXY "
_V2_START = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_MAX_BYTES = 107
"""The longest line of version 1, with its line end."""
_V2_FIXED_BYTES = 16
_V2_MAX_BYTES = 8192
"""What may follow the fixed part of version 2: addresses, and fields that may hold a client certificate."""
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21


@dataclass(frozen=True, slots=True)
class Announced:
    """A whole header came: the client's address and port, and the bytes after the header."""

    ip: str
    port: int
    leftover: bytes


@dataclass(frozen=True, slots=True)
class Direct:
    """The peer itself is the client: there is no header, or one of the balancer's own health check."""

    leftover: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """A header that cannot be accepted; the connection is to be closed."""

    reason: str


Outcome = Announced | Direct | Malformed


class HeaderReader:
    """Reads the header of one connection, in whatever pieces it comes.

    Attributes:
        begun: the bytes so far are a header and nothing else.
    """

    __slots__ = ("_buffer", "begun")

    def __init__(self) -> None:
        self.begun = False
        self._buffer = b""

    def feed(self, data: bytes) -> Outcome | None:
        """Take the next bytes; return None until the outcome is known. Not to be called after that."""
        self._buffer += data
        buffer = self._buffer
        if buffer.startswith(_V1_START):
            self.begun = True
            return _read_v1(buffer)
        if buffer.startswith(_V2_START):
            self.begun = True
            return _read_v2(buffer)
        if _V1_START.startswith(buffer) or _V2_START.startswith(buffer):
            return None
        return Direct(buffer)

    def give_up(self) -> Outcome:
        """Return the outcome when nothing more is waited for."""
        return Malformed("incomplete header") if self.begun else Direct(self._buffer)


def _read_v1(buffer: bytes) -> Outcome | None:
    line, end, leftover = buffer[:_V1_MAX_BYTES].partition(b"\r\n")
    if not end:
        return Malformed("line too long") if len(buffer) >= _V1_MAX_BYTES else None
    leftover += buffer[_V1_MAX_BYTES:]
    try:
        ip, port = _client_of_line(line.decode("ascii"))
    except ValueError as error:
        return Malformed(str(error))
    return Announced(ip, port, leftover)


def _client_of_line(line: str) -> tuple[str, int]:
    fields = line.split(" ")
    if len(fields) != 6:
        raise ValueError(f"not a header that names a TCP client: {line!r}")
    _, family, source, destination, source_port, destination_port = fields
    if family == "TCP4":
        ip = str(ipaddress.IPv4Address(source))
        ipaddress.IPv4Address(destination)
    elif family == "TCP6":
        ip = _ipv6(source)
        _ipv6(destination)
    else:
        raise ValueError(f"neither TCP4 nor TCP6: {family!r}")
    _port(destination_port)
    return ip, _port(source_port)


def _ipv6(text: str) -> str:
    if "%" in text:
        raise ValueError(f"address with a zone: {text!r}")
    return _text_of(ipaddress.IPv6Address(text))


def _text_of(address: ipaddress.IPv6Address) -> str:
    return str(address.ipv4_mapped or address)


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or str(int(text)) != text or int(text) > 0xFFFF:
        raise ValueError(f"not a port: {text!r}")
    return int(text)


def _read_v2(buffer: bytes) -> Outcome | None:
    if len(buffer) < _V2_FIXED_BYTES:
        return None
    command, family, length = struct.unpack_from("!BBH", buffer, len(_V2_START))
    if command not in (_LOCAL, _PROXY):
        return Malformed(f"unknown version or command {command:#04x}")
    if length > _V2_MAX_BYTES:
        return Malformed(f"header of {length} bytes")
    end = _V2_FIXED_BYTES + length
    if len(buffer) < end:
        return None
    if command == _LOCAL:
        return Direct(buffer[end:])
    return _client_of_block(family, buffer[_V2_FIXED_BYTES:end], buffer[end:])


def _client_of_block(family: int, block: bytes, leftover: bytes) -> Outcome:
    size = {_TCP4: 4, _TCP6: 16}.get(family, 0)
    if not size:
        return Malformed(f"neither TCP over IPv4 nor over IPv6: {family:#04x}")
    if len(block) < 2 * size + 4:
        return Malformed(f"address block of {len(block)} bytes")
    source = block[:size]
    (port,) = struct.unpack_from("!H", block, 2 * size)
    ip = str(ipaddress.IPv4Address(source)) if size == 4 else _text_of(ipaddress.IPv6Address(source))
    return Announced(ip, port, leftover)
