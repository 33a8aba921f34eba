"""Driving a proxy with wrk: a fixed number of keep-alive connections that send one browser's request.

Owns the command line, the Lua that makes wrk print its summary as JSON, and reading that.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.errors import GeneratorError
from loadtest.programs import output_of, pinned

BROWSER_HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Referer": "https://www.example.com/catalogue/shoes?page=2",
    "Cookie": "consent=all; visit=3f2a9c0e7d1b4c58; theme=dark",
    "Cache-Control": "max-age=0",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
}
"""What a browser sends with a page request, Host apart."""

_SUMMARY_SCRIPT = """\
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"connect_errors":%d,"read_errors":%d,"write_errors":%d,'
    .. '"status_errors":%d,"timeouts":%d,"p50_us":%d,"p99_us":%d,"max_us":%d}\\n',
    summary.requests, summary.duration, errors.connect, errors.read, errors.write,
    errors.status, errors.timeout, latency:percentile(50), latency:percentile(99), latency.max))
end
"""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What wrk counted in one run. Times are in microseconds; a status error is an answer of 400 or above."""

    requests: int
    duration_us: int
    connect_errors: int
    read_errors: int
    write_errors: int
    status_errors: int
    timeouts: int
    p50_us: int
    p99_us: int
    max_us: int

    @property
    def errors(self) -> int:
        return self.connect_errors + self.read_errors + self.write_errors + self.status_errors + self.timeouts

    @property
    def requests_per_s(self) -> float:
        return self.requests / (self.duration_us / 1e6) if self.duration_us else 0.0


def parse_summary(output: str) -> Summary:
    """Find the summary among wrk's own lines. Raises `GeneratorError` if there is none."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            try:
                return msgspec.json.decode(line, type=Summary)
            except msgspec.DecodeError as error:
                raise GeneratorError(f"wrk's summary is not understood ({error}): {line}") from error
    raise GeneratorError(f"wrk printed no summary: {output.strip() or 'nothing at all'}")


class Wrk:
    """wrk with its options; each `run` is one burst of load.

    Args:
        program: path of wrk.
        script_folder: where the Lua script may be written.
        connections: kept alive for a whole run, on one thread.
    """

    def __init__(self, program: str, script_folder: Path, *, connections: int, cores: Sequence[int]) -> None:
        self._script = script_folder / "summary.lua"
        self._script.write_text(_SUMMARY_SCRIPT)
        self._program = program
        self._connections = connections
        self._cores = cores

    def command(self, url: str, host: str, seconds: int) -> list[str]:
        """Return the command line of one run."""
        headers = [f"{name}: {value}" for name, value in {"Host": host, **BROWSER_HEADERS}.items()]
        options = [
            f"-t1 -c{self._connections} -d{seconds}s --timeout 10s --latency".split(),
            ["-s", str(self._script)],
        ]
        command = [self._program, *options[0], *options[1]]
        for header in headers:
            command += ["-H", header]
        return pinned([*command, url], self._cores)

    async def run(self, url: str, host: str, seconds: int) -> Summary:
        """Load the URL for this long. Raises `GeneratorError` if wrk fails; failed requests are in the summary."""
        return parse_summary(await output_of("wrk", self.command(url, host, seconds)))
