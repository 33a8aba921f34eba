"""The rules for everything TLS: versions, suites, certificates, keys and authorities.

Wherever Gorouter has a text for a mistake, it is used as it is. PEM texts are checked when what uses them is
switched on; left-overs of what is not in use stop nobody.
"""

import datetime
from collections.abc import Callable, Iterator

from router.config import ciphers, pem
from router.config.distinguished_name import text_of, text_of_setting
from router.config.findings import Findings
from router.config.schema import Config
from router.config.sections import StatusTls

TLS_VERSIONS = ("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")
MAX_TLS_VERSIONS = ("TLSv1.2", "TLSv1.3")
CLIENT_CERT_VALIDATIONS = ("none", "request", "require")


def check(config: Config, findings: Findings, now: datetime.datetime) -> None:
    """Apply every rule of this module; ``now`` (aware) decides which certificates have expired."""
    for rule in _RULES:
        rule(config, findings)
    for key, chain in _own_certificates(config):
        _warn_if_out_of_date(chain, key, findings, now)


def _versions(config: Config, findings: Findings) -> None:
    lowest, highest = config.min_tls_version, config.max_tls_version
    low_known, high_known = lowest in TLS_VERSIONS, highest in MAX_TLS_VERSIONS
    if not low_known:
        text = 'router.min_tls_version should be one of "", "TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1.0"'
        findings.error("min_tls_version", text)
    if not high_known:
        findings.error("max_tls_version", 'router.max_tls_version should be one of "TLSv1.2" or "TLSv1.3"')
    if config.enable_ssl and low_known and high_known and lowest > highest:
        text = (
            f"router.min_tls_version {lowest} is above router.max_tls_version {highest}: no client could connect"
        )
        findings.error("min_tls_version", text, "max_tls_version")


def _suites(config: Config, findings: Findings) -> None:
    suites = ciphers.resolve(config.cipher_suites)
    if config.enable_ssl and not config.cipher_suites:
        findings.error("cipher_suites", "must specify list of cipher suite when ssl is enabled", "enable_ssl")
        return
    # Gorouter reads the list only when its TLS listener is on.
    complain = findings.error if config.enable_ssl else findings.warn
    if suites.unknown:
        names, known = ":".join(suites.unknown), " ".join(ciphers.OPENSSL_NAMES)
        text = f"Invalid cipher string configuration: {names}, please choose from [{known}] or their IANA names"
        complain("cipher_suites", text)
    if suites.unavailable:
        names = ", ".join(suites.unavailable)
        findings.warn("cipher_suites", f"not available in this machine's OpenSSL, left out: {names}")
    if config.enable_ssl and config.min_tls_version != "TLSv1.3" and not (suites.usable or suites.unknown):
        findings.error("cipher_suites", f"no suite left for {config.min_tls_version}", "enable_ssl")


def _front_certificates(config: Config, findings: Findings) -> None:
    if not config.enable_ssl:
        return
    if not config.tls_pem:
        text = "router.tls_pem must be provided if router.enable_ssl is set to true"
        findings.error("tls_pem", text, "enable_ssl")
    for index, pair in enumerate(config.tls_pem):
        key = f"tls_pem[{index}]"
        if not pair.cert_chain.strip() or not pair.private_key.strip():
            text = "Error parsing PEM blocks of router.tls_pem, missing cert or key."
            findings.error(key, text, f"{key}.cert_chain", f"{key}.private_key")
            continue
        if _key_pair(pair.cert_chain, pair.private_key, key, "Error loading key pair:", findings):
            _names(pair.cert_chain, key, findings)


def _names(cert_chain: str, key: str, findings: Findings) -> None:
    if not pem.has_subject_alternative_name(cert_chain):
        text = "the certificate has no subjectAltName; clients that follow RFC 9525 refuse it"
        findings.warn(f"{key}.cert_chain", text)


def _client_certificates(config: Config, findings: Findings) -> None:
    if not config.enable_ssl:
        return
    validation = config.client_cert_validation
    if validation not in CLIENT_CERT_VALIDATIONS:
        text = "router.client_cert_validation must be one of 'none', 'request' or 'require'."
        findings.error("client_cert_validation", text, "enable_ssl")
    if config.only_trust_client_ca_certs and not config.client_ca_certs.strip() and validation != "none":
        text = (
            "router.client_ca_certs cannot be empty if router.only_trust_client_ca_certs is 'true' "
            "and router.client_cert_validation is set to 'request' or 'require'."
        )
        findings.error("client_ca_certs", text, "only_trust_client_ca_certs", "client_cert_validation")


def _authorities(config: Config, findings: Findings) -> None:
    for index, text in enumerate(config.ca_certs):
        message = f"Error while adding {index} cert in CACerts to gorouter's cert pool"
        _trusted(text, f"ca_certs[{index}]", message, findings)
    if config.client_ca_certs.strip():
        _trusted(
            config.client_ca_certs, "client_ca_certs", "Error while adding certs to the client CA pool", findings
        )
    for index, domain in enumerate(config.domains):
        message = f"Error while adding CA certs of domain {domain.name}"
        _trusted(domain.ca_certs, f"domains[{index}].ca_certs", message, findings)


def _domains(config: Config, findings: Findings) -> None:
    if config.domains and not config.enable_ssl:
        text = "requests to these hosts are refused with 421: without TLS no client can prove who it is"
        findings.warn("domains", text, "enable_ssl")


