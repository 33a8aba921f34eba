"""Which port is routed, who a container is, and what keeps it from getting a route."""

from typing import Any

import pytest

from router.docker.container import Binding
from router.docker.labels import read_labels
from router.docker.offer import Ground, app_of, instance_guid, offer_of
from router.wire.announcement import Announcement, PoolSettings
from router.wire.discovery import NameRegistration
from router.wire.identities import Workload
from tests.docker.facts import GROUND, ID, codes, container, offer

GUID = "bcd73453-69e9-9555-be54-381eb3de0b0d"
URIS = {"router.uris": "app.test"}
COMPOSE = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}


def test_lowest_exposed_tcp_port_is_routed_through_its_host_port() -> None:
    assert offer().public == Announcement(
        host="10.0.0.7",
        port=40001,
        uris=["app.test"],
        app="web",
        private_instance_id=GUID,
        private_instance_index="0",
    )


def test_labels_say_more() -> None:
    public = offer(
        {
            **URIS,
            "router.port": "8081",
            "router.protocol": "http2",
            "router.loadbalancing": "least-connection",
            "router.weight": "3",
            "router.tags.team": "blue",
            "router.app": "guid",
            "router.instance": "given",
        },
        ground=Ground(host="10.0.0.7", availability_zone="z1", tags={"team": "red", "cell": "7"}),
        index=4,
    ).public
    assert public is not None
    assert (public.port, public.protocol, public.app) == (40002, "http2", "guid")
    assert (public.private_instance_id, public.private_instance_index) == ("given", "4")
    assert public.options == PoolSettings(loadbalancing="least-connection")
    assert public.weight == 3
    assert public.tags == {"team": "blue", "cell": "7"}
    assert public.availability_zone == "z1"


def test_tls_port_needs_no_plain_one() -> None:
    public = offer({**URIS, "router.tls_port": "8081", "router.san": "name"}).public
    assert public is not None
    assert (public.port, public.tls_port, public.server_cert_domain_san) == (0, 40002, "name")
    both = offer({**URIS, "router.tls_port": "8081", "router.port": "8079"}).public
    assert both is not None
    assert (both.port, both.tls_port) == (40001, 40002)


@pytest.mark.parametrize(
    ("listening", "host", "address"),
    [
        ((Binding("", 1),), "10.0.0.7", "10.0.0.7"),
        ((Binding("192.0.2.9", 1),), "10.0.0.7", "192.0.2.9"),
        ((Binding("127.0.0.1", 1), Binding("192.0.2.9", 1)), "10.0.0.7", "192.0.2.9"),
        ((Binding("127.0.0.1", 1),), "127.0.0.1", "127.0.0.1"),
    ],
)
def test_address_is_where_the_port_is_published(listening: tuple[Binding, ...], host: str, address: str) -> None:
    public = offer(bindings={8079: listening}, ground=Ground(host=host)).public
    assert public is not None
    assert (public.host, public.port) == (address, 1)


@pytest.mark.parametrize(
    ("facts", "labels", "code"),
    [
        ({"bindings": {}}, URIS, "container-publishes-nothing"),
        ({"bindings": {8081: (Binding("", 1),)}}, URIS, "container-port-not-published"),
        ({"bindings": {8079: (Binding("127.0.0.1", 1),)}}, URIS, "container-port-on-loopback"),
        ({"network_mode": "host", "addresses": {}}, URIS, "container-on-host-network"),
        ({"tcp": (), "udp": (53,), "bindings": {}}, URIS, "container-udp-only"),
        ({"tcp": (), "udp": (53,), "bindings": {}}, {}, "container-udp-only"),
        ({}, {**URIS, "router.port": "9"}, "container-port-not-published"),
        ({}, {**URIS, "router.port": "70000"}, "container-labels-malformed"),
        ({}, {"router.uris": "https://app.test"}, "container-labels-malformed"),
        ({}, {**URIS, "router.protocol": "spdy"}, "container-labels-malformed"),
        ({}, {**URIS, "router.san": "x"}, "container-labels-malformed"),
        ({}, {"router.internal": "*.apps.internal"}, "container-labels-malformed"),
        ({}, {**URIS, "router.internal": "*.apps.internal"}, "container-labels-malformed"),
        ({}, {**URIS, "router.loadbalancing": "hash"}, "container-labels-malformed"),
        ({}, {"router.uris": "a b:c", "router.internal": "x.apps.internal"}, "container-labels-malformed"),
        ({"addresses": {}}, {"router.internal": "x.apps.internal"}, "container-without-address"),
        ({"paused": True}, URIS, "container-does-not-serve"),
        ({"health": "starting"}, URIS, "container-does-not-serve"),
        ({"health": "unhealthy"}, URIS, "container-does-not-serve"),
    ],
)
def test_container_without_a_route_is_told_why(facts: dict[str, Any], labels: dict[str, str], code: str) -> None:
    made = offer(labels, **facts)
    assert codes(made) == [code]
    assert (made.public, made.internal) == (None, None)


def test_container_without_a_route_keeps_its_identity() -> None:
    assert offer({**URIS, "router.port": "x"}).workloads == offer().workloads
    assert offer(paused=True).workloads == offer().workloads


