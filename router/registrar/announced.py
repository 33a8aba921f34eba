"""One route on its way to the routers: checked, stamped, and encoded once.

Owns what is said of a route; does not own when it is said (`registrar.announcer`). One law: a heartbeat has the
very bytes of the first announcement, for routers know it by them.
"""

from collections.abc import Iterable, Sequence

import msgspec

from router.registrar.dialect import Dialect
from router.registrar.rules import announcement_problems, name_problems
from router.wire.announcement import Announcement, encode_announcement
from router.wire.discovery import NameRegistration, encode_registration

AnyRoute = Announcement | NameRegistration

Place = tuple[str, str, int]
"""What a route leads to: the subject it is unregistered on, the address, and the port, 0 for internal names."""

MAX_PAYLOAD_BYTES = 1024 * 1024
"""What a NATS server takes unless it is configured otherwise."""


class AnnouncementError(ValueError):
    """What was to be announced is malformed; ``problems`` has one sentence for each mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


class Announced:
    """One route that is being announced, from `Announcer.announce` to `Announcer.withdraw`."""

    __slots__ = ("dialect", "own_interval_s", "payload", "route")

    def __init__(self, route: AnyRoute, dialect: Dialect, own_interval_s: float | None) -> None:
        self.route = route
        self.payload = encoded(route)
        self.dialect = dialect
        self.own_interval_s = own_interval_s

    @classmethod
    def of(
        cls, route: AnyRoute, stamp_ns: int, public: Dialect, internal: Dialect, own_interval_s: float | None
    ) -> "Announced":
        """Check a route and stamp it, unless it has a stamp. Raises `AnnouncementError`."""
        if problems := route_problems(route):
            raise AnnouncementError(problems)
        dialect = internal if isinstance(route, NameRegistration) else public
        announced = cls(stamped(route, stamp_ns), dialect, own_interval_s)
        if len(announced.payload) > MAX_PAYLOAD_BYTES:
            raise AnnouncementError([f"the announcement of {_first_name(route)} and others is too large to send"])
        return announced

    @classmethod
    def all_of(
        cls,
        routes: Iterable[AnyRoute],
        stamp_ns: int,
        public: Dialect,
        internal: Dialect,
        own_interval_s: float | None,
    ) -> "list[Announced]":
        """Do as `of` for each route; `AnnouncementError` has the mistakes of all."""
        problems: list[str] = []
        accepted: list[Announced] = []
        if own_interval_s is not None and not own_interval_s > 0:
            problems.append("the interval must be above 0 seconds")
        for route in routes:
            try:
                accepted.append(cls.of(route, stamp_ns, public, internal, own_interval_s))
            except AnnouncementError as error:
                problems += error.problems
        if problems:
            raise AnnouncementError(problems)
        return accepted

    @property
    def register(self) -> str:
        return self.dialect.subjects.register

    @property
    def unregister(self) -> str:
        return self.dialect.subjects.unregister

    @property
    def place(self) -> Place:
        route = self.route
        if isinstance(route, NameRegistration):
            return self.unregister, route.ip, 0
        return self.unregister, route.host, route.tls_port or route.port

    @property
    def interval_s(self) -> float:
        return self.own_interval_s or self.dialect.interval_s


def expect_announced(*given: Announced) -> None:
    """Raise `TypeError` for what is none, such as a route itself."""
    for each in given:
        if not isinstance(each, Announced):
            raise TypeError(f"expected what `announce` returned, not {type(each).__name__}")


def route_problems(route: AnyRoute) -> list[str]:
    """Return one sentence for each mistake; nothing if the route can be announced."""
    if isinstance(route, NameRegistration):
        return name_problems(route)
    if isinstance(route, Announcement):
        return announcement_problems(route)
    return [f"neither a Route nor an InternalRoute, but {type(route).__name__}"]


def encoded(route: AnyRoute) -> bytes:
    """Return the payload that registers a route; the same unregisters it."""
    return encode_registration(route) if isinstance(route, NameRegistration) else encode_announcement(route)


def stamped(route: AnyRoute, stamp_ns: int) -> AnyRoute:
    """Return a route that says since when it is so, in nanoseconds since the epoch; one with a stamp keeps it."""
    if isinstance(route, NameRegistration):
        return msgspec.structs.replace(route, updated_at_ns=route.updated_at_ns or stamp_ns)
    return msgspec.structs.replace(route, endpoint_updated_at_ns=route.endpoint_updated_at_ns or stamp_ns)


def left_behind(old: Announced, new: Announced) -> list[Announced]:
    """Return what must be unregistered once ``new`` is registered in the place of ``old``; at most one."""
    was, now = old.route, new.route
    gone = was
    if old.place == new.place:
        if isinstance(was, NameRegistration) and isinstance(now, NameRegistration):
            gone = msgspec.structs.replace(was, names=_without(was.names, now.names))
        elif isinstance(was, Announcement) and isinstance(now, Announcement):
            gone = msgspec.structs.replace(was, uris=list(_without(was.uris, now.uris)))
    named = gone.names if isinstance(gone, NameRegistration) else gone.uris
    return [Announced(gone, old.dialect, None)] if named else []


def shared_part(old: AnyRoute, new: AnyRoute) -> AnyRoute | None:
    """Return what of one route another would take over: the uris or names that both have, if they lead to the same
    address; None if that is nothing."""
    if isinstance(old, NameRegistration) and isinstance(new, NameRegistration):
        names = _without(old.names, _without(old.names, new.names))
        return msgspec.structs.replace(old, names=names) if names and old.ip == new.ip else None
    if isinstance(old, Announcement) and isinstance(new, Announcement):
        uris = list(_without(old.uris, _without(old.uris, new.uris)))
        is_same_place = (old.host, old.tls_port or old.port) == (new.host, new.tls_port or new.port)
        return msgspec.structs.replace(old, uris=uris) if uris and is_same_place else None
    return None


def _without(names: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    kept = {other.lower() for other in others}
    return tuple(name for name in names if name.lower() not in kept)


def _first_name(route: AnyRoute) -> str:
    return route.names[0] if isinstance(route, NameRegistration) else route.uris[0]
