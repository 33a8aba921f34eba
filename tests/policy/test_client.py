import ssl
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from router.certs import issue, make_ca
from router.config.internal import PolicyApi
from router.policy.client import PolicyClientError, access, access_from_config, fetch
from tests.support.certificates import server_context
from tests.support.ports import free_port


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://127.0.0.1:4002", "http://127.0.0.1:4002"),
        ("127.0.0.1:4002", "http://127.0.0.1:4002"),
        ("https://api.example.com/", "https://api.example.com"),
        ("http://[::1]:4002", "http://[::1]:4002"),
    ],
)
def test_an_api_is_named_by_its_url(url: str, found: str) -> None:
    assert access(url, "t").url == found


@pytest.mark.parametrize(
    "url",
    ["", "ftp://x", "http://", "http://x:port", "http://x/networking/v1", "http://user:secret@x", "http://x?y=z"],
)
def test_what_is_no_url_of_an_api_is_refused(url: str) -> None:
    with pytest.raises(PolicyClientError):
        access(url, "")


def test_a_ca_file_that_is_not_there_is_named() -> None:
    with pytest.raises(PolicyClientError, match=r"/nowhere/ca\.pem"):
        access("https://x", "", "/nowhere/ca.pem")


@pytest.mark.parametrize(
    ("address", "url"),
    [("0.0.0.0", "http://127.0.0.1:4002"), ("::", "http://[::1]:4002"), ("10.0.0.9", "http://10.0.0.9:4002")],
)
def test_an_api_on_all_addresses_is_asked_on_loopback(address: str, url: str) -> None:
    assert access_from_config(PolicyApi(address=address, port=4002), "").url == url


def test_a_token_that_is_given_wins_over_the_configured_one() -> None:
    config = PolicyApi(port=4002, admin_token="configured")
    assert access_from_config(config, "").token == "configured"
    assert access_from_config(config, "given").token == "given"


async def ask(handler: Handler, *, tls: ssl.SSLContext | None = None, ca_file: str = "") -> str:
    """Return what the client makes of a server that answers like this."""
    import asyncio

    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    scheme = "http" if tls is None else "https"
    try:
        await asyncio.to_thread(fetch, access(f"{scheme}://127.0.0.1:{port}", "secret", ca_file))
    except PolicyClientError as error:
        return str(error)
    finally:
        await runner.cleanup()
    return ""


async def test_the_token_follows_no_redirect() -> None:
    asked = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    assert "answers 302: is that a policy API?" in await ask(redirect)
    assert asked == ["/networking/v1/external/policies"]


@pytest.mark.parametrize("body", ["", "[]", "<html>", '{"policies": [{}]}'])
async def test_an_answer_that_is_no_list_of_policies_is_said_to_be_none(body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    assert "what came is not a list of policies" in await ask(answer)


async def test_a_certificate_of_the_given_ca_is_trusted_for_its_name(tmp_path: Path) -> None:
    authority = make_ca("api")

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"policies": []})

    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(authority.pair.certificate)
    good = server_context(issue(authority, ["127.0.0.1"]), tmp_path)
    assert await ask(answer, tls=good, ca_file=str(ca_file)) == ""
    assert "CERTIFICATE_VERIFY_FAILED" in await ask(answer, tls=good)
    misnamed = server_context(issue(authority, ["other.example.com"]), tmp_path)
    assert "CERTIFICATE_VERIFY_FAILED" in await ask(answer, tls=misnamed, ca_file=str(ca_file))