def test_port_that_is_none_disturbs_no_other() -> None:
    made = offer(not_ports=("70000/tcp",))
    assert made.public is not None
    assert codes(made) == ["container-ports-malformed"]


def test_healthy_container_has_routes() -> None:
    assert offer(health="healthy").public is not None


@pytest.mark.parametrize("labels", [{**URIS, "router.task": "true"}, {"router.task": "true"}])
def test_task_gets_no_route_but_an_identity(labels: dict[str, str]) -> None:
    made = offer({**labels, "router.internal": "x.apps.internal"}, ground=Ground(host="h", domain="apps.test"))
    assert (made.public, made.internal, made.notes) == (None, None, ())
    assert len(made.workloads) == 1


def test_container_that_exposes_nothing_and_asks_for_nothing_is_a_task() -> None:
    made = offer({}, tcp=(), bindings={}, ground=Ground(host="h", domain="apps.test"))
    assert (made.public, made.notes) == (None, ())
    assert made.workloads[0].app == "web"


def test_container_that_exposes_nothing_and_asks_is_routed_at_8080() -> None:
    made = offer(tcp=(), bindings={8080: (Binding("", 7),)})
    assert made.public is not None
    assert made.public.port == 7


def test_domain_gives_a_name_to_who_has_none() -> None:
    ground = Ground(host="h", domain="apps.test")
    assert offer({}, ground=ground).public == offer({"router.uris": "web.apps.test"}, ground=ground).public
    made = offer(COMPOSE, ground=ground, name="shop_web_1").public
    assert made is not None
    assert made.uris == ["shop-web.apps.test"]
    assert offer({}).public is None


@pytest.mark.parametrize(("port", "told"), [(None, []), ("8079", []), ("8081", ["container-port-differs"])])
def test_port_that_the_container_was_told_is_compared(port: str | None, told: list[str]) -> None:
    made = offer(environment_port=port)
    assert made.public is not None
    assert codes(made) == told


def test_internal_names_lead_to_the_containers_own_address() -> None:
    made = offer({"router.internal": "back.apps.internal", "router.internal_port": "5000"}, index=2, bindings={})
    assert made.public is None
    assert made.internal == NameRegistration(
        ip="10.88.0.2",
        names=("back.apps.internal", "2.back.apps.internal"),
        app="web",
        index="2",
        port=5000,
    )


def test_preferred_network_comes_first_and_others_do_not_count() -> None:
    addresses = {"a": ("10.1.0.2",), "b": ("10.2.0.2", "fd00::2"), "c": ("10.3.0.2",)}
    ground = Ground(host="h", networks=("b", "a"))
    made = offer({"router.internal": "back.apps.internal"}, addresses=addresses, ground=ground)
    assert made.internal is not None
    assert made.internal.ip == "10.2.0.2"
    assert [each.ip for each in made.workloads] == ["10.2.0.2", "fd00::2", "10.1.0.2"]


def test_identity_says_all_there_is() -> None:
    labels = {"router.app": "a", "router.space": "s", "router.organization": "o"}
    assert offer(labels, index=1).workloads == (
        Workload(
            ip="10.88.0.2",
            app="a",
            space="s",
            organization="o",
            instance=GUID,
            index="1",
            generation=5,
            ports=(8079, 8081),
        ),
    )


def test_malformed_identity_is_told_and_leaves_the_route() -> None:
    made = offer({**URIS, "router.space": "two words", "router.app": "x" * 256})
    assert made.workloads == ()
    assert made.public is not None
    ((code, text, _),) = made.notes
    assert code == "container-identity-malformed"
    assert "space 'two words'" in text
    assert "app 'xxx" in text


def test_identity_of_a_container_that_exposes_thousands_of_ports_has_the_lowest() -> None:
    (workload,) = offer(tcp=tuple(range(1, 3000))).workloads
    assert workload.ports == tuple(range(1, 1001))


def test_container_that_shares_anothers_network_has_no_identity_and_its_route() -> None:
    made = offer({**URIS, "router.app": "web"}, network_mode="container:7a67d9b49cc9a8e3")
    assert made.workloads == ()
    assert made.public is not None
    assert "container 7a67d9b49cc9," in made.notes[0].text
    assert codes(made) == ["container-shares-network"]
    (note,) = offer({"router.internal": "x.apps.internal"}, network_mode="container:7a67d9b49cc9a8e3").notes
    assert (note.code, note.text[-12:]) == ("container-without-address", "7a67d9b49cc9")


def test_container_on_the_host_network_has_no_identity() -> None:
    assert offer(network_mode="host").workloads == ()


def test_app_is_labelled_or_composed_or_named() -> None:
    assert app_of(container(), read_labels({"router.app": "x"})) == "x"
    assert app_of(container(labels=COMPOSE), read_labels(COMPOSE)) == "shop-web"
    assert app_of(container(), read_labels({})) == "web"
    assert app_of(container(name=""), read_labels({})) == ID[:12]


def test_instance_guid_comes_from_the_containers_id() -> None:
    assert instance_guid(ID) == GUID


def test_labels_of_the_image_are_told() -> None:
    labels = {"router.app": "bank"}
    wishes = read_labels(labels, labels)
    made = offer_of(container(labels=labels), wishes, 0, GROUND)
    assert codes(made) == ["container-labels-of-image"]
    assert made.workloads[0].app == "web"
