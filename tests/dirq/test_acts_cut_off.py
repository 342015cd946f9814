"""Operators' acts beside whoever works on the messages, and killed anywhere: nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import summary
from dirq_tools import Clock, books
from needs import need
from piperkit import crashwalk
from piperkit.dirq import DirectoryQueue, deadletters
from piperkit.dirq.acts import Operator
from piperkit.dirq.view import QueueView
from piperkit.message import Failure
from piperkit.operating import RESTING

BROKEN = Failure("the host is down", "OSError")


MARK = "/the-walk-begins-here"
PROGRAM = f"""
import gc, os
from piperkit import crashwalk
from piperkit.dirq.acts import Operator
from piperkit.dirq.view import QueueView
from piperkit.operating import Copy

def begin():
    try: os.unlink({MARK!r})
    except OSError: pass

def act(path, part, act, *more):
    entry, operator = QueueView(path).entry(part, "a"), Operator(path, "jane")
    begin()
    getattr(operator, act)(entry, *[each.encode() for each in more] if act == "replace" else more)

def add(path, part):
    operator = Operator(path, "jane")
    begin()
    with operator.batch():
        operator.add(Copy("a", part, 1790000000.25, b"a", {{"reason": "the host is down", "attempts": 3}}))

gc.freeze()
crashwalk.serve(lambda arguments: globals()[arguments[0]](*arguments[1:]))
"""


@pytest.fixture(scope="module")
def program() -> Iterator[crashwalk.Program]:
    need("strace", crashwalk.available(), "strace(1), with the right to trace")
    runtime = str(Path(deadletters.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": runtime}
    with crashwalk.Program([sys.executable, "-c", PROGRAM], env=environment) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "part"),
    [
        *((act, part) for act in ("requeue", "remove", "move") for part in RESTING),
        *(("hold", part) for part in ("incoming", "deferred")),
        *(("banish", part) for part in ("incoming", "deferred", "hold")),
        *(("replace", part) for part in ("hold", "errors")),
    ],
)
def test_act_that_is_cut_off_anywhere_has_happened_or_has_not(
    tmp_path: Path, clock: Clock, program: crashwalk.Program, part: str, act: str
) -> None:
    path, target = str(tmp_path / "queue"), str(tmp_path / "target")
    more = {"move": [target], "hold": ["why"], "banish": ["why"], "replace": ["new"]}.get(act, [])
    run = ["act", path, part, act, *more]

    def prepare() -> DirectoryQueue:
        shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
        DirectoryQueue(target).close()
        queue = DirectoryQueue(path, clock=clock, orphan_age=0)
        queue.enqueue("a", "a")
        if part == "hold":
            Operator(path, "jane").hold(QueueView(path).entry("incoming", "a"), "before")
        elif part != "incoming":
            (claim,) = queue.claim()
            queue.retry(claim.id, 3600, BROKEN) if part == "deferred" else queue.banish(claim.id, BROKEN)
        queue.enqueue("beside", "beside")
        return queue

    prepare().close()
    points = [each for each in program.crash_points(run, tmp_path, since=MARK) if each.changing]
    done = books(path)
    after = {"requeue": {"incoming"}, "hold": {"hold"}, "banish": {"errors"}, "replace": {part}}.get(act, set())
    new = b"new" if act == "replace" else b"a"
    for point in points:
        queue = prepare()
        before = books(path)
        assert program.run_killed(run, point).killed, point
        clock.forward(2)
        queue.recover()
        found = books(path)
        arrived = books(target)
        assert arrived in ({}, {"incoming": [b"a"]}), point
        assert bool(arrived) == (act == "move" and found == done), point
        there = {where for where, messages in found.items() if b"a" in messages or new in messages}
        number = sum(messages.count(each) for messages in found.values() for each in {b"a", new})
        assert number == (1 if there else 0), point
        assert there in (after, {part}), point
        assert found in (before, done), point
        if there == {"errors"}:
            reason = "banished by jane: why" if act == "banish" else BROKEN.reason
            assert QueueView(path).entry("errors", "a").reason == reason, point
        elif part == "errors":
            assert os.listdir(f"{path}/errors") == [], point
        queue.close()
    assert len(points) >= (1 if (act, part) == ("requeue", "incoming") else 2)  # with the end
    summary.add(f"crash walk of an operator's {act} in {part}: {len(points)} kills, 0 lost, 0 doubled")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["incoming", "hold", "errors"])
def test_import_that_is_cut_off_anywhere_is_made_whole_by_another_one(
    tmp_path: Path, clock: Clock, program: crashwalk.Program, part: str
) -> None:
    path = str(tmp_path / "queue")
    run = ["add", path, part]
    DirectoryQueue(path).close()
    points = [each for each in program.crash_points(run, tmp_path, since=MARK) if each.changing]
    assert points
    for point in points:
        shutil.rmtree(path)
        queue = DirectoryQueue(path, clock=clock, orphan_age=0)
        assert program.run_killed(run, point).killed, point
        assert books(path) in ({}, {part: [b"a"]}), point
        clock.forward(2)
        queue.recover()
        assert program.run(run).status == 0, point
        clock.forward(2)
        queue.recover()
        assert books(path) == {part: [b"a"]}, point
        entry = QueueView(path).entry(part, "a")
        assert entry.arrived == 1790000000.25
        assert (entry.reason, entry.attempts) == (("the host is down", 3) if part == "errors" else (None, 0)), point
        queue.close()
    summary.add(f"crash walk of an import into {part}: {len(points)} kills, 0 lost, 0 doubled")


WORKER = """
import sys
from piperkit.dirq import DirectoryQueue
from piperkit.errors import NotClaimed
from piperkit.errors import TargetUnavailable
from piperkit.message import Failure
seen = open(sys.argv[2], "a")
with DirectoryQueue(sys.argv[1], create=False) as queue:
    for _ in sys.stdin:
        for claim in queue.claim(20):
            data = queue.read(claim.id)
            number = int(data)
            if number % 3 == 0 and claim.attempt == 1 and not claim.record.history:
                queue.banish(claim.id, Failure(f"number {number} is no good"))
            elif number % 5 == 0 and claim.attempt == 1:
                queue.retry(claim.id, 3600, Failure("later"))
            else:
                queue.commit(claim.id)
                seen.write(f"{number}\\n")
        print("done", flush=True)
