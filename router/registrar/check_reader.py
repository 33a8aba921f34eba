"""Reading ``health_check`` of a configured route: what is asked, how long, and how often until it counts."""

import os
import re
from collections.abc import Callable

from router.registrar.announced import AnyRoute
from router.registrar.section import Section, shown
from router.registrar.service_config import Check, HttpProbe, Probe, ScriptProbe, TcpProbe, TlsProbe
from router.registrar.tls_files import TlsFiles
from router.wire.discovery import NameRegistration

MOST_IN_A_ROW = 1000

_RANGE = re.compile(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?\Z")


def read_check(section: Section, route: AnyRoute, interval_s: float) -> tuple[Check | None, list[str]]:
    """Read a check, and tell the keys nobody knows. None if it is malformed, which the section tells."""
    if not section.text("name"):
        section.complain("no name")
    timeout_s = section.duration_s("timeout", interval_s / 2)
    if timeout_s >= interval_s:
        section.complain(f"timeout {timeout_s:g} s must be less than registration_interval {interval_s:g} s")
    given = [kind for kind in ("script_path", "http", "tcp", "tls") if kind in section]
    probe: Probe | None = None
    unasked: list[str] = []
    if not given:
        section.complain("no script_path, and neither http, tcp nor tls instead")
    elif len(given) > 1:
        section.complain(f"{' and '.join(given)}: one of them alone")
        section.ignore(*given)
    elif given == ["script_path"]:
        probe = _script(section)
    else:
        inner = section.section(given[0])
        probe = _READERS[given[0]](inner, route)
        unasked = inner.unasked()
    success, failure = (
        section.number(key, 1, 1, MOST_IN_A_ROW) for key in ("success_threshold", "failure_threshold")
    )
    if probe is None:
        return None, section.unasked()
    check = Check(
        name=section.text("name"),
        probe=probe,
        timeout_s=timeout_s,
        success_threshold=success,
        failure_threshold=failure,
    )
    return check, section.unasked() + unasked


def _script(section: Section) -> ScriptProbe:
    path = section.text("script_path")
    # Whether it can be run is seen each time: packages may be installed later than this starts.
    if not os.path.isabs(path):
        section.complain(f"script_path: {path!r} is not an absolute path")
    return ScriptProbe(path)


def _tcp(section: Section, route: AnyRoute) -> Probe:
    host, port = _address(section, route)
    return TcpProbe(host, port)


def _tls(section: Section, route: AnyRoute) -> Probe:
    host, port = _address(section, route)
    return TlsProbe(host, port, section.text("server_name") or _san(route) or host, _trust(section))


def _http(section: Section, route: AnyRoute) -> Probe:
    host, port = _address(section, route)
    scheme = section.text("scheme", "https" if _tls_port(route) else "http")
    path = section.text("path", "/")
    if scheme not in ("http", "https"):
        section.complain(f"scheme: {scheme!r} is neither http nor https")
    if not path.startswith("/"):
        section.complain(f"path: {path!r} does not begin with /")
    name = section.text("server_name") or _san(route)
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}"
    headers = tuple(section.pairs("headers").items())
    for part in (url, *(text for pair in headers for text in pair)):
        if not part.isprintable():
            section.complain(f"{part!r}: control characters are not allowed")
    return HttpProbe(url, _statuses(section), headers, name, _trust(section))


_READERS: dict[str, Callable[[Section, AnyRoute], Probe]] = {"http": _http, "tcp": _tcp, "tls": _tls}


def _address(section: Section, route: AnyRoute) -> tuple[str, int]:
    own = route.ip if isinstance(route, NameRegistration) else route.host
    port = section.port("port") or (_tls_port(route) or route.port)
    if not port:
        section.complain("no port, and the route has none either")
    return section.text("host") or own, port


def _tls_port(route: AnyRoute) -> int:
    return 0 if isinstance(route, NameRegistration) else route.tls_port


def _san(route: AnyRoute) -> str:
    return "" if isinstance(route, NameRegistration) else route.server_cert_domain_san


def _trust(section: Section) -> TlsFiles:
    files = TlsFiles(*(section.text(key) or None for key in ("ca_path", "cert_path", "key_path")))
    try:
        files()
    except ValueError as error:
        section.complain(str(error))
    return files


def _statuses(section: Section) -> tuple[tuple[int, int], ...]:
    ranges = []
    for given in section.items("statuses"):
        match = _RANGE.match(str(given)) if isinstance(given, int | str) else None
        if match is None:
            section.complain(f"statuses: {shown(given)} is neither a status like 200 nor a range like 200-399")
        else:
            ranges.append((int(match[1]), int(match[2] or match[1])))
    return tuple(ranges) or ((200, 299),)
