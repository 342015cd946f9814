"""Following files: every line once, whatever rotates them, and whoever reads them is doing meanwhile."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import disks
from needs import need
from piperkit.sources.finding import advice, family
from piperkit.sources.follow import Follower
from piperkit.sources.positions import NoPosition
from piperkit.sources.tail import Text

PLENTY = 10_000


class Log:
    """Files that are written and rotated, and whoever follows them. Lines are numbers, so that none can be missed."""

    def __init__(self, directory: Path, name: str = "app.log") -> None:
        self.directory = directory
        self.path = directory / name
        self.pattern = str(self.path)
        self.said: list[str] = []
        self.lines: list[bytes] = []
        self.written = 0
        self.passed = 0.0  #: seconds
        self.options: dict[str, object] = {}
        self.follower: Follower | None = None

    def open(self) -> None:
        self.follower = Follower(
            self.pattern,
            self.directory / "position" / "file",
            Text(**{"encoding": "utf-8", "line_max": 1000, **self.options.get("text", {})}),  # type: ignore[dict-item]
            say=self.said.append,
            clock=lambda: time.time() + self.passed,
            monotonic=lambda: time.monotonic() + self.passed,
            **{key: value for key, value in self.options.items() if key != "text"},  # type: ignore[arg-type]
        )
        (self.directory / "position").mkdir(exist_ok=True)
        self.follower.open()

    def close(self) -> None:
        if self.follower is not None:
            self.follower.close()
        self.follower = None

    def write(self, number: int = 3, path: Path | None = None) -> None:
        """Append lines."""
        with open(path or self.path, "a", encoding="ascii") as file:
            for _ in range(number):
                self.written += 1
                file.write(f"line {self.written}\n")

    def read(self) -> list[bytes]:
        """What there is to read; it is remembered."""
        if self.follower is None:
            self.open()
        assert self.follower is not None
        found: list[bytes] = []
        while more := self.follower.fetch(PLENTY):
            found += more
        self.follower.remember()
        self.lines += found
        return found

    def pass_time(self) -> None:
        self.passed += 3600

    def numbers(self) -> list[int]:
        return [int(line.split()[1]) for line in self.lines]


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """A file system of a kind, made when it is first asked for."""
    made: dict[str, disks.Disk] = {}

    def mount(kind: str) -> Path:
        if kind not in made:
            made[kind] = disks.Disk(kind, tmp_path_factory.mktemp("disks"))
        return made[kind].path

    yield mount
    for disk in made.values():
        disk.remove()


@contextlib.contextmanager
def overlay(lower: Path, directory: Path) -> Iterator[Path]:
    """A directory that shows what is in `lower`, and keeps changes elsewhere, as a container does."""
    need("root", os.geteuid() == 0, "root, to mount an overlay")
    disk = directory / "overlay"
    disk.mkdir()
    for kind, target, options in (
        ("tmpfs", disk, "size=64m"),
        ("overlay", disk / "merged", f"lowerdir={lower},upperdir={disk}/upper,workdir={disk}/work"),
    ):
        done = subprocess.run(["mount", "-t", kind, "-o", options, kind, target], check=False, capture_output=True)
        need("mount", done.returncode == 0, "permission to mount an overlay")
        for name in ("upper", "work", "merged") if kind == "tmpfs" else ():
            (disk / name).mkdir()
    try:
        yield disk / "merged"
    finally:
        subprocess.run(["umount", disk / "merged", disk], check=True)


@pytest.fixture(params=["disk", "tmpfs", "xfs", "btrfs", "overlay"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    match request.param:
        case "disk":
            yield tmp_path
        case "tmpfs":
            yield request.getfixturevalue("elsewhere")
        case "overlay":
            (tmp_path / "lower").mkdir()
            with overlay(tmp_path / "lower", tmp_path) as merged:
                yield merged
        case kind:
            need("powercut", disks.can_mount(kind), "root, loop devices, xfsprogs and btrfs-progs")
            yield Path(tempfile.mkdtemp(dir=request.getfixturevalue("mounted")(kind)))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path)
    yield log
    log.close()


# -- rotations -------------------------------------------------------------------------------------------------------


def shift(log: Log) -> None:
    """Make room for app.log.1, as logrotate does."""
    for number in range(8, 0, -1):
        for suffix in ("", ".gz"):
            old = log.directory / f"{log.path.name}.{number}{suffix}"
            if old.exists():
                old.rename(log.directory / f"{log.path.name}.{number + 1}{suffix}")


def rename(log: Log) -> None:
    shift(log)
    log.path.rename(f"{log.path}.1")


def rename_and_create(log: Log) -> None:
    rename(log)
    log.path.touch()


def rename_with_date(log: Log) -> None:
    log.path.rename(f"{log.path}-202611{log.written:02}")


def rename_before_suffix(log: Log) -> None:
    log.path.rename(log.directory / f"app.{log.written}.log")


def copy_and_truncate(log: Log) -> None:
    shift(log)
    shutil.copy(log.path, f"{log.path}.1")
    os.truncate(log.path, 0)


def copy_and_truncate_and_grow(log: Log) -> None:
    copy_and_truncate(log)
    log.write(40)  # past the place where reading was


def compress(log: Log) -> None:
    rename(log)
    packed = Path(f"{log.path}.1.gz")
    packed.write_bytes(gzip.compress(Path(f"{log.path}.1").read_bytes()))
    shutil.copystat(f"{log.path}.1", packed)
    os.unlink(f"{log.path}.1")


def remove_after_it_was_moved_on(log: Log) -> None:
    """The oldest goes, as `rotate 3` has it; it was read long ago."""
    rename(log)
    Path(f"{log.path}.4").unlink(missing_ok=True)


ROTATIONS = {
    each.__name__: each
    for each in (
        rename,
        rename_and_create,
        rename_with_date,
        rename_before_suffix,
        copy_and_truncate,
        copy_and_truncate_and_grow,
        compress,
        remove_after_it_was_moved_on,
    )
}


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("state", ["running", "paused", "stopped"])
@pytest.mark.parametrize("rotate", ROTATIONS.values(), ids=ROTATIONS)
@pytest.mark.slow
def test_every_line_is_read_once_through_rotations(
    place: Path, rotate: Callable[[Log], None], state: str, times: int
) -> None:
    """running: it looks between all steps. paused: it does not look, while the file is rotated so many times.

    stopped: nor are its files open then.
    """
    log = Log(place)
    log.write()
    log.read()
    for _ in range(2):
        log.write()  # not read yet when the file is rotated
        if state == "running":
            log.read()
        if state == "stopped":
            log.close()
        for _ in range(times):
            rotate(log)
            if state == "running":
                log.read()
            log.write()
        log.read()
        log.read()
    log.pass_time()
    log.read()
    log.close()
    assert log.numbers() == list(range(1, log.written + 1))
    assert log.said == []


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize("rotate", [None, *ROTATIONS.values()], ids=["no rotation", *ROTATIONS])
def test_file_of_an_image_is_read_on_when_it_is_written_to(
    tmp_path: Path, rotate: Callable[[Log], None] | None, state: str
) -> None:
    """Then an overlay copies it, so that it is another file, with a number of its own."""
    (tmp_path / "lower").mkdir()
    below = Log(tmp_path / "lower")
    below.write()
    with overlay(below.directory, tmp_path) as merged:
        log = Log(merged)
        log.written = below.written
        log.read()
        for _ in range(2):
            if state == "stopped":
                log.close()
            log.write()
            if rotate is not None:
                rotate(log)
                log.write()
            log.read()
        log.pass_time()
        log.read()
        log.close()
        assert log.numbers() == list(range(1, log.written + 1))
        assert log.said == []


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_link_that_is_moved_to_the_next_file_is_followed(log: Log, state: str) -> None:
    for number in range(1, 5):
        path = log.directory / f"app-2026110{number}.log"
        log.write(path=path)
        new = log.directory / "new"
        new.symlink_to(path.name)
        new.rename(log.path)
        if number != 3:
            log.read()
            log.write(path=path)
            if state == "stopped":
                log.close()
    log.read()
    assert log.numbers() == list(range(1, log.written + 1))


def test_rotated_file_is_read_while_its_writer_goes_on(log: Log) -> None:
    log.write()
    log.read()
    rename(log)
    old = Path(f"{log.path}.1")
    log.write(path=old)
    log.write()
    log.read()
    log.write(path=old)
    log.read()
    log.pass_time()
    log.read()
    log.write(path=old)  # after the time of grace, too, since it has its place
    log.read()
    assert sorted(log.numbers()) == list(range(1, log.written + 1))


def test_end_without_a_newline_is_a_line_when_the_file_has_been_rotated_and_rests(log: Log) -> None:
    log.write()
    with open(log.path, "a", encoding="ascii") as file:
        file.write("line 4")
        file.flush()
        log.read()
        rename_and_create(log)
        assert log.read() == []
        file.write("2\n")
        file.flush()
        assert log.read() == [b"line 42"]
        file.write("line 43")
    assert log.read() == []
    log.pass_time()
    assert log.read() == [b"line 43"]
    log.pass_time()
    assert log.read() == []


def test_copy_that_is_being_made_is_not_read(log: Log) -> None:
    """A part of the beginning of a file is there under another name, and then all of it."""
    log.write(100)
    log.read()
    contents = log.path.read_bytes()
    copy = Path(f"{log.path}.1")
    copy.touch()
    log.read()
    copy.write_bytes(contents[:50])
    log.read()
    copy.write_bytes(contents)
    log.read()
    log.pass_time()
    log.read()
    os.truncate(log.path, 0)
    log.write()
    log.read()
    assert log.numbers() == list(range(1, log.written + 1))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
def test_file_that_is_being_compressed_is_not_read_twice(log: Log, pack: Callable[[bytes], bytes]) -> None:
    suffix = {gzip.compress: "gz", bz2.compress: "bz2", lzma.compress: "xz"}[pack]
    log.write()
    log.read()
    rename_and_create(log)
    log.read()
    packed = pack(Path(f"{log.path}.1").read_bytes())
    for part in (packed[:20], packed):
        Path(f"{log.path}.1.{suffix}").write_bytes(part)
        log.read()
    os.unlink(f"{log.path}.1")
    log.pass_time()
    log.read()
    log.write()
    log.read()
    assert log.numbers() == list(range(1, log.written + 1))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
def test_rest_of_a_file_is_found_compressed(log: Log, pack: Callable[[bytes], bytes]) -> None:
    suffix = {gzip.compress: "gz", bz2.compress: "bz2", lzma.compress: "xz"}[pack]
    log.write()
    log.read()
    log.close()
    log.write()
    Path(f"{log.path}.1.{suffix}").write_bytes(pack(log.path.read_bytes()))
    log.path.unlink()
    log.write()
    log.pass_time()
    log.read()
    assert log.numbers() == list(range(1, log.written + 1))


def test_file_that_is_replaced_by_a_copy_of_itself_goes_on(log: Log) -> None:
    """As editors do, and `sed --in-place`."""
    log.write()
    log.read()
    new = log.directory / "new"
    shutil.copy(log.path, new)
    new.rename(log.path)
    log.write()
    log.read()
    log.close()
    shutil.copy(log.path, new)
    new.rename(log.path)
    log.write()
    log.read()
    assert log.numbers() == list(range(1, log.written + 1))


def test_inode_that_another_file_has_now_is_not_taken_for_the_old_one(log: Log) -> None:
    log.write()
    log.read()
    log.close()
    # What a file system that gives out inodes again makes of `rm` and a new file.
    record = json.loads((log.directory / "position" / "file").read_text())
    log.path.unlink()
    log.write(30)
    record["files"][0]["inode"] = log.path.stat().st_ino
    (log.directory / "position" / "file").write_text(json.dumps(record))
    log.read()
    assert log.numbers() == list(range(1, log.written + 1))


def test_old_relatives_are_left_alone_at_the_first_start_and_later(log: Log) -> None:
    old = Path(f"{log.path}.1")
    old.write_text("line 0\n")
    os.utime(old, (1e9, 1e9))
    other = log.directory / "app.log.bak"
    log.write()
    log.read()
    other.write_text("line 0\n")
    log.write()
    log.read()
    log.close()
    log.read()
    assert log.numbers() == list(range(1, log.written + 1))


@pytest.mark.parametrize("name", ["app.log.9", "app-8080.log", "app.2.log", "app-20261127.log"])
def test_log_of_another_program_beside_it_is_left_alone(log: Log, name: str) -> None:
    """Also where its name is like that of a rotation, and it is written to all the time."""
    other = log.directory / name
    other.write_text("line 0\n")
    for _ in range(3):
        log.write()
        log.read()
        with open(other, "a", encoding="ascii") as file:
            file.write("line 0\n")
        log.read()
        log.close()
    rename_and_create(log)
    log.write()
    log.read()
    assert log.numbers() == list(range(1, log.written + 1))


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_files_that_hold_the_same_are_all_read(log: Log, state: str) -> None:
    """As logs without times, of which one begins as the other did."""
    log.pattern = f"{log.directory}/*.log"
    for path in (log.path, log.directory / "b.log", log.directory / "c.log"):
        path.write_text("same\n" * 3)
        log.read()
    assert len(log.lines) == 9
    for times in (1, 2, 3):
        if state == "stopped":
            log.close()
        rename(log)
        log.path.write_text("same\n" * 3)
        log.read()
        with open(log.path, "a", encoding="ascii") as file:
            file.write("same\n")
        log.read()
        assert len(log.lines) == 9 + 4 * times


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_inode_of_an_old_relative_that_the_next_file_is_given_is_no_reason_to_pass_it_by(log: Log, state: str) -> None:
    """As ext4 does it: the oldest is removed, and its inode is that of a file which is rotated before the next look."""
    old = Path(f"{log.path}.1")
    old.write_text("old 0\n")
    log.write()
    log.read()
    if state == "stopped":
        log.close()
    log.path.rename(f"{log.path}.2")
    old.write_text("")  # one file all the time, which stands for two with the same inode
    old.rename(log.path)
    log.write()
    log.path.rename(f"{log.path}.1")
    log.write()
    log.read()
    assert log.numbers() == list(range(1, log.written + 1))


def test_names_of_rotations_belong_to_one_family() -> None:
    names = ["app.log", "app.log.1", "app.log.12.gz", "app.log-20261127", "app.log-20261127.xz", "app-2026-11-27.log"]
    names += ["app.1.log", "app.log.2026-11-27T10:00:00", "app.log.old", "app-20261127-1.log", "app.log.2026-11-27_10"]
    assert {family(name) for name in names} == {"app.log"}
    assert not {
        family(name) for name in ("app2.log", "app-8080.log", "app.log.bak", "other.log", "app.log.1.txt", "app_12.log")
    } & {"app.log"}


# -- what is missing -------------------------------------------------------------------------------------------------


def test_what_cannot_be_found_any_more_is_said_with_name_and_place(log: Log) -> None:
    log.write()
    log.read()
    log.write()
    log.close()
    log.path.unlink()
    log.write()
    log.read()
    log.close()
    assert log.said == [f"{log.path}: what came after byte 21, if there was anything, is not there any more"]
    assert log.numbers() == [1, 2, 3, 7, 8, 9]


def test_file_that_is_cut_short_is_read_anew_and_that_is_said(log: Log) -> None:
    log.write()
    log.read()
    os.truncate(log.path, 0)
    log.write()
    log.read()
    assert log.numbers() == [1, 2, 3, 4, 5, 6]
    assert log.said == [f"{log.path}: what came after byte 21, if there was anything, is not there any more"]


def test_compressed_file_that_cannot_be_read_is_named(log: Log) -> None:
    log.write()
    log.read()
    log.close()
    rename(log)
    os.rename(f"{log.path}.1", f"{log.path}.1.zst")
    Path(f"{log.path}.1.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"x" * 100)
    log.read()
    assert log.said == [
        f"{log.path}: what came after byte 21, if there was anything, is not there any more"
        f" ({log.path}.1.zst may hold it, and cannot be read)"
    ]


def test_file_that_may_not_be_read_is_said_once_and_others_go_on(tmp_path: Path, log: Log) -> None:
    need("root", os.geteuid() == 0, "root, to become another user")
    nobody = pwd.getpwnam("nobody")
    log.pattern = f"{log.directory}/*.log"
    log.write()
    secret = log.directory / "b.log"
    log.write(path=secret)
    secret.chmod(0o640)
    for directory in (log.directory, *log.directory.parents[:3]):
        directory.chmod(0o755)
    (log.directory / "position").mkdir()
    os.chown(log.directory / "position", nobody.pw_uid, -1)
    with become(nobody):
        log.read()
        log.read()
    said = log.said.copy()
    assert log.numbers() == [1, 2, 3]
    assert len(said) == 1
    assert said[0].startswith(f"{secret} cannot be read: Permission denied; the group root may read {secret}: ")
    assert "`adduser nobody root`" in said[0]
    secret.chmod(0o644)
    with become(nobody):
        log.read()
    assert log.numbers() == [1, 2, 3, 4, 5, 6]
    assert log.said == [*said, f"{secret} is read now"]
    (log.directory / "closed").mkdir(mode=0o700)
    with become(nobody):
        assert "setfacl -m u:nobody:rX" in advice(f"{log.directory}/closed/app.log")


@contextlib.contextmanager
def become(account: pwd.struct_passwd) -> Iterator[None]:
    """Have this process be another user for a while."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(account.pw_gid)
    os.seteuid(account.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


# -- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "encoding", "lines"),
    [
        (b"one\r\ntwo\r\n", "utf-8", [b"one", b"two"]),
        (b"\xef\xbb\xbfone\ntwo\n", "utf-8", [b"one", b"two"]),
        (b"one\n\n \t\r\ntwo\n", "utf-8", [b"one", b"two"]),
        (b"caf\xe9\n", "utf-8", [b"caf\xe9"]),  # as it is: what the daemon makes of it is said by `message_format`
        (b"caf\xe9\n", "latin-1", ["café".encode()]),
        ("\ufeffcafé\r\n\u0a0a\u0a0dx\n".encode("utf-16-le"), "utf-16", ["café".encode(), "\u0a0a\u0a0dx".encode()]),
        ("café\nx\n".encode("utf-16-be"), "utf-16-be", ["café".encode(), b"x"]),
        ("\ufeffcafé\nx\n".encode("utf-32-le"), "utf-32", ["café".encode(), b"x"]),
        (b"\xff\n", "ascii", [b"\xff"]),
        (b"\x81\xff\nx\n", "shift_jis", [b"\\x81\\xff", b"x"]),
        (b"one\x0b\x0c\x1c\x85two\n", "utf-8", [b"one\x0b\x0c\x1c\x85two"]),  # no newlines
    ],
)
def test_lines_are_what_the_encoding_says(log: Log, contents: bytes, encoding: str, lines: list[bytes]) -> None:
    log.options["text"] = {"encoding": encoding}
    for end in range(len(contents) + 1):
        log.path.write_bytes(contents[:end]) if not end else log.path.open("ab").write(contents[end - 1 : end])
        log.read()
    assert log.lines == lines


