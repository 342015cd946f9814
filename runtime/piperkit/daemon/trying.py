"""`--action try`: today's components over chosen messages. Nothing is claimed, moved or written; what would become of
each message is shown.

A component that changes something outside of the daemon says that it can be tried (`Component.trial`), and leaves that
undone in a trial (`Component.is_trial`). As root, it is done as the account that the daemon runs as, or that works on
its queue.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from piperkit import engines
from piperkit.component import Component
from piperkit.daemon.process import Identity
from piperkit.dirq.fs import display
from piperkit.errors import ExitStatus, PiperError, UsageError
from piperkit.filer import FilerDaemonComponent
from piperkit.host import Surroundings
from piperkit.message import KEPT, Action, Failure, Format, Message, Outcome, Reject, Unavailable, text_of
from piperkit.operating import Entry, View
from piperkit.retry import RetryPolicy

#: Contents of which more is not shown, in characters.
_SHOWN = 200


class NoInput(PiperError):
    """What is to be tried cannot be read."""

    exit_status = ExitStatus.NO_INPUT


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What would become of a message."""

    passes: bool
    outcome: str  #: commit, cancel, dispatch, keep, retry, banish or unavailable
    text: str  #: for people
    content: bytes | None = None  #: its new contents


def shown(daemon: Surroundings, filer: FilerDaemonComponent) -> ExitStatus:
    """Try the messages that are chosen, and show each with what would become of it. 0: all pass, 3: some, 1: none."""
    passed = tried = 0
    with _ready(daemon, filer) as judge:
        for name, read in _chosen(daemon):
            message = read()
            if message is None:
                continue  # it has moved on
            verdict = judge(message)
            tried += 1
            passed += verdict.passes
            print(f"{name}: {verdict.text}", flush=True)
            if verdict.content is not None:
                print(f"    {display(verdict.content.decode(errors='replace')[:_SHOWN])}")
    print(f"{passed} of {tried} would pass; nothing was changed")
    return ExitStatus.OK if passed == tried else ExitStatus.PARTIAL if passed else ExitStatus.FAILURE


def told(daemon: Surroundings, filer: FilerDaemonComponent) -> ExitStatus:
    """Try the messages in the files that are named on standard input, and print a JSON object for each:
    {"number": from 0, "passes", "outcome", "text"}.
    """
    paths = [path for path in sys.stdin.read().split("\0") if path]
    with _ready(daemon, filer) as judge:
        for number, path in enumerate(paths):
            try:
                verdict = judge(_file(path))
            except OSError as error:
                verdict = Verdict(False, "gone", str(error))
            facts = {"passes": verdict.passes, "outcome": verdict.outcome, "text": verdict.text}
            print(json.dumps({"number": number, **facts}), flush=True)
    return ExitStatus.OK


def _chosen(daemon: Surroundings) -> Iterator[tuple[str, Callable[[], Message | None]]]:
    """The messages, each with what it is called."""
    given: str | None = daemon.c("input")
    if given is not None and os.path.basename(given) == "-":
        yield "standard input", lambda: Message("stdin", sys.stdin.buffer.read(), 1, time.time())
    elif given is not None:
        try:
            message = _file(given)
        except OSError as error:
            raise NoInput(f"--input {display(given)}: {error.strerror}") from None
        yield display(given), lambda: message
    else:
        view = engines.view(daemon.cc("filequeue")["dir_queue"], daemon.c("queue_password_file"))
        entries, _ = view.oldest("errors", daemon.c("limit") or sys.maxsize)
        for entry in entries:
            yield display(entry.id), functools.partial(_letter, view, entry)


def _letter(view: View, entry: Entry) -> Message | None:
    with contextlib.suppress(FileNotFoundError):
        return Message(entry.id, view.read(entry), 1, entry.arrived)
    return None


def _file(path: str) -> Message:
    with open(path, "rb") as file:
        return Message(os.path.basename(path), file.read(), 1, os.fstat(file.fileno()).st_mtime)


