"""What the crash walk of the database engine runs and kills: one operation on a queue.

    python database_child.py

serves runs, each with the arguments ADDRESS OPERATION OTHER [N]. ADDRESS is the queue `in`; `next` is beside it, and
OTHER another one there or a directory. The process is killed before the N-th exchange of the operation with the server,
counted from 0; if it has fewer, after the last. Without N it prints how many there are.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
from collections.abc import Iterator
from typing import Any

import psycopg

from piperkit import crashwalk, engines
from piperkit.message import Failure
from piperkit.postgres.address import Address
from piperkit.postgres.database_queue import DatabaseQueue

OLD, NEW = b"old " * 500, b"new " * 700
FIRST, SECOND = "1790000000.000000001.1.host", "1790000000.000000002.1.host"
FAILURE = Failure("it is broken")


def main(arguments: list[str]) -> None:
    address, operation, other, *when = arguments
    following = str(Address.parse(address).of("next"))
    queue = DatabaseQueue(address, next_queue=following, elsewhere=engines.elsewhere)
    queue.connect()
    operator = view = None
    if operation.startswith("act: "):
        view, operator = engines.view(address), engines.operator(address, "ann")
    elif operation not in ("enqueue", "claim", "recover"):
        queue.claim(1)
        queue.read(FIRST)
    exchanges = kill_at(int(when[0])) if when else kill_at(-1)
    match operation:
        case "enqueue":
            queue.enqueue(NEW, "new")
        case "claim":
            queue.claim(2)
            queue.read(FIRST)
        case "recover":
            queue.recover()
        case "close":
            queue.close()
        case "update":
            queue.update(FIRST, NEW)
        case "commit":
            queue.commit(FIRST)
        case "commit changed":
            queue.commit(FIRST, NEW)
        case "cancel":
            queue.cancel(FIRST)
        case "banish":
            queue.banish(FIRST, FAILURE)
        case "retry":
            queue.retry(FIRST, 0, FAILURE)
        case "dispatch":
            queue.dispatch(FIRST, other)
        case "batch":
            with queue.batch():
                queue.duplicate(FIRST, other)
                queue.commit(FIRST, NEW)
        case _ if view is not None and operator is not None:
            entry = view.find(SECOND)
            acts = {
                "act: hold": lambda: operator.hold(entry, "why"),
                "act: banish": lambda: operator.banish(entry, "why"),
                "act: remove": lambda: operator.remove(entry),
                "act: move": lambda: operator.move(entry, other),
            }
            with operator.batch():
                acts[operation]()
        case _:
            raise ValueError(operation)
    if when:
        os.kill(os.getpid(), signal.SIGKILL)
    print(next(exchanges))


def kill_at(number: int) -> Iterator[int]:
    """End the process before its next exchange but so many; counts all that there are from now on."""
    exchanges = itertools.count()
    wait = psycopg.Connection.wait

    def counting(self: psycopg.Connection, *arguments: Any, **more: Any) -> Any:
        if next(exchanges) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return wait(self, *arguments, **more)

    psycopg.Connection.wait = counting  # type: ignore[method-assign]
    return exchanges


if __name__ == "__main__":
    gc.freeze()  # or each run copies all of this, as it looks for cycles at its end
    crashwalk.serve(main)
