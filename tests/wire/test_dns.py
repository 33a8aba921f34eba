"""Queries from bytes and answers to them, judged by dnslib, which knows the wire on its own account."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from dnslib import EDNS0, QTYPE, RCODE, RR, DNSHeader, DNSQuestion, DNSRecord, EDNSOption  # type: ignore[import-untyped]
from dnslib import A as ARecord
from hypothesis import given
from hypothesis import strategies as st

from router.wire.dns import (
    AAAA,
    BADVERS,
    FORMERR,
    MESSAGE_BYTES,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    A,
    Edns,
    NotAQuery,
    NotUnderstood,
    Query,
    is_answer,
    is_failure,
    is_truncated,
    parse_query,
    passed_on,
    question_message,
    reply,
)


def query_bytes(name: str = "x.apps.internal", kind: str = "A", edns: EDNS0 | None = None) -> bytes:
    record = DNSRecord.question(name, kind)
    record.header.id = 0x1234
    if edns is not None:
        record.add_ar(edns)
    packed: bytes = record.pack()
    return packed


def code_for(packet: bytes) -> int:
    """Return the code a packet is refused with; the refusal must be one of the query's own id and shorter."""
    with pytest.raises(NotUnderstood) as refused:
        parse_query(packet)
    answer = refused.value.reply
    assert answer[:2] == packet[:2]
    assert len(answer) == 12
    return int(DNSRecord.parse(answer).header.rcode)


def addresses(count: int) -> list[bytes]:
    return [IPv4Address(0x0A000000 + number).packed for number in range(count)]


# Reading queries.


def test_plain_question_is_read() -> None:
    query = parse_query(query_bytes())
    assert (query.id, query.name, query.type, query.qclass, query.edns) == (0x1234, "x.apps.internal", A, 1, None)
    assert query.udp_limit == 512


def test_case_is_lost_in_the_name_and_kept_in_the_question() -> None:
    query = parse_query(query_bytes("X.aPPs.InternaL"))
    assert query.name == "x.apps.internal"
    assert b"aPPs" in query.question
    assert b"aPPs" in reply(query, NOERROR, limit=512)


def test_root_is_the_empty_name() -> None:
    assert parse_query(query_bytes(".", "NS")).name == ""


def test_dot_within_a_label_makes_another_name() -> None:
    packet = query_bytes("xyapps.internal").replace(b"xyapps", b"x.apps")
    assert parse_query(packet).name == "x\\.apps.internal"


def test_name_of_a_single_label_with_a_dot_is_not_two_labels() -> None:
    packet = query_bytes("axb").replace(b"axb", b"a.b")
    assert parse_query(packet).name == "a\\.b"


def test_bytes_beyond_ascii_keep_their_value() -> None:
    packet = query_bytes("zz.internal").replace(b"zz", b"\xc3\xa4")
    assert parse_query(packet).name == "\xc3\xa4.internal"


@pytest.mark.parametrize(("payload", "limit"), [(0, 512), (511, 512), (512, 512), (1000, 1000), (65535, 1232)])
def test_payload_size_of_the_client_is_kept_within_bounds(payload: int, limit: int) -> None:
    query = parse_query(query_bytes(edns=EDNS0(udp_len=payload)))
    assert query.edns == Edns(payload)
    assert query.udp_limit == limit


def test_options_of_the_client_are_passed_over() -> None:
    subnet = EDNSOption(8, b"\x00\x01\x20\x00\x0a\x00\x00\x63")
    query = parse_query(
        query_bytes(edns=EDNS0(udp_len=4096, flags="do", opts=[subnet, EDNSOption(10, b"cookie00")]))
    )
    assert query.edns == Edns(4096, 0, True)


def test_opt_record_is_found_among_others() -> None:
    record = DNSRecord.parse(query_bytes())
    record.add_ar(RR("key.example.com", QTYPE.A, rdata=ARecord("192.0.2.1")))
    record.add_ar(EDNS0(udp_len=900))
    assert parse_query(record.pack()).edns == Edns(900)


def test_records_without_opt_are_no_edns() -> None:
    record = DNSRecord.parse(query_bytes())
    record.add_auth(RR("x.apps.internal", QTYPE.A, rdata=ARecord("192.0.2.1")))
    record.add_ar(RR("x.apps.internal", QTYPE.A, rdata=ARecord("192.0.2.1")))
    assert parse_query(record.pack()).edns is None


@pytest.mark.parametrize("length", range(12))
def test_what_is_shorter_than_a_header_is_not_answered(length: int) -> None:
    with pytest.raises(NotAQuery):
        parse_query(query_bytes()[:length])


