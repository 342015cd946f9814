"""`piperctl upgrade`: bring a project to a newer version of its template and of the runtime."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from piperkit.cli import render
from piperkit.errors import ExitStatus
from piperkit.text import harmless

if TYPE_CHECKING:
    from piperkit.upgrade.upgrade import Report

_HOW = {"A": "new", "M": "changed", "D": "deleted", "T": "changed"}


def upgrade(
    project: Annotated[Path, typer.Argument(help="The project's directory.")] = Path(),
    to: Annotated[str | None, typer.Option(metavar="VERSION", help="By default the newest.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Finish, after conflicts were settled.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Go back to the state before the upgrade.")] = False,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", "-d", metavar="KEY=VALUE", help="Answer to a question; may be repeated."),
    ] = None,
    source: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Where the template is now.")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Let the template execute its commands, now and in later upgrades.")
    ] = False,
    no_tests: Annotated[bool, typer.Option("--no-tests", help="Do not run the project's tests.")] = False,
) -> None:
    """Upgrade a project to a newer version of its template and runtime.

    All changes are staged and none is committed: look at them with git diff --cached, then commit, or go back with
    --abort. The project's own tests are run (make test). The exit status is 0 if all is well, and 1 if something needs
    your hand; what that is, is said at the end.
    """
    from piperkit.project.answers import load_copier

    if sum((dry_run, finish, abort)) > 1:
        raise typer.BadParameter("--dry-run, --finish and --abort exclude each other")
    load_copier()
    from piperkit.upgrade import upgrade as upgrading  # copier comes with it

    project = project.resolve()
    if abort:
        pending, kept = upgrading.abort(project)
        print(f"The files are as they were before the upgrade from {pending.old} to {pending.new}.")
        if kept:
            print(f"What you had changed in them is kept: git diff HEAD {kept}")
        return
    if finish:
        _end(project, upgrading.finish(project), no_tests)
        return

    def allow(address: str, commands: Sequence[str]) -> bool:
        return not dry_run and _may_execute(address, commands, trust)

    found = upgrading.plan(project, to, source and _address(source), dict(map(_answer, data or ())), allow)
    if found is None:
        print("Already up to date: there is no newer version of the template.")
        return
    _tell(found.report)
    if dry_run:
        print("\nNothing was changed.")
        _end(project, found.report.hand, no_tests=True, done=False)
        return
    found.pending.apply()
    _end(project, found.report.hand, no_tests)


def _may_execute(address: str, commands: Sequence[str], trust: bool) -> bool:
    """Whether the user lets the template of this address execute these commands; asked once for each address."""
    from piperkit.upgrade import consent

    if consent.is_given(address):
        return True
    if not trust and sys.stdin.isatty():
        print(f"The template {address} executes commands on this machine in an upgrade:")
        for command in commands:
            print(f"  {harmless(command)}")
        trust = typer.confirm("Let it, now and in later upgrades?")
    if trust:
        consent.give(address)
    return trust


def _answer(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--data {text!r}: it must be KEY=VALUE")
    return key, value


def _address(source: str) -> str:
    """A path is named from the root, so that it is found from everywhere."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source


def _tell(report: Report) -> None:
    """Print what an upgrade does."""
    print(f"Template {report.old} -> {report.new}")
    if report.runtime:
        print(f"Runtime piperkit{report.runtime[0]} -> piperkit{report.runtime[1]}")
    _list("Files", [f"{_HOW[how] + ':':9}{render.name(path)}" for how, path in report.changed])
    names = [each.old if each.new is None else f"{each.old} -> {each.new}" for each in report.carried]
    what = [f"{render.name(name)}: {each.what.value}" for name, each in zip(names, report.carried, strict=True)]
    _list("Files of yours that the template has renamed or deleted", what)
    _list("Answers that are new", [f"{key}: {value}" for key, value in report.answered.items()])
    for title, lines in (
        ("Changed behaviour", [line for release in report.news for line in release.behaviour]),
        ("Configuration keys that are new", [key for release in report.news for key in release.new_keys]),
        (
            "Renamed configuration keys",
            [f"{old} -> {new}" for release in report.news for old, new in release.renamed_keys.items()],
        ),
        ("Removed configuration keys", [key for release in report.news for key in release.removed_keys]),
    ):
        _list(title, lines)


def _list(title: str, lines: list[str]) -> None:
    if lines:
        print(f"\n{title}:")
        for line in lines:
            print(f"  {line}")


def _end(project: Path, hand: list[str], no_tests: bool, *, done: bool = True) -> None:
    """Run the tests if nothing needs the user's hand, and say what does. Raises Exit."""
    from piperkit.upgrade import upgrade as upgrading

    if not hand and not no_tests:
        print("\nThe project's tests (make test):", flush=True)
        if not upgrading.run_tests(project):
            hand = ["the project's tests fail, see above: mend what they show, and run make test again"]
    _list("Needs your attention", hand)
    if hand:
        if done:
            print("\nThen: piperctl upgrade --finish; or back to before: piperctl upgrade --abort")
        raise typer.Exit(ExitStatus.FAILURE)
    if done:
        print("\nDone, and staged: look at it with git diff --cached, then git commit; or piperctl upgrade --abort")
