"""The pitfalls of INTERNAL.md §4.6 on a running router with containers, row by row and in its order.

The rows "SNI ≠ Host" and "Wrong CA" are in test_internal_certificates.
"""

import contextlib
import itertools
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dnslib import EDNS0, DNSRecord, EDNSOption  # type: ignore[import-untyped]

from tests.support.inside import CONTAINERS, NAME, PORT, ROUTERS, UPGRADE, Platform
from tests.support.needs import needs
from tests.support.rawclient import RawClient
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

FRONT, BACK, OTHER = (CONTAINERS[name] for name in ("front", "back", "other"))
ROUTER = ROUTERS["rtr"]
NOTHING: tuple[str, list[str]] = ("NOERROR", [])
CANARY = "10.255.9.9"
"""A container that is only spoken of."""
UDP_PORT = 5353

PROXY_V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
    + socket.inet_aton(FRONT)
    + socket.inet_aton(ROUTER)
    + struct.pack("!HH", 40000, 80)
)

_numbers = itertools.count(1)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with Platform(tmp_path) as running:
        running.furnish()
        yield running


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Platform]:
    """The router runs where the containers' packets are forwarded."""
    with Platform(tmp_path, on_host=True) as running:
        running.furnish()
        yield running


def identified(platform: Platform) -> dict[str, str]:
    """Return the app of each address that has an identity."""
    return {each["ip"]: each["app"] for each in platform.facts()["identities"]}


def settle(platform: Platform) -> None:
    """Wait until everything that agents and emitters have said so far is heard."""
    app = f"canary-{next(_numbers)}"
    platform.identify("none", address=CANARY, app=app, generation=next(_numbers))
    platform.announce("none", f"{app}.apps.internal", host=CANARY, app=app)
    wait_until(lambda: identified(platform).get(CANARY) == app, "identities are heard")
    wait_until(lambda: f"{app}.apps.internal" in platform.facts()["names"], "names are heard")


def upgraded(platform: Platform) -> RawClient:
    """Return a WebSocket from front to back that echoes."""
    client = platform.client("front")
    assert client.get(host=NAME, headers=UPGRADE).status == 101
    client.send(b"echo")
    assert client.read_exactly(4) == b"echo"
    return client


# Spoofed source.

SEND = """
import socket, sys
source, destination, port, text = sys.argv[1:]
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.bind((source, 0))
sender.sendto(text.encode(), (destination, int(port)))
"""


def send_udp(platform: Platform, source: str, text: str) -> None:
    """Let `other` send back a datagram from one of its addresses."""
    command = [sys.executable, "-c", SEND, source, BACK, str(UDP_PORT), text]
    assert platform.cell.run("other", command).stderr == ""


def take_address_of_front(platform: Platform) -> None:
    """Let `other` have front's address too, on a host that does not look where packets come from."""
    assert platform.cell.run("other", [needs("ip"), "addr", "add", f"{FRONT}/32", "dev", "eth0"]).returncode == 0
    for interface in ("all", "s-other"):
        platform.on_host("sysctl", "-qw", f"net.ipv4.conf.{interface}.rp_filter=0")


def allow_udp(platform: Platform, source: str) -> None:
    target = {"id": "back", "protocol": "udp", "ports": {"start": UDP_PORT, "end": UDP_PORT}}
    policy = {"source": {"id": source}, "destination": target}
    assert platform.api("POST", "external/policies", {"policies": [policy]})[0] == 200


def load_rules(platform: Platform) -> None:
    config = str(platform.routers["cell"].config_file)
    platform.on_host(sys.executable, "-m", "router", "policy", "nft", "-c", config, "--apply")


@contextlib.contextmanager
def listening_for_udp(platform: Platform) -> Iterator[socket.socket]:
    with platform.cell.inside("back"):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver:
        receiver.bind((BACK, UDP_PORT))
        receiver.settimeout(60)
        yield receiver


