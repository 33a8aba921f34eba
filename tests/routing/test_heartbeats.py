import pytest

from router.routing import heartbeats
from router.routing.heartbeats import Heartbeats
from router.routing.records import EndpointRecord
from router.routing.registrations import NO_OPTIONS, UNTAGGED, Membership, RegisteredEndpoint


def membership() -> Membership:
    return Membership(RegisteredEndpoint(1, EndpointRecord("10.0.0.1", 80)), NO_OPTIONS, 120.0, UNTAGGED, 0.0)


def test_remembered_payload_leads_to_its_memberships() -> None:
    lines, members = Heartbeats(), (membership(), membership())
    lines.remember(b"payload", members)

    assert lines.find(b"payload") is members
    assert lines.find(b"other") is None


def test_line_goes_with_any_of_its_memberships() -> None:
    lines, members = Heartbeats(), (membership(), membership())
    lines.remember(b"payload", members)
    lines.forget(members[1])

    assert lines.find(b"payload") is None
    assert len(lines) == 0


def test_membership_belongs_to_the_last_payload_alone() -> None:
    lines, shared = Heartbeats(), membership()
    for number in range(100):
        lines.remember(b"payload %d" % number, (shared,))

    assert len(lines) == 1
    assert lines.find(b"payload 99") == (shared,)


def test_line_of_other_memberships_survives_a_late_forget() -> None:
    lines, first, second = Heartbeats(), membership(), membership()
    lines.remember(b"both", (first, second))
    lines.remember(b"first", (first,))
    lines.forget(second)

    assert lines.find(b"first") == (first,)


def test_oversize_payload_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "MAX_PAYLOAD_BYTES", 10)
    lines = Heartbeats()
    lines.remember(b"x" * 11, (membership(),))

    assert len(lines) == 0


def test_clear_forgets_everything() -> None:
    lines, member = Heartbeats(), membership()
    lines.remember(b"payload", (member,))
    lines.clear()
    lines.remember(b"other", (member,))

    assert lines.find(b"payload") is None
    assert lines.find(b"other") == (member,)
