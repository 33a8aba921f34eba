"""DNS messages: a client's query from bytes, and the answer to it (RFC 1035, RFC 6891).

Owns the wire format and its bounds; does not own what is answered. One law: of a query nothing is believed that
was not checked against the packet's end, and an answer is never longer than its client can take.

Names are never followed through compression pointers: a query's question cannot hold any, and its other records
are only stepped over. With a library that resolves them, a container could hold up control for 2.6 ms with one
packet of 478 bytes (dnslib 0.9.26); here no packet costs more than a few microseconds beyond its length.
"""

import struct
from collections.abc import Sequence

import msgspec

A, AAAA, OPT = 1, 28, 41
IXFR, AXFR = 251, 252
IN = 1
"""Types and classes that are treated in a way of their own."""

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
"""Response codes (RFC 1035 §4.1.1, RFC 6891 §9)."""

PAYLOAD_BYTES = 1232
"""Longest UDP answer, ours or asked of others: it fits into the smallest IPv6 packet, so nothing is fragmented."""
PLAIN_BYTES = 512
"""Longest UDP answer to a client that says nothing about it (RFC 1035 §4.2.1)."""
MESSAGE_BYTES = 65535
"""Longest answer over TCP (RFC 1035 §4.2.2)."""
QUERY_BYTES = 4096
"""Longest query that is read; nobody's is a tenth of it."""

_QR, _OPCODE, _AA, _TC, _RD, _RA, _CD = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
_ECHOED = _OPCODE | _RD | _CD
_DO = 0x8000
_HEADER = struct.Struct("!6H")
_TYPE_AND_CLASS = struct.Struct("!2H")
_OPT = struct.Struct("!BHHIH")
_RECORD = struct.Struct("!HHIH")
_NAME_BYTES = 255
_LABEL_BYTES = 63
_POINTER = 0xC0
_RECORDS = 8
"""More records than that in a query are a mistake or an attack."""
_POINTER_TO_QUESTION = b"\xc0\x0c"
_NO_TTL = b"\0\0\0\0"
_PREFIXES = {
    kind: _POINTER_TO_QUESTION + _TYPE_AND_CLASS.pack(kind, IN) + _NO_TTL + struct.pack("!H", length)
    for kind, length in ((A, 4), (AAAA, 16))
}
"""What comes before an address in its record."""


class NotAQuery(Exception):
    """Something that must not be answered: a response, or too short to be a message."""


class NotUnderstood(Exception):
    """A query that can only be answered with an error.

    Attributes:
        reply: the whole answer, not longer than the query.
    """

    def __init__(self, packet_id: int, flags: int, code: int) -> None:
        super().__init__(f"response code {code}")
        self.reply = _HEADER.pack(packet_id, _QR | _RA | flags & _ECHOED | code, 0, 0, 0, 0)


class Edns(msgspec.Struct, frozen=True):
    """What a client's OPT record says (RFC 6891 §6.1); its options, client-subnet among them, are not read."""

    payload: int
    """Longest UDP answer the client takes, in bytes."""
    version: int = 0
    dnssec_ok: bool = False


class Query(msgspec.Struct, frozen=True):
    """One question of a client."""

    id: int
    flags: int
    """The second header field as received."""
    question: bytes
    """The question section as received: the case of its letters may carry the client's entropy (0x20)."""
    name: str
    """Lower-case, labels joined by dots, without a trailing one; a dot within a label is written ``\\.``."""
    type: int
    qclass: int
    edns: Edns | None = None

    @property
    def udp_limit(self) -> int:
        """Longest answer over UDP in bytes."""
        if self.edns is None:
            return PLAIN_BYTES
        return max(PLAIN_BYTES, min(self.edns.payload, PAYLOAD_BYTES))


def parse_query(packet: bytes) -> Query:
    """Read a query. Raises `NotAQuery` if nothing may be answered, else `NotUnderstood` with what to answer."""
    if len(packet) < _HEADER.size:
        raise NotAQuery
    packet_id, flags, questions, answers, authorities, additional = _HEADER.unpack_from(packet)
    if flags & _QR:
        raise NotAQuery
    if flags & _OPCODE:
        raise NotUnderstood(packet_id, flags, NOTIMP)
    try:
        if questions != 1:
            raise ValueError("not one question")
        name, at = _read_name(packet)
        kind, qclass = _TYPE_AND_CLASS.unpack_from(packet, at)
        at += _TYPE_AND_CLASS.size
        edns = _read_edns(packet, at, answers + authorities, additional)
    except (ValueError, IndexError, struct.error) as error:
        raise NotUnderstood(packet_id, flags, FORMERR) from error
    return Query(packet_id, flags, packet[_HEADER.size : at], name, kind, qclass, edns)


def _read_name(packet: bytes) -> tuple[str, int]:
    """Read the name behind the header; return it and the offset behind it.

    Nothing lies before it that a compression pointer could point to, so pointers are errors (RFC 1035 §4.1.4).
    """
    labels = []
    at = _HEADER.size
    while length := packet[at]:
        if length > _LABEL_BYTES:
            raise ValueError("compressed or too long a label")
        labels.append(packet[at + 1 : at + 1 + length])
        at += 1 + length
    at += 1
    if at - _HEADER.size > _NAME_BYTES:
        raise ValueError("too long a name")
    name = b".".join(labels)
    if name.count(b".") >= max(1, len(labels)):
        name = b".".join(label.replace(b".", b"\\.") for label in labels)
    return name.lower().decode("latin-1"), at


