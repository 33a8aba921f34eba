"""What an announcement must look like before it is sent: every mistake found at once, in words for people.

Stricter than a router is when it listens: routers accept nearly anything as a uri, and then no request matches it.
"""

import re
from collections.abc import Callable

import msgspec

from router.wire.announcement import MAX_WEIGHT, Announcement, PoolSettings, encode_announcement
from router.wire.discovery import MAX_NAMES, NameRegistration
from router.wire.identities import IdentityError, normal_address
from router.wire.registration import RegistrationError, decode_registration

_UNSAFE = re.compile(r"[\x00-\x20\x7f]")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\Z")
_PROTOCOLS = ("", "http1", "http2")
_ALGORITHMS = ("", "round-robin", "least-connection", "hash")
_OPAQUE = re.compile(r"[!-~]{0,255}\Z")


def announcement_problems(announcement: Announcement) -> list[str]:
    """Return one sentence for each mistake; nothing if the announcement can be sent."""
    if problem := _type_problem(announcement) or _type_problem(announcement.options):
        return [problem]
    problems = [problem for uri in announcement.uris for problem in uri_problems(uri)]
    if not announcement.uris:
        problems.append("an announcement needs at least one uri")
    problems += _address_problems(announcement) + _other_problems(announcement)
    return problems or _refusals(announcement)


def _type_problem(given: Announcement | NameRegistration | PoolSettings) -> str:
    """Return the first field that is of another type than it should be; empty if none is.

    Who has no type checker writes ``uris="app.example.com"``, and would announce a route for each letter.
    """
    fields = msgspec.structs.asdict(given)
    if not isinstance(options := fields.get("options", PoolSettings()), PoolSettings):
        return f"options: expected PoolSettings, got {type(options).__name__}"
    # Has words of its own, which also tell the range.
    fields.pop("weight", None)
    try:
        msgspec.convert(fields, type(given))
    except msgspec.ValidationError as error:
        told, _, place = str(error).partition(" - at ")
        return f"{place.replace('$.', '').replace('`', '')}: {told[:1].lower()}{told[1:].replace('`', '')}"
    return ""


def _refusals(announcement: Announcement) -> list[str]:
    """Return what a router would say of it: whatever is not caught here would be announced and never be routed."""
    try:
        heard = decode_registration(encode_announcement(announcement))
    except RegistrationError as error:
        return [f"routers would refuse it: {error}"]
    return [f"uri {uri[:80]!r}: routers would leave it out" for uri in heard.malformed_uris]


def name_problems(registration: NameRegistration) -> list[str]:
    """Return one sentence for each mistake in what announces internal names; nothing if it can be sent."""
    if problem := _type_problem(registration):
        return [problem]
    problems = [problem for name in registration.names for problem in _name_problems(name)]
    if not 1 <= len(registration.names) <= MAX_NAMES:
        problems.append(f"an internal route needs 1 to {MAX_NAMES:,} names, not {len(registration.names):,}")
    try:
        normal_address(registration.ip)
    except IdentityError as error:
        problems.append(f"ip: {error}")
    if not 0 <= registration.port <= 65535:
        problems.append(f"port {registration.port} is not between 1 and 65535")
    for field, text in (("app", registration.app), ("index", registration.index)):
        if not _OPAQUE.match(text):
            problems.append(f"{field} {text[:64]!r}: at most 255 printable ASCII characters without blanks")
    return problems


def _name_problems(name: str) -> list[str]:
    if name.startswith("*"):
        return [f"name {name!r}: an internal name has no `*`"]
    return _host_problems(f"name {name!r}", name.removesuffix("."))


def uri_problems(uri: str) -> list[str]:
    """Return what is wrong with a route like ``app.example.com`` or ``*.example.com/api``."""
    name = f"uri {uri!r}"
    if not uri:
        return ["a uri is empty"]
    if "://" in uri:
        return [f"{name}: leave out the scheme, a route is HOST or HOST/PATH"]
    if _UNSAFE.search(uri):
        return [f"{name}: blanks and control characters are not allowed"]
    if "?" in uri or "#" in uri:
        return [f"{name}: a route has neither a query nor a fragment"]
    host = uri.partition("/")[0]
    if ":" in host:
        return [f"{name}: a route has no port; the instance's port goes into `port` or `tls_port`"]
    return _host_problems(name, host)


def _host_problems(name: str, host: str) -> list[str]:
    if len(host) > 253:
        return [f"{name}: a host name has at most 253 characters"]
    labels = host.split(".")
    if labels[0] == "*" and len(labels) > 1:
        labels = labels[1:]
    if not all(_LABEL.match(label) and len(label) <= 63 for label in labels):
        return [f"{name}: {host!r} is not a host name; `*` may stand for the first label alone"]
    return []


def _address_problems(announcement: Announcement) -> list[str]:
    problems = []
    if not announcement.host:
        problems.append("host is empty: it is the address at which the router reaches the instance")
    elif _UNSAFE.search(announcement.host) or "/" in announcement.host or not announcement.host.isascii():
        problems.append(f"host {announcement.host!r} is neither a host name nor an IP address")
    for name, port in (("port", announcement.port), ("tls_port", announcement.tls_port)):
        if not 0 <= port <= 65535:
            problems.append(f"{name} {port} is not between 1 and 65535")
    if announcement.port == 0 and announcement.tls_port == 0:
        problems.append("either port or tls_port is needed")
    return problems


def _options_problems(options: PoolSettings) -> list[str]:
    if options.loadbalancing not in _ALGORITHMS:
        return [f"loadbalancing {options.loadbalancing!r} is none of {', '.join(_ALGORITHMS[1:])}"]
    if options.loadbalancing == "hash" and not options.hash_header:
        return ["loadbalancing hash needs a hash_header: the header whose value chooses the instance"]
    if options.loadbalancing != "hash" and (options.hash_header or options.hash_balance):
        return ["hash_header and hash_balance have no effect without loadbalancing hash"]
    return []


def _other_problems(announcement: Announcement) -> list[str]:
    checks: list[tuple[bool, Callable[[], str]]] = [
        (
            announcement.protocol not in _PROTOCOLS,
            lambda: f"protocol {announcement.protocol!r} is neither http1 nor http2",
        ),
        (
            announcement.route_service_url != "" and not announcement.route_service_url.startswith("https://"),
            lambda: f"route_service_url {announcement.route_service_url!r} must begin with https://",
        ),
        (
            announcement.server_cert_domain_san != "" and announcement.tls_port == 0,
            lambda: "server_cert_domain_san needs a tls_port: without TLS there is no certificate to check",
        ),
        (
            announcement.stale_threshold_in_seconds < 0,
            lambda: "stale_threshold_in_seconds is below 0",
        ),
        (
            type(announcement.weight) is not int or not 0 <= announcement.weight <= MAX_WEIGHT,
            lambda: f"weight {announcement.weight!r} is not a whole number from 0 to {MAX_WEIGHT}",
        ),
    ]
    return [text() for wrong, text in checks if wrong] + _options_problems(announcement.options)
