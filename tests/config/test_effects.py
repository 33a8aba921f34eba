from router.config.effects import NO_EFFECT, NOT_YET, UNREAD, not_in_effect, status
from tests.config.settings import settings

KEYS = {setting.key for setting in settings()}


def test_every_key_of_the_tables_is_in_the_schema_or_unread() -> None:
    sections = {key.rsplit(".", depth)[0] for key in KEYS for depth in range(4)}
    assert set(NOT_YET) <= KEYS | sections
    assert set(NO_EFFECT) - KEYS == set(UNREAD)


def test_no_key_is_in_both_tables() -> None:
    assert not set(NOT_YET) & set(NO_EFFECT)


def test_a_section_covers_its_keys_but_not_its_namesakes() -> None:
    assert status("route_services.max_attempts") == "not yet"
    assert status("domains[].name") == "not yet"
    assert status("zone_of_something_else") == "in effect"
    assert status("pid_file") == "no effect"
    assert status("port") == "in effect"


def test_only_values_that_ask_for_something_are_named() -> None:
    given = {
        "debug_addr": "h:1",
        "port": 80,
        "enable_proxy": False,
        "enable_http2": True,
        "tracing.enable_w3c": True,
        "client_cert_validation": "none",
    }
    defaults = {
        "debug_addr": "",
        "port": 8081,
        "enable_proxy": False,
        "enable_http2": True,
        "tracing.enable_w3c": False,
        "client_cert_validation": "",
    }
    assert list(not_in_effect(given, defaults)) == ["debug_addr", "enable_http2", "tracing.enable_w3c"]
    assert list(not_in_effect({"enable_http2": False}, {"enable_http2": True})) == []
