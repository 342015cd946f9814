"""What `piperctl doctor` looks at besides queues: projects, daemons and the machine."""

from __future__ import annotations

import ctypes
import glob
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from piperkit import versions
from piperkit.doctor.finding import Finding
from piperkit.doctor.subjects import Daemon, stranger
from piperkit.errors import ExitStatus
from piperkit.project import answers
from piperkit.project.git import listed, succeeds
from piperkit.project.template_repository import NoTemplate, TemplateRepository, UncommittedTemplate
from piperkit.upgrade.pending import Pending

#: Where systemd looks for units, the first wins: systemd.unit(5).
UNIT_DIRECTORIES = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
_HARD_LINKS = "/proc/sys/fs/protected_hardlinks"
_INOTIFY_LIMIT = "/proc/sys/fs/inotify/max_user_instances"
#: Part of the inotify instances of an account from which on there are few left.
_NEARLY = 0.9
_TIME_ERROR = 5  # adjtimex(2)
_EXEC = re.compile(r"^ExecStart=(/\S+)/bin/", re.MULTILINE)


# -- projects --------------------------------------------------------------------------------------------------------


def owner(project: Path) -> Iterator[Finding]:
    """Root runs nothing of somebody else's, such as its daemons, or git with its settings."""
    who = stranger(project)
    if who is not None:
        words = f"it belongs to {who}, or a part of it does, and root runs nothing of somebody else's"
        yield Finding(str(project), words, f"sudo -u {quote(who)} piperctl doctor {quote(str(project))}")


def upgrade_is_finished(project: Path) -> Iterator[Finding]:
    """No upgrade of the project was left half-way."""
    if not succeeds(project, "rev-parse", "--verify", "--quiet", "HEAD"):
        return
    pending = Pending.load(project)
    where = quote(str(project))
    if pending is not None and not pending.applied:
        command = f"piperctl upgrade --abort {where} && piperctl upgrade {where}"
        yield Finding(str(project), f"the upgrade from {pending.old} to {pending.new} was cut off", command)
    elif pending is not None and not pending.is_gone():
        command = f"piperctl upgrade --finish {where} && git -C {where} commit --message 'Upgrade to {pending.new}'"
        yield Finding(str(project), f"the upgrade from {pending.old} to {pending.new} is not committed", command)


def nothing_is_unsettled(project: Path) -> Iterator[Finding]:
    """No file holds what an update could not merge."""
    if not succeeds(project, "rev-parse", "--git-dir"):
        return
    for name in listed(project, "ls-files", "-z", "--cached", "--others", "--exclude-standard"):
        path = project / name
        if not path.is_file():
            continue
        if name.endswith(".rej"):
            yield Finding(str(path), "an update could not merge it", f"rm {quote(str(path))}  # when it is settled")
        elif any(line.startswith((b"<<<<<<< ", b">>>>>>> ")) for line in path.read_bytes().splitlines()):
            yield Finding(str(path), "it holds conflict markers", f"${{EDITOR:-vi}} {quote(str(path))}")


def one_version(project: Path) -> Iterator[Finding]:
    """All parts of the project are from the same version of the template."""
    try:
        main, *others = answers.load(project)
    except ImportError:
        return  # without the extra `template`, nothing reads them
    for each in others:
        if each.template == main.template and each.version != main.version:
            words = f"it is from {each.version} of the template, and the project from {main.version}"
            yield Finding(str(each.path), words, f"piperctl upgrade {quote(str(project))}")


def template_is_committed(project: Path) -> Iterator[Finding]:
    """What the project was made from is in the template's history; only a checkout can have what is not."""
    try:
        found = [each for each in answers.load(project) if each.version and os.path.isdir(each.template)]
    except ImportError:
        return  # without the extra `template`, nothing reads them
    for each in found:
        try:
            with TemplateRepository(each.template) as source:
                source.origin(each)
        except UncommittedTemplate as error:
            yield Finding(str(each.path), error.problem, error.mend)
        except NoTemplate:
            pass  # it was moved, or replaced by another one; that matters to an upgrade, which says what to do


# -- daemons ---------------------------------------------------------------------------------------------------------


def configuration(daemon: Daemon) -> Iterator[Finding]:
    """The daemon can be started, and its configuration is right."""
    if daemon.facts is not None:
        return
    if daemon.status == ExitStatus.CONFIG:
        named = re.match(r"(/[^:,]+)[:,]", daemon.said)
        file = named[1] if named and os.path.exists(named[1]) else daemon.config_file
        yield Finding(daemon.name, daemon.said, f"${{EDITOR:-vi}} {quote(file)}")
    else:
        yield Finding(daemon.name, f"it cannot be started: {daemon.said}", f"{daemon.name} --action describe")


