from pathlib import Path

import pytest

from loadtest.errors import GeneratorError
from loadtest.h2load import H2load, parse_log, parse_output

OUTPUT = """\
finished in 1.00s, 20000.00 req/s, 2.50MB/s
requests: 20001 total, 20160 started, 20001 done, 20000 succeeded, 1 failed, 2 errored, 3 timeout
status codes: 20000 2xx, 0 3xx, 4 4xx, 5 5xx
traffic: 2.50MB (2621440) total
"""


def test_requests_and_every_kind_of_error_are_counted() -> None:
    summary = parse_output(OUTPUT, [100, 200, 300], 1)
    assert summary.requests == 20001
    assert summary.errors == 2 + 3 + 4 + 5
    assert (summary.p50_us, summary.max_us) == (200, 300)


@pytest.mark.parametrize("output", ["", "could not connect\n", OUTPUT.replace("status codes", "codes")])
def test_output_that_says_nothing_is_an_error(output: str) -> None:
    with pytest.raises(GeneratorError):
        parse_output(output, [1, 2], 1)


def test_times_are_the_third_column_of_the_log() -> None:
    assert parse_log("1795270375318\t200\t150\n1795270375319\t200\t250\n") == [150, 250]


def test_command_names_host_streams_and_headers(tmp_path: Path) -> None:
    command = H2load("h2load", tmp_path, cores=[]).command("https://127.0.0.1:1/", "bench.test", 3)
    assert {"-c16", "-m10", "-D3", ":authority: bench.test"} <= set(command)
    assert command[-1] == "https://127.0.0.1:1/"
