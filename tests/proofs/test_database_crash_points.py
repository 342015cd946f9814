"""Crash walk of the database engine: each operation is killed before each exchange with the server, so that the server
has done all before that and nothing after it; and after the last. Then every message is in one place, whole.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import database_child
import postgresql
import summary
from database_child import FIRST, NEW, OLD, SECOND
from kinds import Database, create
from piperkit import crashwalk, engines
from piperkit.dirq import DirectoryQueue
from piperkit.operating import HOLDING
from piperkit.postgres.address import Address
from piperkit.postgres.connection import Connection
from piperkit.postgres.database_queue import DatabaseQueue

Places = dict[str, str]  #: by message: queue, part and contents


def there(queue: str, part: str, contents: str = "old") -> str:
    return f"{queue}/{part} {contents}"


#: What each operation may leave, besides the beginning: where the first message, the second and others are.
OPERATIONS: dict[str, list[Places]] = {
    "enqueue": [{"new": there("in", "incoming", "new")}],
    "claim": [],
    "recover": [],
    "close": [],
    "update": [{FIRST: there("in", "incoming", "new")}],
    "commit": [{FIRST: there("next", "incoming")}],
    "commit changed": [{FIRST: there("next", "incoming", "new")}],
    "cancel": [{FIRST: ""}],
    "banish": [{FIRST: there("in", "errors")}],
    "retry": [{FIRST: there("in", "deferred")}],
    "dispatch": [{FIRST: there("other", "incoming")}],
    "batch": [{FIRST: f"{there('next', 'incoming', 'new')}, {there('other', 'incoming')}"}],
    "act: hold": [{SECOND: there("in", "hold")}],
    "act: banish": [{SECOND: there("in", "errors")}],
    "act: remove": [{SECOND: ""}],
    "act: move": [{SECOND: there("other", "incoming")}],
}
#: To another engine, a kill in the middle leaves it in both places, and what is left to do is done by the next attempt.
ELSEWHERE: dict[str, list[Places]] = {
    "dispatch": [
        {FIRST: there("directory", "incoming")},
        {FIRST: f"{there('in', 'incoming')}, {there('directory', 'incoming')}"},
    ],
    "act: move": [
        {SECOND: there("directory", "incoming")},
        {SECOND: there("in", "hold")},
        {SECOND: f"{there('in', 'hold')}, {there('directory', 'incoming')}"},
    ],
}


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    with postgresql.Server() as server:
        yield server


@pytest.fixture(scope="module")
def visited() -> Iterator[Counter[str]]:
    counts: Counter[str] = Counter()
    yield counts
    if counts:
        summary.add(
            f"database: {counts['kills']} kills in {counts['operations']} operations: 0 lost, 0 doubled, 0 torn"
        )


class Walk:
    """One operation, as often as it takes, each time from the same beginning."""

    def __init__(self, program: crashwalk.Program, database: Database, operation: str, directory: Path | None) -> None:
        self._program = program
        self._database = database
        self._operation = operation
        self._directory = directory
        for name in ("in", "next", "other"):
            create(database.address(name))
        other = database.address("other") if directory is None else str(directory)
        self._run = [database.address("in"), operation, other]
        self._admin = Connection(Address.parse(database.address("in")))
        self.begin()

    def begin(self) -> None:
        """Two messages in `in`, and nothing anywhere else."""
        self._admin.run("TRUNCATE piper.message, piper.body, piper.instance, piper.receipt, piper.history")
        if self._directory is not None:
            DirectoryQueue(self._directory).close()
            for path in (self._directory / "incoming").iterdir():
                path.unlink()
        with DatabaseQueue(self._database.address("in")) as queue:
            queue.enqueue(OLD, FIRST)
            queue.enqueue(OLD, SECOND)

    def exchanges(self) -> int:
        """How many there are with the server, if nobody kills it."""
        run = self._program.run(self._run)
        assert run.status == 0, run.errors
        return int(run.output)

    def kill(self, number: int, allowed: list[Places]) -> None:
        """The run is killed before that exchange, and all is recovered; then the books."""
        self.begin()
        run = self._program.run([*self._run, str(number)])
        assert run.killed, run.errors
        self.recover()
        start = {FIRST: there("in", "incoming"), SECOND: there("in", "incoming")}
        found = self.places()
        wanted = [start, *({**start, **more} for more in allowed)]
        wanted = [{id: where for id, where in each.items() if where} for each in wanted]
        assert found in wanted, f"killed before exchange {number}: {found}"

    def recover(self) -> None:
        with DatabaseQueue(self._database.address("in")) as queue:
            for _ in range(200):  # the server notices in a moment that the process has died
                queue.recover()
                if not queue.counts()["pending"]:
                    break
            else:
                pytest.fail("the claims of the dead are not given back")
        if self._directory is not None:
            with DirectoryQueue(self._directory) as queue:
                queue.recover()

    def places(self) -> Places:
        """Where each message is."""
        found: dict[str, list[str]] = {}
        for name in ("in", "next", "other", *(["directory"] if self._directory else [])):
            view = engines.view(str(self._directory) if name == "directory" else self._database.address(name))
            for part in HOLDING:
                for entry in view.each(part):
                    contents = {OLD: "old", NEW: "new"}.get(view.read(entry), "torn")
                    found.setdefault(entry.id, []).append(there(name, part, contents))
            if name != "directory":
                view.close()  # type: ignore[attr-defined]
        return {
            id: ", ".join(sorted(where, key=lambda each: (each.startswith("directory"), each)))
            for id, where in found.items()
        }


@pytest.fixture(scope="module")
def program() -> Iterator[crashwalk.Program]:
    child = str(Path(database_child.__file__))
    with crashwalk.Program(
        [sys.executable, child], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ) as found:
        yield found


@pytest.fixture
def walk(server: postgresql.Server, program: crashwalk.Program) -> Iterator[Callable[..., Walk]]:
    database = Database(server)
    yield lambda operation, directory=None: Walk(program, database, operation, directory)
    database.drop()


def visit(walk: Walk, allowed: list[Places], visited: Counter[str]) -> None:
    exchanges = walk.exchanges()
    assert exchanges, "nothing was asked of the server"
    for number in range(exchanges + 1):
        walk.kill(number, allowed)
    visited["operations"] += 1
    visited["kills"] += exchanges + 1


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_in_a_database_is_undone_or_finished_wherever_it_is_cut_off(
    operation: str, walk: Callable[..., Walk], visited: Counter[str]
) -> None:
    visit(walk(operation), OPERATIONS[operation], visited)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ELSEWHERE)
def test_move_to_another_engine_that_is_cut_off_loses_nothing(
    operation: str, walk: Callable[..., Walk], visited: Counter[str], tmp_path: Path
) -> None:
    os.umask(0o022)
    visit(walk(operation, tmp_path / "directory"), ELSEWHERE[operation], visited)
