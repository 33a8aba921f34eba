"""Sticky sessions and instances by name with two workers: the request alone decides, whoever reads it."""

from tests.e2e.conftest import FRESH_CONNECTIONS, StartRouter, wait_everywhere
from tests.support.announce import Announcer
from tests.support.rawclient import RawClient, Response
from tests.support.recorder import Conversation, MakeBackend, Script

APP = "0a1b2c3d-0000-4000-8000-00000000000a"


def instance(name: str) -> Script:
    def script(conversation: Conversation) -> None:
        while True:
            conversation.read_request()
            conversation.answer(name.encode(), headers="Set-Cookie: JSESSIONID=s; Secure; Max-Age=60\r\n")

    return script


def fresh(port: int, headers: str) -> Response:
    with RawClient(port) as client:
        return client.get(host="app.test", headers=headers + "Connection: close\r\n")


def test_session_holds_whichever_worker_it_meets(
    start_router: StartRouter, announcer: Announcer, make_backend: MakeBackend
) -> None:
    router = start_router()
    for number in range(3):
        announcer.register(
            "app.test",
            port=make_backend(instance(f"inst-{number}")).port,
            app=APP,
            private_instance_id=f"inst-{number}",
            private_instance_index=str(number),
        )
    announcer.register("behind.test", port=make_backend().port)
    wait_everywhere(router, "behind.test")
    login = fresh(router.port, "")
    cookies = login.values("Set-Cookie")
    name = login.body.decode()
    assert cookies[1] == f"__VCAP_ID__={name}; Path=/; Max-Age=60; HttpOnly; Secure"
    assert cookies[2].startswith("__VCAP_ID_META__=secure&maxage=")
    sent = "Cookie: " + "; ".join(each.partition(";")[0] for each in cookies) + "\r\n"
    assert {fresh(router.port, sent).body.decode() for _ in range(FRESH_CONNECTIONS)} == {name}
    named = f"X-CF-App-Instance: {APP}:2\r\n"
    assert {fresh(router.port, named).body for _ in range(FRESH_CONNECTIONS)} == {b"inst-2"}
    gone = "Cookie: JSESSIONID=s; __VCAP_ID__=gone\r\n"
    moved = [fresh(router.port, gone) for _ in range(FRESH_CONNECTIONS)]
    assert {each.status for each in moved} == {200}
    assert {each.body for each in moved} == {b"inst-0", b"inst-1", b"inst-2"}
