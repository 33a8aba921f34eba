"""The comparison: every proxy in turn under the same load, round after round, and what a request cost each.

Rounds are interleaved and ratios are taken within a round, so that a machine that grows slower for a minute does
not favour whoever was not running just then.
"""

import statistics
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack

import msgspec

from loadtest import procfs
from loadtest.errors import RequestError
from loadtest.h2load import H2load
from loadtest.programs import Program, free_ports
from loadtest.proxies import HOST, PROXIES, RunningProxy, Surroundings, backend_command
from loadtest.wrk import Summary, Wrk

WARM_UP_S = 1
REFERENCE = "nginx"
CPU_LIMITS = {"http": 2.0, "https": 2.2, "h2": 5.0}
"""The router's CPU time per request may be so many times the reference's."""

Loads = Mapping[str, Wrk | H2load]
"""What makes the requests, by scheme."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared, and for how long."""

    proxies: Sequence[str]
    schemes: Sequence[str]
    rounds: int
    seconds: int
    """Length of one measurement."""
    connections: int


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy, one scheme, one round."""

    proxy: str
    scheme: str
    round: int
    load: Summary
    cpu_us: float
    """CPU time per request of the processes that carry traffic, in microseconds."""
    control_cpu_us: float
    """The same of those that carry none, divided by the same number of requests."""
    busy: float
    """Share of one core that the data plane used: near 1 means that it, not the load, set the rate."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over the rounds of one proxy and scheme."""

    proxy: str
    scheme: str
    requests_per_s: float
    cpu_us: float
    control_cpu_us: float
    busy: float
    p50_us: float
    p99_us: float
    ratio: float | None
    """CPU time per request, as a multiple of the reference's in the same round; None without a reference."""


async def measure(
    plan: Plan, around: Surroundings, loads: Loads, announce: Callable[[str], None]
) -> AsyncIterator[Measurement]:
    """Run the whole plan, yielding each measurement as it is made. Says through ``announce`` what goes on.

    Raises `RequestError` on the first failed request, `ProgramError` if a program does not start.
    """
    async with AsyncExitStack() as running:
        command = backend_command(around.folder, around.backend_port)
        backend = Program("backend", command, cores=around.cores.load, log_folder=around.folder)
        await running.enter_context(backend).wait_until_accepting(around.backend_port)
        proxies = [await running.enter_async_context(PROXIES[name](around)) for name in plan.proxies]
        for scheme in plan.schemes:
            for proxy in proxies:
                announce(f"warming up {proxy.name} over {scheme}")
                await _load(proxy, scheme, loads, WARM_UP_S)
            for number in range(1, plan.rounds + 1):
                for proxy in proxies:
                    announce(f"round {number} of {plan.rounds}: {proxy.name} over {scheme}")
                    yield await _measure_once(proxy, scheme, number, loads, plan.seconds)


async def _measure_once(proxy: RunningProxy, scheme: str, number: int, loads: Loads, seconds: int) -> Measurement:
    cpu_before, control_before = procfs.cpu_s(proxy.data_plane), procfs.cpu_s(proxy.control)
    load = await _load(proxy, scheme, loads, seconds)
    cpu_s = procfs.cpu_s(proxy.data_plane) - cpu_before
    control_s = procfs.cpu_s(proxy.control) - control_before
    if not cpu_s:
        raise RequestError(f"{proxy.name} over {scheme}: no CPU time was seen; was the load too short?")
    return Measurement(
        proxy=proxy.name,
        scheme=scheme,
        round=number,
        load=load,
        cpu_us=cpu_s * 1e6 / load.requests,
        control_cpu_us=control_s * 1e6 / load.requests,
        busy=cpu_s * 1e6 / load.duration_us,
    )


async def _load(proxy: RunningProxy, scheme: str, loads: Loads, seconds: int) -> Summary:
    transport = "http" if scheme == "http" else "https"
    load = await loads[scheme].run(f"{transport}://127.0.0.1:{proxy.ports[transport]}/", HOST, seconds)
    if load.errors or not load.requests:
        raise RequestError(f"{proxy.name} over {scheme}: {load.errors} failed of {load.requests} requests: {load}")
    return load


def results(measurements: Iterable[Measurement]) -> list[Result]:
    """Reduce measurements to medians, in the order of first appearance."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for one in measurements:
        groups.setdefault((one.scheme, one.proxy), []).append(one)
    return [_result(group, groups.get((scheme, REFERENCE), [])) for (scheme, _), group in groups.items()]


def _result(group: Sequence[Measurement], reference: Sequence[Measurement]) -> Result:
    reference_cpu_us = {one.round: one.cpu_us for one in reference}
    ratios = [one.cpu_us / reference_cpu_us[one.round] for one in group if one.round in reference_cpu_us]
    return Result(
        proxy=group[0].proxy,
        scheme=group[0].scheme,
        requests_per_s=statistics.median(one.load.requests_per_s for one in group),
        cpu_us=statistics.median(one.cpu_us for one in group),
        control_cpu_us=statistics.median(one.control_cpu_us for one in group),
        busy=statistics.median(one.busy for one in group),
        p50_us=statistics.median(one.load.p50_us for one in group),
        p99_us=statistics.median(one.load.p99_us for one in group),
        ratio=statistics.median(ratios) if ratios else None,
    )


def new_backend_port() -> int:
    """Return a port for the instance behind the proxies."""
    return free_ports(1)[0]
