import msgspec
import pytest

from router.wire.announcement import (
    Announcement,
    PoolSettings,
    RouterStart,
    decode_start,
    encode_announcement,
    encode_start,
)
from router.wire.registration import decode_registration


def test_defaults_are_left_out_of_the_payload() -> None:
    payload = encode_announcement(Announcement(host="10.0.0.1", port=80, uris=["app.test"]))

    assert msgspec.json.decode(payload) == {"host": "10.0.0.1", "port": 80, "uris": ["app.test"]}


def test_same_announcement_always_has_the_same_bytes() -> None:
    one = Announcement(host="10.0.0.1", port=80, uris=["app.test"], tags={"a": "1", "b": "2"})
    other = Announcement(uris=["app.test"], tags={"b": "2", "a": "1"}, port=80, host="10.0.0.1")

    assert encode_announcement(one) == encode_announcement(other)


def test_announcement_is_decoded_as_it_was_meant() -> None:
    registration = decode_registration(
        encode_announcement(
            Announcement(
                host="10.0.0.1",
                port=80,
                tls_port=443,
                uris=["a.test", "b.test/x"],
                app="app",
                private_instance_id="id",
                private_instance_index="3",
                isolation_segment="segment",
                server_cert_domain_san="san",
                protocol="http2",
                route_service_url="https://rs.test",
                stale_threshold_in_seconds=30,
                tags={"component": "test"},
                availability_zone="z1",
                endpoint_updated_at_ns=5,
                options=PoolSettings(loadbalancing="hash", hash_header="X-Tenant", hash_balance="1.25"),
                weight=7,
            )
        )
    )

    assert (registration.host, registration.port, registration.tls) == ("10.0.0.1", 443, True)
    assert registration.uris == ("a.test", "b.test/x")
    assert (registration.app, registration.instance_id, registration.instance_index) == ("app", "id", "3")
    assert (registration.isolation_segment, registration.san) == ("segment", "san")
    assert (registration.protocol, registration.route_service_url) == ("http2", "https://rs.test")
    assert (registration.stale_threshold_s, registration.updated_at_ns) == (30, 5)
    assert (registration.tags, registration.availability_zone) == ({"component": "test"}, "z1")
    assert (registration.algorithm, registration.hash_header, registration.hash_balance) == (
        "hash",
        "X-Tenant",
        1.25,
    )
    assert (registration.weight, registration.malformed_weight) == (7, "")


@pytest.mark.parametrize(
    ("weight", "options"), [(1, b""), (0, b',"options":{"weight":0}'), (100, b',"options":{"weight":100}')]
)
def test_weight_goes_where_routers_look_for_it(weight: int, options: bytes) -> None:
    announcement = Announcement(host="10.0.0.1", port=80, uris=["a.test"], weight=weight)

    assert encode_announcement(announcement) == b'{"host":"10.0.0.1","uris":["a.test"],"port":80%b}' % options


def test_router_start_carries_the_names_agents_look_for() -> None:
    start = RouterStart(id="0-x", hosts=["10.0.0.5"], minimum_register_interval_s=20, prune_threshold_s=120)

    assert encode_start(start) == (
        b'{"id":"0-x","hosts":["10.0.0.5"],"minimumRegisterIntervalInSeconds":20,"pruneThresholdInSeconds":120}'
    )
    assert decode_start(encode_start(start)) == start


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b'{"id":1}', b"\xff", b'{"x":' + b"[" * 100_000])
def test_what_is_no_router_start_is_a_value_error(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_start(payload)
