"""The clock of prune passes."""

import asyncio
from collections.abc import Iterator

from router.control.pruner import Pruner


class Passes:
    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.steps_per_pass = 3
        self.first = asyncio.Event()
        self.seen = asyncio.Event()

    def steps(self) -> Iterator[None]:
        self.begun += 1
        self.first.set()
        for _ in range(self.steps_per_pass):
            yield

    def passed(self) -> None:
        self.ended += 1
        self.seen.set()


async def finish(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_passes_follow_each_other_and_each_is_run_to_its_end() -> None:
    passes = Passes()
    task = asyncio.create_task(Pruner(passes.steps, passes.passed, 0.001).run())
    async with asyncio.timeout(20):
        while passes.ended < 3:
            passes.seen.clear()
            await passes.seen.wait()
    await finish(task)

    assert passes.begun == 3


async def test_other_work_goes_on_between_the_steps_of_a_pass() -> None:
    passes = Passes()
    passes.steps_per_pass = 1_000_000_000
    task = asyncio.create_task(Pruner(passes.steps, passes.passed, 0.001).run())
    async with asyncio.timeout(20):
        await passes.first.wait()
        await asyncio.sleep(0.001)
    await finish(task)

    assert passes.ended == 0


async def test_interval_zero_never_prunes_until_it_is_changed() -> None:
    passes = Passes()
    pruner = Pruner(passes.steps, passes.passed, 0.0)
    task = asyncio.create_task(pruner.run())
    await asyncio.sleep(0.02)
    assert passes.begun == 0

    pruner.set_interval(0.001)
    async with asyncio.timeout(20):
        await passes.seen.wait()
    await finish(task)


async def test_shorter_interval_counts_from_its_change() -> None:
    passes = Passes()
    pruner = Pruner(passes.steps, passes.passed, 3600.0)
    task = asyncio.create_task(pruner.run())
    await asyncio.sleep(0)
    pruner.set_interval(0.001)

    async with asyncio.timeout(20):
        await passes.seen.wait()
    await finish(task)