"""


@pytest.mark.slow
def test_books_balance_while_operators_act_beside_working_instances(tmp_path: Path) -> None:
    """Two instances work, and two operators do all there is to do with what they find, at the same time."""
    path = str(tmp_path / "queue")
    chance = random.Random(7)
    producer = DirectoryQueue(path)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, path, str(tmp_path / f"seen{number}")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    removed: Counter[bytes] = Counter()
    operators = [Operator(path, "jane"), Operator(path, "joe")]
    view = QueueView(path)
    total = 0
    try:
        for turn in range(80):
            if turn < 50:
                producer.enqueue_many([str(total + each).encode() for each in range(40)])
                total += 40
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("work\n")
                worker.stdin.flush()
            for part in RESTING:
                for entry in view.each(part):
                    if chance.random() < 0.2:
                        try:
                            data = view.read(entry)
                            if chance.random() < 0.1:
                                chance.choice(operators).remove(entry)
                                removed[data.strip()] += 1
                            elif chance.random() < 0.1 and part in ("hold", "errors"):
                                chance.choice(operators).replace(entry, data + b" ")
                            elif chance.random() < 0.3:
                                chance.choice(operators).hold(entry, "")
                            elif chance.random() < 0.2:
                                chance.choice(operators).banish(entry, "")
                            else:
                                chance.choice(operators).requeue(entry)
                        except FileNotFoundError:
                            continue
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "done\n"
    finally:
        for worker in workers:
            worker.communicate()
    seen = Counter(line for number in range(2) for line in (tmp_path / f"seen{number}").read_bytes().split())
    left = Counter(data.strip() for messages in books(path).values() for data in messages)
    assert removed
    assert seen + left + removed == Counter(str(number).encode() for number in range(total))
    for entry in view.each("errors"):
        assert entry.reason in (f"number {int(view.read(entry))} is no good", "banished by jane", "banished by joe")
    names = {name for name in os.listdir(f"{path}/errors") if name.endswith(".meta")}
    assert all(json.loads(Path(path, "errors", name).read_bytes())["id"] + ".meta" == name for name in names)