def test_line_that_is_too_long_is_left_out_and_said_and_the_next_one_is_read(log: Log) -> None:
    for part in (
        b"one\n",
        b"x" * 700,
        b"x" * 900,
        b"x" * 3_000_000,
        b"\ntwo\n",
        b"y" * 1000 + b"\n",
        b"z" * 1001 + b"\n",
    ):
        with open(log.path, "ab") as file:
            file.write(part)
        log.read()
    assert log.lines == [b"one", b"two", b"y" * 1000]
    assert log.said == [
        f"{log.path}: a line of 3001600 bytes at byte 4 is longer than line_max, 1000 bytes, and is left out",
        f"{log.path}: a line of 1001 bytes at byte 3002610 is longer than line_max, 1000 bytes, and is left out",
    ]


def test_hole_is_left_out_and_said_and_the_line_after_it_is_read(log: Log) -> None:
    """A writer that does not append goes on at its old place after the file was cut."""
    with open(log.path, "wb", buffering=0) as file:
        file.write(b"line 1\n")
        log.read()
        file.seek(1 << 40)
        file.write(b"line 2\n")
        log.read()
    assert log.numbers() == [1, 2]
    assert log.said == [f"{log.path}: a hole of {(1 << 40) - 7} bytes at byte 7 is left out"]


