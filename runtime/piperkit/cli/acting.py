"""Acting on messages: who acts, and as whom; on which messages, how fast; what became of them.

Root becomes the account that works on the queue, to which all there has to belong.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import pwd
import re
import signal
import sys
import syslog
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from piperkit import engines
from piperkit.cli import passing, progress, queues, render, selecting
from piperkit.cli.interrupts import Interrupts
from piperkit.cli.options import Json
from piperkit.dirq import layout
from piperkit.dirq.fs import display
from piperkit.errors import ExitStatus, PiperError, UsageError
from piperkit.operating import Entry, Operator, View
from piperkit.selection import Selection

#: Messages whose acts become durable together.
GROUP = 200
_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/(s|min|m|h))?")
_PER = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}

Act = Callable[[Operator, Entry], None]


@dataclasses.dataclass(frozen=True)
class Named:
    """Arguments: which queue, and which messages by their ids. With --spool, which means all queues, both are ids."""

    queue: queues.Queue = None
    ids: selecting.Ids = None


@dataclasses.dataclass(frozen=True)
class How:
    """Options of every act."""

    limit: selecting.Limit = None
    all: Annotated[bool, typer.Option("--all", help="All messages; required if there is no other option.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Change nothing; show which messages are selected.")
    ] = False
    rate: Annotated[str | None, typer.Option(metavar="N/s", help="Upper limit on the rate: 100/s, 30/min.")] = None
    spool: queues.Spool = None
    json: Json = False


@dataclasses.dataclass
class Result:
    """How many messages."""

    done: int = 0
    skipped: int = 0
    failed: int = 0

    def add(self, other: Result) -> None:
        self.done += other.done
        self.skipped += other.skipped
        self.failed += other.failed


@functools.cache
def who() -> str:
    """Who acts: the name of the account, and of the one that sudo(8) was called by. The first answer stays."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"#{os.getuid()}"
    by = os.environ.get("SUDO_USER") if os.geteuid() == 0 else None
    return f"{name} ({render.text(by)})" if by else name


def operator_of(path: str) -> Operator:
    """Acts on the queue at that path, for whoever acts."""
    return engines.operator(path, who())


def as_owner(path: str, several: bool, work: Callable[[], tuple[Result, bool]]) -> tuple[Result, bool]:
    """Do some work on a queue as its owner, and return what it returns. Raises PiperError where that may not be.

    several: there are more queues, so that root does not become the owner of this one for good, but a child of it does.
    """
    who()
    if engines.is_address(path):  # the server says what one may do
        return work()
    if os.geteuid() != 0:
        _check_rights(path)
        return work()
    if not several:
        become_owner(path)
        return work()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer: dict[str, Any] = {}
        try:
            os.close(reading)
            become_owner(path)
            found, interrupted = work()
            answer = {"result": dataclasses.asdict(found), "interrupted": interrupted}
        except PiperError as error:
            answer = {"error": str(error)}
        finally:
            with os.fdopen(writing, "w") as pipe:
                json.dump(answer, pipe)
            os._exit(0)
    os.close(writing)
    with Interrupts(), os.fdopen(reading) as pipe:  # the child is interrupted, too, and tells how far it came
        told = pipe.read()
    os.waitpid(pid, 0)
    answer = json.loads(told or "{}")
    if "result" not in answer:
        raise PiperError(answer.get("error") or f"{render.name(path)}: the process that acted on its messages died")
    return Result(**answer["result"]), answer["interrupted"]


def become_owner(path: str) -> None:
    """As root, become the account that works on the queue. Raises PiperError where one may not act there."""
    if engines.is_address(path):
        return
    if os.geteuid() == 0:
        from piperkit.daemon.process import Identity  # here: all of the daemon comes with it

        account = Identity.of_queue(path)
        if account is not None and account.uid > 0:
            if os.stat(path).st_uid == 0:  # the account cannot make what an older queue lacks
                layout.ensure_queue(path, layout.DEFAULT_PERMS, account.owner)
            account.become()
    _check_rights(path)


def become_keeper(path: str) -> None:
    """As root, become whoever may pause the queue: the owner of its directory. Raises PiperError where one may not."""
    if os.stat(path).st_uid != os.geteuid():
        become_owner(path)


def _check_rights(path: str) -> None:
    if not os.access(f"{path}/errors", os.W_OK | os.X_OK, effective_ids=True):
        raise PiperError(f"you may not act on the messages of {render.name(path)}: do it as its owner, or with sudo")


def leave_a_line(text: str, done: int) -> None:
    """Leave a line in the system's log, if anything was done."""
    if done:
        syslog.openlog("piperctl")
        syslog.syslog(syslog.LOG_NOTICE, f"{who()}: {text}")


