"""The two HTTP APIs for internal names: real listeners, real client certificates."""

import json
import random
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from router.certs import Pair, issue, make_ca
from router.config import internal
from router.control.internal.discovery_api import NAMES_PER_PIECE, DiscoveryApi, _document, names_json
from router.control.internal.hub import InternalHub
from router.control.listeners import ListenError
from router.log import Logger
from router.routing.internal_records import DropName, NameEntry, PutName
from router.tls import TlsError
from tests.support.certificates import client_context
from tests.support.ports import free_port

CA = make_ca("resolvers")
SERVER = issue(CA, ["127.0.0.1"], rsa_key=True)
CLIENT = issue(CA, ["adapter"], client=True, server=False)
STRANGER = issue(make_ca("others"), ["adapter"], client=True, server=False)
TLS: dict[str, Any] = {
    "cert_chain": SERVER.certificate,
    "private_key": SERVER.private_key,
    "ca_certs": CA.pair.certificate,
}

NAME = "x.apps.internal"
IPS = ["10.255.1.1", "10.255.1.2", "10.255.1.3"]


@dataclass
class Reply:
    status: int
    body: bytes
    headers: dict[str, str]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A running API, both listeners, and the names it answers from."""

    api: DiscoveryApi
    hub: InternalHub
    controller_port: int
    adapter_port: int
    session: aiohttp.ClientSession
    directory: Path

    def put(self, name: str, *ips: str) -> None:
        self.hub.put(PutName(name, [NameEntry(ip, "app") for ip in ips]))

    async def controller(
        self, path: str, method: str = "GET", identity: Pair | None = CLIENT, version: ssl.TLSVersion | None = None
    ) -> Reply:
        """Ask the controller's API with a client certificate, perhaps in one version of TLS only."""
        context = client_context(CA, identity=identity, directory=self.directory)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return await self._ask(method, f"https://127.0.0.1:{self.controller_port}{path}", ssl=context)

    async def adapter(self, path: str, method: str = "GET") -> Reply:
        return await self._ask(method, f"http://127.0.0.1:{self.adapter_port}{path}")

    async def _ask(self, method: str, url: str, **options: Any) -> Reply:
        async with self.session.request(method, URL(url, encoded=True), **options) as answer:
            return Reply(answer.status, await answer.read(), dict(answer.headers))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    hub = InternalHub(lambda: None)
    hub.set_ready(names=True)
    ports = free_port(), free_port()
    config = internal.DiscoveryApi(address="127.0.0.1", port=ports[0], adapter_port=ports[1], **TLS)
    api = DiscoveryApi(config, hub, Logger(sink=lambda _: None), rng=random.Random(1))
    await api.start()
    # Every request has a connection of its own, so that every one has a handshake.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        made = Served(api, hub, *ports, session, tmp_path)
        made.put(NAME, *IPS)
        yield made
    await api.close()


# The controller's API.


def host(ip: str) -> dict[str, Any]:
    return {
        "ip_address": ip,
        "last_check_in": "",
        "port": 0,
        "revision": "",
        "service": "",
        "service_repo_name": "",
        "tags": {},
    }