def test_spoofed_source_is_dropped_by_the_kernel_rules_even_for_udp(host: Platform) -> None:
    needs("nft")
    take_address_of_front(host)
    for app in ("front", "other"):
        allow_udp(host, app)
    with listening_for_udp(host) as receiver:
        send_udp(host, FRONT, "no rules")
        text, (source, _) = receiver.recvfrom(100)
        assert (text, source) == (b"no rules", FRONT), "this network delivers what is spoofed"
        load_rules(host)
        send_udp(host, FRONT, "spoofed")
        send_udp(host, OTHER, "honest")
        assert receiver.recv(100) == b"honest"


def test_spoofed_source_gets_no_answer_from_the_router(platform: Platform) -> None:
    take_address_of_front(platform)
    with platform.cell.inside("other"):
        liar = socket.socket()
    with liar:
        liar.settimeout(0.3)
        liar.bind((FRONT, 0))
        with pytest.raises(TimeoutError):
            liar.connect((ROUTER, 80))


CLAIMS = (
    f"X-Forwarded-For: {FRONT}\r\n",
    f"Forwarded: for={FRONT}\r\nX-Real-Ip: {FRONT}\r\nX-Client-Ip: {FRONT}\r\n",
    "X-Cf-Caller-App: front\r\nX-Cf-Caller-Instance: front-0\r\n",
    f'X-Forwarded-Client-Cert: Subject="OU=app:front,CN=front-0";IP={FRONT}\r\n',
)


def test_source_that_is_claimed_in_a_header_is_not_believed(platform: Platform) -> None:
    for claim in CLAIMS:
        assert platform.get("other", headers=claim) == 403, claim
        assert platform.get("none", headers=claim) == 403, claim


