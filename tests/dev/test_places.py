"""Where things are kept and which ports are free."""

import socket
from pathlib import Path

import pytest

from router.dev import places
from tests.support.ports import free_port


def test_checkout_keeps_state_and_certificates_in_itself() -> None:
    root = Path(__file__).resolve().parents[2]
    assert places.checkout() == root
    assert places.default_state_directory() == root / ".router-dev"
    assert places.default_certificate_directory(Path("/state")) == root / "certs"


@pytest.mark.parametrize("given", ["", "/var/x"])
def test_installed_package_keeps_both_in_the_user_s_state_directory(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "checkout", lambda: None)
    monkeypatch.setenv("XDG_STATE_HOME", given)
    state = places.default_state_directory()
    assert state == (Path(given) if given else Path.home() / ".local" / "state") / "router-dev"
    assert places.default_certificate_directory(state) == state / "certs"


def test_state_directory_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    first = places.lock(tmp_path / "new")
    assert first is not None
    assert places.lock(tmp_path / "new") is None
    first.close()
    again = places.lock(tmp_path / "new")
    assert again is not None
    again.close()


def test_listened_on_port_is_not_free() -> None:
    port = free_port()
    assert places.is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not places.is_free(port)


def test_port_shared_by_its_listener_is_not_free_either() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as listener:
        assert not places.is_free(listener.getsockname()[1])


def test_port_must_be_free_on_every_address_asked_for() -> None:
    with socket.create_server(("127.0.20.11", 0)) as taken:
        port = taken.getsockname()[1]
        assert places.free_port(port, ["127.0.20.10"], []) == port
        other = places.free_port(port, ["127.0.20.10", "127.0.20.11"], [])
    assert other != port
    assert places.free_port(port, ["127.0.20.10", "127.0.20.11"], [port]) != port


def test_port_of_a_server_for_datagrams_counts_only_where_it_is_asked_for() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.30.1", 0))
        port = taken.getsockname()[1]
        assert places.free_port(port, ["127.0.30.1"], []) == port
        assert places.free_port(port, ["127.0.30.1"], [], udp=True) != port


def test_address_of_another_machine_cannot_be_bound() -> None:
    assert places.can_bind("127.0.30.1")
    assert not places.can_bind("192.0.2.1")


def test_preferred_ports_are_chosen_when_they_are_free() -> None:
    wanted = [free_port(), free_port()]
    assert places.free_ports(wanted, set()) == wanted


def test_other_ports_are_chosen_for_taken_ones() -> None:
    taken, named, good = free_port(), free_port(), free_port()
    with socket.create_server(("127.0.0.1", taken)):
        chosen = places.free_ports([taken, named, good, good], {named})
    assert chosen[2] == good
    assert len({taken, named, *chosen}) == 6
