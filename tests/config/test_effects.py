from router.config.effects import NO_EFFECT, UNREAD, status
from tests.config.settings import settings

KEYS = {setting.key for setting in settings()}


def test_every_key_without_effect_is_in_the_schema_or_unread() -> None:
    assert set(NO_EFFECT) - KEYS == set(UNREAD)


def test_every_key_without_effect_has_a_reason() -> None:
    assert all(NO_EFFECT.values())


def test_status_of_a_key_is_what_the_table_says() -> None:
    assert status("pid_file") == "no effect"
    assert status("port") == "in effect"