def test_source_that_is_claimed_by_the_proxy_protocol_is_not_believed(tmp_path: Path) -> None:
    """What load balancers may say on the public listeners, containers may not."""
    with Platform(tmp_path, keys={"enable_proxy": True}) as platform:
        platform.furnish()
        for line in (f"PROXY TCP4 {FRONT} {ROUTER} 40000 80\r\n".encode(), PROXY_V2):
            with platform.client("other") as client:
                client.send(line + f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
                assert b" 200 OK" not in client.read_until_end()
        heard = platform.services["back"].heard
        assert {request.get("X-Cf-Caller-App") for request in heard} == {"front"}
        assert len(heard) == 1, "that of furnish alone"


# Identity lost by NAT.


MASQUERADE = """
table ip nat {{
    chain out {{
        type nat hook postrouting priority srcnat;
        ip saddr {} masquerade;
    }}
}}
"""


def test_callers_behind_address_translation_are_nobody(platform: Platform) -> None:
    platform.on_host("nft", "-f", "-", text=MASQUERADE.format(FRONT))
    assert platform.get("front") == 403
    assert platform.ask("front") == ("REFUSED", [])

    def unknown() -> list[str]:
        denied = platform.log_of("internal-request-denied")
        return [each["source"] for each in denied if each["reason"] == "unknown-source"]

    wait_until(lambda: [each for each in unknown() if not each.startswith(FRONT)], "the denial in the log")


def test_addresses_that_many_share_are_refused_as_identities(tmp_path: Path) -> None:
    gateway = "10.255.1.1"
    with Platform(tmp_path, config={"identities": {"excluded": [gateway, "10.255.7.0/24"]}}) as platform:
        for address in (gateway, "10.255.7.8", ROUTER, "127.0.0.1", "169.254.0.1", "192.0.2.1"):
            platform.identify("front", address=address)
        settle(platform)
        assert set(identified(platform)) == {CANARY}


def test_client_subnet_of_a_query_is_not_believed(platform: Platform) -> None:
    query = DNSRecord.question(NAME)
    subnet = EDNSOption(8, b"\x00\x01\x20\x00" + socket.inet_aton(FRONT))
    query.add_ar(EDNS0(flags="", udp_len=1232, opts=[subnet]))
    with platform.asker("other") as asker:
        assert DNSRecord.parse(asker.exchange(query.pack())).rr == []
    with platform.asker("front") as asker:
        assert DNSRecord.parse(asker.exchange(query.pack())).rr != []


# Host-network containers.


def test_container_in_the_hosts_network_is_nobody(platform: Platform) -> None:
    platform.identify("front", address="169.254.0.1", app="front")
    settle(platform)
    with platform.cell.inside("cell"):
        caller = RawClient(80, host=ROUTER)
    with caller:
        assert caller.get(host=NAME).status == 403
    shown = platform.on_host("dig", "+tries=1", NAME, f"@{ROUTER}")
    assert "status: REFUSED" in shown


# Stale destination address.


def test_stale_destination_that_is_another_apps_now_is_not_sent_to(platform: Platform) -> None:
    platform.policy("policies", destination="tenant")
    with upgraded(platform) as live:
        platform.identify("back", PORT, app="tenant", generation=2)
        live.read_until_end()
    settle(platform)
    requests = len(platform.services["back"].heard)
    assert platform.get("front") == 403
    assert platform.ask("front") == NOTHING
    assert len(platform.services["back"].heard) == requests
    assert NAME in platform.facts()["names"], "the old announcement is still there"


def test_stale_destination_without_a_container_is_not_sent_to(platform: Platform) -> None:
    platform.forget("back")
    settle(platform)
    wait_until(lambda: platform.get("front") == 403, "the worker has heard it too")
    assert platform.ask("front") == NOTHING


# Stale source address.


def test_stale_source_leaves_no_rights_to_the_next_container(platform: Platform) -> None:
    with platform.client("front") as kept, upgraded(platform) as live:
        assert kept.get(host=NAME).status == 200
        platform.identify("front", app="tenant", generation=2)
        live.read_until_end()
        assert kept.get(host=NAME).status == 403
    platform.identify("front", generation=1, agent="late")
    settle(platform)
    assert identified(platform)[FRONT] == "tenant", "an older container does not come back"
    assert platform.get("front") == 403


# Tag reuse.


def test_tag_is_not_given_to_the_next_app_at_once(platform: Platform) -> None:
    def tags() -> dict[str, str]:
        return {each["id"]: each["tag"] for each in platform.api("GET", "external/tags")[1]["tags"]}

    before = tags()
    platform.policy("policies/delete")
    platform.policy("policies", "newcomer", "target")
    assert set(tags()) == {"newcomer", "target"}
    assert not set(tags().values()) & set(before.values())


# From resolving to connecting.


def test_answer_of_dns_gives_no_right_to_connect(platform: Platform) -> None:
    _, (address,) = platform.ask("front")
    with platform.client("front") as connected:
        platform.policy("policies/delete")
        wait_until(lambda: platform.ask("front") == NOTHING, "the name is gone")
        wait_until(lambda: platform.get("front") == 403, "new connections are denied")
        assert connected.get(host=NAME).status == 403, "and so are those from before"
    assert address == ROUTER


def test_address_that_dns_never_told_gives_no_right_either(platform: Platform) -> None:
    assert platform.ask("other") == NOTHING
    assert platform.get("other") == 403


# Established flows.


def test_established_flow_ends_with_its_policy(platform: Platform) -> None:
    with upgraded(platform) as live:
        platform.policy("policies/delete")
        assert live.read_until_end() == b""
    wait_until(lambda: platform.services["back"].live == 0, "the instance is let go")


def test_established_flow_outlives_changes_that_do_not_concern_it(platform: Platform) -> None:
    with upgraded(platform) as live:
        platform.policy("policies", "other")
        wait_until(lambda: platform.get("other") == 200, "the change acts")
        platform.policy("policies/delete", "other")
        wait_until(lambda: platform.get("other") == 403, "and the next")
        live.send(b"still here")
        assert live.read_exactly(10) == b"still here"


# Client DNS caches.


def test_client_that_keeps_an_answer_for_ever_is_denied_all_the_same(platform: Platform) -> None:
    cached = platform.ask("front")[1][0]
    platform.policy("policies/delete")
    wait_until(lambda: platform.get("front") == 403, "the change acts")
    with platform.cell.inside("front"):
        client = RawClient(80, host=cached)
    with client:
        assert client.get(host=NAME).status == 403
    platform.policy("policies")
    wait_until(lambda: platform.get("front") == 200, "what is cached serves again")


def test_answers_are_not_to_be_kept(platform: Platform) -> None:
    with platform.asker("front") as asker:
        answer = DNSRecord.parse(asker.exchange(DNSRecord.question(NAME).pack()))
    assert [record.ttl for record in answer.rr] == [0]


# DNS rebinding.


def public_status(platform: Platform, host: str) -> int:
    with platform.client("none", port=8888) as client:
        return client.get(host=host).status


def test_internal_name_on_the_public_listener_is_unknown(platform: Platform) -> None:
    platform.announce_in_public("back", NAME)
    platform.announce_in_public("back", "app.test")
    wait_until(lambda: public_status(platform, "app.test") == 200, "public routes are served")
    for spelling in (NAME, NAME.upper(), f"{NAME}.", f"{NAME}:80", f"0.{NAME}"):
        assert public_status(platform, spelling) == 404


def test_public_name_that_leads_to_a_container_is_not_served_inside(platform: Platform) -> None:
    platform.announce_in_public("back", "rebound.test")
    platform.announce("back", "rebound.test")
    settle(platform)
    wait_until(lambda: public_status(platform, "rebound.test") == 200, "the public route is served")
    assert platform.get("front", "rebound.test") == 403
    assert platform.get("front", BACK) == 403
    assert platform.ask("front", "rebound.test") == ("REFUSED", [])
    assert "rebound.test" not in platform.facts()["names"]


# SSRF via registration.


def test_registration_of_addresses_that_are_no_containers_is_refused(platform: Platform) -> None:
    hosts = [
        "127.0.0.1",
        "169.254.169.254",
        ROUTER,
        "10.254.0.9",
        "0.0.0.0",
        "::1",
        "localhost",
        "back",
        "8.8.8.8",
    ]
    for number, address in enumerate(hosts):
        platform.announce("back", f"ssrf-{number}.apps.internal", host=address)
    settle(platform)
    assert not [name for name in platform.facts()["names"] if name.startswith("ssrf")]
    assert {platform.get("front", f"ssrf-{number}.apps.internal") for number in range(len(hosts))} == {403}


# Name hijack over NATS. That only emitters may announce: tests/control/internal/test_nats_permissions.


def test_name_that_another_container_takes_for_itself_leads_nobody_astray(platform: Platform) -> None:
    thief = platform.serve("other")
    platform.identify("other", PORT, generation=2)
    for app in ("back", "other", ""):
        platform.announce("other", NAME, app=app)
        settle(platform)
        assert len(platform.facts()["names"][NAME]) == 2
        assert {platform.get("front") for _ in range(10)} == {200}
    assert thief.heard == []


# Query amplification and enumeration.


def test_stranger_gets_no_more_bytes_than_it_sends(platform: Platform) -> None:
    query = DNSRecord.question(NAME).pack()
    with platform.asker("none") as asker:
        answer = asker.exchange(query)
    assert len(answer) <= len(query)
    assert platform.ask("none", "unknown.apps.internal") == ("REFUSED", [])


def test_forbidden_name_gets_the_bytes_of_an_unknown_one(platform: Platform) -> None:
    unknown = "unknown.apps.internal"
    assert len(unknown) == len(NAME)
    with platform.asker("other") as asker:
        queries = [DNSRecord.question(name) for name in (NAME, unknown)]
        for query in queries:
            query.header.id = 7
        forbidden, nothing = (asker.exchange(query.pack()) for query in queries)
    assert forbidden.replace(b"backend", b"unknown") == nothing


def test_queries_of_one_source_beyond_the_rate_cost_others_nothing(tmp_path: Path) -> None:
    with Platform(tmp_path, config={"dns": {"queries_per_second": 5}}) as platform:
        platform.identify("front")
        platform.identify("other")
        settle(platform)
        with platform.cell.inside("other"):
            flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with flood:
            flood.settimeout(60)
            flood.connect((ROUTER, 53))
            for number in range(200):
                query = DNSRecord.question(NAME)
                query.header.id = number + 1
                flood.send(query.pack())
            assert platform.ask("front") == NOTHING
            # Everything before this answer has been dealt with: one socket serves all, one after another.
            assert 1 <= datagrams_in(flood) < 100


def datagrams_in(received: socket.socket) -> int:
    """Return how many datagrams have arrived."""
    received.setblocking(False)
    found = 0
    with contextlib.suppress(BlockingIOError):
        while received.recv(65536):
            found += 1
    return found


# Spellings.


IDNA = "xn--bckend-bua.apps.internal"
OTHER_NAMES = (
    "b\u00e4ckend.apps.internal",
    "bac\u212aend.apps.internal",
    f"{NAME}..",
    f".{NAME}",
    f"{NAME}%2e",
    f"x@{NAME}",
    f"{NAME}\u3002",
)
"""Each of them is `NAME` or `IDNA` to some software."""


def test_name_is_the_same_in_all_its_spellings(platform: Platform) -> None:
    platform.announce("back", f"{IDNA.upper()}.")
    settle(platform)
    wait_until(lambda: platform.get("front", IDNA) == 200, "the worker has heard it too")
    for name in (NAME.upper(), f"{NAME}.", IDNA, IDNA.title()):
        assert platform.ask("front", name) == ("NOERROR", [ROUTER]), name
        for host in (name, f"{name}:80", f"{name}:8080"):
            assert platform.get("front", host) == 200, host


def test_what_only_looks_like_the_name_is_not_it(platform: Platform) -> None:
    platform.announce("back", IDNA)
    settle(platform)
    served = len(platform.services["back"].heard)
    for name in OTHER_NAMES:
        with platform.client("front") as client:
            client.send(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            assert client.read_response().status in (400, 403), name
    assert len(platform.services["back"].heard) == served


def test_mapped_addresses_are_the_ipv4_ones(platform: Platform) -> None:
    platform.identify("other", address=f"::ffff:{OTHER}", app="front", generation=2)
    settle(platform)
    assert identified(platform)[OTHER] == "front"
    wait_until(lambda: platform.get("other") == 200, "the worker has heard it too")
    with platform.cell.inside("other"):
        mapped = socket.socket(socket.AF_INET6)
    with mapped:
        mapped.settimeout(60)
        mapped.connect((f"::ffff:{ROUTER}", 80))
        mapped.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
        assert mapped.recv(100).startswith(b"HTTP/1.1 200")


# Confused deputy.


def test_deputy_is_the_caller_whoever_has_asked_it(platform: Platform) -> None:
    """Policies are between apps: an app that passes requests on does so under its own name and rights."""
    claims = "X-Cf-Caller-App: other\r\nX-Cf-Caller-Instance: other-0\r\n"
    assert platform.get("front", headers=claims) == 200
    heard = platform.services["back"].heard[-1]
    assert heard.get_all("X-Cf-Caller-App") == ["front"]
    assert heard.get_all("X-Cf-Caller-Instance") == ["front-0"]


def test_forwarded_headers_that_an_app_gets_are_the_routers_own(platform: Platform) -> None:
    claims = (
        "X-Forwarded-For: 1.2.3.4\r\nx-forwarded-for: 4.3.2.1\r\nX_Forwarded_For: 1.2.3.4\r\n"
        "X-Forwarded-Proto: https\r\nX-FORWARDED-HOST: admin.test\r\nX-Forwarded-Client-Cert: forged\r\n"
    )
    with platform.client("front") as client:
        for _ in range(3):
            assert client.get(host=NAME, headers=claims).status == 200
    for heard in platform.services["back"].heard[-3:]:
        forwarded = {name.lower(): value for name, value in heard.items() if "forwarded" in name.lower()}
        assert forwarded == {"x-forwarded-for": FRONT, "x-forwarded-proto": "http"}