def test_response_is_never_answered() -> None:
    answer = DNSRecord.parse(query_bytes()).reply().pack()
    with pytest.raises(NotAQuery):
        parse_query(answer)


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 15])
def test_other_opcodes_are_not_implemented(opcode: int) -> None:
    packet = bytearray(query_bytes())
    packet[2] |= opcode << 3
    assert code_for(bytes(packet)) == NOTIMP


HEADER = struct.pack("!6H", 0x1234, 0x0100, 1, 0, 0, 0)
TYPE_AND_CLASS = struct.pack("!2H", A, 1)


@pytest.mark.parametrize(
    "packet",
    [
        HEADER,
        HEADER + b"\x01x",
        HEADER + b"\x01x\x00",
        HEADER + b"\x01x\x00\x00\x01\x00",
        HEADER + b"\x05x\x00" + TYPE_AND_CLASS,
        HEADER + b"\xc0\x0c" + TYPE_AND_CLASS,
        HEADER + b"\x01x\xc0\x0c" + TYPE_AND_CLASS,
        HEADER + b"\xc0\x00" + TYPE_AND_CLASS,
        HEADER + b"\x40" + b"x" * 64 + b"\x00" + TYPE_AND_CLASS,
        HEADER + (b"\x3f" + b"x" * 63) * 4 + b"\x00" + TYPE_AND_CLASS,
        HEADER + b"\x01x\x00" + TYPE_AND_CLASS + b"trailing",
        HEADER[:4] + struct.pack("!4H", 0, 0, 0, 0),
        HEADER[:4] + struct.pack("!4H", 2, 0, 0, 0) + (b"\x01x\x00" + TYPE_AND_CLASS) * 2,
        HEADER[:4] + struct.pack("!4H", 1, 0, 0, 1) + b"\x01x\x00" + TYPE_AND_CLASS,
        HEADER[:4] + struct.pack("!4H", 1, 65535, 65535, 65535) + b"\x01x\x00" + TYPE_AND_CLASS,
    ],
    ids=[
        "nothing behind the header",
        "within the name",
        "before the type",
        "within the class",
        "label beyond the end",
        "pointer to itself",
        "pointer in a circle",
        "pointer into the header",
        "label of 64 bytes",
        "name of 257 bytes",
        "bytes behind the question",
        "no question",
        "two questions",
        "missing OPT record",
        "more records than there can be",
    ],
)
def test_malformed_question_is_a_format_error(packet: bytes) -> None:
    assert code_for(packet) == FORMERR


def opt(payload: int = 512, length: int = 0, root: bytes = b"\0") -> bytes:
    return root + struct.pack("!HHIH", 41, payload, 0, length)


def with_additional(count: int, additional: bytes) -> bytes:
    return HEADER[:10] + struct.pack("!H", count) + b"\x01x\x00" + TYPE_AND_CLASS + additional


@pytest.mark.parametrize(
    "packet",
    [
        with_additional(1, opt(length=1)),
        with_additional(1, opt() + b"\0"),
        with_additional(1, opt()[:-1]),
        with_additional(1, opt(root=b"\x01x\x00") + b"\0"),
        with_additional(2, opt() + opt()),
        with_additional(2, opt() + b"\x01x"),
        with_additional(9, opt() * 9),
        with_additional(1, b"\x40" + bytes(80)),
        HEADER[:6] + struct.pack("!3H", 1, 0, 0) + b"\x01x\x00" + TYPE_AND_CLASS + opt(),
    ],
    ids=["options missing", "too long", "too short", "trailing", "two", "cut", "too many", "long label", "answer"],
)
def test_malformed_additional_records_are_a_format_error(packet: bytes) -> None:
    assert code_for(packet) == FORMERR


def test_longest_name_is_read() -> None:
    label = b"\x3f" + b"x" * 63
    name = label * 3 + b"\x3d" + b"x" * 61 + b"\0"
    assert len(name) == 255
    assert len(parse_query(HEADER + name + TYPE_AND_CLASS).name) == 253


hostile = st.one_of(
    st.binary(max_size=600),
    st.builds(
        lambda counts, rest: struct.pack("!6H", 1, 0x0100, *counts) + rest,
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
        st.binary(max_size=300),
    ),
    st.builds(
        lambda count, kind, rest: with_additional(count, b"\0" + struct.pack("!HHI", kind, 1, 0) + rest),
        st.integers(1, 9),
        st.one_of(st.sampled_from(sorted(QTYPE.forward)), st.integers(0, 65535)),
        st.binary(max_size=200).flatmap(lambda rest: st.just(struct.pack("!H", len(rest)) + rest)),
    ),
)


