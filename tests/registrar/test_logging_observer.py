"""An announcer's events as log records."""

import logging

import pytest

from router.registrar.logging_observer import LoggingObserver
from router.wire.announcement import RouterStart


def test_every_event_is_one_record(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "router.registrar")
    observer = LoggingObserver()
    observer.connected("nats://a:1")
    observer.disconnected("gone")
    observer.unreachable("nats://a:1 (refused)")
    observer.no_router_answered()
    start = RouterStart(id="0-x", hosts=[], minimum_register_interval_s=20, prune_threshold_s=120)
    observer.router_heard(start, 20.0)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "WARNING", "WARNING", "INFO"]
    assert all(record.name == "router.registrar" for record in caplog.records)
