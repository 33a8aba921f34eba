"""Sticky sessions with real clients and endpoints: who gets a request, and which cookies come back."""

import pytest

from tests.live.conftest import Live, StartLive
from tests.support.ports import free_port
from tests.support.rawclient import RawClient, Response
from tests.support.recorder import Conversation, MakeBackend, RecordingBackend, Script

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


def app(name: str, *lines: str) -> Script:
    """Answer every request with the name, and with these header lines where the path is /login."""

    def script(conversation: Conversation) -> None:
        while True:
            login = conversation.read_request().target.endswith("/login")
            conversation.answer(name.encode(), headers="".join(f"{line}\r\n" for line in lines) if login else "")

    return script


class App:
    """Instances ``one``, ``two``, … of an app under one host."""

    def __init__(self, live: Live, make_backend: MakeBackend, *lines: str, count: int = 3, path: str = "") -> None:
        self.live = live
        self.host = live.host()
        self.backends: dict[str, RecordingBackend] = {}
        self._uri = self.host + path
        for name in ("one", "two", "three")[:count]:
            self.backends[name] = make_backend(app(name, *lines), port=free_port())
            live.routes.register(self._uri, backend=self.backends[name], private_instance_id=name)

    def get(self, client: RawClient, path: str = "/", cookies: str = "", *lines: str) -> Response:
        headers = [f"Cookie: {cookies}"] if cookies else []
        return client.get(path, host=self.host, headers="".join(f"{line}\r\n" for line in [*headers, *lines]))

    def remove(self, name: str) -> None:
        self.live.routes.unregister(self._uri, backend=self.backends[name], private_instance_id=name)


def login(client: RawClient, app: App, path: str = "/login") -> tuple[str, str]:
    """Return the instance that answered and the Cookie field a browser sends from then on."""
    response = app.get(client, path)
    cookies = [value.partition(";")[0] for value in response.values("Set-Cookie")]
    assert f"__VCAP_ID__={response.body.decode()}" in cookies
    return response.body.decode(), "; ".join(cookies)


def test_session_stays_with_its_instance(live: Live, make_backend: MakeBackend) -> None:
    app = App(live, make_backend, "Set-Cookie: JSESSIONID=abc")
    with live.client() as client:
        for _ in range(3):
            name, cookies = login(client, app)
            for _ in range(4):
                response = app.get(client, "/", cookies)
                assert response.body.decode() == name
                assert response.values("Set-Cookie") == []


def test_cookies_come_after_the_apps_with_its_attributes(live: Live, make_backend: MakeBackend) -> None:
    own = f"JSESSIONID=abc; Path=/x; Expires={DATE}; Secure; SameSite=None; Partitioned"
    app = App(live, make_backend, f"Set-Cookie: {own}", "Set-Cookie: other=1", count=1, path="/Ctx")
    attributes = f"Path=/Ctx; Expires={DATE}; HttpOnly; Secure; SameSite=None; Partitioned"
    with live.client() as client:
        assert app.get(client, "/Ctx/login").values("Set-Cookie") == [
            own,
            "other=1",
            f"__VCAP_ID__=one; {attributes}",
            f"__VCAP_ID_META__=secure&partitioned&expires=1792567680&samesite=none; {attributes}",
        ]


def test_deleted_session_is_deleted_here_too(live: Live, make_backend: MakeBackend) -> None:
    app = App(live, make_backend, "Set-Cookie: JSESSIONID=; Max-Age=0", count=1)
    with live.client() as client:
        assert app.get(client, "/login", "JSESSIONID=a; __VCAP_ID__=one").values("Set-Cookie")[1:] == [
            "__VCAP_ID__=one; Path=/; Max-Age=0; HttpOnly",
            "__VCAP_ID_META__=maxage=-1; Path=/; Max-Age=0; HttpOnly",
        ]


def test_without_a_session_requests_go_round(live: Live, make_backend: MakeBackend) -> None:
    app = App(live, make_backend)
    with live.client() as client:
        for cookies in ("", "__VCAP_ID__=one", "jsessionid=a; __VCAP_ID__=one", "JSESSIONID=a"):
            responses = [app.get(client, "/", cookies) for _ in range(3)]
            assert {response.body for response in responses} == {b"one", b"two", b"three"}
            assert all(response.values("Set-Cookie") == [] for response in responses)


def test_session_whose_instance_is_gone_moves_and_keeps_its_attributes(
    live: Live, make_backend: MakeBackend
) -> None:
    app = App(live, make_backend, "Set-Cookie: JSESSIONID=abc; Secure; SameSite=Lax")
    with live.client() as client:
        name, cookies = login(client, app)
        app.remove(name)
        moved = app.get(client, "/", cookies)
        assert moved.status == 200
        instance = moved.body.decode()
        assert instance != name
        assert moved.values("Set-Cookie") == [f"__VCAP_ID__={instance}; Path=/; HttpOnly; Secure; SameSite=Lax"]


