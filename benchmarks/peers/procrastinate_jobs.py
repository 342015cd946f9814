"""procrastinate: a job of one queue that defers one of the next. See `stopwatch`."""

from __future__ import annotations

import asyncio

from procrastinate import App, PsycopgConnector

from stopwatch import Stopwatch, arguments

#: Jobs that are worked on, and deferred, at a time.
AT_ONCE = 32

options = arguments()
app = App(connector=PsycopgConnector(conninfo=options.queue))
watch = Stopwatch(options.count)


@app.task(name="last", queue="out")
async def last(data: str) -> None:
    raise AssertionError("nobody works on it")


@app.task(name="first", queue="in")
async def first(data: str) -> None:
    await last.defer_async(data=data)
    watch.lap()


async def main() -> None:
    async with app.open_async():
        if options.verb == "enqueue":
            there = "SELECT to_regclass('procrastinate_jobs') AS there"
            if (await app.connector.execute_query_one_async(there))["there"] is None:
                await app.schema_manager.apply_schema_async()
            watch.ready()
            for _ in range(options.count // 100):
                await first.batch_defer_async(*({"data": "x" * options.size} for _ in range(100)))
                for _ in range(100):
                    watch.lap()
        else:
            watch.ready()
            await app.run_worker_async(
                queues=["in"], wait=False, concurrency=AT_ONCE, delete_jobs="successful", install_signal_handlers=False
            )


asyncio.run(main())
watch.report()
