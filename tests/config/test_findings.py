from router.config.build import Built
from router.config.findings import Findings
from router.config.problems import Problem

LINES = {"enable_ssl": 3, "nats": 5, "nats.hosts": 6, "tls_pem": 8, "tls_pem[0]": 9}


def test_a_finding_points_at_its_setting() -> None:
    findings = Findings(Built(lines=LINES))
    findings.error("nats.hosts", "no")
    assert findings.errors == [Problem("no", "nats.hosts", 6)]


def test_a_missing_setting_borrows_the_line_of_what_demands_it() -> None:
    findings = Findings(Built(lines=LINES))
    findings.error("cipher_suites", "no", "enable_ssl")
    findings.warn("nats.ca_certs", "no", "enable_ssl")
    assert [problem.line for problem in findings.errors + findings.warnings] == [3, 3]


def test_a_missing_setting_without_reason_points_at_its_section() -> None:
    findings = Findings(Built(lines=LINES))
    findings.error("tls_pem[0].cert_chain", "no")
    findings.error("tls_pem[7].cert_chain", "no")
    findings.error("nats.hosts[0].hostname", "no")
    findings.error("port", "no")
    assert [problem.line for problem in findings.errors] == [9, 8, 6, None]


def test_settings_known_to_be_wrong_are_not_judged_again() -> None:
    findings = Findings(Built(lines=LINES, bad={"nats", "tls_pem[0]", "enable_ssl"}))
    findings.error("nats.hosts[0].port", "no")
    findings.error("tls_pem[0].cert_chain", "no")
    findings.warn("cipher_suites", "no", "enable_ssl")
    findings.error("tls_pem[1].cert_chain", "yes")
    assert [problem.message for problem in findings.errors + findings.warnings] == ["yes"]
