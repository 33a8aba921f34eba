import json
from typing import Any

from router.control.internal.identity_log import IdentityLog
from router.log import DEBUG, Logger
from router.routing.internal_records import Identity
from router.wire.identities import Workload

ONE = Identity("10.255.1.2", "a", instance="i", generation=3, ports=(80,))
TWO = Identity("10.255.1.2", "b", instance="j", generation=3)


class Written:
    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[dict[str, Any]] = []
        logger = Logger("router", DEBUG, sink=lambda line: self.lines.append(json.loads(line)))
        self.log = IdentityLog(logger, lambda: self.now)

    def last(self) -> tuple[object, object]:
        return self.lines[-1]["message"], self.lines[-1]["data"]


def test_identity_is_logged_with_what_it_is_found_by() -> None:
    written = Written()
    fields = {"ip": "10.255.1.2", "app": "a", "instance": "i", "index": "", "generation": 3, "ports": [80]}
    written.log.put(ONE)
    assert written.last() == ("identity-put", fields)
    written.log.dropped(ONE, "gone")
    assert written.last() == ("identity-dropped", {"reason": "gone", **fields})


def test_conflict_names_all_who_claim_and_who_is_believed() -> None:
    written = Written()
    claims = [("one", ONE), ("two", TWO)]
    written.log.conflict(ONE.ip, claims, None)
    message, fields = written.last()
    assert message == "identity-conflict"
    assert fields == {
        "ip": ONE.ip,
        "claims": [
            {"agent": "one", "app": "a", "instance": "i", "generation": 3},
            {"agent": "two", "app": "b", "instance": "j", "generation": 3},
        ],
        "believed": "-",
        "suppressed": 0,
    }
    written.log.conflict(ONE.ip, claims, TWO)
    assert written.lines[-1]["data"]["believed"] == "b"
    written.log.conflict_over(ONE.ip)
    assert written.last() == ("identity-conflict-over", {"ip": ONE.ip})


def test_other_events_have_lines_of_their_own() -> None:
    written = Written()
    written.log.refused("one", Workload(ip="127.0.0.1", app="a"), "a loopback address")
    written.log.quarantined([("one", ONE)], 4)
    written.log.out_of_order("one", 3, 4)
    written.log.missed("one", 2)
    assert [line["message"] for line in written.lines] == [
        "identity-refused",
        "identity-quarantined",
        "identity-message-out-of-order",
        "identity-messages-missed",
    ]


def test_what_an_agent_can_provoke_is_limited_and_counted() -> None:
    written = Written()
    for _ in range(100):
        written.log.out_of_order("one", 3, 4)
    assert len(written.lines) == 20
    written.now += 60
    written.log.out_of_order("one", 3, 4)
    assert written.lines[-1]["data"]["suppressed"] == 80
