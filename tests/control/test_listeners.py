"""Opening listeners: what is refused, what is shared, and what clients meet before and after `listen`."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from router.control.listeners import ListenError, Listeners, ListenerSpec, listen_alone, open_listeners
from tests.support.ports import free_port


@contextlib.contextmanager
def opened(*specs: ListenerSpec, slots: int = 2) -> Iterator[Listeners]:
    listeners = open_listeners(specs, slots)
    try:
        yield listeners
    finally:
        listeners.close()


def http(port: int, address: str = "127.0.0.1") -> ListenerSpec:
    return ListenerSpec("http", "port", address, port)


def port_of(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as inherited:
        return int(inherited.getsockname()[1])


def listen(descriptor: int) -> None:
    """Do what a worker does with the socket it inherits."""
    with socket.socket(fileno=os.dup(descriptor)) as inherited:
        inherited.listen()


def foreign_listener(port: int, *, share: bool = False) -> socket.socket:
    foreign = socket.socket()
    foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    foreign.bind(("127.0.0.1", port))
    foreign.listen()
    return foreign


def test_each_slot_has_a_socket_of_its_own_on_the_same_port() -> None:
    port = free_port()
    with opened(http(port), slots=3) as listeners:
        descriptors = {each.fd for slot in range(3) for each in listeners.for_slot(slot)}
        ports = {port_of(descriptor) for descriptor in descriptors}

    assert len(descriptors) == 3
    assert ports == {port}


def test_worker_is_told_kind_and_address_of_every_listener() -> None:
    plain, tls = free_port(), free_port()
    with opened(http(plain), ListenerSpec("https", "ssl_port", "", tls)) as listeners:
        told = [(each.kind, each.address) for each in listeners.for_slot(1)]

    assert told == [("http", f"127.0.0.1:{plain}"), ("https", f"*:{tls}")]


def test_bound_port_refuses_connections_until_a_worker_listens() -> None:
    port = free_port()
    with opened(http(port)) as listeners:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))

        listen(listeners.for_slot(0)[0].fd)

        socket.create_connection(("127.0.0.1", port)).close()


def test_without_an_address_both_ip_versions_are_served() -> None:
    port = free_port()
    with opened(http(port, "")) as listeners:
        listen(listeners.for_slot(0)[0].fd)

        socket.create_connection(("127.0.0.1", port)).close()
        if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):
            socket.create_connection(("::1", port)).close()


def test_closed_listeners_refuse_connections_again() -> None:
    port = free_port()
    with opened(http(port)) as listeners:
        listen(listeners.for_slot(0)[0].fd)

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_port_of_another_program_is_refused_with_key_and_address() -> None:
    port = free_port()
    with (
        foreign_listener(port),
        pytest.raises(ListenError, match=rf"^port: cannot listen on 127\.0\.0\.1:{port}: Address already in use$"),
    ):
        open_listeners([http(port)], 2)


def test_port_of_another_program_on_one_address_is_refused_for_all_addresses() -> None:
    port = free_port()
    with foreign_listener(port), pytest.raises(ListenError, match=rf"\*:{port}: Address already in use"):
        open_listeners([http(port, "")], 2)


def test_port_of_another_router_is_refused_although_the_kernel_would_share_it() -> None:
    port = free_port()
    with opened(http(port)), pytest.raises(ListenError, match="another router already does"):
        open_listeners([http(port)], 2)


def test_a_refused_listener_leaves_none_of_the_others_open() -> None:
    free, taken = free_port(), free_port()
    with foreign_listener(taken), pytest.raises(ListenError):
        open_listeners([http(free), ListenerSpec("https", "ssl_port", "127.0.0.1", taken)], 2)

    with opened(http(free)):
        pass


def test_workers_that_outlived_their_control_do_not_keep_its_successor_out() -> None:
    port = free_port()
    with foreign_listener(port, share=True), opened(http(port)) as listeners:
        assert [each.shared for each in listeners] == [True]


def test_port_nobody_listens_on_is_not_shared() -> None:
    with opened(http(free_port())) as listeners:
        assert [each.shared for each in listeners] == [False]


def test_claim_ends_with_the_process_that_holds_it() -> None:
    port = free_port()
    script = f"""
from router.control.listeners import *
listeners = open_listeners([ListenerSpec("http", "port", "127.0.0.1", {port})], 1)
print("open", flush=True)
input()
"""
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(ListenError, match="another router"):
            open_listeners([http(port)], 1)
        holder.kill()

    with opened(http(port)):
        pass


def test_unknown_address_is_refused_with_its_reason() -> None:
    with pytest.raises(ListenError, match=r"^port: cannot listen on 192\.0\.2\.77:1\d+: "):
        open_listeners([http(free_port() % 10_000 + 10_000, "192.0.2.77")], 1)


def test_port_zero_gives_all_slots_the_same_free_port() -> None:
    with opened(http(0), slots=3) as listeners:
        (listener,) = listeners
        addresses = {each.address for slot in range(3) for each in listeners.for_slot(slot)}

    assert addresses == {f"127.0.0.1:{listener.port}"}


def test_socket_of_an_api_takes_connections_at_once_and_is_nobody_elses() -> None:
    port = free_port()
    taken = rf"status\.port: cannot listen on 127\.0\.0\.1:{port}: Address already"
    with (
        listen_alone("status.port", "127.0.0.1", port),
        socket.create_connection(("127.0.0.1", port)),
        pytest.raises(ListenError, match=taken),
    ):
        listen_alone("status.port", "127.0.0.1", port)
