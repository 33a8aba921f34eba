"""How many DNS answers one core gives with many internal names, and how soon at half the load it must bear."""

import asyncio
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtest import procfs
from loadtest.dns_server import INSTANCES, NAMES, SERVER, SOURCE, host_name, is_permitted
from loadtest.errors import RequestError
from loadtest.programs import Cores, Program, free_ports
from loadtest.registrations import percentile
from loadtest.report import Figure

ANSWERS_PER_S = 8_000
"""What one core must reach."""
HALF_LOAD_SECONDS = 5
WARM_UP = 5_000
QUERIES = 200_000
AT_ONCE = 64
"""Queries on their way while the server is saturated."""
DIFFERENT = 20_000
"""Names that are asked for, in an order of their own."""
_TIMEOUT_S = 5.0
_HEADER = struct.Struct("!6H")


def question(number: int) -> bytes:
    """Return a query without its id: a stub resolver's, with EDNS."""
    labels = host_name(number).encode().split(b".")
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    options = struct.pack("!BHHIH", 0, 41, 1232, 0, 0)
    return _HEADER.pack(0, 0x0100, 1, 0, 0, 1)[2:] + name + struct.pack("!2H", 1, 1) + options


class Asker:
    """A container that asks for names in random order, and checks what it hears."""

    def __init__(self, port: int) -> None:
        choose = random.Random(2026)
        self._numbers = [choose.randrange(NAMES) for _ in range(DIFFERENT)]
        self._questions = [question(number) for number in self._numbers]
        self._expected = [INSTANCES if is_permitted(number) else 0 for number in self._numbers]
        self._pauses = choose
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((SOURCE, 0))
        self._socket.connect((SERVER, port))
        self._socket.settimeout(_TIMEOUT_S)

    def close(self) -> None:
        self._socket.close()

    def saturate(self, queries: int) -> float:
        """Ask so many questions, always some at once; return the time until all were answered, in s."""
        began = time.perf_counter()
        for number in range(queries + AT_ONCE):
            if number >= AT_ONCE:
                self._receive(sent=min(number, queries))
            if number < queries:
                self._send(number)
        return time.perf_counter() - began

    def latencies_s(self, per_second: float, seconds: float) -> list[float]:
        """Ask at random moments at a mean rate; return how long each answer took since its moment, in s.

        A question that goes out late counts from when it was due.
        """
        due: list[float] = []
        moment = time.perf_counter()
        while len(due) < per_second * seconds:
            moment += self._pauses.expovariate(per_second)
            due.append(moment)
        found: list[float] = []
        sent = 0
        while len(found) < len(due):
            if sent < len(due) and time.perf_counter() >= due[sent]:
                self._send(sent)
                sent += 1
            elif sent - len(found) and self._is_readable():
                number = self._receive(sent)
                found.append(time.perf_counter() - due[number])
            elif time.perf_counter() > due[-1] + _TIMEOUT_S:
                raise RequestError(f"{sent - len(found)} DNS queries were not answered")
        return found

    def _is_readable(self) -> bool:
        # Not select(), which knows descriptors below 1024 alone.
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def _send(self, number: int) -> None:
        self._socket.send((number & 0xFFFF).to_bytes(2) + self._questions[number % DIFFERENT])

    def _receive(self, sent: int) -> int:
        """Take one answer; return its question's number. Raises `RequestError` if it is wrong or does not come."""
        try:
            answer = self._socket.recv(2048)
        except TimeoutError as error:
            raise RequestError("a DNS query was not answered") from error
        packet_id, flags, _, count, _, _ = _HEADER.unpack_from(answer)
        # Ids are the lower bits of numbers, and far fewer than 65,536 questions are open.
        number = sent - 1 - ((sent - 1 - packet_id) & 0xFFFF)
        expected = self._expected[number % DIFFERENT]
        if flags & 0xF or count != expected:
            what = f"code {flags & 0xF} and {count} addresses"
            raise RequestError(f"a DNS query was answered with {what}, not {expected} addresses")
        return int(number)


async def measure(folder: Path, announce: Callable[[str], None]) -> list[Figure]:
    """Run the scenario with its logs in the folder. Raises `ProgramError` if the server does not start."""
    cores = Cores.of_this_process()
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "loadtest.dns_server", str(port)]
    announce(f"loading {NAMES:,} names")
    with Program("dns-server", command, cores=cores.tested, log_folder=folder) as server:
        await server.wait_until_accepting(port)
        return await asyncio.to_thread(_measure, server.pid, port, cores.load, announce)


def _measure(server: int, port: int, cores: Sequence[int], announce: Callable[[str], None]) -> list[Figure]:
    os.sched_setaffinity(0, cores)
    asker = Asker(port)
    try:
        asker.saturate(WARM_UP)
        announce("asking as fast as is answered")
        cpu_before = procfs.cpu_s([server])
        elapsed = asker.saturate(QUERIES)
        cpu_us = (procfs.cpu_s([server]) - cpu_before) / QUERIES * 1e6
        announce(f"asking {ANSWERS_PER_S // 2:,} times a second")
        latencies = asker.latencies_s(ANSWERS_PER_S / 2, HALF_LOAD_SECONDS)
    finally:
        asker.close()
    half = f"{ANSWERS_PER_S // 2:,} queries/s"
    return [
        Figure(name=f"DNS answers a second on one core, {NAMES:,} names", value=QUERIES / elapsed, unit="/s"),
        Figure(
            name="time of one core per answer", value=elapsed / QUERIES * 1e6, unit="µs", limit=1e6 / ANSWERS_PER_S
        ),
        Figure(name="CPU per answer", value=cpu_us, unit="µs", limit=1e6 / ANSWERS_PER_S),
        Figure(name=f"median answer at {half}", value=percentile(latencies, 50) * 1e3, unit="ms", limit=1),
        Figure(name=f"99th percentile at {half}", value=percentile(latencies, 99) * 1e3, unit="ms"),
    ]
