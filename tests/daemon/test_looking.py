"""Looking: what tells of arrivals is a help. Whatever is not told is found all the same."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from needs import need
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.watch import Watch
from piperkit.filer.doorbell import Doorbell
from piperkit.testing import Piper
from written import log

Start = Callable[..., "subprocess.Popen[str]"]
Until = Callable[..., None]

#: Looks that come soon: a test that is about what a look does need not wait for it.
SOON = {"piperkit.filer.doorbell.LOOK_INTERVAL": 0.1}
NOT_TOLD = "Arrivals do not wake the daemon"


def rings(watch: Watch) -> bool:
    poll = select.poll()
    poll.register(watch.fileno(), select.POLLIN)
    return bool(poll.poll(0))


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    """A directory with a message in it."""
    directory = tmp_path / "queue" / "incoming"
    directory.mkdir(parents=True)
    (directory / "old").touch(0o600)
    return directory


@pytest.fixture
def watch(incoming: Path) -> Iterator[Watch]:
    found = Watch(str(incoming))
    yield found
    found.close()


def arrive(directory: Path) -> None:
    (directory.parent / "new").touch()
    (directory.parent / "new").rename(directory / "new")


# -- the watch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        arrive,
        lambda incoming: (incoming / "other").touch(),  # by a program that keeps to no protocol
        lambda incoming: (incoming / "old").chmod(0o644),  # a message that could not be read
        lambda incoming: incoming.chmod(0o700),  # or that could not be reached
        shutil.rmtree,
        lambda incoming: incoming.rename(incoming.with_name("elsewhere")),
    ],
    ids=["arrival", "created", "mode of a message", "mode of the directory", "removed", "moved"],
)
def test_watch_tells_of_all_that_may_have_made_a_message_available(
    watch: Watch, incoming: Path, step: Callable[[Path], object]
) -> None:
    assert not rings(watch)
    step(incoming)
    assert rings(watch)
    watch.drain()
    assert not rings(watch)


def test_watch_that_is_renewed_in_its_place_has_lost_nothing(watch: Watch, incoming: Path) -> None:
    arrive(incoming)
    assert watch.renew() is False
    assert rings(watch)


def test_watch_follows_the_path_to_another_directory(watch: Watch, incoming: Path) -> None:
    """Of a queue that is moved away and made anew, nothing is told: it is a directory above that was moved."""
    queue = incoming.parent
    queue.rename(queue.with_name("away"))
    incoming.mkdir(parents=True)
    assert not rings(watch)
    assert watch.renew() is True
    watch.drain()
    arrive(queue.with_name("away") / "incoming")
    assert not rings(watch)
    arrive(incoming)
    assert rings(watch)
    assert watch.renew() is False


def test_watch_of_a_directory_that_is_missing_for_a_while_is_renewed_when_it_is_there(
    watch: Watch, incoming: Path
) -> None:
    shutil.rmtree(incoming)
    watch.drain()
    assert watch.renew() is False
    incoming.mkdir()
    assert watch.renew() is True
    watch.drain()
    arrive(incoming)
    assert rings(watch)


def test_watch_whose_directory_is_removed_and_made_anew_is_renewed_when_that_is_read(
    watch: Watch, incoming: Path
) -> None:
    shutil.rmtree(incoming)
    incoming.mkdir()
    watch.drain()
    watch.drain()
    arrive(incoming)
    assert rings(watch)


# -- whether it is to be believed --------------------------------------------------------------------------------------


def look(bell: Doorbell, meanwhile: Callable[[], object] = lambda: None, found: bool = True) -> bool:
    """A look that finds a message, what happens before the next rest, and that; returns whether it is given up then."""
    bell.renew()
    silent = bell.silent()
    if found:
        bell.found(first_attempts=True, silent=silent)
    meanwhile()
    return bell.gives_up()


def test_watch_that_was_silent_at_two_arrivals_is_given_up_once(watch: Watch) -> None:
    bell = Doorbell(watch)
    assert bell.works
    assert [look(bell, found=found) for found in (True, False, False, True, True)] == [False, False, False, True, False]
    assert not bell.works


def test_watch_that_tells_is_not_given_up(watch: Watch, incoming: Path) -> None:
    bell = Doorbell(watch)
    for number in range(5):
        arrive(incoming)  # it came in the moment of the look
        assert not look(bell)
        watch.drain()
        assert not look(bell, lambda: arrive(incoming))  # it tells a little later
        watch.drain()
        assert not look(bell, bell.ring)  # that was read already
        incoming.rename(incoming.with_name(f"away{number}"))
        incoming.mkdir()  # what is found in another directory is no fault of it
        watch.drain()
        assert not look(bell)
        watch.drain()
    assert bell.works


def test_there_may_be_no_watch() -> None:
    bell = Doorbell()
    assert not bell.works
    assert [look(bell) for _ in range(3)] == [False] * 3


# -- the daemon --------------------------------------------------------------------------------------------------------


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A directory, and where it can be changed without the kernel's telling those who watch it."""
    need("root", os.geteuid() == 0, "root, to mount an overlay")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=False, capture_output=True)
    need("mount", mounted.returncode == 0, "permission to mount a tmpfs")
    parts = {name: disk / name for name in ("lower", "upper", "work", "merged")}
    for part in parts.values():
        part.mkdir()
    options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, parts["merged"]]
    mounted = subprocess.run(command, check=False, capture_output=True)
    try:
        need("mount", mounted.returncode == 0, "permission to mount an overlay")
        yield parts["merged"], parts["upper"]
    finally:
        subprocess.run(["umount", "--lazy", parts["merged"]], check=False, capture_output=True)
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.slow
def test_file_system_that_does_not_tell_is_found_by_trying(
    piper: Piper, overlay: tuple[Path, Path], start: Start, until: Until
) -> None:
    queue, below = (path / "in" for path in overlay)
    DirectoryQueue(queue).close()
    start("upper", f"--queue-in-dir={queue}", "--queue-in-wait=0.05", constants=SOON)
    until(lambda: "The daemon starts" in log(piper), "the start")
    sent = 0

    def send() -> None:
        nonlocal sent
        (below / "tmp" / "x").write_text("x")
        (below / "tmp" / "x").rename(below / "incoming" / f"x{sent}")
        sent += 1
        until(lambda: len(piper.out) == sent, "the message")

    send()  # perhaps before the daemon looks for the first time, when it expects nothing to tell
    while NOT_TOLD not in log(piper):
        assert sent < 10, "the daemon does not see that nothing tells"
        send()
    assert sent >= 2
    send()
    assert log(piper).count(NOT_TOLD) == 1
    assert "it looks every 0.05 s" in log(piper)


