"""What a worker tells the platform's agent: requests, their times, copies of log lines (GOROUTER.md §10.5).

Owns what is told of an exchange; does not own the encoding (`wire.dropsonde`), the socket (`metrics.Agent`), nor
the log line that is copied (`access_log`). One law: with no agent listening an exchange costs next to nothing.
"""

from dataclasses import dataclass
from time import monotonic, time_ns

from router.metrics import Agent
from router.proxy.observer import Observed
from router.routing.pool import Endpoint
from router.wire import dropsonde
from router.wire.dropsonde import CLIENT, NO_INSTANCE, SERVER, Encoder, Http, Instance

_UNKNOWN_LENGTH = -1
_KNOWN_INSTANCES = 4096


@dataclass(frozen=True, slots=True)
class EnvelopeOptions:
    """What is told.

    Attributes:
        server_events: ``send_http_start_stop_server_event``.
        client_events: ``send_http_start_stop_client_event``.
        values: ``enable_envelope_v1_metrics`` and ``per_request_metrics_reporting``: times of every request.
        index: ``index``, the source instance of log lines.
    """

    server_events: bool
    client_events: bool
    values: bool
    index: str


class Envelopes:
    """Tells of the exchanges of one worker. Is an `Observer`.

    Args:
        agent: where everything goes; belongs to this from now on.
    """

    def __init__(self, options: EnvelopeOptions, encoder: Encoder, agent: Agent) -> None:
        self.agent = agent
        self._options = options
        self._encoder = encoder
        self._instances: dict[int, tuple[Endpoint, Instance]] = {}

    def attempted(self, exchange: Observed, failed: bool, now: float) -> None:
        """Tell of an attempt: this router as a client."""
        if not self._options.client_events:
            return
        if now < self.agent.silent_until:
            self.agent.lost += 1
            return
        request = self._request(
            exchange,
            CLIENT,
            exchange.attempt_at,
            now,
            exchange.forwarded_for,
            0 if failed else exchange.status,
            0 if failed else _UNKNOWN_LENGTH,
        )
        self.agent.send(self._encoder.http(request, self._instance_of(exchange), time_ns()), now)

    def finished(self, exchange: Observed, now: float) -> None:
        """Tell of an exchange: this router as a server, and how long things took."""
        if now < self.agent.silent_until:
            self.agent.lost += 1
            return
        if self._options.server_events:
            self._tell_server_event(exchange, now)
        if self._options.values:
            self._tell_values(exchange, now)

    def log_line(self, exchange: Observed, line: bytes) -> None:
        """Copy an access-log line, short enough already, to the log stream of the app that was asked, if any."""
        endpoint = exchange.endpoint
        if endpoint is None or not endpoint.record.app:
            return
        now = monotonic()
        if now < self.agent.silent_until:
            self.agent.lost += 1
            return
        message = line.removesuffix(b"\n")
        instance = self._instance(endpoint)
        self.agent.send(self._encoder.log(message, instance, "RTR", self._options.index, time_ns()), now)

    def figures(self) -> dict[str, int]:
        """Return what became of the datagrams, for metrics."""
        return {"metron_datagrams_sent": self.agent.sent, "metron_datagrams_lost": self.agent.lost}

    def close(self) -> None:
        self.agent.close()

    def _tell_server_event(self, exchange: Observed, now: float) -> None:
        received_for = exchange.head.special.get(b"x-forwarded-for", b"")
        request = self._request(
            exchange, SERVER, exchange.started, now, received_for, exchange.status, exchange.bytes_out
        )
        tags = b""
        if exchange.trace_id and exchange.span_id:
            ids = (("trace_id", exchange.trace_id.decode()), ("span_id", exchange.span_id.decode()))
            tags = dropsonde.encode_tags(ids)
        self.agent.send(self._encoder.http(request, self._instance_of(exchange), time_ns(), tags), now)

    def _tell_values(self, exchange: Observed, now: float) -> None:
        wall_ns = time_ns()
        endpoint = exchange.endpoint
        if exchange.lookup_s:
            self._tell("route_lookup_time", exchange.lookup_s * 1e9, "ns", wall_ns, now)
        if endpoint is None or exchange.service is not None or exchange.tunnelling:
            return
        latency_ms = (now - exchange.started) * 1e3
        self._tell("latency", latency_ms, "ms", wall_ns, now)
        component = endpoint.tags.get("component")
        if component:
            self._tell(f"latency.{component}", latency_ms, "ms", wall_ns, now)
        own_ms = ((exchange.proxied_at or now) - exchange.started) * 1e3
        self._tell("gorouter_time", own_ms, "ms", wall_ns, now)

    def _tell(self, name: str, value: float, unit: str, wall_ns: int, now: float) -> None:
        self.agent.send(self._encoder.value(name, value, unit, wall_ns), now)

    def _request(
        self,
        exchange: Observed,
        peer: int,
        began: float,
        now: float,
        forwarded_for: bytes,
        status: int,
        length: int,
    ) -> Http:
        head = exchange.head
        client = exchange.client
        scheme = "https" if client.secure else "http"
        return Http(
            exchange.received_ns + int((began - exchange.started) * 1e9),
            exchange.received_ns + int((now - exchange.started) * 1e9),
            dropsonde.encode_uuid(exchange.request_id.decode("latin-1")),
            peer,
            head.method,
            f"{scheme}://{_text(head.host)}{_text(head.path.partition(b'?')[0])}",
            _text(client.peer),
            _text(head.special.get(b"user-agent", b"")),
            status,
            length,
            [_text(hop.strip()) for hop in forwarded_for.split(b",")] if forwarded_for else (),
        )

    def _instance_of(self, exchange: Observed) -> Instance:
        if exchange.endpoint is None or exchange.service is not None:
            return NO_INSTANCE
        return self._instance(exchange.endpoint)

    def _instance(self, endpoint: Endpoint) -> Instance:
        known = self._instances.get(endpoint.endpoint_id)
        if known is not None and known[0] is endpoint:
            return known[1]
        if len(self._instances) >= _KNOWN_INSTANCES:
            self._instances.clear()
        record = endpoint.record
        instance = Instance(record.app, record.instance_index, record.instance_id, endpoint.tags.as_dict())
        self._instances[endpoint.endpoint_id] = (endpoint, instance)
        return instance


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")
