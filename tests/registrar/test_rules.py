"""Every mistake in an announcement is found, and all of them at once."""

from typing import Any

import pytest

from router.registrar.rules import announcement_problems, name_problems, uri_problems
from router.wire.announcement import Announcement, PoolSettings
from router.wire.discovery import NameRegistration


def announcement(**changes: Any) -> Announcement:
    return Announcement(**{"host": "10.0.0.7", "port": 9000, "uris": ["app.example.com"], **changes})


@pytest.mark.parametrize(
    "uri",
    [
        "app.example.com",
        "APP.example.com",
        "app.example.com/api/v1",
        "*.example.com",
        "*.example.com/x",
        "localhost",
        "a_b.example.com",
        "xn--bcher-kva.example",
        "app.example.com/a%20b",
    ],
)
def test_good_uri_has_no_problem(uri: str) -> None:
    assert uri_problems(uri) == []


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("", "empty"),
        ("https://app.example.com", "leave out the scheme"),
        ("app.example.com:8080", "no port"),
        ("[::1]", "no port"),
        ("app.example.com/a b", "blanks"),
        ("app.example.com\r\n", "control characters"),
        ("app.example.com?x=1", "query"),
        ("app.example.com#x", "fragment"),
        ("/path", "is not a host name"),
        ("app..example.com", "is not a host name"),
        ("*", "first label alone"),
        ("a.*.example.com", "first label alone"),
        ("*a.example.com", "first label alone"),
        ("-a.example.com", "is not a host name"),
        ("x" * 64 + ".example.com", "is not a host name"),
        (".".join(["a" * 60] * 5), "at most 253"),
    ],
)
def test_bad_uri_is_told(uri: str, told: str) -> None:
    (problem,) = uri_problems(uri)
    assert told in problem


HASH = {"loadbalancing": "hash", "hash_header": "X-Tenant"}


def test_hash_with_all_that_belongs_to_it_has_no_problem() -> None:
    assert announcement_problems(announcement(options=PoolSettings(**HASH, hash_balance="1.25"))) == []


@pytest.mark.parametrize("host", ["10.0.0.7", "fd00::1", "instance.internal", "c-1"])
def test_good_host_has_no_problem(host: str) -> None:
    assert announcement_problems(announcement(host=host)) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"uris": []}, "at least one uri"),
        ({"weight": -1}, "weight -1 is not a whole number from 0 to 100"),
        ({"weight": 101}, "not a whole number from 0 to 100"),
        ({"weight": 1.5}, "not a whole number"),
        ({"weight": True}, "not a whole number"),
        ({"weight": "3"}, "weight '3' is not a whole number"),
        ({"host": ""}, "host is empty"),
        ({"host": "a b"}, "neither a host name nor an IP address"),
        ({"host": "http://a"}, "neither a host name nor an IP address"),
        ({"port": 0}, "either port or tls_port"),
        ({"port": 65536}, "port 65536"),
        ({"port": -1}, "port -1"),
        ({"tls_port": 70000}, "tls_port 70000"),
        ({"protocol": "h2"}, "neither http1 nor http2"),
        ({"options": PoolSettings(loadbalancing="fair")}, "'fair' is none of round-robin"),
        ({"options": PoolSettings(loadbalancing="hash")}, "needs a hash_header"),
        ({"options": PoolSettings(hash_header="X-Tenant")}, "no effect without"),
        ({"options": PoolSettings(**HASH, hash_balance="even")}, "refuse it: options.hash_balance"),
        ({"options": PoolSettings(**HASH, hash_balance="-1")}, "refuse it: options.hash_balance"),
        ({"availability_zone": "z\n1"}, "refuse it: availability_zone"),
        ({"app": "a\r\nb"}, "refuse it: app"),
        ({"route_service_url": "https://a b"}, "refuse it: route_service_url"),
        ({"host": "a" * 256}, "refuse it: host"),
        ({"uris": ["a.test/" + "x" * 9000]}, "routers would leave it out"),
        ({"route_service_url": "http://x"}, "must begin with https://"),
        ({"server_cert_domain_san": "x"}, "needs a tls_port"),
        ({"stale_threshold_in_seconds": -1}, "below 0"),
    ],
)
def test_bad_field_is_told(changes: dict[str, object], told: str) -> None:
    (problem,) = announcement_problems(announcement(**changes))
    assert told in problem


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"uris": "localhost"}, "uris: expected array, got str"),
        ({"uris": [b"a.test"]}, "uris[0]: expected str, got bytes"),
        ({"host": None}, "host: expected str, got null"),
        ({"port": "9000"}, "port: expected int, got str"),
        ({"port": True}, "port: expected int, got bool"),
        ({"private_instance_index": 0}, "private_instance_index: expected str, got int"),
        ({"tags": {"a": 1}}, "tags[...]: expected str, got int"),
        ({"options": {"loadbalancing": "hash"}}, "options: expected PoolSettings, got dict"),
        ({"options": PoolSettings(loadbalancing=1)}, "loadbalancing: expected str, got int"),  # type: ignore[arg-type]
    ],
)
def test_value_of_another_type_is_told(changes: dict[str, object], told: str) -> None:
    assert announcement_problems(announcement(**changes)) == [told]


def test_one_text_instead_of_names_is_told() -> None:
    names: Any = "db.apps.internal"
    assert name_problems(NameRegistration(ip="10.0.0.7", names=names)) == ["names: expected array, got str"]


def test_uris_may_be_any_sequence() -> None:
    assert announcement_problems(announcement(uris=("app.example.com",))) == []


def test_all_mistakes_are_told_at_once() -> None:
    problems = announcement_problems(announcement(uris=["", "a b"], host="", port=0, protocol="x"))
    assert len(problems) == 5
