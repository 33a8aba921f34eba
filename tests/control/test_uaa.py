"""Tokens from a UAA over real TLS."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.certs import make_ca
from router.config.schema import Config
from router.config.sections import OAuth
from router.control.uaa import MAX_ANSWER_BYTES, NoTokens, UaaError, UaaTokens
from router.log import Logger
from tests.support.platform import Platform
from tests.support.ports import free_port

AUTHORITY = make_ca()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    made = Platform(tmp_path, AUTHORITY)
    await made.start_uaa()
    yield made
    await made.close()


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    (tmp_path / "ca.pem").write_text(AUTHORITY.pair.certificate)
    return str(tmp_path / "ca.pem")


def oauth(port: int, ca_certs: str = "", **keys: Any) -> OAuth:
    fields = {
        "token_endpoint": "localhost",
        "client_name": "router",
        "client_secret": "s3:cret é",
        "ca_certs": ca_certs,
    }
    return OAuth(port=port, **{**fields, **keys})


def tokens(
    section: OAuth, *, clock: Clock | None = None, lines: list[Any] | None = None, **keys: Any
) -> UaaTokens:
    kept = [] if lines is None else lines
    config = Config(oauth=section, token_fetcher_retry_interval=0.0, **keys)
    return UaaTokens(config, Logger(sink=lambda line: kept.append(msgspec.json.decode(line))), clock or Clock())


async def test_token_is_asked_for_with_the_credentials_of_the_client(platform: Platform, ca_file: str) -> None:
    assert await tokens(oauth(platform.uaa_port, ca_file)).token() == "token-0"

    [(form, authorization)] = platform.asked
    assert form == {"grant_type": "client_credentials"}
    assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == "router:s3:cret é"


async def test_token_is_kept_until_shortly_before_it_expires(platform: Platform, ca_file: str) -> None:
    clock = Clock()
    made = tokens(oauth(platform.uaa_port, ca_file), clock=clock, token_fetcher_expiration_buffer_time=30)

    seen = []
    for now in (1000.0, 4569.0, 4570.0):
        clock.now = now
        seen.append(await made.token())
    assert seen == ["token-0", "token-0", "token-1"]


async def test_refused_token_is_replaced_once_for_all_who_were_refused(platform: Platform, ca_file: str) -> None:
    made = tokens(oauth(platform.uaa_port, ca_file))
    stale = await made.token()

    assert await asyncio.gather(*(made.token(stale) for _ in range(5))) == ["token-1"] * 5


async def test_failure_of_uaa_is_tried_again(platform: Platform, ca_file: str) -> None:
    platform.uaa_statuses = [500, 503]
    lines: list[Any] = []
    made = tokens(oauth(platform.uaa_port, ca_file), lines=lines)

    assert await made.token() == "token-0"
    assert made.errors == 0
    assert [line["data"]["attempts_left"] for line in lines] == [2, 1]


@pytest.mark.parametrize(("configured", "made"), [(3, 3), (1, 1), (0, 1)])
async def test_attempts_are_as_many_as_configured(
    platform: Platform, ca_file: str, configured: int, made: int
) -> None:
    platform.uaa_statuses = [500] * 9
    fetcher = tokens(oauth(platform.uaa_port, ca_file), token_fetcher_max_retries=configured)

    with pytest.raises(UaaError, match="status 500"):
        await fetcher.token()
    assert len(platform.asked) == made
    assert fetcher.errors == 1


@pytest.mark.parametrize("status", [302, 400, 401, 404])
async def test_refusal_is_final_and_leads_nowhere_else(platform: Platform, ca_file: str, status: int) -> None:
    platform.uaa_statuses = [status]

    with pytest.raises(UaaError, match=f"status {status}") as caught:
        await tokens(oauth(platform.uaa_port, ca_file)).token()
    assert len(platform.asked) == 1
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "a\r\nb: c"},
        {"expires_in": "soon"},
        {"more": "x" * MAX_ANSWER_BYTES},
    ],
)
async def test_answer_without_a_token_that_can_be_used_is_an_error(
    platform: Platform, ca_file: str, answer: Any
) -> None:
    platform.uaa_answer = answer

    with pytest.raises(UaaError, match=r"/oauth/token: "):
        await tokens(oauth(platform.uaa_port, ca_file)).token()


async def test_unreachable_uaa_is_an_error_that_names_it(ca_file: str) -> None:
    port = free_port()

    with pytest.raises(UaaError, match=f"https://localhost:{port}/oauth/token: "):
        await tokens(oauth(port, ca_file)).token()


async def test_certificate_of_uaa_is_verified(platform: Platform) -> None:
    with pytest.raises(UaaError, match="certificate verify failed"):
        await tokens(oauth(platform.uaa_port)).token()
    assert platform.asked == []


async def test_certificate_of_uaa_is_not_verified_if_so_configured(platform: Platform) -> None:
    assert await tokens(oauth(platform.uaa_port, skip_ssl_validation=True)).token() == "token-0"


@pytest.mark.parametrize("port", [0, -1])
async def test_uaa_without_tls_is_refused_in_gorouters_words(port: int) -> None:
    with pytest.raises(UaaError, match="UAA client requires TLS enabled"):
        tokens(oauth(port))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"ca_certs": "/nowhere/ca.pem"}, r"oauth\.ca_certs: /nowhere/ca\.pem: No such file"),
        ({"ca_certs": __file__}, r"oauth\.ca_certs: .*test_uaa\.py: "),
        ({"client_name": "a:b"}, r"oauth\.client_name: "),
    ],
)
async def test_unusable_setting_is_an_error_that_names_it(keys: Any, message: str) -> None:
    with pytest.raises(UaaError, match=message):
        tokens(oauth(1, **keys))


async def test_without_authentication_there_is_no_token() -> None:
    assert await NoTokens().token() == ""
    assert await NoTokens().token("stale") == ""
