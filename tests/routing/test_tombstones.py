import pytest

from router.routing import tombstones
from router.routing.tombstones import LIFETIME_S, Tombstones


def test_covers_what_is_not_newer() -> None:
    graves = Tombstones()
    graves.bury("a.test", "10.0.0.1:80", 5, now=0.0)

    assert graves.cover("a.test", "10.0.0.1:80", 4, now=1.0)
    assert graves.cover("a.test", "10.0.0.1:80", 5, now=1.0)
    assert not graves.cover("a.test", "10.0.0.1:80", 6, now=1.0)


def test_covers_only_that_endpoint_of_that_route() -> None:
    graves = Tombstones()
    graves.bury("a.test", "10.0.0.1:80", 5, now=0.0)

    assert not graves.cover("b.test", "10.0.0.1:80", 5, now=0.0)
    assert not graves.cover("a.test", "10.0.0.1:81", 5, now=0.0)


def test_unknown_times_of_change_bury_and_hold_back_nothing() -> None:
    graves = Tombstones()
    graves.bury("a.test", "10.0.0.1:80", 0, now=0.0)
    graves.bury("b.test", "10.0.0.1:80", 5, now=0.0)

    assert len(graves) == 1
    assert not graves.cover("b.test", "10.0.0.1:80", 0, now=0.0)


def test_ends_after_its_lifetime() -> None:
    graves = Tombstones()
    graves.bury("a.test", "10.0.0.1:80", 5, now=0.0)

    assert not graves.cover("a.test", "10.0.0.1:80", 5, now=LIFETIME_S)


def test_second_burial_keeps_the_newest_change_and_lives_longer() -> None:
    graves = Tombstones()
    graves.bury("a.test", "10.0.0.1:80", 5, now=0.0)
    graves.bury("a.test", "10.0.0.1:80", 3, now=5.0)

    assert graves.cover("a.test", "10.0.0.1:80", 5, now=LIFETIME_S + 1)


def test_ended_ones_take_no_memory() -> None:
    graves = Tombstones()
    for number in range(100):
        graves.bury("a.test", f"10.0.0.{number}:80", 5, now=0.0)
    graves.bury("b.test", "10.0.0.1:80", 5, now=LIFETIME_S)

    assert len(graves) == 1


def test_a_flood_drops_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tombstones, "MAX_TOMBSTONES", 10)
    graves = Tombstones()
    for number in range(50):
        graves.bury("a.test", f"10.0.0.{number}:80", 5, now=0.0)

    assert len(graves) == 10
    assert graves.cover("a.test", "10.0.0.49:80", 5, now=0.0)
