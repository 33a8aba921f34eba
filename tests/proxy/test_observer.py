from dataclasses import fields

from router.proxy.envelopes import Envelopes
from router.proxy.observer import Observed, Observer
from router.proxy.request_metrics import RequestMetrics
from tests.proxy.observed import Seen


def test_observers_are_tested_with_all_that_an_exchange_tells_them() -> None:
    assert {each.name for each in fields(Seen)} == set(Observed.__annotations__)


def test_every_observer_hears_of_attempts_and_ends() -> None:
    told = {name for name in vars(Observer) if not name.startswith("_")}

    assert told == {"attempted", "finished"}
    assert all(told <= set(dir(observer)) for observer in (RequestMetrics, Envelopes))
