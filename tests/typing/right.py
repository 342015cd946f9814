"""What users write, and the types that it has; checked by mypy and pyright, and never run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, assert_type

from piperkit import (
    BatchComponent,
    Component,
    ConfigError,
    Contents,
    DirectoryQueue,
    Failure,
    Format,
    Message,
    Option,
    Outcome,
    PiperDaemon,
    PiperError,
    QueueError,
    Reject,
    Retry,
    Source,
    Unavailable,
)
from piperkit.testing import Piper


class Enrich(Component):
    """Every way to declare an option."""

    look_up = Option(str, "host", help="a text")
    unset = Option(str, None, help="none by default")
    limit = Option(int, 10, help="a number", unit="lines", minimum=1, maximum=100)
    wait = Option(float, 1, help="a time", unit="seconds", key="enrich_wait", fixed=True)
    verbose = Option(bool, False, help="a switch")
    level = Option(str, "low", help="one of two", choices=("low", "high"))
    file = Option(str, "{var}/file", help="a path", kind="path")
    owner = Option(str, None, help="an account", kind="account")
    mode = Option(int, 0o640, help="a mode", kind="mode")
    password = Option(str, None, help="not shown", secret=True)
    hosts = Option(list[str], [], help="a list of texts")
    facts = Option(dict[str, dict[str, Any]], {}, help="an object of objects")
    options = (
        Option("older", str, "x", "read with daemon.c", choices=("x", "y")),
        Option("size", "mode", 0o640, "mode"),
    )

    def setup(self, daemon: PiperDaemon) -> None:
        assert_type(self.look_up, str)
        assert_type(self.unset, str | None)
        assert_type(self.limit, int)
        assert_type(self.wait, float)
        assert_type(self.verbose, bool)
        assert_type(self.level, str)
        assert_type(self.file, str)
        assert_type(self.owner, str | None)
        assert_type(self.mode, int)
        assert_type(self.password, str | None)
        assert_type(self.hosts, list[str])
        assert_type(self.facts, dict[str, dict[str, Any]])
        assert_type(Enrich.limit, Option[int])
        assert_type(Enrich.limit.key, str)

    def reload(self, daemon: PiperDaemon) -> None:
        self.progress()

    def process(self, message: Message) -> Outcome | None:
        assert_type(message.id, str)
        assert_type(message.data, bytes)
        assert_type(message.text, str)
        assert_type(message.json, Any)
        assert_type(message.json_object, dict[str, Any])
        assert_type(message.attempt, int)
        assert_type(message.arrived, float)
        assert_type(message.replace(data=b"x"), Message)
        assert_type(message == Message("id", b"data", attempt=2, arrived=0.5), bool)
        assert_type(message.commit(), Outcome)
        assert_type(message.commit({"a": [1, None]}), Outcome)
        assert_type(message.dispatch("queue", "text").duplicate("another"), Outcome)
        if message.attempt > 2:
            raise Reject("no")
        if message.attempt > 1:
            raise Retry("later", delay=2.5)
        if not message.text:
            raise Unavailable("the database is locked", 5)
        return message.cancel() if message.json else None


class Inherits(Enrich):
    def process(self, message: Message) -> Outcome:
        assert_type(self.look_up, str)
        return message.commit(self.look_up)


class Store(BatchComponent):
    def process_batch(self, messages: Sequence[Message]) -> Sequence[Outcome] | None:
        return [message.commit(message.data) for message in messages]


class Bulk(BatchComponent):
    def process_batch(self, messages: Sequence[Message]) -> None:
        """Commits them all."""


class Lines(Source):
    def fetch(self) -> Iterable[Contents]:
        return ["text", b"bytes", {"an": "object"}, [1, 2]]


def build(argv: list[str] | None = None) -> PiperDaemon:
    own: tuple[Option, ...] = (Option("greeting", str, "Hello", "an application's own"),)
    return PiperDaemon(
        name="example",
        description="An example",
        argv=argv,
        anchor=__file__,
        components=[Lines(), Inherits(), Store()],
        options=own,
        default_message_format=Format.JSON.value,
        default_limit=5,
    )


def use(piper: Piper) -> None:
    assert_type(build().run_until_idle(), int)
    assert_type(piper.run(build, "--limit=1"), int)
    assert_type(piper.out, list[bytes])
    queue = DirectoryQueue("queue")
    try:
        assert_type(queue.enqueue({"a": 1}), str)
        assert_type(queue.counts(), dict[str, int])
    except (ConfigError, QueueError, PiperError) as error:
        assert_type(Failure.of(error).reason, str)
