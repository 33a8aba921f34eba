import pytest

from router.routing import sharing
from router.routing.sharing import Shared


def test_equal_texts_become_one_object() -> None:
    shared = Shared()

    assert shared.text("".join(["a", "b"])) is shared.text("".join(["a", "b"]))


def test_equal_tags_become_one_object_and_their_texts_too() -> None:
    shared = Shared()
    one = shared.tags({"a": "".join(["x", "y"])})

    assert shared.tags({"a": "".join(["x", "y"])}) is one
    assert one["a"] is shared.text("".join(["x", "y"]))


def test_memo_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MAX_SHARED", 10)
    shared = Shared()

    assert [shared.text(str(number)) for number in range(100)] == [str(number) for number in range(100)]
    assert [shared.tags({"a": str(number)}) for number in range(100)][99] == {"a": "99"}
    assert len(shared._texts) <= 11
    assert len(shared._tags) <= 11
