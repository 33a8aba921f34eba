"""Behaviour 19 and CVE-2018-1193: what clients claim about themselves, in every spelling, reaches no instance."""

import base64
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from router.certs import Authority, Pair, issue, make_ca
from tests.live.conftest import Live, StartLive
from tests.support.certificates import client_context
from tests.support.h2peer import H2Peer
from tests.support.h2peer import get as h2_get
from tests.support.ports import free_port
from tests.support.rawclient import RawClient
from tests.support.recorder import RecordingBackend, Request

FRONT = "front.test"
SPOOF = "SPOOF"
ALWAYS_OURS = ["X-Cf-Applicationid", "X-Cf-Instanceid", "X-Cf-Instanceindex", "X-Vcap-Request-Id"]


def forms(name: str) -> dict[str, list[str]]:
    """The header lines of every way in which a field has been smuggled past some proxy."""
    return {
        "plain": [f"{name}: {SPOOF}"],
        "lower": [f"{name.lower()}: {SPOOF}"],
        "upper": [f"{name.upper()}:{SPOOF}"],
        "twice": [f"{name}: {SPOOF}", f"{name}: {SPOOF}"],
        "twice, first empty": [f"{name}:", f"{name}: {SPOOF}"],
        "twice, apart": [f"{name}: {SPOOF}", "X: y", f"{name.lower()}: {SPOOF}"],
        "spaces around": [f"{name}: \t {SPOOF} \t"],
        "as a list": [f"{name}: {SPOOF}, {SPOOF}"],
        "named by Connection": [f"Connection: {name}", f"{name}: {SPOOF}"],
        "named by Connection, afterwards": [f"{name}: {SPOOF}", f"Connection: close, {name.lower()}"],
        "underscores": [f"{name.replace('-', '_')}: {SPOOF}"],
        "mixed underscores": [f"{name.replace('-', '_', 1)}: {SPOOF}"],
    }


REFUSED_FORMS = {
    "space before the colon": "{name} : SPOOF\r\n",
    "folded": "X: y\r\n {name}: SPOOF\r\n",
    "after a bare line feed": "X: y\n{name}: SPOOF\r\n",
    "after a bare carriage return": "X: y\r{name}: SPOOF\r\n",
    "after a NUL": "X: y\x00{name}: SPOOF\r\n",
    "letter that folds to one": "{name}\xa0: SPOOF\r\n",
}
FORMS = list(forms("x"))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


@pytest.fixture(scope="module")
def clients_ca() -> Authority:
    return make_ca("clients")


@pytest.fixture(scope="module")
def start_https(start_live: StartLive, authority: Authority, clients_ca: Authority) -> Callable[[str], Live]:
    """Start routers by mode of ``forwarded_client_cert``, one for each."""
    running: dict[str, Live] = {}

    def start(mode: str) -> Live:
        pair = issue(authority, [FRONT])
        config: dict[str, Any] = {
            "enable_ssl": True,
            "ssl_port": free_port(),
            "client_cert_validation": "request",
            "client_ca_certs": clients_ca.pair.certificate,
            "only_trust_client_ca_certs": True,
            "forwarded_client_cert": mode,
            "sanitize_forwarded_proto": True,
            "max_tls_version": "TLSv1.3",
            "cipher_suites": "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
            "tls_pem": [{"cert_chain": pair.certificate, "private_key": pair.private_key}],
        }
        if mode not in running:
            running[mode] = start_live(config)
        return running[mode]

    return start


@pytest.fixture(scope="module")
def own(clients_ca: Authority) -> Pair:
    return issue(clients_ca, ["someone"], client=True)


def asked(client: RawClient, host: str, backend: RecordingBackend, lines: list[str]) -> Request:
    count = len(backend.requests)
    assert client.get(host=host, headers="".join(f"{line}\r\n" for line in lines)).status == 200
    return backend.requests[count]


def der_of(pair: Pair) -> str:
    certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
    return base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()


