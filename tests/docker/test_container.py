"""Inspections of Docker and Podman, read into facts."""

from typing import Any

import pytest

from router.docker.container import Binding, ContainerError, nanoseconds, read_container
from tests.docker.facts import ID, inspection


def test_what_podman_says_of_a_container_is_read() -> None:
    found = read_container(inspection())
    assert (found.id, found.name, found.image) == (ID, "web", "sha256:d88e")
    assert (found.running, found.paused, found.health) == (True, False, "")
    assert found.tcp == (8079, 8081)
    assert found.udp == (8078, 8081)
    assert found.bindings == {8079: (Binding("", 39549),)}
    assert found.addresses == {"podman": ("10.88.0.2", "fd00::2")}
    assert found.started_ns == 1795272908820415000
    assert found.labels == {"router.uris": "app.test"}


def test_of_several_ports_in_the_environment_the_last_counts() -> None:
    assert read_container(inspection()).environment_port == "8079"


@pytest.mark.parametrize("part", ["State", "Config", "HostConfig", "NetworkSettings", "Name", "Created"])
def test_null_counts_as_absent(part: str) -> None:
    assert read_container(inspection(**{part: None})).id == ID


@pytest.mark.parametrize(
    ("ports", "tcp", "not_ports"),
    [
        ({"70000/tcp": {}, "80/tcp": {}}, (80,), ("70000/tcp",)),
        ({"0/tcp": {}, "http/tcp": {}}, (), ("0/tcp", "http/tcp")),
        ({"8000-8010/tcp": {}}, (), ("8000-8010/tcp",)),
        ({"443": {}, "80/sctp": {}}, (443,), ()),
        (
            {"٣/tcp": {}, "123456789012345678901234567890/tcp": {}},
            (),
            ("123456789012345678901234567890/tcp", "٣/tcp"),
        ),
    ],
)
def test_what_is_no_port_is_told_apart(
    ports: dict[str, Any], tcp: tuple[int, ...], not_ports: tuple[str, ...]
) -> None:
    found = read_container(inspection(Config={"ExposedPorts": ports}, NetworkSettings=None))
    assert found.tcp == tcp
    assert found.not_ports == not_ports


def test_port_published_without_being_exposed_counts_as_exposed() -> None:
    settings = {"Ports": {"9000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "9001"}]}}
    found = read_container(inspection(Config=None, NetworkSettings=settings))
    assert found.tcp == (9000,)
    assert found.bindings == {9000: (Binding("", 9001),)}


def test_binding_without_a_usable_host_port_is_none() -> None:
    settings = {"Ports": {"80/tcp": [{"HostIp": "", "HostPort": ""}, {"HostIp": "", "HostPort": "0"}]}}
    assert read_container(inspection(NetworkSettings=settings)).bindings == {}


def test_paused_container_is_alive() -> None:
    found = read_container(inspection(State={"Running": False, "Paused": True}))
    assert (found.running, found.paused) == (True, True)


def test_container_that_waits_to_be_started_again_does_not_run() -> None:
    assert not read_container(inspection(State={"Running": True, "Restarting": True})).running


@pytest.mark.parametrize(
    ("status", "health"), [("healthy", "healthy"), ("starting", "starting"), ("none", ""), (None, "")]
)
def test_health_is_empty_without_a_check(status: str | None, health: str) -> None:
    assert read_container(inspection(State={"Running": True, "Health": {"Status": status}})).health == health


@pytest.mark.parametrize("answer", [None, [], {}, {"Id": 7}, inspection(State=[]), inspection(Config={"Env": 1})])
def test_what_is_no_inspection_is_an_error_that_says_where(answer: object) -> None:
    with pytest.raises(ContainerError, match="not understood"):
        read_container(answer)


@pytest.mark.parametrize("text", ["", "0001-01-01T00:00:00Z", "soon"])
def test_time_that_never_was_is_zero(text: str) -> None:
    assert nanoseconds(text) == 0


def test_time_with_an_offset_is_understood() -> None:
    assert nanoseconds("1970-01-01T02:00:01.5+02:00") == 1_500_000_000
