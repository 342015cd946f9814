"""`piperctl new` and `piperctl add`: projects from the template, and components and daemons in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from piperkit.config import nearest
from piperkit.errors import UsageError
from piperkit.pipeline.description import FILE, NoPipeline
from piperkit.pipeline.description import load as load_pipeline
from piperkit.project import answers as answers_files

if TYPE_CHECKING:
    from piperkit.project.add import Added

#: The variable that says where the template is. None is built in: a name that is free today may be others' tomorrow.
TEMPLATE = "PIPER_TEMPLATE"
KINDS = "transform|filter|parse|router|enrich|sink|source|…"

add = typer.Typer(help="Add a component or a daemon to a project.", no_args_is_help=True)

Kind = Annotated[str | None, typer.Option(metavar=KINDS, help="What the component does; by default transform.")]
Messages = Annotated[str | None, typer.Option(metavar="text|bytes|json", help="Format of the messages of a transform.")]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="Description, in a few words.")]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", "-d", metavar="KEY=VALUE", help="Answer to any question; may be repeated."),
]
Version = Annotated[
    str | None,
    typer.Option("--vcs-ref", metavar="VERSION", help="Tag or commit of the template, or HEAD.", show_default=False),
]
Project = Annotated[Path, typer.Option(metavar="DIR", help="The project's directory.")]


def new(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Directory to make the project in.", show_default=False)
    ],
    name: Annotated[str | None, typer.Option(help="Name of its daemon; by default that of the directory.")] = None,
    kind: Kind = None,
    messages: Messages = None,
    description: Description = None,
    data: Data = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="Ask no questions.")] = False,
    git: Annotated[bool, typer.Option("--git", help="Make it a git repository with a first commit.")] = False,
    inside: Annotated[bool, typer.Option("--inside", help="Make it a part of the git repository around it.")] = False,
    pipeline: Annotated[
        bool, typer.Option("--pipeline", help="Several daemons in a chain: a source, a parser, a router and sinks.")
    ] = False,
    source: Annotated[
        str | None, typer.Option(metavar="KIND", help="Of a pipeline: source, source-socket or source-amqp.")
    ] = None,
    sink: Annotated[
        str | None, typer.Option(metavar="KIND", help="Of a pipeline: sink, sink-postgresql or sink-amqp.")
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--type", metavar="TYPE", help="Of a pipeline: a type of messages with a sink of its own; repeat it."
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            envvar=TEMPLATE,
            help="Where the template is, such as gh:org/piper-template, or a directory.",
            show_default=False,
        ),
    ] = None,
    vcs_ref: Version = None,
) -> None:
    """Make a project: a daemon with tests and configuration; with --pipeline, a working chain of daemons.

    What you do not give here you are asked for; with --defaults, defaults are taken. The newest release of the template
    is used, unless --vcs-ref names another version.

    Examples:

        piperctl new --git --template gh:org/piper-template mydaemon

        export PIPER_TEMPLATE=gh:org/piper-template

        piperctl new --git --pipeline alerts --type alert --defaults
    """
    from piperkit.project.answers import load_copier

    if git and inside:
        raise typer.BadParameter("--git and --inside exclude each other")
    if not template:
        raise UsageError(f"where is the template? Say --template gh:ORG/REPOSITORY, or a directory, or set {TEMPLATE}")
    if not (defaults or _can_ask()):
        raise UsageError("there is no terminal to ask questions on; give answers, and --defaults for the rest")
    if pipeline and (kind or messages or description):
        raise UsageError("--pipeline: the kinds of its daemons are fixed; choose --source, --sink and --type instead")
    if not pipeline and (source or sink or types):
        raise UsageError("--source, --sink and --type are for --pipeline; of one daemon, --kind says what it does")
    load_copier()
    from piperkit.project import new as making

    target = directory.absolute()
    how: dict[str, Any] = {"template": _address(template), "version": vcs_ref, "defaults": defaults, "inside": inside}
    if pipeline:
        _new_pipeline(target, name, source, sink, types, _answers(data), how)
    else:
        given = _answers(data, daemon_name=name, kind=kind, messages=messages, description=description)
        making.make(target, given, **how)
    found = answers_files.load_file(target / answers_files.MAIN)
    daemon = found.values["daemon_name"]
    made = "A pipeline" if pipeline else daemon
    print(f"{made} is made in {directory}, from the template {found.version or found.template}.")
    if git:
        nobody = making.first_commit(target, f"{made}, from its template")
        print("It is a git repository, with its first commit.")
        if nobody:
            print(
                f"\ngit does not know who you are, so that commit is by {nobody}. To have it be yours:\n\n"
                '    git config --global user.name "YOUR NAME"\n'
                "    git config --global user.email YOU@EXAMPLE.ORG\n"
                f"    git -C {directory} commit --amend --reset-author --no-edit"
            )
    elif not inside:
        print("Updates need a git repository: git init && git add --all && git commit --message New")
    whom = "all of its daemons" if pipeline else "the daemon"
    print(f"\n    cd {directory}\n    make test     its tests\n    make run      {whom}, in the foreground\n")
    if pipeline:
        print("pipeline.toml says which daemons there are, src/ what becomes of each message, README.md the rest.")
    else:
        print(
            f"What becomes of each message is in src/{daemon.replace('-', '_')}/component.py; README.md says the rest."
        )


def _new_pipeline(
    target: Path,
    name: str | None,
    source: str | None,
    sink: str | None,
    types: list[str] | None,
    answers: dict[str, str],
    how: dict[str, Any],
) -> None:
    """Make it, and ask before that what is not said."""
    from piperkit.pipeline import making
    from piperkit.project.new import check_target

    check_target(target, inside=how["inside"])
    if not how["defaults"]:
        if source is None:
            source = _ask("Where do messages come from?", making.SOURCES)
        if types is None:
            said = typer.prompt("Types of messages that have a sink of their own, or nothing", default="alert")
            types = [each.strip() for each in said.replace(",", " ").split()]
        if sink is None:
            sink = _ask("Where do messages go in the end?", making.SINKS)
    if name is None:
        name = re.sub(r"[^a-z0-9]+", "-", target.name.lower()).strip("-").lstrip("0123456789-") or "pipeline"
    source, sink = source or making.SOURCES[0], sink or making.SINKS[0]
    types = ["alert"] if types is None else types

    def told(daemon: str) -> None:
        print(f"  {daemon}", flush=True)

    making.make(target, name, answers, source=source, sink=sink, types=types, told=told, **how)


def _ask(question: str, kinds: tuple[str, ...]) -> str:
    while True:
        answer: str = typer.prompt(f"{question} {', '.join(kinds)}", default=kinds[0])
        if answer in kinds:
            return answer
        print(f"{answer!r} is none of these.")


@add.command()
def component(
    name: Annotated[str, typer.Argument(help="Its name, such as strip-tags.", show_default=False)],
    kind: Kind = None,
    messages: Messages = None,
    description: Description = None,
    daemon: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which daemon to add it to, if the project has several.")
    ] = None,
    project: Project = Path(),
    data: Data = None,
    vcs_ref: Version = None,
) -> None:
    """Add a component to a daemon of the project: a module and its test.

    No file is changed. It updates by itself: copier update -a .copier-answers.NAME.yml, as does piperctl upgrade.
    """
    answers = _answers(data, kind=kind, messages=messages, description=description)
    adding = _load_add()
    added: Added = adding.component(project, name, answers, daemon=daemon, version=vcs_ref)
    _tell(added.files)
    _tell_needs(added.needs)
    print(f"""
