"""Starting and stopping the listeners, and what must keep them from starting."""

import asyncio
import json
import socket
from typing import Any

import aiohttp
import pytest

from router.certs import issue, make_ca
from router.config import internal
from router.control.internal.hub import InternalHub
from router.control.internal.policy_api import PolicyApi, PolicyApiError, check_exposure, outcome
from router.control.listeners import ListenError
from router.log import Logger
from tests.support.certificates import client_context
from tests.support.policies import MemoryStore, public_pem, signing_key
from tests.support.ports import free_port

CA = make_ca()
SERVER = issue(CA, ["127.0.0.1"])


def made(lines: list[bytes] | None = None, **settings: Any) -> PolicyApi:
    hub = InternalHub(lambda: None)
    hub.set_ready(policies=True)
    sink = (lambda _: None) if lines is None else lines.append
    return PolicyApi(internal.PolicyApi(**settings), MemoryStore(hub), hub, Logger(sink=sink))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_ports_of_zero_start_nothing() -> None:
    lines: list[bytes] = []
    api = made(lines)
    await api.start()
    assert (api.port, api.internal_port, lines) == (0, 0, [])
    await api.close()


async def test_listener_is_told_in_the_log_and_closes_for_good() -> None:
    lines: list[bytes] = []
    api = made(lines, port=(port := free_port()))
    await api.start()
    assert api.port == port
    (line,) = [json.loads(each) for each in lines]
    assert line["message"] == "policy-api-listening"
    assert line["source"] == "gorouter.stdout.policy-api"
    assert line["data"] == {"key": "internal.policy_api.port", "address": "127.0.0.1", "port": port}
    await api.close()
    await api.close()
    assert is_free(port)


async def test_external_api_speaks_tls_with_a_certificate_and_says_so() -> None:
    api = made(port=free_port(), cert_chain=SERVER.certificate, private_key=SERVER.private_key)
    await api.start()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"https://127.0.0.1:{api.port}/", ssl=client_context(CA)) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    await api.close()


async def test_api_listens_on_ipv6() -> None:
    api = made(address="::1", port=free_port())
    await api.start()
    async with aiohttp.ClientSession() as session, session.get(f"http://[::1]:{api.port}/") as answer:
        assert answer.status == 200
    await api.close()


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.1.2.3", "::ffff:127.0.0.1", "localhost", ""])
async def test_api_does_not_start_beyond_loopback_without_authentication(address: str) -> None:
    api = made(address=address, port=free_port())
    with pytest.raises(PolicyApiError) as caught:
        await api.start()
    text = f"beyond loopback ({address}) the API needs jwt_keys, jwks_file or admin_token"
    assert str(caught.value) == f"internal.policy_api.address: {text}"


@pytest.mark.parametrize(
    "authentication", [{"jwt_keys": ["pem"]}, {"jwks_file": "path"}, {"admin_token": "s3cret"}]
)
def test_with_authentication_any_address_will_do(authentication: dict[str, Any]) -> None:
    check_exposure(internal.PolicyApi(address="0.0.0.0", **authentication))


async def test_api_starts_beyond_loopback_with_authentication_and_asks_for_it() -> None:
    api = made(address="0.0.0.0", port=free_port(), jwt_keys=[public_pem(signing_key("one"))])
    await api.start()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{api.port}/networking/v1/external/policies") as answer,
    ):
        assert answer.status == 401
    await api.close()


INTERNAL: dict[str, Any] = {
    "internal_cert_chain": SERVER.certificate,
    "internal_private_key": SERVER.private_key,
    "internal_ca_certs": CA.pair.certificate,
}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"jwt_keys": ["nonsense"]}, "internal.policy_api.jwt_keys[0]: "),
        ({"jwks_file": "/does/not/exist"}, "internal.policy_api.jwks_file: "),
        ({"cert_chain": "nonsense", "private_key": "nonsense"}, "internal.policy_api.cert_chain: "),
        ({"cert_chain": SERVER.certificate}, "internal.policy_api.cert_chain: "),
        ({**INTERNAL, "internal_ca_certs": "nonsense"}, "internal.policy_api.internal_cert_chain: "),
        ({**INTERNAL, "internal_ca_certs": ""}, "internal.policy_api.internal_ca_certs: "),
        ({**INTERNAL, "internal_cert_chain": ""}, "internal.policy_api.internal_cert_chain: "),
    ],
)
async def test_what_cannot_be_used_is_an_error_and_leaves_nothing_open(
    settings: dict[str, Any], text: str
) -> None:
    port = free_port()
    api = made(port=port, internal_port=free_port() if INTERNAL.keys() & settings.keys() else 0, **settings)
    with pytest.raises(PolicyApiError) as caught:
        await api.start()
    assert str(caught.value).startswith(text)
    assert is_free(port)
    assert api.port == 0


async def test_port_in_use_is_an_error_naming_its_key_and_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = free_port()
        api = made(port=port, internal_port=taken.getsockname()[1], **INTERNAL)
        with pytest.raises(ListenError) as caught:
            await api.start()
    assert str(caught.value).startswith("internal.policy_api.internal_port: cannot listen on 127.0.0.1:")
    assert is_free(port)


async def test_long_tokens_are_taken() -> None:
    api = made(port=free_port(), admin_token="t" * 40_000)
    await api.start()
    headers = {"Authorization": "Bearer " + "t" * 40_000}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{api.port}/networking/v1/external/whoami", headers=headers) as answer,
    ):
        assert await answer.read() == b'{"subject":"admin-token"}'
    await api.close()


async def test_malformed_request_is_refused_and_costs_nobody_else_anything() -> None:
    lines: list[bytes] = []
    api = made(lines, port=free_port())
    await api.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"GET / HTTP/9.9\r\n\x00\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    await writer.wait_closed()
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{api.port}/") as answer:
        assert answer.status == 200
    await api.close()
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, "ok"),
        (304, "ok"),
        (400, "refused"),
        (401, "denied"),
        (403, "denied"),
        (404, "refused"),
        (500, "failed"),
    ],
)
def test_status_of_an_answer_is_its_outcome(status: int, expected: str) -> None:
    assert outcome(status) == expected


async def test_answers_are_counted_by_outcome() -> None:
    api = made(port=free_port(), admin_token="token")
    await api.start()
    url = f"http://127.0.0.1:{api.port}/networking/v1/external/policies"
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"Authorization": "Bearer token"}):
            async with session.get(url, headers=headers):
                pass
        async with session.get(f"{url}/none"):
            pass
    await api.close()
    assert api.counters.external == {"ok": 1, "denied": 1, "refused": 1, "failed": 0}
    assert set(api.counters.internal.values()) == {0}
