"""Sticky sessions: which instance a client's cookies ask for, and the cookies that say so (GOROUTER.md §6.7, 6.8).

The cookie alone decides, so it works across workers, routers and restarts. Owns the rules; `cookies` owns the
syntax. One law: whatever a client sends can at most choose among instances of the route it asks for.
"""

import re
from dataclasses import dataclass

from router.proxy.cookies import (
    Attributes,
    read_cookies,
    set_cookie_attributes,
    set_cookie_name,
    write_cookie,
)

COOKIE = b"__VCAP_ID__"
META_COOKIE = b"__VCAP_ID_META__"

_FREE: tuple[bytes, bool] = (b"", False)
_HOST_PREFIX = b"__Host-"
_NEGOTIATE = re.compile(rb"(?:^|,)[ \t]*negotiate", re.IGNORECASE)
_NEGOTIATED_S = 60
_EPOCH_S = re.compile(rb"-?[0-9]{1,12}")
_SAME_SITE = {b"lax": b"Lax", b"strict": b"Strict", b"none": b"None"}
_SET_COOKIE = b"set-cookie"
_COLON = ord(":")


@dataclass(frozen=True, slots=True)
class StickyOptions:
    """Configuration of sticky sessions.

    Attributes:
        cookie_names: cookies of apps that make a session sticky; case matters.
        secure: every cookie set here is Secure.
        negotiate: connections that authenticate by ``Negotiate`` are sticky.
    """

    cookie_names: frozenset[bytes]
    secure: bool
    negotiate: bool


class Sticky:
    """The rules of sticky sessions. One per worker; holds no state of requests."""

    __slots__ = ("_names", "_negotiate", "_secure")

    def __init__(self, options: StickyOptions) -> None:
        self._names = options.cookie_names
        self._secure = options.secure
        self._negotiate = options.negotiate

    def wanted(self, cookies: bytes, authorization: bytes) -> tuple[bytes, bool]:
        """Return which instance a request wants, and whether no other will do.

        Args:
            cookies: value of the Cookie field; several are joined by ``; ``.
            authorization: value of the Authorization field; empty if there is none.

        Returns:
            An instance id or ``host:port``, empty if any instance will do.
        """
        if COOKIE not in cookies:
            return _FREE
        must = self._negotiate and authorization[:9].lower() == b"negotiate"
        wanted, in_session = self._read(cookies)
        if wanted and (must or in_session):
            return wanted, must
        return _FREE

    def _read(self, cookies: bytes) -> tuple[bytes, bool]:
        """Return the first `COOKIE`'s value and whether there is a session cookie."""
        wanted: bytes | None = None
        in_session = False
        for name, value in read_cookies(cookies):
            if name == COOKIE:
                wanted = value if wanted is None else wanted
            elif self._is_session(name):
                in_session = True
        return wanted or b"", in_session

    def _is_session(self, name: bytes) -> bool:
        return name in self._names or (name[:7] == _HOST_PREFIX and name[7:] in self._names)

    def set_cookies(
        self,
        lines: list[bytes],
        request_cookies: bytes,
        www_authenticate: bytes,
        wanted: bytes,
        used: bytes,
        context_path: str,
        now_s: float,
    ) -> list[bytes]:
        """Return the Set-Cookie lines to append to a response; none as a rule.

        Not to be asked for requests that went to a route service.

        Args:
            lines: header lines of the response.
            request_cookies: value of the request's Cookie field, as for `wanted`.
            www_authenticate: value of the response's WWW-Authenticate field; several are joined by ``, ``.
            wanted: what `wanted` returned.
            used: ``private_instance_id`` of the endpoint that answered; without one no session can be sticky.
            context_path: of the route, as registered; empty if it has none.
            now_s: seconds since the epoch.
        """
        if not used:
            return []
        sessions: list[bytes] = []
        for line in lines:
            if len(line) > 10 and line[10] == _COLON and line[:10].lower() == _SET_COOKIE:
                value = line[11:]
                name = set_cookie_name(value)
                if name == COOKIE:
                    return []
                if self._is_session(name):
                    sessions.append(value)
        path = context_path.encode() or b"/"
        stale = wanted != used
        if stale and self._negotiate and _NEGOTIATE.search(www_authenticate) is not None:
            return [self._cookie(used, path, Attributes(max_age=_NEGOTIATED_S, same_site=b"Strict"))]
        if sessions:
            return self._session_cookies(sessions, used, path, now_s)
        if stale and wanted:
            return [self._cookie(used, path, _remembered(request_cookies, now_s))]
        return []

    def _session_cookies(self, sessions: list[bytes], used: bytes, path: bytes, now_s: float) -> list[bytes]:
        """Return a cookie and its companion for each session cookie: an app may delete one and set another."""
        added = []
        for session in sessions:
            attributes = set_cookie_attributes(session)
            added.append(self._cookie(used, path, attributes))
            added.append(write_cookie(META_COOKIE, _described(attributes, now_s), path, attributes))
        return added

    def _cookie(self, used: bytes, path: bytes, attributes: Attributes) -> bytes:
        attributes.secure = attributes.secure or self._secure
        return write_cookie(COOKIE, used, path, attributes)


def _described(attributes: Attributes, now_s: float) -> bytes:
    """Return attributes as the value of the companion, with times that stay true as time passes."""
    parts = []
    if attributes.secure:
        parts.append(b"secure")
    if attributes.partitioned:
        parts.append(b"partitioned")
    if attributes.expires_s is not None:
        parts.append(b"expires=%d" % attributes.expires_s)
    if attributes.max_age:
        parts.append(b"maxage=%d" % (int(now_s) + attributes.max_age if attributes.max_age > 0 else -1))
    if attributes.same_site:
        parts.append(b"samesite=" + attributes.same_site.lower())
    return b"&".join(parts)


def _remembered(cookies: bytes, now_s: float) -> Attributes:
    """Return the attributes that a request's companion cookie describes, none if it has none.

    A client can write anything into it, which changes its own cookie alone; what is not understood is ignored.
    """
    attributes = Attributes()
    if META_COOKIE not in cookies:
        return attributes
    described = next((value for name, value in read_cookies(cookies) if name == META_COOKIE), b"")
    for part in described.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"secure":
            attributes.secure = True
        elif name == b"partitioned":
            attributes.partitioned = True
        elif name == b"samesite":
            attributes.same_site = _SAME_SITE.get(value, b"")
        elif name in (b"expires", b"maxage") and _EPOCH_S.fullmatch(value) is not None:
            _remember_time(attributes, name, int(value), now_s)
    return attributes


def _remember_time(attributes: Attributes, name: bytes, epoch_s: int, now_s: float) -> None:
    if name == b"expires":
        attributes.expires_s = epoch_s
    else:
        left_s = epoch_s - int(now_s)
        attributes.max_age = left_s if left_s > 0 else -1
