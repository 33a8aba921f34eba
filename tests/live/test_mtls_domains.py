"""Domains with mutual TLS and route policies, through a whole router: who gets in, and what the app is told."""

import base64
import hashlib
import ssl
from pathlib import Path

import pytest

from router.certs import Authority, issue, make_ca
from tests.live.conftest import Live, StartLive
from tests.live.https import https_config
from tests.support.certificates import client_context
from tests.support.odd_certificates import Odd, make
from tests.support.rawclient import RawClient, Response
from tests.support.recorder import MakeBackend, RecordingBackend, named

CA_APPS = make("CN=instance identity CA", authority=True)
CA_OTHERS = make("CN=partners", authority=True)
CALLER = make("O=Acme, Inc/OU=organization:org-1/OU=space:space-1/OU=app:app-1/CN=instance", CA_APPS)
NOBODY = make("CN=no app", CA_APPS)
PARTNER = make("OU=app:app-9/CN=partner", CA_OTHERS)
DOMAIN, PARTNERS = "*.identity.test", "partners.test"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_ca()


@pytest.fixture(scope="module")
def mtls(start_live: StartLive, authority: Authority) -> Live:
    pair = issue(authority, ["open.test", DOMAIN, PARTNERS])
    domains = [
        {"name": DOMAIN, "ca_certs": CA_APPS.pem},
        {"name": PARTNERS, "ca_certs": CA_OTHERS.pem, "xfcc_format": "envoy"},
    ]
    return start_live(https_config([pair], domains=domains))


class Trip:
    """Requests of one client over connections of its own."""

    def __init__(self, live: Live, authority: Authority, identity: Odd | None, directory: Path) -> None:
        self._live = live
        pair = identity.pair() if identity is not None else None
        self.context = client_context(authority, identity=pair, directory=directory)

    def get(self, host: str, *, server_name: str | None = None, headers: str = "") -> Response:
        name = server_name or host.partition(":")[0]
        with RawClient(self._live.router.ssl_port, tls=self.context, server_name=name) as client:
            return client.get(host=host, headers=headers)


@pytest.fixture
def caller(mtls: Live, authority: Authority, tmp_path: Path) -> Trip:
    return Trip(mtls, authority, CALLER, tmp_path)


@pytest.fixture
def anyone(mtls: Live, authority: Authority, tmp_path: Path) -> Trip:
    return Trip(mtls, authority, None, tmp_path)


def test_caller_with_the_domains_certificate_gets_in(mtls: Live, caller: Trip, backend: RecordingBackend) -> None:
    host = mtls.route(backend, host="in.identity.test")

    for sent in (host, "IN.Identity.Test", f"{host}:{mtls.router.ssl_port}"):
        assert caller.get(sent, headers="X-Forwarded-Client-Cert: forged\r\n").status == 200
    for request in backend.requests:
        assert request.values("X-Forwarded-Client-Cert") == [base64.b64encode(CALLER.der).decode()]


def test_envoy_form_names_hash_and_subject(
    mtls: Live, authority: Authority, tmp_path: Path, backend: RecordingBackend
) -> None:
    mtls.route(backend, host=PARTNERS)
    assert Trip(mtls, authority, PARTNER, tmp_path).get(PARTNERS).status == 200

    digest = hashlib.sha256(PARTNER.der).hexdigest()
    assert backend.requests[0].values("X-Forwarded-Client-Cert") == [
        f'Hash={digest};Subject="CN=partner,OU=app:app-9"'
    ]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("identity", [None, PARTNER])
def test_client_without_it_does_not_get_past_the_handshake(
    mtls: Live,
    authority: Authority,
    tmp_path: Path,
    backend: RecordingBackend,
    identity: Odd | None,
    version: ssl.TLSVersion,
) -> None:
    host = mtls.route(backend, host="closed.identity.test")
    trip = Trip(mtls, authority, identity, tmp_path)
    trip.context.maximum_version = version

    with pytest.raises(ssl.SSLError, match="ALERT"):
        trip.get(host)
    assert backend.requests == []


def test_host_of_another_domain_is_misdirected(mtls: Live, caller: Trip, anyone: Trip) -> None:
    for host in ("here.identity.test", PARTNERS, "there.open.test"):
        mtls.announcer.register(host, port=1)
    mtls.routes.settle()

    for response in (
        anyone.get("here.identity.test", server_name="open.test"),
        anyone.get("HERE.identity.test:443", server_name="open.test"),
        caller.get(PARTNERS, server_name="here.identity.test"),
        caller.get("there.open.test", server_name="here.identity.test"),
    ):
        assert (response.status, response.body) == (421, b"")


def test_domain_cannot_be_reached_without_tls(mtls: Live) -> None:
    mtls.announcer.register("plain.identity.test", port=1)
    mtls.routes.settle()
    with mtls.client() as client:
        response = client.get(host="plain.identity.test")
    assert (response.status, response.body) == (421, b"")


def test_hosts_outside_the_domains_are_served_as_ever(mtls: Live, anyone: Trip, backend: RecordingBackend) -> None:
    host = mtls.route(backend)
    assert anyone.get(host, server_name="open.test").status == 200


