"""Protocols that a client offers, found in hellos that OpenSSL itself has written, however they are cut."""

import ssl

import pytest

from router.wire.client_hello import HelloReader, protocols_of


def hello_of(*protocols: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="app.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def in_records(hello: bytes, size: int) -> bytes:
    """Cut the message of one record into records of so many bytes."""
    message = hello[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("protocols", [(), ("h2",), ("spdy/3", "http/1.1", "h2")])
def test_protocols_come_in_the_clients_order(protocols: tuple[str, ...], version: ssl.TLSVersion) -> None:
    hello = hello_of(*protocols, version=version)
    assert HelloReader().feed(hello) == tuple(name.encode() for name in protocols)


def test_nothing_is_known_before_the_last_byte() -> None:
    hello = hello_of("h2")
    reader = HelloReader()
    assert [reader.feed(hello[at : at + 1]) for at in range(len(hello) - 1)] == [None] * (len(hello) - 1)
    assert reader.feed(hello[-1:]) == (b"h2",)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100])
def test_hello_may_be_cut_into_records(size: int) -> None:
    assert HelloReader().feed(in_records(hello_of("h2"), size)) == (b"h2",)


def test_what_follows_the_hello_does_not_count() -> None:
    assert HelloReader().feed(hello_of("h2") + b"\x14\x03\x03\x00\x01\x01") == (b"h2",)


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",  # a hello of 16 MiB
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # a server's hello
        b"\x16\x03\x01\x00\x02\x01\x00\x17\x03\x03\x00\x00",  # another record in mid message
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    ],
)
def test_what_is_no_hello_offers_nothing(octets: bytes) -> None:
    assert HelloReader().feed(octets) == ()


def test_hello_that_ends_anywhere_is_read_without_error() -> None:
    body = hello_of("h2")[9:]
    for end in range(len(body)):
        assert set(protocols_of(body[:end])) <= {b"h2", b"h", b""}
