"""The people of these tests: each step is done in a child process that has become one of them."""

from __future__ import annotations

import ctypes
import dataclasses
import encodings.ascii  # noqa: F401  now: none of them may be able to see our Python
import errno
import os
import pickle
import subprocess
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

Name = TypeVar("Name")
_PR_SET_DUMPABLE = 4  # prctl(2)
#: The group of those who may enqueue.
GROUP = 54320


@dataclasses.dataclass(frozen=True)
class Person:
    """An account; it needs no name, and no file of its own."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def become(self) -> None:
        os.setgroups(self.groups)
        os.setgid(self.gid)
        os.setuid(self.uid)
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1)  # or its /proc/self would be root's

    def start(self, step: Callable[[], object]) -> int:
        """Begin a step in a child; its pid."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                self.become()
                os.umask(0o022)
                step()
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        return child

    def do(self, step: Callable[[], Any]) -> Any:
        """Do a step, and return what it returns."""
        reader, writer = os.pipe()
        child = self.start(lambda: os.write(writer, pickle.dumps(step())))
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            data = pipe.read()
        assert os.waitpid(child, 0)[1] == 0, "the step failed; its traceback is above"
        return pickle.loads(data)

    def attempts(self, steps: Mapping[Name, Callable[[], object]]) -> dict[Name, str]:
        """Try steps; for each "done", or the name of the error that it was refused with."""

        def outcome(step: Callable[[], object]) -> str:
            try:
                step()
            except OSError as error:
                return errno.errorcode[error.errno or 0]
            return "done"

        outcomes: dict[Name, str] = self.do(lambda: {name: outcome(step) for name, step in steps.items()})
        return outcomes

    def shell(self, script: str, directory: Path) -> subprocess.CompletedProcess[str]:
        """Run a shell script there."""
        groups = f"--groups={','.join(map(str, self.groups))}" if self.groups else "--clear-groups"
        who = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", groups]
        return subprocess.run([*who, "sh", "-ec", script], cwd=directory, text=True, capture_output=True, check=False)


#: Whose daemon it is; who may enqueue; anybody; and whose daemon delivers into the queue.
DAEMON = Person(54321, GROUP)
PRODUCER = Person(54322, 54322, (GROUP,))
OTHER = Person(54323, 54323)
NEIGHBOUR = Person(54324, 54324, (GROUP,))
