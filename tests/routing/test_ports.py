import pytest

from router.routing.ports import parse_ports, ports_text


@pytest.mark.parametrize(
    ("text", "ports"),
    [("1", (1, 1)), ("5000", (5000, 5000)), ("5000-5010", (5000, 5010)), ("65535", (65535, 65535))],
)
def test_a_range_is_read_and_written(text: str, ports: tuple[int, int]) -> None:
    assert parse_ports(text) == ports
    assert ports_text(*ports) == text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "not a port"),
        ("http", "not a port"),
        ("-1", "not a port"),
        ("80-", "not a port"),
        ("80 - 90", "not a port"),
        ("٨٠", "not a port"),
        ("80\n", "not a port"),
        ("0", "1 to 65535"),
        ("0-10", "1 to 65535"),
        ("65536", "1 to 65535"),
        ("90-80", "behind the last"),
    ],
)
def test_what_is_no_range_is_said_to_be_none(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        parse_ports(text)
