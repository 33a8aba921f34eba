import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.policy.rules import Rules, RulesError, from_state, keep_loaded, load, source_of_state, summary
from router.view import Source

IPV4 = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "s-a\t0201FF0A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n"
)


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "route").write_text(IPV4)
    return tmp_path / "route", tmp_path / "ipv6_route"


def state(**changes: Any) -> bytes:
    made = {
        "status": {},
        "policies_ready": True,
        "names_warm": True,
        "container_networks": ["10.255.0.0/16"],
        "addresses": ["10.255.0.1"],
        "identities": [{"ip": "10.255.1.2", "app": "a", "ports": [80]}, {"ip": "10.255.1.3", "app": "b"}],
        "policies": [{"source": "a", "destination": "b", "protocol": "tcp", "start": 80, "end": 81}],
        "names": {},
    }
    return json.dumps({**made, **changes}).encode()


def test_rules_follow_from_state_and_routes(tables: tuple[Path, Path]) -> None:
    rules = from_state(state(), tables)
    assert rules.warnings == []
    assert "10.255.1.2 . 10.255.1.3 . tcp . 80-81," in rules.text
    assert '"s-a" . 10.255.1.2,' in rules.text
    assert summary(rules.text).startswith("loaded: 1 way")


def test_missing_routes_are_warned_of(tmp_path: Path) -> None:
    rules = from_state(state(), (tmp_path / "none", tmp_path / "none"))
    assert "source addresses are not checked" in rules.warnings[0]


def test_policies_not_known_yet_give_no_rules(tables: tuple[Path, Path]) -> None:
    with pytest.raises(RulesError, match="yet"):
        from_state(state(policies_ready=False, status={"policies": {"state": "waiting"}}), tables)


def test_policies_that_have_expired_close_everything(tables: tuple[Path, Path]) -> None:
    rules = from_state(state(policies_ready=False, status={"policies": {"state": "expired"}}), tables)
    assert "10.255.1.2 . 10.255.1.3" not in rules.text
    assert "all is denied" in rules.warnings[0]


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"policies_ready": 1}'])
def test_what_is_no_state_gives_no_rules(text: bytes, tables: tuple[Path, Path]) -> None:
    with pytest.raises(RulesError, match="not the state"):
        from_state(text, tables)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8082/routes", "http://127.0.0.1:8082", "http://127.0.0.1:8082/"]
)
def test_the_state_lies_next_to_the_routes(url: str) -> None:
    assert source_of_state(Source(url, "u", "p")) == Source("http://127.0.0.1:8082/internal", "u", "p")


@pytest.fixture
def fake_nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a program in the place of nft; returns where it notes what it is given."""

    def put(script: str) -> Path:
        directory = tmp_path / "bin"
        directory.mkdir(exist_ok=True)
        program = directory / "nft"
        given = tmp_path / "given"
        program.write_text(f"#!/bin/sh\n{script.replace('GIVEN', str(given))}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
        return given

    return put


def test_what_nft_refuses_is_said_in_its_words(fake_nft: Callable[[str], Path]) -> None:
    fake_nft("echo 'Operation not permitted' >&2; exit 1")
    with pytest.raises(RulesError, match="Operation not permitted"):
        load("rules")


def test_a_missing_nft_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RulesError, match="not installed"):
        load("rules")


class Enough(Exception):
    """Ends what would go on for ever."""


def test_rules_are_loaded_only_when_they_have_changed(fake_nft: Callable[[str], Path]) -> None:
    given = fake_nft("cat >> GIVEN")
    turns: list[Rules | RulesError] = [
        Rules("one\n", []),
        Rules("one\n", ["careful"]),
        RulesError("away"),
        RulesError("away"),
        Rules("two\n", []),
    ]
    said: list[str] = []
    complaints: list[str] = []

    def make() -> Rules:
        turn = turns.pop(0)
        if isinstance(turn, RulesError):
            raise turn
        return turn

    def sleep(seconds: float) -> None:
        assert seconds == 5.0
        if not turns:
            raise Enough

    with pytest.raises(Enough):
        keep_loaded(make, 5.0, say=said.append, complain=complaints.append, errors=(RulesError,), sleep=sleep)
    assert given.read_text() == "one\ntwo\n"
    assert len(said) == 2
    assert complaints == ["careful", "away"]
