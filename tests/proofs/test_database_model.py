"""Random operations on a queue in a database, against a plain model in memory, in batches and alone, with crashes and
lost connections in between.

After each step the rows are compared with the model: every message is in exactly one place, whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import postgresql
import summary
from dirq_tools import FAILURE
from kinds import Database, create, lose
from piperkit.errors import NotClaimed
from piperkit.postgres.address import Address
from piperkit.postgres.connection import Connection
from piperkit.postgres.database_queue import DatabaseQueue

INSTANCES = 3
SETTLING = ("commit", "commit changed", "cancel", "banish", "retry", "later", "requeue", "dispatch")
CHANGING = ("update", "duplicate")
counts: Counter[str] = Counter()


@dataclasses.dataclass
class Model:
    """A message, as it should be."""

    data: bytes
    queue: str = "in"
    part: str = "incoming"
    holder: int | None = None


class DatabaseMachine(RuleBasedStateMachine):
    database: Database
    numbers = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.names = {name: f"m{next(self.numbers)}.{name}" for name in ("in", "next", "other")}
        for name in self.names.values():
            create(self.database.address(name))
        self.watcher = Connection(Address.parse(self.database.address(self.names["in"])))
        self.queues = [self.open() for _ in range(INSTANCES)]
        self.batches: list[contextlib.ExitStack | None] = [None] * INSTANCES
        #: What is to be true when an instance's batch has ended.
        self.waiting: list[list[Callable[[], None]]] = [[] for _ in range(INSTANCES)]
        self.held: list[dict[str, bytes]] = [{} for _ in range(INSTANCES)]
        self.messages: dict[str, Model] = {}
        self.copies: Counter[bytes] = Counter()
        counts["runs"] += 1
        for at in range(INSTANCES):
            self.put(4, at)
            self.take(3, at)

    def open(self) -> DatabaseQueue:
        return DatabaseQueue(
            self.database.address(self.names["in"]),
            next_queue=self.database.address(self.names["next"]),
            crash_limit=99,
        )

    def teardown(self) -> None:
        if hasattr(self, "queues"):
            try:
                for at in range(INSTANCES):
                    self.end_batch(at)
                for queue in self.queues:
                    queue.close()
                for at in range(INSTANCES):
                    self.given_back(at)
                self.rows_are_as_they_should_be()
            finally:
                for queue in self.queues:
                    queue.close()
                self.watcher.close()

    # -- what is done ----------------------------------------------------------------------------------------

    @rule(number=st.integers(1, 4), at=st.integers(0, INSTANCES - 1))
    def enqueue(self, number: int, at: int) -> None:
        self.put(number, at)

    def put(self, number: int, at: int) -> None:
        contents = [b"%d" % next(self.numbers) for _ in range(number)]
        for id, data in zip(self.queues[at].enqueue_many(contents), contents, strict=True):
            self.messages[id] = Model(data)

    @rule(limit=st.integers(1, 5), at=st.integers(0, INSTANCES - 1))
    def claim(self, limit: int, at: int) -> None:
        self.take(limit, at)

    def take(self, limit: int, at: int) -> None:
        waiting = {id for id, each in self.messages.items() if (each.queue, each.part) == ("in", "incoming")}
        claims = self.queues[at].claim(limit)
        due = {id for id, each in self.messages.items() if each.part == "due"}
        assert {claim.id for claim in claims} <= waiting | due
        assert len(claims) >= min(limit, len(waiting)) - len(due)
        for claim in claims:
            message = self.messages[claim.id]
            message.part, message.holder = "pending", at
            self.held[at][claim.id] = message.data

    @rule(choice=st.integers(0, 9), operation=st.sampled_from(SETTLING + CHANGING), at=st.integers(0, INSTANCES - 1))
    def work(self, choice: int, operation: str, at: int) -> None:
        held = self.held[at]
        if not held:
            return
        queue, id = self.queues[at], sorted(held)[choice % len(held)]
        assert queue.read(id) == held[id]
        message = self.messages[id]
        new, data = held[id] + b"+", held[id]
        other = self.database.address(self.names["other"])
        calls: dict[str, tuple[Callable[[], object], tuple[str, str, bytes] | None]] = {
            "commit": (lambda: queue.commit(id), ("next", "incoming", data)),
            "commit changed": (lambda: queue.commit(id, new), ("next", "incoming", new)),
            "cancel": (lambda: queue.cancel(id), None),
            "banish": (lambda: queue.banish(id, FAILURE), ("in", "errors", data)),
            "retry": (lambda: queue.retry(id, 0, FAILURE), ("in", "due", data)),
            "later": (lambda: queue.postpone(id, 1e6, FAILURE), ("in", "deferred", data)),
            "requeue": (lambda: queue.requeue(id), ("in", "incoming", data)),
            "dispatch": (lambda: queue.dispatch(id, other), ("other", "incoming", data)),
        }
        if operation == "update":
            queue.update(id, new)
            held[id] = new
            self.when_done(at, lambda: setattr(message, "data", new))
        elif operation == "duplicate":
            queue.duplicate(id, other)
            self.when_done(at, lambda: self.copies.update([data]))
        else:
            call, end = calls[operation]
            call()
            del held[id]
            self.when_done(at, lambda: self.settled(id, end))
            with pytest.raises(NotClaimed):
                queue.read(id)
        counts[operation] += 1

    def when_done(self, at: int, change: Callable[[], None]) -> None:
        if self.batches[at] is None:
            change()
        else:
            self.waiting[at].append(change)

    def settled(self, id: str, end: tuple[str, str, bytes] | None) -> None:
        if end is None:
            del self.messages[id]
        else:
            message = self.messages[id]
            message.queue, message.part, message.data = end
            message.holder = None

    @rule(at=st.integers(0, INSTANCES - 1))
    def begin_batch(self, at: int) -> None:
        if self.batches[at] is None:
            self.batches[at] = contextlib.ExitStack()
            self.batches[at].enter_context(self.queues[at].batch())  # type: ignore[union-attr]

    @rule(at=st.integers(0, INSTANCES - 1))
    def end_batch(self, at: int) -> None:
        batch, self.batches[at] = self.batches[at], None
        if batch is not None:
            batch.close()
        for change in self.waiting[at]:
            change()
        self.waiting[at].clear()

    @rule(at=st.integers(0, INSTANCES - 1))
    def crash(self, at: int) -> None:
        """Its process dies; what was in its batch was not done. Another one gives back what it held."""
        lose(self.queues[at])
        self.batches[at], self.queues[at] = None, self.open()
        self.waiting[at].clear()
        counts["crashes"] += 1
        self.recover(at)

    @rule(at=st.integers(0, INSTANCES - 1))
    def lose_connection(self, at: int) -> None:
        """Nobody recovers meanwhile: then it goes on as if nothing had been."""
        self.queues[at]._connection.drop()
        self.queues[at]._connection._next = 0.0
        self.queues[at].connect()
        counts["connections"] += 1

    def recover(self, at: int) -> None:
        self.queues[(at + 1) % INSTANCES].recover()
        self.given_back(at)

    def given_back(self, at: int) -> None:
        for message in self.messages.values():
            if message.holder == at:
                message.part, message.holder = "incoming", None
        self.held[at].clear()

    # -- the books -------------------------------------------------------------------------------------------

    @invariant()
    def rows_are_as_they_should_be(self) -> None:
        if not hasattr(self, "messages"):
            return
        rows = self.watcher.rows(
            "SELECT q.name, m.part::text, m.id, b.contents, m.holder IS NOT NULL, m.size = length(b.contents)"
            " FROM piper.message AS m JOIN piper.queue AS q ON q.number = m.queue"
            " JOIN piper.body AS b ON b.number = m.body WHERE q.name = ANY(%s)",
            ([*self.names.values()],),
        )
        short = {name: each for each, name in self.names.items()}
        copies: Counter[bytes] = Counter()
        found = {}
        for name, part, id, contents, has_holder, right_size in rows:
            assert right_size
            assert has_holder == (part == "pending")
            place = (short[name], part, bytes(contents))
            if short[name] == "other" and (id not in self.messages or self.messages[id].queue != "other"):
                copies[bytes(contents)] += 1  # by its own id, or another one
            elif id in self.messages:
                found[id] = place
            else:
                copies[bytes(contents)] += 1
        parts = {"due": "deferred"}
        wanted = {id: (each.queue, parts.get(each.part, each.part), each.data) for id, each in self.messages.items()}
        # A copy of before may have its id there, with older contents: the contents of `other` are counted below.
        dispatched = {id for id, each in wanted.items() if each[0] == "other"}
        dispatched_under_another_id = {id for id in dispatched if found.get(id) != wanted[id]}
        assert {id: place for id, place in wanted.items() if id not in dispatched_under_another_id} == {
            id: place for id, place in found.items() if place[0] != "other" or place == wanted[id]
        }
        total = self.copies + Counter(each.data for each in self.messages.values() if each.queue == "other")
        there = Counter(bytes(row[3]) for row in rows if short[row[0]] == "other")
        assert there == total


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with postgresql.Server() as server:
        yield Database(server)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_queue_in_a_database_behaves_like_its_model_whatever_is_done_and_whoever_dies(database: Database) -> None:
    DatabaseMachine.database = database
    examples = int(os.environ.get("PIPER_EXAMPLES", "60"))
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        DatabaseMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
    done = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
    summary.add(f"database, model: {done}; every message in one place")
