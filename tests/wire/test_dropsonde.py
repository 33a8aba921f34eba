import struct
from typing import Any

import pytest

from router.wire import dropsonde
from router.wire.dropsonde import CLIENT, NO_INSTANCE, SERVER, Encoder, Http, Instance, encode_uuid

Envelope = dropsonde.messages(opaque=False)["Envelope"]
REQUEST_ID = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
ENCODER = Encoder("gorouter")


def request(**changes: Any) -> Http:
    known = Http(
        10, 25, encode_uuid(REQUEST_ID), SERVER, b"GET", "http://app.test/a", "10.0.0.9:4711", "curl/8", 200, 12
    )
    return known._replace(**changes)


def tags_of(envelope: Any) -> dict[str, str]:
    return {tag.key: tag.value for tag in envelope.tags}


def test_value_has_the_bytes_that_the_public_field_numbers_make() -> None:
    value = struct.pack("<d", 1.5)

    assert ENCODER.value("latency", 1.5, "ms", 5) == (
        b"\x0a\x08gorouter\x10\x06\x30\x05\x4a\x16\x0a\x07latency\x11" + value + b"\x1a\x02ms"
    )


def test_counter_has_the_bytes_that_the_public_field_numbers_make() -> None:
    assert ENCODER.counter("bad_gateways", 3, 5) == (
        b"\x0a\x08gorouter\x10\x07\x30\x05\x52\x10\x0a\x0cbad_gateways\x10\x03"
    )


def test_uuid_is_two_little_endian_numbers() -> None:
    envelope = Envelope.FromString(ENCODER.http(request(), NO_INSTANCE, 1))

    identity = envelope.httpStartStop.requestId
    assert (identity.low, identity.high) == (0x7243CC580BC17AF4, 0x79D4C3B2020E67A5)


def test_text_that_is_no_uuid_has_no_encoding() -> None:
    assert [encode_uuid(text) for text in ("", "app-guid", REQUEST_ID[:-2])] == [b"", b"", b""]


def test_request_is_told_with_everything_known_of_it() -> None:
    instance = Instance(REQUEST_ID, "3", "inst", {"component": "route-emitter", "app_name": "shop"})
    octets = ENCODER.http(
        request(forwarded=("1.2.3.4", "5.6.7.8")), instance, 99, dropsonde.encode_tags([("trace_id", "abc")])
    )
    envelope = Envelope.FromString(octets)
    event = envelope.httpStartStop

    assert (envelope.origin, envelope.eventType, envelope.timestamp) == ("gorouter", 4, 99)
    assert tags_of(envelope) == {"component": "route-emitter", "app_name": "shop", "trace_id": "abc"}
    assert (event.startTimestamp, event.stopTimestamp, event.peerType, event.method) == (10, 25, 2, 1)
    assert (event.uri, event.remoteAddress, event.userAgent) == ("http://app.test/a", "10.0.0.9:4711", "curl/8")
    assert (event.statusCode, event.contentLength) == (200, 12)
    assert event.applicationId.low == 0x7243CC580BC17AF4
    assert (event.instanceIndex, event.instanceId) == (3, "inst")
    assert list(event.forwarded) == ["1.2.3.4", "5.6.7.8"]


@pytest.mark.parametrize(
    ("method", "number"),
    [
        (b"GET", 1),
        (b"HEAD", 5),
        (b"BASELINE-CONTROL", 7),
        (b"CONNECT", 11),
        (b"OPTIONS", 24),
        (b"PATCH", 26),
        (b"TRACE", 36),
        (b"VERSION-CONTROL", 44),
        (b"BREW", 0),
    ],
)
def test_methods_have_the_protocols_numbers(method: bytes, number: int) -> None:
    envelope = Envelope.FromString(ENCODER.http(request(method=method), NO_INSTANCE, 1))

    assert envelope.httpStartStop.method == number


def test_attempt_without_a_response_has_status_0_and_an_unknown_length() -> None:
    envelope = Envelope.FromString(ENCODER.http(request(peer=CLIENT, status=0, length=-1), NO_INSTANCE, 1))

    event = envelope.httpStartStop
    assert (event.peerType, event.statusCode, event.contentLength) == (1, 0, -1)


@pytest.mark.parametrize("index", ["", "-1", "one", "99999999999", "²"])
def test_instance_that_is_no_number_and_app_that_is_no_uuid_are_left_out(index: str) -> None:
    envelope = Envelope.FromString(ENCODER.http(request(), Instance("app-guid", index, "", {}), 1))
    event = envelope.httpStartStop

    assert [event.HasField(name) for name in ("applicationId", "instanceIndex", "instanceId")] == [False] * 3


def test_log_line_names_app_source_and_time() -> None:
    instance = Instance("app-guid", "0", "", {"source_id": "app-guid"})
    envelope = Envelope.FromString(ENCODER.log(b'app.test - "GET /\xff"', instance, "RTR", "2", 77))
    message = envelope.logMessage

    assert (envelope.eventType, tags_of(envelope)) == (5, {"source_id": "app-guid"})
    assert (message.message, message.message_type, message.timestamp) == (b'app.test - "GET /\xff"', 1, 77)
    assert (message.app_id, message.source_type, message.source_instance) == ("app-guid", "RTR", "2")


def test_place_of_the_origin_is_in_every_envelope() -> None:
    encoder = Encoder("gorouter", deployment="cf", job="router", index="i-1", ip="10.0.0.4")
    envelope = Envelope.FromString(encoder.counter("responses", 1, 1))

    assert (envelope.deployment, envelope.job, envelope.index, envelope.ip) == ("cf", "router", "i-1", "10.0.0.4")


def test_every_envelope_has_all_that_the_protocol_requires() -> None:
    envelopes = (
        ENCODER.value("latency", 0.0, "ms", 0),
        ENCODER.counter("responses", 0, 0),
        ENCODER.log(b"", NO_INSTANCE, "RTR", "0", 0),
        ENCODER.http(request(uri="", remote="", user_agent="", status=0, length=0), NO_INSTANCE, 0),
    )

    assert [Envelope.FromString(octets).IsInitialized() for octets in envelopes] == [True] * 4
    assert not Envelope.FromString(dropsonde.encode_tags([("name", "value")])).IsInitialized()
