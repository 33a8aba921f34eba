"""`router dev` from its options to its exit status."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Any

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
    loop = asyncio.get_running_loop()
    starting = loop.create_task(stack.start())
    ending = loop.create_task(_first(stop, stack.broken))
    await asyncio.wait([starting, ending], return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        screen.ready(stack)
    starting.cancel()
    why = await ending
    await asyncio.wait([starting])
    if why is not None:
        raise DevError(why.splitlines())
    return 0


async def _first(stop: asyncio.Event, broken: asyncio.Future[str]) -> str | None:
    """Wait until told to stop, and return None, or until something broke, and return what."""
    stopped = asyncio.get_running_loop().create_task(stop.wait())
    either: list[asyncio.Future[Any]] = [stopped, broken]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    return None if stopped.done() else broken.result()


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