@pytest.mark.parametrize(
    "path",
    [
        "x.apps.internal",
        "x.apps.internal.",
        "X.Apps.Internal",
        "x%2Eapps.internal",
        "x.apps.internal/",
        "any/thing/x.apps.internal",
        "x.apps.internal?ignored=1",
    ],
)
async def test_name_is_answered_with_all_its_hosts_in_order(served: Served, path: str) -> None:
    answer = await served.controller(f"/v1/registration/{path}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.json() == {"hosts": [host(ip) for ip in IPS], "env": "", "service": ""}


@pytest.mark.parametrize("name", ["y.apps.internal", "0.x.apps.internal", "internal", "", "%22%0A%FF", "."])
async def test_unknown_name_has_no_hosts(served: Served, name: str) -> None:
    answer = await served.controller(f"/v1/registration/{name}")
    assert (answer.status, answer.body) == (200, b'{"hosts":[],"env":"","service":""}')


async def test_cold_names_are_an_error(served: Served) -> None:
    served.hub.set_ready(names=False)
    answer = await served.controller(f"/v1/registration/{NAME}")
    assert (answer.status, answer.body) == (500, b"address table is not warm\n")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PROPFIND"])
async def test_method_is_not_looked_at(served: Served, method: str) -> None:
    assert (await served.controller(f"/v1/registration/{NAME}", method)).json()["hosts"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/registration", "/v2/registration/x", "/routes/", "/health"])
async def test_other_paths_are_not_found(served: Served, path: str) -> None:
    answer = await served.controller(path)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


async def test_all_names_are_listed_even_while_they_are_cold(served: Served) -> None:
    served.put("y.apps.internal", "10.255.2.1")
    served.hub.set_ready(names=False)
    answer = await served.controller("/routes")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.json() == {
        "addresses": [
            {"hostname": "x.apps.internal.", "ips": IPS},
            {"hostname": "y.apps.internal.", "ips": ["10.255.2.1"]},
        ]
    }


async def test_list_of_no_names_is_empty(served: Served) -> None:
    served.hub.put(DropName(NAME))
    assert (await served.controller("/routes")).body == b'{"addresses":[]}'


def test_long_list_is_made_in_pieces_and_may_lose_names_meanwhile() -> None:
    hub = InternalHub(lambda: None)
    names = [f"n{number}.apps.internal" for number in range(3 * NAMES_PER_PIECE)]
    for name in names:
        hub.put(PutName(name, [NameEntry("10.255.1.1", "app")]))
    pieces = names_json(hub.table)
    document = next(pieces) + next(pieces)
    for name in names[: 2 * NAMES_PER_PIECE]:
        hub.put(DropName(name))
    document += b"".join(pieces)
    listed = [each["hostname"] for each in json.loads(document)["addresses"]]
    assert listed == [f"{name}." for name in names[:NAMES_PER_PIECE] + names[2 * NAMES_PER_PIECE :]]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_client_with_a_certificate_is_let_in(served: Served, version: ssl.TLSVersion) -> None:
    assert (await served.controller("/routes", version=version)).status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("identity", [None, STRANGER], ids=["none", "of another CA"])
async def test_client_without_a_certificate_gets_no_answer(
    served: Served, identity: Pair | None, version: ssl.TLSVersion
) -> None:
    with pytest.raises(aiohttp.ClientError):
        await served.controller("/routes", identity=identity, version=version)
    assert (await served.controller("/routes")).status == 200


# The adapter's API.


def document(name: str, kind: int | str, *ips: str, status: int = 0) -> dict[str, Any]:
    return {
        "Status": status,
        "TC": False,
        "RD": False,
        "RA": False,
        "AD": False,
        "CD": False,
        "Question": [{"name": name, "type": kind}],
        "Answer": [{"name": name, "type": kind, "TTL": 0, "data": ip} for ip in ips],
        "Additional": [],
        "edns_client_subnet": "0.0.0.0/0",
    }


@pytest.mark.parametrize("path", ["/", "/dns-query", "/any/path"])
@pytest.mark.parametrize("kind", ["type=1&", "type=&", ""])
async def test_adapter_answers_on_any_path(served: Served, path: str, kind: str) -> None:
    served.put(NAME, IPS[0])
    answer = await served.adapter(f"{path}?{kind}name={NAME}.")
    assert answer.status == 200
    assert answer.json() == document(f"{NAME}.", 1, IPS[0])


async def test_name_is_echoed_as_it_was_asked_for(served: Served) -> None:
    served.put(NAME, IPS[0])
    answer = await served.adapter("/?type=1&name=X.apps.INTERNAL&name=other")
    assert answer.json() == document("X.apps.INTERNAL", 1, IPS[0])


async def test_unknown_name_has_no_answers(served: Served) -> None:
    answer = await served.adapter("/?type=1&name=y.apps.internal.")
    assert (answer.status, answer.json()) == (200, document("y.apps.internal.", 1))


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("28", 28),
        ("16", 16),
        ("33", 33),
        ("65535", 65535),
        ("01", "01"),
        ("-1", "-1"),
        ("A", "A"),
        ("9" * 50, "9" * 50),
    ],
)
async def test_other_types_have_no_answers(served: Served, kind: str, shown: int | str) -> None:
    answer = await served.adapter(f"/?type={kind}&name={NAME}")
    assert (answer.status, answer.json()) == (200, document(NAME, shown))
    assert (await served.adapter(f"/?type={kind}")).json() == document("", shown)


@pytest.mark.parametrize("query", ["?type=1", "?type=1&name=", "?name=", ""])
async def test_question_without_a_name_is_a_mistake(served: Served, query: str) -> None:
    answer = await served.adapter(f"/{query}")
    assert (answer.status, answer.json()) == (400, document("", 1, status=2))


@pytest.mark.parametrize(
    ("query", "name", "kind"),
    [
        ("name=%22%7D%5D&type=1", '"}]', 1),
        ("name=a%0Ab&type=%22%2C%22x", "a\nb", '","x'),
        ("name=%5C%E2%80%A8&type=28", "\\\u2028", 28),
    ],
)
async def test_nothing_can_be_smuggled_into_an_answer(
    served: Served, query: str, name: str, kind: int | str
) -> None:
    assert (await served.adapter(f"/?{query}")).json() == document(name, kind)


