"""The rules of the ``internal`` section.

Owns what must hold between its settings; a mistake here must never end in something being allowed, so whatever is
doubtful is an error.
"""

import ipaddress
import re

from router.config.findings import Findings
from router.config.internal import Internal
from router.config.resolvers import parse_resolver
from router.config.schema import Config

_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_CHOICES = {
    "answer": ("proxy", "endpoints"),
    "view": ("split", "open"),
    "unknown_answer": ("nodata", "nxdomain"),
    "identity": ("ip", "mtls", "ip+mtls", "ip+mtls-if-offered"),
}
_SOURCES = ("jetstream", "file", "policy_server")


def check_internal(config: Config, findings: Findings) -> None:
    """Record every mistake of the section; nothing is checked while it is off."""
    internal = config.internal
    if not internal.enabled:
        return
    _domains(internal, findings)
    _networks(internal, findings)
    _policies(internal, findings)
    _proxy(internal, findings)
    _policy_api(internal, findings)
    _discovery(internal, findings)
    _identities(internal, findings)
    _dns(internal, findings)


def _domains(internal: Internal, findings: Findings) -> None:
    seen: set[str] = set()
    for index, domain in enumerate(internal.domains):
        key = f"internal.domains[{index}]"
        name = domain.name.lower().rstrip(".")
        if _DOMAIN.fullmatch(name) is None:
            findings.error(f"{key}.name", f"not a domain name of two or more labels: {domain.name!r}")
        if name in seen:
            findings.error(f"{key}.name", f"domain {name} is named twice")
        seen.add(name)
        for field, allowed in _CHOICES.items():
            value = getattr(domain, field)
            if value not in allowed:
                findings.error(
                    f"{key}.{field}", f"Invalid {field} {value}. Allowed values are [{' '.join(allowed)}]"
                )
        # A certificate that is offered but cannot be verified is ignored by `ip+mtls-if-offered` alone.
        if domain.identity in ("mtls", "ip+mtls") and not internal.proxy.identity_ca_certs:
            text = f"identity {domain.identity} needs internal.proxy.identity_ca_certs"
            findings.error(f"{key}.identity", text, "internal.proxy.identity_ca_certs")


def _networks(internal: Internal, findings: Findings) -> None:
    if not internal.container_networks:
        findings.error(
            "internal.container_networks", "at least one container network is needed", "internal.domains"
        )
    for index, network in enumerate(internal.container_networks):
        _network(f"internal.container_networks[{index}]", network, findings)
    for index, network in enumerate(internal.identities.excluded):
        _network(f"internal.identities.excluded[{index}]", network, findings)
    for index, address in enumerate(internal.addresses):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            findings.error(f"internal.addresses[{index}]", f"not an IP address: {address}")
    if not internal.addresses:
        text = "at least one container-side address is needed for the proxy and DNS to listen on"
        findings.error("internal.addresses", text, "internal.domains")


def _network(key: str, text: str, findings: Findings) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        findings.error(key, f"not a network: {error}")


def _policies(internal: Internal, findings: Findings) -> None:
    policies = internal.policies
    if policies.source not in _SOURCES:
        text = f"Invalid policy source {policies.source}. Allowed values are [{' '.join(_SOURCES)}]"
        findings.error("internal.policies.source", text)
    if policies.source == "file" and not policies.file:
        findings.error("internal.policies.file", "the path of a policy file is needed", "internal.policies.source")
    if policies.source == "policy_server" and not policies.policy_server.url.startswith("https://"):
        text = "an https:// address of a policy server's internal API is needed"
        findings.error("internal.policies.policy_server.url", text, "internal.policies.source")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", policies.bucket):
        findings.error("internal.policies.bucket", f"not a bucket name: {policies.bucket!r}")
    if not 1 <= policies.replicas <= 5:
        findings.error("internal.policies.replicas", f"{policies.replicas} replicas; JetStream allows 1 to 5")


def _proxy(internal: Internal, findings: Findings) -> None:
    proxy = internal.proxy
    if proxy.https_ports and not (proxy.cert_chain and proxy.private_key):
        text = "https_ports need a certificate and its key"
        findings.error("internal.proxy.cert_chain", text, "internal.proxy.https_ports")
    both = set(proxy.http_ports) & set(proxy.https_ports)
    for port in sorted(both):
        findings.error(
            "internal.proxy.https_ports", f"port {port} is in http_ports too", "internal.proxy.http_ports"
        )
    for key, ports in (("http_ports", proxy.http_ports), ("https_ports", proxy.https_ports)):
        if 0 in ports:
            findings.error(f"internal.proxy.{key}", "port 0 cannot be dialled")
        if len(set(ports)) != len(ports):
            findings.error(f"internal.proxy.{key}", "a port is named twice")


def _policy_api(internal: Internal, findings: Findings) -> None:
    api = internal.policy_api
    open_to_all = not (api.jwt_keys or api.jwks_file or api.admin_token)
    try:
        loopback = ipaddress.ip_address(api.address).is_loopback
    except ValueError:
        findings.error("internal.policy_api.address", f"not an IP address: {api.address}")
        return
    if api.port and open_to_all and not loopback:
        text = "beyond loopback the API needs jwt_keys, jwks_file or admin_token"
        findings.error("internal.policy_api.address", text, "internal.policy_api.port")
    if bool(api.cert_chain) != bool(api.private_key):
        text = "cert_chain and private_key belong together"
        findings.error("internal.policy_api.cert_chain", text, "internal.policy_api.private_key")
    if api.internal_port and not (api.internal_cert_chain and api.internal_private_key and api.internal_ca_certs):
        text = "the internal API needs internal_cert_chain, internal_private_key and internal_ca_certs"
        findings.error("internal.policy_api.internal_port", text)


def _discovery(internal: Internal, findings: Findings) -> None:
    discovery = internal.discovery
    if discovery.register_interval < 1:
        text = "must be at least 1s: agents make a timer of it"
        findings.error("internal.discovery.register_interval", text)
    if discovery.staleness_threshold <= discovery.register_interval:
        text = "must be longer than register_interval, or every name goes stale between two announcements"
        findings.error("internal.discovery.staleness_threshold", text, "internal.discovery.register_interval")
    api = internal.discovery_api
    if api.port and not (api.cert_chain and api.private_key and api.ca_certs):
        text = "the discovery API needs cert_chain, private_key and ca_certs"
        findings.error("internal.discovery_api.port", text)


def _dns(internal: Internal, findings: Findings) -> None:
    for index, resolver in enumerate(internal.dns.resolvers):
        try:
            parse_resolver(resolver)
        except ValueError as error:
            findings.error(f"internal.dns.resolvers[{index}]", str(error))
    for index, address in enumerate(internal.addresses):
        if address in ("0.0.0.0", "::") and internal.dns.port:
            text = "containers are told this address by DNS, so it must be one of this machine's own"
            findings.error(f"internal.addresses[{index}]", text)


def _identities(internal: Internal, findings: Findings) -> None:
    identities = internal.identities
    if not 3 <= identities.ttl <= 86400:
        findings.error("internal.identities.ttl", "must be from 3s to 24h: agents repeat three times within it")
    if not identities.nats and not identities.file:
        text = "without agents on NATS a file is needed, or no container is ever known"
        findings.error("internal.identities.file", text, "internal.identities.nats")
