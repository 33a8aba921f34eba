"""Whom the router believes among backends and route services, and what it shows them, in handshakes in memory."""

import ipaddress
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from router.certs import issue, make_ca
from router.config.schema import Config
from router.config.sections import Backends, RouteServices
from router.tls import TlsError, backend_context, backend_contexts, service_context, service_contexts
from router.tls_stream import is_issuer_ambiguous
from tests.support.certificates import server_context, shake_hands
from tests.support.odd_certificates import Odd, dns, make

ROOT = make("CN=root", authority=True)
MIDDLE = make("CN=middle", ROOT, authority=True)
SELF_SIGNED = make("CN=alone", names=dns("instance-1"))
AUTHORITY = make_ca("careful CA")


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "instance-1") -> ssl.SSLObject:
    """Shake hands in memory; return the server's side. Raises `ssl.SSLError` of whichever side refuses."""
    return shake_hands(server, client, name)[0]


def leaf(issuer: Odd, *names: str, identifiers: bool = False) -> Odd:
    return make("CN=instance", issuer, names=dns(*(names or ("instance-1",))), identifiers=identifiers)


@pytest.mark.parametrize(
    ("shown", "chain", "trusted"),
    [
        (leaf(ROOT), (), (ROOT,)),
        (leaf(MIDDLE), (MIDDLE,), (ROOT,)),
        (leaf(MIDDLE), (MIDDLE, ROOT), (ROOT,)),
        (leaf(MIDDLE), (), (ROOT, MIDDLE)),
        (leaf(MIDDLE), (), (MIDDLE,)),
        (leaf(MIDDLE), (MIDDLE,), (MIDDLE,)),
        (SELF_SIGNED, (), (SELF_SIGNED,)),
    ],
    ids=["root", "chain", "whole chain", "known middle", "middle alone", "sent middle alone", "self-signed"],
)
def test_chain_ends_at_whatever_is_trusted(
    tmp_path: Path, shown: Odd, chain: tuple[Odd, ...], trusted: tuple[Odd, ...]
) -> None:
    server = server_context(shown.pair(*chain), tmp_path)
    for authorities in ([each.pem for each in trusted], ["".join(each.pem for each in trusted)]):
        shake(server, backend_context(Config(ca_certs=authorities)))


def test_leaf_itself_may_be_trusted(tmp_path: Path) -> None:
    shown = leaf(MIDDLE)
    shake(server_context(shown.pair(), tmp_path), backend_context(Config(ca_certs=[shown.pem])))


@pytest.mark.parametrize(
    ("shown", "trusted"),
    [(leaf(MIDDLE), ROOT), (leaf(ROOT), MIDDLE), (SELF_SIGNED, ROOT), (leaf(leaf(ROOT)), ROOT)],
    ids=["middle missing", "another's", "self-signed", "signed by a leaf"],
)
def test_chain_that_does_not_end_there_is_refused(tmp_path: Path, shown: Odd, trusted: Odd) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server_context(shown.pair(), tmp_path), backend_context(Config(ca_certs=[trusted.pem])))


def attempts(server: ssl.SSLContext, config: Config) -> int:
    """Return which of the contexts for backends succeeds, as the data plane tries them."""
    for number, context in enumerate(backend_contexts(config), start=1):
        try:
            shake(server, context)
        except ssl.SSLError as error:
            if not is_issuer_ambiguous(error):
                raise
        else:
            return number
    return 0


NAMESAKES = [make("CN=instance identity CA", authority=True) for _ in range(3)]


@pytest.mark.parametrize("issuer", NAMESAKES)
def test_authorities_that_share_a_subject_are_all_believed(tmp_path: Path, issuer: Odd) -> None:
    trusted = [ROOT.pem, *(each.pem for each in NAMESAKES)]
    server = server_context(leaf(issuer).pair(), tmp_path)

    for order in (trusted, trusted[::-1], ["".join(trusted)]):
        assert attempts(server, Config(ca_certs=order))


def test_middle_issued_by_either_of_two_namesakes_is_believed(tmp_path: Path) -> None:
    for issuer in NAMESAKES[:2]:
        middle = make("CN=middle", issuer, authority=True)
        server = server_context(leaf(middle).pair(middle), tmp_path)
        assert attempts(server, Config(ca_certs=[each.pem for each in NAMESAKES[:2]]))


def test_nobody_but_the_namesakes_is_believed(tmp_path: Path) -> None:
    impostor = make("CN=instance identity CA", authority=True)
    server = server_context(leaf(impostor).pair(), tmp_path)

    assert attempts(server, Config(ca_certs=[each.pem for each in NAMESAKES])) == 0


def test_key_identifiers_make_the_first_attempt_the_last(tmp_path: Path) -> None:
    namesakes = [make("CN=identified CA", authority=True, identifiers=True) for _ in range(3)]
    trusted = [each.pem for each in namesakes]
    for issuer in namesakes:
        server = server_context(leaf(issuer, identifiers=True).pair(), tmp_path)
        assert attempts(server, Config(ca_certs=trusted)) == 1


def test_there_is_one_context_unless_subjects_are_shared() -> None:
    assert len(backend_contexts(Config())) == 1
    assert len(backend_contexts(Config(ca_certs=[ROOT.pem, MIDDLE.pem, ROOT.pem]))) == 1
    assert len(backend_contexts(Config(ca_certs=[each.pem for each in NAMESAKES]))) == 4


