import socket
import sys

from tests.support.cell import Cell
from tests.support.ports import free_port, refuses


def test_containers_see_each_others_addresses_and_nothing_else() -> None:
    port = free_port()
    with Cell({"a": "10.255.1.2", "b": "10.255.1.3"}) as cell:
        with cell.inside("a"):
            listening = socket.create_server(("10.255.1.2", port))
        with listening:
            dial = f"import socket; print(socket.create_connection(('10.255.1.2', {port}), 60).getsockname()[0])"
            assert cell.run("b", [sys.executable, "-c", dial]).stdout == "10.255.1.3\n"
            connection, peer = listening.accept()
            connection.close()
        assert peer[0] == "10.255.1.3"
        assert refuses(port), "this machine's own network knows nothing of it"
