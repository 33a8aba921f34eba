import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire import registration as module
from router.wire.registration import MAX_URIS, Registration, RegistrationError, decode_registration

VALID: dict[str, Any] = {"host": "10.0.0.1", "port": 8080, "uris": ["app.test"]}

TEXT_FIELDS = {
    "app": "app",
    "private_instance_id": "instance_id",
    "private_instance_index": "instance_index",
    "isolation_segment": "isolation_segment",
    "server_cert_domain_san": "san",
    "protocol": "protocol",
    "availability_zone": "availability_zone",
}


def decode(fields: dict[str, Any]) -> Registration:
    return decode_registration(json.dumps(fields).encode())


def decode_pairs(*pairs: str) -> Registration:
    return decode_registration(("{" + ",".join(pairs) + "}").encode())


def test_message_with_the_essentials_alone() -> None:
    assert decode(VALID) == Registration(host="10.0.0.1", port=8080, tls=False, uris=("app.test",))


@pytest.mark.parametrize(("field", "attribute"), TEXT_FIELDS.items())
def test_text_field_arrives(field: str, attribute: str) -> None:
    assert getattr(decode({**VALID, field: "some text"}), attribute) == "some text"


def test_tls_port_wins_over_port_and_means_tls() -> None:
    registration = decode({**VALID, "tls_port": 8443})

    assert (registration.port, registration.tls, registration.address) == (8443, True, "10.0.0.1:8443")


def test_tls_port_zero_is_none() -> None:
    registration = decode({**VALID, "tls_port": 0})

    assert (registration.port, registration.tls) == (8080, False)


@pytest.mark.parametrize("payload", [b"{}", b'{"uris":[]}', b'{"uris":null}', b'{"host":"a","port":1}'])
def test_message_without_uris_is_valid_and_names_nothing(payload: bytes) -> None:
    assert decode_registration(payload).uris == ()


@pytest.mark.parametrize("key", ["HOST", "Host", "hOsT"])
def test_field_names_match_in_any_case(key: str) -> None:
    assert decode({key: "10.0.0.1", "PORT": 8080, "Uris": ["app.test"]}) == decode(VALID)


def test_option_names_match_in_any_case() -> None:
    registration = decode({**VALID, "OPTIONS": {"LoadBalancing": "hash", "HASH_HEADER": "X", "hash_Balance": "2"}})

    assert (registration.algorithm, registration.hash_header, registration.hash_balance) == ("hash", "X", 2.0)


@pytest.mark.parametrize(
    ("pairs", "host"),
    [
        (('"host":"a"', '"host":"b"'), "b"),
        (('"host":"a"', '"HOST":"b"'), "b"),
        (('"HOST":"a"', '"host":"b"'), "b"),
        (('"host":"a"', '"HOST":"b"', '"host":"c"'), "c"),
        (('"HOST":"a"', '"host":"b"', '"Host":"c"'), "c"),
    ],
)
def test_last_of_several_spellings_wins(pairs: tuple[str, ...], host: str) -> None:
    assert decode_pairs(*pairs, '"port":1', '"uris":["a.test"]').host == host


@pytest.mark.parametrize(
    "pairs",
    [
        ('"port":"x"', '"port":80'),
        ('"port":"x"', '"PORT":80'),
        ('"tags":{"a":1,"a":"x"}',),
        ('"TAGS":{"a":1,"a":"x"}',),
        ('"options":{"hash_header":1}', '"OPTIONS":{}'),
    ],
)
def test_wrong_type_spoils_the_message_even_if_a_later_one_is_right(pairs: tuple[str, ...]) -> None:
    with pytest.raises(RegistrationError):
        decode_pairs('"host":"a"', '"uris":["a.test"]', *pairs)


def test_unknown_fields_of_any_type_are_ignored() -> None:
    known = json.dumps(VALID)[1:-1]
    unknown = '"dea":1', '"external_port":"x"', '"unknown":[{"a":null}]', '"x":1e999', f'"y":{"9" * 5000}'

    assert decode_pairs(known, *unknown) == decode(VALID)


def test_null_is_absent() -> None:
    nulls = dict.fromkeys(["app", "tls_port", "tags", "options", "endpoint_updated_at_ns", "protocol"])

    assert decode({**VALID, **nulls}) == decode(VALID)