@pytest.mark.parametrize("wanted", ["nobody", "127.0.0.1:1", "../one", '"', "%00", "one two", "x" * 4000])
def test_cookie_that_names_no_instance_of_the_route_is_just_stale(
    wanted: str, live: Live, make_backend: MakeBackend
) -> None:
    app = App(live, make_backend, count=1)
    foreign = App(live, make_backend, count=1)
    foreign.live.routes.register(foreign.host, backend=foreign.backends["one"], private_instance_id="foreign")
    with live.client() as client:
        for value in (wanted, "foreign", foreign.backends["one"].address):
            response = app.get(client, "/", f"JSESSIONID=a; __VCAP_ID__={value}")
            assert (response.status, response.body) == (200, b"one")
            renewed = ["__VCAP_ID__=one; Path=/; HttpOnly"]
            assert response.values("Set-Cookie") == ([] if value == '"' else renewed)
    assert foreign.backends["one"].requests == []


def test_instance_may_be_named_by_address_and_is_renamed(live: Live, make_backend: MakeBackend) -> None:
    app = App(live, make_backend)
    with live.client() as client:
        for name, backend in app.backends.items():
            response = app.get(client, "/", f"JSESSIONID=a; __VCAP_ID__={backend.address}")
            assert response.body.decode() == name
            assert response.values("Set-Cookie") == [f"__VCAP_ID__={name}; Path=/; HttpOnly"]


def test_cookies_may_come_in_several_lines(live: Live, make_backend: MakeBackend) -> None:
    app = App(live, make_backend)
    with live.client() as client:
        for name in app.backends:
            response = app.get(client, "/", "JSESSIONID=a", f"Cookie: x=y; __VCAP_ID__={name}")
            assert response.body.decode() == name


def test_retry_goes_to_another_instance_and_the_session_with_it(live: Live, make_backend: MakeBackend) -> None:
    app = App(live, make_backend, count=2)
    app.backends["one"].close()
    with live.client() as client:
        response = app.get(client, "/", "JSESSIONID=a; __VCAP_ID__=one")
        assert (response.status, response.body) == (200, b"two")
        assert response.values("Set-Cookie") == ["__VCAP_ID__=two; Path=/; HttpOnly"]


def test_app_that_sets_the_cookie_itself_is_left_alone(live: Live, make_backend: MakeBackend) -> None:
    own = ["JSESSIONID=abc", "__VCAP_ID__=mine"]
    app = App(live, make_backend, *(f"Set-Cookie: {cookie}" for cookie in own), count=1)
    with live.client() as client:
        assert app.get(client, "/login").values("Set-Cookie") == own


def test_instance_without_id_makes_no_session(live: Live, make_backend: MakeBackend) -> None:
    host = live.route(make_backend(app("anonymous", "Set-Cookie: JSESSIONID=abc")))
    with live.client() as client:
        assert client.get("/login", host=host).values("Set-Cookie") == ["JSESSIONID=abc"]


# Other configurations.


@pytest.fixture(scope="module")
def strict(start_live: StartLive) -> Live:
    return start_live(
        {
            "sticky_session_cookie_names": ["sid"],
            "secure_cookies": True,
            "sticky_sessions_for_auth_negotiate": True,
            "backends": {"max_attempts": 3},
        }
    )


def test_names_and_secure_are_as_configured(strict: Live, make_backend: MakeBackend) -> None:
    app = App(strict, make_backend, "Set-Cookie: __Host-sid=abc; Path=/", count=1)
    with strict.client() as client:
        assert app.get(client, "/login").values("Set-Cookie")[1] == "__VCAP_ID__=one; Path=/; HttpOnly; Secure"
    other = App(strict, make_backend, "Set-Cookie: JSESSIONID=abc", count=1)
    with strict.client() as client:
        assert other.get(client, "/login").values("Set-Cookie") == ["JSESSIONID=abc"]


def test_challenge_to_negotiate_binds_to_the_instance(strict: Live, make_backend: MakeBackend) -> None:
    app = App(strict, make_backend, "WWW-Authenticate: Negotiate")
    with strict.client() as client:
        response = app.get(client, "/login")
        name = response.body.decode()
        attributes = "Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Strict"
        assert response.values("Set-Cookie") == [f"__VCAP_ID__={name}; {attributes}"]
        for _ in range(4):
            again = app.get(client, "/login", f"__VCAP_ID__={name}", "Authorization: Negotiate YII")
            assert again.body.decode() == name
            assert again.values("Set-Cookie") == []


def test_negotiating_request_whose_instance_is_gone_is_502(strict: Live, make_backend: MakeBackend) -> None:
    app = App(strict, make_backend, count=2)
    with strict.client() as client:
        response = app.get(client, "/", "__VCAP_ID__=gone", "Authorization: negotiate YII")
        assert response.status == 502
        assert response.body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
        assert response.header("X-Cf-Routererror") == "endpoint_failure (No endpoints available)"
    assert [backend.requests for backend in app.backends.values()] == [[], []]


def test_negotiating_request_is_retried_at_its_own_instance_only(strict: Live, make_backend: MakeBackend) -> None:
    app = App(strict, make_backend, count=2)
    app.backends["one"].close()
    with strict.client() as client:
        response = app.get(client, "/", "__VCAP_ID__=one", "Authorization: Negotiate YII")
        assert response.status == 502
    assert app.backends["two"].requests == []
