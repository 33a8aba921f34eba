import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from router.certs import Authority, Pair, issue
from router.config.load import examine
from router.config.problems import Problem
from tests.config.conftest import SUITES, Judge
from tests.support.odd_certificates import make

WithTls = Callable[..., str]


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


def test_a_complete_tls_configuration_is_right(judge: Judge, with_tls: WithTls) -> None:
    found = judge(with_tls(min_tls_version="TLSv1.2", max_tls_version="TLSv1.3"))
    assert not found.errors
    assert not found.warnings
    assert found.config.cipher_suites == SUITES.split(":")


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        (
            {"tls_pem": None},
            "tls_pem",
            "router.tls_pem must be provided if router.enable_ssl is set to true",
        ),
        (
            {"tls_pem": [{"cert_chain": "", "private_key": "x"}]},
            "tls_pem[0]",
            "Error parsing PEM blocks of router.tls_pem, missing cert or key.",
        ),
        (
            {"tls_pem": [{"cert_chain": "x", "private_key": "x"}]},
            "tls_pem[0].cert_chain",
            "Error loading key pair: no certificate found",
        ),
        (
            {"client_cert_validation": None},
            "client_cert_validation",
            "router.client_cert_validation must be one of 'none', 'request' or 'require'.",
        ),
        (
            {"client_cert_validation": "always"},
            "client_cert_validation",
            "router.client_cert_validation must be one of 'none', 'request' or 'require'.",
        ),
        (
            {"only_trust_client_ca_certs": True, "client_cert_validation": "request"},
            "client_ca_certs",
            "router.client_ca_certs cannot be empty if router.only_trust_client_ca_certs is 'true' and "
            "router.client_cert_validation is set to 'request' or 'require'.",
        ),
        ({"cipher_suites": None}, "cipher_suites", "must specify list of cipher suite when ssl is enabled"),
        (
            {"cipher_suites": f"{SUITES}:BAD:WORSE"},
            "cipher_suites",
            "Invalid cipher string configuration: BAD:WORSE, please choose from [AES128-GCM-SHA256 ",
        ),
        (
            {"min_tls_version": "SSLv3"},
            "min_tls_version",
            'router.min_tls_version should be one of "", "TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1.0"',
        ),
        (
            {"max_tls_version": "TLSv1.1"},
            "max_tls_version",
            'router.max_tls_version should be one of "TLSv1.2" or "TLSv1.3"',
        ),
        (
            {"min_tls_version": "TLSv1.3"},
            "min_tls_version",
            "router.min_tls_version TLSv1.3 is above router.max_tls_version TLSv1.2: no client could connect",
        ),
        ({"cipher_suites": "TLS_AES_128_GCM_SHA256"}, "cipher_suites", "no suite left for TLSv1.2"),
    ],
)
def test_a_broken_rule_of_the_tls_listener_is_told(
    judge: Judge, with_tls: WithTls, changes: dict[str, object], key: str, message: str
) -> None:
    error = only(judge(with_tls(**changes)).errors)
    assert error.key == key
    assert error.message.startswith(message)
    assert error.line


def test_tls_13_alone_needs_no_older_suite(judge: Judge, with_tls: WithTls) -> None:
    found = judge(
        with_tls(cipher_suites="TLS_AES_128_GCM_SHA256", min_tls_version="TLSv1.3", max_tls_version="TLSv1.3")
    )
    assert not found.errors
    assert found.config.cipher_suites == []


def test_suites_this_machine_lacks_are_left_out_with_a_warning(judge: Judge, with_tls: WithTls) -> None:
    found = judge(with_tls(cipher_suites=f"RC4-SHA:{SUITES}"))
    assert not found.errors
    assert only(found.warnings).message.endswith("left out: RC4-SHA")
    assert found.config.cipher_suites == SUITES.split(":")


def test_unknown_suites_without_a_tls_listener_are_a_warning(judge: Judge) -> None:
    found = judge("cipher_suites: BAD:AES128-SHA")
    assert not found.errors
    assert only(found.warnings).message.startswith("Invalid cipher string configuration: BAD")
    assert found.config.cipher_suites == ["AES128-SHA"]


