"""Where exchanges keep what is known about them."""

from tests.proxy.conftest import StartPlane
from tests.support.recorder import Conversation, RecordingBackend
from tests.support.waiting import wait_until


def test_ordinary_exchange_keeps_all_it_knows_in_slots(start_plane: StartPlane) -> None:
    def answer_once(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.answer(b"first")
        conversation.wait_for_end()

    plane = start_plane()
    with RecordingBackend(answer_once) as backend:
        plane.route("app.test", backend)
        with plane.client() as client:
            assert client.get(host="app.test").body == b"first"
            client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            active = plane.plane.proxy.active
            wait_until(lambda: any(each.connection is not None for each in active), "second request is sent")
            assert [vars(each) for each in active] == [{}]
