"""Route-service signatures: the known vector, the way back, and what is said of those that are none."""

import base64
import datetime
import json

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given
from hypothesis import strategies as st

from router.wire.signature import (
    YEAR_ONE_NS,
    SignatureError,
    Signed,
    Signer,
    derive_key,
    format_time,
    parse_time,
)

URL = "https://app.example.com/a?b=c"
REQUESTED_NS = 1_767_323_045_123_456_789
NONCE = bytes(range(12))
SIGNATURE = (
    b"Kje-nB95o7IKw01k9guQJELZwbMJU8bvdpdbGY30Hzwd0Nigs5JkBwHU8hpP-xqu2UwL6sCms7ZGnn7d95BWOBF-4yfoHNTQzNWQxX-12df4aC5I"
    b"OcLmNyFmFHVXBFiJ4tdKwkMH9h8QAgSCi26NHNYGcw=="
)
METADATA = b"eyJub25jZSI6IkFBRUNBd1FGQmdjSUNRb0wifQ=="

SIGNER = Signer("my-secret", "")
ROTATED = Signer("new-secret", "my-secret")


def sealed(plain: bytes, nonce: bytes = NONCE) -> bytes:
    """A signature over any text, made with the right key."""
    return base64.urlsafe_b64encode(AESGCM(derive_key("my-secret")).encrypt(nonce, plain, None))


def reason(signature: bytes, metadata: bytes, signer: Signer = SIGNER) -> str:
    with pytest.raises(SignatureError) as caught:
        signer.open(signature, metadata)
    return caught.value.reason


def metadata_reason(text: bytes) -> str:
    """What is said when the metadata decodes to this text."""
    return reason(SIGNATURE, base64.urlsafe_b64encode(text))


def plain_reason(text: bytes) -> str:
    return reason(sealed(text), METADATA)


# The known vector.


def test_key_is_that_of_the_known_vector() -> None:
    assert derive_key("my-secret").hex() == "176351310e5d8c6b54be2348f672eeb7"


def test_signature_is_that_of_the_known_vector() -> None:
    assert SIGNER.sign(URL, REQUESTED_NS, NONCE) == (SIGNATURE, METADATA)


def test_known_vector_opens() -> None:
    assert SIGNER.open(SIGNATURE, METADATA) == Signed(URL, REQUESTED_NS)


def test_old_secret_opens_but_does_not_sign() -> None:
    assert ROTATED.open(SIGNATURE, METADATA) == Signed(URL, REQUESTED_NS)
    with pytest.raises(SignatureError, match="message authentication failed"):
        SIGNER.open(*ROTATED.sign(URL, REQUESTED_NS, NONCE))


@given(st.text(), st.integers(YEAR_ONE_NS, 253_402_300_799_999_999_999), st.binary(min_size=12, max_size=12))
def test_what_is_signed_comes_back(url: str, requested_ns: int, nonce: bytes) -> None:
    url = url.encode("utf-8", "replace").decode()
    assert SIGNER.open(*SIGNER.sign(url, requested_ns, nonce)) == Signed(url, requested_ns)


def test_characters_are_escaped_as_go_does() -> None:
    signature, _ = SIGNER.sign('https://a/?a=1&b=<">\\', 0, NONCE)
    plain = AESGCM(derive_key("my-secret")).decrypt(NONCE, base64.urlsafe_b64decode(signature), None)
    assert plain.startswith(rb'{"forwarded_url":"https://a/?a=1\u0026b=\u003c\"\u003e\\",')


def test_any_spelling_of_the_json_is_read() -> None:
    text = ' { "x" : [1, {"y": -1.5e3}], "REQUESTED_TIME" : "1970-01-01T01:00:00.5+01:00" ,'
    text += ' "Forwarded_Url":"https://a" } \n'
    assert SIGNER.open(sealed(text.encode()), METADATA) == Signed("https://a", 500_000_000)


def test_missing_fields_have_gos_zero_values() -> None:
    assert SIGNER.open(sealed(b"{}"), METADATA) == Signed("", YEAR_ONE_NS)
    assert SIGNER.open(sealed(b"null"), METADATA) == Signed("", YEAR_ONE_NS)
    nulls = b'{"forwarded_url":null,"requested_time":null}'
    assert SIGNER.open(sealed(nulls), METADATA) == Signed("", YEAR_ONE_NS)


