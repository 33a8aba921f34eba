"""The internal API, over connections with client certificates."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from router.certs import issue, make_ca
from router.config.internal import PolicyApi
from router.control.internal.hub import InternalHub
from router.control.internal.policy_api import PolicyApi as Api
from router.log import Logger
from router.routing.internal_records import Policy
from tests.support.certificates import client_context
from tests.support.policies import MemoryStore, Served
from tests.support.ports import free_port

POLICIES = "/networking/v1/internal/policies"
LAST_UPDATED = "/networking/v1/internal/policies_last_updated"
TAGS = "/networking/v1/internal/tags"
GROUPS = "/networking/v1/internal/security_groups"

CA = make_ca("agents")
SERVER = issue(CA, ["127.0.0.1"], rsa_key=True)
CLIENT = issue(CA, ["agent"], client=True, server=False)
STRANGER = issue(make_ca("others"), ["agent"], client=True, server=False)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


@asynccontextmanager
async def serving(directory: Path, *, ready: bool = True) -> AsyncIterator[Served]:
    """Run the internal API alone, and an agent that may use it."""
    config = PolicyApi(
        internal_port=free_port(),
        internal_cert_chain=SERVER.certificate,
        internal_private_key=SERVER.private_key,
        internal_ca_certs=CA.pair.certificate,
    )
    hub = InternalHub(lambda: None)
    hub.set_ready(policies=ready)
    store = MemoryStore(hub)
    running = Api(config, store, hub, Logger(sink=lambda _: None))
    await running.start()
    assert running.port == 0
    connector = aiohttp.TCPConnector(ssl=client_context(CA, identity=CLIENT, directory=directory))
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Served(f"https://127.0.0.1:{running.internal_port}", store, hub, session)
    finally:
        await running.close()


@pytest.mark.parametrize("version", ["v0", "v1", "v9"])
async def test_policies_have_tags_and_the_shape_of_v1_in_any_version(api: Served, version: str) -> None:
    await api.store.add([Policy("a", "b", "tcp", 80, 90)])
    answer = await api.ask("GET", POLICIES.replace("v1", version))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.body == (
        b'{"total_policies":1,"policies":[{"source":{"id":"a","tag":"0001"},'
        b'"destination":{"id":"b","tag":"0002","protocol":"tcp","ports":{"start":80,"end":90}}}]}'
    )


@pytest.mark.parametrize(
    ("query", "listed"),
    [("", "abc"), ("?id=b", "ab"), ("?id=x,c", "bc"), ("?id=", ""), ("?source_id=a", "abc")],
)
async def test_policies_are_filtered_by_either_side(api: Served, query: str, listed: str) -> None:
    await api.store.add([Policy(each, to, "tcp", 1, 1) for each, to in ("ab", "bc", "ca")])
    found = json.loads((await api.ask("GET", POLICIES + query)).body)
    assert "".join(policy["source"]["id"] for policy in found["policies"]) == listed
    assert found["total_policies"] == len(listed)


async def test_last_update_is_a_bare_number_that_grows_with_every_change(api: Served) -> None:
    answers = []
    for _ in range(2):
        await api.store.add([Policy("a", "b", "tcp", 1, 1)])
        answers.append((await api.ask("GET", LAST_UPDATED)).body)
    assert answers == [b"1", b"2"]


@pytest.mark.parametrize(
    ("path", "text"), [(POLICIES, "database read failed"), (LAST_UPDATED, "getting policies last updated failed")]
)
async def test_policies_that_cannot_be_relied_on_are_an_error(tmp_path: Path, path: str, text: str) -> None:
    async with serving(tmp_path, ready=False) as api:
        answer = await api.ask("GET", path)
    assert (answer.status, answer.body) == (500, f'{{"error": "{text}"}}'.encode())


async def test_tag_of_an_app_in_policies_is_returned(api: Served) -> None:
    await api.store.add([Policy("a", "b", "tcp", 1, 1)])
    answer = await api.ask("PUT", TAGS, b'{"id":"b","type":"app"}')
    assert (answer.status, answer.body) == (200, b'{"id":"b","tag":"0002","type":"app"}')


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b'{"id":"a","type":"router"}', 500, "database create failed"),
        (b'{"id":"unknown","type":"app"}', 500, "database create failed"),
        (b"{", 400, "unmarshal json: "),
        (b'{"id":1}', 400, "unmarshal json: "),
    ],
)
async def test_other_tags_are_refused(api: Served, body: bytes, status: int, text: str) -> None:
    await api.store.add([Policy("a", "b", "tcp", 1, 1)])
    answer = await api.ask("PUT", TAGS, body)
    assert answer.status == status
    assert json.loads(answer.body)["error"].startswith(text)


@pytest.mark.parametrize("query", ["", "?limit=10&from=5&space_guids=s1", "?limit=&from=", "?per_page=x"])
async def test_there_are_no_security_groups(api: Served, query: str) -> None:
    answer = await api.ask("GET", GROUPS + query)
    assert (answer.status, answer.body) == (200, b'{"next":0,"security_groups":[]}')


@pytest.mark.parametrize("query", ["?limit=x", "?from=-1", "?limit=%C2%B2"])
async def test_bad_number_in_a_query_for_security_groups_is_an_error(api: Served, query: str) -> None:
    answer = await api.ask("GET", GROUPS + query)
    name = query[1:].partition("=")[0]
    assert (answer.status, answer.body) == (
        500,
        f'{{"error": "invalid value for \'{name}\' parameter"}}'.encode(),
    )


@pytest.mark.parametrize("path", ["/", "/health", "/networking/v1/external/policies", f"{POLICIES}/x"])
async def test_other_paths_are_not_found(api: Served, path: str) -> None:
    answer = await api.ask("GET", path)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


@pytest.mark.parametrize("identity", [None, STRANGER, SERVER])
async def test_client_without_a_certificate_of_the_agents_ca_gets_no_answer(
    api: Served, identity: object, tmp_path: Path
) -> None:
    shown = identity if identity is None else STRANGER if identity is STRANGER else SERVER
    context = client_context(CA, identity=shown, directory=tmp_path)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(api.url + POLICIES, ssl=context)
    assert (await api.ask("GET", POLICIES)).status == 200


async def test_internal_port_does_not_speak_plain_http(api: Served) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(api.url.replace("https", "http") + POLICIES)
