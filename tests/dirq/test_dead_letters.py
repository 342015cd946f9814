"""Banished messages: any name can be one, each is counted once and has its own reason beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dirq_tools import FAILURE, Clock, MakeQueue, claim_one, files
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.deadletters import hidden_sidecar
from piperkit.dirq.view import QueueView
from piperkit.message import Failure, Reject


def banish(queue: DirectoryQueue, name: str, contents: str | None = None) -> None:
    """Banish a message of that name and contents, for a reason of its own."""
    contents = contents or f"contents of {name}"
    queue.enqueue(contents, name)
    assert claim_one(queue) == name
    queue.banish(name, Failure(f"no good: {contents}"))


def reasons(queue: DirectoryQueue) -> dict[str, str]:
    """By the contents of each dead letter, the reason that is stored for it."""
    view = QueueView(queue.path)
    found = {}
    for entry in view.entries("errors"):
        report = view.report(entry)
        assert report is not None
        assert entry.reason == report["reason"]
        found[os.fsdecode(view.read(entry))] = report["reason"]
    return found


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "x" * 250,  # NAME.meta just fits
        "x" * 251,  # and here it does not
        "x" * 255,
        "caf\udce9",  # Latin-1
        "\udcff" * 255,
        "NAME.meta",
        ("x" * 255)[:250] + ".meta",
        "a.meta.meta",
        "new\nline",
    ],
    ids=lambda name: ascii(name[:12]) + str(len(os.fsencode(name))),
)
def test_message_of_any_name_is_banished_with_its_reason(queue: DirectoryQueue, name: str) -> None:
    banish(queue, name, "contents")
    assert queue.counts()["errors"] == 1
    assert files(queue, "errors")[name] == b"contents"
    assert reasons(queue) == {"contents": "no good: contents"}
    assert files(queue, "tmp") == {}


def test_reason_is_beside_the_message_where_the_protocol_has_it(make_queue: MakeQueue) -> None:
    queue = make_queue(daemon="mydaemon", host="mail")
    queue.enqueue("x", "name")
    queue.read(claim_one(queue))
    queue.banish("name", Failure.of(Reject("blank message")))
    stored = json.loads(Path(queue.path, "errors", "name.meta").read_text())
    assert {key: stored[key] for key in ("id", "name", "reason", "exception", "host", "pid", "daemon", "attempts")} == {
        "id": "name",
        "name": "name",
        "reason": "blank message",
        "exception": "Reject",
        "host": "mail",
        "pid": os.getpid(),
        "daemon": "mydaemon",
        "attempts": 1,
    }
    assert sorted(os.listdir(Path(queue.path, "errors"))) == ["name", "name.meta"]


@pytest.mark.parametrize(
    "order", [("x", "x.meta"), ("x.meta", "x"), ("x", "x.meta", "x.meta.meta"), ("x.meta.meta", "x", "x.meta")]
)
def test_message_that_is_called_like_a_reason_is_a_message(queue: DirectoryQueue, order: tuple[str, ...]) -> None:
    for name in order:
        banish(queue, name)
    assert queue.counts()["errors"] == len(order)
    assert reasons(queue) == {f"contents of {name}": f"no good: contents of {name}" for name in order}


def test_reasons_are_not_counted_as_messages(queue: DirectoryQueue) -> None:
    for i in range(5):
        banish(queue, f"{i}")
    assert len(os.listdir(Path(queue.path, "errors"))) == 10
    assert queue.counts()["errors"] == QueueView(queue.path).counts()["errors"] == 5


def test_dead_letter_of_a_foreign_program_has_no_reason_and_is_counted(queue: DirectoryQueue) -> None:
    Path(queue.path, "errors", "alone").write_text("a")
    Path(queue.path, "errors", "lonely.meta").write_text("b")
    view = QueueView(queue.path)
    assert queue.counts()["errors"] == 2
    assert [(entry.id, entry.reason, view.report(entry)) for entry in view.entries("errors")] == [
        ("alone", None, None),
        ("lonely.meta", None, None),
    ]


@pytest.mark.parametrize("junk", ["", "{", "[]", "null", '{"reason": null}', '{"attempts": "many", "reason": 7}'])
def test_reason_that_cannot_be_read_hides_no_message(queue: DirectoryQueue, junk: str) -> None:
    banish(queue, "name")
    Path(queue.path, "errors", "name.meta").write_text(junk)
    (entry,) = QueueView(queue.path).entries("errors")
    assert entry.id == "name"
    assert entry.reason is None or isinstance(entry.reason, str)


def test_banishment_that_was_cut_off_before_the_move_leaves_no_trace(make_queue: MakeQueue, clock: Clock) -> None:
    queue = make_queue(orphan_age=60)
    sidecar = Path(queue.path, "errors", hidden_sidecar("name"))
    sidecar.write_text('{"id": "name"}')
    assert queue.recover().litter == 0
    assert sidecar.exists()  # it may be about to move
    clock.forward(120)
    assert queue.recover().litter == 1
    assert not sidecar.exists()


def test_banishment_that_was_cut_off_after_the_move_is_finished(queue: DirectoryQueue) -> None:
    banish(queue, "name")
    errors = Path(queue.path, "errors")
    (errors / "name.meta").rename(errors / hidden_sidecar("name"))
    assert reasons(queue) == {"contents of name": "no good: contents of name"}
    queue.recover()
    assert sorted(os.listdir(errors)) == ["name", "name.meta"]


def test_message_banished_again_after_a_cut_off_has_the_last_reason(queue: DirectoryQueue) -> None:
    Path(queue.path, "errors", hidden_sidecar("name")).write_text('{"id": "name", "reason": "an earlier one"}')
    banish(queue, "name")
    assert reasons(queue) == {"contents of name": "no good: contents of name"}


def test_old_dead_letters_go_with_their_reasons_and_the_young_stay(make_queue: MakeQueue, clock: Clock) -> None:
    queue = make_queue()
    for name in ("x", "y.meta", "z" * 255):
        banish(queue, name)
    assert queue.expire_errors(60) == 0
    clock.forward(120)
    assert queue.expire_errors(60) == 3
    assert os.listdir(Path(queue.path, "errors")) == []


def test_failed_attempts_are_told_with_the_reason(queue: DirectoryQueue) -> None:
    queue.enqueue("a", "name")
    queue.retry(claim_one(queue), 0, Failure("the first time"))
    queue.retry(claim_one(queue), 0, Failure("the second time"))
    queue.read(claim_one(queue))
    queue.banish("name", FAILURE)
    view = QueueView(queue.path)
    (entry,) = view.entries("errors")
    assert [attempt["reason"] for attempt in view.history(entry)] == ["the first time", "the second time"]
    assert entry.attempts == 3
