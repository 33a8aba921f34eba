from typing import Any

import msgspec
import pytest

from router.config.schema import Config
from router.config.sections import Backends, Logging, Nats, NatsHost, RouteServices


@pytest.mark.parametrize(
    ("given", "attribute", "value"),
    [
        ({}, "drain_timeout", 60.0),
        ({"endpoint_timeout": 900.0}, "drain_timeout", 900.0),
        ({"endpoint_timeout": 0.0}, "drain_timeout", 60.0),
        ({"endpoint_timeout": 900.0, "drain_timeout": 1.0}, "drain_timeout", 1.0),
        ({"endpoint_timeout": 7.0}, "http_1_endpoint_timeout", 7.0),
        ({"endpoint_timeout": 7.0, "http_2_endpoint_timeout": 8.0}, "http_2_endpoint_timeout", 8.0),
        ({"endpoint_timeout": 0.0}, "http_1_endpoint_timeout", 0.0),
        ({"endpoint_dial_timeout": 3.0}, "websocket_dial_timeout", 3.0),
        ({}, "read_header_timeout", 60.0),
        ({"read_header_timeout": 5.0}, "read_header_timeout", 5.0),
        ({}, "max_request_header_bytes", 1024 * 1024),
        ({"max_request_header_bytes": 2 * 1024 * 1024}, "max_request_header_bytes", 1024 * 1024),
        ({"max_request_header_bytes": 1000}, "max_request_header_bytes", 1000),
        ({}, "max_response_header_bytes", 10 * 1024 * 1024),
        ({}, "min_tls_version", "TLSv1.2"),
        ({}, "max_tls_version", "TLSv1.2"),
        ({"max_tls_version": "TLSv1.3"}, "max_tls_version", "TLSv1.3"),
        ({"start_response_delay_interval": 200.0}, "droplet_stale_threshold", 200.0),
        ({"go_max_procs": 3}, "workers", 3),
        ({"go_max_procs": 3, "workers": 2}, "workers", 2),
        ({"go_max_procs": -1}, "workers", 0),
    ],
)
def test_a_derived_setting_is_resolved(given: dict[str, Any], attribute: str, value: object) -> None:
    assert getattr(Config(**given), attribute) == value


def test_no_attempts_means_one() -> None:
    assert (Backends().max_attempts, RouteServices().max_attempts) == (1, 1)
    assert [Backends(max_attempts=given).max_attempts for given in (3, 0, -1)] == [3, 1, 1]


def test_the_older_switch_for_attempt_details_adds_its_fields_once() -> None:
    logging = Logging(enable_attempts_details=True, extra_access_log_fields=["local_address", "dns_time"])
    assert logging.extra_access_log_fields == [
        "failed_attempts",
        "failed_attempts_time",
        "dns_time",
        "dial_time",
        "tls_time",
        "backend_time",
        "local_address",
    ]


def test_a_config_survives_msgpack() -> None:
    config = Config(
        endpoint_timeout=900.0,
        max_tls_version="TLSv1.3",
        cipher_suites=["ECDHE-RSA-AES128-GCM-SHA256"],
        nats=Nats(hosts=[NatsHost(hostname="a")], pass_="secret"),
        logging=Logging(enable_attempts_details=True),
    )
    raw = msgspec.msgpack.encode(config)
    assert msgspec.msgpack.decode(raw, type=Config) == config


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Config().port = 1  # type: ignore[misc]


def test_configs_do_not_share_their_lists() -> None:
    assert Config().ca_certs is not Config().ca_certs
    assert Nats().hosts is not Nats().hosts
