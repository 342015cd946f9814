"""Every crash point of every operation on a queue: no message is lost, torn or, within a file system, doubled.

Each operation is run in a process of its own and ended by SIGKILL before each system call with which it changes a
file, a name or a lock, in turn; then the queue is recovered and the books are checked. The same walk is done with
calls that fail, reading ones included: once with EIO and a process that dies of it (at every third call; at all of them
with make test-all), and once with ENOSPC, or EIO where a call needs no room, and a process that lives on and calls the
operation again.

Short writes are not injected: a kernel that says "3 bytes written" and has written none would prove nothing. Instead
a file size limit (RLIMIT_FSIZE) makes write(2) take a part of the data and then fail, as a full disk does, and in
another run each write(2) takes three bytes only.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

import piperkit
import summary
from checkout import ALL
from needs import need
from piperkit import crashwalk
from piperkit.crashwalk import Point
from piperkit.dirq import DirectoryQueue, fs, instances, layout, records
from piperkit.dirq.fs import Directory
from piperkit.dirq.litter import LITTER_AGE
from piperkit.dirq.reading import ASIDE, Notices
from piperkit.message import Failure
from piperkit.operating import HOLDING

CHILD = Path(__file__).with_name("crash_child.py")
RUNTIME = Path(piperkit.__file__).parent.parent
MARK, END = "/crash-walk-begins-here", "/crash-walk-ends-here"
OLD = b"old " * 1500 + b"end"  # as in the child
NEW = b"new " * 2500 + b"end"
LABELS = {OLD: "old", NEW: "new", b"beside": "beside"}

#: The first message is the one that operations work with; the second only stands beside it.
FIRST, SECOND = "1790000000.000000001.1.host", "1790000000.000000002.1.host"
ARRIVED = 1_700_000_000_123_456_789
FUTURE = 3_000_000_000_000_000_000
NOBODY = 65534

#: Says what cannot be read, and moves it aside.
NOTICES = Notices(logging.getLogger("piperkit"))

#: Which message is where: its name ("new" for one made by the operation), and then "QUEUE/PART CONTENTS".
Books = dict[str, set[str]]

#: Calls that need room on the disk. unlink(2) does on file systems that copy on write.
NEED_ROOM = ("mkdir", "rename", "link", "unlink", "write", "pwrite", "fsync")


def error_at(point: Point) -> str:
    """What the call at this point would fail with: EIO for those that only read, or need no room."""
    return "ENOSPC" if point.call.startswith(NEED_ROOM) or "O_CREAT" in point.line else "EIO"


@dataclass(frozen=True)
class Scenario:
    """An operation, and where its message may be afterwards."""

    operation: str
    after: Books  #: what differs from `before` when it has succeeded
    options: tuple[str, ...] = ()
    before: Books = field(default_factory=dict)  #: what differs from two messages in `in/incoming`
    prepare: Callable[[Path, Path], None] | None = None
    twice: bool = False  #: a crash may leave the message in both places
    part: bool = False  #: it is about several messages, of which a crash may leave some done
    later: bool = False  #: after an error it may take another look, later, to get it done
    crashes: int | None = None  #: deaths that its record has to hold; None: at most one
    root: bool = False  #: only root can do it

    @property
    def begun(self) -> Books:
        return {FIRST: {"in/incoming old"}, SECOND: {"in/incoming beside"}} | self.before

    @property
    def done(self) -> Books:
        return {name: places for name, places in (self.begun | self.after).items() if places}

    def allows(self, books: Books) -> bool:
        """Whether each message is where it was, or where it was to go."""
        for name in books.keys() | self.begun.keys() | self.done.keys():
            begun, done = self.begun.get(name, set()), self.done.get(name, set())
            if self.part and begun <= books.get(name, set()) <= done:
                continue
            if books.get(name, set()) not in ([begun, done, begun | done] if self.twice else [begun, done]):
                return False
        return True


class Children:
    """Programs that do one operation in each run; there is one for each that is wanted at the same time."""

    def __init__(self) -> None:
        self._free: SimpleQueue[crashwalk.Program] = SimpleQueue()
        self._all: list[crashwalk.Program] = []

    @contextlib.contextmanager
    def one(self) -> Iterator[crashwalk.Program]:
        try:
            program = self._free.get_nowait()
        except Empty:
            # Without bytecode files, whose directories the first run of all would make: -I has it ignore the
            # environment.
            program = crashwalk.Program([sys.executable, "-I", "-S", "-B", str(CHILD), str(RUNTIME)])
            self._all.append(program)
        yield program  # one in which something went wrong is not used again
        self._free.put(program)

    def run(self, *arguments: str | Path) -> crashwalk.Run:
        with self.one() as program:
            return program.run(list(map(str, arguments)))

    def close(self) -> None:
        for program in self._all:
            program.close()


CHILDREN = Children()


@pytest.fixture(scope="module", autouse=True)
def children() -> Iterator[None]:
    yield
    CHILDREN.close()


def dead_claim(root: Path, far: Path) -> None:
    """An instance died while it worked on the first message."""
    assert CHILDREN.run(root, far, "die").status == 0


def cut_off(operation: str, call: str, text: str, *options: str) -> Callable[[Path, Path], None]:
    """An instance died before the call of that name in whose line the text stands."""

    def prepare(root: Path, far: Path) -> None:
        rehearsal = root.with_name("rehearsal")
        shutil.copytree(root, rehearsal)
        rehearsal_far = far.with_name("rehearsal")
        shutil.copytree(far, rehearsal_far)
        with CHILDREN.one() as program:
            rehearsed = [str(rehearsal), str(rehearsal_far), operation, *options]
            points = program.crash_points(rehearsed, rehearsal, rehearsal_far, since=MARK)
            [point] = [point for point in points if point.call.startswith(call) and text in point.line]
            assert program.run_killed([str(root), str(far), operation, *options], point).killed

    return prepare


def deferred(root: Path, far: Path) -> None:
    """The first message has failed and is due again."""
    with DirectoryQueue(root / "in") as queue:
        queue.retry(queue.claim()[0].id, 0, Failure("once"))


def deferred_by_a_wrong_clock(root: Path, far: Path) -> None:
    """The same, by a clock that was years ahead."""
    deferred(root, far)
    os.utime(root / "in/state" / FIRST, ns=(FUTURE, FUTURE + 1))


def foreign(root: Path, far: Path) -> None:
    """The first message belongs to another account."""
    os.chown(root / "in/incoming" / FIRST, NOBODY, NOBODY)


def unreadable(root: Path, far: Path) -> None:
    """An instance died, and the record of its message makes no sense, nor does what is in `errors`."""
    dead_claim(root, far)
    (root / "in/state" / FIRST).write_text("[" * 100_000)
    (root / "in/errors/.sidecar.meta").write_text("[" * 100_000)


def unreadable_record(root: Path, far: Path) -> None:
    """The first message's record makes no sense."""
    (root / "in/state" / FIRST).write_text('{"attempts": -1}')


