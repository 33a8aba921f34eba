"""Bodies in, listings out, and every text of the validation."""

import json
from typing import Any

import pytest

from router.control.internal.policy_mapper import (
    Filter,
    MalformedPolicies,
    Version,
    filter_from,
    listing,
    parse,
    summary,
    tag_text,
    tagged_listing,
)
from router.routing.internal_records import Policy
from tests.support.policies import body_of, v1

ONE = Policy("a", "b", "tcp", 80, 80)
RANGE = Policy("b", "c", "udp", 8080, 8090)


def refusal(body: bytes, version: Version = Version.V1) -> str:
    with pytest.raises(MalformedPolicies) as caught:
        parse(body, version)
    return str(caught.value)


def with_destination(**members: Any) -> dict[str, Any]:
    return {"source": {"id": "a"}, "destination": {"id": "b", "protocol": "tcp", **members}}


def ports(start: int, end: int) -> dict[str, Any]:
    return with_destination(ports={"start": start, "end": end})


def test_v1_policies_keep_order_and_repetitions() -> None:
    assert parse(body_of(v1("b", "c", 1, 9), v1(), v1()), Version.V1) == [Policy("b", "c", "tcp", 1, 9), ONE, ONE]


def test_v0_policy_is_a_range_of_one_port() -> None:
    assert parse(body_of(with_destination(port=80)), Version.V0) == [ONE]


def test_unknown_members_are_ignored() -> None:
    policy = {**ports(80, 80), "comment": [{}]}
    assert parse(json.dumps({"policies": [policy], "total_policies": 1}).encode(), Version.V1) == [ONE]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_lowest_and_highest_port_are_valid(protocol: str) -> None:
    policy = with_destination(ports={"start": 1, "end": 65535}, protocol=protocol)
    assert parse(body_of(policy), Version.V1) == [Policy("a", "b", protocol, 1, 65535)]


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (None, "missing source id"),
        ({}, "missing source id"),
        ({"source": None}, "missing source id"),
        ({"source": {"id": ""}, "destination": {"id": ""}}, "missing source id"),
        ({"source": {"id": "a"}}, "missing destination id"),
        ({"source": {"id": "a"}, "destination": {"id": "", "protocol": "x"}}, "missing destination id"),
        (with_destination(protocol="icmp"), "invalid destination protocol, specify either udp or tcp"),
        (with_destination(protocol="TCP"), "invalid destination protocol, specify either udp or tcp"),
        (with_destination(protocol=None), "invalid destination protocol, specify either udp or tcp"),
        (ports(9, 8), "invalid port range 9-8, start must be less than or equal to end"),
        (ports(80, 0), "invalid port range 80-0, start must be less than or equal to end"),
        (ports(-2, -3), "invalid port range -2--3, start must be less than or equal to end"),
        (ports(-1, 8), "invalid start port -1, must be in range 1-65535"),
        (ports(0, 8), "missing start port"),
        (with_destination(ports=None), "missing start port"),
        (with_destination(port=80), "missing start port"),
        (ports(1, 65536), "invalid end port 65536, must be in range 1-65535"),
        (ports(65536, 65537), "invalid end port 65537, must be in range 1-65535"),
        ({**ports(80, 80), "source": {"id": "a", "tag": "0001"}}, "tags may not be specified"),
        (with_destination(ports={"start": 1, "end": 1}, tag="0001"), "tags may not be specified"),
        (with_destination(ports={"start": 0, "end": 1}, tag="0001"), "missing start port"),
        (v1(source="a\n"), "invalid source id, must be printable and at most 255 characters"),
        (v1(destination="b" * 256), "invalid destination id, must be printable and at most 255 characters"),
    ],
)
def test_v1_policy_is_refused_with_the_text_of_the_first_mistake(policy: Any, text: str) -> None:
    assert refusal(body_of(policy)) == f"mapper: validate policies: {text}"


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({}, "missing source id"),
        ({"source": {"id": "a"}}, "missing destination id"),
        (with_destination(protocol="all"), "invalid destination protocol, specify either udp or tcp"),
        (with_destination(port=-1), "invalid port -1, must be in range 1-65535"),
        (with_destination(port=65536), "invalid port 65536, must be in range 1-65535"),
        (with_destination(port=0), "missing port"),
        (ports(80, 80), "missing port"),
        (with_destination(port=80, tag="0001"), "tags may not be specified"),
    ],
)
def test_v0_policy_is_refused_with_the_text_of_the_first_mistake(policy: Any, text: str) -> None:
    assert refusal(body_of(policy), Version.V0) == f"mapper: validate policies: {text}"


