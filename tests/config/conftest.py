"""Certificates, and a shorthand for judging YAML text."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from router.certs import Authority, Pair, issue, make_ca
from router.config.load import Examined, examine

Judge = Callable[[str], Examined]

SUITES = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"


@pytest.fixture(scope="session")
def authority() -> Authority:
    return make_ca("test CA")


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    return issue(authority, ["router.example.com"])


@pytest.fixture(scope="session")
def other_pair(authority: Authority) -> Pair:
    return issue(authority, ["other.example.com"])


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Write YAML text to a file and examine it."""

    def judge_text(text: str) -> Examined:
        path = tmp_path / "router.yml"
        path.write_text(text)
        return examine(path)

    return judge_text


@pytest.fixture
def with_tls(pair: Pair) -> Callable[..., str]:
    """YAML of a valid TLS configuration; keywords change or, if None, remove keys."""

    def text(**changes: object) -> str:
        settings = {
            "enable_ssl": True,
            "client_cert_validation": "none",
            "cipher_suites": SUITES,
            "tls_pem": [{"cert_chain": pair.certificate, "private_key": pair.private_key}],
            **changes,
        }
        return yaml.safe_dump({key: value for key, value in settings.items() if value is not None})

    return text
