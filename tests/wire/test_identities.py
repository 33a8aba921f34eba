import json
from typing import Any

import pytest

from router.wire.identities import (
    MAX_SEQUENCE,
    MAX_WORKLOADS,
    AddressesGone,
    IdentitiesStart,
    IdentityError,
    Workload,
    WorkloadsSaid,
    decode_gone,
    decode_said,
    decode_start,
    encode,
    normal_address,
)

ONE = {"ip": "10.255.1.2", "app": "app-a"}


def said(*workloads: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"agent": "cell-1", "sequence": 7, "workloads": list(workloads), **fields}).encode()


def test_all_fields_come_through() -> None:
    workload = {
        **ONE,
        "space": "s",
        "organization": "o",
        "instance": "i",
        "index": "3",
        "generation": 5,
        "ports": [8080],
    }
    assert decode_said(said(workload, ttl=30, first=6)) == WorkloadsSaid(
        agent="cell-1",
        sequence=7,
        ttl=30.0,
        first=6,
        workloads=[
            Workload(
                ip="10.255.1.2",
                app="app-a",
                space="s",
                organization="o",
                instance="i",
                index="3",
                generation=5,
                ports=(8080,),
            )
        ],
    )


def test_what_is_encoded_is_decoded_as_it_was() -> None:
    message = WorkloadsSaid(
        agent="a", sequence=1, workloads=[Workload(ip="fd00::1", app="x", ports=(1, 2))], ttl=3.0
    )
    assert decode_said(encode(message)) == message
    gone = AddressesGone(agent="a", sequence=2, addresses=["10.0.0.1"])
    assert decode_gone(encode(gone)) == gone
    start = IdentitiesStart(router="0-x", interval=40.0, ttl=120.0)
    assert decode_start(encode(start)) == start


def test_unknown_fields_are_passed_over_so_that_agents_may_be_newer() -> None:
    assert decode_said(said({**ONE, "zone": "z1"}, colour="red")) == decode_said(said(ONE))


def test_ports_are_sorted_and_counted_once() -> None:
    assert decode_said(said({**ONE, "ports": [9000, 80, 9000]})).workloads[0].ports == (80, 9000)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:0a00:0001", "10.0.0.1"),
        ("FD00:0:0:0::00A", "fd00::a"),
    ],
)
def test_addresses_are_normalised(written: str, normal: str) -> None:
    assert normal_address(written) == normal
    assert decode_said(said({**ONE, "ip": written})).workloads[0].ip == normal
    assert decode_gone(encode(AddressesGone(agent="a", sequence=1, addresses=[written]))).addresses == [normal]


@pytest.mark.parametrize(
    "text", ["", "host.example", "10.0.0", "010.0.0.1", "10.0.0.1/32", "fe80::1%eth0", "1" * 9999]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(IdentityError):
        normal_address(text)


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        (b"", ""),
        (b"[]", ""),
        (b"\xff", ""),
        (b'{"x":' + b"[" * 100_000, "nested too deeply"),
        (b'{"agent": "a", "workloads": []}', "sequence"),
        (b'{"sequence": 1, "workloads": []}', "agent"),
        (b'{"agent": "a", "sequence": 1}', "workloads"),
        (said(agent=""), "$.agent"),
        (said(agent="two words"), "$.agent"),
        (said(agent="line\n"), "$.agent"),
        (said(sequence=-1), "$.sequence"),
        (said(sequence=MAX_SEQUENCE + 1), "$.sequence"),
        (said(sequence=1.5), "$.sequence"),
        (said(ttl=0), "$.ttl"),
        (said(ttl=86401), "$.ttl"),
        (said(first=8), "$.first"),
        (said(ONE, {"app": "x"}), "$.workloads[1]"),
        (said(ONE, {"ip": "10.0.0.1"}), "$.workloads[1]"),
        (said({**ONE, "ip": "nowhere"}), "ip: not an IP address: 'nowhere' - at `$.workloads[0]`"),
        (said({**ONE, "app": ""}), "$.workloads[0].app"),
        (said({**ONE, "app": "a\r\nX: y"}), "$.workloads[0].app"),
        (said({**ONE, "app": "a" * 256}), "$.workloads[0].app"),
        (said({**ONE, "space": "a\n"}), "$.workloads[0].space"),
        (said({**ONE, "index": 3}), "$.workloads[0].index"),
        (said({**ONE, "generation": -1}), "$.workloads[0].generation"),
        (said({**ONE, "ports": [0]}), "$.workloads[0].ports[0]"),
        (said({**ONE, "ports": [65536]}), "$.workloads[0].ports[0]"),
        (said({**ONE, "ports": [1] * 1001}), "$.workloads[0].ports"),
        (said(ONE, {**ONE, "ip": "::ffff:10.255.1.2"}), "twice"),
        (said(*[ONE] * (MAX_WORKLOADS + 1)), "$.workloads"),
    ],
)
def test_message_with_a_mistake_is_refused_whole_and_the_place_named(payload: bytes, place: str) -> None:
    with pytest.raises(IdentityError) as caught:
        decode_said(payload)
    assert place in str(caught.value)


@pytest.mark.parametrize("addresses", [["10.0.0.1", "x"], [1], "10.0.0.1", None])
def test_drop_with_a_mistake_is_refused_whole(addresses: object) -> None:
    with pytest.raises(IdentityError, match=r"\$\.addresses"):
        decode_gone(json.dumps({"agent": "a", "sequence": 1, "addresses": addresses}).encode())


@pytest.mark.parametrize("change", [{"router": ""}, {"interval": 0}, {"ttl": "long"}])
def test_start_with_a_mistake_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(IdentityError):
        decode_start(json.dumps({"router": "r", "interval": 1, "ttl": 3, **change}).encode())
