import ssl

import pytest
from msgspec import structs

from router.certs import issue, make_ca
from router.config.schema import Config
from router.config.sections import Status, StatusTls
from router.control.status_tls import has_tls_health, health_context
from router.tls import TlsError
from tests.support.certificates import client_context
from tests.test_tls import handshake

AUTHORITY = make_ca()
PAIR = issue(AUTHORITY, ["health.test"])
STATUS = Status(tls=StatusTls(certificate=PAIR.certificate, key=PAIR.private_key))


@pytest.mark.parametrize("mode", ["none", "request", "require"])
def test_health_needs_no_client_certificate_whatever_the_front_demands(mode: str) -> None:
    config = Config(
        status=STATUS, client_cert_validation=mode, client_ca_certs=AUTHORITY.pair.certificate, ssl_port=1
    )
    for highest in ("TLSv1.2", "TLSv1.3"):
        context = health_context(structs.replace(config, max_tls_version=highest))
        assert context.verify_mode == ssl.CERT_NONE
        assert handshake(context, client_context(AUTHORITY), "health.test").version() == highest


def test_any_setting_switches_the_listener_on() -> None:
    assert not has_tls_health(Status())
    assert has_tls_health(Status(tls=StatusTls(port=9443)))
    assert has_tls_health(Status(tls=StatusTls(certificate="x")))
    assert has_tls_health(STATUS)


def test_unusable_certificate_is_named() -> None:
    with pytest.raises(TlsError, match=r"status\.tls: "):
        health_context(Config(status=Status(tls=StatusTls(certificate="x", key="y"))))
