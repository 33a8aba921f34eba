from pathlib import Path

import pytest

from router.config.problems import ConfigError
from router.control.internal.identity_file import read_workloads
from router.wire.identities import Workload

PATH = Path("identities.yml")


def problems(text: str) -> list[str]:
    """Return each mistake as ``LINE key: message``."""
    with pytest.raises(ConfigError) as caught:
        read_workloads(PATH, text.encode())
    assert "identities.yml" in str(caught.value)
    return [f"{problem.line} {problem.key}: {problem.message}" for problem in caught.value.problems]


def test_all_fields_are_read() -> None:
    text = """
workloads:
  - ip: 10.255.1.2
    app: app-a
    space: space
    organization: org
    instance: guid
    index: 0
    generation: 1763000000000
    ports: [5000, 80]
  - {ip: "::ffff:10.255.1.3", app: 7, space: ~}
"""
    assert read_workloads(PATH, text.encode()) == [
        Workload(
            ip="10.255.1.2",
            app="app-a",
            space="space",
            organization="org",
            instance="guid",
            index="0",
            generation=1763000000000,
            ports=(80, 5000),
        ),
        Workload(ip="10.255.1.3", app="7"),
    ]


def test_empty_list_means_that_there_are_none() -> None:
    assert read_workloads(PATH, b"workloads: []\n") == []


@pytest.mark.parametrize("text", ["", "# nothing\n", "- ip: 10.0.0.1\n", "workloads\n"])
def test_file_without_a_list_is_a_mistake_since_it_may_be_half_written(text: str) -> None:
    assert "`workloads: []`" in problems(text)[0]


@pytest.mark.parametrize("text", ["workloads:\n", "workloads: 7\n", "workloads: {ip: 10.0.0.1}\n"])
def test_workloads_that_are_no_list_are_a_mistake(text: str) -> None:
    assert problems(text) == ["1 workloads: a list is needed"]


def test_every_mistake_is_named_with_its_line_at_once() -> None:
    text = """workloads:
  - ip: 10.255.1.2
    app: a
    generaton: 3
  - ip: 10.255.1.2
    app: b
  - ip: container-7
    app: c
  - app: d
  - ip: 10.255.1.5
    app: e
    ports: [80, 70000]
  - just text
  - ip: 10.255.1.6
    app: two words
version: 2
"""
    found = problems(text)
    assert [each.split(" ")[0] + " " + each.split(" ")[1] for each in found] == [
        "4 workloads[0].generaton:",
        "5 workloads[1]:",
        "7 workloads[2].ip:",
        "9 workloads[3]:",
        "12 workloads[4].ports:",
        "13 workloads[5]:",
        "15 workloads[6].app:",
        "16 version:",
    ]
    assert "10.255.1.2 is in line 2 already" in found[1]
    assert "not an IP address: 'container-7'" in found[2]
    assert "missing required field `ip`" in found[3]
    assert "<= 65535" in found[4]


def test_address_that_is_twice_in_one_line_is_a_mistake_too() -> None:
    text = "workloads: [{ip: 10.255.1.2, app: a}, {ip: 10.255.1.2, app: b}]\n"
    assert problems(text) == ["1 workloads[1]: 10.255.1.2 is in line 1 already"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("workloads:\n  - ip: [\n", 3),
        ("workloads: []\nworkloads: []\n", 2),
        ("workloads: []\n---\nworkloads: []\n", 2),
        ("workloads:\n\t- x\n", 2),
    ],
)
def test_broken_yaml_names_the_line(text: str, line: int) -> None:
    assert problems(text)[0].startswith(f"{line} ")


def test_what_is_not_text_names_the_line() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        read_workloads(PATH, b"workloads:\n - \xff\n")


def test_nested_values_are_a_mistake_like_any_other() -> None:
    found = problems("workloads:\n  - ip: 10.255.1.2\n    app: {a: [b]}\n    ports: {a: 1}\n")
    assert found[0].startswith("3 workloads[0].app:")
