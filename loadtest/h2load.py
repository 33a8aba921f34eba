"""Driving a proxy over HTTP/2 with h2load: connections of several streams each, the same browser's request as wrk.

Owns the command line and reading what h2load prints and logs.
"""

import asyncio
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from loadtest.errors import GeneratorError
from loadtest.programs import output_of, pinned
from loadtest.wrk import BROWSER_HEADERS, Summary

CONNECTIONS = 16
STREAMS = 10
"""Requests in progress on each connection."""

_REQUESTS = re.compile(
    r"^requests: (\d+) total, .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout",
    re.MULTILINE,
)
_STATUSES = re.compile(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", re.MULTILINE)


class H2load:
    """h2load with its options; each `run` is one burst of load.

    Args:
        program: path of h2load.
        folder: where its log of requests may be written.
    """

    def __init__(self, program: str, folder: Path, *, cores: Sequence[int]) -> None:
        self._program = program
        self._log = folder / "h2load.log"
        self._cores = cores

    def command(self, url: str, host: str, seconds: int) -> list[str]:
        """Return the command line of one run."""
        options = f"-t1 -c{CONNECTIONS} -m{STREAMS} -D{seconds} --log-file={self._log}".split()
        headers = [f"{name.lower()}: {value}" for name, value in BROWSER_HEADERS.items()]
        command = [self._program, *options, "-H", f":authority: {host}"]
        for header in headers:
            command += ["-H", header]
        return pinned([*command, url], self._cores)

    async def run(self, url: str, host: str, seconds: int) -> Summary:
        """Load the URL for this long. Raises `GeneratorError` if h2load fails; failed requests are counted."""
        self._log.unlink(missing_ok=True)
        text = await output_of("h2load", self.command(url, host, seconds))
        times_us = parse_log(await asyncio.to_thread(self._log.read_text)) if self._log.exists() else []
        return parse_output(text, times_us, seconds)


def parse_log(text: str) -> list[int]:
    """Return the times of all requests of h2load's log, in microseconds."""
    return [int(line.split("\t")[2]) for line in text.splitlines() if line.count("\t") >= 2]


def parse_output(text: str, times_us: Sequence[int], seconds: int) -> Summary:
    """Read what h2load says at its end. Raises `GeneratorError` if it is not understood."""
    requests, statuses = _REQUESTS.search(text), _STATUSES.search(text)
    if requests is None or statuses is None or len(times_us) < 2:
        raise GeneratorError(f"h2load's output is not understood: {text.strip() or 'nothing at all'}")
    percentiles = statistics.quantiles(times_us, n=100, method="inclusive")
    return Summary(
        requests=int(requests[2]),
        duration_us=seconds * 1_000_000,
        connect_errors=0,
        read_errors=int(requests[5]),
        write_errors=0,
        status_errors=int(statuses[3]) + int(statuses[4]),
        timeouts=int(requests[6]),
        p50_us=int(percentiles[49]),
        p99_us=int(percentiles[98]),
        max_us=max(times_us),
    )
