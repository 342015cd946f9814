"""`piperctl` on a terminal of its own."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Callable


def start(*command: str, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start it, in a session of its own; the process, and the descriptor that its terminal is read from."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "piperkit.cli", *command], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm", **environment}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def read(terminal: int, seen: Callable[[bytes], None] = lambda shown: None) -> str:
    """What is shown until the end; `seen` is told of all of it each time that there is more."""
    shown = b""
    with contextlib.suppress(OSError):  # EIO: its end
        while data := os.read(terminal, 65536):
            shown += data
            seen(shown)
    os.close(terminal)
    return shown.decode(errors="replace")


def on_terminal(*command: str, columns: int = 80, **environment: str) -> str:
    """What a command that succeeds shows on a terminal of that width."""
    process, terminal = start(*command, COLUMNS=str(columns), **environment)
    shown = read(terminal)
    assert process.wait() == 0, shown
    return shown
