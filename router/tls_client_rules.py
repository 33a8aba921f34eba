"""Rules about the subjects of client certificates, by the CA that issued them (GOROUTER.md §9.3).

Owns the decision about a handshake that OpenSSL takes for done; does not own how it ends (`tls_stream`). One law:
a client certificate that cannot be judged is refused.
"""

import ssl
from collections import OrderedDict
from typing import Any

from router.config.distinguished_name import full_text_of, text_of, text_of_setting
from router.config.schema import Config
from router.config.sections import ClientCertificateRule
from router.tls_ancestors import ancestors

_SESSIONS_REMEMBERED = 65_536
"""More than the 20,480 sessions that OpenSSL keeps for resumption."""
_DER = 2
"""``_ssl.ENCODING_DER``."""


class ClientRules:
    """All rules, and the sessions that satisfied them.

    Args:
        authorities: PEM of the CAs that rules may name.
    """

    def __init__(self, rules: list[ClientCertificateRule], authorities: str) -> None:
        self._ancestors = ancestors(authorities)
        self._rules = [
            (text_of_setting(rule.issuer_in_chain), frozenset(map(text_of_setting, rule.valid_cert_subjects)))
            for rule in rules
        ]
        self._good_sessions: OrderedDict[bytes, None] = OrderedDict()

    def check(self, ssl_object: ssl.SSLObject) -> str | None:
        """Return why the client of a finished handshake is refused, None if it is not.

        For each rule whose issuer is among the CAs of the verified chain, or above its last one, the client's
        subject must be one of the rule's. A client that presented no certificate passes: whether it must is not
        for rules to say.
        """
        if ssl_object.getpeercert(binary_form=True) is None:
            return None
        if ssl_object.session_reused:
            return self._check_resumed(ssl_object)
        try:
            chain = _verified_chain(ssl_object)
            subject, *issuers = map(_subject, chain)
            issuers += self._ancestors.get(chain[-1], ())
        except ValueError as error:
            return f"client certificate cannot be read: {error}"
        for issuer, subjects in self._rules:
            if issuer in issuers and subject not in subjects:
                return f"client certificate of CA {issuer!r} has the subject {subject!r}, which no rule allows"
        self._remember(ssl_object)
        return None

    def _check_resumed(self, ssl_object: ssl.SSLObject) -> str | None:
        # OpenSSL does not keep the chain with a session, but whoever was refused knows its session too.
        session = ssl_object.session
        if session is not None and session.id in self._good_sessions:
            return None
        return "client certificate of a resumed session that was not accepted here"

    def _remember(self, ssl_object: ssl.SSLObject) -> None:
        session = ssl_object.session
        if session is None or not session.id:
            return
        self._good_sessions[session.id] = None
        if len(self._good_sessions) > _SESSIONS_REMEMBERED:
            self._good_sessions.popitem(last=False)


def client_rules(config: Config) -> ClientRules | None:
    """Return the rules of a configuration, None if there are none to apply."""
    if not config.enable_verify_client_certificate_metadata or not config.verify_client_certificate_metadata:
        return None
    return ClientRules(config.verify_client_certificate_metadata, config.client_ca_certs)


def subject_text(der: bytes) -> str:
    """Return the whole subject of a certificate as Go prints it. Raises `ValueError` if it cannot be read."""
    from cryptography import x509

    return full_text_of(x509.load_der_x509_certificate(der).subject)


def _subject(der: bytes) -> str:
    from cryptography import x509

    return text_of(x509.load_der_x509_certificate(der).subject)


def _verified_chain(ssl_object: ssl.SSLObject) -> list[bytes]:
    """Return the chain as verified, leaf first, in DER form. Raises `ValueError` if there is none."""
    public: Any = getattr(ssl_object, "get_verified_chain", None)
    if public is not None:
        chain = list(public())
    else:
        # Python made it public with 3.13; what lies below has been there since 3.10.
        inner: Any = ssl_object._sslobj  # type: ignore[attr-defined]
        chain = [certificate.public_bytes(_DER) for certificate in inner.get_verified_chain() or ()]
    if not chain:
        raise ValueError("there is no verified chain")
    return chain
