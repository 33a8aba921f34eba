"""`router.register` and `router.unregister` payloads: bytes in, one checked value or a clear error out.

Owns which payloads are accepted and what each field means; does not own what a registration does. One law: a
payload is taken whole or not at all, and what is taken can be dialled, put into a header and logged as it is.

Decoding follows Gorouter, on which agents rely: field names in any case, the last of several wins, unknown fields
and nulls count as absent, a known field of a wrong type or out of range spoils the whole message, invalid UTF-8
becomes U+FFFD. Stricter than Gorouter, so that nothing malformed ever enters the table: a message that names uris
needs a host and a port that can be dialled, no text field may hold control characters, and one message may name no
more than `MAX_URIS` uris.

Payloads spelled the usual way take `_decode_usual`, one typed pass in C; whatever that refuses is judged again by
`_decode_any_case`, which is slower and knows every rule. The two agree on all that the first accepts.
"""

import ipaddress
import json
import re
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import msgspec

from router.wire.announcement import DEFAULT_WEIGHT, MAX_WEIGHT

MAX_URIS = 10_000
"""More uris than this in one message are a mistake or an attack: applying them would stall everyone else."""

MAX_URI_CHARS = 8192
"""Longer uris are left out like those with control characters: no request could ask for them."""

MAX_HOST_CHARS = 255


class RegistrationError(ValueError):
    """A payload that is no registration; the text says which field and why, fit for a log line."""


class Registration(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One accepted message. Absent fields are empty or 0."""

    host: str
    """Name or address to dial; an IPv6 address comes without brackets. Empty only if there are no uris."""
    port: int
    """``tls_port`` if the message had one, else ``port``. 0 only if there are no uris."""
    tls: bool
    uris: tuple[str, ...]
    malformed_uris: tuple[str, ...] = ()
    """Entries left out of ``uris`` for control characters or length."""
    app: str = ""
    instance_id: str = ""
    instance_index: str = ""
    isolation_segment: str = ""
    san: str = ""
    protocol: str = "http1"
    """As given; only ``http2`` differs from ``http1`` in effect."""
    route_service_url: str = ""
    stale_threshold_s: int = 0
    """Time to live without a heartbeat; 0 leaves it to the router."""
    tags: dict[str, str] = {}
    availability_zone: str = ""
    updated_at_ns: int = 0
    algorithm: str = ""
    """As given, known or not."""
    hash_header: str = ""
    hash_balance: float = 0.0
    route_policy_scope: str = ""
    route_policy_sources: str = ""
    weight: int = DEFAULT_WEIGHT
    """Of the endpoint beside the others of its pools; 0 to `MAX_WEIGHT`."""
    malformed_weight: str = ""
    """What was given as a weight and is none; ``weight`` is as if nothing was."""

    @property
    def address(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_Text = str | None
_Port = Annotated[int, msgspec.Meta(ge=0, le=65535)] | None
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None


class _Options(msgspec.Struct, forbid_unknown_fields=True):
    loadbalancing: _Text = None
    hash_header: _Text = None
    hash_balance: _Text = None
    route_policy_scope: _Text = None
    route_policy_sources: _Text = None
    weight: Any = None


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    """The fields by their names on the wire; an unknown one may be a known one in another case."""

    host: _Text = None
    port: _Port = None
    tls_port: _Port = None
    uris: list[_Text] | None = None
    app: _Text = None
    private_instance_id: _Text = None
    private_instance_index: _Text = None
    isolation_segment: _Text = None
    server_cert_domain_san: _Text = None
    protocol: _Text = None
    route_service_url: _Text = None
    stale_threshold_in_seconds: _Int64 = None
    tags: dict[str, _Text] | None = None
    availability_zone: _Text = None
    endpoint_updated_at_ns: _Int64 = None
    options: _Options | None = None
    # Ignored, but common in the messages of Cloud Foundry's agents: they must not cost the slower way.
    dea: msgspec.Raw = msgspec.Raw()
    external_port: msgspec.Raw = msgspec.Raw()
    route_service_guid: msgspec.Raw = msgspec.Raw()


_IGNORED = frozenset(("dea", "external_port", "route_service_guid"))
_MESSAGE_FIELDS = frozenset(_Message.__struct_fields__) - _IGNORED
_OPTION_FIELDS = frozenset(_Options.__struct_fields__)

_decode_usual = msgspec.json.Decoder(_Message).decode

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BLANK = re.compile(r"[\x00-\x20\x7f]")
_NOT_GRAPHIC = re.compile(r"[^!-~]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def decode_registration(payload: bytes) -> Registration:
    """Decode the payload of a `router.register` or `router.unregister` message.

    Raises:
        RegistrationError: it is not one; nothing of it may be used.
    """
    try:
        message = _decode_usual(payload)
    except (ValueError, RecursionError):
        message = _decode_any_case(payload)
    return _checked(message)


def _decode_any_case(payload: bytes) -> _Message:
    text = payload.decode("utf-8", "replace")
    try:
        pairs = _scanner.decode(text)
    except RecursionError as error:
        raise RegistrationError("nested too deeply") from error
    except ValueError as error:
        raise RegistrationError(f"not JSON: {error}") from error
    if not isinstance(pairs, _Pairs):
        raise RegistrationError("not a JSON object")
    try:
        return msgspec.convert(_known_fields(pairs, _MESSAGE_FIELDS, _plain), _Message)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RegistrationError(str(error)) from error


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs in order: the same key may come twice, in two cases."""


class _HugeInteger:
    """Stands for an integer no field can hold, so that a payload of digits costs no arithmetic."""


def _parse_int(digits: str) -> object:
    return int(digits) if len(digits) <= 20 else _HugeInteger()


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_scanner = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=_parse_int, parse_constant=_reject_constant)


