"""A client of the policy API, for the command line: any router's, or that of a Cloud Foundry policy server.

Owns requests and what their failures mean to a person; does not own how policies are shown. One law: the token
goes only where the caller said, and never into an error.
"""

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec

from router.config.internal import PolicyApi
from router.routing.internal_records import Policy

PATH = "/networking/v1/external/policies"
TIMEOUT_S = 15.0
"""Longer than the router tries to make a change."""
MAX_ERROR_CHARS = 500


class PolicyClientError(Exception):
    """The API could not be used; the text says why and what to do about it."""


class Access(NamedTuple):
    """Where the API is, and as whom to use it."""

    url: str
    token: str = ""
    tls: ssl.SSLContext | None = None


class _Ports(msgspec.Struct):
    start: int
    end: int


class _Source(msgspec.Struct):
    id: str


class _Destination(msgspec.Struct):
    id: str
    protocol: str
    ports: _Ports


class _Policy(msgspec.Struct):
    source: _Source
    destination: _Destination


class _Policies(msgspec.Struct):
    policies: list[_Policy]


class _Error(msgspec.Struct):
    error: str


def access(url: str, token: str, ca_file: str = "") -> Access:
    """Return how to reach an API by its URL.

    Args:
        ca_file: path of the CA that its certificate is from; the system's CAs if empty.

    Raises:
        PolicyClientError: the URL or the file is of no use.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise PolicyClientError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host or parts.path.strip("/") or parts.query or parts.username:
        raise PolicyClientError(
            f"{url!r}: the API is at a URL like http://127.0.0.1:4002 or https://api.example.com"
        )
    name = f"[{host}]" if ":" in host else host
    try:
        tls = ssl.create_default_context(cafile=ca_file or None) if parts.scheme == "https" else None
    except (OSError, ssl.SSLError) as error:
        raise PolicyClientError(f"{ca_file}: {error.strerror or error}") from None
    return Access(f"{parts.scheme}://{name}{'' if port is None else f':{port}'}", token, tls)


def access_from_config(config: PolicyApi, token: str) -> Access:
    """Return how to reach the API of the router on this machine that has this configuration.

    Its own certificate is trusted and no other, so that its names do not matter.

    Raises:
        PolicyClientError: the API is switched off.
    """
    if not config.port:
        raise PolicyClientError("internal.policy_api.port is 0: the router's policy API is switched off")
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.address, config.address)
    host = f"[{address}]" if ":" in address else address
    token = token or config.admin_token
    if not config.cert_chain:
        return Access(f"http://{host}:{config.port}", token)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        tls.load_verify_locations(cadata=_first_certificate(config.cert_chain))
    except (ssl.SSLError, ValueError) as error:
        raise PolicyClientError(f"internal.policy_api.cert_chain: {error}") from None
    return Access(f"https://{host}:{config.port}", token, tls)


def _first_certificate(chain: str) -> str:
    """Return the certificate the API shows; its CA may have issued others."""
    end = "-----END CERTIFICATE-----"
    return chain[: chain.index(end) + len(end)] + "\n"


def fetch(access: Access, *, source: str = "", destination: str = "") -> list[Policy]:
    """Return the policies, all or those with this source and destination app. Raises `PolicyClientError`."""
    wanted = {name: app for name, app in (("source_id", source), ("dest_id", destination)) if app}
    body = _request(access, f"{PATH}?{urlencode(wanted)}" if wanted else PATH)
    try:
        found = msgspec.json.decode(body, type=_Policies).policies
    except ValueError as error:
        raise PolicyClientError(f"{access.url}: what came is not a list of policies: {error}") from None
    return sorted(_plain(each) for each in found)


def add(access: Access, policies: Sequence[Policy]) -> None:
    """Add policies, all or none. Raises `PolicyClientError`."""
    _request(access, PATH, document(policies))


def remove(access: Access, policies: Sequence[Policy]) -> None:
    """Remove policies, all or none; nothing is said of those that are not there. Raises `PolicyClientError`."""
    _request(access, f"{PATH}/delete", document(policies))


def document(policies: Sequence[Policy]) -> bytes:
    """Return policies as the API reads and writes them."""
    return msgspec.json.encode({"policies": [_as_said(each) for each in policies]})


def _as_said(policy: Policy) -> dict[str, Any]:
    ports = {"start": policy.start, "end": policy.end}
    return {
        "source": {"id": policy.source},
        "destination": {"id": policy.destination, "protocol": policy.protocol, "ports": ports},
    }


def _plain(said: _Policy) -> Policy:
    destination = said.destination
    ports = destination.ports
    return Policy(said.source.id, destination.id, destination.protocol, ports.start, ports.end)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What redirects would be sent the token."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _request(access: Access, path: str, body: bytes | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {access.token}"} if access.token else {}
    request = urllib.request.Request(access.url + path, data=body, headers=headers)
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if access.tls is not None:
        handlers.append(urllib.request.HTTPSHandler(context=access.tls))
    if _is_loopback(access.url):
        # A proxy of the environment is meant for the world, not for this machine.
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        with error:
            raise PolicyClientError(_refusal(access, error.code, error.read())) from None
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        raise PolicyClientError(f"no policy API answers at {access.url}: {text}") from None
    except (http.client.HTTPException, ValueError) as error:
        raise PolicyClientError(f"what answers at {access.url} is no policy API: {error!r}") from None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _refusal(access: Access, status: int, body: bytes) -> str:
    """Return what an answer other than success means."""
    try:
        reason = msgspec.json.decode(body, type=_Error).error[:MAX_ERROR_CHARS]
    except ValueError:
        return f"{access.url} answers {status}: is that a policy API?"
    if status == 401:
        hint = "give a token with --token, or the router's configuration with -c"
        if access.token:
            hint = "is the token right, and not expired?"
        return f"the policy API at {access.url} does not know the caller: {reason}; {hint}"
    return f"the policy API at {access.url} refuses: {reason}"
