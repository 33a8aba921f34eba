"""NATS URLs: which are accepted, and that none is shown with its secrets."""

import pytest

from router.registrar.bus import redacted, server_problems


@pytest.mark.parametrize(
    "server",
    ["nats://127.0.0.1", "nats://a:4222", "tls://u:p@a:1", "nats://token@a", "nats://[::1]:4222", "nats://a/"],
)
def test_nats_url_has_no_problem(server: str) -> None:
    assert server_problems(server) == []


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ("", "looks like"),
        ("a:4222", "looks like"),
        ("http://a", "looks like"),
        ("nats://", "looks like"),
        ("nats://a:port", "is not a URL"),
        ("nats://a:65536", "is not a URL"),
        ("nats://[::1", "is not a URL"),
        ("nats://a:0", "port 0"),
        ("nats://a/subject", "nothing may follow"),
        ("nats://a?x=1", "nothing may follow"),
    ],
)
def test_other_url_is_told(server: str, told: str) -> None:
    (problem,) = server_problems(server)
    assert told in problem


@pytest.mark.parametrize(
    ("server", "shown"),
    [
        ("nats://u:p@a:1", "nats://a:1"),
        ("nats://u:p@b@a:1", "nats://a:1"),
        ("tls://token@a", "tls://a"),
        ("nats://a:1", "nats://a:1"),
        ("u:p@a", "a"),
    ],
)
def test_url_is_shown_without_its_credentials(server: str, shown: str) -> None:
    assert redacted(server) == shown


@pytest.mark.parametrize(
    "server",
    [
        "http://u:secret@a",
        "nats://u:secret@a:0",
        "nats://u:secret@a/x",
        "u:secret@a",
        "nats://u:secret@a:65536",
        "nats://u:secret@[a",
        "nats://u:[secret@a:1",
        "nats://u:secret/@a:1",
        "nats://u:secret#@a:1",
    ],
)
def test_problem_does_not_tell_the_password(server: str) -> None:
    assert "secret" not in "".join(server_problems(server))
