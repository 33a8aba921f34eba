"""Keys of HTTP/2 by their effect on a running data plane."""

import pytest

from tests.support.h2backend import H2Backend
from tests.support.h2peer import PING, H2Peer, frame, get, headers, reset
from tests.support.plane import RunningPlane, config
from tests.support.recorder import RecordingBackend, silent
from tests.support.waiting import wait_until

ENHANCE_YOUR_CALM = 0xB
FEW, MORE = 10, 90
HOST = "app.test"


@pytest.mark.parametrize(("allowed", "ends"), [(FEW, True), (0, False)], ids=["few", "default"])
def test_client_with_more_control_frames_a_second_than_allowed_is_cut(allowed: int, ends: bool) -> None:
    settings = config(enable_http2_cleartext=True, http2_max_control_frames=allowed)
    with RunningPlane(settings) as plane, RecordingBackend() as backend, H2Peer(plane.port) as peer:
        plane.route(HOST, backend)
        peer.send(*(frame(PING, 0, 0, bytes(8)) for _ in range(MORE)))
        if ends:
            assert peer.error() == ENHANCE_YOUR_CALM
        else:
            assert peer.get(1, HOST).status == 200


@pytest.mark.parametrize(("allowed", "ends"), [(FEW, True), (0, False)], ids=["few", "default"])
def test_client_that_cancels_more_requests_a_second_than_allowed_is_cut(allowed: int, ends: bool) -> None:
    settings = config(enable_http2_cleartext=True, http2_max_resets=allowed)
    with RunningPlane(settings) as plane, RecordingBackend(silent) as backend, H2Peer(plane.port) as peer:
        plane.route(HOST, backend)
        for stream_id in range(1, 2 * MORE, 2):
            peer.send(headers(stream_id, get(HOST)), reset(stream_id))
        if ends:
            assert peer.error() == ENHANCE_YOUR_CALM
        else:
            assert peer.get(2 * MORE + 1, "unknown.test").status == 404


@pytest.mark.parametrize(("age_s", "connections"), [(0.001, 2), (0.0, 1)], ids=["short", "no limit"])
def test_connection_to_an_instance_takes_no_requests_after_its_age(age_s: float, connections: int) -> None:
    settings = config(enable_http2_cleartext_backends=True, http2_backend_max_age=age_s)
    with RunningPlane(settings) as plane, H2Backend() as backend, plane.client() as client:
        plane.route(HOST, backend.port, protocol="http2")

        def is_told() -> bool:
            plane.call(plane.plane.every_second)
            return backend.conversations[0].goaway

        assert client.get(host=HOST).status == 200
        if age_s:
            wait_until(is_told, "the instance is told")
        assert is_told() == bool(age_s)
        assert client.get(host=HOST).status == 200
        assert len(backend.conversations) == connections
