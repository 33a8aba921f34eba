"""What labels ask for, mistakes included."""

import pytest

from router.docker.labels import Wishes, compose_app, compose_index, read_labels


def test_every_label_is_read() -> None:
    wishes = read_labels(
        {
            "router.uris": "app.test, app.test/api\nother.test",
            "router.internal": "back.apps.internal",
            "router.internal_port": "5000",
            "router.port": "8081",
            "router.tls_port": "8443",
            "router.san": "name",
            "router.protocol": "http2",
            "router.loadbalancing": "hash",
            "router.hash_header": "X-User",
            "router.hash_balance": "1.25",
            "router.weight": "0",
            "router.route_service_url": "https://service.test",
            "router.availability_zone": "z1",
            "router.tags.team": "blue",
            "router.app": "a",
            "router.space": "s",
            "router.organization": "o",
            "router.instance": "i",
            "router.index": "3",
            "router.task": "false",
            "maintainer": "somebody",
        }
    )
    assert wishes == Wishes(
        uris=("app.test", "app.test/api", "other.test"),
        internal=("back.apps.internal",),
        internal_port=5000,
        port=8081,
        tls_port=8443,
        san="name",
        protocol="http2",
        loadbalancing="hash",
        hash_header="X-User",
        hash_balance="1.25",
        weight=0,
        route_service_url="https://service.test",
        availability_zone="z1",
        tags={"team": "blue"},
        app="a",
        space="s",
        organization="o",
        instance="i",
        index=3,
    )
    assert wishes.ask_for_routes


def test_no_labels_ask_for_nothing() -> None:
    assert read_labels({"other": "x"}) == Wishes()
    assert not read_labels({"router.task": "True"}).ask_for_routes


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("port", "0", "not a port"),
        ("port", "70000", "not a port between 1 and 65535"),
        ("tls_port", "https", "not a port"),
        ("internal_port", "-1", "not a port"),
        ("port", "", "not a port"),
        ("port", "9" * 5000, "not a port"),
        ("index", "first", "a number from 0"),
        ("weight", "101", "not a whole number from 0 to 100"),
        ("weight", "heavy", "not a whole number"),
        ("weight", "-1", "not a whole number"),
        ("weight", "", "not a whole number"),
        ("index", "-1", "a number from 0"),
        ("task", "maybe", "neither true nor false"),
        ("uris", " , ,", "names nothing"),
        ("uris", "", ""),
    ],
)
def test_mistake_is_told_with_its_label(name: str, value: str, told: str) -> None:
    problems = read_labels({f"router.{name}": value}).problems
    assert [told in problem and f"router.{name}" in problem for problem in problems] == ([True] if told else [])
    assert all(len(problem) < 200 for problem in problems)


def test_all_mistakes_are_told_together() -> None:
    assert len(read_labels({"router.port": "x", "router.index": "y", "router.task": "z"}).problems) == 3


def test_unknown_label_under_our_prefix_is_told_and_no_mistake() -> None:
    wishes = read_labels({"router.uri": "app.test", "router.tags.": "x"})
    assert wishes.unknown == ("router.tags.", "router.uri")
    assert wishes.problems == ()


def test_names_and_identity_of_an_image_do_not_count() -> None:
    of_image = {"router.app": "bank", "router.uris": "bank.test", "router.port": "8081"}
    wishes = read_labels({**of_image, "router.space": "s"}, of_image)
    assert (wishes.app, wishes.uris, wishes.port, wishes.space) == ("", (), 8081, "s")
    assert wishes.from_image == ("router.app", "router.uris")


def test_label_given_with_the_container_replaces_that_of_the_image() -> None:
    wishes = read_labels({"router.app": "mine"}, {"router.app": "bank"})
    assert (wishes.app, wishes.from_image) == ("mine", ())


@pytest.mark.parametrize(
    ("number", "index"), [("1", 0), ("12", 11), ("0", None), ("", None), ("one", None), ("-1", None)]
)
def test_compose_counts_from_one(number: str, index: int | None) -> None:
    assert compose_index({"com.docker.compose.container-number": number}) == index


def test_compose_app_needs_project_and_service() -> None:
    project, service = "com.docker.compose.project", "com.docker.compose.service"
    assert compose_app({project: "shop", service: "web"}) == "shop-web"
    assert compose_app({project: "shop"}) == ""
