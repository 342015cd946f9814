"""`piperctl doctor`: what is wrong with projects, daemons, their queues and the machine, and what mends it.

An installed daemon describes itself (`--action describe`), with the runtime and the configuration that it really has;
of a project nothing is executed. To look changes nothing, except that a file is made in each queue, renamed, and
removed. What can be put right without a doubt, `mend` does: what is missing of a queue, and what dead processes have
left there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from piperkit.daemon.process import Identity
from piperkit.doctor import database_checks, subjects
from piperkit.doctor.finding import Finding
from piperkit.doctor.project_checks import (
    DAEMON_CHECKS,
    PROJECT_CHECKS,
    clock_is_synchronised,
    hard_links,
    inotify,
    kernel_clock,
    kernel_protects_hard_links,
    unit,
    unit_is_read,
)
from piperkit.doctor.queue_checks import QUEUE_CHECKS
from piperkit.doctor.subjects import Daemon, NoSubject, Queue
from piperkit.engines import is_address
from piperkit.errors import PiperError
from piperkit.project import answers


@dataclasses.dataclass(frozen=True, slots=True)
class Subjects:
    """What is examined."""

    projects: tuple[Path, ...]
    daemons: tuple[Daemon, ...]
    queues: tuple[Queue, ...]
    root: str = "/"  #: where what is installed begins


def admit(what: Sequence[str | Path], config: Path | None, root: str = "/") -> Subjects:
    """Find out what is to be examined: projects, queues, an installed daemon's; nothing named: the project here.

    Raises NoSubject.
    """
    projects, queues = [], []
    daemons = [subjects.installed(config)] if config is not None else []
    if not what and config is None:
        if not (Path.cwd() / answers.MAIN).is_file():
            raise NoSubject("this is not a project: name a project, queues, or --config FILE of an installed daemon")
        what = [Path.cwd()]
    for each in what:
        path = Path(each)
        if isinstance(each, str) and is_address(each):
            queues.append(subjects.bare_queue(each))
        elif (path / answers.MAIN).is_file():
            projects.append(path.resolve())
            if subjects.stranger(path.resolve()) is None:
                daemons += subjects.daemons_of(path.resolve())
        else:
            queues.append(subjects.bare_queue(os.path.abspath(path)))
    known = {queue.path for daemon in daemons for queue in daemon.queues() if queue.knows_next}
    for daemon in daemons:
        # The next queue of one may be another's own, who knows more of it.
        queues += [queue for queue in daemon.queues() if queue.knows_next or queue.path not in known]
    return Subjects(tuple(projects), tuple(daemons), tuple(queues), root)


def examine(subjects: Subjects) -> Iterator[Finding]:
    """Everything that is wrong."""
    for project in subjects.projects:
        for name, project_check in PROJECT_CHECKS:
            found = list(_named(name, project_check(project)))
            yield from found
            if found and name == "owner":
                break  # nothing of it is run
    for daemon in subjects.daemons:
        for name, daemon_check in DAEMON_CHECKS:
            yield from _named(name, daemon_check(daemon))
        yield from _named("unit", unit(daemon, subjects.root))
        yield from _named("unit", unit_is_read(daemon, subjects.root))
    for queue in subjects.queues:
        yield from _of_queue(queue)
    for uid in sorted({_uid(queue) for queue in subjects.queues}):
        yield from _named("inotify", inotify(uid))
    if any(not is_address(queue.path) for queue in subjects.queues):
        yield from _named("hard links", hard_links(kernel_protects_hard_links()))
    yield from _named("clock", clock_is_synchronised(kernel_clock()))


def _of_queue(queue: Queue) -> Iterator[Finding]:
    if is_address(queue.path):
        yield from _named("database", database_checks.check(queue.path))
        return
    forbidden = False
    for name, check in QUEUE_CHECKS:
        try:
            found = list(_named(name, check(queue)))
        except PermissionError:
            if not forbidden:
                words = "you may not look there, or not write there, so not all of it was examined"
                yield Finding(queue.path, words, f"sudo {queue.again}", warning=True, check=name)
            forbidden = True
            continue
        yield from found
        if found and name == "queue":
            return  # there is nothing to look at


def _named(check: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    return (dataclasses.replace(finding, check=check) for finding in findings)


def _uid(queue: Queue) -> int:
    return queue.account.uid if queue.account is not None and queue.account.uid != -1 else os.geteuid()


def mend(subjects: Subjects) -> list[Finding]:
    """Put right what is safe to; returns what was. Each queue is put right as whoever works on it. Raises OSError."""
    mended: list[Finding] = []
    for queue in subjects.queues:
        tried: list[Finding] = []
        # What was mended may show what else there is.
        while found := [each for each in _of_queue(queue) if each.fix is not None and each not in tried]:
            for finding in found:
                tried.append(finding)
                with contextlib.suppress(PermissionError, PiperError):  # of which there is another finding
                    # What is missing, and who may do what, is for root to say.
                    _as(None if finding.check in ("queue", "owner and mode") else queue.account, finding)
                    mended.append(finding)
    return mended


def _as(account: Identity | None, finding: Finding) -> None:
    """Do it as that account, where we are root: what recovery writes has to belong to it."""
    assert finding.fix is not None
    if account is None or os.geteuid() != 0 or account.uid in (-1, 0):
        finding.fix()
        return
    child = os.fork()
    if child == 0:
        status = 1
        try:
            account.become()
            finding.fix()
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise PermissionError(f"{finding.where}: could not be mended as uid {account.uid}")