@given(hostile)
def test_hostile_packet_ends_in_a_query_or_a_short_refusal(packet: bytes) -> None:
    answer = b""
    try:
        query = parse_query(packet)
        assert packet[12:].startswith(query.question)
        answer = reply(query, REFUSED, limit=512)
    except NotAQuery:
        assert len(packet) < 12 or packet[2] & 0x80
    except NotUnderstood as refused:
        answer = refused.reply
    assert len(answer) <= len(packet)
    assert answer[:2] in (packet[:2], b"")


names = (
    st.lists(st.text("abcXYZ019-_", min_size=1, max_size=63).map(str), min_size=1, max_size=4)
    .map(".".join)
    .filter(lambda name: len(name) < 250)
)


@given(names, st.integers(0, 65535), st.integers(0, 65535), st.none() | st.integers(0, 65535))
def test_any_question_is_read_as_another_library_wrote_it(
    name: str, packet_id: int, kind: int, payload: int | None
) -> None:
    record = DNSRecord(DNSHeader(id=packet_id, rd=1), q=DNSQuestion(name, kind))
    if payload is not None:
        record.add_ar(EDNS0(udp_len=payload))
    query = parse_query(record.pack())
    assert (query.id, query.name, query.type) == (packet_id, name.lower(), kind)
    assert query.edns == (None if payload is None else Edns(payload))


@given(st.integers(0, 60))
def test_query_cut_anywhere_is_no_query(length: int) -> None:
    packet = query_bytes(edns=EDNS0(udp_len=1232))
    if length < len(packet):
        with pytest.raises((NotAQuery, NotUnderstood)):
            parse_query(packet[:length])


# Answers.


def parsed_query(kind: str = "A", payload: int | None = None, name: str = "x.apps.internal") -> Query:
    return parse_query(query_bytes(name, kind, None if payload is None else EDNS0(udp_len=payload)))


def test_addresses_become_records_of_the_asked_name_without_time_to_live() -> None:
    answer = DNSRecord.parse(reply(parsed_query(), NOERROR, addresses(2), authoritative=True, limit=512))
    assert [(str(one.rname), one.ttl, str(one.rdata)) for one in answer.rr] == [
        ("x.apps.internal.", 0, "10.0.0.0"),
        ("x.apps.internal.", 0, "10.0.0.1"),
    ]
    header = answer.header
    assert (header.id, header.qr, header.aa, header.ra, header.rd, header.tc) == (0x1234, 1, 1, 1, 1, 0)
    assert answer.q.qname == "x.apps.internal."
    assert answer.ar == []


def test_ipv6_addresses_become_aaaa_records() -> None:
    packed = [IPv6Address("fd00::1").packed]
    answer = DNSRecord.parse(reply(parsed_query("AAAA"), NOERROR, packed, limit=512))
    assert [(one.rtype, str(one.rdata)) for one in answer.rr] == [(AAAA, "fd00::1")]


def test_recursion_desired_is_echoed_only_if_it_was() -> None:
    packet = bytearray(query_bytes())
    packet[2] &= 0xFE
    assert DNSRecord.parse(reply(parse_query(bytes(packet)), NOERROR, limit=512)).header.rd == 0


def test_client_with_edns_learns_our_payload_size_and_nothing_of_its_options() -> None:
    query = parse_query(query_bytes(edns=EDNS0(udp_len=4096, flags="do", opts=[EDNSOption(8, b"\0\1\0\0")])))
    (option,) = DNSRecord.parse(reply(query, NOERROR, limit=1232)).ar
    assert (option.rtype, option.edns_len, option.edns_ver, option.edns_do, option.rdata) == (41, 1232, 0, 1, [])


def test_extended_code_is_split_between_header_and_opt_record() -> None:
    answer = DNSRecord.parse(reply(parsed_query(payload=1232), BADVERS, limit=1232))
    assert answer.header.rcode == 0
    assert answer.ar[0].edns_rcode == 1


@pytest.mark.parametrize("code", [NOERROR, SERVFAIL, NXDOMAIN, REFUSED])
def test_code_is_what_the_client_reads(code: int) -> None:
    assert DNSRecord.parse(reply(parsed_query(), code, limit=512)).header.rcode == code
    assert RCODE.get(code)