Left to do: have the daemon use it, in src/{added.package}/daemon.py, after the components that come before it:

    from {added.package}.{added.module} import {added.class_name}

    components=[..., {added.class_name}()],

The first component that returns an outcome has the last word; one that returns None leaves the message to the next.
Where it has keys, `{added.daemon} --action config-template` prints the lines for etc/{added.daemon}.conf.""")


@add.command()
def daemon(
    name: Annotated[str, typer.Argument(help="Its name, such as mail-sink.", show_default=False)],
    kind: Kind = None,
    messages: Messages = None,
    description: Description = None,
    after: Annotated[
        str | None, typer.Option(metavar="DAEMON", help="Put it into the chain of pipeline.toml, after that one.")
    ] = None,
    project: Project = Path(),
    data: Data = None,
    vcs_ref: Version = None,
) -> None:
    """Add a daemon to the project: a package, its tests, its configuration, and its command.

    No file is changed but pyproject.toml, which gets a line for the command, and with --after pipeline.toml. It updates
    by itself: copier update -a .copier-answers.NAME.yml, as does piperctl upgrade.
    """
    answers = _answers(data, kind=kind, messages=messages, description=description)
    adding = _load_add()
    members = _members(project)
    known = members or adding.daemons(answers_files.load(project))
    if after is not None and after not in known:
        raise UsageError(
            f"--after {after}: the project has no such daemon{nearest(after, known)}; it has: {', '.join(known)}"
        )
    if after is None and _can_ask():
        after = (
            typer.prompt(f"After which daemon does it stand ({', '.join(known)}), if it is in a chain", default="")
            or None
        )
        if after is not None and after not in known:
            raise UsageError(f"the project has no daemon {after}{nearest(after, known)}; it has: {', '.join(known)}")
    added: Added = adding.daemon(project, name, answers, version=vcs_ref)
    _tell(added.files)
    if added.script is None:
        print("  pyproject.toml   one line added, for its command")
    else:
        print(f"\nLeft to do: its command, in pyproject.toml:\n\n    [project.scripts]\n    {added.script}")
    if after is not None:
        from piperkit.pipeline import making

        for line in making.insert(project, name, after):
            print(f"  {FILE}    {line}")
    _tell_needs(added.needs)
    print(f"\n    make test\n    make run DAEMON={name}")
    if after is None and members:
        print(f"\nIt is in no chain yet: add it to {FILE}.")
    elif after is None:
        print(f'\nTo pass messages on to it, set "queue_out_dir": "{name}" in another daemon\'s configuration.')
    else:
        print("    .venv/bin/piperctl pipeline check")


def _members(project: Path) -> list[str]:
    """The daemons of the project's pipeline; none where it has none. Raises ConfigError."""
    try:
        return [member.name for member in load_pipeline(project / FILE).members]
    except NoPipeline:
        return []


def _load_add() -> Any:
    from piperkit.project.answers import load_copier

    load_copier()
    from piperkit.project import add as adding  # copier comes with it

    return adding


def _can_ask() -> bool:
    import sys

    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty()


def _answers(data: list[str] | None, **given: str | None) -> dict[str, str]:
    """All answers of the command line. What is said twice, with two values, is a mistake."""
    answers = {key: value for key, value in given.items() if value is not None}
    for text in data or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"--data {text!r}: it must be KEY=VALUE")
        if answers.get(key, value) != value:
            raise typer.BadParameter(f"{key} is given twice: {answers[key]!r} and {value!r}")
        answers[key] = value
    return answers


def _address(template: str) -> str:
    """A path is named from the root, so that an update finds it from everywhere."""
    return str(Path(template).resolve()) if Path(template).is_dir() else template


def _tell_needs(requirement: str) -> None:
    if requirement:
        print(f'\nLeft to do: what it imports, among the dependencies in pyproject.toml:\n\n    "{requirement}",')


def _tell(files: list[str]) -> None:
    print("Added:\n")
    for file in files:
        print(f"  {file}")
