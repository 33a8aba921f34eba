import pytest

from tests.support.needs import needs


def test_installed_program_is_found() -> None:
    assert needs("sh").endswith("/sh")


def test_missing_program_skips_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUTER_CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="skipped: needs no-such-program"):
        needs("no-such-program")


def test_missing_program_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER_CI", "1")
    with pytest.raises(pytest.fail.Exception, match="needs no-such-program"):
        needs("no-such-program")