def test_route_services_get_as_many_contexts_unless_nobody_is_verified() -> None:
    authorities = [each.pem for each in NAMESAKES]
    assert len(service_contexts(Config(ca_certs=authorities))) == 4
    assert len(service_contexts(Config(ca_certs=authorities, skip_ssl_validation=True))) == 1


def test_other_failures_are_not_taken_for_ambiguity(tmp_path: Path) -> None:
    server = server_context(leaf(ROOT).pair(), tmp_path)
    for context, name in (
        (backend_context(Config(ca_certs=[MIDDLE.pem])), "instance-1"),
        (backend_context(Config(ca_certs=[ROOT.pem])), "instance-2"),
    ):
        with pytest.raises(ssl.SSLCertVerificationError) as failure:
            shake(server, context, name)
        assert not is_issuer_ambiguous(failure.value)
    assert not is_issuer_ambiguous(None)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_address_is_verified_as_such_and_never_sent_as_a_name(tmp_path: Path, address: str) -> None:
    asked: list[str | None] = []
    right = make("CN=x", ROOT, names=[x509.IPAddress(ipaddress.ip_address(address))])
    as_name = make("CN=x", ROOT, names=dns(address))
    context = backend_context(Config(ca_certs=[ROOT.pem]))
    server = server_context(right.pair(), tmp_path)
    server.sni_callback = lambda _, name, __: asked.append(name)

    shake(server, context, address)
    assert asked == [None]
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake(server_context(as_name.pair(), tmp_path), context, address)


def test_name_is_sent_and_the_common_name_never_counts(tmp_path: Path) -> None:
    asked: list[str | None] = []
    context = backend_context(Config(ca_certs=[ROOT.pem]))
    server = server_context(leaf(ROOT).pair(), tmp_path)
    server.sni_callback = lambda _, name, __: asked.append(name)

    shake(server, context)
    assert asked == ["instance-1"]
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake(server_context(make("CN=instance-1", ROOT).pair(), tmp_path), context)


@pytest.mark.parametrize(("lowest", "highest"), [("", ""), ("TLSv1.2", "TLSv1.2"), ("TLSv1.0", "TLSv1.2")])
def test_backends_get_tls_1_3_whatever_the_front_speaks(tmp_path: Path, lowest: str, highest: str) -> None:
    config = Config(ca_certs=[ROOT.pem], min_tls_version=lowest, max_tls_version=highest)
    assert shake(server_context(leaf(ROOT).pair(), tmp_path), backend_context(config)).version() == "TLSv1.3"


def asking(tmp_path: Path) -> ssl.SSLContext:
    """A server that asks for a certificate of the careful CA."""
    server = server_context(leaf(ROOT).pair(), tmp_path)
    server.verify_mode = ssl.CERT_OPTIONAL
    server.load_verify_locations(cadata=AUTHORITY.pair.certificate)
    return server


@pytest.mark.parametrize("make_context", [backend_context, service_context])
@pytest.mark.parametrize(("chain", "key", "shown"), [(1, 1, True), (1, 0, False), (0, 1, False), (0, 0, False)])
def test_client_certificate_is_shown_when_both_parts_are_set(
    tmp_path: Path, make_context: Any, chain: int, key: int, shown: bool
) -> None:
    pair = issue(AUTHORITY, ["router"], client=True)
    texts: dict[str, Any] = {"cert_chain": pair.certificate * chain, "private_key": pair.private_key * key}
    config = Config(
        ca_certs=[ROOT.pem],
        max_tls_version="TLSv1.3",
        backends=Backends(**(texts if make_context is backend_context else {})),
        route_services=RouteServices(**(texts if make_context is service_context else {})),
    )
    ours = shake(asking(tmp_path), make_context(config))
    assert (ours.getpeercert() is not None) is shown


@pytest.mark.parametrize(("highest", "spoken"), [("", "TLSv1.2"), ("TLSv1.2", "TLSv1.2"), ("TLSv1.3", "TLSv1.3")])
def test_route_services_get_the_versions_of_the_front(tmp_path: Path, highest: str, spoken: str) -> None:
    context = service_context(Config(ca_certs=[ROOT.pem], max_tls_version=highest))
    assert shake(server_context(leaf(ROOT).pair(), tmp_path), context).version() == spoken


def test_route_service_below_the_fronts_minimum_is_refused(tmp_path: Path) -> None:
    server = server_context(leaf(ROOT).pair(), tmp_path)
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    context = service_context(Config(ca_certs=[ROOT.pem], min_tls_version="TLSv1.3", max_tls_version="TLSv1.3"))
    with pytest.raises(ssl.SSLError):
        shake(server, context)


@pytest.mark.parametrize("skip", [True, False])
def test_validation_is_skipped_for_route_services_alone(tmp_path: Path, skip: bool) -> None:
    config = Config(skip_ssl_validation=skip)
    server = server_context(leaf(ROOT, "another").pair(), tmp_path)

    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server, backend_context(config))
    if skip:
        shake(server, service_context(config))
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            shake(server, service_context(config))


def test_unusable_settings_of_route_services_are_named() -> None:
    one, other = issue(AUTHORITY, ["a"]), issue(AUTHORITY, ["b"])
    mixed = RouteServices(cert_chain=one.certificate, private_key=other.private_key)

    with pytest.raises(TlsError, match="route_services: "):
        service_context(Config(route_services=mixed))
    with pytest.raises(TlsError, match=r"ca_certs\[0\]: "):
        service_context(Config(ca_certs=["no PEM"]))
