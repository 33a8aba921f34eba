"""The ``internal`` section: names that resolve and route only container to container, under network policies.

Owns names, types and defaults of our own keys; none of them is Gorouter's. The section is off while ``domains`` is
empty. PEM values are inline text.
"""

from msgspec import Struct, field

from router.config.kinds import Count, Duration, Port


class InternalDomain(Struct, frozen=True, kw_only=True):
    """An entry of ``internal.domains``."""

    name: str = ""
    """The domain, e.g. ``apps.internal``; names below it are internal and never served in public."""
    answer: str = "proxy"
    """What DNS answers: ``proxy`` (``internal.addresses``) or ``endpoints`` (the instances' own addresses)."""
    view: str = "split"
    """``split``: a caller sees only names it may reach; ``open``: every registered caller sees every name."""
    unknown_answer: str = "nodata"
    """What an unknown (or forbidden) name gets: ``nodata`` or ``nxdomain``."""
    identity: str = "ip+mtls-if-offered"
    """How callers of the proxy are identified: ``ip``, ``mtls``, ``ip+mtls`` or ``ip+mtls-if-offered``."""


class InternalDiscovery(Struct, frozen=True, kw_only=True):
    """``internal.discovery``: announcements on ``service-discovery.*``."""

    register_interval: Duration = 60.0
    """Told to those who announce, as ``minimumRegisterIntervalInSeconds``; at least 1 s."""
    staleness_threshold: Duration = 180.0
    """A name's instance not heard of for longer is forgotten."""
    pruning_interval: Duration = 60.0
    """How often that is looked for."""
    resume_pruning_delay: Duration = 60.0
    """After NATS was away, nothing is forgotten for so long."""
    warm_duration: Duration = 60.0
    """After the first connection, names are not believed complete for so long."""


class InternalIdentities(Struct, frozen=True, kw_only=True):
    """``internal.identities``: which container address belongs to which app."""

    nats: bool = True
    """Hear trusted agents on the subjects ``router.identities.*``."""
    file: str = ""
    """Path of a YAML file with identities, watched for changes; may be used beside NATS."""
    ttl: Duration = 120.0
    """An identity its agent has not repeated for so long is gone."""
    quarantine: Duration = 180.0
    """After its identity is gone, no container older than that one is believed to have an address for so long."""
    keep: Duration = 600.0
    """While NATS is away identities hold, but not for longer than this beyond their ``ttl``."""
    excluded: list[str] = []
    """Addresses and networks that are never identities: gateways, NAT addresses, hosts."""


class PolicyServerSource(Struct, frozen=True, kw_only=True):
    """``internal.policies.policy_server``: poll a Cloud Foundry policy server's internal API."""

    url: str = ""
    """e.g. ``https://policy-server.service.cf.internal:4003``."""
    poll_interval: Duration = 5.0
    """How often it is asked whether policies have changed."""
    ca_certs: str = ""
    cert_chain: str = ""
    private_key: str = ""


class InternalPolicies(Struct, frozen=True, kw_only=True):
    """``internal.policies``: where policies are kept."""

    source: str = "jetstream"
    """``jetstream`` (a key-value bucket), ``file`` or ``policy_server``."""
    bucket: str = "network-policies"
    """Name of the JetStream key-value bucket."""
    replicas: Count = 1
    """Replicas of the bucket; the size of the NATS cluster."""
    file: str = ""
    """Path of a YAML file with policies, watched for changes."""
    policy_server: PolicyServerSource = field(default_factory=PolicyServerSource)
    keep: Duration = 600.0
    """When the source is lost, the last set holds for so long; then everything is denied."""


class PolicyApi(Struct, frozen=True, kw_only=True):
    """``internal.policy_api``: HTTP API compatible with Cloud Foundry's policy server."""

    address: str = "127.0.0.1"
    """Beyond loopback only with authentication configured."""
    port: Port = 0
    """External API; 0 switches it off. Upstream's is 4002."""
    cert_chain: str = ""
    private_key: str = ""
    """With both, the external API speaks TLS."""
    internal_port: Port = 0
    """Internal API with client certificates; 0 switches it off. Upstream's is 4003."""
    internal_cert_chain: str = ""
    internal_private_key: str = ""
    internal_ca_certs: str = ""
    """CA of the clients of the internal API."""
    jwt_keys: list[str] = []
    """PEM public keys (RS256) that sign tokens."""
    jwks_file: str = ""
    """Path of a JWKS file with further keys, read again when it changes."""
    audience: str = "network"
    issuer: str = ""
    """Demanded issuer; empty accepts any."""
    admin_token: str = ""
    """A static bearer token with ``network.admin``, for stand-alone use."""
    enable_space_developer_self_service: bool = False
    max_policies_per_app_source: Count = 150
    allowed_cors_domains: list[str] = []


class InternalDns(Struct, frozen=True, kw_only=True):
    """``internal.dns``: the DNS server for containers, on ``internal.addresses``, UDP and TCP."""

    port: Port = 53
    """0 switches it off."""
    resolvers: list[str] = []
    """``address`` or ``address:port`` other names are forwarded to; empty refuses them."""
    queries_per_second: Count = 500
    """Of one source address; more are dropped. 0 is no limit."""


class InternalProxy(Struct, frozen=True, kw_only=True):
    """``internal.proxy``: listeners for containers, on ``internal.addresses``."""

    http_ports: list[Port] = field(default_factory=lambda: [80])
    """Ports for plain HTTP."""
    https_ports: list[Port] = []
    """Ports for HTTPS."""
    cert_chain: str = ""
    private_key: str = ""
    """Certificate shown on ``https_ports``."""
    identity_ca_certs: str = ""
    """The CA, and the only one, of instance-identity certificates."""


class DiscoveryApi(Struct, frozen=True, kw_only=True):
    """``internal.discovery_api``: the service-discovery controller's HTTPS API and the DNS adapter's HTTP API."""

    address: str = "0.0.0.0"
    """Address the HTTPS API listens on."""
    port: Port = 0
    """HTTPS with client certificates; 0 switches it off. Upstream's is 8054."""
    cert_chain: str = ""
    private_key: str = ""
    ca_certs: str = ""
    """CA of the clients."""
    adapter_port: Port = 0
    """Plain HTTP on 127.0.0.1; 0 switches it off. Upstream's is 8053."""


class Internal(Struct, frozen=True, kw_only=True):
    """Internal routing; off while ``domains`` is empty."""

    domains: list[InternalDomain] = []
    """The internal domains; empty switches internal routing off."""
    container_networks: list[str] = []
    """Networks (CIDR) that container addresses lie in; announcements of others are refused."""
    addresses: list[str] = []
    """Container-side addresses of this machine that the proxy and DNS listen on."""
    discovery: InternalDiscovery = field(default_factory=InternalDiscovery)
    identities: InternalIdentities = field(default_factory=InternalIdentities)
    policies: InternalPolicies = field(default_factory=InternalPolicies)
    policy_api: PolicyApi = field(default_factory=PolicyApi)
    dns: InternalDns = field(default_factory=InternalDns)
    proxy: InternalProxy = field(default_factory=InternalProxy)
    discovery_api: DiscoveryApi = field(default_factory=DiscoveryApi)

    @property
    def enabled(self) -> bool:
        return bool(self.domains)
