import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.discovery import (
    MAX_NAMES,
    DiscoveryError,
    DiscoveryStart,
    NameRegistration,
    decode_register,
    decode_start,
    decode_unregister,
    encode_registration,
    encode_start,
)

NAMES = ("backend.apps.internal", "0.backend.apps.internal")
FROM_ROUTE_EMITTER: dict[str, Any] = {
    "host": "10.255.1.3",
    "port": 0,
    "uris": list(NAMES),
    "app": "app-guid",
    "private_instance_index": "0",
    "tags": {"component": "route-emitter"},
    "endpoint_updated_at_ns": 1_700_000_000_000_000_000,
}


def register(**fields: Any) -> NameRegistration:
    return decode_register(json.dumps({**FROM_ROUTE_EMITTER, **fields}).encode())


def unregister(**fields: Any) -> NameRegistration:
    return decode_unregister(json.dumps({**FROM_ROUTE_EMITTER, **fields}).encode())


def test_message_of_route_emitter_is_read() -> None:
    assert register() == NameRegistration(
        ip="10.255.1.3",
        names=NAMES,
        app="app-guid",
        index="0",
        updated_at_ns=1_700_000_000_000_000_000,
    )


def test_essentials_are_enough() -> None:
    assert decode_register(b'{"host":"10.0.0.1","uris":["a.b.c"]}') == NameRegistration(
        ip="10.0.0.1", names=("a.b.c",)
    )


def test_nulls_count_as_absent() -> None:
    fields = {name: None for name in FROM_ROUTE_EMITTER if name not in ("host", "uris")}
    assert register(**fields, options=None) == NameRegistration(ip="10.255.1.3", names=NAMES)
    assert register(options={"port": None}).port == 0
    assert register(uris=[None, "a.b", ""]).names == ("a.b",)


def test_fields_that_are_not_read_may_hold_anything() -> None:
    junk = {"port": "x", "tags": [1], "tls_port": {}, "protocol": 5, "unknown": [[]]}
    assert register(**junk, options={"loadbalancing": 7}) == register()


def test_option_names_the_port_of_the_route() -> None:
    assert register(options={"port": 5000}).port == 5000


@pytest.mark.parametrize("index", range(2))
def test_time_of_change_before_the_epoch_is_none(index: int) -> None:
    assert (register, unregister)[index](endpoint_updated_at_ns=-1).updated_at_ns == 0


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_address_is_normalised(given: str, read: str) -> None:
    assert register(host=given).ip == read


@pytest.mark.parametrize(
    "host",
    ["localhost", "backend.apps.internal", "10.0.0.1:80", "10.0.0", "010.0.0.1", "[::1]", "fe80::1%eth0", " "],
)
def test_host_that_is_no_address_spoils_the_message(host: str) -> None:
    for decode in (register, unregister):
        with pytest.raises(DiscoveryError, match=r"\Ahost: "):
            decode(host=host)


@pytest.mark.parametrize("host", ["", None])
def test_only_unregistrations_need_no_host(host: str | None) -> None:
    assert unregister(host=host).ip == ""
    with pytest.raises(DiscoveryError, match=r"\Ahost: missing or empty\Z"):
        register(host=host)


@pytest.mark.parametrize("uris", [[], None, [""], [None]])
def test_message_without_names_is_refused(uris: list[str] | None) -> None:
    for decode in (register, unregister):
        with pytest.raises(DiscoveryError, match=r"\Auris: missing or empty\Z"):
            decode(uris=uris)


def test_too_many_names_are_refused() -> None:
    assert len(register(uris=["a"] * MAX_NAMES).names) == MAX_NAMES
    with pytest.raises(DiscoveryError, match="1001 entries, no more than 1000"):
        register(uris=["a"] * (MAX_NAMES + 1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", 1),
        ("uris", "a.b"),
        ("uris", [1]),
        ("app", 7),
        ("app", "a\nb"),
        ("app", "a b"),
        ("app", "a" * 256),
        ("private_instance_index", 0),
        ("private_instance_index", "\x7f"),
        ("endpoint_updated_at_ns", "1"),
        ("endpoint_updated_at_ns", 1.5),
        ("endpoint_updated_at_ns", 2**63),
        ("options", []),
        ("options", {"port": 0}),
        ("options", {"port": 65536}),
        ("options", {"port": -1}),
        ("options", {"port": "80"}),
    ],
)
def test_field_of_a_wrong_type_or_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(DiscoveryError, match=rf"\$\.{field}"):
        register(**{field: value})


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"null", b'{"host":"\xff","uris":["a"]}', b"[" * 100_000, b'{"host":NaN}']
)
def test_what_is_no_json_object_is_refused(payload: bytes) -> None:
    for decode in (decode_register, decode_unregister):
        with pytest.raises(DiscoveryError):
            decode(payload)


@given(st.binary() | st.text().map(str.encode))
def test_no_payload_raises_anything_else(payload: bytes) -> None:
    with contextlib.suppress(DiscoveryError):
        decode_unregister(payload)


graphic = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40)


@given(
    st.builds(
        NameRegistration,
        ip=st.ip_addresses(v=4).map(str),
        names=st.lists(graphic.filter(bool), min_size=1, max_size=3).map(tuple),
        app=graphic,
        index=graphic,
        port=st.integers(0, 65535),
        updated_at_ns=st.integers(0, 2**63 - 1),
    )
)
def test_what_is_written_is_read(registration: NameRegistration) -> None:
    assert decode_register(encode_registration(registration)) == registration


def test_registration_is_written_as_route_emitter_writes_it() -> None:
    written = json.loads(encode_registration(register()))
    assert written == {name: value for name, value in FROM_ROUTE_EMITTER.items() if name != "tags"}
    routine = NameRegistration(ip="10.0.0.1", names=("a.b",), port=5000)
    assert json.loads(encode_registration(routine)) == {
        "host": "10.0.0.1",
        "port": 0,
        "uris": ["a.b"],
        "app": "",
        "private_instance_index": "",
        "options": {"port": 5000},
    }


def test_start_message_has_the_names_that_emitters_read() -> None:
    start = DiscoveryStart(id="0-x", host="10.0.0.9", minimum_register_interval_s=60, prune_threshold_s=180)
    assert json.loads(encode_start(start)) == {
        "id": "0-x",
        "host": "10.0.0.9",
        "minimumRegisterIntervalInSeconds": 60,
        "pruneThresholdInSeconds": 180,
    }
    assert decode_start(encode_start(start)) == start


@pytest.mark.parametrize("payload", [b"", b"{}", b"[" * 100_000])
def test_what_is_no_start_message_is_refused(payload: bytes) -> None:
    with pytest.raises(DiscoveryError):
        decode_start(payload)
