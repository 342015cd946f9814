"""Which messages would pass now: a daemon's own program tries them, by its `--action try`, and changes nothing."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from piperkit import engines, naming
from piperkit.cli.interrupts import Interrupts
from piperkit.dirq.reading import json_object
from piperkit.errors import PiperError, UsageError
from piperkit.operating import Entry, View

#: Of messages that were found, those that pass.
Passing = Callable[[View, Iterator[Entry], Interrupts], Iterator[Entry]]
#: Messages that are tried by one process, before the first of them are acted on.
_AT_ONCE = 1000


def by(program: str) -> Passing:
    """Those at which the daemon of that program would not fail. Raises UsageError where there is no such program."""
    path = found(program)

    def passing(view: View, entries: Iterator[Entry], interrupts: Interrupts) -> Iterator[Entry]:
        while some := list(itertools.islice(entries, _AT_ONCE)):
            some.sort(key=lambda each: naming.sort_key(each.id))
            with interrupts.allowed(), _files(view, some) as files:
                verdicts = tried(path, files)
            yield from itertools.compress(some, verdicts)

    return passing


@contextlib.contextmanager
def _files(view: View, entries: list[Entry]) -> Iterator[list[str]]:
    """Files that hold these messages; that of one that has moved on is not there."""
    if not engines.is_address(view.path):
        yield [entry.path for entry in entries]
        return
    with tempfile.TemporaryDirectory(prefix="piperctl-") as directory:
        paths = [os.path.join(directory, entry.id) for entry in entries]
        for entry, path in zip(entries, paths, strict=True):
            with contextlib.suppress(FileNotFoundError):
                Path(path).write_bytes(view.read(entry))
        yield paths


def found(program: str) -> str:
    """The path of the program. Raises UsageError where there is none."""
    path = shutil.which(program)
    if path is None:
        raise UsageError(f"--if-passes {program}: is not a program that can be run")
    return path


def tried(program: str, paths: list[str]) -> list[bool]:
    """Of each message in these files, whether it would pass. Raises PiperError where that cannot be known."""
    done = subprocess.run(
        [program, "--action", "try-files"],
        input="".join(f"{path}\0" for path in paths),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    verdicts: dict[int, bool] = {}
    for line in done.stdout.splitlines():
        # Other lines are what its component prints.
        facts = json_object(line.encode(errors="surrogateescape")) or {}
        if isinstance(facts.get("number"), int):
            verdicts[facts["number"]] = facts.get("passes") is True
    if verdicts.keys() != set(range(len(paths))):
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise PiperError(f"{program} --action try ended after {len(verdicts)} of {len(paths)} messages: {said[-1]}")
    return [verdicts[number] for number in range(len(paths))]
