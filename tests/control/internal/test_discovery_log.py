from typing import Any

import msgspec

from router.control.internal.discovery_log import NameLog
from router.log import DEBUG, INFO, WARN, Logger
from router.routing.internal_records import NameEntry
from router.wire.discovery import NameRegistration

NAME = "x.apps.internal"
ENTRY = NameEntry("10.255.1.1", "app", "0", 5000)
REGISTRATION = NameRegistration(
    ip="192.0.2.1", names=("a.example.com", "b.example.com", "c.example.com"), app="app"
)


def made(level: int = INFO) -> tuple[NameLog, list[Any]]:
    lines: list[Any] = []
    logger = Logger(level=level, sink=lambda line: lines.append(msgspec.json.decode(line)))
    return NameLog(logger.child("internal.names"), lambda: 0.0), lines


def test_coming_and_going_of_an_instance_is_logged() -> None:
    log, lines = made()
    log.registered(NAME, ENTRY)
    log.unregistered(NAME, ENTRY)
    log.pruned(NAME, ENTRY)
    assert [line["message"] for line in lines] == [
        "internal-name-registered",
        "internal-name-unregistered",
        "internal-name-pruned",
    ]
    fields = {"name": NAME, "ip": "10.255.1.1", "app": "app", "index": "0", "port": 5000}
    assert [line["data"] for line in lines] == [fields] * 3
    assert {line["source"] for line in lines} == {"gorouter.stdout.internal.names"}
    assert log.stale == 1


def test_changed_announcement_is_news_for_debugging_only() -> None:
    for level, count in ((INFO, 0), (DEBUG, 1)):
        log, lines = made(level)
        log.updated(NAME, ENTRY)
        assert len(lines) == count


def test_refused_address_is_logged_with_who_wanted_it() -> None:
    log, lines = made()
    log.refused(REGISTRATION, "", "not in a container network")
    assert lines[0]["log_level"] == WARN
    assert lines[0]["message"] == "internal-name-refused"
    assert lines[0]["data"] == {
        "names": ["a.example.com", "b.example.com"],
        "ip": "192.0.2.1",
        "app": "app",
        "reason": "not in a container network",
        "suppressed": 0,
    }


def test_long_name_does_not_fill_the_log() -> None:
    log, lines = made()
    log.refused(REGISTRATION, "x" * 100_000, "not a host name")
    assert lines[0]["data"]["names"] == ["x" * 253]


def test_flood_of_refusals_is_counted_but_not_logged() -> None:
    log, lines = made()
    for _ in range(1000):
        log.refused(REGISTRATION, "a.example.com", "not below an internal domain")
    assert len(lines) < 100
    assert log.refusals == {"not below an internal domain": 1000}
