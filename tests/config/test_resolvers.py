"""The two forms a resolver may be written in, for both IP versions."""

import pytest

from router.config.resolvers import parse_resolver


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", ("10.0.0.1", 53)),
        ("10.0.0.1:5353", ("10.0.0.1", 5353)),
        ("fd00::1", ("fd00::1", 53)),
        ("FD00:0::1", ("fd00::1", 53)),
        ("[fd00::1]", ("fd00::1", 53)),
        ("[fd00::1]:5353", ("fd00::1", 5353)),
    ],
)
def test_address_with_and_without_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_resolver(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dns.example.com",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:x",
        "10.0.0.1:²",
        "10.0.0.1:+5",
        "10.0.0.256",
        "[10.0.0.1:53",
        "[fd00::1",
        "[fd00::1]5353",
        "[fd00::1]:",
        "[fd00::1]:0",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_resolver(text)
