import socket
import sys

from tests.support.cell import Cell


def test_containers_see_each_others_addresses_and_nothing_else() -> None:
    with Cell({"a": "10.255.1.2", "b": "10.255.1.3"}) as cell:
        with cell.inside("a"):
            listening = socket.create_server(("10.255.1.2", 8080))
        with listening:
            dial = "import socket; print(socket.create_connection(('10.255.1.2', 8080), 5).getsockname()[0])"
            assert cell.run("b", [sys.executable, "-c", dial]).stdout == "10.255.1.3\n"
            connection, peer = listening.accept()
            connection.close()
        assert peer[0] == "10.255.1.3"
    outside = socket.socket()
    with outside:
        outside.settimeout(0.2)
        assert outside.connect_ex(("127.0.0.1", 8080)) != 0
