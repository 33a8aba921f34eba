"""Health checks as they are configured."""

from pathlib import Path
from typing import Any

import pytest

from router.registrar import AnyRoute, InternalRoute, Route
from router.registrar.check_reader import read_check
from router.registrar.section import Section
from router.registrar.service_config import Check, HttpProbe, ScriptProbe, TcpProbe, TlsProbe

PLAIN = Route(host="10.0.0.1", port=80, uris=["a.test"])
SECURE = Route(host="10.0.0.1", tls_port=443, uris=["a.test"], server_cert_domain_san="a.internal")


def read(value: dict[str, Any], route: AnyRoute = PLAIN) -> Check:
    problems: list[str] = []
    check, unasked = read_check(Section({"name": "c", **value}, "", problems), route, 10.0)
    assert (problems, unasked) == ([], [])
    assert check is not None
    return check


def problems_of(value: dict[str, Any], route: AnyRoute = PLAIN) -> list[str]:
    problems: list[str] = []
    read_check(Section({"name": "c", **value}, "", problems), route, 10.0)
    return problems


def test_time_out_is_half_the_interval_unless_it_is_said() -> None:
    assert read({"script_path": "/x"}) == Check(name="c", probe=ScriptProbe("/x"), timeout_s=5.0)
    assert read({"script_path": "/x", "timeout": "2s"}).timeout_s == 2.0


def test_thresholds_are_read() -> None:
    check = read({"script_path": "/x", "success_threshold": 2, "failure_threshold": 3})
    assert (check.success_threshold, check.failure_threshold) == (2, 3)


@pytest.mark.parametrize(
    ("value", "route", "probe"),
    [
        ({"tcp": {}}, PLAIN, TcpProbe("10.0.0.1", 80)),
        ({"tcp": {"host": "127.0.0.1", "port": 81}}, PLAIN, TcpProbe("127.0.0.1", 81)),
        ({"tcp": {}}, InternalRoute(ip="10.0.0.9", names=("a",), port=5), TcpProbe("10.0.0.9", 5)),
        ({"tls": {}}, SECURE, TlsProbe("10.0.0.1", 443, "a.internal")),
        ({"tls": {"server_name": "b"}}, PLAIN, TlsProbe("10.0.0.1", 80, "b")),
        ({"http": {"path": "/health"}}, PLAIN, HttpProbe("http://10.0.0.1:80/health")),
        ({"http": {}}, SECURE, HttpProbe("https://10.0.0.1:443/", server_name="a.internal")),
        (
            {"http": {"host": "::1", "statuses": [200, "300-399"], "headers": {"Host": "x"}}},
            PLAIN,
            HttpProbe("http://[::1]:80/", ((200, 200), (300, 399)), (("Host", "x"),)),
        ),
    ],
)
def test_probe_asks_the_route_s_own_address_unless_it_is_told_another(
    value: dict[str, Any], route: AnyRoute, probe: object
) -> None:
    assert read(value, route).probe == probe


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({}, "no script_path"),
        ({"script_path": "x"}, "not an absolute path"),
        ({"script_path": "/x", "tcp": {}}, "one of them alone"),
        ({"script_path": "/x", "timeout": "10s"}, "must be less than"),
        ({"script_path": "/x", "failure_threshold": 0}, "between 1 and 1000"),
        ({"http": {"path": "x"}}, "does not begin with /"),
        ({"http": {"path": "/\n"}}, "control characters"),
        ({"http": {"scheme": "ftp"}}, "neither http nor https"),
        ({"http": {"statuses": ["2xx"]}}, "neither a status like 200"),
        ({"tls": {"ca_path": "/absent/ca"}}, "/absent/ca: No such file"),
        ({"tcp": {"port": "80"}}, "not a number between"),
    ],
)
def test_mistake_is_told(value: dict[str, Any], told: str) -> None:
    (problem,) = problems_of(value)
    assert told in problem


def test_route_without_a_port_needs_one_in_the_check() -> None:
    (problem,) = problems_of({"tcp": {}}, InternalRoute(ip="10.0.0.9", names=("a",)))
    assert "the route has none either" in problem


def test_unknown_keys_are_handed_back(tmp_path: Path) -> None:
    _, unasked = read_check(Section({"name": "c", "tcp": {"prt": 5}, "every": 1}, "", []), PLAIN, 10.0)
    assert unasked == ["every", "tcp: prt"]
