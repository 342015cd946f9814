"""pgqueuer: a job that enqueues the next one, 256 dequeued at a time. See `stopwatch`."""

from __future__ import annotations

import asyncio

import asyncpg
from pgqueuer import AsyncpgPoolDriver, PgQueuer, Queries
from pgqueuer.types import QueueExecutionMode

from stopwatch import Stopwatch, arguments

BATCH = 256

options = arguments()
watch = Stopwatch(options.count)


async def main() -> None:
    async with asyncpg.create_pool(options.queue, min_size=4) as pool:
        driver = AsyncpgPoolDriver(pool)
        queries = Queries(driver)
        if options.verb == "enqueue":
            if not await queries.schema_is_installed():
                await queries.install()
            watch.ready()
            for _ in range(options.count // 1000):
                await queries.enqueue(["in"] * 1000, [b"x" * options.size] * 1000, [0] * 1000)
                for _ in range(1000):
                    watch.lap()
            return
        queuer = PgQueuer(driver)

        @queuer.entrypoint("in")
        async def pass_on(job) -> None:
            await queries.enqueue("out", job.payload)
            if watch.lap():
                queuer.shutdown.set()

        watch.ready()
        await queuer.run(batch_size=BATCH, mode=QueueExecutionMode.drain)


asyncio.run(main())
watch.report()
