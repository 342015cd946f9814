"""The project of these tests: what its component does, and how it is made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from installing import with_uv

#: What the daemon of these tests does: what the message says. `hold` keeps `setup` and `reload` from their end.
COMPONENT = '''
"""Does what a message says."""

import os
import time

from piperkit import Component, Message, Outcome, PiperDaemon

KEPT = "/var/lib/mydaemon/"


def wait_while(condition):
    while condition():
        time.sleep(0.01)


class Mydaemon(Component):
    def setup(self, daemon: PiperDaemon) -> None:
        wait_while(lambda: os.path.exists(KEPT + "hold"))

    def reload(self, daemon: PiperDaemon) -> None:
        wait_while(lambda: os.path.exists(KEPT + "hold"))

    def process(self, message: Message) -> Outcome:
        word, _, rest = message.text.partition(" ")
        if word == "hang" and message.attempt <= int(rest):
            wait_while(lambda: True)
        elif word == "work":
            end = time.monotonic() + float(rest)
            while time.monotonic() < end:
                self.progress()
                time.sleep(0.05)
        elif word == "slow":
            time.sleep(float(rest))
        elif word == "wait":
            open(KEPT + "begun", "w").close()
            wait_while(lambda: not os.path.exists(KEPT + "go"))
        elif word == "share":
            open(f"{KEPT}sharing.{os.getpid()}", "w").close()
            wait_while(lambda: sum(name.startswith("sharing.") for name in os.listdir(KEPT)) < 3)
            return message.commit(f"{rest} {os.getpid()}")
        elif word == "try":
            try:
                return message.commit(f"{rest} -> {eval(rest, {name: __import__(name) for name in NAMES})}")
            except OSError as error:
                return message.commit(f"{rest} -> {os.strerror(error.errno)}")
        elif word == "pass":
            return message.commit()
        return message.commit(f"{message.text}: attempt {message.attempt}")


NAMES = ("ctypes", "os", "socket")
'''

#: Makes a project: generate(folder, key=answer, ...); what is not answered has its default.
Generate = Callable[..., Path]


def make(project: Path, *arguments: str) -> str:
    """Run make in a project, without what this test run has set; returns what it prints."""
    variables = ("MAKE", "MFLAGS", "PIP", "PYTHON", "VIRTUAL_ENV", "COV")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(variables)}
    command = ["make", "--directory", str(project), *arguments]
    done = subprocess.run(
        command, env=with_uv(environment), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def public_python() -> str | None:
    """A Python that any account may run: not one in somebody's home directory."""
    own = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    check = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
    for path in (own, "/usr/local/bin/python3", "/usr/bin/python3"):
        real = Path(path).resolve()
        if (
            real.exists()
            and all(parent.stat().st_mode & 0o005 == 0o005 for parent in (real, *real.parents))
            and subprocess.run([path, "-c", check], check=False, capture_output=True).returncode == 0
        ):
            return path
    return None
