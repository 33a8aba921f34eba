"""Route-registrar's files as they are: every documented key, every mistake at once."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.certs import issue, make_ca
from router.registrar import InternalRoute, PoolSettings, Route, TlsFiles
from router.registrar.service_config import (
    Check,
    ConfigProblems,
    ConfiguredRoute,
    Defaults,
    ScriptProbe,
    ServiceConfig,
)
from router.registrar.service_reader import read_routes, read_service

WHOLE = {
    "message_bus_servers": [
        {"host": "10.0.0.1:4222", "user": "na:ts", "password": "p@ss"},
        {"host": "10.0.0.2:4222", "user": "", "password": ""},
    ],
    "nats_mtls_config": {"enabled": False, "cert_path": "", "key_path": "", "ca_path": ""},
    "host": "10.1.1.1",
    "availability_zone": "z1",
    "unregistration_message_limit": 3,
    "dynamic_config_globs": ["/var/vcap/*/routes.yml"],
    "routing_api": {"api_url": "https://routing", "oauth_url": "https://uaa", "client_id": "c", "max_ttl": "120s"},
    "routes": [
        {
            "type": "http",
            "name": "api",
            "host": "10.1.1.2",
            "port": 9022,
            "tls_port": 9024,
            "uris": ["api.test", "api.test/v3"],
            "tags": {"component": "CloudController"},
            "route_service_url": "https://service.test",
            "registration_interval": "20s",
            "protocol": "http2",
            "server_cert_domain_san": "api.internal",
            "options": {"loadbalancing": "least-connection", "weight": 5},
            "health_check": {"name": "ready", "script_path": "/bin/true", "timeout": "3s"},
        },
        {"name": "plain", "port": 80, "uris": ["plain.test"], "registration_interval": "500ms"},
        {
            "type": "tcp",
            "name": "t",
            "port": 5,
            "external_port": 6,
            "router_group": "g",
            "registration_interval": "1s",
        },
        {"type": "sni", "name": "s", "sni_port": 5, "sni_routable_san": "s", "registration_interval": "1s"},
    ],
}


def read(file: Path, document: Any) -> tuple[ServiceConfig, list[str]]:
    file.write_text(json.dumps(document, indent="\t"))
    return read_service(file, "one-id")


def problems_of(file: Path, document: Any) -> list[str]:
    with pytest.raises(ConfigProblems) as caught:
        read(file, document)
    return [problem.removeprefix(f"{file}: ") for problem in caught.value.problems]


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump])
def test_every_key_of_route_registrar_is_read(tmp_path: Path, dump: Any) -> None:
    file = tmp_path / "config"
    file.write_text(dump(WHOLE))
    config, notes = read_service(file, "one-id")
    assert config == ServiceConfig(
        nats=["nats://na%3Ats:p%40ss@10.0.0.1:4222", "nats://10.0.0.2:4222"],
        tls=None,
        host="10.1.1.1",
        availability_zone="z1",
        dynamic_globs=["/var/vcap/*/routes.yml"],
        unregistration_limit=3,
        status_host="127.0.0.1",
        status_port=0,
        routes=[
            ConfiguredRoute(
                name="api",
                interval_s=20.0,
                route=Route(
                    host="10.1.1.2",
                    port=9022,
                    tls_port=9024,
                    uris=["api.test", "api.test/v3"],
                    tags={"component": "CloudController"},
                    route_service_url="https://service.test",
                    protocol="http2",
                    server_cert_domain_san="api.internal",
                    private_instance_id="one-id",
                    availability_zone="z1",
                    options=PoolSettings(loadbalancing="least-connection"),
                    weight=5,
                ),
                check=Check(name="ready", probe=ScriptProbe("/bin/true"), timeout_s=3.0),
            ),
            ConfiguredRoute(
                name="plain",
                interval_s=0.5,
                route=Route(
                    host="10.1.1.1",
                    port=80,
                    uris=["plain.test"],
                    private_instance_id="one-id",
                    availability_zone="z1",
                ),
            ),
        ],
    )
    told = "goes to a routing API, which is not spoken here: not announced"
    assert notes == [f"{file}: routes[2] 't': type tcp {told}", f"{file}: routes[3] 's': type sni {told}"]


def test_limit_of_unregistrations_is_five_unless_it_is_said(tmp_path: Path) -> None:
    config, _ = read(tmp_path / "c", {**WHOLE, "unregistration_message_limit": None})
    assert config.unregistration_limit == 5


def test_all_mistakes_are_told_at_once_in_the_words_of_route_registrar(tmp_path: Path) -> None:
    document = {
        "routes": [
            {},
            {"name": "a", "port": 0, "uris": ["", "a b"], "registration_interval": "often", "protocol": "http3"},
            {"name": "b", "type": "udp", "tls_port": 1, "uris": ["a b"], "registration_interval": "1s"},
            {
                "name": "c",
                "port": 1,
                "uris": ["c.test"],
                "registration_interval": "10s",
                "health_check": {"timeout": "10s"},
            },
        ],
        "unregistration_message_limit": 0,
    }
    assert problems_of(tmp_path / "c", document) == [
        "message_bus_servers: at least one server is required",
        "host required",
        "routes[0]: no name",
        "routes[0]: no registration_interval",
        "routes[0]: no port: neither port nor tls_port",
        "routes[0]: no URIs",
        "routes[1] 'a': invalid registration_interval: invalid duration 'often'",
        "routes[1] 'a': port: 0 is not a number between 1 and 65535",
        "routes[1] 'a': unknown protocol: http3",
        "routes[1] 'a': empty URIs",
        "routes[2] 'b': unknown type: udp",
        "routes[2] 'b': uri 'a b': blanks and control characters are not allowed",
        "routes[2] 'b': host is empty: it is the address at which the router reaches the instance",
        "routes[3] 'c': host is empty: it is the address at which the router reaches the instance",
        "routes[3] 'c': health_check: no name",
        "routes[3] 'c': health_check: timeout 10 s must be less than registration_interval 10 s",
        "routes[3] 'c': health_check: no script_path, and neither http, tcp nor tls instead",
        "unregistration_message_limit: 0 is not a number between 1 and 1000000",
    ]


def test_unknown_keys_are_noted_and_disturb_nobody(tmp_path: Path) -> None:
    file = tmp_path / "c"
    route = {"name": "a", "port": 1, "uris": ["a.test"], "registration_interval": "1s", "portt": 5}
    config, notes = read(file, {**WHOLE, "routes": [route], "hosst": "x"})
    assert len(config.routes) == 1
    assert notes == [f"{file}: routes[0] 'a': portt: not known, ignored", f"{file}: hosst: not known, ignored"]


def test_certificate_name_without_tls_is_noted_and_left_out(tmp_path: Path) -> None:
    route = {
        "name": "a",
        "port": 1,
        "uris": ["a.test"],
        "registration_interval": "1s",
        "server_cert_domain_san": "x",
    }
    config, notes = read(tmp_path / "c", {**WHOLE, "routes": [route]})
    assert "no effect without tls_port" in notes[0]
    (configured,) = config.routes
    assert isinstance(configured.route, Route)
    assert configured.route.server_cert_domain_san == ""


def test_internal_route_gives_names_to_an_address(tmp_path: Path) -> None:
    route = {
        "type": "internal",
        "name": "a",
        "uris": ["a.apps.internal"],
        "registration_interval": "60s",
        "port": 5000,
    }
    config, _ = read(tmp_path / "c", {**WHOLE, "routes": [route]})
    assert config.routes[0].route == InternalRoute(ip="10.1.1.1", names=("a.apps.internal",), port=5000)


def test_mutual_tls_to_nats_is_read_and_its_files_are_tried(tmp_path: Path) -> None:
    authority = make_ca()
    pair = issue(authority, ["x.test"], client=True, server=False)
    for name, text in [
        ("ca", authority.pair.certificate),
        ("cert", pair.certificate),
        ("key", pair.private_key),
    ]:
        (tmp_path / name).write_text(text)
    paths = {f"{name}_path": str(tmp_path / name) for name in ("ca", "cert", "key")}
    config, _ = read(tmp_path / "c", {**WHOLE, "nats_mtls_config": {"enabled": True, **paths}})
    assert config.tls == TlsFiles(paths["ca_path"], paths["cert_path"], paths["key_path"])
    assert config.nats[1] == "tls://10.0.0.2:4222"
    paths["key_path"] = str(tmp_path / "absent")
    (problem,) = problems_of(tmp_path / "c", {**WHOLE, "nats_mtls_config": {"enabled": True, **paths}})
    assert problem.startswith("nats_mtls_config: ")
    assert problem.endswith("absent: No such file or directory")


@pytest.mark.parametrize(
    "text", ["{", "[1, 2", "a: b: c", "\x00", "[" * 1_000_000, "- " * 100_000, '{"a":' * 100_000, "5", "[]"]
)
def test_file_that_is_neither_json_nor_yaml_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c"
    file.write_text(text)
    with pytest.raises(ConfigProblems) as caught:
        read_service(file, "")
    assert all(problem.startswith(f"{file}: ") for problem in caught.value.problems)


def test_file_that_is_too_large_or_says_something_twice_is_told(tmp_path: Path) -> None:
    file = tmp_path / "c"
    for text, told in [("#" * 5_000_000, "larger than 4 MiB"), ("host: a\nhost: b", 'key "host" already defined')]:
        file.write_text(text)
        with pytest.raises(ConfigProblems, match=told):
            read_service(file, "")


def test_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblems, match="No such file"):
        read_service(tmp_path / "absent", "")


def test_bad_entries_of_a_dynamic_file_are_skipped_and_told(tmp_path: Path) -> None:
    file = tmp_path / "routes.yml"
    good = {"name": "good", "port": 1, "uris": ["good.test"], "registration_interval": "1s"}
    file.write_text(yaml.safe_dump({"routes": [{"name": "bad"}, good, 7]}))
    routes, problems, notes = read_routes(file, Defaults("10.0.0.1", "", "id"))
    assert [route.name for route in routes] == ["good"]
    assert problems[0] == f"{file}: routes[0] 'bad': no registration_interval"
    assert notes == []


def test_unknown_keys_of_a_dynamic_file_are_noted_and_cost_nothing(tmp_path: Path) -> None:
    file = tmp_path / "routes.yml"
    route = {"name": "a", "port": 1, "uris": ["a.test"], "registration_interval": "1s", "owner": "us"}
    file.write_text(yaml.safe_dump({"routes": [route, {"name": "b", "type": "tcp"}], "team": 1}))
    routes, problems, notes = read_routes(file, Defaults("10.0.0.1", "", "id"))
    assert ([route.name for route in routes], problems) == (["a"], [])
    assert [note.rpartition(": ")[0].removeprefix(f"{file}: ") for note in notes] == [
        "routes[0] 'a': owner",
        "routes[1] 'b': type tcp goes to a routing API, which is not spoken here",
        "team",
    ]


@pytest.mark.parametrize(
    ("text", "mistakes"), [("route: []", 1), ("routes: []", 0), ("routes:", 0), ("# none", 0), ("", 0)]
)
def test_dynamic_file_without_routes_is_one_that_says_so(text: str, mistakes: int, tmp_path: Path) -> None:
    file = tmp_path / "routes.yml"
    file.write_text(text)
    routes, problems, _ = read_routes(file, Defaults("10.0.0.1", "", "id"))
    assert (routes, problems) == ([], [f"{file}: no routes"] * mistakes)
