"""What `--action` does: one thing, instead of running. Each returns the exit status.

A look asks the running daemon nothing: that it runs is the kernel's word, see `process.running_pid`, and how it is says
its state file.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from piperkit import engines
from piperkit.config import render_file
from piperkit.daemon import process
from piperkit.daemon.configuration import Configuration
from piperkit.daemon.runlog import VERSIONS
from piperkit.errors import ExitStatus, PiperError


def send_signal(name: str, config: Mapping[str, Any], sign: int) -> ExitStatus:
    """Send a signal to the running daemon, or with --paralel to all of its instances; 0 only looks.

    NOT_RUNNING where none is. A pid file that its process has left behind is not believed. Raises NotAllowed.
    """
    status = ExitStatus.OK
    word = signal.Signals(sign).name if sign else "0"
    found = running(config)
    for pid in found.values():
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            continue  # it has just ended
        except PermissionError:
            print(f"{name}: pid {pid} runs as another user; send signals as that user or as root")
            status = ExitStatus.FAILURE
            continue
        print(f"{name}: signal {word} sent to pid {pid}" if sign else f"{name}: running, pid {pid}")
    return status if found else _notrunning(name, config)


def _notrunning(name: str, config: Mapping[str, Any]) -> ExitStatus:
    path = config["pid_file"]
    print(f"{name}: not running ({path})" if path else f"{name}: has no pid file")
    return ExitStatus.NOT_RUNNING


def running(config: Mapping[str, Any]) -> dict[str, int]:
    """The pid of each instance that runs, by its pid file. Raises NotAllowed where these are not ours to read."""
    path = config["pid_file"]
    files = process.pid_files(path, config["paralel"]) if path else []
    return {file: pid for file in files if (pid := process.running_pid(file)) is not None}


def config_view(configuration: Configuration, config: Mapping[str, Any], core: str) -> ExitStatus:
    """Print the value of each key, and where it comes from."""
    others = [key for key in config if key not in configuration.options and key != core]
    keys = [key for key, option in configuration.options.items() if key in config and not option.cli_only] + others
    width = max(map(len, keys))
    for key in keys:
        where = configuration.origins.get(key, "default")
        print(f"{key:{width}} = {configuration.shown(key, config)}  ({where})")
    return ExitStatus.OK


def describe(name: str, configuration: Configuration, config: Mapping[str, Any], core: str, more: Any) -> ExitStatus:
    """Print, as JSON, what a daemon is and where its queues are: for `piperctl doctor`, and other programs."""
    queues = config[core]["filequeue"]
    try:
        pids = list(running(config).values())
    except process.NotAllowed:
        pids = None
    facts = {
        "name": name,
        "versions": VERSIONS,
        "queue": queues["dir_queue"],
        "next_queue": queues["dir_next_queue"],
        "pids": pids,
        "origins": configuration.origins,
        "config": {key: json.loads(configuration.shown(key, config)) for key in config if key != core},
        **more,
    }
    print(json.dumps(facts))
    return ExitStatus.OK


def status(name: str, config: Mapping[str, Any], queue: str) -> ExitStatus:
    """Print how the running daemon is: for its user, or root. NOT_RUNNING where it does not run. Raises NotAllowed."""
    found = running(config)
    for file, pid in found.items():
        serial = file.removesuffix(".pid").rpartition(".")[2]
        path: str | None = config["state_file"]
        if path and config["paralel"]:
            path = f"{path.removesuffix('.state')}.{serial}.state"
        print(_status(name, path, pid, queue, config["queue_password_file"]))
    return ExitStatus.OK if found else _notrunning(name, config)


def _status(name: str, path: str | None, pid: int, queue: str, password_file: str | None) -> str:
    state = _read(path)
    if state.get("pid") != pid:
        return f"{name}: running, pid {pid}; only its user and root can read its state"
    age = max(0.0, time.time() - state["time"])
    lines = [f"{name}: running, pid {pid}, since {_moment(state['started'])}", f"  {state['status']} ({age:.0f} s ago)"]
    try:
        view = engines.view(queue, password_file)
        counts = view.counts()
        found = ", ".join(f"{number} {part}" for part, number in counts.items() if number) or "empty"
        if engines.is_address(queue):
            there = [f"{each.host}:{each.pid}{'' if each.alive else ' (gone)'}" for each in view.instances() or ()]
            found += f"; at work on it: {', '.join(there) or 'none'}"
    except (OSError, PiperError):
        found = "cannot be counted now"
    return "\n".join([*lines, f"  queue: {found}"])


def config_template(configuration: Configuration, name: str, paths: Mapping[str, str]) -> ExitStatus:
    """Print a configuration file in which every key is explained."""
    places = {"name": name, **{path: f"<{path}>" for path in paths}}
    print(render_file(configuration.options.values(), places, f"Configuration of {name}"), end="")
    return ExitStatus.OK


def _read(path: str | None) -> dict[str, Any]:
    """What a state file holds; nothing where it is not there, or not for us."""
    try:
        with open(path or "", encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    facts = ("time", "started", "status")
    return found if isinstance(found, dict) and all(fact in found for fact in facts) else {}


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).isoformat(" ", "seconds")