def test_url_that_is_no_unicode_is_still_text_that_can_be_sent() -> None:
    escaped = SIGNER.open(sealed(b'{"forwarded_url":"https://a/\\ud800"}'), METADATA)
    raw = SIGNER.open(sealed(b'{"forwarded_url":"https://a/\xff"}'), METADATA)
    assert escaped.url.encode()
    assert raw.url.encode()


# What is no signature.


def test_signature_without_metadata_is_refused() -> None:
    assert reason(SIGNATURE, b"") == "No metadata found"


def test_signature_of_another_secret_is_refused() -> None:
    assert reason(SIGNATURE, METADATA, Signer("a", "b")) == "cipher: message authentication failed"


@pytest.mark.parametrize("place", [0, 50, 100, 150, len(SIGNATURE) - 4])
def test_changed_signature_is_refused(place: int) -> None:
    changed = SIGNATURE[:place] + (b"A" if SIGNATURE[place : place + 1] != b"A" else b"B") + SIGNATURE[place + 1 :]
    assert reason(changed, METADATA) == "cipher: message authentication failed"


@pytest.mark.parametrize("kept", [0, 4, 20, 24, 152])
def test_truncated_signature_is_refused(kept: int) -> None:
    assert reason(SIGNATURE[:kept], METADATA) == "cipher: message authentication failed"


@pytest.mark.parametrize("length", [0, 1, 11, 13, 16, 4096])
def test_nonce_of_another_length_is_refused(length: int) -> None:
    nonce = base64.b64encode(bytes(length))
    assert metadata_reason(b'{"nonce":"%b"}' % nonce) == "incorrect nonce length"


def test_reason_comes_from_the_old_key_if_both_fail() -> None:
    assert reason(b"AAAA", METADATA, ROTATED) == "cipher: message authentication failed"
    assert reason(sealed(b"not json"), METADATA, ROTATED).startswith("invalid character 'o' in literal null")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"A", 0),
        (b"AAA", 0),
        (b"AAAAA", 4),
        (b"!", 0),
        (b"AAAA!AAA", 4),
        (b"AAAA+AAA", 4),
        (b"=", 0),
        (b"A===", 1),
        (b"AA=", 3),
        (b"AA=A", 2),
        (b"AA==A", 4),
        (b"AAA=A", 4),
        (b"AAAA=", 4),
        (b"AAA==", 4),
    ],
)
def test_place_of_bad_base64_is_the_one_go_reports(text: bytes, place: int) -> None:
    expected = f"illegal base64 data at input byte {place}"
    assert reason(SIGNATURE, text) == expected
    assert reason(text, METADATA) == expected
    if b"+" not in text:
        assert metadata_reason(b'{"nonce":"%b"}' % text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b" ", "unexpected end of JSON input"),
        (b"{", "unexpected end of JSON input"),
        (b'{"nonce', "unexpected end of JSON input"),
        (b"nul", "unexpected end of JSON input"),
        (b'{"a":"\\', "unexpected end of JSON input"),
        (b'{"a":"\\u12', "unexpected end of JSON input"),
        (b"garbage", "invalid character 'g' looking for beginning of value"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b"NaN", "invalid character 'N' looking for beginning of value"),
        (b"'", r"invalid character '\'' looking for beginning of value"),
        (b"\\", r"invalid character '\\' looking for beginning of value"),
        (b"\x01", r"invalid character '\x01' looking for beginning of value"),
        (b"\x80", r"invalid character '\u0080' looking for beginning of value"),
        ("é".encode(), "invalid character 'Ã' looking for beginning of value"),
        (b"none", "invalid character 'o' in literal null (expecting 'u')"),
        (b"trap", "invalid character 'a' in literal true (expecting 'u')"),
        (b"fuss", "invalid character 'u' in literal false (expecting 'a')"),
        (b"-x", "invalid character 'x' in numeric literal"),
        (b"-Infinity", "invalid character 'I' in numeric literal"),
        (b"{1:2}", "invalid character '1' looking for beginning of object key string"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 2}', "invalid character '2' after object key:value pair"),
        (b"{}x", "invalid character 'x' after top-level value"),
        (b'{"a":"\x01"}', r"invalid character '\x01' in string literal"),
        (b'{"a":"\\q"}', "invalid character 'q' in string escape code"),
        (b'{"a":"\\u12g4"}', r"invalid character 'g' in \u hexadecimal character escape"),
        (b"1", "json: cannot unmarshal number into Go value of type routeservice.Metadata"),
        (b"[]", "json: cannot unmarshal array into Go value of type routeservice.Metadata"),
        (b'{"nonce":{}}', "json: cannot unmarshal object into Go struct field Metadata.nonce of type []uint8"),
        (b'{"nonce":true}', "json: cannot unmarshal bool into Go struct field Metadata.nonce of type []uint8"),
        (b"{}", "incorrect nonce length"),
        (b"null", "incorrect nonce length"),
    ],
)
def test_metadata_that_is_not_what_it_should_be_is_named_in_gos_words(text: bytes, expected: str) -> None:
    assert metadata_reason(text) == expected


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' * 200_000])
def test_deep_metadata_is_refused(text: bytes) -> None:
    assert metadata_reason(text) == "exceeded max depth"