@contextlib.contextmanager
def _ready(daemon: Surroundings, filer: FilerDaemonComponent) -> Iterator[Callable[[Message], Verdict]]:
    """Its components are set up; gives what judges a message. Raises UsageError where they cannot be tried."""
    _leave_root(daemon)
    daemon.is_trial = True
    chain = filer.chain(daemon)
    if not chain:
        raise UsageError(f"{daemon.name} has components that take messages by events, and cannot be tried")
    for component in chain:
        if not component.trial:
            name = type(component).__name__
            raise UsageError(
                f"{name} does not say that it can be tried; if it leaves undone what it does elsewhere where"
                " self.is_trial is true, say so in its class: trial = True"
            )
    policy = RetryPolicy(daemon.c("retry_min"), daemon.c("retry_max"), daemon.c("retry_limit"))
    form = Format(daemon.c("message_format"))
    ready: list[Component] = []
    try:
        for component in chain:
            component.setup(daemon)
            ready.append(component)
        yield lambda message: _judge(daemon, chain, message, form, policy)
    finally:
        for component in reversed(ready):
            component.teardown(daemon)


def _leave_root(daemon: Surroundings) -> None:
    """Code of components does not run as root where the daemon does not."""
    if os.geteuid() != 0:
        return
    identity: Identity | None = daemon.cc("identity") or Identity.of_queue(daemon.cc("filequeue")["dir_queue"])
    if identity is not None and identity.uid != 0:
        identity.become()


def _judge(
    daemon: Surroundings, chain: tuple[Component, ...], message: Message, form: Format, policy: RetryPolicy
) -> Verdict:
    """What would become of a message."""
    try:
        most = daemon.c("message_max")
        if 0 < most < len(message.data):
            raise Reject(f"a message of {len(message.data)} bytes is larger than message_max, {most}")
        if form is not Format.BYTES:
            text_of(message.data)
        if form is Format.JSON:
            _ = message.json
        outcome: Any = None
        for component in chain:
            outcome = component.try_out(message)
            if outcome is not None:
                break
        if outcome is None:
            return Verdict(False, "none", "no component settles it")
        if not isinstance(outcome, Outcome):
            raise TypeError(f"{outcome!r} is not an outcome; return message.commit() or another one")
        return _passes(daemon, message, outcome)
    except Unavailable as error:
        return Verdict(False, "unavailable", f"would wait: {error}")
    except Exception as error:
        decision = policy.decide(error, message.attempt)
        failure = Failure.of(error)
        if decision.delay is None:
            return Verdict(False, "banish", f"would be banished: {display(failure.reason)}")
        return Verdict(False, "retry", f"would be put off for {decision.delay:.0f} s: {display(failure.reason)}")


def _passes(daemon: Surroundings, message: Message, outcome: Outcome) -> Verdict:
    """What an outcome means. Raises ConfigError for what is not the name of a queue."""
    targets = [daemon.queue_path(each) for each in (*outcome.copies, *([outcome.target] if outcome.target else ()))]
    for target in targets:
        if not engines.exists(target):
            return Verdict(False, "wait", f"would wait for the queue {display(target)}, which is not there")
    copies = "".join(f", with a copy to {display(target)}" for target in targets[: len(outcome.copies)])
    changed = outcome.content is not None and outcome.content != message.data
    next_queue = daemon.cc("filequeue")["dir_next_queue"]
    if outcome is KEPT:
        return Verdict(True, "keep", "would be kept in work until its component settles it")
    if outcome.action is Action.CANCEL:
        text = "would be deleted"
    elif outcome.action is Action.DISPATCH:
        text = f"would go to {display(targets[-1])}"
    else:
        text = f"would go to {display(next_queue)}" if next_queue else "would be done, and deleted"
    how = f", {'changed' if changed else 'unchanged'}" if outcome.action is not Action.CANCEL and next_queue else ""
    return Verdict(True, outcome.action.value, f"{text}{how}{copies}", outcome.content if changed else None)
