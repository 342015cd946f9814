"""Which messages would pass now: a daemon's own program tries them, by its `--action try`, and changes nothing."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator

from piperkit.cli.interrupts import Interrupts
from piperkit.dirq import names
from piperkit.errors import PiperError, UsageError
from piperkit.operating import Entry, View

#: Of messages that were found, those that pass.
Passing = Callable[[View, Iterator[Entry], Interrupts], Iterator[Entry]]
#: Messages that are tried by one process, before the first of them are acted on.
_AT_ONCE = 1000


def by(program: str) -> Passing:
    """Those at which the daemon of that program would not fail. Raises UsageError where there is no such program."""
    path = shutil.which(program)
    if path is None:
        raise UsageError(f"--if-passes {program}: is no program that can be run")

    def passing(view: View, found: Iterator[Entry], interrupts: Interrupts) -> Iterator[Entry]:
        while some := list(itertools.islice(found, _AT_ONCE)):
            with interrupts.allowed():
                passes = _passing(path, view, some)
            yield from (entry for entry in sorted(some, key=lambda each: names.sort_key(each.id)) if entry.id in passes)

    return passing


def _passing(program: str, view: View, some: list[Entry]) -> set[str]:
    paths = [f"{entry.path}\0" for entry in some]
    command = [program, "--action", "try-files"]
    done = subprocess.run(
        command, input="".join(paths), capture_output=True, text=True, errors="surrogateescape", check=False
    )
    passes: set[str] = set()
    tried = 0
    for line in done.stdout.splitlines():
        try:
            facts = json.loads(line)
        except ValueError:
            continue  # what its component prints
        if isinstance(facts, dict) and isinstance(facts.get("number"), int) and 0 <= facts["number"] < len(some):
            tried += 1
            if facts.get("passes") is True:
                passes.add(some[facts["number"]].id)
    if tried < len(some):
        said = done.stderr.strip().splitlines()
        raise PiperError(f"{program} --action try ended after {tried} of {len(some)} messages: {(said or ['?'])[-1]}")
    return passes
