"""What `piperctl top` and `piperctl web` do to messages and queues: each act is a process of its own.

So it is whoever may act (root becomes the account that works on the queue), whatever threads the caller has, and it
leaves the same line in the system's log, and the same marks, as the commands do. A message that was listed is known by
its part, id and arrival: where that is another one by now, or has moved on, it is skipped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import piperkit
from piperkit import engines
from piperkit.cli import acting, render
from piperkit.cli.acting import Result
from piperkit.cli.acts import ACTS
from piperkit.cli.reasons import kind as kind_of
from piperkit.errors import PiperError, UsageError
from piperkit.operating import Entry, View

#: What can be done to a queue.
WHOLE = {"pause": "paused", "resume": "resumed"}
_WAIT = 600.0  # seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """A message as it was shown."""

    part: str
    id: str
    arrived: float

    @classmethod
    def of(cls, entry: Entry) -> Listed:
        return cls(entry.part, entry.id, entry.arrived)


@dataclasses.dataclass(frozen=True, slots=True)
class Act:
    """What is to be done: to messages that were listed, to all dead letters with one kind of reason, or to a queue."""

    queue: str
    what: str
    messages: tuple[Listed, ...] = ()
    kind: str | None = None
    why: str = ""


def perform(act: Act, who: str = "") -> str:
    """Do it; returns what became of it, for people. who: on whose behalf, besides whoever we are.

    Raises UsageError for what is not an act, PiperError where it could not be done.
    """
    if act.what not in ACTS and act.what not in WHOLE:
        raise UsageError(f"{act.what!r} is not an act; the acts are {', '.join([*ACTS, *WHOLE])}")
    command = [sys.executable, "-P", "-m", "piperkit.cli.hands", who]
    # An installed program knows by itself where its packages are; a module that is run is told.
    places = [str(Path(piperkit.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(dataclasses.asdict(act)),
            capture_output=True,
            text=True,
            timeout=_WAIT,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PiperError(f"{act.what} was cut off: {error}") from error
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise PiperError(f"{act.what} failed: {said[-1]}") from None
    if "error" in answer:
        raise PiperError(answer["error"])
    return str(answer["said"])


def main() -> None:
    """Do the act on standard input, and say what became of it on standard output."""
    given = json.load(sys.stdin)
    act = Act(**{**given, "messages": tuple(Listed(**each) for each in given["messages"])})
    try:
        print(json.dumps({"said": _do(act, sys.argv[1])}))
    except PiperError as error:
        print(json.dumps({"error": str(error)}))
    except OSError as error:
        print(json.dumps({"error": render.reason(error)}))


def _do(act: Act, on_behalf: str) -> str:
    by = f" ({render.text(on_behalf)})" if on_behalf else ""
    who = f"{acting.who()}{by}"
    if act.what in WHOLE:
        return _whole(act, who)
    view = engines.view(act.queue)
    kind = ACTS[act.what]
    acting.become_owner(view.path)
    operator = engines.operator(view.path, who)
    result = Result()
    said: list[str] = []
    found = _meant(view, act, result)
    while group := list(itertools.islice(found, acting.GROUP)):
        with operator.batch():
            for entry in group:
                acting.one(operator, lambda at, one: kind.do(at, one, act.why), entry, result, said.append)
    text = f"{render.number(result.done, 'message')} of {render.name(view.path)} {kind.word}"
    acting.leave_a_line(f"{text}{by}", result.done)
    return acting.told(result, kind.word) + "".join(f"; {each}" for each in said[:1])


def _whole(act: Act, who: str) -> str:
    if not engines.is_address(act.queue):
        acting.become_keeper(act.queue)
    operator = engines.operator(act.queue, who)
    if act.what == "pause":
        operator.pause(None, act.why)
        said = "paused"
    else:
        said = "resumed" if operator.resume() else "was not paused"
    acting.leave_a_line(f"the queue {render.name(act.queue)} {said}", 1)
    return f"{render.name(engines.short_name(act.queue))} {said}"


def _meant(view: View, act: Act, result: Result) -> Iterator[Entry]:
    """The messages as they are now; those that have moved on are counted."""
    parts = ACTS[act.what].parts
    for part in {"errors"} if act.kind is not None else {listed.part for listed in act.messages}:
        if part not in parts:
            raise UsageError(f"{act.what}: not what is in {part}, but in {', '.join(parts)}")
    if act.kind is not None:
        yield from (entry for entry in view.each("errors") if kind_of(entry.reason) == act.kind)
    for listed in act.messages:
        try:
            entry = view.entry(listed.part, listed.id)
        except (FileNotFoundError, PiperError):
            entry = None
        if entry is None or entry.arrived != listed.arrived:
            result.skipped += 1
            continue
        yield entry


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
