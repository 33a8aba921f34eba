"""A worker's counters: plain integers, added to on the hot path, sent to control about once a second.

Names follow Gorouter's metric names. Owns counting, not publishing: control merges the workers' numbers.
"""

DENIAL_REASONS = (
    "certificate-expired",
    "certificate-for-another-address",
    "certificate-of-another-app",
    "certificate-of-another-instance",
    "certificate-required",
    "certificate-without-app",
    "certificate-without-instance",
    "instance-not-live",
    "no-policy",
    "not-internal",
    "not-ready",
    "unknown-source",
)
"""Why requests of containers are refused, as the audit log says it; counted from zero so that rates can be had."""

_GROUPS = ("responses", "internal_denied")
"""Attributes that hold several counters."""


class Counters:
    """Everything one worker has counted since it started."""

    __slots__ = (
        "access_log_dropped",
        "backend_exhausted_conns",
        "backend_invalid_id",
        "backend_invalid_tls_cert",
        "backend_tls_handshake_failed",
        "bad_gateways",
        "bad_requests",
        "client_aborts",
        "internal_denials",
        "internal_denied",
        "internal_revocations",
        "rejected_requests",
        "requests",
        "responses",
        "retries",
        "total_requests",
        "websocket_failures",
        "websocket_upgrades",
    )

    def __init__(self) -> None:
        self.requests = 0
        """Exchanges that ended, router-made answers included."""
        self.total_requests = 0
        """Attempts to backends."""
        self.responses = [0, 0, 0, 0, 0, 0]
        """Responses of exchanges that had an endpoint, by first digit; index 0 is everything else."""
        self.rejected_requests = 0
        """Look-ups that ended in 400 or 404."""
        self.bad_requests = 0
        """Requests refused before they were one: malformed heads, impossible framing."""
        self.bad_gateways = 0
        self.backend_exhausted_conns = 0
        self.backend_invalid_id = 0
        self.backend_invalid_tls_cert = 0
        self.backend_tls_handshake_failed = 0
        self.client_aborts = 0
        self.internal_denials = 0
        """Requests of containers that were refused, for whatever reason."""
        self.internal_denied = dict.fromkeys(DENIAL_REASONS, 0)
        """The same by reason."""
        self.internal_revocations = 0
        """Exchanges ended because their permission was taken back."""
        self.retries = 0
        self.websocket_upgrades = 0
        self.websocket_failures = 0
        self.access_log_dropped = 0

    def add(self, name: str) -> None:
        """Count one of a failure class; an empty name counts nothing."""
        if name:
            setattr(self, name, getattr(self, name) + 1)

    def as_dict(self) -> dict[str, int]:
        """Return all counters by name, groups as ``responses_2xx`` and ``internal_denials_no_policy``."""
        counts = {name: getattr(self, name) for name in self.__slots__ if name not in _GROUPS}
        for digit, count in enumerate(self.responses):
            counts[f"responses_{digit or 'x'}xx"] = count
        for reason, count in self.internal_denied.items():
            counts[f"internal_denials_{reason.replace('-', '_')}"] = count
        return counts
