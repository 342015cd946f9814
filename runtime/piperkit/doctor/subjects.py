"""What `piperctl doctor` examines: projects, the daemons in them or installed, and queues."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from piperkit.daemon.options import OPTIONS
from piperkit.daemon.process import Identity, account_name
from piperkit.doctor import reading
from piperkit.errors import ConfigError, ExitStatus, PiperError

_ANSWER_WAIT = 60.0  # seconds
#: What a daemon does where nothing is configured.
DEFAULTS: dict[str, Any] = {option.key: option.default for option in OPTIONS}


class NoSubject(PiperError):
    """There is nothing to examine; the text says what to name."""

    exit_status = ExitStatus.NO_INPUT


@dataclasses.dataclass(frozen=True, slots=True)
class Queue:
    """A queue's directory."""

    path: str
    again: str  #: the command that mends what `--fix` can
    account: Identity | None = None  #: who works on it, where that is known
    producer: Identity | None = None  #: who delivers into it, where that is known
    perms: int | None = None  #: as configured, where that is known
    next_queue: str | None = None
    knows_next: bool = False  #: whether `next_queue` is known: a bare queue does not say
    orphan_age: float = DEFAULTS["orphan_age"]
    min_free: int | None = DEFAULTS["queue_min_free"]


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a daemon says of itself: `facts` are those of `--action describe`, None where it could not."""

    facts: dict[str, Any] | None
    wrong: str = ""  #: what it says is wrong
    status: int = ExitStatus.OK


@dataclasses.dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon: an installed one as it describes itself, a project's as its files do."""

    name: str
    config_file: str
    facts: dict[str, Any] | None  #: None where there is no knowing
    said: str  #: what it says is wrong
    status: int
    project: Path | None
    again: str

    def queues(self) -> list[Queue]:
        """Its queues; none where there is no knowing."""
        if self.facts is None:
            return []
        config = self.facts["config"]
        configured = Identity.of(config["user"], config["group"])
        following = self.facts["next_queue"]
        common = {"again": self.again, "min_free": config["queue_min_free"]}
        path = self.facts["queue"]
        own = Queue(path, account=configured or Identity.of_queue(path), next_queue=following, knows_next=True,
                    orphan_age=config["orphan_age"], perms=int(config["queue_in_perms"], 8), **common)  # fmt: skip
        if following is None:
            return [own]
        # What becomes of a message in the next queue, only its owner knows.
        return [
            own,
            Queue(following, account=Identity.of_queue(following) or configured, producer=own.account, **common),
        ]


def daemons_of(project: Path) -> list[Daemon]:
    """The daemons of a project, of which nothing is executed. Raises NoSubject."""
    try:
        described = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NoSubject(f"{project / 'pyproject.toml'}, which names the daemons, cannot be read: {error}") from error
    again = f"piperctl doctor --fix {shlex.quote(str(project))}"
    found = []
    for name, target in described.get("project", {}).get("scripts", {}).items():
        file = project / "src" / Path(*target.partition(":")[0].split(".")).with_suffix(".py")
        if not file.is_file() or "PiperDaemon" not in file.read_text(encoding="utf-8", errors="replace"):
            continue
        config_file = str(project / "etc" / f"{name}.conf")
        try:
            facts = reading.describe(name, file, project)
        except ConfigError as error:
            found.append(Daemon(name, config_file, None, str(error), ExitStatus.CONFIG, project, again))
        else:
            found.append(Daemon(name, config_file, facts, "", ExitStatus.OK, project, again))
    return found


def installed(config_file: Path) -> Daemon:
    """The installed daemon that a configuration file belongs to, which is called as that is. Raises NoSubject.

    It describes itself, run in `/`: the current directory may be anybody's.
    """
    name = re.sub(r"\.conf$", "", config_file.name)
    command = shutil.which(name)
    if command is None:
        raise NoSubject(f"{config_file}: there is no command {name} to go with it; add its directory to PATH")
    file = os.path.abspath(config_file)
    again = f"piperctl doctor --fix --config {shlex.quote(file)}"
    answer = ask(name, [os.path.abspath(command), "--config-file", file], Path("/"))
    if answer.facts is not None:
        add_account(answer.facts)
    return Daemon(name, file, answer.facts, answer.wrong, answer.status, None, again)


def ask(name: str, command: list[str], directory: Path) -> Answer:
    """Have a daemon describe itself, started by that command in that directory. It checks its configuration first."""
    line = [*command, "--action=describe"]
    try:
        done = subprocess.run(line, cwd=directory, capture_output=True, text=True, timeout=_ANSWER_WAIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Answer(None, str(error), 1)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        return Answer(None, said.removeprefix(f"{name}: "), done.returncode)
    try:
        return Answer(json.loads(done.stdout))
    except ValueError:
        return Answer(None, "its runtime is too old to describe itself")


def add_account(facts: dict[str, Any]) -> None:
    """Who an installed daemon runs as, where only its unit says so."""
    if facts["config"]["user"] is None:
        facts["config"] |= _account_of_unit(facts["name"])


def _account_of_unit(name: str) -> dict[str, str]:
    """The `user` and `group` that systemd runs a daemon as; nothing where it runs none of that name."""
    command = ["systemctl", "show", "--property=User", "--property=Group", f"{name}.service"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        found = dict(line.split("=", 1) for line in shown.splitlines() if not line.endswith("="))
        account = {key.lower(): value for key, value in found.items()}
        return account if Identity.of(account.get("user"), account.get("group")) else {}
    except (OSError, ConfigError):
        return {}  # systemd is not there, or its unit has an account that is not


def stranger(project: Path) -> str | None:
    """Whose a project is, or something of it that would be run; None if it is root's, or we are not root."""
    if os.geteuid() != 0:
        return None
    parts = [project, *project.iterdir(), *(project / "src").rglob("*"), project / ".venv" / "bin" / "python"]
    for path in parts:
        try:
            uid = path.stat().st_uid or path.lstat().st_uid
        except OSError:
            continue  # a link to nothing, say
        if uid != 0:
            return account_name(uid) or f"#{uid}"
    return None


def bare_queue(path: str) -> Queue:
    """A queue of which nothing is known but its directory or address."""
    return Queue(path, f"piperctl doctor --fix {shlex.quote(path)}", Identity.of_queue(path))
