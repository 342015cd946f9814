"""What `piperctl doctor` examines: projects, the daemons in them or installed, and queues."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from piperkit.daemon.process import Identity
from piperkit.errors import ExitStatus, PiperError

_ANSWER_WAIT = 60.0  # seconds


class NoPatient(PiperError):
    """There is nothing to examine; the text says what to name."""

    exit_status = ExitStatus.NO_INPUT


@dataclasses.dataclass(frozen=True, slots=True)
class Queue:
    """A queue's directory."""

    path: str
    again: str  #: the command that mends what `--fix` can
    account: Identity | None = None  #: who works on it, where that is known
    account_name: str = ""
    perms: int = 0o775
    next_queue: str | None = None
    knows_next: bool = False  #: whether `next_queue` is known: a bare queue does not say
    orphan_age: float = 10.0
    min_free: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon, as it describes itself."""

    name: str
    config_file: str
    facts: dict[str, Any] | None  #: None where it does not answer
    said: str  #: what it says is wrong
    status: int
    project: Path | None
    again: str

    def queues(self) -> list[Queue]:
        """Its queues; none where it does not answer."""
        if self.facts is None:
            return []
        config = self.facts["config"]
        configured = Identity.of(config["user"], config["group"])
        following = self.facts["next_queue"]
        common = {"again": self.again, "account_name": config["user"] or "", "min_free": config["queue_min_free"],
                  "perms": int(config["queue_in_perms"], 8)}  # fmt: skip
        own = Queue(self.facts["queue"], account=configured or owner(self.facts["queue"]), next_queue=following,
                    knows_next=True, orphan_age=config["orphan_age"], **common)  # fmt: skip
        # What becomes of a message in the next queue, only its owner knows.
        return [own] if following is None else [own, Queue(following, account=configured or owner(following), **common)]


def ask(
    name: str, command: list[str], config_file: str, again: str, project: Path | None = None, **more: str
) -> Daemon:
    """Have a daemon describe itself."""
    environment = {**os.environ, **more}
    try:
        done = subprocess.run([*command, "--action", "describe"], env=environment, capture_output=True, text=True,
                              timeout=_ANSWER_WAIT, check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return Daemon(name, config_file, None, str(error), 1, project, again)
    said = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
    try:
        facts = json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        facts, said = None, "its runtime is too old to describe itself"
    return Daemon(name, config_file, facts, said.removeprefix(f"{name}: "), done.returncode, project, again)


def daemons_of(project: Path) -> list[Daemon]:
    """The daemons of a project, in its virtual environment where it has one. Raises NoPatient."""
    try:
        described = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NoPatient(f"{project / 'pyproject.toml'}, which names the daemons, cannot be read: {error}") from error
    python = project / ".venv" / "bin" / "python"
    path = ":".join([str(project / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    found = []
    for name, target in described.get("project", {}).get("scripts", {}).items():
        module, _, function = target.partition(":")
        file = project / "src" / Path(*module.split(".")).with_suffix(".py")
        if not file.is_file() or "PiperDaemon" not in file.read_text(encoding="utf-8"):
            continue
        command = [
            str(python) if python.exists() else sys.executable,
            "-c",
            f"from {module} import {function} as main; main()",
        ]
        again = f"piperctl doctor --fix {shlex.quote(str(project))}"
        found.append(ask(name, command, str(project / "etc" / f"{name}.conf"), again, project, PYTHONPATH=path))
    return found


def installed(config_file: Path) -> Daemon:
    """The installed daemon that a configuration file belongs to, which is called as that is. Raises NoPatient."""
    name = re.sub(r"\.conf$", "", config_file.name)
    command = shutil.which(name)
    if command is None:
        raise NoPatient(f"{config_file}: there is no command {name} to go with it; add its directory to PATH")
    again = f"piperctl doctor --fix --config {shlex.quote(str(config_file))}"
    return ask(name, [command, "--config-file", str(config_file)], str(config_file), again)


def bare_queue(path: str) -> Queue:
    """A queue of which nothing is known but its directory; it is worked on by the directory's owner."""
    return Queue(path, f"piperctl doctor --fix {shlex.quote(path)}", owner(path))


def owner(path: str) -> Identity | None:
    """Whoever a directory belongs to; None where it is not there."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return Identity(found.st_uid, found.st_gid, (found.st_gid,))