@pytest.mark.parametrize("octets", ["%FF", "%ED%A0%80", "%00", "%", "%u0041"])
async def test_bytes_that_are_no_text_get_an_answer(served: Served, octets: str) -> None:
    for query in (f"type=1&name={octets}", f"type={octets}&name={octets}"):
        answer = await served.adapter(f"/?{query}")
        assert (answer.status, answer.json()["Answer"]) == (200, [])


def test_name_that_cannot_be_encoded_is_answered_with_a_replacement() -> None:
    # As a parser in pure Python lets it through.
    assert _document("a\udcff", "\udcff", [])["Question"] == [{"name": "a?", "type": "?"}]


async def test_every_order_of_addresses_comes_up(served: Served) -> None:
    orders: Counter[tuple[str, ...]] = Counter()
    for _ in range(150):
        answers = (await served.adapter(f"/?name={NAME}")).json()["Answer"]
        orders[tuple(answer["data"] for answer in answers)] += 1
    assert len(orders) == 6
    assert set(next(iter(orders))) == set(IPS)


async def test_addresses_of_ipv6_are_no_answer_to_a_question_for_ipv4(served: Served) -> None:
    served.put(NAME, "fd00::1", IPS[0])
    assert (await served.adapter(f"/?name={NAME}")).json() == document(NAME, 1, IPS[0])


async def test_adapter_fails_while_names_are_cold_but_for_what_it_knows_anyway(served: Served) -> None:
    served.hub.set_ready(names=False)
    answer = await served.adapter(f"/?type=1&name={NAME}")
    assert (answer.status, answer.body) == (500, b"address table is not warm\n")
    assert (await served.adapter(f"/?type=28&name={NAME}")).status == 200
    assert (await served.adapter("/?type=1")).status == 400
    assert served.api.counters.adapter_failures == 1


async def test_adapter_is_healthy(served: Served) -> None:
    served.hub.set_ready(names=False)
    answer = await served.adapter("/health")
    assert (answer.status, answer.body) == (200, b"")


async def test_requests_are_counted(served: Served) -> None:
    await served.controller(f"/v1/registration/{NAME}")
    await served.controller("/routes")
    await served.adapter(f"/?name={NAME}")
    await served.adapter("/?type=28")
    await served.adapter("/health")
    counters = served.api.counters
    assert counters.as_dict() == {"controller": 1, "controller_failures": 0, "adapter": 2, "adapter_failures": 0}


# The listeners.


def api(lines: list[bytes] | None = None, **settings: Any) -> DiscoveryApi:
    sink = (lambda _: None) if lines is None else lines.append
    config = internal.DiscoveryApi(**{"address": "127.0.0.1", **settings})
    return DiscoveryApi(config, InternalHub(lambda: None), Logger(sink=sink))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_ports_of_zero_start_nothing() -> None:
    lines: list[bytes] = []
    made = api(lines)
    await made.start()
    await made.close()
    assert lines == []


async def test_listeners_are_told_in_the_log_and_closed_for_good() -> None:
    lines: list[bytes] = []
    ports = free_port(), free_port()
    made = api(lines, port=ports[0], adapter_port=ports[1], **TLS)
    await made.start()
    await made.close()
    await made.close()
    assert [json.loads(line)["data"] for line in lines] == [
        {"key": "internal.discovery_api.port", "address": "127.0.0.1", "port": ports[0]},
        {"key": "internal.discovery_api.adapter_port", "address": "127.0.0.1", "port": ports[1]},
    ]
    assert all(map(is_free, ports))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"ca_certs": ""}, "internal.discovery_api.ca_certs: the discovery API needs the CA of clients"),
        ({"ca_certs": "nonsense"}, "internal.discovery_api.cert_chain: "),
        ({"private_key": "nonsense"}, "internal.discovery_api.cert_chain: "),
        ({"cert_chain": ""}, "internal.discovery_api.cert_chain: "),
    ],
)
async def test_unusable_certificates_are_named_and_leave_nothing_open(settings: dict[str, Any], text: str) -> None:
    made = api(port=(port := free_port()), **{**TLS, **settings})
    with pytest.raises(TlsError) as caught:
        await made.start()
    assert str(caught.value).startswith(text)
    assert is_free(port)


async def test_port_that_is_taken_is_named_and_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        taken_port = taken.getsockname()[1]
        made = api(port=(port := free_port()), adapter_port=taken_port, **TLS)
        with pytest.raises(ListenError) as caught:
            await made.start()
    key = "internal.discovery_api.adapter_port"
    assert str(caught.value) == f"{key}: cannot listen on 127.0.0.1:{taken_port}: Address already in use"
    assert is_free(port)