# What is always the router's.


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ALWAYS_OURS)
def test_identity_of_the_instance_is_the_routers_word(
    name: str, form: str, live: Live, backend: RecordingBackend
) -> None:
    host = live.route(backend, app="app-1", private_instance_id="inst-1", private_instance_index="0")
    with live.client() as client:
        request = asked(client, host, backend, forms(name)[form])
    assert SPOOF.encode() not in request.raw_head
    assert len(request.values(name)) == 1


@pytest.mark.parametrize("form", REFUSED_FORMS)
@pytest.mark.parametrize("name", [*ALWAYS_OURS, "X-Forwarded-Client-Cert", "X-Forwarded-Proto"])
def test_what_could_be_read_in_two_ways_is_refused(
    name: str, form: str, live: Live, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    with live.client() as client:
        response = client.get(host=host, headers=REFUSED_FORMS[form].format(name=name))
        assert response.status == 400
        assert client.is_closed_by_peer()
    assert backend.requests == []


@pytest.mark.parametrize(
    "name",
    [*ALWAYS_OURS, "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Client-Cert", "X-Cf-Proxy-Signature"],
)
def test_trailers_carry_no_identity(name: str, live: Live, backend: RecordingBackend) -> None:
    host = live.route(backend)
    head = f"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTrailer: {name}\r\n\r\n"
    with live.client() as client:
        client.send(f"{head}0\r\n{name}: {SPOOF}\r\n{name.lower()}: {SPOOF}\r\nX-Sum: 1\r\n\r\n".encode())
        assert client.read_response().status == 200
    assert backend.requests[0].trailers == [("X-Sum", "1")]
    assert SPOOF.encode() not in bytes(backend.conversations[0].received)


# Client certificates.


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", ["http", "https", "https with a certificate"])
@pytest.mark.parametrize("mode", ["always_forward", "forward", "sanitize_set"])
def test_forwarded_certificate(
    mode: str,
    way: str,
    form: str,
    start_https: Callable[[str], Live],
    authority: Authority,
    own: Pair,
    backend: RecordingBackend,
    tmp_path: Path,
) -> None:
    live = start_https(mode)
    host = live.route(backend)
    with connected(live, way, authority, own, tmp_path) as client:
        asked(client, host, backend, [])
        request = asked(client, host, backend, forms("X-Forwarded-Client-Cert")[form])
    values = request.values("X-Forwarded-Client-Cert")
    if mode == "sanitize_set":
        assert values == ([der_of(own)] if way.endswith("certificate") else [])
    may_pass = mode == "always_forward" or (mode == "forward" and way.endswith("certificate"))
    if not may_pass or "underscores" in form:
        assert SPOOF.encode() not in request.raw_head


def connected(live: Live, way: str, authority: Authority, own: Pair, directory: Path) -> RawClient:
    if way == "http":
        return live.client()
    identity = own if way.endswith("certificate") else None
    context = client_context(authority, identity=identity, directory=directory)
    return RawClient(live.router.ssl_port, tls=context, server_name=FRONT)


@pytest.mark.parametrize("way", ["http", "https"])
@pytest.mark.parametrize("form", FORMS)
def test_forwarded_proto_is_what_the_connection_is(
    form: str,
    way: str,
    start_https: Callable[[str], Live],
    authority: Authority,
    own: Pair,
    backend: RecordingBackend,
    tmp_path: Path,
) -> None:
    live = start_https("forward")
    host = live.route(backend)
    with connected(live, way, authority, own, tmp_path) as client:
        request = asked(client, host, backend, forms("X-Forwarded-Proto")[form])
    assert request.values("X-Forwarded-Proto") == [way]
    assert SPOOF.encode() not in request.raw_head


@pytest.mark.parametrize("form", FORMS)
def test_last_forwarded_address_is_that_of_the_connection(
    form: str, live: Live, backend: RecordingBackend
) -> None:
    host = live.route(backend)
    with live.client() as client:
        request = asked(client, host, backend, forms("X-Forwarded-For")[form])
    (value,) = request.values("X-Forwarded-For")
    assert value.rpartition(", ")[2] == "127.0.0.1"
    assert b"x_forwarded" not in request.raw_head.lower()


# HTTP/2.


@pytest.fixture
def peer(start_https: Callable[[str], Live], authority: Authority) -> Iterator[H2Peer]:
    live = start_https("sanitize_set")
    context = client_context(authority)
    context.set_alpn_protocols(["h2"])
    with H2Peer(live.router.ssl_port, tls=context, server_name=FRONT) as connected:
        yield connected


@pytest.mark.parametrize("name", [*ALWAYS_OURS, "X-Forwarded-Client-Cert", "X-Forwarded-Proto"])
def test_nothing_of_it_gets_in_by_http_2(
    name: str, peer: H2Peer, start_https: Callable[[str], Live], backend: RecordingBackend
) -> None:
    host = start_https("sanitize_set").route(backend)
    low = name.lower()
    claims = [[(low, SPOOF)], [(low, ""), (low, SPOOF)], [(low.replace("-", "_"), SPOOF)]]
    for number, claim in enumerate(claims):
        stream = 1 + 2 * number
        peer.request(stream, h2_get(host, "/", *claim))
        assert peer.answer(stream).status == 200
    assert len(backend.requests) == len(claims)
    assert all(SPOOF.encode() not in request.raw_head for request in backend.requests)


# X-Vcap-Trace.


@pytest.fixture(scope="module")
def traced(start_live: StartLive) -> Live:
    return start_live({"trace_key": 22})


@pytest.mark.parametrize("lines", [[], ["X-Vcap-Trace: 2"], ["X-Vcap-Trace:"], ["X-Vcap-Trace: 22 22"]])
def test_addresses_are_not_told_to_those_without_the_key(
    lines: list[str], traced: Live, backend: RecordingBackend
) -> None:
    host = traced.route(backend)
    with traced.client() as client:
        response = client.get(host=host, headers="".join(f"{line}\r\n" for line in lines))
    names = {name.lower() for name, _ in response.headers}
    assert not names & {"x-vcap-router", "x-vcap-backend", "x-cf-routeendpoint"}


def test_addresses_are_told_to_those_with_the_key(traced: Live, live: Live, backend: RecordingBackend) -> None:
    host = traced.route(backend)
    with traced.client() as client:
        response = client.get(host=host, headers="X-Vcap-Trace: 22\r\n")
        assert client.get(host="nobody.test", headers="X-Vcap-Trace: 22\r\n").header("X-Vcap-Backend") is None
    assert response.header("X-Vcap-Backend") == backend.address
    assert response.header("X-Cf-Routeendpoint") == backend.address
    assert (response.header("X-Vcap-Router") or "").count(".") == 3
    with live.client() as client:
        # Without a key in the configuration there is none that fits, not even an empty one.
        assert client.get(host=live.route(backend), headers="X-Vcap-Trace:\r\n").header("X-Vcap-Backend") is None


# Certificates of the wrong CA.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificate_of_another_ca_gets_no_http_and_the_log_says_why(
    version: ssl.TLSVersion, start_https: Callable[[str], Live], authority: Authority, tmp_path: Path
) -> None:
    live = start_https("sanitize_set")
    foreign = issue(make_ca("others"), ["someone"], client=True)
    context = client_context(authority, identity=foreign, directory=tmp_path)
    context.maximum_version = version
    before = len(live.router.log)
    with (
        pytest.raises(ssl.SSLError, match="ALERT_UNKNOWN_CA"),
        RawClient(live.router.ssl_port, tls=context, server_name=FRONT) as client,
    ):
        client.socket.recv(1)
    line = live.router.wait_for_log(
        "client-certificate-refused", where=lambda each: each in live.router.log[before:]
    )
    assert "certificate" in str(line["data"]["error"]).lower()
