"""Every mistake the ``internal`` section can hold, told with its key."""

from pathlib import Path

import pytest

from router.config.load import examine

GOOD = """
internal:
  domains: [{name: apps.internal}]
  container_networks: [10.255.0.0/16]
  addresses: [10.255.0.2]
"""


def problems(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "router.yml"
    path.write_text(text)
    return {problem.key: problem.message for problem in examine(path).errors}


def test_small_section_is_accepted(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD) == {}


def test_section_without_domains_is_off_and_not_checked(tmp_path: Path) -> None:
    assert problems(tmp_path, "internal: {container_networks: [nonsense], policies: {source: oracle}}") == {}


@pytest.mark.parametrize(
    ("addition", "key", "part"),
    [
        ("  policies: {source: oracle}", "internal.policies.source", "Invalid policy source oracle"),
        ("  policies: {source: file}", "internal.policies.file", "path of a policy file"),
        ("  policies: {source: policy_server}", "internal.policies.policy_server.url", "https://"),
        ("  policies: {bucket: 'a b'}", "internal.policies.bucket", "not a bucket name"),
        ("  policies: {replicas: 6}", "internal.policies.replicas", "1 to 5"),
        ("  proxy: {https_ports: [443]}", "internal.proxy.cert_chain", "certificate and its key"),
        ("  proxy: {http_ports: [0]}", "internal.proxy.http_ports", "cannot be dialled"),
        ("  proxy: {http_ports: [80, 80]}", "internal.proxy.http_ports", "named twice"),
        ("  proxy: {http_ports: [80, 8080]}", "internal.proxy.http_ports", "already used by status.port"),
        (
            "  proxy: {http_ports: [80], https_ports: [80], cert_chain: a, private_key: b}",
            "internal.proxy.https_ports",
            "in http_ports too",
        ),
        ("  policy_api: {port: 4002, address: 10.0.0.1}", "internal.policy_api.address", "beyond loopback"),
        ("  policy_api: {address: localhost}", "internal.policy_api.address", "not an IP address"),
        ("  policy_api: {cert_chain: x}", "internal.policy_api.cert_chain", "belong together"),
        ("  policy_api: {internal_port: 4003}", "internal.policy_api.internal_port", "needs internal_cert_chain"),
        ("  discovery: {register_interval: 500ms}", "internal.discovery.register_interval", "at least 1s"),
        ("  discovery: {staleness_threshold: 60s}", "internal.discovery.staleness_threshold", "longer than"),
        ("  discovery_api: {port: 8054}", "internal.discovery_api.port", "needs cert_chain"),
        ("  identities: {excluded: [10.0.0.1/8]}", "internal.identities.excluded[0]", "not a network"),
        ("  identities: {ttl: 2s}", "internal.identities.ttl", "from 3s to 24h"),
        ("  identities: {ttl: 25h}", "internal.identities.ttl", "from 3s to 24h"),
        ("  identities: {nats: false}", "internal.identities.file", "no container is ever known"),
        ("  dns: {resolvers: [10.0.0.1, dns.example.com]}", "internal.dns.resolvers[1]", "not an IP address"),
        ("  dns: {resolvers: ['10.0.0.1:0']}", "internal.dns.resolvers[0]", "not a port number"),
    ],
)
def test_mistake_is_told_with_its_key(tmp_path: Path, addition: str, key: str, part: str) -> None:
    assert part in problems(tmp_path, GOOD + addition)[key]


def test_mistakes_in_domains_networks_and_addresses_are_told_together(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
internal:
  domains: [{name: internal}, {name: a.b, answer: maybe, identity: mtls}, {name: A.b.}]
  container_networks: [ten]
  addresses: [here]
""",
    )
    assert set(found) == {
        "internal.domains[0].name",
        "internal.domains[1].answer",
        "internal.domains[1].identity",
        "internal.domains[2].name",
        "internal.container_networks[0]",
        "internal.addresses[0]",
    }


def test_addresses_and_networks_are_needed(tmp_path: Path) -> None:
    found = problems(tmp_path, "internal: {domains: [{name: a.b}]}")
    assert set(found) == {"internal.container_networks", "internal.addresses"}


def test_address_that_no_container_can_dial_is_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD.replace("10.255.0.2", "0.0.0.0"))
    assert "one of this machine's own" in found["internal.addresses[0]"]
