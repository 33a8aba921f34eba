import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.proxy_protocol import Announced, Direct, HeaderReader, Malformed, Outcome

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 51000 443\r\n"
V1_IPV6 = b"PROXY TCP6 2001:DB8:0::7 ::1 51000 443\r\n"
REQUEST = b"GET / HTTP/1.1\r\n\r\n"


def v2(source: str, port: int, fields: bytes = b"", command: int = 0x21) -> bytes:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    address = socket.inet_pton(family, source)
    block = address + bytes(len(address)) + struct.pack("!HH", port, 443) + fields
    return SIGNATURE + bytes([command, 0x21 if ":" in source else 0x11]) + struct.pack("!H", len(block)) + block


V2 = v2("203.0.113.7", 51000, b"\x02\x00\x0bexample.com")
V2_IPV6 = v2("2001:db8::7", 51000)
LOCAL = SIGNATURE + b"\x20\x00\x00\x03abc"


def read(data: bytes) -> Outcome | None:
    return HeaderReader().feed(data)


HEADERS = [
    (V1, "203.0.113.7", 51000),
    (V1_IPV6, "2001:db8::7", 51000),
    (V2, "203.0.113.7", 51000),
    (V2_IPV6, "2001:db8::7", 51000),
    (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", "0.0.0.0", 0),
    (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", "203.0.113.7", 1),
    (v2("::ffff:203.0.113.7", 1), "203.0.113.7", 1),
    (b"PROXY TCP6 " + b":".join([b"ffff"] * 8) + b" ::1 65535 65535\r\n", ":".join(["ffff"] * 8), 65535),
]


@pytest.mark.parametrize(("header", "ip", "port"), HEADERS)
def test_header_tells_the_client_and_leaves_what_follows(header: bytes, ip: str, port: int) -> None:
    assert read(header) == Announced(ip, port, b"")
    assert read(header + REQUEST * 20) == Announced(ip, port, REQUEST * 20)


@pytest.mark.parametrize("header", [V1, V1_IPV6, V2, V2_IPV6, LOCAL])
def test_header_may_come_split_at_every_byte(header: bytes) -> None:
    whole = read(header + REQUEST)
    assert whole is not None
    for at in range(1, len(header)):
        reader = HeaderReader()
        assert reader.feed(header[:at]) is None
        assert reader.feed(header[at:] + REQUEST) == whole


def test_header_may_come_byte_by_byte() -> None:
    for header in (V1, V2):
        reader = HeaderReader()
        assert [reader.feed(bytes([byte])) for byte in header[:-1]] == [None] * (len(header) - 1)
        assert isinstance(reader.feed(header[-1:]), Announced)


@pytest.mark.parametrize(
    "data",
    [REQUEST, b"POST / HTTP/1.1", b"PROXYING", b"\x16\x03\x01\x02\x00", b"\r\nGET /", b"proxy tcp4", b"\x00"],
)
def test_other_first_bytes_are_the_client_s_own(data: bytes) -> None:
    reader = HeaderReader()

    assert reader.feed(data) == Direct(data)
    assert not reader.begun


def test_local_connection_of_a_balancer_is_the_peer_s_own() -> None:
    reader = HeaderReader()

    assert reader.feed(LOCAL + REQUEST) == Direct(REQUEST)
    # Still a header, which not everybody may send.
    assert reader.begun


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
        b"PROXY / HTTP/1.1\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.400 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP6 ::1 ::1%eth0 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999999999\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1_0 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4  2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 \u0661 2\r\n".encode(),
        b"PROXY TCP4 \x00 1.2.3.4 1 2\r\n",
        b"PROXY " + b"x" * 101,
        b"PROXY " + b"x" * 100 + b"\r\n",
        b"PROXY " + b"x" * 20_000,
    ],
)
def test_line_that_names_no_tcp_client_is_refused(line: bytes) -> None:
    assert isinstance(read(line), Malformed)


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (b"\x11\x11\x00\x0c", "unknown version or command 0x11"),
        (b"\x22\x11\x00\x0c", "unknown version or command 0x22"),
        (b"\x21\x11\x20\x01", "header of 8193 bytes"),
        (b"\x20\x11\xff\xff", "header of 65535 bytes"),
        (b"\x21\x00\x00\x00", "neither TCP over IPv4 nor over IPv6: 0x00"),
        (b"\x21\x12\x00\x0c" + bytes(12), "neither TCP over IPv4 nor over IPv6: 0x12"),
        (b"\x21\x31\x00\xd8" + bytes(216), "neither TCP over IPv4 nor over IPv6: 0x31"),
        (b"\x21\x11\x00\x0b" + bytes(11), "address block of 11 bytes"),
        (b"\x21\x21\x00\x23" + bytes(35), "address block of 35 bytes"),
    ],
)
def test_block_that_names_no_tcp_client_is_refused(rest: bytes, reason: str) -> None:
    assert read(SIGNATURE + rest) == Malformed(reason)


def test_fields_up_to_the_limit_are_passed_over() -> None:
    assert read(v2("203.0.113.7", 5, bytes(8192 - 12)) + b"x") == Announced("203.0.113.7", 5, b"x")


@pytest.mark.parametrize("start", [b"", b"P", b"PROXY", b"\r\n\r\n\x00\r\nQUIT"])
def test_giving_up_before_a_header_has_begun_leaves_the_bytes_to_the_client(start: bytes) -> None:
    reader = HeaderReader()
    assert reader.feed(start) is None
    assert reader.give_up() == Direct(start)


@pytest.mark.parametrize("start", [b"PROXY ", V1[:-1], SIGNATURE, V2[:-1]])
def test_giving_up_in_the_midst_of_a_header_is_a_refusal(start: bytes) -> None:
    reader = HeaderReader()
    assert reader.feed(start) is None
    assert reader.give_up() == Malformed("incomplete header")


@given(
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]), st.binary(max_size=300)
)
def test_any_bytes_have_the_same_outcome_in_one_piece_and_in_many(start: bytes, rest: bytes) -> None:
    data = start + rest
    reader = HeaderReader()
    outcome, fed = None, 0
    while outcome is None and fed < len(data):
        outcome, fed = reader.feed(data[fed : fed + 1]), fed + 1
    at_once = read(data)

    assert type(outcome) is type(at_once)
    if isinstance(outcome, Announced | Direct) and isinstance(at_once, Announced | Direct):
        assert outcome.leftover + data[fed:] == at_once.leftover
