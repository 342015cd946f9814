"""How full a queue in a database is, for whoever watches it: asked of the server, and not too often."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from piperkit.errors import PiperError
from piperkit.operating import HOLDING
from piperkit.postgres import schema
from piperkit.postgres.address import Address, is_address
from piperkit.postgres.connection import Connection
from piperkit.postgres.statements import depths, instances
from piperkit.queue import Depth, Survey

#: What counting took is not spent again for so many times as long.
_REUSE = 20.0


class Surveyor:
    """Counts a queue for whoever watches it, by a connection of its own. Safe between threads."""

    def __init__(self, address: Address, next_queue: str | None, password_file: str | None) -> None:
        self._queues = {"input": address}
        if next_queue is not None and is_address(next_queue):
            self._queues["output"] = Address.parse(next_queue)
        self._connection = Connection(address, "survey", password_file)
        self._lock = threading.Lock()
        self._until, self._found = 0.0, Survey(())

    def survey(self) -> Survey:
        with self._lock:
            began = time.monotonic()
            if began >= self._until:
                self._found = Survey(tuple(self._depths()), instances=self._instances())
                ended = time.monotonic()
                self._until = ended + _REUSE * (ended - began)
            return self._found

    def _depths(self) -> Iterator[Depth]:
        for queue, address in self._queues.items():
            parts = HOLDING if queue == "input" else ("incoming",)
            try:
                if address.database != self._connection.address.database:
                    continue
                found = depths(self._connection, address.queue)
            except PiperError:
                yield from (Depth(queue, part, None, None) for part in parts)
            else:
                yield from (Depth(queue, part, *found.get(part, (0, None))) for part in parts)

    def _instances(self) -> tuple[int, int] | None:
        try:
            number = schema.number(self._connection, self._queues["input"].queue)
            found = instances(self._connection, number)
        except PiperError:
            return None
        alive = sum(each.alive for each in found)
        return alive, len(found) - alive

    def close(self) -> None:
        with self._lock:
            self._connection.close()