def linked(scenario: Scenario) -> Scenario:
    """The same where rename cannot refuse to replace: link(2) and unlink(2) stand for it, as on NFS."""
    return Scenario(**{**vars(scenario), "options": (*scenario.options, "links")})


ENQUEUE = Scenario("enqueue", {"new": {"in/incoming new"}})
CLAIM = Scenario("claim", {}, ("cold",))
COMMIT = Scenario("commit", {FIRST: {"next/incoming old"}})
COMMIT_CHANGED = Scenario("commit_changed", {FIRST: {"next/incoming new"}}, ("cold",))
GONE: set[str] = set()

SCENARIOS = {
    "make a queue": Scenario("make", {}),
    "enqueue": ENQUEUE,
    "enqueue together": Scenario("enqueue_many", {"new": {"in/incoming new", "in/incoming new, once more"}}, part=True),
    "enqueue a file": Scenario("enqueue_file", {"named": {"in/incoming new"}}),
    "claim": CLAIM,
    "claim what is due again": Scenario(
        "claim", {FIRST: {"in/incoming old"}}, (), {FIRST: {"in/deferred old"}}, deferred, later=True
    ),
    "claim what a wrong clock put off": Scenario(
        "claim",
        {FIRST: {"in/incoming old"}},
        (),
        {FIRST: {"in/deferred old"}},
        deferred_by_a_wrong_clock,
        later=True,
    ),
    "claim and seal": Scenario(
        "claim",
        {FIRST: {"in/incoming old, its mode 640"}, SECOND: {"in/incoming beside, its mode 640"}},
        ("seal",),
        {FIRST: {"in/incoming old, of uid 65534"}},
        foreign,
        later=True,
        root=True,
    ),
    "claim on a full disk": Scenario("claim", {}, ("limit=0",)),
    "claim with an unreadable record": Scenario("claim", {}, prepare=unreadable_record),
    "work on a full disk": Scenario(
        "work_on_a_full_disk",
        {FIRST: {"next/incoming old"}, SECOND: {"next/incoming beside"}},
        ("limit=0",),
        later=True,
    ),
    "read": Scenario("read", {}),
    "close": Scenario("close", {}),
    "requeue": Scenario("requeue", {}),
    "update": Scenario("update", {FIRST: {"in/incoming new"}}),
    "commit: delete": Scenario("commit", {FIRST: GONE}, ("next=none",)),
    "commit: move": COMMIT,
    "commit: move what nobody has synced": Scenario("commit", {FIRST: {"next/incoming old"}}, ("unsynced",)),
    "commit: move changed": COMMIT_CHANGED,
    "commit: move far": Scenario("commit", {FIRST: {"far/incoming old"}}, ("next=far",), twice=True),
    "commit: move changed far": Scenario("commit_changed", {FIRST: {"far/incoming new"}}, ("next=far",)),
    "cancel": Scenario("cancel", {FIRST: GONE}),
    "banish": Scenario("banish", {FIRST: {"in/errors old"}}),
    "retry": Scenario("retry", {FIRST: {"in/deferred old"}}),
    "dispatch": Scenario("dispatch", {FIRST: {"other/incoming old"}}),
    "dispatch changed": Scenario("dispatch_changed", {FIRST: {"other/incoming new"}}),
    "dispatch changed far": Scenario("dispatch_far_changed", {FIRST: {"far/incoming new"}}),
    "duplicate": Scenario("duplicate", {FIRST: {"in/incoming old", "other/incoming old"}}),
    "duplicate far": Scenario("duplicate_far", {FIRST: {"in/incoming old", "far/incoming old"}}),
    "batch": Scenario("batch", {FIRST: {"next/incoming new"}, SECOND: {"next/incoming beside"}}),
    "recover a claim": Scenario("recover", {}, ("cold",), prepare=dead_claim, crashes=1),
    "recover a claim at a time": Scenario("recover", {}, ("few",), prepare=dead_claim, crashes=1),
    "recover what is unreadable": Scenario("recover", {}, prepare=unreadable, crashes=1),
    "recover a claim, for the last time": Scenario(
        "recover", {FIRST: {"in/errors old"}}, ("crash_limit=1",), {FIRST: {"in/errors old"}}, dead_claim
    ),
    "recover a change": Scenario(
        "recover",
        {FIRST: {"next/incoming new"}},
        before={FIRST: {"next/incoming new"}},
        prepare=cut_off("commit_changed", "unlink", "/pending>"),
    ),
    "recover a change that is on its way": Scenario(
        "recover",
        {FIRST: {"next/incoming new"}},
        before={FIRST: {"next/incoming new"}},
        prepare=cut_off("commit_changed", "rename", "/next/incoming>"),
    ),
    "recover a dispatch": Scenario(
        "recover",
        {FIRST: {"other/incoming new"}},
        before={FIRST: {"other/incoming new"}},
        prepare=cut_off("dispatch_changed", "unlink", "/pending>"),
    ),
    "recover a far change": Scenario(
        "recover",
        {FIRST: {"far/incoming new"}},
        ("next=far",),
        {FIRST: {"far/incoming new"}},
        cut_off("commit_changed", "unlink", "/outgoing>", "next=far"),
    ),
    "recover a banishment": Scenario("recover", {}, prepare=cut_off("banish", "rename", '/pending>, "1')),
    "recover litter": Scenario("recover", {}, prepare=cut_off("enqueue", "fchmod", "/tmp/")),
    "linked: enqueue": linked(ENQUEUE),
    "linked: claim": linked(CLAIM),
    "linked: move": linked(COMMIT),
    "linked: move changed": linked(COMMIT_CHANGED),
}


