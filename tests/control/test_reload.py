"""What a reload may change."""

import msgspec
import pytest

from router.config.schema import Config
from router.config.sections import Logging, Nats, NatsHost, Status, StatusRoutes, StatusTls
from router.control.reload import FIXED, merge


def test_equal_configurations_keep_nothing_back() -> None:
    assert merge(Config(), Config()) == (Config(), [])


def test_what_workers_use_changes() -> None:
    wanted = Config(endpoint_timeout=7.0, logging=Logging(level="error", disable_log_source_ip=True))

    assert merge(Config(), wanted) == (wanted, [])


def test_listeners_and_nats_stay_as_they_are_and_are_named() -> None:
    running = Config(port=8081)
    wanted = Config(port=9000, nats=Nats(hosts=[NatsHost(hostname="elsewhere")]), max_idle_conns=7)

    merged, kept = merge(running, wanted)

    assert kept == ["port", "nats"]
    assert merged == Config(port=8081, max_idle_conns=7)


def test_a_nested_setting_is_kept_without_its_neighbours() -> None:
    wanted = Config(status=Status(port=1, user="new", routes=StatusRoutes(port=2)))

    merged, kept = merge(Config(), wanted)

    assert kept == ["status.port", "status.routes.port"]
    assert merged.status == Status(user="new")


def test_certificate_of_the_health_listener_changes() -> None:
    running = Config(status=Status(tls=StatusTls(certificate="old", key="old")))
    wanted = Config(status=Status(tls=StatusTls(certificate="new", key="new")))

    assert merge(running, wanted) == (wanted, [])


@pytest.mark.parametrize("swap", [False, True])
def test_health_listener_over_tls_neither_appears_nor_goes(swap: bool) -> None:
    without, with_tls = Config(), Config(status=Status(tls=StatusTls(certificate="c", key="k")))
    running, wanted = (with_tls, without) if swap else (without, with_tls)

    assert merge(running, wanted) == (running, ["status.tls"])


@pytest.mark.parametrize("path", FIXED)
def test_every_fixed_setting_exists(path: str) -> None:
    document = msgspec.to_builtins(Config())
    for key in path.split("."):
        document = document[key]
