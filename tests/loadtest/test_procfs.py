import os
import signal
import socket
import subprocess

import pytest

from loadtest import procfs

STAT = (
    "4211 (a (strange) name) S 17 4211 4211 0 -1 4194560 1042 11 0 0 250 37 4 5 20 0 1 0 910 4603904 871 "
    "18446744073709551615 1 1 0 0 0 0 0 0 65536 0 0 0 17 1 0 0 0 0 0\n"
)
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7001 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 7002 1 0 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:C351 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1
"""


def test_stat_fields_count_from_the_end_of_a_name_with_parentheses() -> None:
    assert procfs.parse_stat(STAT) == procfs.Stat(parent=17, cpu_ticks=250 + 37)


def test_rss_is_given_in_bytes() -> None:
    assert (
        procfs.parse_rss_bytes("Name:\tcat\nVmPeak:\t  5000 kB\nVmRSS:\t     840 kB\nThreads:\t1\n") == 840 * 1024
    )


def test_process_without_memory_has_no_rss() -> None:
    assert procfs.parse_rss_bytes("Name:\tcat\nState:\tZ (zombie)\n") == 0


def test_connections_not_yet_accepted_have_no_inode() -> None:
    assert procfs.parse_tcp_inodes(TCP) == {(8080, 0): 7001, (8080, 50000): 7002}


def test_cpu_time_and_memory_of_this_process_are_read() -> None:
    assert procfs.cpu_s([os.getpid()]) > 0
    assert procfs.rss_bytes(os.getpid()) > 1_000_000


def test_cpu_time_of_a_process_that_is_gone_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        procfs.cpu_s([1 << 30])


def test_command_line_of_a_process_that_is_gone_is_empty() -> None:
    assert procfs.command_line(1 << 30) == []


def test_descendants_include_grandchildren() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        (sleeper,) = procfs.descendants(shell.pid)
        assert {shell.pid, sleeper} <= set(procfs.descendants(os.getpid()))
        os.kill(sleeper, signal.SIGKILL)


def test_owner_of_a_connection_is_found_once_it_is_accepted() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        server_port, client_port = server.getsockname()[1], client.getsockname()[1]
        assert procfs.owner_of_connection(server_port, client_port, [os.getpid()]) is None
        accepted, _ = server.accept()
        with accepted:
            assert procfs.owner_of_connection(server_port, client_port, [1 << 30, os.getpid()]) == os.getpid()
            assert procfs.owner_of_connection(server_port, client_port, [1 << 30]) is None
