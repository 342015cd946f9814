"""Looking at a queue without taking part in it: nothing here claims, locks or changes anything."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from stat import S_ISREG
from typing import Any

from piperkit import naming
from piperkit.dirq import deadletters, instances, journal, layout, pausing, records
from piperkit.dirq.fs import Directory, display
from piperkit.dirq.reading import Unreadable
from piperkit.dirq.survey import Surveyor
from piperkit.errors import QueueError, QueueMissing
from piperkit.operating import HOLDING, Entry, Instance, Paused
from piperkit.record import NEW, MessageRecord


class QueueView:
    """A queue as its directory shows it. Raises QueueMissing where `path` is none."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self._opened: dict[str, Directory] = {}
        if not layout.is_queue(self.path):
            raise QueueMissing(
                f"{self.path} is not a queue: it lacks one of the directories {', '.join(layout.PROTOCOL)}"
            )

    def counts(self, parts: Iterable[str] = HOLDING) -> dict[str, int]:
        """The number of messages in each part."""
        return {part: layout.count_messages(self.path, part) for part in parts}

    def entries(self, part: str) -> list[Entry]:
        """The messages in a part, in the order in which they would be claimed. One that moves on is left out."""
        return [*self._those(part, sorted(layout.message_names(self.path, part), key=naming.sort_key))]

    def oldest(
        self, part: str, limit: int, check: Callable[[int], None] = lambda number: None
    ) -> tuple[list[Entry], int]:
        """The first of them, in memory for so many only, and how many more there are.

        check: called now and then with how many were looked at; what it raises ends the look.
        """
        first = naming.First(limit)
        for some in layout.some_messages(self.path, part):
            check(len(some))
            first.add(some)
        shown = [*self._those(part, first.names())]
        return shown, first.number - min(limit, first.number)

    def each(self, part: str) -> Iterator[Entry]:
        """The messages in a part, in no order and in no memory to speak of. One that moves on is left out."""
        return self._those(part, layout.each_message(self.path, part))

    def _those(self, part: str, found: Iterable[str]) -> Iterator[Entry]:
        for name in found:
            with contextlib.suppress(FileNotFoundError):
                yield self._entry(part, name)

    def entry(self, part: str, id: str) -> Entry:
        """The message, if it is in that part. Raises InvalidId, FileNotFoundError."""
        path = f"{self.path}/{part}"
        if part == "errors" and not deadletters.is_message(path)(naming.check_id(id)):
            raise FileNotFoundError(errno.ENOENT, "that is not a message", f"{path}/{id}")
        return self._entry(part, naming.check_id(id))

    def find(self, id: str) -> Entry:
        """The message, wherever it is. Raises InvalidId, or QueueError where no part has it."""
        naming.check_id(id)
        for part in HOLDING * 2:  # twice: it may move on while we look
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return self.entry(part, id)
        raise QueueError(f"no message {display(id)} in the queue {self.path}")

    def depths(self) -> dict[str, tuple[int, float | None]]:
        """How many messages each part holds, and when the oldest of them was made, see `survey`.

        Raises QueueError where a part cannot be counted.
        """
        found: dict[str, tuple[int, float | None]] = {}
        for depth in Surveyor(self.path, None).survey().depths:
            if depth.messages is None:
                raise QueueError(f"{self.path}/{depth.part} cannot be counted: it is for the queue's owner and root")
            found[depth.part] = (depth.messages, depth.oldest)
        return found

    def measure(self, part: str) -> tuple[int, int, float | None]:
        """The number of messages in a part, their bytes, and when the one that has waited longest arrived."""
        number = size = 0
        oldest: float | None = None
        with contextlib.suppress(FileNotFoundError):
            directory = self._part(part)
            for name in layout.each_message(self.path, part):
                stat = directory.stat(name)
                if stat is not None:
                    number, size = number + 1, size + stat.st_size
                    oldest = stat.st_mtime if oldest is None else min(oldest, stat.st_mtime)
        return number, size, oldest

    def read(self, entry: Entry) -> bytes:
        """The contents. Raises FileNotFoundError where the message has moved on."""
        fd = self._part(entry.part).open(entry.id)
        with os.fdopen(fd, "rb") as file:
            return file.read(entry.size)

    def history(self, entry: Entry) -> list[dict[str, Any]]:
        """The message's failed attempts, oldest first: {"time", "reason"}."""
        if entry.part == "errors":
            return list((self.report(entry) or {}).get("history") or ())
        return list(self._record(entry.id, os.stat(entry.path).st_mtime_ns).history)

    def report(self, entry: Entry) -> dict[str, Any] | None:
        """What is stored beside a message in `errors`."""
        return deadletters.report(self._part("errors"), entry.id)

    def banished(self, entry: Entry) -> float:
        """When a message in `errors` was put there: rename(2) sets the ctime. Raises FileNotFoundError."""
        return os.stat(entry.path, follow_symlinks=False).st_ctime

    def told(self, containing: bytes = b"") -> Iterator[dict[str, Any]]:
        """What is kept of messages' ways, see `journal`. Raises OSError where it cannot be read."""
        return journal.lines(f"{self.path}/history", containing)

    def paused(self) -> Paused | None:
        """Whether an operator has paused the queue, see `pausing`."""
        return pausing.paused(self.path)

    def instances(self) -> list[Instance] | None:
        """The living instances, by their records in `instances`."""
        try:
            living, _ = instances.read(self._part("instances"), "", {})
        except FileNotFoundError:
            return []
        except OSError:
            return None
        found = [
            Instance(host, int(pid), int(since) / 1e9, None if listed is None else len(listed.claimed))
            for name, listed in living.items()
            for host, pid, since in [name.rsplit(".", 2)]
        ]
        return sorted(found, key=lambda each: each.since)

    def close(self) -> None:
        """Let go of the directories that it holds open. Idempotent."""
        while self._opened:
            self._opened.popitem()[1].close()

    def _record(self, name: str, arrived: int) -> MessageRecord:
        try:
            return records.read(self._part("state"), name, arrived)
        except (OSError, Unreadable):
            return NEW

    def _part(self, part: str) -> Directory:
        found = self._opened.get(part)
        if found is None or not found.is_there():
            found = self._opened[part] = Directory(f"{self.path}/{part}", Directory(self.path))
        return found

    def _entry(self, part: str, name: str) -> Entry:
        path = os.path.join(self.path, part, name)
        stat = os.stat(path, follow_symlinks=False)
        if not S_ISREG(stat.st_mode):
            raise FileNotFoundError(errno.ENOENT, "that is not a message", path)
        reason: str | None
        if part == "errors":
            report = deadletters.report(self._part("errors"), name) or {}
            # Another program may have written it, in its own way.
            attempts = found if isinstance(found := report.get("attempts"), int) else 0
            reason = found if isinstance(found := report.get("reason"), str) else None
        else:
            record = self._record(name, stat.st_mtime_ns)
            attempts = record.attempts
            reason = record.history[-1]["reason"] if record.history else None
        due = None
        if part == "deferred":
            try:
                due = os.stat(os.path.join(self.path, "state", name)).st_mtime
            except FileNotFoundError:
                due = 0.0
        return Entry(name, part, stat.st_size, stat.st_mtime, attempts, due, reason, path)