def template_and_runtime(daemon: Daemon) -> Iterator[Finding]:
    """The runtime that the daemon runs with goes with the template that made it."""
    if daemon.facts is not None and daemon.facts["template"] is not None:
        try:
            versions.check(daemon.facts["template"], daemon.facts["versions"]["piperkit"], daemon.facts["checkout"])
        except versions.VersionMismatch as error:
            yield Finding(daemon.name, error.problem, error.mend)


def unit(daemon: Daemon, root: str) -> Iterator[Finding]:
    """The units that are installed are those of the project."""
    if daemon.project is None:
        return
    for ours in sorted((daemon.project / "systemd").glob(f"{daemon.name}*")):
        if ours.suffix not in (".service", ".target"):
            continue
        for directory in UNIT_DIRECTORIES:
            theirs = Path(f"{root.rstrip('/')}{directory}", ours.name)
            if theirs.is_file():
                text = theirs.read_text(encoding="utf-8")
                prefix = found[1] if (found := _EXEC.search(text)) else "/usr/local"
                if text != _EXEC.sub(f"ExecStart={prefix}/bin/", ours.read_text(encoding="utf-8")):
                    yield Finding(str(theirs), f"it is not as in the project: {ours}",
                                  _install(daemon.project, prefix, directory, root))  # fmt: skip
                break  # the others are not looked at


def unit_is_read(daemon: Daemon, root: str) -> Iterator[Finding]:
    """systemd runs the daemon by the unit as it is now: systemctl(1) calls it NeedDaemonReload."""
    if root != "/" or shutil.which("systemctl") is None:
        return
    name = f"{daemon.name}.service"
    command = ["systemctl", "show", "--property=NeedDaemonReload", "--value", name]
    # Where systemd does not run, it fails, and nothing has been read.
    if subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "yes":
        yield Finding(name, "it has changed since systemd has read it", "systemctl daemon-reload")


def _install(project: Path, prefix: str, directory: str, root: str) -> str:
    """The command that installs the units anew, where they are."""
    where = f"PREFIX={quote(prefix)} UNITS={directory}" + (f" DESTDIR={quote(root)}" if root != "/" else "")
    reload = " && systemctl daemon-reload" if root == "/" else ""
    return f"make -C {quote(str(project))} install-files {where}{reload}"


# -- the machine -----------------------------------------------------------------------------------------------------


def inotify(uid: int) -> Iterator[Finding]:
    """An account may have as many inotify instances as its daemons need: each needs one, or looks now and then only."""
    with open(_INOTIFY_LIMIT, encoding="ascii") as file:
        limit = int(file.read())
    used = 0
    for descriptors in glob.glob("/proc/[0-9]*/fd"):
        try:
            if os.stat(os.path.dirname(descriptors)).st_uid == uid:
                used += sum(_is_inotify(f"{descriptors}/{number}") for number in os.listdir(descriptors))
        except OSError:
            continue  # it has ended, or is not ours to look at
    if used >= limit * _NEARLY:
        words = f"{used} of the {limit} inotify instances that an account may have are in use"
        yield Finding(f"uid {uid}", words, f"sysctl -w fs.inotify.max_user_instances={2 * limit}")


def _is_inotify(descriptor: str) -> bool:
    try:
        return os.readlink(descriptor) == "anon_inode:inotify"
    except FileNotFoundError:
        return False


def kernel_clock() -> int:
    """What adjtimex(2) says of the clock; 5: it is not synchronised."""
    return int(
        ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    )  # struct timex without modes: it only reads


def clock_is_synchronised(state: int) -> Iterator[Finding]:
    """Somebody keeps the clock right; messages that are put off depend on it."""
    if state == _TIME_ERROR:
        yield Finding("the clock", "nothing keeps it right", "timedatectl set-ntp true", warning=True)


def kernel_protects_hard_links() -> bool:
    """fs.protected_hardlinks of proc_sys_fs(5); where that cannot be read, nothing is known against it."""
    try:
        with open(_HARD_LINKS, encoding="ascii") as file:
            return file.read().strip() != "0"
    except OSError:
        return True


def hard_links(protected: bool) -> Iterator[Finding]:
    """Nobody can link a file of somebody else into a queue, and so have a daemon work on what they may not read."""
    if not protected:
        words = "it allows hard links to files of others, also into queues: a daemon takes such a file for a message"
        yield Finding("the kernel", words, "sysctl -w fs.protected_hardlinks=1")


#: The first of them finds whether anything of it may be run.
PROJECT_CHECKS = (
    ("owner", owner),
    ("upgrade", upgrade_is_finished),
    ("conflicts", nothing_is_unsettled),
    ("versions", one_version),
    ("template", template_is_committed),
)
DAEMON_CHECKS = (
    ("configuration", configuration),
    ("versions", template_and_runtime),
)