@pytest.mark.parametrize("version", list(Version))
@pytest.mark.parametrize("body", [b"{}", b'{"policies":null}', b'{"policies":[]}', b"{}   "])
def test_body_without_policies_is_refused(body: bytes, version: Version) -> None:
    assert refusal(body, version) == "mapper: validate policies: missing policies"


def test_first_bad_policy_in_order_decides() -> None:
    assert refusal(body_of(v1(), {}, ports(9, 8))) == "mapper: validate policies: missing source id"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null x",
        b'{"policies":{}}',
        b'{"policies":[1]}',
        b'{"policies":[{"source":{"id":1}}]}',
        b'{"policies":[{"source":{"id":"\xff"}}]}',
        b'{"policies":[{"source":{"id":"\\ud800"}}]}',
        b'{"policies":[{"source":{"id":"a"},"destination":{"id":"b","protocol":"tcp","ports":{"start":"80"}}}]}',
        b'{"policies":[{"source":{"id":"a"},"destination":{"id":"b","protocol":"tcp","ports":{"start":8.5}}}]}',
        b'{"policies":' + b"[" * 200_000,
        b'{"other":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
)
def test_what_is_no_json_of_the_right_shape_is_refused(body: bytes) -> None:
    assert refusal(body).startswith("mapper: unmarshal json: ")


def test_listing_has_the_count_and_ranges() -> None:
    assert listing([ONE, RANGE]) == (
        b'{"total_policies":2,"policies":['
        b'{"source":{"id":"a"},"destination":{"id":"b","protocol":"tcp","ports":{"start":80,"end":80}}},'
        b'{"source":{"id":"b"},"destination":{"id":"c","protocol":"udp","ports":{"start":8080,"end":8090}}}]}'
    )


def test_v0_listing_leaves_out_ranges() -> None:
    assert listing([ONE, RANGE], Version.V0) == (
        b'{"total_policies":1,"policies":['
        b'{"source":{"id":"a"},"destination":{"id":"b","protocol":"tcp","port":80}}]}'
    )


@pytest.mark.parametrize("version", list(Version))
def test_empty_listing_is_an_empty_list(version: Version) -> None:
    assert listing([], version) == b'{"total_policies":0,"policies":[]}'


def test_tagged_listing_has_both_tags() -> None:
    tags = {"b": "0001", "c": "00FF"}
    assert tagged_listing([RANGE], tags.__getitem__) == (
        b'{"total_policies":1,"policies":[{"source":{"id":"b","tag":"0001"},'
        b'"destination":{"id":"c","tag":"00FF","protocol":"udp","ports":{"start":8080,"end":8090}}}]}'
    )


def test_what_a_listing_says_can_be_sent_back() -> None:
    odd = Policy('q"uote\\', "ü<&>", "tcp", 1, 2)
    assert parse(listing([odd, RANGE]), Version.V1) == [odd, RANGE]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({}, [ONE, RANGE]),
        ({"id": "b"}, [ONE, RANGE]),
        ({"id": "a,x"}, [ONE]),
        ({"id": ""}, []),
        ({"id": "a", "source_id": "b", "dest_id": "x"}, [ONE]),
        ({"id": "", "source_id": "b"}, []),
        ({"source_id": "b"}, [RANGE]),
        ({"source_id": "a,b"}, [ONE, RANGE]),
        ({"dest_id": "b"}, [ONE]),
        ({"source_id": "a", "dest_id": "b"}, [ONE]),
        ({"source_id": "a", "dest_id": "c"}, []),
        ({"source_id": ""}, []),
    ],
)
def test_filter_wants(query: dict[str, str], wanted: list[Policy]) -> None:
    found = filter_from(query)
    assert [policy for policy in (ONE, RANGE) if found.wants(policy)] == wanted


def test_filter_of_nothing_wants_everything() -> None:
    assert filter_from({}) == Filter()


def test_summary_is_as_long_as_it_may_be() -> None:
    assert summary([ONE, RANGE, ONE], 2) == ["a -> b tcp 80", "b -> c udp 8080-8090"]


def test_tag_is_two_octets_of_upper_case_hexadecimal() -> None:
    assert [tag_text(tag) for tag in (1, 0xBEEF, 65535)] == ["0001", "BEEF", "FFFF"]
