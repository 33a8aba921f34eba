"""The written router.yml as text for people; that it is valid is shown in test_plan."""

from pathlib import Path

import yaml

from router.dev.config_file import RouterSettings, config_text

PEM = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"

SETTINGS = RouterSettings(
    http_port=8080,
    https_port=8443,
    status_port=8081,
    routes_port=8082,
    route_services_port=7070,
    workers=2,
    nats_host="127.0.0.1",
    nats_port=4222,
    nats_user="",
    nats_password="",
    status_password="on",
    certificate=PEM,
    private_key=PEM,
    access_log=Path("/x/access.log"),
)


def test_certificates_are_written_as_blocks() -> None:
    assert "cert_chain: |\n    -----BEGIN CERTIFICATE-----\n    abc\n" in config_text(SETTINGS)


def test_text_reads_back_as_what_was_meant() -> None:
    read = yaml.safe_load(config_text(SETTINGS))
    assert read["tls_pem"] == [{"cert_chain": PEM, "private_key": PEM}]
    assert read["status"]["pass"] == "on"
    assert read["access_log"] == {"file": "/x/access.log"}


def test_first_lines_say_where_it_comes_from() -> None:
    assert config_text(SETTINGS).startswith("# Written by `router dev`")
