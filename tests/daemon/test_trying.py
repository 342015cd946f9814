"""`--action try`: what would become of messages, without a change to anything."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from needs import need
from piperkit import Failure
from piperkit.dirq import DirectoryQueue
from piperkit.testing import Piper

Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def letters(piper: Piper) -> Piper:
    """A queue with dead letters, each named after what would become of it now."""
    contents = {
        "commit": "hello",
        "cancel": "cancel it",
        "dispatch": "dispatch out",
        "copied": "copy out",
        "nowhere": "dispatch nowhere",
        "reject": "reject it is wrong",
        "retry": "retry 5",
        "raise": "raise something",
        "none": "none of it",
        "nonsense": "nonsense of it",
    }
    with DirectoryQueue(piper.directory / "in") as queue:
        for id, text in contents.items():
            queue.enqueue(text, id)
        for claim in queue.claim(len(contents)):
            queue.banish(claim.id, Failure("it failed"))
    return piper


def everything(piper: Piper) -> dict[str, bytes]:
    files = (path for path in piper.directory.rglob("*") if path.is_file())
    return {f"{path}": path.read_bytes() for path in files}


def test_each_dead_letter_is_shown_with_what_would_become_of_it_and_nothing_is_changed(
    letters: Piper, call: Call
) -> None:
    before = everything(letters)
    done = call("upper", "--action", "try")
    assert everything(letters) == before
    found = dict(line.split(": ", 1) for line in done.stdout.splitlines() if not line.startswith(" ") and ": " in line)
    out, nowhere = letters.directory / "out", letters.directory / "var" / "spool" / "nowhere"
    assert found["commit"] == f"would go to {out}, changed"
    assert "\n    HELLO\n" in done.stdout
    assert found["cancel"] == "would be deleted"
    assert found["reject"] == "would be banished: it is wrong"
    assert found["retry"] == "would be put off for 5 s: later"
    assert found["raise"].startswith("would be put off for ")
    assert found["raise"].endswith("RuntimeError: something")
    assert found["none"] == "no component settles it"
    assert "is not an outcome" in found["nonsense"]
    assert found["nowhere"].startswith("would wait for the queue ")
    assert nowhere.name in found["nowhere"]
    assert done.returncode == 3
    assert "of 10 would pass; nothing was changed" in done.stdout


@pytest.mark.slow
def test_file_and_standard_input_are_tried_too(piper: Piper, call: Call, tmp_path: Path) -> None:
    (tmp_path / "message").write_text("hello")
    done = call("upper", "--action=try", f"--input={tmp_path}/message")
    assert (done.returncode, "would go to" in done.stdout) == (0, True), done.stderr
    done = call("upper", "--action=try", "--input=-", input="reject it")
    assert (done.returncode, "standard input: would be banished: it" in done.stdout) == (1, True), done.stderr
    done = call("upper", "--action=try", f"--input={tmp_path}/none")
    assert (done.returncode, "No such file" in done.stderr) == (66, True)


def test_programs_get_a_line_of_json_for_each_file(piper: Piper, call: Call, tmp_path: Path) -> None:
    for name, text in (("a", "hello"), ("b\n", "reject it")):
        (tmp_path / name).write_text(text)
    names = "".join(f"{tmp_path}/{name}\0" for name in ("a", "gone", "b\n"))
    done = call("upper", "--action=try-files", input=names)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["number"], each["passes"], each["outcome"]) for each in found] == [
        (0, True, "commit"), (1, False, "gone"), (2, False, "banish"),
    ]  # fmt: skip


def test_component_that_works_in_bulk_is_tried_only_if_it_says_that_it_can_be(piper: Piper, call: Call) -> None:
    done = call("collect", "--action=try", "--input=-", input="hello")
    assert done.returncode == 64
    assert "does not say that it can be tried" in done.stderr
    done = call("collect-tryable", "--action=try", "--input=-", input="hello")
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        0,
        f"standard input: would go to {piper.directory}/out, unchanged",
    )


def test_blank_message_is_tried_as_it_would_be_met(piper: Piper, call: Call) -> None:
    assert "would be banished: the message is blank" in call("upper", "--action=try", "--input=-", input="  ").stdout


def test_message_that_is_too_large_is_tried_as_it_would_be_met(piper: Piper, call: Call) -> None:
    done = call("upper", "--action=try", "--input=-", "--message-max=4", input="hello")
    assert "would be banished: a message of 5 bytes is larger than message_max, 4" in done.stdout


def test_root_tries_messages_as_the_account_that_works_on_the_queue(public: Path, call: Call) -> None:
    need("root", os.geteuid() == 0, "root, to become somebody else")
    queue = public / "queue"
    with DirectoryQueue(queue) as mine:
        mine.enqueue("uid", "a")
        mine.banish(mine.claim()[0].id, Failure("it failed"))
    for path in (queue, *queue.rglob("*")):
        os.chown(path, 54321, 54321)
    options = [f"--queue-in-dir={queue}", f"--files-under={public}", "--action=try"]
    done = call("whoami", *options, alone=True)
    assert "would be banished: uid 54321" in done.stdout, done.stderr