def test_nulls_inside_lists_and_maps_are_absent() -> None:
    registration = decode({**VALID, "uris": [None, "app.test", None], "tags": {"a": None, "b": "c"}})

    assert (registration.uris, registration.tags) == (("app.test",), {"b": "c"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", 70000),
        ("port", -1),
        ("port", "80"),
        ("port", 80.0),
        ("port", True),
        ("port", 10**400),
        ("tls_port", 65536),
        ("host", 1),
        ("uris", "app.test"),
        ("uris", [1]),
        ("uris", {"0": "app.test"}),
        ("app", 1),
        ("private_instance_index", 0),
        ("tags", {"a": 1}),
        ("tags", ["a"]),
        ("tags", "a"),
        ("stale_threshold_in_seconds", "30"),
        ("stale_threshold_in_seconds", 1.5),
        ("endpoint_updated_at_ns", 2**63),
        ("endpoint_updated_at_ns", "1"),
        ("options", "hash"),
        ("options", {"loadbalancing": 1}),
        ("options", {"hash_balance": 1.25}),
        ("options", {"hash_balance": "much"}),
        ("options", {"hash_balance": "NaN"}),
        ("options", {"hash_balance": "1e999"}),
        ("options", {"hash_balance": "-1"}),
    ],
)
@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_wrong_type_or_range_in_a_known_field_spoils_the_message(field: str, value: Any, spelling: Any) -> None:
    with pytest.raises(RegistrationError, match=field.lower()):
        decode({**VALID, spelling(field): value})


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
@pytest.mark.parametrize("weight", [0, 1, 3, 100])
def test_weight_is_read(weight: int, spelling: Any) -> None:
    registration = decode({**VALID, "options": {spelling("weight"): weight}})

    assert (registration.weight, registration.malformed_weight) == (weight, "")


@pytest.mark.parametrize("options", [{}, {"weight": None}, None])
def test_weight_is_1_unless_said(options: Any) -> None:
    assert decode({**VALID, "options": options}) == decode(VALID)
    assert decode(VALID).weight == 1


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("101", "101"),
        ("-1", "-1"),
        ("1.0", "1.0"),
        ("1e2", "100.0"),
        ("1e999", "inf"),
        ("true", "true"),
        ('"5"', "'5'"),
        ('""', "''"),
        ('"' + "x" * 9000 + '"', "'" + "x" * 40 + "'"),
        (r'"\ud800\n"', "'\ufffd\\n'"),
        ("[1]", "list"),
        ("{}", "dict"),
        ('{"a":' * 50 + "1" + "}" * 50, "dict"),
        ("9" * 19, "9" * 19),
        ("9" * 30, "number too large"),
        ("9" * 9000, "number too large"),
    ],
)
def test_malformed_weight_is_told_and_spoils_nothing_else(text: str, shown: str, spelling: Any) -> None:
    registration = decode_pairs(
        json.dumps(VALID)[1:-1], f'"options":{{"{spelling("weight")}":{text},"hash_header":"X"}}'
    )

    assert (registration.weight, registration.malformed_weight) == (1, shown)
    assert (registration.uris, registration.hash_header) == (("app.test",), "X")


def test_last_of_several_weights_wins_whatever_the_others_are() -> None:
    registration = decode_pairs(json.dumps(VALID)[1:-1], '"options":{"weight":"x","Weight":7}')

    assert (registration.weight, registration.malformed_weight) == (7, "")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"[]",
        b'"host"',
        b"null",
        b"1",
        b"{",
        b'{"host":"10.0.0.1","port":8080,"uris":["app.test"]',
        b'{"host":"10.0.0.1"}x',
        b'{"port":NaN}',
        b'{"x":NaN}',
        b'{"x":-Infinity}',
        b'{"port":080}',
        b'{"host":"a\nb"}',
        b'\xef\xbb\xbf{"host":"a"}',
        b'{"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"dea":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
        b'{"tags":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
        b"[" * 1_000_000,
    ],
)
def test_what_is_no_json_object_is_refused(payload: bytes) -> None:
    with pytest.raises(RegistrationError):
        decode_registration(payload)


