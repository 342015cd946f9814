"""Whose trouble it is: what is raised or returned wrongly while a message is handled is that message's failure; what it
names is put off; what the component works with, and the disk, have the daemon wait. See docs/what-happens-when.md.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from piperkit import BatchComponent, Component, Message, Outcome, PiperDaemon, Unavailable
from piperkit.dirq import DirectoryQueue
from piperkit.testing import Piper
from piperkit.zenkit import ZenDaemonComponent


class Wordless(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def raising(error: BaseException) -> Callable[[Message], Any]:
    def process(message: Message) -> Any:
        raise error

    return process


WRONG: dict[str, Callable[[Message], Any]] = {
    "an exception": raising(ValueError("no")),
    "one whose text raises": raising(Wordless()),
    "one that is not an Exception": raising(asyncio.CancelledError()),
    "an interrupt": raising(KeyboardInterrupt()),
    "an exit": raising(SystemExit(3)),
    "a generator's end": raising(GeneratorExit()),
    "a text for an outcome": lambda message: "commit",
    "a number for an outcome": lambda message: 7,
    "None for a target": lambda message: message.dispatch(None),  # type: ignore[arg-type]
    "a number for a target": lambda message: message.dispatch(7),  # type: ignore[arg-type]
    "an empty target": lambda message: message.dispatch(""),
    "a NUL in a target": lambda message: message.dispatch("a\0b"),
    "None for a copy": lambda message: message.commit().duplicate(None),  # type: ignore[arg-type]
    "contents that are none": lambda message: message.commit({1, 2}),  # type: ignore[arg-type]
    "contents that are no JSON": lambda message: message.commit({"a": float("nan")}),
    "contents that are no UTF-8": lambda message: message.commit("\udcff"),
}


class Applies(Component):
    """Does something to messages that begin with "bad", and passes the others on."""

    def __init__(self, what: Callable[[Message], Any]) -> None:
        super().__init__()
        self.what = what

    def process(self, message: Message) -> Outcome | None:
        result: Outcome | None = self.what(message) if message.text.startswith("bad") else message.commit()
        return result


def daemon(*components: ZenDaemonComponent) -> Callable[[list[str]], PiperDaemon]:
    return lambda argv: PiperDaemon(name="owners", argv=argv, components=components)


@pytest.mark.parametrize("what", WRONG.values(), ids=WRONG.keys())
def test_what_goes_wrong_in_processing_is_that_messages_failure(piper: Piper, what: Callable[[Message], Any]) -> None:
    piper.put("first", "bad", "last")
    assert piper.run(daemon(Applies(what)), "--retry-limit=1") == 0
    assert piper.out == [b"first", b"last"]
    assert [contents for contents, _ in piper.errors] == [b"bad"]


EVENTS: dict[str, tuple[str, Any]] = {
    "contents that are none": ("message_update", {"data": {1, 2}}),
    "no contents": ("message_update", {}),
    "a text for a delay": ("message_retry", {"delay": "5"}),
    "None for a delay": ("message_retry", {"delay": None}),
    "no number for a delay": ("message_retry", {"delay": float("nan")}),
    "a number for contents": ("message_commit", {"content": 3.5}),
    "no target": ("message_dispatch", {}),
    "None for a target": ("message_dispatch", {"queue_tgt": None}),
    "a NUL in a target": ("message_duplicate", {"queue_tgt": "a\0b"}),
}


@pytest.mark.parametrize(("event", "more"), EVENTS.values(), ids=EVENTS.keys())
def test_event_with_wrong_arguments_is_that_messages_failure(piper: Piper, event: str, more: Any) -> None:
    """And what was scheduled behind it for the same message is not done."""

    class Emits(ZenDaemonComponent):
        def get_events(self) -> list[dict[str, Any]]:
            return [self.gen_event_handler("message_process", self.handle)]

        def handle(self, daemon: PiperDaemon, args: Any) -> Any:
            if args["data"] == "bad":
                daemon.queue.schedule(event, {"id": args["id"], **more})
            daemon.queue.schedule("message_commit", args["id"])
            return daemon.FLAG_CONTINUE, args

    piper.put("bad", "good")
    assert piper.run(daemon(Emits()), "--retry-limit=1") == 0
    assert piper.out == [b"good"]
    assert [contents for contents, _ in piper.errors] == [b"bad"]
    assert "is not claimed" not in piper.log


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
@pytest.mark.parametrize("full", [False, True], ids=["missing", "full"])
def test_target_that_is_missing_or_full_puts_off_that_message_only(piper: Piper, full: bool, copied: bool) -> None:
    target = str(piper.directory / "target")
    if full:
        with DirectoryQueue(target) as queue:
            queue.enqueue_many(["x", "y", "z"])

    def send(message: Message) -> Outcome:
        return message.commit().duplicate(target) if copied else message.dispatch(target, "changed")

    piper.put("bad 1", "good", "bad 2")
    assert piper.run(daemon(Applies(send)), "--queue-out-limit=3", "--retry-limit=1") == 0
    assert piper.out == [b"good"]
    assert sorted(piper.contents("in", "deferred")) == [b"bad 1", b"bad 2"]
    assert piper.errors == []
    assert ("is full" if full else "is not a queue") in piper.log
    assert "processing pauses" not in piper.log


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_message_that_would_go_back_to_its_own_queue_is_banished(piper: Piper, copied: bool) -> None:
    """Also by a link: it would come again for ever."""
    link = piper.directory / "link"
    link.symlink_to("in")

    def send(message: Message) -> Outcome:
        target = str(link) if message.text.endswith("2") else str(piper.directory / "in")
        return message.commit().duplicate(target) if copied else message.dispatch(target)

    piper.put("bad 1", "good", "bad 2")
    assert piper.run(daemon(Applies(send))) == 0
    assert piper.out == [b"good"]
    assert [contents for contents, _ in piper.errors] == [b"bad 1", b"bad 2"]
    assert all("the queue that it comes from" in str(reason) for _, reason in piper.errors)


class Backend(Component):
    """Works with something that is away at first."""

    def __init__(self, away: int) -> None:
        super().__init__()
        self.away = away
        self.attempts: list[int] = []

    def process(self, message: Message) -> Outcome:
        self.attempts.append(message.attempt)
        if self.away:
            self.away -= 1
            raise Unavailable("the database is locked", delay=0.01)
        return message.commit()


def run_until_out(piper: Piper, component: ZenDaemonComponent, count: int, *options: str) -> None:
    """Run until so many messages are in the output queue, however often processing pauses."""

    class Stops(ZenDaemonComponent):
        def get_events(self) -> list[dict[str, Any]]:
            return [self.gen_event_handler("look", self.look)]

        def setup(self, daemon: PiperDaemon) -> None:
            self.look(daemon, None)

        def look(self, daemon: PiperDaemon, args: Any) -> Any:
            if len(piper.out) == count:
                daemon.queue.schedule("stop")
            else:
                daemon.queue.schedule_after(0.01, "look")
            return daemon.FLAG_CONTINUE, args

    made = PiperDaemon(name="owners", argv=piper.options(*options), components=[component, Stops()])
    made.filer.idle = lambda: False  # type: ignore[method-assign]
    assert made.run_until_idle() == 0


def test_backend_that_is_away_gives_everything_back_and_is_said_once(piper: Piper) -> None:
    piper.put("a", "b", "c")
    component = Backend(away=4)
    run_until_out(piper, component, 3, "--retry-limit=1")
    assert piper.out == [b"a", b"b", b"c"]
    assert piper.errors == []
    assert component.attempts == [1] * 7
    assert piper.log.count("waiting for: the database is locked") == 1
    assert piper.log.count("processing goes on") == 1


def test_backend_that_is_away_gives_a_batch_back(piper: Piper) -> None:
    class Batch(BatchComponent):
        away = 2

        def process_batch(self, messages: Sequence[Message]) -> None:
            if self.away:
                self.away -= 1
                raise Unavailable("no connection", delay=0.01)

    piper.put("a", "b", "c")
    run_until_out(piper, Batch(), 3, "--retry-limit=1", "--batch-wait=0.01")
    assert sorted(piper.out) == [b"a", b"b", b"c"]
    assert piper.log.count("waiting for: no connection") == 1


def test_outcome_that_is_none_of_one_message_of_a_batch_is_its_failure(piper: Piper) -> None:
    work: list[str] = []

    class Batch(BatchComponent):
        def process_batch(self, messages: Sequence[Message]) -> Any:
            work.extend(message.text for message in messages)
            return [None if message.text == "bad" else message.commit() for message in messages]

    piper.put("a", "bad", "b")
    assert piper.run(daemon(Batch()), "--retry-limit=1") == 0
    assert piper.out == [b"a", b"b"]
    assert [contents for contents, _ in piper.errors] == [b"bad"]
    assert sorted(work) == ["a", "b", "bad"]  # no work is done twice


def test_circle_of_full_queues_is_recognised(piper: Piper) -> None:
    """The daemon of the other queue waits for room in ours."""
    piper.put("a", "b")
    piper.queue_out.enqueue_many(["c", "d"])
    with DirectoryQueue(piper.directory / "out", next_queue=piper.directory / "in") as other:
        assert other.waits_for_room(True) == ()
        piper.run(daemon(Applies(lambda message: None)), "--queue-out-limit=2")
    directory = piper.directory
    assert f"{directory}/in -> {directory}/out -> {directory}/in all wait for one another" in piper.log
    assert os.listdir(directory / "in" / "tmp") == []  # it has told the others that it waits no longer


def test_log_directory_that_is_removed_costs_nothing_but_lines(piper: Piper, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()

    class Removes(Component):
        def process(self, message: Message) -> Outcome:
            assert self._piper is not None
            if message.text == "remove":
                shutil.rmtree(logs)
                os.symlink("nowhere/at/all", logs)  # nor can it be made again
            if message.text == "back":
                logs.unlink()
            self._piper.logger.warning("it is %d", "text")  # a line that cannot be put together
            return message.commit()

    piper.put("remove", "meanwhile", "back", "after")
    assert piper.run(daemon(Removes()), f"--log-file={logs}/it.log") == 0
    assert len(piper.out) == 4
    assert "cannot be logged" in (logs / "it.log").read_text()
