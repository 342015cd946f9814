"""`piperctl queue requeue`, `rm` and `errors`, and the selection that they share with `ls`: as processes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from piperkit import Failure
from piperkit.cli.reasons import kind
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]

MESSAGES = {
    "a": (b'{"host": "db1", "Source": [{"IP4": ["192.0.2.7"]}]}', "db1:5432: the host is down"),
    "b": (b'{"host": "db2", "n": 7}', "db2:5432: the host is down"),
    "c": (b"no JSON", "not valid JSON: line 1"),
    "d": (b'{"host": "web", "n": null}', "no rule for 'web'"),
}


@pytest.fixture
def letters(queue: DirectoryQueue) -> DirectoryQueue:
    """A queue with four dead letters."""
    for id, (contents, _) in MESSAGES.items():
        queue.enqueue(contents, id)
    for claim in queue.claim(len(MESSAGES)):
        queue.banish(claim.id, Failure(MESSAGES[claim.id][1]))
    return queue


def ids(queue: DirectoryQueue, part: str) -> str:
    return "".join(entry.id for entry in QueueView(queue.path).entries(part))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "meant"),
    [
        (["--reason", "host is down"], "ab"),
        (["--reason", "^db1"], "a"),
        (["--older", "1h"], ""),
        (["--newer", "1h"], "abcd"),
        (["--older", "0s", "--newer", "1d"], "abcd"),
        (["--attempts", "1"], ""),
        (["--where", "host=db1"], "a"),
        (["--where", "host=~^db"], "ab"),
        (["--where", "Source.0.IP4.0=192.0.2.7"], "a"),
        (["--where", 'Source.0={"IP4": ["192.0.2.7"]}'], "a"),
        (["--where", "n=7"], "b"),
        (["--where", "n=null"], "d"),
        (["--where", "n=~."], "bd"),
        (["--where", "Source.1.IP4=~."], ""),
        (["--where", "host=~db", "--reason", "db2"], "b"),
        (["--where", "nothing=x"], ""),
        (["--limit", "2"], "ab"),
    ],
)
def test_the_same_messages_are_meant_whatever_is_done_with_them(
    run: Run, letters: DirectoryQueue, options: list[str], meant: str
) -> None:
    listed = run("queue", "ls", letters.path, "errors", "--ids", *options)
    assert listed.stdout.decode().split() == list(meant)
    shown = run("queue", "requeue", letters.path, "--dry-run", "--json", *options)
    found = [json.loads(line)["id"] for line in shown.stdout.splitlines()]
    assert len(found) == len(meant)
    assert ids(letters, "errors") == "abcd"
    if "--limit" not in options:
        assert sorted(found) == list(meant)
        done = run("queue", "requeue", letters.path, *options)
        assert done.returncode == 0, done.stderr
        assert ids(letters, "incoming") == meant
        assert done.stdout.decode() == f"{len(meant)} message{'s' * (len(meant) != 1)} requeued\n"


@pytest.mark.slow
def test_ids_come_through_a_pipe(run: Run, letters: DirectoryQueue) -> None:
    listed = run("queue", "ls", letters.path, "errors", "--reason", "down", "--ids")
    done = run("queue", "rm", letters.path, "-", input=listed.stdout)
    assert (done.returncode, done.stdout) == (0, b"2 messages deleted\n")
    assert ids(letters, "errors") == "cd"
    done = run("queue", "rm", letters.path, "-", input=b"")
    assert (done.returncode, ids(letters, "errors")) == (64, "cd")


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "a\nother", "\x1b[2J"])
@pytest.mark.slow
def test_id_that_cannot_be_typed_is_known_as_it_is_listed(run: Run, queue: DirectoryQueue, name: str) -> None:
    """And no name that a producer chose gives another message away."""
    for each in (name, "other"):
        queue.enqueue("hello", each)
        queue.banish(queue.claim()[0].id, Failure(f"no good: {each == name}"))
    listed = run("queue", "ls", queue.path, "--reason", "True", "--ids").stdout
    assert listed.count(b"\n") == 1
    assert run("queue", "requeue", queue.path, "-", input=listed).returncode == 0
    assert (ids(queue, "incoming"), ids(queue, "errors")) == (name, "other")


@pytest.mark.parametrize("command", ["requeue", "rm"])
@pytest.mark.slow
def test_everything_is_meant_only_if_that_is_said(run: Run, letters: DirectoryQueue, command: str) -> None:
    done = run("queue", command, letters.path)
    assert done.returncode == 64
    assert done.stderr.startswith(b"piperctl: say which messages to " + command.encode())
    assert ids(letters, "errors") == "abcd"
    assert run("queue", command, letters.path, "--all").returncode == 0
    assert ids(letters, "errors") == ""


@pytest.mark.slow
def test_status_says_whether_all_some_or_none_could_be_acted_on(run: Run, letters: DirectoryQueue) -> None:
    some = run("queue", "requeue", letters.path, "a", "x", "--json")
    assert some.returncode == 3
    assert json.loads(some.stdout) == {
        "queue": letters.path, "act": "requeue", "done": 1, "skipped": 0, "failed": 1,
    }  # fmt: skip
    assert b"1 id named no message in errors, deferred that meets all criteria" in some.stderr
    assert run("queue", "rm", letters.path, "x").returncode == 1
    assert run("queue", "rm", letters.path, "b", "c").returncode == 0
    assert (ids(letters, "errors"), ids(letters, "incoming")) == ("d", "a")


@pytest.mark.slow
def test_messages_are_moved_to_another_queue(run: Run, letters: DirectoryQueue, tmp_path: Path) -> None:
    other = DirectoryQueue(tmp_path / "other")
    done = run("queue", "mv", letters.path, "other", "--where", "host=~^db")
    assert (done.returncode, done.stdout) == (0, b"2 messages moved\n"), done.stderr
    assert (ids(letters, "errors"), ids(other, "incoming")) == ("cd", "ab")
    for target, status, said in ((letters.path, 64, "is the queue itself"), ("none", 73, "there is no such directory")):
        done = run("queue", "mv", letters.path, target, "--all")
        assert (done.returncode, ids(letters, "errors")) == (status, "cd")
        assert said in done.stderr.decode()


def test_what_is_in_work_is_not_acted_on(run: Run, queue: DirectoryQueue) -> None:
    queue.enqueue("hello", "a")
    queue.claim()
    done = run("queue", "rm", queue.path, "a", "--part", "pending")
    assert (done.returncode, ids(queue, "pending")) == (64, "a")
    assert b"--part pending: must be one of incoming, deferred, hold, errors" in done.stderr
    done = run("queue", "requeue", queue.path, "--part", "incoming", "--all")
    assert done.returncode == 64
    assert b"--part incoming: must be one of errors, deferred" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--older", "soon"], "--older soon: must be a length of time such as 90s, 5min"),
        (["--reason", "["], "--reason [: is not a regular expression"),
        (["--where", "host"], "--where host: must be such as Source.0.IP4=192.0.2.7"),
        (["--where", "host=~("], "--where (: is not a regular expression"),
    ],
)
def test_wrong_criterion_is_pointed_at(run: Run, letters: DirectoryQueue, option: list[str], said: str) -> None:
    for command in (["ls"], ["rm"], ["requeue"]):
        done = run("queue", *command, letters.path, *option)
        assert done.returncode == 64
        assert said in done.stderr.decode()


@pytest.mark.slow
def test_reasons_that_differ_in_what_is_one_messages_own_are_one_kind(run: Run, letters: DirectoryQueue) -> None:
    done = run("queue", "errors", letters.path, "--json")
    found = {each["reason"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert {reason: each["messages"] for reason, each in found.items()} == {
        "dbN: the host is down": 2, "not valid JSON: line N": 1, "no rule for '…'": 1,
    }  # fmt: skip
    assert next(iter(found)) == "dbN: the host is down"
    assert found["not valid JSON: line N"]["example"] == "c"
    lines = run("queue", "errors", letters.path, "--limit", "1").stdout.decode().splitlines()
    assert "the host is down" in lines[1]
    assert lines[2] == "... and 2 messages of other kinds; --limit shows more of them"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no row 7 of 12", "no row 1234 of 1"),
        ("timeout after 2.5 s at 10:02:33", "timeout after 30 s at 11:00:00"),
        ("unknown 'x y'", "unknown 'z'"),
        ("key 5f3a9c0d1e not found", "key 00ffaa1234bc not found"),
        ("id 123e4567-e89b-12d3-a456-426614174000", "id 00000000-e89b-12d3-a456-4266141740ff"),
    ],
)
def test_kind_of_a_reason(one: str, other: str) -> None:
    assert kind(one) == kind(other)
    assert kind("feedback is bad") == "feedback is bad"
