"""`router dev` from its options to its exit status."""

import asyncio
import contextlib
import signal
from pathlib import Path

from rich.console import Console

from router.dev.plan import DevError, Options, Plan, prepared
from router.dev.screen import ConsoleScreen
from router.dev.stack import Stack, running

__all__ = ["Options", "run"]

LOG_INTERVAL_S = 0.2


def run(options: Options) -> int:
    """Run until SIGINT, SIGTERM or SIGHUP; 0 then, 1 if something cannot be started or the router ends."""
    screen = ConsoleScreen(Console(highlight=False))
    try:
        with prepared(options) as plan:
            return asyncio.run(_run(plan, screen))
    except DevError as error:
        screen.problems(error.problems)
        return 1


async def _run(plan: Plan, screen: ConsoleScreen) -> int:
    stop = asyncio.Event()
    async with running(plan, screen) as stack:
        _heed_signals(stop, stack)
        following = asyncio.ensure_future(_follow(plan.log("router"), screen)) if plan.options.verbose else None
        try:
            status = await _until_stopped(stack, stop, screen)
        finally:
            if following is not None:
                following.cancel()
            screen.stopping()
    screen.stopped()
    return status


async def _until_stopped(stack: Stack, stop: asyncio.Event, screen: ConsoleScreen) -> int:
    stopped = asyncio.ensure_future(stop.wait())
    starting = asyncio.ensure_future(stack.start())
    await asyncio.wait([starting, stopped, stack.broken], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        screen.ready(stack)
        await asyncio.wait([stopped, stack.broken], return_when=asyncio.FIRST_COMPLETED)
    else:
        starting.cancel()
        await asyncio.wait([starting])
    if stack.broken.done() and not stop.is_set():
        raise DevError(stack.broken.result().splitlines())
    stopped.cancel()
    return 0


def _heed_signals(stop: asyncio.Event, stack: Stack) -> None:
    """Stop at the first signal; at a second one let nothing take its time."""

    def told() -> None:
        if stop.is_set():
            stack.kill()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, told)


async def _follow(log: Path, screen: ConsoleScreen) -> None:
    """Show a log as it grows, whole lines alone."""
    position = 0
    while True:
        with contextlib.suppress(OSError):
            with log.open("rb") as file:
                file.seek(position)
                whole = file.read().rpartition(b"\n")[0]
            if whole:
                position += len(whole) + 1
                screen.log_lines(whole.decode(errors="replace").splitlines())
        await asyncio.sleep(LOG_INTERVAL_S)
