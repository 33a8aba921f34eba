"""Route-service signatures: the known vector, the way back, and what is said of those that are none."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given
from hypothesis import strategies as st

from router.wire.go_time import YEAR_ONE_NS
from router.wire.signature import SignatureError, Signed, Signer, derive_key

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
        (b"{", "unexpected end of JSON input"),
        (b"1", "json: cannot unmarshal number into Go value of type routeservice.Metadata"),
        (b'{"nonce":{}}', "json: cannot unmarshal object into Go struct field Metadata.nonce of type []uint8"),
        (b"{}", "incorrect nonce length"),
        (b"null", "incorrect nonce length"),
    ],
)
def test_metadata_that_is_not_what_it_should_be_is_named_in_gos_words(text: bytes, expected: str) -> None:
    assert metadata_reason(text) == expected


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


def test_bad_time_is_no_signature() -> None:
    said = plain_reason(b'{"requested_time":"2026-13-02T03:04:05Z"}')
    assert said == 'parsing time "2026-13-02T03:04:05Z": month out of range'


def test_time_that_is_no_string_is_refused() -> None:
    assert plain_reason(b'{"requested_time":12}') == "Time.UnmarshalJSON: input is not a JSON string"