def test_each_key_pair_is_judged_by_itself(judge: Judge, with_tls: WithTls, pair: Pair, other_pair: Pair) -> None:
    pairs = [
        {"cert_chain": pair.certificate, "private_key": other_pair.private_key},
        {"cert_chain": pair.certificate, "private_key": pair.private_key},
        {"cert_chain": pair.certificate, "private_key": "nothing"},
    ]
    found = judge(with_tls(tls_pem=pairs))
    assert [(error.key, error.message) for error in found.errors] == [
        ("tls_pem[0].cert_chain", "Error loading key pair: private key does not match public key"),
        ("tls_pem[2].cert_chain", "Error loading key pair: no usable private key found"),
    ]


def test_a_certificate_without_alternative_names_is_a_warning(
    judge: Judge, with_tls: WithTls, authority: Authority
) -> None:
    ca = authority.pair
    found = judge(with_tls(tls_pem=[{"cert_chain": ca.certificate, "private_key": ca.private_key}]))
    assert not found.errors
    assert "no subjectAltName" in only(found.warnings).message


def test_authorities_are_told_by_their_number(judge: Judge, authority: Authority) -> None:
    text = yaml.safe_dump({"ca_certs": [authority.pair.certificate, "rubbish", ""]})
    assert [(error.key, error.message) for error in judge(text).errors] == [
        ("ca_certs[1]", "Error while adding 1 cert in CACerts to gorouter's cert pool: no certificate found"),
        ("ca_certs[2]", "Error while adding 2 cert in CACerts to gorouter's cert pool: no certificate found"),
    ]


def test_damaged_client_authorities_are_told(judge: Judge) -> None:
    error = only(judge("client_ca_certs: rubbish").errors)
    assert error.message == "Error while adding certs to the client CA pool: no certificate found"


def test_a_domain_needs_authorities(judge: Judge, authority: Authority) -> None:
    domains = [{"name": "a.b", "ca_certs": authority.pair.certificate}, {"name": "*.c.d"}]
    error = only(judge(yaml.safe_dump({"domains": domains})).errors)
    assert error.key == "domains[1].ca_certs"
    assert error.message == "Error while adding CA certs of domain *.c.d: no certificate found"


@pytest.mark.parametrize(("common_name", "right"), [("test CA", True), ("another CA", False)])
def test_a_metadata_rule_needs_its_authority(
    judge: Judge, with_tls: WithTls, authority: Authority, common_name: str, right: bool
) -> None:
    text = with_tls(
        client_cert_validation="request",
        client_ca_certs=authority.pair.certificate,
        enable_verify_client_certificate_metadata=True,
        verify_client_certificate_metadata=[
            {"issuer_in_chain": {"common_name": common_name}, "valid_cert_subjects": [{"common_name": "x"}]}
        ],
    )
    messages = [error.message for error in judge(text).errors]
    assert messages == ([] if right else [f"no CA certificate found for rule with ca subject CN={common_name}"])


def test_a_metadata_rule_without_client_authorities_describes_its_whole_subject(
    judge: Judge, with_tls: WithTls
) -> None:
    subject = {"common_name": "c", "organization": ["o"], "organizational_unit": ["u", "v"], "country": ["DE"]}
    text = with_tls(
        enable_verify_client_certificate_metadata=True,
        verify_client_certificate_metadata=[{"issuer_in_chain": subject}],
    )
    assert only(judge(text).errors).message.endswith("with ca subject CN=c,OU=u+OU=v,O=o,C=DE")


def test_metadata_rules_that_nobody_is_asked_for_are_pointed_out(
    judge: Judge, with_tls: WithTls, authority: Authority
) -> None:
    text = with_tls(
        client_ca_certs=authority.pair.certificate,
        enable_verify_client_certificate_metadata=True,
        verify_client_certificate_metadata=[{"issuer_in_chain": {"common_name": "test CA"}}],
    )
    warnings = [each for each in judge(text).warnings if each.key == "verify_client_certificate_metadata"]
    assert only(warnings).message.startswith("no rule is ever applied")


def test_domains_without_tls_are_pointed_out(judge: Judge, with_tls: WithTls, authority: Authority) -> None:
    domains = [{"name": "a.test", "ca_certs": authority.pair.certificate}]
    found = judge(with_tls(enable_ssl=False, domains=domains))

    assert not found.errors
    assert [each.key for each in found.warnings] == ["domains"]
    assert "421" in found.warnings[0].message