def test_half_a_line_is_not_read_again_while_nothing_comes(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.options["text"] = {"line_max": 1 << 30}
    log.path.write_bytes(b"x" * 10_000_000)
    log.read()
    read = 0
    pread = os.pread

    def counting(fd: int, size: int, offset: int) -> bytes:
        nonlocal read
        data = pread(fd, size, offset)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", counting)
    for _ in range(10):
        log.read()
    assert read == 0


def test_no_more_is_fetched_than_was_asked_for_and_no_file_waits_for_a_long_one(log: Log) -> None:
    log.pattern = f"{log.directory}/*.log"
    for name in ("a", "b", "c"):
        (log.directory / f"{name}.log").write_text("".join(f"{name} {number}\n" for number in range(1000)))
    log.open()
    assert log.follower is not None
    found = log.follower.fetch(90)
    assert len(found) == 90
    assert {line[:1] for line in found} == {b"a", b"b", b"c"}
    log.read()
    assert len(log.lines) == 3000 - 90


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["app[1].log", "a*b?.log", "ä ö.log", "-x.log", "new\nline.log", "\udcff.log"])
def test_file_of_any_name_is_followed_and_goes_on_after_a_restart(log: Log, name: str) -> None:
    log.path = log.directory / name
    log.pattern = str(log.path)
    log.write()
    log.read()
    log.close()
    log.write()
    log.read()
    rename_and_create(log)
    log.write()
    log.read()
    assert log.numbers() == list(range(1, log.written + 1))


