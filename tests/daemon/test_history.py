"""The history: which messages' ways are kept, and what it says of them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import apps
from piperkit.dirq import DirectoryQueue, journal
from piperkit.dirq.layout import Parts
from piperkit.dirq.view import QueueView
from piperkit.testing import Piper


def told(piper: Piper) -> list[str]:
    lines = QueueView(piper.directory / "in").told()
    return [" ".join(str(line[key]) for key in ("id", "what", "reason") if key in line) for line in lines]


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ("off", []),
        ("errors", ["b put off later", "b banished given up after 2 attempts: later", "c banished no"]),
        (
            "all",
            ["a committed", "b put off later", "b banished given up after 2 attempts: later", "c banished no"]
            + ["d copied", "d committed", "e canceled"],
        ),
    ],
)
def test_messages_are_kept_as_the_key_history_says(piper: Piper, setting: str, kept: list[str]) -> None:
    DirectoryQueue(piper.directory / "copies").close()
    with DirectoryQueue(piper.directory / "in") as queue:
        texts = ["hello", "retry 0", "reject no", f"copy {piper.directory}/copies", "cancel it"]
        for name, text in zip("abcde", texts, strict=True):
            queue.enqueue(text, name)
    for _ in range(2):
        piper.run(lambda argv: apps.build("upper", argv), f"--history={setting}", "--retry-limit=2")
    assert sorted(told(piper)) == sorted(kept)


def test_sample_is_the_same_in_every_daemon(piper: Piper) -> None:
    with DirectoryQueue(piper.directory / "in") as queue:
        for number in range(200):
            queue.enqueue("x", f"m{number}")
    piper.run(lambda argv: apps.build("echo", argv), "--history=sample", "--history-sample=10")
    first = {line["id"] for line in QueueView(piper.directory / "in").told()}
    assert 5 <= len(first) <= 50
    more = [f"--queue-in-dir={piper.directory}/out", f"--queue-out-dir={piper.directory}/end"]
    piper.run(lambda argv: apps.build("echo", argv), "--history=sample", "--history-sample=10", *more)
    assert {line["id"] for line in QueueView(piper.directory / "out").told()} == first


def test_line_says_how_long_it_took_and_where_it_went(piper: Piper) -> None:
    piper.put("hello")
    piper.run(lambda argv: apps.build("upper", argv), "--history=all")
    (line,) = QueueView(piper.directory / "in").told()
    assert 0 <= line["took"] < 60
    assert (line["to"], line["attempt"]) == (str(piper.directory / "out"), 1)


def test_history_is_bounded_by_size_and_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "FILE_MAX", 100)
    monkeypatch.setattr(journal, "FILES_MAX", 3)
    DirectoryQueue(tmp_path / "queue").close()
    parts = Parts(str(tmp_path / "queue"))
    kept = journal.Journal(lambda: parts.history)
    for number in range(100):
        kept.append([b'{"id": "m%d"}\n' % number])
    files = sorted((tmp_path / "queue" / "history").iterdir())
    assert len(files) <= 4
    assert sum(file.stat().st_size for file in files) < 600
    found = [line["id"] for line in journal.lines(f"{tmp_path}/queue/history")]
    assert found == [f"m{number}" for number in range(100 - len(found), 100)]
    monkeypatch.setattr(journal, "AGE_MAX", -1.0)
    for number in range(10):
        kept.append([b'{"id": "m%d"}\n' % number])
    assert len(list((tmp_path / "queue" / "history").iterdir())) == 1


@pytest.mark.parametrize(("begun", "files"), [(0.5, 1), (1.5, 2)])
def test_file_of_a_history_is_of_one_day(tmp_path: Path, begun: float, files: int) -> None:
    DirectoryQueue(tmp_path / "queue").close()
    directory = tmp_path / "queue" / "history"
    line = json.dumps({"t": time.time() - begun * 86400, "id": "old"}) + "\n"
    (directory / "log").write_text(line)
    parts = Parts(str(tmp_path / "queue"))
    journal.Journal(lambda: parts.history).append([b'{"id": "new"}\n'])
    assert len(list(directory.iterdir())) == files
    assert [told["id"] for told in journal.lines(str(directory))] == ["old", "new"]


def test_line_that_is_none_is_passed_by(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b'{"id": "a"}\n{"id": \n[1]\n\xff\n{"id": "b"}\n{"id": "cut')
    assert [line["id"] for line in journal.lines(str(tmp_path))] == ["a", "b"]
