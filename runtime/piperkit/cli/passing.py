"""Which messages would pass now: a daemon's own program tries them, by its `--action try`, and changes nothing."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator

from piperkit import naming
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
            with interrupts.allowed():
                verdicts = tried(path, [entry.path for entry in some])
            yield from itertools.compress(some, verdicts)

    return passing


def found(program: str) -> str:
    """The path of the program. Raises UsageError where there is none."""
    path = shutil.which(program)
    if path is None:
        raise UsageError(f"--if-passes {program}: is no program that can be run")
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