def test_pattern_follows_files_that_come_later(log: Log) -> None:
    log.pattern = f"{log.directory}/**/*.log"
    log.write()
    log.read()
    (log.directory / "sub").mkdir()
    log.write(path=log.directory / "sub" / "b.log")
    (log.directory / "sub" / "dir.log").mkdir()
    log.read()
    log.close()
    log.write()
    log.write(path=log.directory / "sub" / "b.log")
    log.read()
    assert log.numbers() == list(range(1, log.written + 1))


def test_file_that_comes_into_being_later_is_followed(log: Log) -> None:
    assert log.read() == []
    log.write()
    log.read()
    assert log.numbers() == [1, 2, 3]


def test_what_was_there_at_the_first_start_can_be_skipped(log: Log) -> None:
    log.options["from_end"] = True
    log.write()
    assert log.read() == []
    log.write()
    log.read()
    log.close()
    rename_and_create(log)
    log.write()
    log.read()
    assert log.numbers() == [4, 5, 6, 7, 8, 9]


# -- the position ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "1", "[]", "{}", "1 2 3", "[" * 100_000, "\0" * 100,
        '{"version": 2, "looked": 0, "files": [], "others": []}',
        '{"version": 1, "looked": 0, "files": [{"path": 1}], "others": []}',
        '{"version": 1, "looked": "x", "files": [], "others": []}',
        '{"version": 1, "looked": 0, "files": [], "others": [[1]]}',
    ],
)  # fmt: skip
def test_position_that_cannot_be_understood_is_moved_aside_and_all_is_read(log: Log, text: str) -> None:
    position = log.directory / "position" / "file"
    position.parent.mkdir()
    position.write_text(text)
    log.write()
    with pytest.raises(NoPosition, match=r"does not say how far .*; it is .*\.unreadable now"):
        log.open()
    log.read()
    assert log.numbers() == [1, 2, 3]
    assert position.with_name("file.unreadable").read_text() == text
    log.close()
    log.write()
    log.read()
    assert log.numbers() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("rotated", [False, True])
def test_position_of_earlier_templates_is_taken_over(log: Log, rotated: bool) -> None:
    log.write()
    position = log.directory / "position" / "file"
    position.parent.mkdir()
    position.write_text(f"{log.path.stat().st_ino} 14\n")
    if rotated:
        rename_and_create(log)
    log.write()
    log.read()
    log.close()
    log.write()
    log.read()
    assert log.numbers() == [3, 4, 5, 6, 7, 8, 9]


def test_position_is_the_old_one_or_the_new_one(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write()
    log.read()
    log.write()
    before = (log.directory / "position" / "file").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        log.read()
    assert (log.directory / "position" / "file").read_bytes() == before
    monkeypatch.undo()
    log.close()
    log.read()
    assert sorted(set(log.numbers())) == [1, 2, 3, 4, 5, 6]
