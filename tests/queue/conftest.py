"""Each engine, with queues of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import postgresql
from kinds import Database, Directory, Engine
from piperkit.queue import Queue


@pytest.fixture(scope="session")
def server() -> Iterator[postgresql.Server]:
    with postgresql.Server() as server:
        yield server


@pytest.fixture
def database(server: postgresql.Server) -> Iterator[Database]:
    database = Database(server)
    yield database
    database.drop()


@pytest.fixture(scope="session")
def shared(server: postgresql.Server) -> Database:
    return Database(server)


@pytest.fixture(params=["directory", "database"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine: Engine
    if request.param == "directory":
        engine = Directory(tmp_path)
    else:
        engine = Database(request.getfixturevalue("server"), request.getfixturevalue("shared"))
    opened: list[Queue] = []
    open_one = engine.open

    def open_and_close(*arguments: Any, **settings: Any) -> Queue:
        opened.append(open_one(*arguments, **settings))
        return opened[-1]

    engine.open = open_and_close  # type: ignore[method-assign]
    yield engine
    for queue in opened:
        queue.close()