def _read_edns(packet: bytes, at: int, others: int, additional: int) -> Edns | None:
    """Read what follows the question. Raises `ValueError`, `struct.error` if that is not what the header says."""
    if others + additional > _RECORDS:
        raise ValueError("too many records")
    found = None
    for number in range(others + additional):
        start = at
        at = _skip_name(packet, at)
        kind, payload, extended, length = _RECORD.unpack_from(packet, at)
        at += _RECORD.size + length
        if kind == OPT:
            # RFC 6891 §6.1.1: one, in the additional section, at the root.
            if found is not None or number < others or packet[start]:
                raise ValueError("misplaced OPT record")
            found = Edns(payload, extended >> 16 & 0xFF, bool(extended & _DO))
    if at != len(packet):
        raise ValueError("not as long as its records")
    return found


def _skip_name(packet: bytes, at: int) -> int:
    """Return the offset behind a name, which a pointer ends (RFC 1035 §4.1.4)."""
    while length := packet[at]:
        if length >= _POINTER:
            return at + 2
        if length > _LABEL_BYTES:
            raise ValueError("too long a label")
        at += 1 + length
    return at + 1


def reply(
    query: Query, code: int, addresses: Sequence[bytes] = (), *, authoritative: bool = False, limit: int
) -> bytes:
    """Return the answer to a query.

    Args:
        addresses: packed, of the family that the query's type asks for; TTL is 0. Those that do not fit are left
            out, and the answer is marked as truncated.
        limit: longest answer in bytes, at least `PLAIN_BYTES`.
    """
    flags = _QR | _RA | query.flags & _ECHOED | code & 0xF
    if authoritative:
        flags |= _AA
    options = b"" if query.edns is None else _options(code, query.edns.dnssec_ok)
    records = b""
    count = 0
    if addresses:
        prefix = _PREFIXES[query.type]
        room = limit - _HEADER.size - len(query.question) - len(options)
        count = min(len(addresses), room // (len(prefix) + len(addresses[0])))
        if count < len(addresses):
            flags |= _TC
        records = b"".join([prefix + address for address in addresses[:count]])
    header = _HEADER.pack(query.id, flags, 1, count, 0, 1 if options else 0)
    return b"".join((header, query.question, records, options))


def _options(code: int, dnssec_ok: bool) -> bytes:
    """Return our OPT record: the upper bits of the code, version 0, DO as it was asked (RFC 3225 §3)."""
    return _OPT.pack(0, OPT, PAYLOAD_BYTES, code >> 4 << 24 | (_DO if dnssec_ok else 0), 0)


# Asking others on behalf of a client.


def question_message(query: Query, message_id: int, payload: int) -> bytes:
    """Return the client's question as one of our own, with none of its options: those are hop by hop (RFC 6891).

    The letters keep their case. ``payload`` is the longest UDP answer in bytes; it is not said if the client did
    not speak EDNS.
    """
    edns = query.edns
    options = b"" if edns is None else _OPT.pack(0, OPT, payload, _DO if edns.dnssec_ok else 0, 0)
    header = _HEADER.pack(message_id, query.flags & (_RD | _CD), 1, 0, 0, 1 if options else 0)
    return header + query.question + options


def is_answer(packet: bytes, message_id: int, query: Query) -> bool:
    """Whether a packet answers `question_message`: the same id and question (RFC 5452 §9.1), case aside."""
    if len(packet) < _HEADER.size + len(query.question):
        return False
    found_id, flags, questions, *_ = _HEADER.unpack_from(packet)
    question = packet[_HEADER.size : _HEADER.size + len(query.question)]
    return bool(
        found_id == message_id
        and flags & _QR
        and not flags & _OPCODE
        and questions == 1
        and question.lower() == query.question.lower()
    )


def is_truncated(answer: bytes) -> bool:
    """Whether an answer says that there is more of it to be had over TCP."""
    return bool(_flags(answer) & _TC)


def is_failure(answer: bytes) -> bool:
    """Whether the server could not or would not answer, so that another one may be asked."""
    return _flags(answer) & 0xF in (SERVFAIL, NOTIMP, REFUSED)


def _flags(answer: bytes) -> int:
    return int.from_bytes(answer[2:4])


def passed_on(answer: bytes, query: Query, *, limit: int) -> bytes:
    """Return what another server answered as the answer to the client's query, cut to a hint if it is too long.

    The other server is no authority through us, so AA goes; what it says otherwise is the client's to judge.
    """
    flags = _flags(answer) & ~_AA | _RA
    if len(answer) > limit:
        options = b"" if query.edns is None else _options(NOERROR, query.edns.dnssec_ok)
        header = _HEADER.pack(query.id, flags | _TC, 1, 0, 0, 1 if options else 0)
        return header + query.question + options
    counts = answer[4 : _HEADER.size]
    start = struct.pack("!2H", query.id, flags)
    return b"".join((start, counts, query.question, answer[_HEADER.size + len(query.question) :]))