@pytest.mark.parametrize("limit", [512, 1000, 1232])
@pytest.mark.parametrize("payload", [None, 1232])
def test_too_many_addresses_are_cut_to_the_limit_and_marked(limit: int, payload: int | None) -> None:
    packet = reply(parsed_query(payload=payload), NOERROR, addresses(200), limit=limit)
    answer = DNSRecord.parse(packet)
    assert answer.header.tc == 1
    assert limit - 16 < len(packet) <= limit
    assert len(answer.rr) == answer.header.a
    assert len(answer.ar) == (payload is not None)


def test_all_addresses_fit_over_tcp() -> None:
    answer = DNSRecord.parse(reply(parsed_query(), NOERROR, addresses(4000), limit=MESSAGE_BYTES))
    assert (len(answer.rr), answer.header.tc) == (4000, 0)


@given(st.integers(0, 300), st.integers(512, 1232), st.none() | st.integers(0, 65535))
def test_answer_never_exceeds_its_limit(count: int, limit: int, payload: int | None) -> None:
    packet = reply(
        parsed_query(payload=payload, name="n" * 63 + ".internal"), NOERROR, addresses(count), limit=limit
    )
    assert len(packet) <= limit
    assert (DNSRecord.parse(packet).header.tc == 1) == (DNSRecord.parse(packet).header.a < count)


# Asking others.


def resolver_answer(query: Query, count: int = 1, packet_id: int = 7) -> bytes:
    record = DNSRecord.parse(question_message(query, packet_id, 1232)).reply(aa=1)
    for number in range(count):
        record.add_answer(RR(record.q.qname, QTYPE.A, rdata=ARecord(f"192.0.2.{number}"), ttl=60))
    packed: bytes = record.pack()
    return packed


def test_question_to_others_carries_nothing_of_the_client_but_its_question() -> None:
    subnet = EDNSOption(8, b"\x00\x01\x20\x00\x0a\x00\x00\x63")
    query = parse_query(query_bytes("Www.Example.com", edns=EDNS0(udp_len=4096, opts=[subnet])))
    asked = DNSRecord.parse(question_message(query, 99, 1000))
    assert (asked.header.id, asked.header.rd, str(asked.q.qname)) == (99, 1, "Www.Example.com.")
    assert (asked.ar[0].edns_len, asked.ar[0].rdata) == (1000, [])


def test_question_of_a_client_without_edns_is_asked_without() -> None:
    assert DNSRecord.parse(question_message(parsed_query(), 99, 1000)).ar == []


def test_answer_must_have_the_same_id_and_question() -> None:
    query = parsed_query(name="www.example.com")
    answer = resolver_answer(query)
    assert is_answer(answer, 7, query)
    assert is_answer(answer.replace(b"www", b"WWW"), 7, query)
    assert not is_answer(answer, 8, query)
    assert not is_answer(answer.replace(b"www", b"wwx"), 7, query)
    assert not is_answer(question_message(query, 7, 1232), 7, query)
    assert not is_answer(answer[:20], 7, query)
    assert not is_answer(resolver_answer(parsed_query("AAAA", name="www.example.com")), 7, query)


def test_what_others_answer_is_passed_on_under_the_clients_id_and_spelling() -> None:
    query = parsed_query(name="Www.example.com")
    answer = resolver_answer(query).replace(b"Www", b"www")
    found = DNSRecord.parse(passed_on(answer, query, limit=512))
    assert (found.header.id, found.header.aa, found.header.ra) == (0x1234, 0, 1)
    assert str(found.q.qname) == "Www.example.com."
    assert [(one.ttl, str(one.rdata)) for one in found.rr] == [(60, "192.0.2.0")]


@pytest.mark.parametrize("payload", [None, 1232])
def test_what_is_too_long_for_the_client_becomes_a_hint_to_use_tcp(payload: int | None) -> None:
    query = parsed_query(name="www.example.com", payload=payload)
    packet = passed_on(resolver_answer(query, 100), query, limit=512)
    found = DNSRecord.parse(packet)
    assert (found.header.tc, found.rr, found.header.id) == (1, [], 0x1234)
    assert len(packet) < 80


@pytest.mark.parametrize(("code", "failed"), [(0, False), (3, False), (2, True), (4, True), (5, True)])
def test_failure_of_a_resolver_is_told_from_an_answer(code: int, failed: bool) -> None:
    record = DNSRecord.parse(query_bytes()).reply()
    record.header.rcode = code
    assert is_failure(record.pack()) is failed


def test_truncation_is_seen() -> None:
    record = DNSRecord.parse(query_bytes()).reply()
    assert not is_truncated(record.pack())
    record.header.tc = 1
    assert is_truncated(record.pack())
