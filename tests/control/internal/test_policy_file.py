from pathlib import Path

import pytest

from router.config.problems import ConfigError
from router.control.internal.policy_file import read_policies
from tests.support.bucket import policy

FILE = Path("/etc/router/policies.yml")


def test_policies_are_read_with_their_defaults() -> None:
    text = b"""
policies:
  - {source: a, destination: b, ports: 5000}
  - source: a
    destination: c
    protocol: udp
    ports: 5000-5010
  - {source: a, destination: b, ports: "5000"}
"""
    assert read_policies(FILE, text) == [policy("a", "b", 5000), policy("a", "c", 5000, 5010, "udp")]


def test_no_policies_have_to_be_said() -> None:
    assert read_policies(FILE, b"policies: []") == []


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"- a", b"policies:", b"policies: {}", b"policies: x"])
def test_what_looks_like_half_a_file_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError, match="a list"):
        read_policies(FILE, text)


def test_all_mistakes_are_told_at_once_with_their_lines() -> None:
    text = b"""policies:
  - source: a
    ports: 5000
  - source: a
    destination: b
    protocol: icmp
    ports: 90-80
  - source: ""
    destination: "x\\ty"
    ports: http
    port: 80
  - nonsense
other: 1
"""
    with pytest.raises(ConfigError) as caught:
        read_policies(FILE, text)
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [
        (2, "policies[0].destination"),
        (4, "policies[1].protocol"),
        (7, "policies[1].ports"),
        (8, "policies[2].source"),
        (8, "policies[2].destination"),
        (10, "policies[2].ports"),
        (11, "policies[2].port"),
        (12, "policies[3]"),
        (13, "other"),
    ]


@pytest.mark.parametrize(
    "text", [b"policies: [", b"\xff", b"policies: []\npolicies: []\n", b"policies: []\n---\n"]
)
def test_what_is_not_one_document_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError):
        read_policies(FILE, text)
