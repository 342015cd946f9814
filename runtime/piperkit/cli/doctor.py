"""`piperctl doctor`: find what is wrong, and name the command that mends it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from piperkit.cli import render
from piperkit.errors import ExitStatus

if TYPE_CHECKING:
    from piperkit.doctor.examine import Subjects
    from piperkit.doctor.finding import Finding


def doctor(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROJECT|QUEUE]...", help="Projects and queues; by default the project here."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Configuration file NAME.conf of an installed daemon NAME.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Fix what is safe to fix.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    root: Annotated[
        Path, typer.Option(metavar="DIR", help="Root directory of the installation (like DESTDIR).")
    ] = Path("/"),
) -> None:
    """Find what is wrong with a project, its daemons and queues, or with an installed daemon.

    Template, runtime, configuration, queues, free space, inotify, units, clock: each finding comes with the command
    that mends it. Nothing of a project is executed: of the options of its components, its own `--action config-check`
    knows. The exit status is 0 if nothing is wrong, else 1; warnings do not count.
    """
    from piperkit.doctor import examine as doctoring  # here: the daemon comes with it

    subjects = doctoring.admit(what or [], config, str(root))
    mended = doctoring.mend(subjects) if fix else []
    if mended:
        subjects = doctoring.admit(what or [], config, str(root))
    found = list(doctoring.examine(subjects))
    wrong = [finding for finding in found if not finding.warning]
    if json:
        render.as_json({
            "daemons": [_facts(subjects, at) for at in range(len(subjects.daemons))],
            "queues": [queue.path for queue in subjects.queues],
            "mended": [_finding(finding) for finding in mended],
            "findings": [_finding(finding) for finding in found],
        })  # fmt: skip
    else:
        _tell(subjects, mended, found)
    if wrong:
        raise typer.Exit(ExitStatus.FAILURE)


def _facts(subjects: Subjects, at: int) -> dict[str, Any]:
    daemon = subjects.daemons[at]
    facts = daemon.facts or {}
    return {
        "name": daemon.name,
        **{key: facts.get(key) for key in ("template", "versions", "queue", "next_queue", "pids")},
    }


def _finding(finding: Finding) -> dict[str, Any]:
    facts = {field.name: getattr(finding, field.name) for field in dataclasses.fields(finding) if field.name != "fix"}
    return {**facts, "fixable": finding.fix is not None}


def _tell(subjects: Subjects, mended: list[Finding], found: list[Finding]) -> None:
    for daemon in subjects.daemons:
        if daemon.facts is not None:
            made = f"template {daemon.facts['template'] or 'none'}, piperkit {daemon.facts['versions']['piperkit']}"
            print(render.text(f"{daemon.name}: {made}"))
    for finding in mended:
        print(f"mended: {render.text(f'{finding.where}: {finding.what}')}")
    for finding in found:
        print(f"{'warning' if finding.warning else 'wrong'}: {render.text(f'{finding.where}: {finding.what}')}")
        print(f"    {render.text(finding.mend)}")
    wrong = sum(not finding.warning for finding in found)
    print("Nothing is wrong." if not wrong else f"{render.number(wrong, 'thing')} to mend.")
