"""Daemons as real processes, on the queues of the fixture `piper`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import pytest

import apps
from piperkit.testing import Piper

APPS = apps.__file__
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(piper: Piper) -> Iterator[Start]:
    """Start a daemon of `apps` as a process in the foreground; it is killed at the end of the test.

    by: a program that starts it. constants: of the runtime, by their full names, that have another value there.
    """
    processes: list[subprocess.Popen[str]] = []

    def run(
        name: str, *options: str, by: Sequence[str] = (), constants: dict[str, object] | None = None, **more: object
    ) -> subprocess.Popen[str]:
        command = [*by, sys.executable, APPS, name, *piper.options(*options)]
        if constants:
            more["env"] = {**os.environ, "APPS_CONSTANTS": json.dumps(constants)}
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)  # type: ignore[call-overload]
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def call(piper: Piper) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a daemon of `apps` to its end, as with an action."""

    def run(name: str, *options: str, alone: bool = False, **more: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, APPS, name, *([] if alone else piper.options()), *options]
        return subprocess.run(command, text=True, capture_output=True, timeout=60, check=False, **more)  # type: ignore[call-overload]

    return run
