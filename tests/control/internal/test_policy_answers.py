"""What becomes of errors, whoever made them; headers and CORS are tested with the external API."""

import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from router.control.internal import policy_answers as answers
from router.control.internal.policy_checks import Refusal
from router.log import Logger
from tests.support.ports import free_port


async def asked(raised: Exception) -> tuple[int, bytes, list[dict[str, Any]]]:
    """Return what a client gets, and what is logged, if a handler raises this."""
    lines: list[dict[str, Any]] = []

    async def handler(_: web.Request) -> web.StreamResponse:
        raise raised

    logger = Logger(sink=lambda line: lines.append(json.loads(line)))
    app = web.Application(middlewares=[answers.errors(logger)])
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port := free_port()).start()
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as answer:
            return answer.status, await answer.read(), lines
    finally:
        await runner.cleanup()


async def test_refusal_is_its_status_and_text() -> None:
    assert await asked(Refusal(403, "no")) == (403, b'{"error": "no"}', [])


async def test_error_of_the_library_is_its_status_and_reason() -> None:
    assert await asked(web.HTTPExpectationFailed()) == (417, b'{"error": "Expectation Failed"}', [])


async def test_unforeseen_error_is_logged_and_told_without_detail() -> None:
    status, body, (line,) = await asked(LookupError("s3cret"))
    assert (status, body) == (500, b'{"error": "internal error"}')
    assert line["message"] == "policy-request-failed"
    assert line["data"] == {"method": "GET", "path": "/", "error": "LookupError('s3cret')"}


@pytest.mark.parametrize("text", ['"', "\\", "\n\x00", "</script>", "ü", "\ud800"])
def test_text_of_an_error_is_proper_json(text: str) -> None:
    body = answers.error(400, text).body
    assert isinstance(body, bytes)
    assert json.loads(body) == {"error": text.encode(errors="replace").decode()}


@pytest.mark.parametrize(("status", "challenge"), [(400, None), (401, "Bearer"), (403, None)])
def test_only_401_has_a_challenge(status: int, challenge: str | None) -> None:
    assert answers.error(status, "x").headers.get("WWW-Authenticate") == challenge
