"""Other programs: what they print, and `python -m MODULE` for tests that do so many times.

The latter is a process each time, but forked from one that has imported before what most of them need, since that is
most of what a short command takes. How a program starts is for other tests.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from piperkit import crashwalk

#: Begins a program in Python, whose path may have spaces in it: lines of a shell, which are a text to Python.
HEAD = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
"""
#: Imported once.
_IMPORTED = (
    *("copier._cli", "piperkit.cli", "piperkit.project.add", "piperkit.project.new", "piperkit.upgrade.upgrade"),
    *("rich.console", "rich.table", "typer._adapters", "typer.rich_utils", "yaml"),
)
_SERVER = """
import gc, importlib, json, os, runpy, sys, time
from piperkit import crashwalk
from plumbum import local

def run(arguments):
    asked = json.loads(arguments[0])
    for descriptor, path in zip((1, 2), asked["files"]):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    os.chdir(asked["directory"])
    local.env.clear()  # copier's: what they were when it was imported
    local.env.update(asked["environment"])
    local.cwd.chdir(asked["directory"])
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["", *asked["arguments"]]
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)

for name in sys.argv[1:]:
    importlib.import_module(name)
sys.dont_write_bytecode = False
gc.collect()
gc.freeze()
crashwalk.serve(run)
"""
_ALONE = threading.Lock()


def output(*command: str | Path, **options: Any) -> str:
    """What a program prints; where it fails, the test does, with all that it has said. options: of subprocess.run."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    done = subprocess.run([*map(str, command)], text=True, check=False, **options)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return str(done.stdout)


def run(
    module: str, *arguments: str | Path | bytes, cwd: Path, env: Mapping[str, str] | None = None, together: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """What subprocess.run does with this module, without input. together: its errors are a part of its output.

    Where the environment names other modules, it is started as any program is.
    """
    command = [sys.executable, "-m", module, *arguments]
    if env is not None and env.get("PYTHONPATH") != os.environ.get("PYTHONPATH"):
        errors_to = subprocess.STDOUT if together else subprocess.PIPE
        return subprocess.run(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors_to, check=False
        )
    with tempfile.TemporaryDirectory(prefix="program") as directory:
        files = [Path(directory, name) for name in (("output",) * 2 if together else ("output", "errors"))]
        for file in files:
            file.touch()
        asked = {
            "module": module,
            "arguments": [os.fsdecode(each) for each in arguments],
            "directory": str(cwd),
            "environment": dict(os.environ if env is None else env),
            "files": [str(file) for file in files],
        }
        with _ALONE:
            done = _server().run([json.dumps(asked)])
        output, errors = (file.read_bytes() for file in files)
    return subprocess.CompletedProcess(command, done.status, output, None if together else errors)


def text(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[str]:
    """With its output as text."""
    output, errors = (None if each is None else each.decode() for each in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, output, errors)


@functools.cache
def _server() -> crashwalk.Program:
    program = crashwalk.Program([sys.executable, "-c", _SERVER, *_IMPORTED], timeout=900)
    atexit.register(program.close)
    return program
