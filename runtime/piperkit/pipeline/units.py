"""`piperctl pipeline units`: what systemd needs to run a pipeline, and what tells its daemons their queues.

    etc/systemd/system/NAME.target                  starts and stops all of them
    etc/systemd/system/NAME.slice                   what all of them use together, and may be bounded
    etc/systemd/system/DAEMON.service.d/pipeline-NAME.conf
    etc/DAEMON/pipeline-NAME.json.conf              the daemon's queues
    etc/sysusers.d/pipeline-NAME.conf               the group and the accounts
    etc/tmpfiles.d/pipeline-NAME.conf               the queues

The daemons' own units stay as they are. Consumers start first and stop last. Files of this pipeline that a former
version of it had, and this one has not, are removed; nothing else is. The same pipeline gives the same files.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from piperkit import engines
from piperkit.dirq.layout import ADDED, PROTOCOL
from piperkit.errors import ConfigError
from piperkit.pipeline import graph
from piperkit.pipeline.description import Member, Pipeline

#: What all daemons are members of, so that each may put messages into the next one's queue.
GROUP = "piper"
_DELIVERED = ("tmp", "incoming")


def write(pipeline: Pipeline, root: Path) -> tuple[list[Path], list[Path]]:
    """Write the files under `root`; returns those that were written, and those that were removed. Each is whole.

    Raises ConfigError for a pipeline that cannot run so, OSError.
    """
    files = dict(render(pipeline))
    removed = [path for path in _ours(pipeline, root) if path.relative_to(root).as_posix() not in files]
    written = []
    for name, text in files.items():
        path = root / name
        _make(path.parent)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            _replace(path, text)
        written.append(path)
    for path in removed:
        path.unlink()
    return written, removed


def render(pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    """The files, each by its path from the root. Raises ConfigError."""
    order = graph.of(pipeline)
    loop = order.loop()
    if loop:
        raise ConfigError(
            f"{pipeline.path}: its daemons are in a loop, {' → '.join(loop)}; they have no order to stop in"
        )
    head = f"# Made from {pipeline.path} by: piperctl pipeline units\n"
    name = pipeline.name
    members = {member.name: member for member in pipeline.members}
    services = {each: _services(member) for each, member in members.items()}
    wanted = " ".join(service for each in members for service in services[each])
    yield (
        f"etc/systemd/system/{name}.target",
        f"{head}\n[Unit]\nDescription=Pipeline {name}\nWants={wanted}\n\n[Install]\nWantedBy=multi-user.target\n",
    )
    yield (
        f"etc/systemd/system/{name}.slice",
        f"{head}# Bounds of all of it together, such as MemoryHigh= and CPUQuota=, go into {name}.slice.d/.\n\n"
        f"[Unit]\nDescription=Pipeline {name}\n",
    )
    for each, member in members.items():
        unit = f"{each}@.service" if member.instances > 1 else f"{each}.service"
        after = [service for other in order.heads(each) if other in services for service in services[other]]
        lines = [head, "[Unit]", f"PartOf={name}.target"]
        if after:
            lines += ["# Consumers start first, and stop last.", f"After={' '.join(after)}"]
        lines += ["", "[Service]", f"Slice={name}.slice", ""]
        yield f"etc/systemd/system/{unit}.d/pipeline-{name}.conf", "\n".join(lines)
        queues = {"queue_in_dir": member.source, "queue_out_dir": member.next_queue}
        yield f"etc/{each}/pipeline-{name}.json.conf", f"{head}{json.dumps(queues, indent=4, ensure_ascii=False)}\n"
    yield f"etc/sysusers.d/pipeline-{name}.conf", f"{head}{''.join(_accounts(pipeline))}"
    queues_there = "".join(_queues(pipeline))
    if queues_there:
        yield f"etc/tmpfiles.d/pipeline-{name}.conf", f"{head}{queues_there}"


def _services(member: Member) -> list[str]:
    if member.instances > 1:
        return [f"{member.name}@{number}.service" for number in range(1, member.instances + 1)]
    return [f"{member.name}.service"] * member.instances


def _accounts(pipeline: Pipeline) -> Iterator[str]:
    """As the daemons' own files say, so that it does not matter which is read first."""
    yield f"g {GROUP} -\n"
    for member in pipeline.members:
        yield f"u {member.name} -:{GROUP} - /var/lib/{member.name}\n"


def _queues(pipeline: Pipeline) -> Iterator[str]:
    """The input queues that are directories: those of whom a daemon is, and what the others may put there."""
    for member in pipeline.members:
        if engines.is_address(member.source):
            continue
        path = member.source.replace("%", "%%")
        path = f'"{path}"' if any(char in path for char in ' "\\') else path
        yield f"d {path} 0755 root root\n"
        for part in (*PROTOCOL, *ADDED):
            mode = "3770" if part in _DELIVERED else "0700"
            part_path = f'{path[:-1]}/{part}"' if path.endswith('"') else f"{path}/{part}"
            yield f"d {part_path} {mode} {member.name} {GROUP}\n"


def _ours(pipeline: Pipeline, root: Path) -> list[Path]:
    """What an earlier run has written there."""
    name = pipeline.name
    patterns = (
        f"etc/systemd/system/*.d/pipeline-{name}.conf",
        f"etc/*/pipeline-{name}.json.conf",
        f"etc/tmpfiles.d/pipeline-{name}.conf",
    )
    return [path for pattern in patterns for path in sorted(root.glob(pattern))]


def _make(directory: Path) -> None:
    """Make a directory and those above it, for all to read whatever the umask is: daemons are other accounts."""
    if not directory.is_dir():
        _make(directory.parent)
        directory.mkdir()
        directory.chmod(0o755)


def _replace(path: Path, text: str) -> None:
    fd, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, 0o644)
            file.write(text)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