def _namesakes(config: Config, findings: Findings) -> None:
    """Warn of CAs of clients that OpenSSL cannot tell apart; for those of backends the router tries one by one."""
    if not config.enable_ssl:
        return
    texts = [("client_ca_certs", config.client_ca_certs)]
    texts += [(f"domains[{index}].ca_certs", domain.ca_certs) for index, domain in enumerate(config.domains)]
    for key, text in texts:
        for subject in pem.indistinguishable(text):
            findings.warn(
                key,
                f"several CAs have the subject {subject!r} and not all of them a subjectKeyIdentifier; "
                "clients of all but the first may be refused",
            )


def _metadata_rules(config: Config, findings: Findings) -> None:
    if not (config.enable_ssl and config.enable_verify_client_certificate_metadata):
        return
    if config.verify_client_certificate_metadata and config.client_cert_validation == "none":
        text = "no rule is ever applied: client_cert_validation does not ask for certificates"
        findings.warn("verify_client_certificate_metadata", text, "client_cert_validation")
    try:
        subjects = {text_of(found.subject) for found in pem.certificates(config.client_ca_certs)}
    except pem.PemError:
        subjects = set()
    for index, rule in enumerate(config.verify_client_certificate_metadata):
        issuer = text_of_setting(rule.issuer_in_chain)
        if issuer not in subjects:
            key = f"verify_client_certificate_metadata[{index}].issuer_in_chain"
            text = f"no CA certificate found for rule with ca subject {issuer}"
            findings.error(key, text, "client_ca_certs")


def _status(config: Config, findings: Findings) -> None:
    tls = config.status.tls
    if tls == StatusTls():
        return
    if not tls.key.strip():
        findings.error("status.tls.key", "router.status.tls.key must be provided", "status.tls")
    if not tls.certificate.strip():
        findings.error("status.tls.certificate", "router.status.tls.certificate must be provided", "status.tls")
    if not tls.port:
        findings.error("status.tls.port", "router.status.tls.port must not be 0")
    if tls.key.strip() and tls.certificate.strip():
        prefix = "Error loading router.status.tls certificate/key pair:"
        _key_pair(tls.certificate, tls.key, "status.tls", prefix, findings)


def _nats(config: Config, findings: Findings) -> None:
    nats = config.nats
    if not nats.tls_enabled:
        return
    because = "nats.tls_enabled"
    _key_pair(nats.cert_chain, nats.private_key, "nats", "Error loading NATS key pair:", findings, because)
    message = "Error while adding CACerts to gorouter's routing-api cert pool"
    _trusted(nats.ca_certs, "nats.ca_certs", message, findings, because)


def _routing_api(config: Config, findings: Findings) -> None:
    api = config.routing_api
    if not (api.uri and api.port):
        return
    because = "routing_api.uri"
    prefix = "Error loading routing-api key pair:"
    _key_pair(api.cert_chain, api.private_key, "routing_api", prefix, findings, because)
    message = "Error while adding CACerts to gorouter's routing-api cert pool"
    _trusted(api.ca_certs, "routing_api.ca_certs", message, findings, because)


def _outgoing(config: Config, findings: Findings) -> None:
    for key, pair in (("backends", config.backends), ("route_services", config.route_services)):
        chain, private = pair.cert_chain.strip(), pair.private_key.strip()
        if chain and private:
            _key_pair(pair.cert_chain, pair.private_key, key, "Error loading key pair:", findings)
        elif chain or private:
            missing = "private_key" if chain else "cert_chain"
            text = f"no client certificate is shown to anyone: {missing} is not set"
            findings.warn(f"{key}.{missing}", text, f"{key}.cert_chain", f"{key}.private_key")


def _own_certificates(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the certificates that are shown to anyone, each with its key path."""
    if config.enable_ssl:
        for index, pair in enumerate(config.tls_pem):
            yield f"tls_pem[{index}].cert_chain", pair.cert_chain
    if config.nats.tls_enabled:
        yield "nats.cert_chain", config.nats.cert_chain
    yield "status.tls.certificate", config.status.tls.certificate
    yield "backends.cert_chain", config.backends.cert_chain


def _warn_if_out_of_date(cert_chain: str, key: str, findings: Findings, now: datetime.datetime) -> None:
    try:
        start, end = pem.validity(cert_chain)
    except pem.PemError:
        return
    # Gorouter starts with such a certificate, and so do we: old clients may be better than none.
    if now > end:
        findings.warn(key, f"the certificate expired on {end:%Y-%m-%d %H:%M} UTC")
    elif now < start:
        findings.warn(key, f"the certificate is not valid before {start:%Y-%m-%d %H:%M} UTC")


def _key_pair(
    cert_chain: str, private_key: str, key: str, prefix: str, findings: Findings, because: str = ""
) -> bool:
    """Check a key pair; ``key`` is the section that holds both of its texts."""
    try:
        pem.check_key_pair(cert_chain, private_key)
    except pem.PemError as error:
        certificate = "certificate" if key == "status.tls" else "cert_chain"
        findings.error(f"{key}.{certificate}", f"{prefix} {error}", *filter(None, [because]))
        return False
    return True


def _trusted(text: str, key: str, message: str, findings: Findings, because: str = "") -> None:
    try:
        pem.check_authorities(text)
    except pem.PemError as error:
        findings.error(key, f"{message}: {error}", *filter(None, [because]))


_RULES: tuple[Callable[[Config, Findings], None], ...] = (
    _versions,
    _suites,
    _front_certificates,
    _client_certificates,
    _authorities,
    _metadata_rules,
    _domains,
    _namesakes,
    _status,
    _nats,
    _routing_api,
    _outgoing,
)
