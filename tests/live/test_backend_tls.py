"""TLS to instances: whom the router talks to is proven, and each way of failing has its status."""

import datetime
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from router.certs import Authority, Pair, issue, make_ca
from tests.live.conftest import Live, StartLive
from tests.support.certificates import server_context
from tests.support.odd_certificates import dns, make
from tests.support.ports import free_port
from tests.support.rawclient import RawClient
from tests.support.recorder import Conversation, MakeBackend, RecordingBackend, named, plain
from tests.support.waiting import wait_until

BAD_GATEWAY = b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"


class Identity:
    """Certificates of the instances of one platform, and contexts made of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority: Authority = make_ca("instance CA")
        self.router = issue(self.authority, ["router"], client=True, server=False)

    def context(self, pair: Pair) -> ssl.SSLContext:
        return server_context(pair, self.directory)

    def named(self, *names: str) -> ssl.SSLContext:
        return self.context(issue(self.authority, list(names)))

    def demanding_client_certificate(self, trusted: Authority) -> ssl.SSLContext:
        context = self.named("instance-1")
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=trusted.pair.certificate)
        return context


Setup = Callable[[Identity], ssl.SSLContext]


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return Identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="module")
def tls_live(start_live: StartLive, identity: Identity) -> Live:
    pair = identity.router
    return start_live(
        {
            "ca_certs": [identity.authority.pair.certificate],
            "backends": {"cert_chain": pair.certificate, "private_key": pair.private_key},
            "empty_pool_response_code_503": True,
        }
    )


@pytest.fixture(scope="module")
def bare(start_live: StartLive, identity: Identity) -> Live:
    """A router that has no certificate to show to instances."""
    return start_live({"ca_certs": [identity.authority.pair.certificate], "empty_pool_response_code_503": True})


@pytest.fixture
def client(tls_live: Live) -> Iterator[RawClient]:
    with tls_live.client() as connected:
        yield connected


def test_instance_is_known_by_its_announced_name(
    tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    backend = make_backend(plain, tls=identity.named("instance-1"))
    host = tls_live.route(backend, server_cert_domain_san="instance-1")
    for _ in range(3):
        client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello".encode())
        assert client.read_response().body == b"ok"
    assert [request.body for request in backend.requests] == [b"hello"] * 3
    assert [request.header("X-Forwarded-Proto") for request in backend.requests] == ["http"] * 3
    assert len(backend.conversations) == 1, "TLS connections are reused too"


def test_instance_without_announced_name_is_known_by_its_address(
    tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    host = tls_live.route(make_backend(plain, tls=identity.named("x", "127.0.0.1")))
    assert client.get(host=host).status == 200


def test_large_bodies_pass_over_tls(
    tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    backend = make_backend(
        lambda conversation: conversation.answer(conversation.read_request().body),
        tls=identity.named("instance-1"),
    )
    host = tls_live.route(backend, server_cert_domain_san="instance-1")
    body = b"0123456789" * 200_000
    client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    assert client.read_response().body == body


def test_router_shows_its_certificate_to_instances_that_ask(
    tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    backend = make_backend(plain, tls=identity.demanding_client_certificate(identity.authority))
    host = tls_live.route(backend, server_cert_domain_san="instance-1")
    assert client.get(host=host).status == 200


FAILURES = {
    "wrong name": (503, b"503 Service Unavailable\n"),
    "common name only": (503, b"503 Service Unavailable\n"),
    "untrusted": (526, b"526 Invalid SSL Certificate\n"),
    "expired": (526, b"526 Invalid SSL Certificate\n"),
    "not yet valid": (526, b"526 Invalid SSL Certificate\n"),
    "no TLS": (525, b"525 SSL Handshake Failed\n"),
    "no common version": (525, b"525 SSL Handshake Failed\n"),
    "client certificate refused": (496, b"496 SSL Certificate Required\n"),
}


def refuse_what_is_not_http(conversation: Conversation) -> None:
    """What a web server does with a TLS handshake."""
    conversation.read(1)
    conversation.answer(b"", status="400 Bad Request", headers="Connection: close\r\n")
    conversation.wait_for_end()


def failing_backend(name: str, identity: Identity, make_backend: MakeBackend) -> RecordingBackend:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    ours = identity.authority
    if name == "no TLS":
        return make_backend(refuse_what_is_not_http)
    if name == "client certificate refused":
        return make_backend(plain, tls=identity.demanding_client_certificate(make_ca("another CA")))
    if name == "no common version":
        context = identity.named("instance-1")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AES128-SHA")
        return make_backend(plain, tls=context)
    pairs = {
        "wrong name": lambda: issue(ours, ["instance-2", "127.0.0.1"]),
        "common name only": lambda: issue(ours, ["other", "x.instance-1"]),
        "untrusted": lambda: issue(make_ca("another CA"), ["instance-1"]),
        "expired": lambda: issue(ours, ["instance-1"], now=now - 30 * day, lifetime=day),
        "not yet valid": lambda: issue(ours, ["instance-1"], now=now + 30 * day),
    }
    return make_backend(plain, tls=identity.context(pairs[name]()))


@pytest.mark.parametrize("name", FAILURES)
def test_instance_that_cannot_prove_itself_has_its_status(
    name: str, tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    backend = failing_backend(name, identity, make_backend)
    host = tls_live.host()
    tls_live.announcer.register(
        host, port=backend.port, tls_port=backend.port, server_cert_domain_san="instance-1"
    )
    tls_live.routes.settle()
    response = client.get(host=host)
    assert (response.status, response.body) == FAILURES[name]
    assert (response.header("X-Cf-Routererror") or "").startswith("endpoint_failure (")
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert backend.requests == []


@pytest.mark.parametrize("name", ["wrong name", "untrusted", "no TLS", "client certificate refused"])
def test_failing_tls_endpoint_is_removed_until_it_is_announced_again(
    name: str, tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    backend = failing_backend(name, identity, make_backend)
    host = tls_live.host()
    for _ in range(2):
        tls_live.announcer.register(host, port=0, tls_port=backend.port, server_cert_domain_san="instance-1")
        tls_live.routes.settle()
        assert client.get(host=host).status == FAILURES[name][0]
        response = client.get(host=host)
        assert (response.status, response.header("X-Cf-Routererror")) == (503, "no_endpoints")
    tls_live.router.wait_for_log("prune-failed-endpoint")


def test_failing_tls_endpoint_is_retried_elsewhere(
    tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    good = make_backend(named("good"), tls=identity.named("instance-1"))
    host = tls_live.route(good, server_cert_domain_san="instance-1")
    for name in ("wrong name", "untrusted", "no TLS"):
        bad = failing_backend(name, identity, make_backend)
        tls_live.announcer.register(host, port=bad.port, tls_port=bad.port, server_cert_domain_san="instance-1")
        tls_live.routes.settle()
        for _ in range(3):
            client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi".encode())
            assert client.read_response().body == b"good"


def test_address_reused_by_another_instance_never_gets_the_traffic(
    tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    """A cell reuses an address for another app: its certificate has another name, so the request stays out."""
    first = make_backend(named("first"), tls=identity.named("instance-1"), port=free_port())
    host = tls_live.route(first, server_cert_domain_san="instance-1")
    assert client.get(host=host).body == b"first"
    port = first.port
    first.close()
    second = make_backend(named("second"), tls=identity.named("instance-2"), port=port)
    assert client.get(host=host).status == 503
    assert second.requests == []


def test_changed_name_at_the_same_address_starts_new_connections(
    tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    backend = make_backend(plain, tls=identity.named("instance-1", "instance-2"))
    host = tls_live.route(backend, server_cert_domain_san="instance-1")
    assert client.get(host=host).status == 200
    tls_live.route(backend, host=host, server_cert_domain_san="instance-2")
    assert client.get(host=host).status == 200
    assert len(backend.conversations) == 2


def test_authorities_that_share_a_subject_are_all_believed(
    start_live: StartLive, identity: Identity, make_backend: MakeBackend
) -> None:
    """Without key identifiers OpenSSL takes the first of the name; a CA that is being replaced has such a twin."""
    twins = [make("CN=instance identity CA", authority=True) for _ in range(3)]
    live = start_live({"ca_certs": [twin.pem for twin in twins], "empty_pool_response_code_503": True})
    with live.client() as client:
        for twin in twins:
            shown = make("CN=instance", twin, names=dns("instance-1")).pair()
            backend = make_backend(plain, tls=identity.context(shown))
            host = live.route(backend, server_cert_domain_san="instance-1")
            for _ in range(3):
                assert client.get(host=host, headers="Connection: keep-alive\r\n").status == 200

        impostor = make("CN=instance", make("CN=instance identity CA", authority=True), names=dns("instance-1"))
        host = live.route(
            make_backend(plain, tls=identity.context(impostor.pair())), server_cert_domain_san="instance-1"
        )
        assert client.get(host=host).status == 526


# Each way of a handshake, as an instance may be set up.


def talks(version: ssl.TLSVersion, *, rsa_key: bool = False) -> Setup:
    """An instance with the right name that speaks this version."""

    def context(identity: Identity) -> ssl.SSLContext:
        served = identity.context(issue(identity.authority, ["instance-1"], rsa_key=rsa_key))
        if version < V1_2:
            served.set_ciphers("DEFAULT:@SECLEVEL=0")
        served.minimum_version = served.maximum_version = version
        return served

    return context


V1_1, V1_2, V1_3 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("rsa_key", [False, True])
@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_instance_may_speak_one_version_and_have_either_kind_of_key(
    version: ssl.TLSVersion, rsa_key: bool, tls_live: Live, identity: Identity, make_backend: MakeBackend
) -> None:
    """Whatever the front's maximum is, which here is TLS 1.2 by default."""
    context = talks(version, rsa_key=rsa_key)(identity)
    host = tls_live.route(make_backend(plain, tls=context), server_cert_domain_san="instance-1")
    with tls_live.client() as client:
        assert client.get(host=host).status == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_instance_too_old_to_talk_with_is_502_and_stays_announced(
    tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    backend = make_backend(plain, tls=talks(V1_1)(identity))
    host = tls_live.host()
    tls_live.announcer.register(host, port=0, tls_port=backend.port, server_cert_domain_san="instance-1")
    tls_live.routes.settle()
    for _ in range(2):
        response = client.get(host=host)
        assert (response.status, response.body) == (502, BAD_GATEWAY)
        assert response.header("X-Cf-Routererror") == "endpoint_failure (remote error: tls: protocol version)"


@pytest.mark.parametrize(("version", "status"), [(V1_2, 525), (V1_3, 496)])
def test_instance_that_demands_a_certificate_we_do_not_have(
    version: ssl.TLSVersion,
    status: int,
    bare: Live,
    identity: Identity,
    make_backend: MakeBackend,
) -> None:
    """OpenSSL servers say handshake_failure in TLS 1.2 and certificate_required in TLS 1.3."""
    context = identity.demanding_client_certificate(identity.authority)
    context.minimum_version = context.maximum_version = version
    backend = make_backend(plain, tls=context)
    host = bare.route(backend, server_cert_domain_san="instance-1")
    with bare.client() as client:
        assert client.get(host=host).status == status
        assert client.get(host=host).header("X-Cf-Routererror") == "no_endpoints"
    assert backend.requests == []


def test_instance_with_its_own_signature_is_believed_only_if_that_is_trusted(
    start_live: StartLive, tls_live: Live, identity: Identity, make_backend: MakeBackend
) -> None:
    alone = make("CN=alone", names=dns("instance-1"))
    trusting = start_live({"ca_certs": [identity.authority.pair.certificate, alone.pem]})
    for live, status in ((tls_live, 526), (trusting, 200)):
        backend = make_backend(plain, tls=identity.context(alone.pair()))
        host = live.route(backend, server_cert_domain_san="instance-1")
        with live.client() as client:
            assert client.get(host=host).status == status


def test_instance_without_announced_name_must_have_its_address_in_its_certificate(
    tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    host = tls_live.route(make_backend(plain, tls=identity.named("localhost", "127.0.0.2")))
    assert client.get(host=host).status == 503


def test_instance_with_tls_on_its_plain_port_is_502(
    tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    """It hears no handshake but a request, and hangs up; nothing says that TLS would have helped."""
    backend = make_backend(plain, tls=identity.named("instance-1"))
    host = tls_live.host()
    tls_live.announcer.register(host, port=backend.port)
    tls_live.routes.settle()
    response = client.get(host=host)
    assert (response.status, response.body) == (502, BAD_GATEWAY)


def test_tls_port_wins_over_the_plain_one(
    tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    secure, open_ = make_backend(named("secure"), tls=identity.named("instance-1")), make_backend(named("open"))
    host = tls_live.host()
    message = {"host": "127.0.0.1", "port": open_.port, "tls_port": secure.port, "uris": [host]}
    tls_live.announcer.publish(
        "router.register", json.dumps({**message, "server_cert_domain_san": "instance-1"}).encode()
    )
    tls_live.routes.settle()
    assert {client.get(host=host).body for _ in range(4)} == {b"secure"}


def test_silent_instance_runs_into_the_handshake_time_out_and_is_removed(
    start_live: StartLive, make_backend: MakeBackend
) -> None:
    hasty = start_live({"tls_handshake_timeout": "200ms", "empty_pool_response_code_503": True})
    silent = make_backend(Conversation.wait_for_end)
    host = hasty.host()
    hasty.announcer.register(host, port=0, tls_port=silent.port, server_cert_domain_san="instance-1")
    hasty.routes.settle()
    with hasty.client() as client:
        response = client.get(host=host)
        assert (response.status, response.body) == (502, BAD_GATEWAY)
        assert response.header("X-Cf-Routererror") == "endpoint_failure (net/http: TLS handshake timeout)"
        assert client.get(host=host).header("X-Cf-Routererror") == "no_endpoints"


def test_suites_of_the_list_hold_towards_instances_in_either_form_of_their_names(
    start_live: StartLive, identity: Identity, make_backend: MakeBackend
) -> None:
    suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:ECDHE-RSA-AES128-GCM-SHA256"
    live = start_live({"ca_certs": [identity.authority.pair.certificate], "cipher_suites": suites})
    for suite, status in (("ECDHE-ECDSA-AES256-GCM-SHA384", 200), ("ECDHE-ECDSA-AES128-GCM-SHA256", 525)):
        context = talks(V1_2)(identity)
        context.set_ciphers(suite)
        host = live.route(make_backend(plain, tls=context), server_cert_domain_san="instance-1")
        with live.client() as client:
            assert client.get(host=host).status == status


def test_name_of_the_announcement_is_asked_for_and_addresses_are_not(
    tls_live: Live, client: RawClient, identity: Identity, make_backend: MakeBackend
) -> None:
    asked: list[str | None] = []
    context = identity.named("instance-1", "127.0.0.1")
    context.sni_callback = lambda _, name, __: asked.append(name)
    for fields in ({"server_cert_domain_san": "instance-1"}, {}):
        assert client.get(host=tls_live.route(make_backend(plain, tls=context), **fields)).status == 200
    assert asked == ["instance-1", None]


def test_each_failure_is_counted_in_its_own_metric(
    start_live: StartLive, identity: Identity, make_backend: MakeBackend
) -> None:
    port = free_port()
    live = start_live(
        {
            "ca_certs": [identity.authority.pair.certificate],
            "prometheus": {"enabled": True, "port": port},
        }
    )
    counters = {
        "wrong name": "backend_invalid_id",
        "expired": "backend_invalid_tls_cert",
        "no TLS": "backend_tls_handshake_failed",
    }
    for name in counters:
        backend = failing_backend(name, identity, make_backend)
        host = live.host()
        live.announcer.register(host, port=0, tls_port=backend.port, server_cert_domain_san="instance-1")
        live.routes.settle()
        with live.client() as client:
            assert client.get(host=host).status == FAILURES[name][0]

    def counted() -> dict[str, float]:
        with RawClient(port) as client:
            lines = client.get("/metrics", host="127.0.0.1").body.decode().splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(values.get(name, 0)) for name in counters.values()}

    wait_until(lambda: set(counted().values()) == {1.0}, "each is counted once")
