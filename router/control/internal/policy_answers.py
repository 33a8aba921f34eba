"""What all answers of the policy API have in common: error bodies, security headers and CORS.

Owns the shape of answers; does not own their content. One law: whatever goes wrong, the client gets
``{"error": TEXT}`` with the text properly escaped, and nobody else notices.
"""

import time
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from router.control.internal.policy_auth import AuthenticationError
from router.control.internal.policy_checks import Refusal
from router.control.internal.policy_mapper import encode
from router.log import Logger
from router.log_limit import LogLimit

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SECURITY_HEADERS = {
    "X-Frame-Options": "deny",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-XSS-Protection": "1; mode=block",
    "X-Content-Type-Options": "nosniff",
}
TRANSPORT_SECURITY = "max-age=31536000"
"""A year; only said over TLS (RFC 6797 §7.2)."""


def text(body: str | bytes, status: int = 200) -> web.Response:
    """Return an answer; JSON too is said to be plain text, as by the policy server."""
    octets = body.encode() if isinstance(body, str) else body
    return web.Response(body=octets, status=status, content_type="text/plain", charset="utf-8")


def error(status: int, reason: str) -> web.Response:
    """Return an error in the one shape that all errors have."""
    body = b'{"error": ' + encode(reason.encode(errors="replace").decode()) + b"}"
    answer = text(body, status)
    if status == 401:
        answer.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return answer


class Denials:
    """Writes to the log what was not granted, but not without limit: anybody can provoke it."""

    def __init__(self, logger: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._limit = LogLimit()

    def note(self, request: web.Request, subject: str, status: int, reason: str) -> None:
        """Write a line; ``subject`` is empty if nobody knows who it was."""
        if self._limit.admit(self._clock()):
            self._logger.warn(
                "policy-request-denied",
                status=status,
                reason=reason,
                method=request.method,
                path=request.path,
                subject=subject,
                client=request.remote or "",
                suppressed=self._limit.take_suppressed(),
            )


def errors(logger: Logger) -> Middleware:
    """Return the middleware that makes an answer of every exception."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (Refusal, AuthenticationError) as refusal:
            return error(refusal.status, str(refusal))
        except web.HTTPMethodNotAllowed as refusal:
            answer = text("Method Not Allowed\n", 405)
            answer.headers[hdrs.ALLOW] = ", ".join(sorted(refusal.allowed_methods))
            return answer
        except web.HTTPNotFound:
            return text("404 page not found\n", 404)
        except web.HTTPException as refusal:
            return error(refusal.status, refusal.reason)
        except Exception as failure:
            # The root of a request: what nobody foresaw must not take the connection of others with it.
            logger.error("policy-request-failed", method=request.method, path=request.path, error=repr(failure))
            return error(500, "internal error")

    return middleware


def finish_headers(allowed_origins: list[str]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return the signal handler that adds what every answer carries."""

    async def add(request: web.Request, answer: web.StreamResponse) -> None:
        answer.headers.update(SECURITY_HEADERS)
        if request.secure:
            answer.headers["Strict-Transport-Security"] = TRANSPORT_SECURITY
        _allow_origin(request, answer, allowed_origins)

    return add


def _allow_origin(request: web.Request, answer: web.StreamResponse, allowed: list[str]) -> None:
    if allowed and "*" not in allowed:
        # Caches must not give one origin what was meant for another (Fetch, CORS protocol and HTTP caches).
        answer.headers[hdrs.VARY] = hdrs.ORIGIN
    origin = _allowed_origin(request, allowed)
    if origin is not None:
        answer.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin


def _allowed_origin(request: web.Request, allowed: list[str]) -> str | None:
    origin = request.headers.get(hdrs.ORIGIN)
    if "*" in allowed:
        return "*"
    return origin if origin in allowed else None


def preflight(methods: str, allowed_origins: list[str]) -> Handler:
    """Return the handler of OPTIONS on a path that knows these methods."""

    async def handler(request: web.Request) -> web.StreamResponse:
        answer = text("")
        if _allowed_origin(request, allowed_origins) is not None:
            answer.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = methods
            answer.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "authorization"
        return answer

    return handler
