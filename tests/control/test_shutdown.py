"""How signals to end add up."""

import asyncio

from router.control.shutdown import IMPATIENCE_S, STOP_S, Shutdown


class Ending:
    """A shutdown with a clock that stands still until told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.hastened: list[float] = []
        self.shutdown = Shutdown(lambda: self.now, self.hastened.append)


def test_first_usr1_begins_a_gentle_drain() -> None:
    ending = Ending()

    assert ending.shutdown.drain()
    assert ending.shutdown.begun.is_set()
    assert ending.shutdown.gentle
    assert ending.shutdown.limit_s(900.0) == 900.0
    assert ending.hastened == []


async def test_usr1_again_at_once_skips_the_wait() -> None:
    ending = Ending()
    ending.shutdown.drain()
    ending.now += IMPATIENCE_S

    assert ending.shutdown.drain()
    async with asyncio.timeout(60):
        await ending.shutdown.wait(3600.0)
    assert ending.shutdown.limit_s(900.0) == 900.0


def test_usr1_repeated_by_a_drain_script_every_five_seconds_is_ignored() -> None:
    ending = Ending()
    ending.shutdown.drain()
    effects = []
    for _ in range(10):
        ending.now += 5.0
        effects.append(ending.shutdown.drain())

    assert effects == [False] * 10


async def test_usr1_after_the_wait_is_ignored() -> None:
    ending = Ending()
    ending.shutdown.drain()
    await ending.shutdown.wait(0.0)

    assert not ending.shutdown.drain()


def test_term_leaves_a_few_seconds_and_a_second_one_none() -> None:
    ending = Ending()

    assert ending.shutdown.stop()
    assert ending.shutdown.limit_s(900.0) == STOP_S
    assert ending.shutdown.limit_s(1.0) == 1.0
    assert ending.shutdown.stop()
    assert ending.shutdown.limit_s(900.0) == 0.0
    assert not ending.shutdown.stop()
    assert ending.hastened == [STOP_S, 0.0]


async def test_term_during_a_drain_ends_its_wait_and_hastens_it() -> None:
    ending = Ending()
    ending.shutdown.drain()

    assert ending.shutdown.stop()
    async with asyncio.timeout(60):
        await ending.shutdown.wait(3600.0)
    assert not ending.shutdown.gentle
    assert ending.hastened == [STOP_S]


def test_usr1_after_term_is_ignored() -> None:
    ending = Ending()
    ending.shutdown.stop()

    assert not ending.shutdown.drain()
    assert not ending.shutdown.gentle