def _known_fields(pairs: _Pairs, names: frozenset[str], plain: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Return the fields with these names, in any case, each as its last occurrence has it.

    Raises `msgspec.ValidationError` if an earlier occurrence has a wrong type: that spoils the message too.
    """
    fields: dict[str, Any] = {}
    for key, value in pairs:
        name = key.lower()
        if name not in names:
            continue
        if name in fields:
            msgspec.convert({name: fields[name]}, _Message if names is _MESSAGE_FIELDS else _Options)
        fields[name] = plain(name, value)
    return fields


def _plain(name: str, value: Any) -> Any:
    """Turn what the scanner made of a field into what `msgspec.convert` takes."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, _Pairs):
        if name == "options":
            return _known_fields(value, _OPTION_FIELDS, _plain)
        return _plain_mapping(value)
    if isinstance(value, list):
        return [_plain("", item) for item in value]
    return value


def _plain_mapping(pairs: _Pairs) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        name = _SURROGATE.sub("\ufffd", key)
        # A wrong type is not overwritten, so that it is found.
        if isinstance(mapping.get(name), str | None):
            mapping[name] = _plain("", value)
    return mapping


def _checked(message: _Message) -> Registration:
    """Apply the rules that no type expresses."""
    uris, malformed = _split_uris(message.uris)
    host = message.host or ""
    port = message.tls_port or message.port or 0
    if uris:
        host = _checked_host(host)
        if port == 0:
            raise RegistrationError("port: 0 cannot be dialled")
    options = message.options or _NO_OPTIONS
    weight, malformed_weight = _checked_weight(options.weight)
    return Registration(
        host=host,
        port=port,
        tls=bool(message.tls_port),
        uris=uris,
        malformed_uris=malformed,
        app=_line("app", message.app),
        instance_id=_line("private_instance_id", message.private_instance_id),
        instance_index=_line("private_instance_index", message.private_instance_index),
        isolation_segment=_line("isolation_segment", message.isolation_segment),
        san=_line("server_cert_domain_san", message.server_cert_domain_san),
        protocol=_line("protocol", message.protocol) or "http1",
        route_service_url=_checked_route_service(message.route_service_url),
        stale_threshold_s=max(message.stale_threshold_in_seconds or 0, 0),
        tags=_without_nulls(message.tags),
        availability_zone=_line("availability_zone", message.availability_zone),
        updated_at_ns=max(message.endpoint_updated_at_ns or 0, 0),
        algorithm=_line("options.loadbalancing", options.loadbalancing),
        hash_header=_line("options.hash_header", options.hash_header),
        hash_balance=_checked_balance(options.hash_balance),
        route_policy_scope=_line("options.route_policy_scope", options.route_policy_scope),
        route_policy_sources=_line("options.route_policy_sources", options.route_policy_sources),
        weight=weight,
        malformed_weight=malformed_weight,
    )


_NO_OPTIONS = _Options()


def _line(name: str, value: str | None) -> str:
    """Return the text of a field that may end up in a header, where a line break would start another."""
    if not value:
        return ""
    if not value.isprintable() and _CONTROL.search(value):
        raise RegistrationError(f"{name}: control character")
    return value


def _split_uris(uris: list[str | None] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Separate the uris that may become routes from those that are left out."""
    if not uris:
        return (), ()
    if len(uris) > MAX_URIS:
        raise RegistrationError(f"uris: {len(uris)} entries, no more than {MAX_URIS} are taken")
    given = [uri for uri in uris if uri is not None]
    malformed = tuple(uri for uri in given if len(uri) > MAX_URI_CHARS or _CONTROL.search(uri))
    return tuple(uri for uri in given if uri not in malformed) if malformed else tuple(given), malformed


def _checked_host(host: str) -> str:
    # Gorouter: takes an empty host as ":port" and fails when it dials.
    if not host:
        raise RegistrationError("host: missing or empty")
    if len(host) > MAX_HOST_CHARS or _NOT_GRAPHIC.search(host):
        raise RegistrationError("host: neither a host name nor an address")
    if ":" in host or host[0] == "[":
        return _checked_ipv6(host)
    return host


def _checked_ipv6(host: str) -> str:
    address = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ipaddress.IPv6Address(address)
    except ValueError as error:
        raise RegistrationError("host: neither a host name nor an address") from error
    return address


def _checked_route_service(url: str | None) -> str:
    if not url:
        return ""
    if not url.startswith("https"):
        raise RegistrationError("Unable to validate message. route_service_url must be https")
    if _BLANK.search(url):
        raise RegistrationError("route_service_url: space or control character")
    # Whether it is a URL is found out by the requests that need it: a bad one costs their route alone.
    return url


def _checked_balance(text: str | None) -> float:
    """Read ``hash_balance``: a JSON number inside a string, e.g. ``"1.25"``."""
    if text is None:
        return 0.0
    if len(text) > 64 or not _JSON_NUMBER.fullmatch(text):
        raise RegistrationError("options.hash_balance: not a number in a string")
    value = float(text)
    if not 0.0 <= value < float("inf"):
        raise RegistrationError("options.hash_balance: out of range")
    return value


def _checked_weight(value: object) -> tuple[int, str]:
    """Return ``weight``; one that is none, of whatever type, is the default, and comes back as text for the log.

    It spoils no more than itself, because an instance with the share of the others is better than none.
    """
    if value is None:
        return DEFAULT_WEIGHT, ""
    if type(value) is int and 0 <= value <= MAX_WEIGHT:
        return value, ""
    if isinstance(value, str):
        return DEFAULT_WEIGHT, repr(value[:40])
    if isinstance(value, _HugeInteger) or (isinstance(value, int) and abs(value) >= 2**64):
        return DEFAULT_WEIGHT, "number too large"
    return DEFAULT_WEIGHT, repr(value).lower() if isinstance(value, int | float) else type(value).__name__


def _without_nulls(tags: dict[str, str | None] | None) -> dict[str, str]:
    if not tags:
        return {}
    if None in tags.values():
        return {name: value for name, value in tags.items() if value is not None}
    return tags  # type: ignore[return-value]