def test_error_is_one_short_readable_line() -> None:
    with pytest.raises(RegistrationError) as caught:
        decode({**VALID, "PORT": [1] * 10_000})

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("raw", [b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"a\xc3"'])
def test_invalid_utf8_becomes_the_replacement_character(raw: bytes) -> None:
    app = decode_registration(b'{"host":"a","port":1,"uris":["a.test"],"app":%s}' % raw).app

    assert "\ufffd" in app
    assert app.encode().decode() == app


def test_escapes_are_undone() -> None:
    registration = decode_registration(b'{"h\\u006fst":"a","port":1,"uris":["a.test\\/x"],"app":"\\ud83d\\ude00"}')

    assert (registration.host, registration.uris, registration.app) == ("a", ("a.test/x",), "\U0001f600")


@pytest.mark.parametrize("url", ["https://rs.test/x", "httpsfoo", ""])
def test_route_service_url_begins_with_https_or_is_empty(url: str) -> None:
    assert decode({**VALID, "route_service_url": url}).route_service_url == url


@pytest.mark.parametrize("url", ["http://rs.test", "HTTPS://rs.test", " https://rs.test", "rs"])
def test_other_route_service_url_is_refused_in_gorouters_words(url: str) -> None:
    with pytest.raises(RegistrationError, match=r"Unable to validate message\. route_service_url must be https"):
        decode({**VALID, "route_service_url": url})


@pytest.mark.parametrize("octet", ["\r", "\n", "\0", "\t", "\x7f", " "])
def test_route_service_url_with_a_blank_or_control_character_is_refused(octet: str) -> None:
    with pytest.raises(RegistrationError, match="route_service_url"):
        decode({**VALID, "route_service_url": f"https://rs{octet}.test"})


@pytest.mark.parametrize(
    "host",
    ["", "a b", "a\r\nb", "a\0", "a\x7f", "\u00e9.test", "a" * 256, "10.0.0.1:80", "[::1", "[10.0.0.1]", "::g"],
)
def test_host_that_cannot_be_dialled_is_refused(host: str) -> None:
    with pytest.raises(RegistrationError, match="host"):
        decode({**VALID, "host": host})


def test_missing_host_is_refused() -> None:
    with pytest.raises(RegistrationError, match="host"):
        decode({"port": 80, "uris": ["app.test"]})


@pytest.mark.parametrize("fields", [{}, {"port": 0}, {"port": 0, "tls_port": 0}, {"port": None}])
def test_port_that_cannot_be_dialled_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RegistrationError, match="port"):
        decode({"host": "10.0.0.1", "uris": ["app.test"], **fields})


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6_host_is_taken_with_and_without_brackets(host: str) -> None:
    registration = decode({**VALID, "host": host})

    assert (registration.host, registration.address) == ("::1", "[::1]:8080")


@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize("octet", ["\r", "\n", "\0", "\x1b", "\x7f"])
def test_control_character_in_a_text_field_is_refused(field: str, octet: str) -> None:
    with pytest.raises(RegistrationError, match=f"{field}: control character"):
        decode({**VALID, field: f"a{octet}b"})


def test_uri_with_control_characters_is_left_out_and_the_others_stay() -> None:
    registration = decode({**VALID, "uris": ["a.test", "b\r\n.test", "c.test#x y", "d" * 10_000, ""]})

    assert registration.uris == ("a.test", "c.test#x y", "")
    assert registration.malformed_uris == ("b\r\n.test", "d" * 10_000)


def test_more_uris_than_can_be_meant_are_refused() -> None:
    assert len(decode({**VALID, "uris": ["a.test"] * MAX_URIS}).uris) == MAX_URIS
    with pytest.raises(RegistrationError, match="uris: 100000 entries"):
        decode({**VALID, "uris": ["a.test"] * 100_000})


@pytest.mark.parametrize(("given_s", "taken_s"), [(30, 30), (0, 0), (-5, 0), (2**62, 2**62)])
def test_time_to_live_below_zero_is_none(given_s: int, taken_s: int) -> None:
    assert decode({**VALID, "stale_threshold_in_seconds": given_s}).stale_threshold_s == taken_s


def test_absent_protocol_is_http1_and_any_other_is_kept() -> None:
    assert decode(VALID).protocol == "http1"
    assert decode({**VALID, "protocol": ""}).protocol == "http1"
    assert decode({**VALID, "protocol": "gopher"}).protocol == "gopher"


# The two ways of decoding against each other.

names = st.sampled_from(
    sorted(module._MESSAGE_FIELDS | {"dea", "unknown", "HOST", "Port", "URIS", "Tags", "OPTIONS"})
)
option_names = st.sampled_from(sorted(module._OPTION_FIELDS | {"Hash_Header", "x"}))
texts = st.text(max_size=5) | st.sampled_from(["1.25", "https://x", "hash", "::1", "\ud800", "10.0.0.1"])
scalars = st.none() | st.booleans() | texts | st.integers(-(2**65), 2**65) | st.integers(0, 70000) | st.floats()
objects = st.lists(st.tuples(option_names, scalars), max_size=4)
values = scalars | st.lists(scalars, max_size=3)


def spell(pairs: list[tuple[str, Any]]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{_spell_value(value)}" for key, value in pairs) + "}"


def _spell_value(value: Any) -> str:
    is_object = isinstance(value, list) and bool(value) and isinstance(value[0], tuple)
    return spell(value) if is_object else json.dumps(value)


@given(st.lists(st.tuples(names, values | objects), max_size=8))
def test_usual_way_never_accepts_what_the_full_rules_read_differently(pairs: list[tuple[str, Any]]) -> None:
    payload = spell(pairs).encode()
    try:
        usual = module._decode_usual(payload)
    except ValueError:
        return
    assert without_ignored(usual) == without_ignored(module._decode_any_case(payload))


def without_ignored(message: module._Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in module._MESSAGE_FIELDS}


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_arbitrary_bytes_are_a_registration_or_a_registration_error(payload: bytes) -> None:
    with contextlib.suppress(RegistrationError):
        assert isinstance(decode_registration(payload), Registration)


@given(st.lists(st.tuples(names, values | objects), max_size=8))
def test_what_is_accepted_can_be_encoded_and_dialled(pairs: list[tuple[str, Any]]) -> None:
    try:
        registration = decode_registration(spell([*VALID.items(), *pairs]).encode())
    except RegistrationError:
        return
    "".join([registration.app, registration.host, registration.san, *registration.tags.values()]).encode()
    assert not registration.uris or (registration.host and 0 < registration.port < 65536)