def test_endless_number_costs_nothing() -> None:
    assert metadata_reason(b"9" * 500_000).startswith("json: cannot unmarshal number")


@given(st.binary(), st.binary())
@example(SIGNATURE, METADATA[:-1])
def test_no_header_does_more_than_be_refused(signature: bytes, metadata: bytes) -> None:
    with pytest.raises(SignatureError):
        SIGNER.open(signature, metadata)
    with pytest.raises(SignatureError):
        SIGNER.open(signature, base64.urlsafe_b64encode(metadata))


@given(st.binary())
def test_no_signed_text_does_more_than_be_refused(plain: bytes) -> None:
    try:
        SIGNER.open(sealed(plain), METADATA)
    except SignatureError:
        return
    assert json.loads(plain) is None or isinstance(json.loads(plain), dict)


# Times.


@given(st.datetimes(timezones=st.just(datetime.UTC)))
def test_times_are_those_of_the_calendar(moment: datetime.datetime) -> None:
    moment_ns = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)
    assert parse_time(moment.isoformat()) == moment_ns * 1000
    assert parse_time(format_time(moment_ns * 1000)) == moment_ns * 1000


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "00Z"), (1, "00.000000001Z"), (500_000_000, "00.5Z"), (120_000_000, "00.12Z")],
)
def test_fraction_is_as_short_as_it_can_be(nanoseconds: int, text: str) -> None:
    assert format_time(nanoseconds) == "1970-01-01T00:00:" + text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:00.1234567899Z", 123_456_789),
        ("1970-01-01T00:00:00-05:30", 19_800_000_000_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000_000),
    ],
)
def test_time_is_read(text: str, expected: int) -> None:
    assert parse_time(text) == expected


_AS = '" as "2006-01-02T15:04:05Z07:00": cannot parse "'


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", f'{_AS}" as "2006"'),
        ("yesterday", f'yesterday{_AS}yesterday" as "2006"'),
        ("2026/01/02", f'2026/01/02{_AS}/01/02" as "-"'),
        ("2026-01-02 03:04:05Z", f'2026-01-02 03:04:05Z{_AS} 03:04:05Z" as "T"'),
        ("2026-01-02T03:04:05", f'2026-01-02T03:04:05{_AS}" as "Z07:00"'),
        ("2026-01-02T03:04:05Zx", '2026-01-02T03:04:05Zx": extra text: "x"'),
        ("2026-13-02T03:04:05Z", '2026-13-02T03:04:05Z": month out of range'),
        ("2026-02-29T03:04:05Z", '2026-02-29T03:04:05Z": day out of range'),
        ("2026-01-02T24:04:05Z", '2026-01-02T24:04:05Z": hour out of range'),
        ("2026-01-02T03:60:05Z", '2026-01-02T03:60:05Z": minute out of range'),
        ("2026-01-02T03:04:60Z", '2026-01-02T03:04:60Z": second out of range'),
    ],
)
def test_bad_time_is_named_in_gos_words(text: str, cause: str) -> None:
    assert plain_reason(json.dumps({"requested_time": text}).encode()) == f'parsing time "{cause}'


def test_time_that_is_no_string_is_refused() -> None:
    assert plain_reason(b'{"requested_time":12}') == "Time.UnmarshalJSON: input is not a JSON string"