@pytest.mark.parametrize("identifiers", [True, False])
def test_client_authorities_that_cannot_be_told_apart_are_pointed_out(
    judge: Judge, with_tls: WithTls, identifiers: bool
) -> None:
    twins = [make("O=Org/CN=twin", authority=True, identifiers=identifiers) for _ in range(2)]
    text = "".join(twin.pem for twin in twins)
    found = judge(with_tls(client_ca_certs=text, domains=[{"name": "a.test", "ca_certs": text}]))

    assert [each.key for each in found.warnings] == (
        [] if identifiers else ["client_ca_certs", "domains[0].ca_certs"]
    )
    assert all("'CN=twin,O=Org'" in each.message for each in found.warnings)


def test_an_authority_that_is_listed_twice_is_one(judge: Judge, with_tls: WithTls) -> None:
    text = make("CN=one", authority=True).pem * 2
    assert judge(with_tls(client_ca_certs=text)).warnings == []


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "status: {tls: {port: 0}}",
            [
                "router.status.tls.certificate must be provided",
                "router.status.tls.key must be provided",
                "router.status.tls.port must not be 0",
            ],
        ),
        ("status: {tls: {certificate: a}}", ["router.status.tls.key must be provided"]),
        ("status: {tls: {key: a}}", ["router.status.tls.certificate must be provided"]),
        (
            "status: {tls: {certificate: a, key: b}}",
            ["Error loading router.status.tls certificate/key pair: no certificate found"],
        ),
        (
            "nats: {tls_enabled: true}",
            [
                "Error loading NATS key pair: no certificate found",
                "Error while adding CACerts to gorouter's routing-api cert pool: no certificate found",
            ],
        ),
        (
            "routing_api: {uri: https://api, port: 3000}",
            [
                "Error loading routing-api key pair: no certificate found",
                "Error while adding CACerts to gorouter's routing-api cert pool: no certificate found",
            ],
        ),
        ("backends: {cert_chain: a, private_key: b}", ["Error loading key pair: no certificate found"]),
        ("route_services: {cert_chain: a, private_key: b}", ["Error loading key pair: no certificate found"]),
        ("nats: {cert_chain: left over}", []),
        ("routing_api: {uri: https://api}", []),
        ("tls_pem: [{cert_chain: left over}]", []),
    ],
)
def test_pem_texts_are_judged_where_they_are_used(judge: Judge, text: str, messages: list[str]) -> None:
    errors = judge(text).errors
    assert sorted(error.message for error in errors) == messages
    assert all(error.line == 1 for error in errors)


def test_nats_and_status_with_good_certificates_are_right(judge: Judge, authority: Authority) -> None:
    client = issue(authority, ["router"], client=True, server=False)
    ca = authority.pair.certificate
    text = yaml.safe_dump(
        {
            "nats": {
                "tls_enabled": True,
                "ca_certs": ca,
                "cert_chain": client.certificate,
                "private_key": client.private_key,
            },
            "status": {
                "enable_nontls_health_checks": False,
                "tls": {"certificate": client.certificate, "key": client.private_key},
            },
            "backends": {"cert_chain": client.certificate, "private_key": client.private_key},
        }
    )
    found = judge(text)
    assert (found.errors, found.warnings) == ([], [])


def test_half_a_client_certificate_is_a_warning(judge: Judge) -> None:
    found = judge("backends:\n  cert_chain: a\n")
    assert not found.errors
    warning = only(found.warnings)
    assert (warning.key, warning.line) == ("backends.private_key", 2)


@pytest.mark.parametrize(
    ("days", "words"), [(0, None), (-2, "is not valid before 20"), (4000, "the certificate expired on 20")]
)
def test_a_certificate_out_of_date_is_a_warning(
    tmp_path: Path, with_tls: WithTls, days: int, words: str | None
) -> None:
    path = tmp_path / "router.yml"
    path.write_text(with_tls())
    found = examine(path, datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days))
    assert not found.errors
    if words is None:
        assert not found.warnings
    else:
        warning = only(found.warnings)
        assert (warning.key, words in warning.message) == ("tls_pem[0].cert_chain", True)
