import asyncio
import sys
from pathlib import Path

import pytest

from loadtest.errors import GeneratorError
from loadtest.programs import Cores, Program, free_ports
from loadtest.wrk import Summary, Wrk, parse_summary
from tests.support.needs import needs

OUTPUT = """\
Running 1s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
Requests/sec:  51511.21
{"requests":51511,"duration_us":1000000,"connect_errors":0,"read_errors":1,"write_errors":0,\
"status_errors":2,"timeouts":3,"p50_us":1200,"p99_us":1750,"max_us":4000}
"""


def test_summary_is_found_among_the_lines_for_people() -> None:
    summary = parse_summary(OUTPUT)
    assert (summary.requests, summary.p50_us, summary.p99_us) == (51511, 1200, 1750)
    assert summary.requests_per_s == pytest.approx(51511)


def test_every_kind_of_error_counts() -> None:
    assert parse_summary(OUTPUT).errors == 1 + 2 + 3


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:1\n", '{"requests":1}\n', "{broken\n"])
def test_output_without_a_summary_is_an_error(output: str) -> None:
    with pytest.raises(GeneratorError):
        parse_summary(output)


def test_a_run_of_no_length_has_no_rate() -> None:
    nothing = dict.fromkeys(Summary.__struct_fields__, 0)
    assert Summary(**nothing).requests_per_s == 0


async def test_wrk_loads_a_backend_without_errors(tmp_path: Path) -> None:
    cores = Cores.of_this_process()
    wrk = Wrk(needs("wrk"), tmp_path, connections=4, cores=cores.all)
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "loadtest.backend", str(port)]
    with Program("backend", command, cores=cores.all, log_folder=tmp_path) as backend:
        await backend.wait_until_accepting(port)
        summary = await wrk.run(f"http://127.0.0.1:{port}/", "bench.example.com", 1)
    assert summary.requests > 0
    assert summary.errors == 0


async def test_wrk_that_cannot_connect_is_an_error(tmp_path: Path) -> None:
    wrk = Wrk(needs("wrk"), tmp_path, connections=1, cores=Cores.of_this_process().all)
    (port,) = free_ports(1)
    with pytest.raises(GeneratorError, match="unable to connect"):
        await asyncio.wait_for(wrk.run(f"http://127.0.0.1:{port}/", "bench.example.com", 1), 30)
