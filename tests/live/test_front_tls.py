"""TLS towards clients: which certificate, which versions and suites, and what a wrong protocol gets."""

import base64
import datetime
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from router.certs import Authority, issue, make_ca
from tests.live.conftest import Live, StartLive
from tests.live.https import SUITES, https_config
from tests.support.certificates import client_context
from tests.support.odd_certificates import dns, make
from tests.support.processes import open_sockets
from tests.support.rawclient import RawClient, Truncated
from tests.support.recorder import MakeBackend, RecordingBackend
from tests.support.waiting import PATIENCE_S, wait_until

NAMES = {"default": ["default.test"], "one": ["one.test"], "wild": ["*.wild.test"], "exact": ["exact.wild.test"]}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


@pytest.fixture(scope="module")
def https(start_live: StartLive, authority: Authority) -> Live:
    return start_live(https_config([issue(authority, names) for names in NAMES.values()]))


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> ssl.SSLContext:
    return client_context(authority)


@pytest.fixture
def client(https: Live, trusting: ssl.SSLContext) -> Iterator[RawClient]:
    with RawClient(https.router.ssl_port, tls=trusting, server_name="default.test") as connected:
        yield connected


def presented(port: int, server_name: str | None) -> list[str]:
    """Return the names of the certificate that is shown for a server name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with RawClient(port, tls=context, server_name=server_name) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        shown = client.socket.getpeercert(binary_form=True)
        assert shown is not None
        certificate = x509.load_der_x509_certificate(shown)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    ("server_name", "expected"),
    [
        ("one.test", "one"),
        ("ONE.test", "one"),
        ("a.wild.test", "wild"),
        ("exact.wild.test", "exact"),
        ("a.b.wild.test", "default"),
        ("wild.test", "default"),
        ("unknown.test", "default"),
        (None, "default"),
    ],
)
def test_certificate_is_chosen_by_server_name(server_name: str | None, expected: str, https: Live) -> None:
    assert presented(https.router.ssl_port, server_name) == NAMES[expected]


def test_requests_over_tls_are_forwarded_as_such(
    https: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = https.route(backend)
    for _ in range(10):
        assert client.get(host=host).body == b"ok"
    assert {request.header("X-Forwarded-Proto") for request in backend.requests} == {"https"}
    assert {request.header("X-Forwarded-For") for request in backend.requests} == {"127.0.0.1"}


def test_both_listeners_serve_the_same_routes(https: Live, client: RawClient, backend: RecordingBackend) -> None:
    host = https.route(backend)
    with https.client() as plain_client:
        assert plain_client.get(host=host).status == client.get(host=host).status == 200


def test_large_bodies_pass_over_tls(https: Live, client: RawClient, make_backend: MakeBackend) -> None:
    backend = make_backend(lambda conversation: conversation.answer(conversation.read_request().body))
    host = https.route(backend)
    body = b"0123456789" * 300_000
    client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    assert client.read_response().body == body


def test_host_and_server_name_may_differ(https: Live, trusting: ssl.SSLContext, backend: RecordingBackend) -> None:
    host = https.route(backend)
    with RawClient(https.router.ssl_port, tls=trusting, server_name="one.test") as client:
        assert client.get(host=host).status == 200


def test_pipelined_requests_inside_one_record_are_answered_in_order(
    https: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = https.route(backend)
    client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * 20)
    assert [client.read_response().status for _ in range(20)] == [200] * 20


def test_request_in_many_small_records_is_one_request(
    https: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = https.route(backend)
    client.send_bytewise(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nabc".encode())
    assert client.read_response().status == 200
    assert [request.body for request in backend.requests] == [b"abc"]


def test_close_is_announced_to_tls_clients(https: Live, client: RawClient, backend: RecordingBackend) -> None:
    """A connection that ends without close_notify looks like a truncation attack to the client."""
    host = https.route(backend)
    client.get(host=host, headers="Connection: close\r\n")
    assert client.is_closed_by_peer()
    assert not client.was_reset


def test_truncated_body_is_visible_over_tls(https: Live, client: RawClient, make_backend: MakeBackend) -> None:
    def cut(conversation: Any) -> None:
        conversation.read_request()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")

    host = https.route(make_backend(cut))
    client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    # Nothing of it may have left yet: then a 502 is as honest.
    try:
        assert client.read_response().status == 502
    except Truncated:
        assert client.ended


def test_plain_http_on_the_tls_port_is_told_so(https: Live) -> None:
    with RawClient(https.router.ssl_port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = client.read_until_end()
    assert answer == b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


def test_tls_on_the_plain_port_is_refused(https: Live, trusting: ssl.SSLContext) -> None:
    with pytest.raises((ssl.SSLError, OSError)):
        RawClient(https.router.port, tls=trusting, server_name="default.test")


def test_garbage_on_the_tls_port_costs_nobody_else_anything(
    https: Live, client: RawClient, backend: RecordingBackend
) -> None:
    host = https.route(backend)
    for garbage in (
        b"\0" * 100,
        b"\x16\x03\x01\xff\xff" + b"\0" * 100,
        b"\x16\x03\x01\x00\x05hello",
        b"\xff" * 20_000,
    ):
        with RawClient(https.router.ssl_port) as bad:
            bad.send(garbage)
            bad.end_sending()
            bad.read_until_end()
        assert client.get(host=host).status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_in_the_range_are_spoken(version: ssl.TLSVersion, https: Live, authority: Authority) -> None:
    context = client_context(authority)
    context.minimum_version = context.maximum_version = version
    with RawClient(https.router.ssl_port, tls=context, server_name="default.test") as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert (client.socket.version() or "").replace(".", "_") == version.name
        assert client.get(host="nobody.test").status == 404


def test_maximum_version_defaults_to_1_2(start_live: StartLive, authority: Authority) -> None:
    config = https_config([issue(authority, ["default.test"])])
    del config["max_tls_version"]
    only_1_2 = start_live(config)
    context = client_context(authority)
    with RawClient(only_1_2.router.ssl_port, tls=context, server_name="default.test") as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.socket.version() == "TLSv1.2"
        assert (client.socket.cipher() or ("",))[0] in SUITES.split(":")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with pytest.raises(ssl.SSLError):
        RawClient(only_1_2.router.ssl_port, tls=context, server_name="default.test")


def test_version_below_the_minimum_is_refused(start_live: StartLive, authority: Authority) -> None:
    only_1_3 = start_live(https_config([issue(authority, ["default.test"])], min_tls_version="TLSv1.3"))
    context = client_context(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        RawClient(only_1_3.router.ssl_port, tls=context, server_name="default.test")


def test_suite_outside_the_list_is_refused(https: Live, authority: Authority) -> None:
    context = client_context(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        RawClient(https.router.ssl_port, tls=context, server_name="default.test")


def test_plain_listener_can_be_left_out(start_live: StartLive, authority: Authority) -> None:
    config = https_config([issue(authority, ["default.test"])], disable_http=True)
    closed = start_live(config)
    context = client_context(authority)
    with RawClient(closed.router.ssl_port, tls=context, server_name="default.test") as client:
        assert client.get(host="nobody.test").status == 404
    with pytest.raises(ConnectionRefusedError):
        closed.client()


def test_rsa_certificate_serves_clients_without_ecdsa(start_live: StartLive, authority: Authority) -> None:
    pairs = [issue(authority, ["default.test"]), issue(authority, ["default.test"], rsa_key=True)]
    both = start_live(https_config(pairs, max_tls_version="TLSv1.2"))
    context = client_context(authority)
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    with RawClient(both.router.ssl_port, tls=context, server_name="default.test") as client:
        assert client.get(host="nobody.test").status == 404


def test_expired_certificate_is_served_all_the_same(start_live: StartLive, authority: Authority) -> None:
    """Whether it is still good is for clients to say; a router that refuses to start helps nobody."""
    now = datetime.datetime.now(datetime.UTC)
    month = datetime.timedelta(days=30)
    expired = issue(authority, ["default.test"], now=now - 2 * month, lifetime=month)
    live = start_live(https_config([expired]))
    assert presented(live.router.ssl_port, "default.test") == ["default.test"]


def test_abandoned_handshakes_leave_no_socket_behind(https: Live, backend: RecordingBackend) -> None:
    host = https.route(backend)
    base = open_sockets(https.router.worker)
    stalled = [socket.create_connection(("127.0.0.1", https.router.ssl_port)) for _ in range(50)]
    for connection in stalled[::2]:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01")
    with https.client() as client:
        assert client.get(host=host).status == 200
    for connection in stalled:
        connection.close()
    # One connection to the backend stays in the pool.
    wait_until(lambda: open_sockets(https.router.worker) <= base + 1, "sockets are closed")


@pytest.fixture(scope="module")
def clients_ca() -> Authority:
    return make_ca("clients")


def with_client_certificates(
    start_live: StartLive, authority: Authority, clients_ca: Authority, **more: Any
) -> Live:
    return start_live(
        https_config(
            [issue(authority, ["default.test"])],
            client_ca_certs=clients_ca.pair.certificate,
            only_trust_client_ca_certs=True,
            **more,
        )
    )


def status_with(live: Live, host: str, context: ssl.SSLContext) -> int:
    """Return the status, 0 if the handshake is refused."""
    try:
        with RawClient(live.router.ssl_port, tls=context, server_name="default.test") as client:
            return client.get(host=host).status
    except (OSError, Truncated):
        return 0


@pytest.mark.parametrize(
    ("mode", "without", "with_own", "with_foreign"),
    [("none", 200, 200, 200), ("request", 200, 200, 0), ("require", 0, 200, 0)],
)
def test_client_certificates_are_asked_for_and_verified(
    start_live: StartLive,
    authority: Authority,
    clients_ca: Authority,
    backend: RecordingBackend,
    tmp_path: Path,
    mode: str,
    without: int,
    with_own: int,
    with_foreign: int,
) -> None:
    live = with_client_certificates(start_live, authority, clients_ca, client_cert_validation=mode)
    host = live.route(backend)
    own = issue(clients_ca, ["someone"], client=True)
    foreign = issue(make_ca("others"), ["someone"], client=True)
    assert status_with(live, host, client_context(authority)) == without
    assert status_with(live, host, client_context(authority, identity=own, directory=tmp_path)) == with_own
    assert status_with(live, host, client_context(authority, identity=foreign, directory=tmp_path)) == with_foreign


@pytest.mark.parametrize(
    ("mode", "presents", "claimed"),
    [
        ("always_forward", False, "kept"),
        ("always_forward", True, "kept"),
        ("forward", False, "gone"),
        ("forward", True, "kept"),
        ("sanitize_set", False, "gone"),
        ("sanitize_set", True, "own"),
    ],
)
def test_forwarded_client_certificate_is_believed_as_configured(
    start_live: StartLive,
    authority: Authority,
    clients_ca: Authority,
    backend: RecordingBackend,
    tmp_path: Path,
    mode: str,
    presents: bool,
    claimed: str,
) -> None:
    live = with_client_certificates(
        start_live, authority, clients_ca, client_cert_validation="request", forwarded_client_cert=mode
    )
    host = live.route(backend)
    own = issue(clients_ca, ["someone"], client=True)
    der = x509.load_pem_x509_certificate(own.certificate.encode()).public_bytes(serialization.Encoding.DER)
    context = client_context(authority, identity=own if presents else None, directory=tmp_path)
    with RawClient(live.router.ssl_port, tls=context, server_name="default.test") as client:
        for _ in range(2):
            client.get(host=host, headers="X-Forwarded-Client-Cert: a\r\nx-forwarded-client-cert: b\r\n")
    expected = {"kept": ["a", "b"], "gone": [], "own": [base64.b64encode(der).decode()]}[claimed]
    assert backend.requests[-1].values("X-Forwarded-Client-Cert") == expected


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("mode", ["request", "require"])
def test_refused_client_certificate_ends_in_a_fatal_alert(
    start_live: StartLive,
    authority: Authority,
    clients_ca: Authority,
    tmp_path: Path,
    mode: str,
    version: ssl.TLSVersion,
) -> None:
    live = with_client_certificates(start_live, authority, clients_ca, client_cert_validation=mode)
    foreign = issue(make_ca("others"), ["someone"], client=True)
    context = client_context(authority, identity=foreign, directory=tmp_path)
    context.maximum_version = version
    with (
        pytest.raises(ssl.SSLError, match="ALERT_UNKNOWN_CA"),
        RawClient(live.router.ssl_port, tls=context, server_name="default.test") as client,
    ):
        # TLS 1.3 clients hear of it when they read for the first time.
        client.socket.recv(1)
    told = live.router.wait_for_log("client-certificate-refused")
    assert told["log_level"] == 1
    assert "certificate verify failed" in told["data"]["error"]
    assert told["data"]["client"].startswith("127.0.0.1:")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificate_against_its_rule_gets_nothing_of_http(
    start_live: StartLive,
    authority: Authority,
    clients_ca: Authority,
    backend: RecordingBackend,
    tmp_path: Path,
    version: ssl.TLSVersion,
) -> None:
    rule = {"issuer_in_chain": {"common_name": "clients"}, "valid_cert_subjects": [{"common_name": "welcome"}]}
    live = with_client_certificates(
        start_live,
        authority,
        clients_ca,
        client_cert_validation="request",
        enable_verify_client_certificate_metadata=True,
        verify_client_certificate_metadata=[rule],
    )
    host = live.route(backend)
    statuses = []
    for name in ("welcome", "someone", None):
        identity = issue(clients_ca, [name], client=True) if name else None
        context = client_context(authority, identity=identity, directory=tmp_path)
        context.maximum_version = version
        statuses.append(status_with(live, host, context))
    assert statuses == [200, 0, 200]
    assert len(backend.requests) == 2
    told = live.router.wait_for_log("client-certificate-refused")
    assert "someone" in told["data"]["error"]
    assert not told["data"]["error"].startswith("(")


def test_renegotiation_is_refused(https: Live) -> None:
    command = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{https.router.ssl_port}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as openssl:
        output, _ = openssl.communicate(b"R\n", timeout=PATIENCE_S)
    assert b"RENEGOTIATING" in output
    assert b"no renegotiation" in output


def test_session_is_resumed_by_ticket(https: Live, authority: Authority) -> None:
    context = client_context(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with RawClient(https.router.ssl_port, tls=context, server_name="default.test") as first:
        assert isinstance(first.socket, ssl.SSLSocket)
        session = first.socket.session
    assert session is not None
    assert session.has_ticket
    with (
        socket.create_connection(("127.0.0.1", https.router.ssl_port), PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="default.test", session=session) as again,
    ):
        assert again.session_reused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_that_offers_foreign_protocols_only_is_refused(
    https: Live, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = client_context(authority)
    context.maximum_version = version
    context.set_alpn_protocols(["spdy/3", "http/1.0"])
    with pytest.raises(ssl.SSLError, match="alert no application protocol"):
        RawClient(https.router.ssl_port, tls=context, server_name="default.test")
    https.router.wait_for_log("tls-handshake-failed", where=lambda line: "spdy/3" in line["data"]["error"])


def test_one_known_protocol_among_foreign_ones_is_chosen(https: Live, authority: Authority) -> None:
    context = client_context(authority)
    context.set_alpn_protocols(["spdy/3", "http/1.1"])
    with RawClient(https.router.ssl_port, tls=context, server_name="default.test") as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.socket.selected_alpn_protocol() == "http/1.1"


def test_without_http_2_protocols_that_clients_offer_decide_nothing(
    start_live: StartLive, authority: Authority
) -> None:
    live = start_live(https_config([issue(authority, ["default.test"])], enable_http2=False))
    context = client_context(authority)
    context.set_alpn_protocols(["h2"])
    with RawClient(live.router.ssl_port, tls=context, server_name="default.test") as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.socket.selected_alpn_protocol() is None
        assert client.get(host="unknown.test").status == 404


def test_certificate_without_alternative_names_serves_those_who_take_it(start_live: StartLive) -> None:
    root = make("CN=root", authority=True)
    bare, named = make("CN=bare.test", root), make("CN=x", root, names=dns("named.test"))
    live = start_live(https_config([bare.pair(), named.pair()]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=root.pem)
    for name, shown in (("bare.test", bare), ("named.test", named), ("other.test", bare)):
        with RawClient(live.router.ssl_port, tls=context, server_name=name) as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            assert client.socket.getpeercert(binary_form=True) == shown.der


@pytest.mark.parametrize(
    ("suites", "spoken"),
    [
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("ECDHE-RSA-AES128-GCM-SHA256:TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("RC4-SHA:ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-SHA256"),
        ("TLS_AES_128_GCM_SHA256:ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES256-SHA"),
    ],
)
def test_suites_are_named_in_either_form(
    start_live: StartLive, authority: Authority, suites: str, spoken: str
) -> None:
    live = start_live(https_config([issue(authority, ["default.test"])], cipher_suites=suites, max_tls_version=""))
    context = client_context(authority)
    context.set_ciphers("ALL")
    with RawClient(live.router.ssl_port, tls=context, server_name="default.test") as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert (client.socket.cipher() or ("",))[0] == spoken


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("lowest", "version"), [("TLSv1.0", ssl.TLSVersion.TLSv1), ("TLSv1.1", ssl.TLSVersion.TLSv1_1)]
)
def test_old_versions_are_spoken_where_they_are_asked_for(
    start_live: StartLive, https: Live, authority: Authority, lowest: str, version: ssl.TLSVersion
) -> None:
    suites = SUITES + ":ECDHE-ECDSA-AES128-SHA"
    pairs = [issue(authority, ["default.test"])]
    live = start_live(https_config(pairs, min_tls_version=lowest, cipher_suites=suites))
    context = client_context(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with RawClient(live.router.ssl_port, tls=context, server_name="default.test") as client:
        assert client.get(host="nobody.test").status == 404
    with pytest.raises((ssl.SSLError, ConnectionError)):
        RawClient(https.router.ssl_port, tls=context, server_name="default.test")


def test_claimed_client_certificate_means_nothing_on_the_plain_listener(
    start_live: StartLive, authority: Authority, clients_ca: Authority, backend: RecordingBackend
) -> None:
    for mode, told in (("always_forward", ["a"]), ("forward", []), ("sanitize_set", [])):
        live = with_client_certificates(
            start_live, authority, clients_ca, client_cert_validation="none", forwarded_client_cert=mode
        )
        host = live.route(backend)
        with live.client() as client:
            client.get(host=host, headers="X-Forwarded-Client-Cert: a\r\n")
        assert backend.requests[-1].values("X-Forwarded-Client-Cert") == told


def test_expired_client_certificate_is_refused_and_one_of_the_chain_taken(
    start_live: StartLive, authority: Authority, backend: RecordingBackend, tmp_path: Path
) -> None:
    root = make("CN=clients", authority=True)
    middle = make("CN=middle", root, authority=True)
    leaf = make("CN=someone", middle)
    live = start_live(
        https_config(
            [issue(authority, ["default.test"])],
            client_cert_validation="require",
            client_ca_certs=root.pem,
            forwarded_client_cert="sanitize_set",
        )
    )
    host = live.route(backend)
    for pair, status in ((leaf.pair(middle), 200), (leaf.pair(), 0)):
        assert status_with(live, host, client_context(authority, identity=pair, directory=tmp_path)) == status
    shown = base64.b64encode(leaf.der).decode()
    assert [request.header("X-Forwarded-Client-Cert") for request in backend.requests] == [shown]
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    clients = make_ca("other clients")
    live = with_client_certificates(start_live, authority, clients, client_cert_validation="request")
    expired = issue(clients, ["someone"], client=True, now=now - 30 * day, lifetime=day)
    assert status_with(live, host, client_context(authority, identity=expired, directory=tmp_path)) == 0