class Walk:
    """Runs one scenario as often as it takes, each time from a fresh copy of its beginning."""

    QUEUES = ("in", "next", "other")

    def __init__(self, scenario: Scenario, near: Path, far: Path) -> None:
        self.scenario = scenario
        self._near, self._far = near, far
        self._numbers = itertools.count(1)
        self._root, self._far_queue = near / "begin", far / "begin"
        for queue in (*(self._root / name for name in self.QUEUES), self._far_queue):
            DirectoryQueue(queue).close()
        (self._root / "file").write_bytes(NEW)
        with DirectoryQueue(self._root / "in") as queue:
            for name, contents in ((FIRST, OLD), (SECOND, b"beside")):
                queue.enqueue(contents, name)
                os.utime(self._root / "in/incoming" / name, ns=(ARRIVED, ARRIVED))
        if scenario.prepare is not None:
            scenario.prepare(self._root, self._far_queue)
        self._records = {path.name: path.stat() for path in (self._root / "in/state").iterdir()}

    def fresh(self) -> tuple[Path, Path]:
        """Copies of what there is at the beginning."""
        number = str(next(self._numbers))
        root, far = self._near / number, self._far / number
        shutil.copytree(self._root, root)
        shutil.copytree(self._far_queue, far)
        for message in (self._root / "in/incoming").iterdir() if self.scenario.root else ():
            os.chown(root / "in/incoming" / message.name, message.stat().st_uid, message.stat().st_gid)
        for record in (root / "in/state").iterdir():  # one may name the queue that a message was dispatched to
            stat = self._records[record.name]  # as it was before it was read for the first copy
            record.write_bytes(record.read_bytes().replace(os.fsencode(self._root), os.fsencode(root)))
            os.utime(record, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return root, far

    def remove(self, root: Path, far: Path) -> None:
        """Only where all was well: what failed is left to be looked at."""
        shutil.rmtree(root)
        shutil.rmtree(far)

    def arguments(self, root: Path, far: Path, *options: str) -> list[str]:
        return [str(root), str(far), self.scenario.operation, *self.scenario.options, *options]

    def points(self, *, reads: bool) -> list[Point]:
        root, far = self.fresh()
        with CHILDREN.one() as program:
            points = program.crash_points(self.arguments(root, far), root, far, since=MARK, reads=reads)
        self.check_done(root, far, "nothing at all")
        self.remove(root, far)
        end = next(number for number, point in enumerate(points) if END in point.line)
        return points[:end] if reads else points[: end + 1]

    # -- what is done at a point -----------------------------------------------------------------------------

    def kill(self, point: Point) -> None:
        root, far = self.fresh()
        with CHILDREN.one() as program:
            run = program.run_killed(self.arguments(root, far), point)
        assert run.killed, f"it never came to {point}: {run}"
        self.check_recovered(root, far, f"killed at {point}")

    def give_up(self, point: Point) -> None:
        root, far = self.fresh()
        with CHILDREN.one() as program:
            run = program.run_failing(self.arguments(root, far, "give-up"), point, "EIO")
        assert run.status == 0, f"EIO at {point}: {run.errors}"
        self.check_recovered(root, far, f"died of EIO at {point}")

    def go_on(self, point: Point, error: str) -> None:
        root, far = self.fresh()
        with CHILDREN.one() as program:
            run = program.run_failing(self.arguments(root, far), point, error)
        assert run.status == 0, f"{error} at {point}: {run.errors}"
        said = json.loads(run.output)
        assert not said["leaked"], f"{error} at {point}: {run.output}"
        # An error that is not raised is one while something is tidied up or given back, which recovery completes; nor
        # can a temporary file be removed when that is the call that fails.
        tidy = bool(said["failures"]) and not point.call.startswith("unlink")
        self.check_done(root, far, f"{error} at {point}", tidy=tidy, left=said["left"])
        self.remove(root, far)

    def short_writes(self, option: str) -> None:
        root, far = self.fresh()
        run = CHILDREN.run(*self.arguments(root, far, option))
        assert run.status == 0, f"{option}: {run.errors}"
        assert not json.loads(run.output)["leaked"], f"{option}: {run.output}"
        self.check_done(root, far, option)
        self.remove(root, far)

    # -- the books -------------------------------------------------------------------------------------------

    def check_done(self, root: Path, far: Path, what: str, *, tidy: bool = True, left: bool = False) -> None:
        """The operation has succeeded: all is where it was to go, before anything is recovered.

        left: but for a message that could not be read, and was left alone.
        """
        if tidy:
            self.check_books(root, far, what, left)
        self.recover(root, far, what)
        self.check_books(root, far, f"{what} and recovery", left)

    def check_books(self, root: Path, far: Path, what: str, left: bool) -> None:
        found = books(root, far)
        done = self.scenario.allows(found) if self.scenario.later or left else found == self.scenario.done
        assert done, f"after {what}: {found}, in {root}"
        self.check_tidy(root, far, what)

    def check_recovered(self, root: Path, far: Path, what: str) -> None:
        self.recover(root, far, what)
        found = books(root, far)
        assert self.scenario.allows(found), f"{what}: {found}, in {root}"
        self.check_tidy(root, far, what)
        self.remove(root, far)

    def recover(self, root: Path, far: Path, what: str) -> None:
        settings = dict(option.split("=") for option in self.scenario.options if "=" in option)
        next_queue = {"none": None, "far": far}.get(settings.get("next", ""), root / "next")
        for path in (*(root / name for name in self.QUEUES), far):
            with DirectoryQueue(
                path,
                next_queue=next_queue if path.name == "in" else None,
                orphan_age=0,
                crash_limit=int(settings.get("crash_limit", 3)),
                min_free=0,
            ) as queue:
                queue.recover()
                assert not queue.recover(), f"{what}: recovery found something twice, in {path}"
            complete = list((path / "tmp").iterdir())
            if complete:  # but for its name: it might be a producer's, and has its time
                modes = [file.stat().st_mode & 0o7777 for file in complete]
                assert fs.UNFINISHED not in modes, f"{what}: litter in {path / 'tmp'}"
                with DirectoryQueue(path, clock=lambda: time.time_ns() + int(LITTER_AGE * 1e9)) as queue:
                    queue.recover()

    def check_tidy(self, root: Path, far: Path, what: str) -> None:
        """Nothing is left that is of no use, and the records say what happened."""
        for path in (*(root / name for name in self.QUEUES), far):
            for part in ("tmp", "pending", "outgoing", "instances"):
                left = set(os.listdir(path / part)) - {instances.RECOVERY}
                assert not left, f"{what}: litter in {path / part}: {left}"
            state, errors = (
                {name for name in os.listdir(path / part) if not name.startswith(ASIDE)} for part in ("state", "errors")
            )
            for name in state:
                owners = [part for part in ("incoming", "deferred") if (path / part / name).exists()]
                assert owners, f"{what}: litter in {path / 'state'}: {name}"
                arrived = (path / owners[0] / name).stat().st_mtime_ns
                record = records.load(Directory(str(path / "state")), name, arrived, NOTICES)
                assert record.attempts <= 2, f"{what}: {record}"
                assert record.crashes <= 1, f"{what}: one death was counted twice: {record}"
            banished = layout.message_names(str(path), "errors")
            assert errors == banished | {f"{name}.meta" for name in banished}, what
            for name in banished:
                assert json.loads((path / "errors" / f"{name}.meta").read_text())["reason"], what
        if self.scenario.crashes is not None:
            record = records.load(Directory(str(root / "in/state")), FIRST, ARRIVED, NOTICES)
            assert record.crashes == self.scenario.crashes, f"{what}: {record}"
        if (root / "made").exists():
            DirectoryQueue(root / "made/queue").close()
            modes = {"..": 0o755, "": 0o755, "tmp": 0o3770, "incoming": 0o3770}
            for part in ("..", "", *layout.PARTS):
                mode = (root / "made/queue" / part).stat().st_mode & 0o7777
                assert mode == modes.get(part, 0o700), f"{what}: {part or 'the queue'} has mode {mode:o}"


def books(root: Path, far: Path) -> Books:
    """Which message is where, with what contents."""
    found: Books = {}
    for queue in (*(root / name for name in Walk.QUEUES), far):
        for part in HOLDING:
            for name in layout.message_names(str(queue), part):
                path = queue / part / name
                contents = path.read_bytes()
                place = f"{'far' if queue == far else queue.name}/{part} {LABELS.get(contents, contents)}"
                if name in (FIRST, SECOND):
                    if path.stat().st_mtime_ns != ARRIVED:
                        place += ", its arrival forgotten"
                elif name != "named":
                    name = "new"
                if path.stat().st_mode & 0o7777 != 0o660:
                    place += f", its mode {path.stat().st_mode & 0o7777:o}"
                if path.stat().st_uid != os.geteuid():
                    place += f", of uid {path.stat().st_uid}"
                if place in found.setdefault(name, set()):
                    place += ", once more"
                found[name].add(place)
    return found


@pytest.fixture(scope="module")
def far_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory on another file system than `tmp_path`."""
    here = tmp_path_factory.getbasetemp().stat().st_dev
    others = [path for path in ("/dev/shm", "/tmp", "/var/tmp", os.path.expanduser("~")) if os.access(path, os.W_OK)]
    found = next((path for path in others if os.stat(path).st_dev != here), None)
    need("shm", found is not None, "two file systems to write to, such as /tmp and /dev/shm")
    with tempfile.TemporaryDirectory(dir=found) as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def visited() -> Iterator[Counter[str]]:
    """Counts the points that were visited, and says so at the end."""
    counts: Counter[str] = Counter()
    yield counts
    if counts:
        summary.add(
            f"crash points: {counts['killed']} kills, {counts['failed']} failed calls, {counts['short']} short writes"
            f" in {counts['scenarios']} operations: 0 lost, 0 torn, 0 doubled, 0 descriptors leaked"
        )


def side_by_side(jobs: list[tuple[Callable[..., None], tuple[object, ...]]]) -> None:
    """Do all the jobs, a few at a time, and then fail with all that went wrong."""
    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        errors = [future.exception() for future in [pool.submit(job, *arguments) for job, arguments in jobs]]
    wrong = [str(error) or repr(error) for error in errors if error is not None]
    assert not wrong, f"{len(wrong)} of {len(jobs)} went wrong:\n" + "\n\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("title", SCENARIOS)
def test_operation_is_undone_or_finished_wherever_it_is_cut_off(
    title: str, tmp_path: Path, far_root: Path, visited: Counter[str]
) -> None:
    need("strace", crashwalk.available(), "strace, and leave to trace")
    need("root", os.geteuid() == 0 or not SCENARIOS[title].root, "root, to give a message to another account")
    walk = Walk(SCENARIOS[title], tmp_path, far_root / title)
    kills = walk.points(reads=False)
    calls = walk.points(reads=True)
    ends = calls if ALL else calls[len(title) % 3 :: 3]  # what ends at an error is much as if it had been killed
    assert len(kills) >= 2, kills
    side_by_side(
        [(walk.kill, (point,)) for point in kills]
        + [(walk.give_up, (point,)) for point in ends]
        + [(walk.go_on, (point, error_at(point))) for point in calls]
    )
    visited["scenarios"] += 1
    visited["killed"] += len(kills)
    visited["failed"] += len(ends) + len(calls)


#: Operations that write, and after how many bytes their files are to stop growing.
LIMITS = (0, 1, 4096, len(OLD) - 1, len(NEW) - 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "title",
    [
        *("enqueue", "enqueue a file", "update", "commit: move changed", "commit: move far", "banish", "retry"),
        *("dispatch changed", "dispatch changed far", "duplicate", "recover a claim", "recover a far change"),
    ],
)
def test_write_that_takes_only_a_part_is_completed_or_undone(
    title: str, tmp_path: Path, far_root: Path, visited: Counter[str]
) -> None:
    need("strace", SCENARIOS[title].prepare is None or crashwalk.available(), "strace, and leave to trace")
    walk = Walk(SCENARIOS[title], tmp_path, far_root / f"short {title}")
    options = ["drip", *(f"limit={limit}" for limit in LIMITS)]
    side_by_side([(walk.short_writes, (option,)) for option in options])
    visited["short"] += len(options)


@pytest.mark.slow
def test_enough_points_were_visited(visited: Counter[str]) -> None:
    """Last in this file: a walk that finds hardly anything to visit proves nothing."""
    need("strace", crashwalk.available(), "strace, and leave to trace")
    if visited["scenarios"] != len(SCENARIOS):
        pytest.skip("only a part of the walk was run")
    assert visited["killed"] >= 300, visited
    assert visited["failed"] >= 800, visited