@pytest.mark.parametrize(
    ("scope", "sources", "tags", "status"),
    [
        ("any", "cf:any", {}, 200),
        ("any", "cf:app:app-1", {}, 200),
        ("any", "cf:app:app-2, cf:space:space-1", {}, 200),
        ("any", "cf:org:org-1,malformed", {}, 200),
        ("any", "cf:app:app-2", {}, 403),
        ("any", "", {}, 403),
        ("org", "cf:any", {"organization_id": "org-1"}, 200),
        ("org", "cf:any", {"organization_id": "org-2"}, 403),
        ("space", "cf:any", {"space_id": "space-1"}, 200),
        ("space", "cf:any", {"organization_id": "org-1"}, 403),
    ],
)
def test_route_takes_whom_its_policy_names(
    mtls: Live,
    caller: Trip,
    backend: RecordingBackend,
    scope: str,
    sources: str,
    tags: dict[str, str],
    status: int,
) -> None:
    options = {"route_policy_scope": scope, "route_policy_sources": sources}
    host = mtls.route(backend, host=f"{mtls.host('policy')[:-5]}.identity.test", options=options, tags=tags)

    assert caller.get(host).status == status
    assert len(backend.requests) == (status == 200)


@pytest.mark.parametrize(
    ("host", "server_name"), [("nobody.identity.test", "nobody.identity.test"), ("policy.test", "open.test")]
)
def test_route_with_a_policy_needs_an_identity(
    mtls: Live, authority: Authority, tmp_path: Path, backend: RecordingBackend, host: str, server_name: str
) -> None:
    options = {"route_policy_scope": "any", "route_policy_sources": "cf:any"}
    mtls.route(backend, host=host, options=options)
    response = Trip(mtls, authority, NOBODY, tmp_path).get(host, server_name=server_name)

    assert (response.status, response.body) == (403, b"")
    assert backend.requests == []


def test_log_line_says_who_called(mtls: Live, caller: Trip, backend: RecordingBackend) -> None:
    host = mtls.route(backend, host="logged.identity.test")
    caller.get(host)
    line = mtls.router.wait_access_line(f"{host} - [")
    assert f'tls_sni:"{host}" caller_cf_app:"app-1" caller_cf_space:"space-1" caller_cf_org:"org-1"' in line


@pytest.mark.parametrize(
    ("host", "server_name"),
    [("identity.test", "open.test"), ("a.b.identity.test", "open.test"), (f"x.{PARTNERS}", "open.test")],
)
def test_wildcard_stands_for_one_label_and_a_name_for_itself(
    mtls: Live, anyone: Trip, backend: RecordingBackend, host: str, server_name: str
) -> None:
    mtls.route(backend, host=host)
    assert anyone.get(host, server_name=server_name).status == 200


def test_unknown_host_of_a_domain_is_unknown_before_it_is_misdirected(anyone: Trip) -> None:
    assert anyone.get("unheard-of.identity.test", server_name="open.test").status == 404


@pytest.mark.parametrize(("mode", "told"), [("always_forward", ["claimed"]), ("forward", ["claimed"])])
def test_domain_may_believe_what_its_callers_relay(
    start_live: StartLive,
    authority: Authority,
    tmp_path: Path,
    backend: RecordingBackend,
    mode: str,
    told: list[str],
) -> None:
    domain = {"name": DOMAIN, "ca_certs": CA_APPS.pem, "forwarded_client_cert": mode}
    pair = issue(authority, ["open.test", DOMAIN])
    live = start_live(https_config([pair], domains=[domain], forwarded_client_cert="sanitize_set"))
    host = live.route(backend, host="relays.identity.test")
    trip = Trip(live, authority, CALLER, tmp_path)
    assert trip.get(host, headers="X-Forwarded-Client-Cert: claimed\r\n").status == 200
    assert backend.requests[0].values("X-Forwarded-Client-Cert") == told
    other = live.route(backend)
    trip = Trip(live, authority, None, tmp_path)
    assert trip.get(other, server_name="open.test", headers="X-Forwarded-Client-Cert: claimed\r\n").status == 200
    assert backend.requests[1].values("X-Forwarded-Client-Cert") == []


def test_policy_looks_at_the_instance_that_was_chosen_and_does_not_try_another(
    mtls: Live, caller: Trip, make_backend: MakeBackend
) -> None:
    ours, theirs = make_backend(named("ours")), make_backend(named("theirs"))
    options = {"route_policy_scope": "org", "route_policy_sources": "cf:any"}
    host = "two.identity.test"
    for backend, organization in ((ours, "org-1"), (theirs, "org-2")):
        mtls.route(backend, host=host, options=options, tags={"organization_id": organization})
    answers = [caller.get(host) for _ in range(4)]
    assert sorted(answer.status for answer in answers) == [200, 200, 403, 403]
    assert theirs.requests == []
    assert {answer.body for answer in answers if answer.status == 403} == {
        b"403 Forbidden: Access denied by route policy\n"
    }


def test_policy_that_is_announced_later_holds_from_then_on(
    mtls: Live, caller: Trip, backend: RecordingBackend
) -> None:
    host = mtls.route(backend, host="later.identity.test")
    assert caller.get(host).status == 200
    options = {"route_policy_scope": "any", "route_policy_sources": "cf:app:someone-else"}
    mtls.route(backend, host=host, options=options)
    assert caller.get(host).status == 403
    mtls.route(backend, host=host, options={"route_policy_scope": "any", "route_policy_sources": "cf:app:app-1"})
    assert caller.get(host).status == 200


def test_log_line_outside_the_domains_says_nothing_of_callers(
    mtls: Live, anyone: Trip, backend: RecordingBackend
) -> None:
    host = mtls.route(backend)
    anyone.get(host, server_name="open.test")
    assert mtls.router.wait_access_line(host).endswith('x_cf_routererror:"-"')
