"""What a client's TLS handshake proves of it: real handshakes in memory."""

import base64
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from router.proxy.presented import ANONYMOUS, Presented
from router.routing.route_policy import Caller
from tests.support.certificates import shake_hands
from tests.support.odd_certificates import dns, make

ROOT = make("CN=root", authority=True)
SERVER = make("CN=front", ROOT, names=dns("front.test"))
CLIENT = make("CN=instance-0/OU=app:a", ROOT)


class Stream:
    """The one thing that is asked of a TLS stream."""

    def __init__(self, shaken: ssl.SSLObject) -> None:
        self._shaken = shaken

    def get_extra_info(self, name: str) -> ssl.SSLObject:
        assert name == "ssl_object"
        return self._shaken


@pytest.fixture
def streams(tmp_path: Path) -> SimpleNamespace:
    def load(context: ssl.SSLContext, odd: Any) -> ssl.SSLContext:
        context.load_verify_locations(cadata=ROOT.pem)
        if odd is not None:
            path = tmp_path / "pair.pem"
            path.write_text("".join(odd.pair()))
            context.load_cert_chain(path)
        return context

    server = load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), SERVER)
    server.verify_mode = ssl.CERT_OPTIONAL
    known = load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), CLIENT)
    unknown = load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), None)
    return SimpleNamespace(
        known=Stream(shake_hands(server, known, "front.test")[0]),
        unknown=Stream(shake_hands(server, unknown, "front.test")[0]),
    )


def test_certificate_is_shown_in_every_form_and_names_the_caller(streams: SimpleNamespace) -> None:
    presented = Presented(streams.known)
    assert presented.der == ssl.PEM_cert_to_DER_cert(CLIENT.pem)
    assert presented.base64 == base64.b64encode(presented.der)
    assert presented.certificate is not None
    assert presented.certificate["subject"]
    assert presented.caller == Caller("a")


def test_client_without_a_certificate_proves_nothing(streams: SimpleNamespace) -> None:
    presented = Presented(streams.unknown)
    assert (presented.certificate, presented.der, presented.base64, presented.caller) == (None, b"", b"", None)


def test_domain_and_server_name_are_those_the_front_tells(streams: SimpleNamespace) -> None:
    presented = Presented(streams.known, lambda stream: ("*.test", str(stream is streams.known)))
    assert (presented.domain, presented.server_name) == ("*.test", "True")
    assert (Presented(streams.known).domain, Presented(streams.known).server_name) == ("", "")


def test_client_without_tls_proves_nothing() -> None:
    assert (ANONYMOUS.certificate, ANONYMOUS.der, ANONYMOUS.domain, ANONYMOUS.server_name) == (None, b"", "", "")
    assert ANONYMOUS.caller is None
