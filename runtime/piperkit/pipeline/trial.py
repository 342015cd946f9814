"""`piperctl pipeline test`: messages in, what has to come out at each end, on real queues in a directory of its own.

Ends are the daemons that pass nothing on, and the pipeline's outputs. An end is not run: what reaches its queue is what
comes out. Nor is anything fetched: what a source would fetch is put into its queue, or that of the daemon after it. All
others that messages reach run as they would, with their configuration; their queues, logs, and whatever else has its
place by default, are in the directory. The order of what comes out does not matter. An end that a test does not name
has to get nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from piperkit.dirq import DirectoryQueue, ensure_queue
from piperkit.dirq.acts import Operator
from piperkit.dirq.view import QueueView
from piperkit.operating import HOLDING
from piperkit.pipeline import graph
from piperkit.pipeline.cases import Case, ends
from piperkit.pipeline.description import Member, Pipeline
from piperkit.pipeline.running import Running

#: Parts of a queue in which messages are still on their way.
_MOVING = ("incoming", "pending", "outgoing")
#: Seconds between looks, and for one test.
_LOOK, _TEST_MAX = 0.05, 60.0
_T = TypeVar("_T")
_W = TypeVar("_W")


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What has come of a test."""

    case: Case
    wrong: tuple[str, ...]  #: nothing where it passed


def run(
    pipeline: Pipeline, cases: Sequence[Case], directory: Path, tell: Callable[[str, str], None]
) -> Iterator[Verdict]:
    """Run the tests one after another, in an empty directory. Raises Ended, NoProgram, PiperError."""
    here = _moved(pipeline, directory / "var" / "spool")
    for queue in here.queues():
        ensure_queue(queue, 0o770)
    out = ends(here)
    reached = _reached(graph.of(here), [into for case in cases for into, _ in case.inputs])
    running = [each.name for each in here.members if each.name in reached and each.name not in out and each.instances]

    def surroundings(member: Member) -> list[str]:
        config = _config_of(pipeline, member)
        own = directory / "var" / member.name
        places = {"log-file": "log", "pid-file": "pid", "state-file": "state", "runlog-dir": "run-log"}
        quiet = ["--log-level=warning", "--metrics-address=", "--metrics-file=", "--traces-endpoint="]
        return [
            f"--files-under={directory}",
            *quiet,
            *(f"--{key}={own}/{name}" for key, name in places.items()),
            *config,
        ]

    once = dataclasses.replace(here, members=tuple(dataclasses.replace(each, instances=1) for each in here.members))
    with Running(once, tell, only=running, more=surroundings) as processes:
        for member in here.members:
            # What it would fetch is the world's.
            Operator(member.source, "test").pause(None, "a test puts messages there", sources_only=True)
        if running:
            processes.start()
        for case in cases:
            yield Verdict(case, tuple(_judge(case, here, out, running, processes)))


def _reached(drawn: graph.Graph, beginnings: Sequence[str]) -> set[str]:
    """The nodes that messages can come to."""
    found, left = set[str](), [*beginnings]
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += drawn.heads(node)
    return found


def _judge(case: Case, here: Pipeline, out: dict[str, str], running: list[str], processes: Running) -> Iterator[str]:
    for name, data in case.inputs:
        DirectoryQueue(here.member(name).source).enqueue(data)
    end = time.monotonic() + _TEST_MAX
    views = {name: QueueView(here.member(name).source) for name in running}
    # Twice: a message may move on behind the back of one look.
    quiet = 0
    while quiet < 2:
        processes.tell_for(_LOOK)
        quiet = quiet + 1 if not any(sum(view.counts(_MOVING).values()) for view in views.values()) else 0
        if time.monotonic() > end:
            yield f"it is not done after {_TEST_MAX:g} s"
            break
    for name, view in views.items():
        reasons = [entry.reason or "" for entry in view.each("errors")]
        missing, left = _matched(reasons, case.errors.get(name, []), lambda reason, part: part in reason)
        yield from (f"{name}: no dead letter with {part!r} in its reason" for part in missing)
        yield from (f"{name}: a message has failed: {reason}" for reason in left)
        for entry in view.each("deferred"):
            yield f"{name}: a message was put off: {entry.reason or 'without a reason'}"
        _clear(view)
    for name, queue in out.items():
        view = QueueView(queue)
        came = [view.read(entry) for part in HOLDING for entry in view.each(part)]
        lacking, more = _matched(came, case.outputs.get(name, []), _is)
        yield from (f"{name}: has not got {_shown(value)}" for value in lacking)
        yield from (f"{name}: has got {_shown_data(data)}" for data in more)
        _clear(view)


def _matched(came: list[_T], wanted: list[_W], fits: Callable[[_T, _W], bool]) -> tuple[list[_W], list[_T]]:
    """What is wanted and has not come, and what has come and is not wanted; each counts once, in any order."""
    left, missing = [*came], []
    for value in wanted:
        found = next((at for at, each in enumerate(left) if fits(each, value)), None)
        if found is None:
            missing.append(value)
        else:
            del left[found]
    return missing, left


def _is(data: bytes, value: Any) -> bool:
    if isinstance(value, str):
        return data == value.encode()
    try:
        return _same(json.loads(data), value)
    except (ValueError, RecursionError):
        return False


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1 there."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _shown_data(data: bytes) -> str:
    try:
        return json.dumps(json.loads(data), ensure_ascii=False)
    except (ValueError, RecursionError):
        return repr(data.decode(errors="backslashreplace"))


def _clear(view: QueueView) -> None:
    operator = Operator(view.path, "test")
    for part in ("incoming", "deferred", "errors"):
        for entry in [*view.each(part)]:
            operator.remove(entry)


def _moved(pipeline: Pipeline, spool: Path) -> Pipeline:
    """The same on queues in a directory. Two queues of one name, in different places, keep apart."""
    names: dict[str, str] = {}

    def place(queue: str) -> str:
        short = os.path.basename(queue) if not queue.startswith("postgres") else queue.rpartition("=")[2]
        taken = {names[other] for other in names if other != queue}
        while (path := str(spool / short)) in taken:
            short += "-2"
        return names.setdefault(queue, path)

    members = tuple(
        dataclasses.replace(member, source=place(member.source), targets=tuple(map(place, member.targets)))
        for member in pipeline.members
    )
    outputs = frozenset(map(place, pipeline.outputs))
    return dataclasses.replace(pipeline, spool=str(spool), members=members, inputs=frozenset(), outputs=outputs)


def _config_of(pipeline: Pipeline, member: Member) -> list[str]:
    """Its configuration, which --files-under would look for elsewhere."""
    etc = (pipeline.project or Path("/")) / "etc"
    places = {"config-file": member.config or etc / f"{member.name}.conf", "config-dir": etc / member.name}
    return [f"--{option}={path}" for option, path in places.items() if path.exists()]
