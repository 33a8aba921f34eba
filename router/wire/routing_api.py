"""What the routing API says: routes as JSON, changes to them as server-sent events (GOROUTER.md §3.6).

Owns the form of both; does not own how they are asked for nor what they do. One law: a route is judged as a
`router.register` message with the same content would be, so nothing enters the table here that could not there.

Fields of a route: ``route``, ``ip``, ``port``, ``ttl``, ``log_guid``, ``route_service_url``, ``modification_tag``.
Events have the form of the WHATWG HTML standard, §9.2 "Server-sent events".
"""

import re
from collections.abc import Iterator
from typing import Annotated

import msgspec

from router.wire.registration import Registration, RegistrationError, decode_registration

MAX_EVENT_BYTES = 1024 * 1024
"""An event that is longer is none of ours; waiting for its end would take unbounded memory."""

RouteKey = tuple[str, str]
"""Route and address (``ip:port``): what makes two announcements the same route."""


class RoutingApiFormatError(ValueError):
    """What the API sent cannot be read; the text says what and why, fit for a log line."""


class ApiRoute(msgspec.Struct, frozen=True, gc=False):
    """One endpoint of one route, and where in the order of its changes it stands."""

    registration: Registration
    guid: str = ""
    index: int = 0

    @property
    def key(self) -> RouteKey:
        return self.registration.uris[0], self.registration.address


class ServerEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of the stream."""

    name: str
    """``Upsert`` or ``Delete``, as far as the API is known; ``message`` if it has none."""
    data: bytes


class _Tag(msgspec.Struct):
    guid: str | None = None
    index: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None


class _Route(msgspec.Struct):
    route: str
    ip: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    ttl: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    log_guid: str | None = None
    route_service_url: str | None = None
    modification_tag: _Tag | None = None


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_route = msgspec.json.Decoder(_Route).decode
_encode = msgspec.json.Encoder().encode
_NO_TAG = _Tag()


def decode_route_list(document: bytes) -> list[msgspec.Raw]:
    """Split the answer to ``GET /routing/v1/routes`` into routes, still encoded: each is judged by itself.

    Raises:
        RoutingApiFormatError: it is no JSON array.
    """
    try:
        # Nothing at all is how Go encodes an empty list that was never made.
        return [] if document.strip() == b"null" else _decode_list(document)
    except (ValueError, RecursionError) as error:
        raise RoutingApiFormatError(f"no list of routes: {error}") from error


def decode_route(encoded: bytes | msgspec.Raw) -> ApiRoute:
    """Read one route. It is a plain endpoint; ``log_guid`` is its app and the name in its certificate.

    Raises:
        RoutingApiFormatError: naming the field.
    """
    try:
        route = _decode_route(encoded)
        registration = decode_registration(_encode(_as_message(route)))
    except RegistrationError as error:
        raise RoutingApiFormatError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise RoutingApiFormatError(f"no route: {error}") from error
    if not registration.uris:
        raise RoutingApiFormatError("route: control character or too long")
    tag = route.modification_tag or _NO_TAG
    return ApiRoute(registration, tag.guid or "", tag.index or 0)


def _as_message(route: _Route) -> dict[str, object]:
    return {
        "host": route.ip,
        "port": route.port,
        "uris": [route.route],
        "app": route.log_guid,
        "server_cert_domain_san": route.log_guid,
        "stale_threshold_in_seconds": route.ttl,
        "route_service_url": route.route_service_url,
    }


_LINE_END = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)
"""A carriage return at the very end may be the first half of a line end: it waits for what follows."""


class EventParser:
    """Takes the stream in pieces as they arrive, yields whole events. A new stream needs a new parser."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """Yield the events that this piece completes.

        Raises:
            RoutingApiFormatError: an event exceeds `MAX_EVENT_BYTES`; the stream is of no more use.
        """
        *lines, self._rest = _LINE_END.split(self._rest + piece)
        for line in lines:
            event = self._line(line)
            if event is not None:
                yield event
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise RoutingApiFormatError(f"an event of more than {MAX_EVENT_BYTES} bytes")

    def _line(self, line: bytes) -> ServerEvent | None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            return self._finish()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"data":
            self._data.append(value)
            self._size += len(line) + 1
        return None

    def _finish(self) -> ServerEvent | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return ServerEvent(name, b"\n".join(data)) if data else None