def perform(
    command: str,
    word: str,
    named: Named,
    parts: tuple[str, ...],
    criteria: selecting.Criteria,
    how: How,
    act: Act,
    passes: passing.Passing | None = None,
) -> None:
    """Do it to all that are meant, in each queue, and tell."""
    given = [each for each in (named.queue, *(named.ids or ())) if each is not None]
    first = 0 if how.spool is not None else 1
    views = queues.views(given[:first], how.spool)
    chosen = criteria.selection(given[first:])
    if chosen.everything and how.limit is None and not how.all:
        raise UsageError(f"say which messages to {command}, or --all; --dry-run shows which are meant")
    pace = Pace(how.rate)
    if how.dry_run:
        if passes is not None and os.geteuid() == 0:  # what it tries is not to be tried as root
            if len(views) > 1:
                raise UsageError("--if-passes: as root, name exactly one queue for a --dry-run")
            become_owner(views[0].path)
        _show(views, parts, chosen, how, word, passes)
        return
    results: list[tuple[str, Result]] = []
    interrupted = False
    for view in views:
        left = None if how.limit is None else how.limit - sum(result.done for _, result in results)
        if left is not None and left <= 0:
            break

        def work(view: View = view, left: int | None = left) -> tuple[Result, bool]:
            return _in_queue(view, parts, chosen, left, pace, act, passes)

        try:
            result, interrupted = as_owner(view.path, len(views) > 1, work)
        except PiperError as error:
            if len(views) == 1:
                raise
            # One queue out of many that cannot be worked on keeps nobody from the others.
            print(f"piperctl: {render.text(str(error))}", file=sys.stderr)
            result = Result(failed=1)
        results.append((view.path, result))
        leave_a_line(f"{render.number(result.done, 'message')} of {render.name(view.path)} {word}", result.done)
        if interrupted:
            break
    total = _tell(results, chosen, parts, how, command, word, complete=how.limit is None and not interrupted)
    if interrupted:
        print("piperctl: interrupted", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGINT)
    if total.failed:
        raise typer.Exit(ExitStatus.PARTIAL if total.done else ExitStatus.FAILURE)


def _in_queue(
    view: View,
    parts: tuple[str, ...],
    chosen: Selection,
    limit: int | None,
    pace: Pace,
    act: Act,
    passes: passing.Passing | None,
) -> tuple[Result, bool]:
    """Do it in one queue; returns what became of it, and whether Ctrl-C ended it."""
    result = Result()
    operator = operator_of(view.path)
    group_size = pace.group(GROUP)
    with Interrupts() as interrupts, progress.shown(progress.is_terminal(sys.stderr), None) as advance:
        try:
            found = selecting.meant(view, parts, chosen, None if passes else limit, lambda number: interrupts.check())
            if passes is not None:
                found = itertools.islice(passes(view, found, interrupts), limit)
            while group := list(itertools.islice(found, group_size)):
                with operator.batch():
                    for entry in group:
                        with interrupts.allowed():
                            pace.wait()
                        one(operator, act, entry, result, _complain)
                        advance(1, 0)
        except KeyboardInterrupt:
            return result, True
    return result, False


def _complain(text: str) -> None:
    print(f"piperctl: {text}", file=sys.stderr)


def one(operator: Operator, act: Act, entry: Entry, result: Result, failed: Callable[[str], None]) -> None:
    """Act on one message, and count what became of it. failed: told why it could not be done."""
    try:
        act(operator, entry)
        result.done += 1
    except FileNotFoundError:
        result.skipped += 1
    except (OSError, PiperError) as error:
        result.failed += 1
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        failed(f"{render.name(entry.id)}: {render.text(said)}")


def _show(
    views: Sequence[View],
    parts: tuple[str, ...],
    chosen: Selection,
    how: How,
    word: str,
    passes: passing.Passing | None,
) -> None:
    """What would be done."""
    number = 0
    with Interrupts() as interrupts:
        for view in views:
            found = selecting.meant(view, parts, chosen, None, lambda number: interrupts.check())
            if passes is not None:
                found = passes(view, found, interrupts)
            for entry in itertools.islice(found, None if how.limit is None else how.limit - number):
                number += 1
                render.as_json(render.facts(entry)) if how.json else print(_line(entry))
    if not how.json:
        print(f"{render.number(number, 'message')} would be {word}; nothing was changed")


def _tell(
    results: list[tuple[str, Result]],
    chosen: Selection,
    parts: tuple[str, ...],
    how: How,
    command: str,
    word: str,
    *,
    complete: bool,
) -> Result:
    """Tell what became of the messages, and return that. complete: all were looked for."""
    total = Result()
    for _, result in results:
        total.add(result)
    absent = len(chosen.ids) - total.done - total.skipped - total.failed if complete else 0
    if absent > 0:
        total.failed += absent
        if len(results) == 1:
            results = [(results[0][0], total)]
        words = f"{render.number(absent, 'id')} named no message in {', '.join(parts)} that meets all criteria"
        print(f"piperctl: {words}", file=sys.stderr)
    for path, result in results:
        if how.json:
            render.as_json({"queue": display(path), "act": command, **dataclasses.asdict(result)})
        elif len(results) > 1 and any(dataclasses.astuple(result)):
            print(f"{render.name(path)}: {told(result, word)}")
    if not how.json:
        print(told(total, word))
    return total


def told(result: Result, word: str) -> str:
    """What became of messages, for people."""
    parts = [f"{render.number(result.done, 'message')} {word}"]
    parts += [f"{result.skipped} skipped, since they have moved on"] if result.skipped else []
    parts += [f"{result.failed} failed"] if result.failed else []
    return "; ".join(parts)


def _line(entry: Entry) -> str:
    reason = f"  {render.text(entry.reason)}" if entry.reason else ""
    return f"{entry.part}  {render.name(entry.id)}{reason}"


class Pace:
    """How fast it goes. Raises UsageError for what is not a rate."""

    def __init__(self, rate: str | None) -> None:
        self._seconds = 0.0  #: between two messages
        self._next = 0.0
        if rate is not None:
            found = _RATE.fullmatch(rate)
            if found is None or not float(found[1]):
                raise UsageError(f"--rate {rate}: must be a number of messages in a time, such as 100/s or 30/min")
            self._seconds = _PER[found[2] or "s"] / float(found[1])

    def group(self, most: int) -> int:
        """How many messages become durable together: about a second's."""
        return min(most, max(1, int(1 / self._seconds))) if self._seconds else most

    def wait(self) -> None:
        """Wait for the time of the next message."""
        if self._seconds:
            now = time.monotonic()
            if now < self._next:
                time.sleep(self._next - now)
            self._next = max(now, self._next) + self._seconds