@pytest.mark.slow
def test_messages_that_are_told_of_or_come_back_by_themselves_are_no_reason_to_look_often(
    piper: Piper, start: Start, until: Until
) -> None:
    start("upper", "--orphan-age=0", constants=SOON)
    until(lambda: "The daemon starts" in log(piper), "the start")
    for number in range(20):
        piper.put(f"m{number}")
        until(lambda: len(piper.out) == number + 1, "the message")  # noqa: B023  used at once
    piper.put(*["retry 0.01"] * 3)
    until(lambda: len(piper.errors) == 3, "the messages that are tried again and again")
    assert NOT_TOLD not in log(piper)


def move_away(queue: Path) -> None:
    queue.rename(queue.with_name("away"))
    DirectoryQueue(queue).close()


def remake_part(queue: Path) -> None:
    (queue / "incoming").rmdir()
    (queue / "incoming").mkdir()


def mount_over(queue: Path) -> None:
    need("root", os.geteuid() == 0, "root, to mount a tmpfs")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", queue], check=False, capture_output=True)
    need("mount", mounted.returncode == 0, "permission to mount a tmpfs")
    DirectoryQueue(queue).close()


@pytest.mark.parametrize("replace", [move_away, remake_part, mount_over])
@pytest.mark.slow
def test_queue_that_is_made_anew_under_a_daemon_is_found_and_watched(
    piper: Piper, start: Start, until: Until, replace: Callable[[Path], None]
) -> None:
    start("upper", constants=SOON)
    until(lambda: "The daemon starts" in log(piper), "the start")
    piper.put("before")
    until(lambda: piper.out == [b"BEFORE"], "the first message")
    queue = piper.directory / "in"
    replace(queue)
    try:
        with DirectoryQueue(queue) as anew:
            for number in range(5):
                anew.enqueue(f"m{number}")
                until(lambda: len(piper.out) == number + 2, "the message")  # noqa: B023  used at once
    finally:
        if os.path.ismount(queue):
            subprocess.run(["umount", "--lazy", queue], check=True)
    assert NOT_TOLD not in log(piper)


@pytest.mark.slow
def test_queue_that_comes_back_is_watched_again(piper: Piper, start: Start, until: Until) -> None:
    """It looks for it every `queue_in_wait` seconds, and from then on it is woken."""
    wait = {"piperkit.filer.doorbell.LOOK_INTERVAL": 0.5}
    start("upper", "--queue-in-wait=0.05", constants=wait)
    until(
        lambda: "input queue is" in log(piper), "the start: until then the daemon makes the queue where it is missing"
    )
    queue = piper.directory / "in"
    queue.rename(queue.with_name("away"))
    until(lambda: "processing pauses" in log(piper), "the daemon to miss it")
    with DirectoryQueue(queue) as anew:
        for number in range(3):
            anew.enqueue(f"m{number}")
            until(lambda: len(piper.out) == number + 1, "the message")  # noqa: B023  used at once
    assert NOT_TOLD not in log(piper)


def test_queue_that_is_away_when_the_watch_begins_is_watched_from_the_next_look_on(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    with DirectoryQueue(queue) as away:
        queue.rename(tmp_path / "away")
        watch = away.watch()
        assert not watch.renew()
        (tmp_path / "away").rename(queue)
        assert watch.renew()
        arrive(queue / "incoming")
        assert rings(watch)
        watch.close()


def test_directory_that_is_made_after_its_watch_is_watched_from_the_next_look_on(tmp_path: Path) -> None:
    watch = Watch(str(tmp_path / "queue" / "incoming"))
    assert not watch.renew()
    (tmp_path / "queue" / "incoming").mkdir(parents=True)
    assert watch.renew()
    arrive(tmp_path / "queue" / "incoming")
    assert rings(watch)
    watch.close()


def test_message_whose_mode_is_corrected_is_taken_at_once(piper: Piper, start: Start, until: Until) -> None:
    """Long before the next look at the queue."""
    need("root", os.geteuid() == 0, "root, to give files away")
    need("root", shutil.which("setpriv") is not None, "setpriv(1), from util-linux")
    rights = "-dac_override,-dac_read_search,-fowner"
    start(
        "echo",
        by=["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"],
        constants={"piperkit.filer.doorbell.LOOK_INTERVAL": 1e6, "piperkit.filer.component.RECOVER_INTERVAL": 1e6},
    )
    until(lambda: "The daemon starts" in log(piper), "the start")
    message = piper.directory / "in" / "tmp" / "x"
    message.write_text("hello")
    os.chown(message, 65534, 65534)
    message.chmod(0o600)
    message = message.rename(piper.directory / "in" / "incoming" / "x")
    until(lambda: "incoming/x: left alone" in log(piper), "the daemon to say so")
    message.chmod(0o644)
    until(lambda: piper.out == [b"hello"], "the message")
